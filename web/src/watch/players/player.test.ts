import { describe, expect, it } from "vitest";
import type { Snapshot } from "../../whip/machine";
import { bufferedAhead, bufferedLag, causeOfStatus, isPlayerKind, nextRangeStart } from "./player";
import { failureOf } from "./webrtc";

const video = (currentTime: number, ...ranges: [number, number][]) =>
  ({
    currentTime,
    buffered: {
      length: ranges.length,
      start: (i: number) => ranges[i]?.[0] ?? 0,
      end: (i: number) => ranges[i]?.[1] ?? 0,
    },
  }) as unknown as HTMLVideoElement;

describe("buffer arithmetic", () => {
  it("is zero without data", () => {
    expect(bufferedAhead(video(0))).toBe(0);
    expect(bufferedLag(video(0))).toBe(0);
    expect(nextRangeStart(video(0))).toBeUndefined();
  });

  it("tells what can be played from what has arrived", () => {
    const holed = video(4, [0, 5], [8, 12]);
    expect(bufferedAhead(holed)).toBe(1);
    expect(bufferedLag(holed)).toBe(8);
    expect(nextRangeStart(holed)).toBe(8);
    expect(nextRangeStart(video(9, [0, 5], [8, 12]))).toBeUndefined();
  });
});

it("statuses have causes", () => {
  expect([404, 401, 403, 500, undefined].map(causeOfStatus)).toEqual([
    "not_found",
    "denied",
    "denied",
    "network",
    "network",
  ]);
});

it("a player is one of three", () => {
  expect(["flv", "hls", "webrtc", "rtmp", null].map(isPlayerKind)).toEqual([
    true,
    true,
    true,
    false,
    false,
  ]);
});

it("a WebRTC session that cannot go on says why", () => {
  const cause = (phase: Snapshot["phase"], status?: number) => {
    const failure = status === undefined ? { message: "no H.264" } : { message: "no", status };
    const snapshot = { phase, attempt: 1, failure, retryAtMs: undefined, liveSinceMs: undefined };
    return failureOf(snapshot)?.cause;
  };
  expect(cause("live")).toBeUndefined();
  expect(cause("waiting", 404)).toBe("not_found");
  expect(cause("failed", 403)).toBe("denied");
  expect(cause("waiting", 503)).toBe("network");
  expect(cause("waiting")).toBe("network");
  expect(cause("failed", 422)).toBe("unsupported");
  expect(cause("failed")).toBe("unsupported");
});
