import { describe, expect, it } from "vitest";
import { FLOOR_DB, meterFraction } from "../lib/level";
import { levelOf, Needle } from "./meter";
import { renderMusic, renderTone } from "./music";
import { CODE_BITS, cellSize, codeBits, readCode } from "./pattern";
import { DEFAULTS, encoderSettings, fromQuery, sanitize } from "./settings";
import { captureMessage } from "./sources";
import { limitationText, publishStats, type RawStat, rate } from "./stats";

describe("the frame code", () => {
  /** A perfect picture of the code alone. */
  const luma = (frame: number, width: number) => (x: number, y: number) => {
    const cell = cellSize(width);
    const bit = codeBits(frame)[Math.floor(x / cell)] ?? false;
    return bit === y < cell ? 255 : 0;
  };

  it.each([640, 1280, 1920, 854])("can be read back at width %i", (width) => {
    for (const frame of [0, 1, 2, 1023, 524_288, 2 ** CODE_BITS - 1]) {
      expect(readCode(luma(frame, width), width)).toBe(frame);
    }
    expect(readCode(luma(2 ** CODE_BITS + 5, width), width)).toBe(5);
  });

  it("is known to be unreadable when the check fails", () => {
    expect(readCode(() => 255, 640)).toBeUndefined();
  });
});

describe("the looped sounds", () => {
  const RATE = 48_000;
  it("have no seam: the step over the end is like any other step", () => {
    for (const { left, right } of [renderMusic(RATE), renderTone(RATE)]) {
      for (const channel of [left, right]) {
        let largest = 0;
        for (let i = 1; i < channel.length; i += 1) {
          largest = Math.max(largest, Math.abs((channel[i] ?? 0) - (channel[i - 1] ?? 0)));
        }
        const seam = Math.abs((channel[0] ?? 0) - (channel[channel.length - 1] ?? 0));
        expect(seam).toBeLessThanOrEqual(largest);
      }
    }
  });

  it("are heard and do not clip", () => {
    const { left } = renderMusic(RATE);
    const { rmsDb, peakDb } = levelOf(left);
    expect(rmsDb).toBeGreaterThan(-30);
    expect(peakDb).toBeLessThan(-1);
  });

  it("the tone is 1 kHz: a sample returns after a period", () => {
    const { left } = renderTone(RATE);
    for (let i = 0; i < 1_000; i += 1) expect(left[i]).toBeCloseTo(left[i + 48] ?? 9, 5);
  });
});

describe("the meter", () => {
  it("knows full scale and silence", () => {
    expect(levelOf([1, -1, 1, -1])).toEqual({ rmsDb: 0, peakDb: 0 });
    expect(levelOf([0, 0]).rmsDb).toBe(Number.NEGATIVE_INFINITY);
    expect(meterFraction(0)).toBe(1);
    expect(meterFraction(FLOOR_DB / 2)).toBe(0.5);
    expect(meterFraction(Number.NEGATIVE_INFINITY)).toBe(0);
  });

  it("rises at once and falls slowly", () => {
    const needle = new Needle(20);
    expect(needle.push(-10, 0)).toBe(-10);
    expect(needle.push(-60, 500)).toBe(-20);
    expect(needle.push(-60, 5_000)).toBe(-60);
    expect(needle.push(-3, 5_100)).toBe(-3);
  });
});

describe("settings", () => {
  it("come out of anything", () => {
    expect(sanitize({})).toEqual(DEFAULTS);
    const odd = { source: "cinema", fps: "31", videoKbps: 1e9, audioKbps: "x", participant: "a b" };
    expect(sanitize(odd)).toEqual({ ...DEFAULTS, videoKbps: 12_000 });
  });

  it("an address presets them, with the bitrate that suits the size", () => {
    const query =
      "?source=pattern&size=640x360&fps=60&stereo=0&role=guest&participant=bob&sound=tone";
    expect(sanitize({ videoKbps: 4000, ...fromQuery(query) })).toMatchObject({
      source: "pattern",
      size: "640x360",
      fps: 60,
      videoKbps: 900,
      stereo: false,
      role: "guest",
      participant: "bob",
      sound: "tone",
    });
    expect(sanitize(fromQuery("?size=640x360&kbps=1234")).videoKbps).toBe(1234);
  });

  it("become the encoder's", () => {
    expect(encoderSettings({ ...DEFAULTS, priority: "sharpness" })).toEqual({
      maxVideoBitrate: 2_500_000,
      maxFramerate: 30,
      degradation: "maintain-resolution",
      audio: { stereo: true, maxAverageBitrate: 128_000 },
    });
  });
});

describe("publishing statistics", () => {
  const stat = (type: string, more: Record<string, unknown>): RawStat => ({
    id: `${type}-${more.kind ?? ""}`,
    type,
    timestamp: 0,
    ...more,
  });

  it("are rates over the time between two reports", () => {
    const at = (timestamp: number, bytesSent: number) => [
      stat("outbound-rtp", {
        kind: "video",
        timestamp,
        bytesSent,
        framesPerSecond: 30,
        codecId: "c",
      }),
      stat("candidate-pair", { nominated: true, currentRoundTripTime: 0.021 }),
      stat("remote-inbound-rtp", { kind: "video", fractionLost: 0.02 }),
      { ...stat("codec", { mimeType: "video/H264" }), id: "c" },
    ];
    expect(publishStats(at(1_000, 1_000), at(3_000, 501_000))).toEqual({
      videoBps: 2_000_000,
      fps: 30,
      rttMs: 21,
      loss: 0.02,
      codec: "video/H264",
    });
    expect(publishStats(undefined, at(1_000, 1_000)).videoBps).toBeUndefined();
    expect(publishStats(undefined, [])).toEqual({});
  });

  it("a counter that was reset gives no rate", () => {
    const before = stat("x", { timestamp: 0, n: 100 });
    expect(rate(before, stat("x", { timestamp: 1_000, n: 50 }), "n")).toBeUndefined();
    expect(rate(before, stat("x", { timestamp: 0, n: 150 }), "n")).toBeUndefined();
  });

  it("say in words why less is sent", () => {
    expect(limitationText("cpu")).toContain("too slow");
    expect(limitationText(undefined)).toBe("–");
  });
});

describe("captureMessage", () => {
  it("says what to do", () => {
    const refused = new DOMException("x", "NotAllowedError");
    expect(captureMessage(refused, "camera")).toContain("Allow it");
    expect(captureMessage(new DOMException("x", "NotFoundError"), "camera")).toContain("Plug");
    expect(captureMessage(new Error("odd"), "camera")).toContain("odd");
  });
});
