import { describe, expect, it } from "vitest";
import { localPort, localUrl, relayShare } from "./local";

describe("a local player", () => {
  it("is named by its port", () => {
    expect(["8090", "0", "x", "70000", null].map(localPort)).toEqual([
      8090,
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
    expect(localUrl(8090, "/stats")).toBe("http://127.0.0.1:8090/stats");
  });

  it("says what part relays have brought", () => {
    const stats = { buffer_ms: 0, fallback: false, substreams: [] };
    expect(relayShare({ ...stats, relay_bytes: 3, origin_bytes: 1 })).toBe(0.75);
    expect(relayShare({ ...stats, relay_bytes: 0, origin_bytes: 0 })).toBeUndefined();
  });
});
