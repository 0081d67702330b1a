// Counts stalls: moments when the picture should run and does not. What happens before the first picture is start-up,
// not a stall; a pause by the viewer, a seek, or a stream that has ended is not one either.

/** The position must stand still this long before it counts: shorter than a few frames nobody sees. */
export const FREEZE_MS = 200;

export interface StallStats {
  readonly count: number;
  /** All stalls together, the current one included. */
  readonly totalMs: number;
  readonly stalled: boolean;
}

export type StallEvent =
  | { readonly type: "begin" }
  | { readonly type: "end"; readonly durationMs: number };

export interface Sample {
  readonly nowMs: number;
  readonly positionS: number;
  /** Whether the picture is supposed to run: not paused, not seeking, connected. */
  readonly expected: boolean;
}

export class StallMeter {
  #started = false;
  #lastPositionS: number | undefined;
  #lastAdvanceMs = 0;
  #stalledSinceMs: number | undefined;
  #count = 0;
  #totalMs = 0;

  /** Called a few times a second with the playback position. */
  sample({ nowMs, positionS, expected }: Sample): StallEvent | undefined {
    const advanced = this.#lastPositionS !== undefined && positionS !== this.#lastPositionS;
    this.#lastPositionS = positionS;
    if (!expected || advanced) {
      this.#started ||= advanced;
      this.#lastAdvanceMs = nowMs;
      return this.#end(nowMs);
    }
    const frozen = nowMs - this.#lastAdvanceMs >= FREEZE_MS;
    if (!this.#started || !frozen || this.#stalledSinceMs !== undefined) return undefined;
    this.#stalledSinceMs = this.#lastAdvanceMs;
    this.#count += 1;
    return { type: "begin" };
  }

  /** A new stream begins: its start-up is not a stall. */
  restart(nowMs: number): void {
    this.#end(nowMs);
    this.#started = false;
    this.#lastPositionS = undefined;
    this.#lastAdvanceMs = nowMs;
  }

  stats(nowMs: number): StallStats {
    const since = this.#stalledSinceMs;
    return {
      count: this.#count,
      totalMs: Math.round(this.#totalMs + (since === undefined ? 0 : nowMs - since)),
      stalled: since !== undefined,
    };
  }

  #end(nowMs: number): StallEvent | undefined {
    if (this.#stalledSinceMs === undefined) return undefined;
    const durationMs = nowMs - this.#stalledSinceMs;
    this.#totalMs += durationMs;
    this.#stalledSinceMs = undefined;
    return { type: "end", durationMs };
  }
}

/** A picture is frozen when no frame comes for so long while the position moves on. */
const FROZEN_MS = 700;
/** A nudge needs this long to show whether it has helped. */
const NUDGE_REST_MS = 3_000;
/** Below this rate, frames are too rare to be missed. */
const MIN_FPS = 5;

export interface FrameSample {
  readonly nowMs: number;
  readonly positionS: number;
  /** Frames shown since the video was loaded. */
  readonly frames: number;
  /** What is buffered ahead, in seconds. */
  readonly aheadS: number;
  readonly fps: number | undefined;
  /** It plays, and the page is visible. */
  readonly expected: boolean;
}

/**
 * Finds a picture that stands still while the sound goes on and data is there: media source extensions have lost frames at a
 * change of format, and the browser waits at the hole until its sound has run out. A seek to the same place gets it over it.
 */
export class FreezeDetector {
  #frames = -1;
  #sinceMs = 0;
  #sinceS = 0;
  #restUntilMs = 0;

  /** True when the video should be nudged now. */
  sample(sample: FrameSample): boolean {
    const { nowMs, positionS, frames, expected } = sample;
    if (!expected || frames !== this.#frames || positionS < this.#sinceS) {
      this.#frames = frames;
      this.#sinceMs = nowMs;
      this.#sinceS = positionS;
      return false;
    }
    const frozen =
      nowMs - this.#sinceMs >= FROZEN_MS && positionS - this.#sinceS >= (FROZEN_MS / 1000) * 0.5;
    const usual = frames > 0 && (sample.fps ?? 0) >= MIN_FPS;
    if (!frozen || !usual || sample.aheadS < 0.2 || nowMs < this.#restUntilMs) return false;
    this.#restUntilMs = nowMs + NUDGE_REST_MS;
    return true;
  }
}
