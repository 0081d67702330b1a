// Playing by WHEP. One `WhepClient` shows one participant, or the program, in real time; it goes on looking while they are
// not there, and follows them through reconnects, until stopped.

import type { ProblemDetails } from "../lib/problem";
import { PLAY, type Snapshot } from "./machine";
import { accepts, audioPreferences, videoPreferences, wishForStereo } from "./sdp";
import {
  browserEnvironment,
  type Environment,
  Impossible,
  type Media,
  SessionClient,
} from "./session";

export interface WhepOptions {
  /** Absolute URL of the participant or the program. */
  readonly url: string;
  readonly token: () => string | undefined;
  /** Called with what comes, anew for every connection. The one before may go on being shown until then. */
  readonly onStream: (stream: MediaStream) => void;
}

class Incoming implements Media {
  readonly #onStream: (stream: MediaStream) => void;
  readonly #environment: Environment;

  constructor(onStream: (stream: MediaStream) => void, environment: Environment) {
    this.#onStream = onStream;
    this.#environment = environment;
  }

  prepare(connection: RTCPeerConnection): void {
    const video = videoPreferences(this.#environment.receiverCodecs("video"));
    if (video.length === 0) throw new Impossible("This browser cannot decode H.264.");
    const audio = audioPreferences(this.#environment.receiverCodecs("audio"));
    // One stream however the server groups the tracks: an element that shows it takes a late track by itself.
    let stream: MediaStream | undefined;
    connection.addEventListener("track", ({ track }) => {
      if (stream) return stream.addTrack(track);
      stream = new MediaStream([track]);
      this.#onStream(stream);
    });
    const add = (kind: "audio" | "video") =>
      connection.addTransceiver(kind, { direction: "recvonly" });
    add("video").setCodecPreferences?.([...video]);
    const sound = add("audio");
    if (audio.length > 0) sound.setCodecPreferences?.([...audio]);
  }

  /** Browsers decode one channel unless their own description wishes for two (RFC 7587 section 6.1). */
  local(sdp: string): string {
    return wishForStereo(sdp);
  }

  offer(sdp: string): string {
    return sdp;
  }

  answer(sdp: string): string {
    if (!accepts(sdp, "audio") && !accepts(sdp, "video")) {
      throw new Impossible("The server offers neither picture nor sound that this browser knows.");
    }
    return sdp;
  }

  async applied(): Promise<void> {}

  explain(status: number, problem: ProblemDetails): string {
    return explainPlay(status, problem);
  }
}

export class WhepClient {
  readonly #session: SessionClient;

  constructor(
    options: WhepOptions,
    onChange: (snapshot: Snapshot) => void,
    environment: Environment = browserEnvironment(),
  ) {
    const incoming = new Incoming(options.onStream, environment);
    const session = { url: options.url, token: options.token, policy: PLAY };
    this.#session = new SessionClient(session, incoming, onChange, environment);
  }

  get snapshot(): Snapshot {
    return this.#session.snapshot;
  }

  /** The current peer connection, for statistics and levels. */
  get connection(): RTCPeerConnection | undefined {
    return this.#session.connection;
  }

  start(): void {
    this.#session.start();
  }

  stop(): void {
    this.#session.stop();
  }

  /** Look again now: the participant has come, or the network is back. */
  again(): void {
    this.#session.online();
  }
}

/** What the refusal means for who wants to see a participant. */
export function explainPlay(status: number, problem: ProblemDetails): string {
  const advice: Record<number, string> = {
    401: "Seeing the others needs a token.",
    403: "Your token does not allow seeing the others.",
    404: "Not here yet.",
    422: "This browser cannot show what the participant sends.",
    429: "Too many attempts from this address.",
    501: "This server does not show participants to each other.",
    503: "The server has no room for another picture.",
  };
  return advice[status] ?? problem.detail ?? problem.title ?? `The server answered ${status}.`;
}

/** Of a participant, or of the program. */
export function whepUrl(base: string, channel: string, participant?: string): string {
  const names = participant === undefined ? [channel] : [channel, participant];
  return new URL(`/whep/${names.map(encodeURIComponent).join("/")}`, base).href;
}
