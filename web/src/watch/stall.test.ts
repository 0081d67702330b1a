import { describe, expect, it } from "vitest";
import { FreezeDetector, StallMeter } from "./stall";

/** Plays from `fromMs` to `toMs` in steps of 100 ms; the position follows `position`. */
function play(
  meter: StallMeter,
  fromMs: number,
  toMs: number,
  position: (nowMs: number) => number,
  expected = true,
) {
  const events: string[] = [];
  for (let nowMs = fromMs; nowMs <= toMs; nowMs += 100) {
    const event = meter.sample({ nowMs, positionS: position(nowMs), expected });
    if (event) events.push(event.type === "end" ? `end ${event.durationMs}` : event.type);
  }
  return events;
}

const running = (nowMs: number) => nowMs / 1000;

describe("StallMeter", () => {
  it("does not count the start-up", () => {
    const meter = new StallMeter();
    expect(play(meter, 0, 3_000, () => 0)).toEqual([]);
    expect(play(meter, 3_100, 6_000, running)).toEqual([]);
    expect(meter.stats(6_000)).toEqual({ count: 0, totalMs: 0, stalled: false });
  });

  it("does not count a start-up that began paused", () => {
    const meter = new StallMeter();
    play(meter, 0, 2_000, () => 0, false);
    expect(play(meter, 2_100, 6_000, () => 0)).toEqual([]);
  });

  it("counts a freeze once, with its length", () => {
    const meter = new StallMeter();
    play(meter, 0, 2_000, running);
    expect(play(meter, 2_100, 3_000, () => 2)).toEqual(["begin"]);
    expect(meter.stats(3_000)).toEqual({ count: 1, totalMs: 1_000, stalled: true });
    expect(play(meter, 3_100, 4_000, (ms) => ms / 1000 - 1)).toEqual(["end 1100"]);
    expect(meter.stats(4_000)).toEqual({ count: 1, totalMs: 1_100, stalled: false });
  });

  it("does not count what is shorter than a few frames", () => {
    const meter = new StallMeter();
    play(meter, 0, 2_000, running);
    expect(meter.sample({ nowMs: 2_100, positionS: 2, expected: true })).toBeUndefined();
    expect(play(meter, 2_200, 3_000, running)).toEqual([]);
  });

  it("does not count a pause, nor the moment after it", () => {
    const meter = new StallMeter();
    play(meter, 0, 2_000, running);
    expect(play(meter, 2_100, 9_000, () => 2, false)).toEqual([]);
    expect(meter.sample({ nowMs: 9_100, positionS: 2, expected: true })).toBeUndefined();
  });

  it("takes a new stream as a new start", () => {
    const meter = new StallMeter();
    play(meter, 0, 2_000, running);
    meter.restart(2_050);
    expect(play(meter, 2_100, 6_000, () => 0)).toEqual([]);
    expect(meter.stats(6_000).count).toBe(0);
  });

  it("ends a stall when the stream is given up", () => {
    const meter = new StallMeter();
    play(meter, 0, 2_000, running);
    play(meter, 2_100, 3_000, () => 2);
    meter.restart(3_000);
    expect(meter.stats(9_000)).toEqual({ count: 1, totalMs: 1_000, stalled: false });
  });
});

describe("FreezeDetector", () => {
  /** The moments of the nudges in ten seconds of play; `frames` gives what was shown by then. */
  function nudges(
    frames: (nowMs: number) => number,
    change: { fps?: number; aheadS?: number } = {},
  ) {
    const detector = new FreezeDetector();
    const at: number[] = [];
    for (let nowMs = 0; nowMs <= 10_000; nowMs += 100) {
      const nudge = detector.sample({
        nowMs,
        positionS: nowMs / 1000,
        frames: frames(nowMs),
        aheadS: change.aheadS ?? 1,
        fps: change.fps ?? 30,
        expected: true,
      });
      if (nudge) at.push(nowMs);
    }
    return at;
  }
  const shown = (nowMs: number) => Math.floor(nowMs / 33);
  const stuck = (nowMs: number) => shown(Math.min(nowMs, 2_000));

  it("leaves a picture alone that moves", () => {
    expect(nudges(shown)).toEqual([]);
  });

  it("nudges a picture that stands while the sound goes on, and not again at once", () => {
    const at = nudges(stuck);
    expect(at[0]).toBe(2_700);
    expect(at[1]).toBeGreaterThanOrEqual(5_700);
  });

  it("leaves slow pictures and empty buffers alone", () => {
    expect(nudges(stuck, { fps: 2 })).toEqual([]);
    expect(nudges(stuck, { aheadS: 0.05 })).toEqual([]);
    expect(nudges(() => 0)).toEqual([]);
  });
});
