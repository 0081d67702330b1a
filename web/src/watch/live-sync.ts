// Keeps a live picture near the live edge without anybody noticing: a little faster when it has fallen behind, a little
// slower when the buffer is about to run dry, otherwise exactly at its own speed. Seeking is the last resort, for a
// page that slept.
//
// Inside the band nothing happens at all: changing the speed makes the browser stretch the sound.

export interface SyncOptions {
  /** Where playback wants to be behind the newest data, in seconds. */
  readonly targetS: number;
  /** How far behind the target it may be before it is sped up. */
  readonly slackS: number;
  /** Behind the target by more than this it jumps; Infinity never does. */
  readonly jumpS: number;
  /** Less buffered than this slows down; 0 never does. */
  readonly lowS: number;
}

export const FLV_SYNC: SyncOptions = { targetS: 1.5, slackS: 2.5, jumpS: 8, lowS: 0.25 };

/**
 * Segments arrive in one piece, so the buffer of HLS is a sawtooth; hls.js itself jumps when it must. Who joins with the
 * first segment has less than a segment's time in hand, which is gained by playing a little slower.
 */
export const HLS_SYNC: SyncOptions = {
  targetS: 6,
  slackS: 4,
  jumpS: Number.POSITIVE_INFINITY,
  lowS: 1,
};

export const FASTEST = 1.06;
export const SLOWEST = 0.95;
/** How long the distance must stay too large: the smallest of a window counts, because data arrives in bursts. */
export const WINDOW_MS = 3_000;
/** A freeze of this length was an interruption of the show: what was missed is skipped, not caught up. */
const REJOIN_AFTER_MS = 2_000;
const REJOIN_SLACK_S = 1;
/** Enough to survive the jitter of the first seconds, and the origin usually sends it at once. */
const CUSHION_S = 0.6;
const CUSHION_WAIT_MS = 1_500;
/** Each stall shows that the buffer was too small for this network. */
const STALL_PENALTY_S = 0.5;
const MAX_TARGET_S = 4;

export interface SyncSample {
  readonly nowMs: number;
  /** Distance from the playback position to the newest data, in seconds. */
  readonly lagS: number;
  /** Seconds that can be played without new data. */
  readonly aheadS: number;
}

export interface SyncAction {
  readonly rate: number;
  /** Go to this distance from the newest data at once. */
  readonly jumpToLagS?: number;
}

/** Whether playback may begin: with a cushion, or with what there is after some time. */
export function mayStart(aheadS: number, sinceDataMs: number): boolean {
  return aheadS >= CUSHION_S || (aheadS > 0 && sinceDataMs >= CUSHION_WAIT_MS);
}

export class LiveSync {
  readonly #options: SyncOptions;
  #targetS: number;
  #window: { readonly atMs: number; readonly lagS: number }[] = [];
  #mode: "steady" | "fast" | "slow" = "steady";
  #rejoin = false;

  constructor(options: SyncOptions) {
    this.#options = options;
    this.#targetS = options.targetS;
  }

  get targetS(): number {
    return this.#targetS;
  }

  /** hls.js decides its own target from the length of the segments. */
  set targetS(value: number) {
    this.#targetS = value;
  }

  onStall(): void {
    this.#targetS = Math.max(
      this.#targetS,
      Math.min(MAX_TARGET_S, this.#targetS + STALL_PENALTY_S),
    );
    this.#window = [];
    this.#mode = "steady";
  }

  onStallEnd(durationMs: number): void {
    this.#rejoin = durationMs >= REJOIN_AFTER_MS;
  }

  observe({ nowMs, lagS, aheadS }: SyncSample): SyncAction {
    this.#window.push({ atMs: nowMs, lagS });
    this.#window = this.#window.filter((entry) => nowMs - entry.atMs <= WINDOW_MS);
    const smallestS = Math.min(...this.#window.map((entry) => entry.lagS));
    const full = nowMs - (this.#window[0]?.atMs ?? nowMs) >= WINDOW_MS * 0.8;
    const { slackS, jumpS, lowS } = this.#options;
    const late = this.#rejoin && lagS > this.#targetS + REJOIN_SLACK_S && Number.isFinite(jumpS);
    this.#rejoin = false;
    if (late || (full && smallestS > this.#targetS + jumpS)) {
      this.#window = [];
      this.#mode = "steady";
      return { rate: 1, jumpToLagS: this.#targetS };
    }
    this.#mode = this.#next(full, smallestS, aheadS, slackS, lowS);
    if (this.#mode === "fast") return { rate: FASTEST };
    return { rate: this.#mode === "slow" ? SLOWEST : 1 };
  }

  #next(full: boolean, smallestS: number, aheadS: number, slackS: number, lowS: number) {
    if (aheadS < lowS) return "slow";
    if (this.#mode === "slow" && aheadS < lowS * 3) return "slow";
    if (this.#mode === "fast") return smallestS > this.#targetS ? "fast" : "steady";
    return full && smallestS > this.#targetS + slackS ? "fast" : "steady";
  }
}
