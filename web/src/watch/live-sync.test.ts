import { describe, expect, it } from "vitest";
import { FASTEST, FLV_SYNC, HLS_SYNC, LiveSync, mayStart, SLOWEST } from "./live-sync";

/** Observes a constant or moving lag twice a second; gives the rates. */
function run(sync: LiveSync, seconds: number, lagAt: (t: number) => number, fromMs = 0) {
  const actions = [];
  for (let t = 0; t < seconds; t += 0.5) {
    const lagS = lagAt(t);
    actions.push(sync.observe({ nowMs: fromMs + t * 1000, lagS, aheadS: lagS }));
  }
  return actions;
}

const { targetS, slackS, jumpS, lowS } = FLV_SYNC;

describe("LiveSync", () => {
  it("does nothing inside the band", () => {
    for (const lag of [lowS, 1, targetS, targetS + slackS - 0.01]) {
      const sync = new LiveSync(FLV_SYNC);
      expect(new Set(run(sync, 20, () => lag).map(({ rate }) => rate))).toEqual(new Set([1]));
    }
  });

  it("is not moved by bursts: the smallest distance of the window counts", () => {
    const sync = new LiveSync(FLV_SYNC);
    const sawtooth = (t: number) => (t % 2 === 0 ? 6 : 2);
    expect(run(sync, 20, sawtooth).every(({ rate }) => rate === 1)).toBe(true);
  });

  it("catches up to the target, then runs at its own speed", () => {
    const sync = new LiveSync(FLV_SYNC);
    let lag = targetS + slackS + 1;
    const rates: number[] = [];
    for (let t = 0; t < 120; t += 0.5) {
      const { rate } = sync.observe({ nowMs: t * 1000, lagS: lag, aheadS: lag });
      rates.push(rate);
      lag -= (rate - 1) * 0.5;
    }
    expect(rates[0]).toBe(1);
    expect(Math.max(...rates)).toBe(FASTEST);
    expect(rates.at(-1)).toBe(1);
    expect(lag).toBeLessThanOrEqual(targetS);
    expect(lag).toBeGreaterThan(targetS - 0.3);
  });

  it("jumps when it has slept", () => {
    const sync = new LiveSync(FLV_SYNC);
    const jumps = run(sync, 4, () => targetS + jumpS + 5).filter((a) => a.jumpToLagS !== undefined);
    expect(jumps[0]).toEqual({ rate: 1, jumpToLagS: targetS });
  });

  it("slows down before the buffer runs dry, until there is some again", () => {
    const sync = new LiveSync(FLV_SYNC);
    const at = (aheadS: number, nowMs: number) =>
      sync.observe({ nowMs, lagS: aheadS, aheadS }).rate;
    expect(at(lowS / 2, 0)).toBe(SLOWEST);
    expect(at(lowS * 2, 500)).toBe(SLOWEST);
    expect(at(lowS * 3, 1_000)).toBe(1);
    expect(at(lowS * 2, 1_500)).toBe(1);
  });

  it("keeps more distance after stalls, up to a bound", () => {
    const sync = new LiveSync(FLV_SYNC);
    sync.onStall();
    expect(sync.targetS).toBe(targetS + 0.5);
    for (let i = 0; i < 20; i += 1) sync.onStall();
    expect(sync.targetS).toBe(4);
  });

  it("skips what was missed in a long freeze, but not a short one", () => {
    const sync = new LiveSync(FLV_SYNC);
    sync.onStallEnd(500);
    expect(sync.observe({ nowMs: 0, lagS: 6, aheadS: 6 }).jumpToLagS).toBeUndefined();
    sync.onStallEnd(5_000);
    expect(sync.observe({ nowMs: 500, lagS: 6, aheadS: 6 }).jumpToLagS).toBe(targetS);
    expect(sync.observe({ nowMs: 1_000, lagS: 6, aheadS: 6 }).jumpToLagS).toBeUndefined();
  });

  it("leaves jumping in HLS to the library", () => {
    const sync = new LiveSync(HLS_SYNC);
    sync.onStallEnd(60_000);
    const actions = run(sync, 10, () => 60);
    expect(actions.every((a) => a.jumpToLagS === undefined)).toBe(true);
    expect(actions.at(-1)?.rate).toBe(FASTEST);
  });
});

describe("mayStart", () => {
  it("waits for a cushion, but not for ever", () => {
    expect(mayStart(0.2, 100)).toBe(false);
    expect(mayStart(0.6, 0)).toBe(true);
    expect(mayStart(0.2, 1_500)).toBe(true);
    expect(mayStart(0, 60_000)).toBe(false);
  });
});
