// What a viewer's page does when, without I/O: open the stream, wait for a host who is not there yet, notice that
// nothing comes any more, try again with patience. The shell is session.ts.

import { Backoff } from "../lib/backoff";

export const LIMITS = {
  /** Connected without data for this long means: nobody is on air yet. The connection stays. */
  quietMs: 3_000,
  /** Playing without any progress for this long means: this connection is dead. */
  deadMs: 20_000,
  /** A stream that played this long starts the backoff from the beginning. */
  stableMs: 10_000,
} as const;

export type Phase =
  | "off"
  /** Connecting, or connected and reading the first bytes. */
  | "opening"
  /** No host is on air; the page goes on asking. */
  | "waiting"
  | "playing"
  /** Lost; the next attempt is scheduled. */
  | "retrying"
  /** The server wants a token. */
  | "denied"
  /** This browser cannot play it. */
  | "unsupported";

export type Cause = "not_found" | "denied" | "network" | "media" | "unsupported" | "ended";

export type Input =
  | { readonly type: "open" }
  | { readonly type: "close" }
  /** Media arrived that can be played. */
  | { readonly type: "data"; readonly player: number }
  /** The picture runs. */
  | { readonly type: "progress"; readonly player: number }
  | {
      readonly type: "failed";
      readonly player: number;
      readonly cause: Cause;
      readonly message: string;
    };

export type Output =
  | { readonly type: "open"; readonly player: number }
  | { readonly type: "close"; readonly player: number };

export interface Snapshot {
  readonly phase: Phase;
  readonly message: string | undefined;
  /** Attempts in a row that did not lead to a picture. */
  readonly attempt: number;
  readonly retryAtMs: number | undefined;
  /** How often a picture that was running had to be opened anew. */
  readonly reconnects: number;
}

export class WatchMachine {
  #phase: Phase = "off";
  #player = 0;
  #playerOpen = false;
  #deadlineMs: number | undefined;
  #playingSinceMs: number | undefined;
  #message: string | undefined;
  #reconnects = 0;
  #played = false;
  readonly #outputs: Output[] = [];
  readonly #lost: Backoff;
  /** Asking for a show that has not begun costs the server little, and the viewer wants to see its first second. */
  readonly #early: Backoff;

  constructor(random: () => number = Math.random) {
    this.#lost = new Backoff({ firstMs: 400, maxMs: 8_000 }, random);
    this.#early = new Backoff({ firstMs: 800, maxMs: 2_500, factor: 1.3, jitter: 0.3 }, random);
  }

  get snapshot(): Snapshot {
    return {
      phase: this.#phase,
      message: this.#message,
      attempt: this.#lost.attempt,
      retryAtMs: this.#playerOpen ? undefined : this.#deadlineMs,
      reconnects: this.#reconnects,
    };
  }

  pollOutput(): Output | undefined {
    return this.#outputs.shift();
  }

  pollTimeout(): number | undefined {
    return this.#deadlineMs;
  }

  handle(nowMs: number, input: Input): void {
    switch (input.type) {
      case "open":
        this.#shut();
        this.#lost.reset();
        this.#early.reset();
        this.#open(nowMs, "opening");
        return;
      case "close":
        this.#shut();
        this.#phase = "off";
        this.#deadlineMs = undefined;
        this.#message = undefined;
        this.#played = false;
        return;
      case "data":
        if (!this.#current(input.player) || this.#phase === "playing") return;
        this.#phase = "opening";
        this.#deadlineMs = nowMs + LIMITS.deadMs;
        return;
      case "progress":
        if (this.#current(input.player)) this.#progress(nowMs);
        return;
      case "failed":
        if (this.#current(input.player)) this.#failed(nowMs, input.cause, input.message);
        return;
    }
  }

  handleTimeout(nowMs: number): void {
    if (this.#deadlineMs === undefined || nowMs < this.#deadlineMs) return;
    this.#deadlineMs = undefined;
    if (!this.#playerOpen) {
      this.#open(nowMs, this.#phase === "waiting" ? "waiting" : "opening");
      return;
    }
    if (this.#phase === "opening" && !this.#played && this.#playingSinceMs === undefined) {
      // Connected, and the server keeps the line open: the host will come on this very connection.
      this.#phase = "waiting";
      this.#message = undefined;
      return;
    }
    if (this.#phase === "playing" || this.#phase === "opening") {
      this.#retry(nowMs, "Nothing has arrived for a while.");
    }
  }

  #current(player: number): boolean {
    return this.#playerOpen && player === this.#player;
  }

  #open(nowMs: number, phase: "opening" | "waiting"): void {
    this.#player += 1;
    this.#playerOpen = true;
    this.#playingSinceMs = undefined;
    this.#phase = phase;
    this.#deadlineMs = nowMs + LIMITS.quietMs;
    this.#outputs.push({ type: "open", player: this.#player });
  }

  #shut(): void {
    if (!this.#playerOpen) return;
    this.#playerOpen = false;
    this.#outputs.push({ type: "close", player: this.#player });
  }

  #progress(nowMs: number): void {
    this.#phase = "playing";
    this.#message = undefined;
    this.#played = true;
    this.#playingSinceMs ??= nowMs;
    this.#deadlineMs = nowMs + LIMITS.deadMs;
    this.#early.reset();
    if (nowMs - this.#playingSinceMs >= LIMITS.stableMs) this.#lost.reset();
  }

  #failed(nowMs: number, cause: Cause, message: string): void {
    switch (cause) {
      case "denied":
      case "unsupported":
        this.#shut();
        this.#phase = cause;
        this.#message = message;
        this.#deadlineMs = undefined;
        return;
      case "not_found":
        this.#shut();
        this.#phase = "waiting";
        this.#message = this.#played ? "The show has ended, or the host is away." : undefined;
        this.#played = false;
        this.#deadlineMs = nowMs + this.#early.next();
        return;
      case "ended":
      case "network":
      case "media":
        this.#retry(nowMs, message);
        return;
    }
  }

  #retry(nowMs: number, message: string): void {
    if (this.#playingSinceMs !== undefined) this.#reconnects += 1;
    this.#shut();
    this.#phase = "retrying";
    this.#message = message;
    this.#deadlineMs = nowMs + this.#lost.next();
  }
}
