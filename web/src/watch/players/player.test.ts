import { describe, expect, it } from "vitest";
import { bufferedAhead, bufferedLag, causeOfStatus, nextRangeStart } from "./player";

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
