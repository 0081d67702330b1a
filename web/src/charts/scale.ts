// The arithmetic of plots: round axes, positions, and lines that are broken where nothing was measured.

import type { Point } from "./series";

export interface Axis {
  readonly low: number;
  readonly high: number;
  readonly ticks: readonly number[];
}

/** The smallest round number that is at least `value`; half of it is round too. */
export function roundUp(value: number): number {
  if (!(value > 0) || !Number.isFinite(value)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const factor = [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((f) => f * power >= value * (1 - 1e-9)) ?? 10;
  return factor * power;
}

/** From zero to a round number above the largest value, with a tick at the middle. */
export function axisFromZero(largest: number, atLeast: number): Axis {
  const high = roundUp(Math.max(largest * 1.05, atLeast));
  return { low: 0, high, ticks: [0, high / 2, high] };
}

/** Round values of an axis: 1.5 Mb/s, 250 kb/s, 0. */
export function bitrateTick(value: number): string {
  if (value === 0) return "0";
  return value < 1e6 ? `${value / 1e3} kb/s` : `${value / 1e6} Mb/s`;
}

/** Of all points; 0 when there are none. */
export function largest(points: readonly Point[]): number {
  return points.reduce((most, { value }) => Math.max(most, value), 0);
}

export function fixedAxis(low: number, high: number, ticks: readonly number[]): Axis {
  return { low, high, ticks };
}

export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export function yOf(value: number, axis: Axis, box: Box): number {
  const fraction = (value - axis.low) / (axis.high - axis.low);
  return box.y + box.height * (1 - Math.min(1, Math.max(0, fraction)));
}

export function xOf(atMs: number, nowMs: number, spanMs: number, box: Box): number {
  return box.x + box.width * (1 - (nowMs - atMs) / spanMs);
}

/** Consecutive points that belong to one line. */
export function segments(points: readonly Point[], gapMs: number): Point[][] {
  const result: Point[][] = [];
  let before: Point | undefined;
  for (const point of points) {
    if (!before || point.atMs - before.atMs > gapMs) result.push([]);
    result.at(-1)?.push(point);
    before = point;
  }
  return result;
}

/** The point nearest in time, for reading a value under the pointer. */
export function nearest(points: readonly Point[], atMs: number): Point | undefined {
  let best: Point | undefined;
  for (const point of points) {
    if (!best || Math.abs(point.atMs - atMs) < Math.abs(best.atMs - atMs)) best = point;
  }
  return best;
}
