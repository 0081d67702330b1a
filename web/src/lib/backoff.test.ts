import { describe, expect, it } from "vitest";
import { Backoff, parseRetryAfter } from "./backoff";

describe("Backoff", () => {
  it("doubles up to its ceiling", () => {
    const backoff = new Backoff({ firstMs: 100, maxMs: 1000 }, () => 0);
    expect([1, 2, 3, 4, 5, 6].map(() => backoff.next())).toEqual([100, 200, 400, 800, 1000, 1000]);
    expect(backoff.attempt).toBe(6);
    backoff.reset();
    expect(backoff.next()).toBe(100);
  });

  it("spreads clients below the nominal delay, never above", () => {
    const late = new Backoff({ firstMs: 100, maxMs: 1000, jitter: 0.5 }, () => 0.999);
    expect(late.next()).toBe(50);
  });

  it("waits at least as long as the server asked", () => {
    expect(new Backoff({ firstMs: 100, maxMs: 1000 }, () => 0).next(5000)).toBe(5000);
  });
});

describe("parseRetryAfter", () => {
  const now = Date.parse("2026-01-01T00:00:00Z");
  it.each([
    ["3", 3000],
    [" 10 ", 10_000],
    ["Thu, 01 Jan 2026 00:00:07 GMT", 7000],
    ["Wed, 31 Dec 2025 23:59:00 GMT", 0],
    ["soon", undefined],
    [null, undefined],
  ])("%s", (value, expected) => {
    expect(parseRetryAfter(value, now)).toBe(expected);
  });
});
