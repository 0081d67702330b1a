// The shell around the session machine: real peer connections, HTTP and timers. It knows how a session with the server is
// opened, restarted and ended (RFC 9725, which WHEP follows); what is sent or received is the business of its `Media`.

import { parseRetryAfter } from "../lib/backoff";
import { messageOf, type ProblemDetails, parseProblem } from "../lib/problem";
import { haveRelay, parseIceServers } from "./ice-servers";
import { type Failure, type Input, type Policy, SessionMachine, type Snapshot } from "./machine";
import { applyFragment, restartFragment } from "./sdp";

/** Waiting longer for candidates only delays the start: the server is reachable or it is not. */
const GATHER_MS = 1_000;

/** How long a session may outlive its end while the DELETE is on its way. */
const CLOSE_MS = 1_000;

/** What a session needs from the browser; a test hands in its own. */
export interface Environment {
  readonly fetch: typeof fetch;
  readonly createConnection: (configuration: RTCConfiguration) => RTCPeerConnection;
  readonly senderCodecs: (kind: "audio" | "video") => readonly RTCRtpCodec[];
  readonly receiverCodecs: (kind: "audio" | "video") => readonly RTCRtpCodec[];
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
    receiverCodecs: (kind) => RTCRtpReceiver.getCapabilities(kind)?.codecs ?? [],
    nowMs: () => performance.now(),
    setTimer: (callback, ms) => window.setTimeout(callback, ms),
    clearTimer: (id) => window.clearTimeout(id),
    random: Math.random,
  };
}

/** What is sent or received over the connections of a client. */
export interface Media {
  /** Adds transceivers to a fresh connection; throws `Impossible` when this browser cannot. */
  prepare(connection: RTCPeerConnection): void;
  /** The offer as this browser takes it for its own; as it made it when absent. */
  local?(sdp: string): string;
  /** The offer as it is posted. */
  offer(sdp: string): string;
  /** The answer as it is applied; throws `Impossible` when it is of no use. */
  answer(sdp: string): string;
  /** The answer is applied. */
  applied(connection: RTCPeerConnection): Promise<void>;
  /** What a refusal means for the person at the screen. */
  explain(status: number, problem: ProblemDetails): string;
}

/** One resource of the server and its peer connection. */
interface Session {
  readonly id: number;
  readonly connection: RTCPeerConnection;
  readonly abort: AbortController;
  /** The resource to PATCH and DELETE, once created. */
  location?: string;
  answer?: string;
  closed: boolean;
}

/** Refused for a reason of this browser, not of the server. */
export class Impossible extends Error {}

class Refused extends Error {
  readonly status: number | undefined;
  readonly retryAfterMs: number | undefined;
  constructor(message: string, status?: number, retryAfterMs?: number) {
    super(message);
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

export interface SessionOptions {
  /** Absolute URL to post offers to. */
  readonly url: string;
  readonly token: () => string | undefined;
  readonly policy: Policy;
}

export class SessionClient {
  readonly #machine: SessionMachine;
  readonly #environment: Environment;
  readonly #onChange: (snapshot: Snapshot) => void;
  readonly #options: SessionOptions;
  readonly #media: Media;
  #session: Session | undefined;
  #timer: number | undefined;
  /** As the newest answer named them: connections after the first know them from the start. */
  #iceServers: readonly RTCIceServer[] = [];

  constructor(
    options: SessionOptions,
    media: Media,
    onChange: (snapshot: Snapshot) => void,
    environment: Environment,
  ) {
    this.#options = options;
    this.#media = media;
    this.#onChange = onChange;
    this.#environment = environment;
    this.#machine = new SessionMachine(environment.random, options.policy);
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

  /** Ends the session with a request that outlives the page. */
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
      connection: this.#environment.createConnection({
        bundlePolicy: "max-bundle",
        iceServers: [...this.#iceServers],
      }),
      abort: new AbortController(),
      closed: false,
    };
    this.#session = session;
    try {
      const knew = haveRelay(this.#iceServers);
      await this.#negotiate(session);
      const relays = !knew && haveRelay(this.#iceServers);
      this.#input({ type: "opened", session: id, relays });
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
    this.#media.prepare(connection);
    connection.addEventListener("connectionstatechange", () => {
      const state = connection.connectionState;
      if (state === "connected" || state === "disconnected" || state === "failed") {
        this.#input({ type: "transport", session: session.id, state });
      }
    });
    await this.#describe(connection);
    const offer = this.#media.offer(connection.localDescription?.sdp ?? "");
    const answer = await this.#post(session, offer);
    if (session.closed) return;
    session.answer = this.#media.answer(answer);
    await connection.setRemoteDescription({ type: "answer", sdp: session.answer });
    await this.#media.applied(connection);
  }

  async #describe(connection: RTCPeerConnection, options?: RTCOfferOptions): Promise<void> {
    const { type, sdp = "" } = await connection.createOffer(options);
    await connection.setLocalDescription({ type, sdp: this.#media.local?.(sdp) ?? sdp });
    await this.#gathered(connection);
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
      const words = this.#media.explain(response.status, problem);
      throw new Refused(words, response.status, retryAfter);
    }
    this.#learn(session.connection, parseIceServers(response.headers.get("Link")));
    const location = response.headers.get("Location");
    if (location) {
      session.location = new URL(location, response.url || this.#options.url).href;
      // Stopped while the request was on its way: nobody else will delete the resource.
      if (session.closed) void this.#delete(session.location);
    }
    return body;
  }

  /** Later sessions begin with these servers; this one asks them when ICE is restarted. */
  #learn(connection: RTCPeerConnection, iceServers: RTCIceServer[]): void {
    this.#iceServers = iceServers;
    if (iceServers.length === 0) return;
    try {
      connection.setConfiguration({ ...connection.getConfiguration(), iceServers });
    } catch {
      // An address that this browser does not understand: whoever needs no server goes on without.
      this.#iceServers = [];
    }
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
    await this.#describe(connection, { iceRestart: true });
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
        // The server forgets a session that falls silent by itself.
      });
  }

  #headers(headers: Record<string, string>): Record<string, string> {
    const token = this.#options.token();
    return token ? { ...headers, Authorization: `Bearer ${token}` } : headers;
  }
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
