// Retry delays: exponential with full-range jitter below a ceiling, so that many clients that lost the
// same server do not come back at the same instant.

export interface BackoffOptions {
  readonly firstMs: number;
  readonly maxMs: number;
  readonly factor?: number;
  /** 0 = no jitter; 0.5 = the delay is between 50 % and 100 % of its nominal value. */
  readonly jitter?: number;
}

export class Backoff {
  #attempt = 0;
  readonly #options: Required<BackoffOptions>;
  readonly #random: () => number;

  constructor(options: BackoffOptions, random: () => number = Math.random) {
    this.#options = { factor: 2, jitter: 0.5, ...options };
    this.#random = random;
  }

  /** Attempts made since the last reset. */
  get attempt(): number {
    return this.#attempt;
  }

  /** The delay before the next attempt; `atLeastMs` is what a server asked for by Retry-After. */
  next(atLeastMs = 0): number {
    const { firstMs, maxMs, factor, jitter } = this.#options;
    const nominal = Math.min(maxMs, firstMs * factor ** this.#attempt);
    this.#attempt += 1;
    const delay = nominal * (1 - jitter * this.#random());
    return Math.round(Math.max(delay, atLeastMs));
  }

  reset(): void {
    this.#attempt = 0;
  }
}

/** Seconds or an HTTP date, as RFC 9110 section 10.2.3 allows; undefined when absent or unreadable. */
export function parseRetryAfter(value: string | null, nowMs: number): number | undefined {
  if (value === null) return undefined;
  const text = value.trim();
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : Math.max(0, at - nowMs);
}
