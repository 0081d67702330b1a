// A bounded history of samples for one plot, oldest first. A gap in time longer than `gapMs` is kept as a gap: a line
// must not invent what was not measured.

export interface Point {
  readonly atMs: number;
  readonly value: number;
}

export class Series {
  readonly #points: Point[] = [];
  readonly #spanMs: number;

  constructor(spanMs: number) {
    this.#spanMs = spanMs;
  }

  get points(): readonly Point[] {
    return this.#points;
  }

  get last(): Point | undefined {
    return this.#points.at(-1);
  }

  /** Samples that are not newer than the last one are dropped: a poll may see the same snapshot twice. */
  push(atMs: number, value: number): void {
    const last = this.last;
    if (!Number.isFinite(value) || (last && atMs <= last.atMs)) return;
    this.#points.push({ atMs, value });
    const oldest = atMs - this.#spanMs;
    let expired = 0;
    while ((this.#points[expired]?.atMs ?? atMs) < oldest) expired += 1;
    if (expired > 0) this.#points.splice(0, expired);
  }
}
