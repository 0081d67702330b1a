// A media session with the server as a state machine without I/O: no clock, no timer, no connection. The shell
// (session.ts) tells it what happened and does what it asks; a test drives it with numbers. Publishing (WHIP) and playing
// (WHEP) differ in their policy only.
//
// Invariants: at most one session is open at a time, every session that was opened is closed exactly once, and
// an input that belongs to an earlier session changes nothing.

import { Backoff } from "../lib/backoff";

/** How long to wait for what, in milliseconds. */
export const LIMITS = {
  /** Offer, POST and answer together. */
  openMs: 12_000,
  /** From the answer to the attempt by a TURN server, where there is one: media that needs none should not take that way. */
  directMs: 2_500,
  /** From the answer, or from that attempt, to a connected transport. */
  connectMs: 10_000,
  /** A "disconnected" transport often heals itself on the next connectivity check. */
  patienceMs: 1_500,
  /**
   * A server that sends nothing at all for this long is gone, whatever ICE still believes: reports on what it receives
   * come every second or so.
   */
  silentMs: 4_000,
  /** After that an ICE restart may take this long before the session is replaced. */
  restartMs: 5_000,
  /** A session that lived this long starts the backoff from the beginning. */
  stableMs: 10_000,
} as const;

export type Phase =
  | "idle"
  | "opening"
  | "connecting"
  | "live"
  | "recovering"
  | "waiting"
  | "failed";

export interface Failure {
  /** HTTP status; undefined when there was no answer. */
  readonly status?: number;
  readonly message: string;
}

export type Input =
  | { readonly type: "start" }
  | { readonly type: "stop" }
  /** The answer is applied. It named TURN servers that were not known when the offer was made. */
  | { readonly type: "opened"; readonly session: number; readonly relays?: boolean }
  /** The server said no, or the network said nothing (no status). */
  | {
      readonly type: "refused";
      readonly session: number;
      readonly failure: Failure;
      readonly retryAfterMs?: number;
    }
  /** This browser cannot do it; asking again would not help. */
  | { readonly type: "impossible"; readonly session: number; readonly failure: Failure }
  | {
      readonly type: "transport";
      readonly session: number;
      readonly state: "connected" | "disconnected" | "failed" | "closed";
    }
  /** How many packets have come from the server so far; sampled about once a second. */
  | { readonly type: "received"; readonly session: number; readonly packets: number }
  /** The end of an ICE restart by PATCH. */
  | { readonly type: "restarted"; readonly session: number; readonly ok: boolean }
  /** The device is online again. */
  | { readonly type: "online" };

export type Output =
  | { readonly type: "open"; readonly session: number }
  | { readonly type: "restart"; readonly session: number }
  | { readonly type: "close"; readonly session: number };

export interface Snapshot {
  readonly phase: Phase;
  /** Sessions tried since the last stable one, the current one included. */
  readonly attempt: number;
  readonly failure: Failure | undefined;
  /** When the current wait ends, on the clock of the inputs. */
  readonly retryAtMs: number | undefined;
  /** When the transport was first connected, for the time on air; survives reconnects. */
  readonly liveSinceMs: number | undefined;
}

/** What publishing and playing disagree about. */
export interface Policy {
  /** Refusals that the same request would meet again. */
  readonly final: ReadonlySet<number>;
  /** How many times in a row one who was live may meet a 409 before giving up; one who was not gives up at once. */
  readonly conflicts: number;
  /** The longest pause between attempts. */
  readonly maxPauseMs: number;
}

/** A host may find its own place taken for a moment after a reconnect. */
export const PUBLISH: Policy = {
  final: new Set([400, 401, 403, 404, 405, 413, 415, 422]),
  conflicts: 4,
  maxPauseMs: 8_000,
};

/** Whoever is to be seen may come later, or come back: "not found" is no reason to stop looking. */
export const PLAY: Policy = {
  final: new Set([400, 401, 403, 405, 413, 415, 422, 501]),
  conflicts: 4,
  maxPauseMs: 4_000,
};

export class SessionMachine {
  #phase: Phase = "idle";
  #session = 0;
  #deadlineMs: number | undefined;
  #failure: Failure | undefined;
  #liveSinceMs: number | undefined;
  #connectedAtMs: number | undefined;
  #conflicts = 0;
  #restarting = false;
  /** New TURN servers are to be tried by an ICE restart if there is no other way. */
  #mayRelay = false;
  #received: { readonly packets: number; readonly atMs: number } | undefined;
  readonly #outputs: Output[] = [];
  readonly #backoff: Backoff;
  readonly #policy: Policy;

  constructor(random: () => number = Math.random, policy: Policy = PUBLISH) {
    this.#policy = policy;
    this.#backoff = new Backoff({ firstMs: 500, maxMs: policy.maxPauseMs }, random);
  }

  get snapshot(): Snapshot {
    return {
      phase: this.#phase,
      attempt: this.#backoff.attempt + (this.#phase === "waiting" ? 0 : 1),
      failure: this.#failure,
      retryAtMs: this.#phase === "waiting" ? this.#deadlineMs : undefined,
      liveSinceMs: this.#liveSinceMs,
    };
  }

  pollOutput(): Output | undefined {
    return this.#outputs.shift();
  }

  pollTimeout(): number | undefined {
    return this.#deadlineMs;
  }

  handle(nowMs: number, input: Input): void {
    if ("session" in input && input.session !== this.#session) return;
    switch (input.type) {
      case "start":
        if (this.#phase === "idle" || this.#phase === "failed") this.#begin(nowMs);
        return;
      case "stop":
        this.#stop();
        return;
      case "opened":
        if (this.#phase !== "opening") return;
        this.#mayRelay = input.relays ?? false;
        this.#enter("connecting", nowMs + (this.#mayRelay ? LIMITS.directMs : LIMITS.connectMs));
        return;
      case "refused":
        this.#refused(nowMs, input.failure, input.retryAfterMs);
        return;
      case "impossible":
        this.#fail(input.failure);
        return;
      case "transport":
        this.#transport(nowMs, input.state);
        return;
      case "received":
        this.#count(nowMs, input.packets);
        return;
      case "restarted":
        // Success is seen as a connected transport; only the failure needs an answer here.
        if (!input.ok && this.#phase === "recovering") this.#replace(nowMs, lost());
        return;
      case "online":
        if (this.#phase === "waiting") this.#open(nowMs);
        return;
    }
  }

  handleTimeout(nowMs: number): void {
    if (this.#deadlineMs === undefined || nowMs < this.#deadlineMs) return;
    switch (this.#phase) {
      case "opening":
        this.#replace(nowMs, { message: "The server did not answer in time." });
        return;
      case "connecting":
        if (this.#mayRelay) {
          this.#relay(nowMs);
          return;
        }
        this.#replace(nowMs, {
          message:
            "The server answered, but no media connection came about. A firewall may block its WebRTC port.",
        });
        return;
      case "recovering":
        if (this.#restarting) {
          this.#replace(nowMs, lost());
          return;
        }
        this.#restarting = true;
        this.#deadlineMs = nowMs + LIMITS.restartMs;
        this.#outputs.push({ type: "restart", session: this.#session });
        return;
      case "waiting":
        this.#open(nowMs);
        return;
      case "idle":
      case "live":
      case "failed":
        this.#deadlineMs = undefined;
        return;
    }
  }

  #enter(phase: Phase, deadlineMs?: number): void {
    this.#phase = phase;
    this.#deadlineMs = deadlineMs;
  }

  #begin(nowMs: number): void {
    this.#backoff.reset();
    this.#conflicts = 0;
    this.#liveSinceMs = undefined;
    this.#open(nowMs);
  }

  #open(nowMs: number): void {
    this.#session += 1;
    this.#restarting = false;
    this.#connectedAtMs = undefined;
    this.#received = undefined;
    this.#enter("opening", nowMs + LIMITS.openMs);
    this.#outputs.push({ type: "open", session: this.#session });
  }

  #stop(): void {
    this.#closeSession();
    this.#failure = undefined;
    this.#liveSinceMs = undefined;
    this.#enter("idle");
  }

  #fail(failure: Failure): void {
    this.#closeSession();
    this.#failure = failure;
    this.#liveSinceMs = undefined;
    this.#enter("failed");
  }

  #closeSession(): void {
    const open = ["opening", "connecting", "live", "recovering"].includes(this.#phase);
    if (!open) return;
    this.#outputs.push({ type: "close", session: this.#session });
    // Whatever the closed session still reports is history.
    this.#session += 1;
  }

  /** Gives the session up and comes back after a pause. */
  #replace(nowMs: number, failure: Failure, retryAfterMs = 0): void {
    const livedMs = this.#connectedAtMs === undefined ? 0 : nowMs - this.#connectedAtMs;
    if (livedMs >= LIMITS.stableMs) this.#backoff.reset();
    this.#closeSession();
    this.#failure = failure;
    this.#enter("waiting", nowMs + this.#backoff.next(retryAfterMs));
  }

  #refused(nowMs: number, failure: Failure, retryAfterMs: number | undefined): void {
    if (this.#phase !== "opening") return;
    const { status } = failure;
    if (status !== undefined && this.#policy.final.has(status)) {
      this.#fail(failure);
      return;
    }
    if (status === 409) {
      this.#conflicts += 1;
      const wasLive = this.#liveSinceMs !== undefined;
      if (!wasLive || this.#conflicts > this.#policy.conflicts) {
        this.#fail(failure);
        return;
      }
    }
    this.#replace(nowMs, failure, retryAfterMs);
  }

  #count(nowMs: number, packets: number): void {
    if (packets > (this.#received?.packets ?? 0)) {
      this.#received = { packets, atMs: nowMs };
      if (this.#phase === "recovering") this.#transport(nowMs, "connected");
      return;
    }
    // Before the first packet there is nothing to miss.
    const silentForMs = this.#received === undefined ? 0 : nowMs - this.#received.atMs;
    if (this.#phase !== "live" || silentForMs < LIMITS.silentMs) return;
    this.#failure = lost();
    this.#enter("recovering", nowMs);
  }

  #transport(nowMs: number, state: "connected" | "disconnected" | "failed" | "closed"): void {
    const active = ["connecting", "live", "recovering"].includes(this.#phase);
    if (!active) return;
    if (state === "connected") {
      this.#restarting = false;
      this.#failure = undefined;
      this.#conflicts = 0;
      this.#connectedAtMs ??= nowMs;
      this.#liveSinceMs ??= nowMs;
      this.#enter("live");
      return;
    }
    if (state === "disconnected") {
      if (this.#phase !== "live") return;
      this.#failure = lost();
      this.#enter("recovering", nowMs + LIMITS.patienceMs);
      return;
    }
    if (this.#phase === "connecting" && this.#mayRelay) {
      this.#relay(nowMs);
      return;
    }
    this.#replace(nowMs, lost());
  }

  /** A browser asks a TURN server that it learns of late when ICE is restarted (RFC 8829 section 4.1.18). */
  #relay(nowMs: number): void {
    this.#mayRelay = false;
    this.#enter("connecting", nowMs + LIMITS.connectMs);
    this.#outputs.push({ type: "restart", session: this.#session });
  }
}

function lost(): Failure {
  return { message: "The connection to the server was lost." };
}
