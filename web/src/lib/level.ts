// Loudness on a scale for the eye.

/** What a meter shows as its left end, in dBFS. */
export const FLOOR_DB = -60;

/** 0 at the floor, 1 at full scale. */
export function meterFraction(levelDb: number): number {
  return Math.min(1, Math.max(0, 1 - levelDb / FLOOR_DB));
}
