import { describe, expect, it } from "vitest";
import { axisFromZero, nearest, roundUp, segments, xOf, yOf } from "./scale";
import { Series } from "./series";

describe("Series", () => {
  it("forgets what is older than its span", () => {
    const series = new Series(1_000);
    for (let atMs = 0; atMs <= 3_000; atMs += 500) series.push(atMs, atMs);
    expect(series.points.map(({ atMs }) => atMs)).toEqual([2_000, 2_500, 3_000]);
  });

  it("takes each moment once, and numbers only", () => {
    const series = new Series(1_000);
    series.push(10, 1);
    series.push(10, 2);
    series.push(5, 3);
    series.push(20, Number.NaN);
    expect(series.points).toEqual([{ atMs: 10, value: 1 }]);
  });
});

describe("axes", () => {
  it.each([
    [0, 1],
    [1, 1],
    [1.1, 1.5],
    [31.5, 40],
    [2.6e6, 3e6],
    [9e6, 10e6],
    [0.07, 0.08],
    [Number.POSITIVE_INFINITY, 1],
  ])("%d rounds up to %d", (value, expected) => {
    expect(roundUp(value)).toBeCloseTo(expected, 9);
  });

  it("keep some air above the line and never collapse", () => {
    expect(axisFromZero(30, 30)).toEqual({ low: 0, high: 40, ticks: [0, 20, 40] });
    expect(axisFromZero(0, 30).high).toBe(30);
  });
});

describe("positions", () => {
  const box = { x: 10, y: 20, width: 100, height: 50 };
  it("put now at the right and zero at the bottom", () => {
    expect(xOf(5_000, 5_000, 1_000, box)).toBe(110);
    expect(xOf(4_000, 5_000, 1_000, box)).toBe(10);
    const axis = axisFromZero(90, 1);
    expect(yOf(0, axis, box)).toBe(70);
    expect(yOf(axis.high, axis, box)).toBe(20);
    expect(yOf(axis.high * 2, axis, box)).toBe(20);
  });
});

describe("segments", () => {
  const points = [0, 1_000, 2_000, 9_000, 10_000].map((atMs) => ({ atMs, value: 1 }));
  it("break a line where nothing was measured", () => {
    expect(segments(points, 5_000).map((part) => part.length)).toEqual([3, 2]);
    expect(segments([], 5_000)).toEqual([]);
  });

  it("nearest finds the value under the pointer", () => {
    expect(nearest(points, 5_400)?.atMs).toBe(2_000);
    expect(nearest(points, 6_000)?.atMs).toBe(9_000);
    expect(nearest([], 0)).toBeUndefined();
  });
});
