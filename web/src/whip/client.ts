// Publishing by WHIP. One `WhipClient` is one broadcaster on one channel; it keeps publishing, through lost networks and
// restarted servers, until stopped.

import type { ProblemDetails } from "../lib/problem";
import { PUBLISH, type Snapshot } from "./machine";
import {
  type AudioWishes,
  accepts,
  announceAudio,
  audioPreferences,
  configureEncoders,
  type VideoWishes,
  videoPreferences,
} from "./sdp";
import {
  browserEnvironment,
  type Environment,
  Impossible,
  type Media,
  SessionClient,
} from "./session";

export interface EncoderSettings {
  readonly maxVideoBitrate: number;
  readonly maxFramerate: number;
  readonly degradation: RTCDegradationPreference;
  readonly audio: AudioWishes;
}

export interface WhipOptions {
  /** Absolute URL with the participant and role in its query. */
  readonly url: string;
  readonly token: () => string | undefined;
  readonly video: MediaStreamTrack | undefined;
  readonly audio: MediaStreamTrack | undefined;
  readonly encoder: EncoderSettings;
}

/** What is sent: it outlives the connections that send it. */
class Outgoing implements Media {
  readonly #senders = new Map<"audio" | "video", RTCRtpSender>();
  readonly #tracks: Map<"audio" | "video", MediaStreamTrack | undefined>;
  readonly #environment: Environment;
  encoder: EncoderSettings;

  constructor(options: WhipOptions, environment: Environment) {
    this.#environment = environment;
    this.#tracks = new Map([
      ["video", options.video],
      ["audio", options.audio],
    ]);
    this.encoder = options.encoder;
  }

  /** Both kinds are always offered, so that a device that is plugged in later needs no new session. */
  prepare(connection: RTCPeerConnection): void {
    const videoCodecs = videoPreferences(this.#environment.senderCodecs("video"));
    if (videoCodecs.length === 0) {
      throw new Impossible("This browser cannot encode H.264, which the channel needs.");
    }
    const add = (kind: "audio" | "video") => {
      const transceiver = connection.addTransceiver(this.#tracks.get(kind) ?? kind, {
        direction: "sendonly",
      });
      this.#senders.set(kind, transceiver.sender);
      return transceiver;
    };
    add("video").setCodecPreferences?.([...videoCodecs]);
    const audioCodecs = audioPreferences(this.#environment.senderCodecs("audio"));
    const sound = add("audio");
    if (audioCodecs.length > 0) sound.setCodecPreferences?.([...audioCodecs]);
  }

  offer(sdp: string): string {
    return announceAudio(sdp, this.encoder.audio);
  }

  answer(sdp: string): string {
    if (!accepts(sdp, "audio") && !accepts(sdp, "video")) {
      throw new Impossible("The server accepted neither picture nor sound from this browser.");
    }
    const startKbps = Math.round((this.encoder.maxVideoBitrate * 0.7) / 1000);
    const start: VideoWishes = { startKbps };
    return configureEncoders(sdp, this.encoder.audio, start);
  }

  async applied(): Promise<void> {
    await this.limit();
  }

  explain(status: number, problem: ProblemDetails): string {
    return explain(status, problem);
  }

  async replace(kind: "audio" | "video", track: MediaStreamTrack | undefined): Promise<void> {
    this.#tracks.set(kind, track);
    await this.#senders.get(kind)?.replaceTrack(track ?? null);
  }

  /** Limits are a wish: the session itself is fine without them. */
  async limit(): Promise<void> {
    const sender = this.#senders.get("video");
    if (!sender) return;
    const parameters = sender.getParameters();
    // Not in every browser's type or implementation, and harmless where unknown.
    Object.assign(parameters, { degradationPreference: this.encoder.degradation });
    for (const encoding of parameters.encodings) {
      encoding.maxBitrate = this.encoder.maxVideoBitrate;
      encoding.maxFramerate = this.encoder.maxFramerate;
    }
    await sender.setParameters(parameters).catch(() => undefined);
  }
}

export class WhipClient {
  readonly #session: SessionClient;
  readonly #outgoing: Outgoing;

  constructor(
    options: WhipOptions,
    onChange: (snapshot: Snapshot) => void,
    environment: Environment = browserEnvironment(),
  ) {
    this.#outgoing = new Outgoing(options, environment);
    const session = { url: options.url, token: options.token, policy: PUBLISH };
    this.#session = new SessionClient(session, this.#outgoing, onChange, environment);
  }

  get snapshot(): Snapshot {
    return this.#session.snapshot;
  }

  /** The current peer connection, for statistics. */
  get connection(): RTCPeerConnection | undefined {
    return this.#session.connection;
  }

  start(): void {
    this.#session.start();
  }

  /** Also for `pagehide`: the request that ends the session outlives the page. */
  stop(): void {
    this.#session.stop();
  }

  /** Tell the client that the network is back: a pending wait ends now. */
  online(): void {
    this.#session.online();
  }

  /** How many packets have come from the server over `connection`: its silence is noticed by this. */
  received(connection: RTCPeerConnection, packets: number): void {
    this.#session.received(connection, packets);
  }

  /** Swaps what is sent, without renegotiation; used when a device is changed or unplugged. */
  async replaceTrack(kind: "audio" | "video", track: MediaStreamTrack | undefined): Promise<void> {
    await this.#outgoing.replace(kind, track);
  }

  /** Applies new bitrate and frame rate limits to the running encoder. */
  async configure(encoder: EncoderSettings): Promise<void> {
    this.#outgoing.encoder = encoder;
    if (this.#session.connection) await this.#outgoing.limit();
  }
}

/** What the refusal means for the person at the camera. */
export function explain(status: number, problem: ProblemDetails): string {
  const reason = problem.detail ?? problem.title;
  const advice: Record<number, string> = {
    401: "This server needs a token with the publish scope.",
    403: "Your token does not allow publishing on this channel.",
    404: "There is no channel of this name yet.",
    409: "Somebody else is already live as the host of this channel. Join as a guest, or ask them to stop.",
    415: "The server did not understand the offer of this browser.",
    422: "The server found no H.264 picture or Opus sound in the offer of this browser.",
    429: "Too many attempts from this address.",
    503: "The server cannot take a broadcaster at the moment.",
  };
  const known = advice[status];
  const clear = status === 401 || status === 404 || status === 409;
  if (known && reason && !clear) return `${known} (${reason})`;
  return known ?? reason ?? `The server answered ${status}.`;
}
