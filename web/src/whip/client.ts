// The shell around the publishing machine: real peer connections, HTTP and timers. One `WhipClient` is one
// broadcaster on one channel; it keeps publishing, through lost networks and restarted servers, until stopped.

import { parseRetryAfter } from "../lib/backoff";
import { messageOf, type ProblemDetails, parseProblem } from "../lib/problem";
import { type Failure, type Input, PublishMachine, type Snapshot } from "./machine";
import {
  type AudioWishes,
  accepts,
  announceAudio,
  applyFragment,
  audioPreferences,
  configureEncoders,
  restartFragment,
  type VideoWishes,
  videoPreferences,
} from "./sdp";

/** Waiting longer for candidates only delays the start: the server is reachable or it is not. */
const GATHER_MS = 1_000;

/** How long a session may outlive its end while the DELETE is on its way. */
const CLOSE_MS = 1_000;

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

/** What the client needs from the browser; a test hands in its own. */
export interface Environment {
  readonly fetch: typeof fetch;
  readonly createConnection: (configuration: RTCConfiguration) => RTCPeerConnection;
  readonly senderCodecs: (kind: "audio" | "video") => readonly RTCRtpCodec[];
  readonly nowMs: () => number;
  readonly setTimer: (callback: () => void, ms: number) => number;
  readonly clearTimer: (id: number) => void;
  readonly random: () => number;
}

export function browserEnvironment(): Environment {
  return {
    fetch: (input, init) => fetch(input, init),
    createConnection: (configuration) => new RTCPeerConnection(configuration),
    senderCodecs: (kind) => RTCRtpSender.getCapabilities(kind)?.codecs ?? [],
    nowMs: () => performance.now(),
    setTimer: (callback, ms) => window.setTimeout(callback, ms),
    clearTimer: (id) => window.clearTimeout(id),
    random: Math.random,
  };
}

/** One WHIP resource and its peer connection. */
interface Session {
  readonly id: number;
  readonly connection: RTCPeerConnection;
  readonly abort: AbortController;
  video?: RTCRtpSender;
  audio?: RTCRtpSender;
  /** The resource to PATCH and DELETE, once created. */
  location?: string;
  answer?: string;
  closed: boolean;
}

/** Refused for a reason of this browser, not of the server. */
class Impossible extends Error {}

class Refused extends Error {
  readonly status: number | undefined;
  readonly retryAfterMs: number | undefined;
  constructor(message: string, status?: number, retryAfterMs?: number) {
    super(message);
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

export class WhipClient {
  readonly #machine: PublishMachine;
  readonly #environment: Environment;
  readonly #onChange: (snapshot: Snapshot) => void;
  #options: WhipOptions;
  #session: Session | undefined;
  #timer: number | undefined;

  constructor(
    options: WhipOptions,
    onChange: (snapshot: Snapshot) => void,
    environment: Environment = browserEnvironment(),
  ) {
    this.#options = options;
    this.#onChange = onChange;
    this.#environment = environment;
    this.#machine = new PublishMachine(environment.random);
  }

  get snapshot(): Snapshot {
    return this.#machine.snapshot;
  }

  /** The current peer connection, for statistics. */
  get connection(): RTCPeerConnection | undefined {
    return this.#session?.connection;
  }

  start(): void {
    this.#input({ type: "start" });
  }

  stop(): void {
    this.#input({ type: "stop" });
  }

  /** Tell the client that the network is back: a pending wait ends now. */
  online(): void {
    this.#input({ type: "online" });
  }

  /** How many packets have come from the server over `connection`: its silence is noticed by this. */
  received(connection: RTCPeerConnection, packets: number): void {
    const session = this.#session;
    if (session?.connection !== connection) return;
    this.#input({ type: "received", session: session.id, packets });
  }

  /** Swaps what is sent, without renegotiation; used when a device is changed or unplugged. */
  async replaceTrack(kind: "audio" | "video", track: MediaStreamTrack | undefined): Promise<void> {
    this.#options = { ...this.#options, [kind]: track };
    await this.#session?.[kind]?.replaceTrack(track ?? null);
  }

  /** Applies new bitrate and frame rate limits to the running encoder. */
  async configure(encoder: EncoderSettings): Promise<void> {
    this.#options = { ...this.#options, encoder };
    if (this.#session) await limitVideo(this.#session, encoder);
  }

  /** For `pagehide`: ends the session with a request that outlives the page. */
  abandon(): void {
    this.stop();
  }

  #input(input: Input): void {
    this.#machine.handle(this.#environment.nowMs(), input);
    this.#drain();
  }

  #drain(): void {
    for (let output = this.#machine.pollOutput(); output; output = this.#machine.pollOutput()) {
      if (output.type === "open") void this.#open(output.session);
      if (output.type === "restart") void this.#restart(output.session);
      if (output.type === "close") this.#close();
    }
    this.#schedule();
    this.#onChange(this.#machine.snapshot);
  }

  #schedule(): void {
    if (this.#timer !== undefined) this.#environment.clearTimer(this.#timer);
    this.#timer = undefined;
    const at = this.#machine.pollTimeout();
    if (at === undefined) return;
    const delay = Math.max(0, at - this.#environment.nowMs());
    this.#timer = this.#environment.setTimer(() => {
      this.#timer = undefined;
      this.#machine.handleTimeout(this.#environment.nowMs());
      this.#drain();
    }, delay);
  }

  async #open(id: number): Promise<void> {
    const session: Session = {
      id,
      connection: this.#environment.createConnection({ bundlePolicy: "max-bundle" }),
      abort: new AbortController(),
      closed: false,
    };
    this.#session = session;
    try {
      await this.#negotiate(session);
      this.#input({ type: "opened", session: id });
      // The transport may have connected while the answer was still being applied.
      if (session.connection.connectionState === "connected") {
        this.#input({ type: "transport", session: id, state: "connected" });
      }
    } catch (error) {
      if (!session.closed) this.#input(asInput(id, error));
    }
  }

  async #negotiate(session: Session): Promise<void> {
    const { connection } = session;
    this.#addTracks(session);
    connection.addEventListener("connectionstatechange", () => {
      const state = connection.connectionState;
      if (state === "connected" || state === "disconnected" || state === "failed") {
        this.#input({ type: "transport", session: session.id, state });
      }
    });
    await connection.setLocalDescription(await connection.createOffer());
    await this.#gathered(connection);
    const { encoder } = this.#options;
    const offer = announceAudio(connection.localDescription?.sdp ?? "", encoder.audio);
    const answer = await this.#post(session, offer);
    if (session.closed) return;
    if (!accepts(answer, "audio") && !accepts(answer, "video")) {
      throw new Impossible("The server accepted neither picture nor sound from this browser.");
    }
    const start: VideoWishes = { startKbps: Math.round((encoder.maxVideoBitrate * 0.7) / 1000) };
    session.answer = configureEncoders(answer, encoder.audio, start);
    await connection.setRemoteDescription({ type: "answer", sdp: session.answer });
    await limitVideo(session, encoder);
  }

  /** Both kinds are always offered, so that a device that is plugged in later needs no new session. */
  #addTracks(session: Session): void {
    const { video, audio } = this.#options;
    const videoCodecs = videoPreferences(this.#environment.senderCodecs("video"));
    if (videoCodecs.length === 0) {
      throw new Impossible("This browser cannot encode H.264, which the channel needs.");
    }
    const add = (kind: "audio" | "video", track: MediaStreamTrack | undefined) =>
      session.connection.addTransceiver(track ?? kind, { direction: "sendonly" });
    const picture = add("video", video);
    picture.setCodecPreferences?.([...videoCodecs]);
    session.video = picture.sender;
    const audioCodecs = audioPreferences(this.#environment.senderCodecs("audio"));
    const sound = add("audio", audio);
    if (audioCodecs.length > 0) sound.setCodecPreferences?.([...audioCodecs]);
    session.audio = sound.sender;
  }

  #gathered(connection: RTCPeerConnection): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#environment.setTimer(resolve, GATHER_MS);
      const look = () => {
        if (connection.iceGatheringState !== "complete") return;
        this.#environment.clearTimer(timer);
        resolve();
      };
      connection.addEventListener("icegatheringstatechange", look);
      look();
    });
  }

  async #post(session: Session, offer: string): Promise<string> {
    const send = (url: string) =>
      this.#environment
        .fetch(url, {
          method: "POST",
          headers: this.#headers({ "Content-Type": "application/sdp" }),
          body: offer,
          signal: session.abort.signal,
        })
        .catch(() => {
          throw new Refused("The server cannot be reached.");
        });
    let response = await send(this.#options.url);
    // Another node owns the channel. Browsers drop the Authorization header on a redirect to another origin,
    // so the owner is asked again directly.
    if (response.redirected && (response.status === 401 || response.status === 403)) {
      response = await send(response.url);
    }
    const body = await response.text();
    if (!response.ok) {
      const problem = parseProblem(body, response.headers.get("Content-Type"), response.status);
      const retryAfter = parseRetryAfter(response.headers.get("Retry-After"), Date.now());
      throw new Refused(explain(response.status, problem), response.status, retryAfter);
    }
    const location = response.headers.get("Location");
    if (location) {
      session.location = new URL(location, response.url || this.#options.url).href;
      // Stopped while the request was on its way: nobody else will delete the resource.
      if (session.closed) void this.#delete(session.location);
    }
    return body;
  }

  async #restart(id: number): Promise<void> {
    const session = this.#session;
    if (!session || session.id !== id) return;
    let ok = false;
    try {
      ok = await this.#patch(session);
    } catch {
      ok = false;
    }
    this.#input({ type: "restarted", session: id, ok });
  }

  async #patch(session: Session): Promise<boolean> {
    const { connection, location, answer } = session;
    if (!location || !answer) return false;
    await connection.setLocalDescription(await connection.createOffer({ iceRestart: true }));
    await this.#gathered(connection);
    const fragment = restartFragment(connection.localDescription?.sdp ?? "");
    if (!fragment) return false;
    const response = await this.#environment.fetch(location, {
      method: "PATCH",
      headers: this.#headers({
        "Content-Type": "application/trickle-ice-sdpfrag",
        // RFC 9725 section 4.3.3: a restart replaces whichever ICE session there is.
        "If-Match": "*",
      }),
      body: fragment,
      signal: session.abort.signal,
    });
    if (response.status !== 200) return false;
    const restarted = applyFragment(answer, await response.text());
    if (!restarted) return false;
    await connection.setRemoteDescription({ type: "answer", sdp: restarted });
    session.answer = restarted;
    return true;
  }

  #close(): void {
    const session = this.#session;
    this.#session = undefined;
    if (!session || session.closed) return;
    session.closed = true;
    // An unanswered POST is left to finish: only its Location tells what to delete.
    if (!session.location) {
      session.connection.close();
      return;
    }
    session.abort.abort();
    // Closing first would end the session by DTLS, and the DELETE would find nothing.
    const close = () => {
      this.#environment.clearTimer(timer);
      session.connection.close();
    };
    const timer = this.#environment.setTimer(close, CLOSE_MS);
    void this.#delete(session.location).then(close);
  }

  #delete(location: string): Promise<unknown> {
    return this.#environment
      .fetch(location, { method: "DELETE", headers: this.#headers({}), keepalive: true })
      .catch(() => {
        // The server forgets a session that stops sending by itself.
      });
  }

  #headers(headers: Record<string, string>): Record<string, string> {
    const token = this.#options.token();
    return token ? { ...headers, Authorization: `Bearer ${token}` } : headers;
  }
}

async function limitVideo(session: Session, encoder: EncoderSettings): Promise<void> {
  const sender = session.video;
  if (!sender) return;
  const parameters = sender.getParameters();
  // Not in every browser's type or implementation, and harmless where unknown.
  Object.assign(parameters, { degradationPreference: encoder.degradation });
  for (const encoding of parameters.encodings) {
    encoding.maxBitrate = encoder.maxVideoBitrate;
    encoding.maxFramerate = encoder.maxFramerate;
  }
  await sender.setParameters(parameters).catch(() => {
    // Limits are a wish: the session itself is fine without them.
  });
}

function asInput(session: number, error: unknown): Input {
  if (error instanceof Impossible) {
    return { type: "impossible", session, failure: { message: error.message } };
  }
  if (error instanceof Refused) {
    const failure: Failure =
      error.status === undefined
        ? { message: error.message }
        : { message: error.message, status: error.status };
    return error.retryAfterMs === undefined
      ? { type: "refused", session, failure }
      : { type: "refused", session, failure, retryAfterMs: error.retryAfterMs };
  }
  return { type: "impossible", session, failure: { message: messageOf(error) } };
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
