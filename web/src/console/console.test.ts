import { describe, expect, it } from "vitest";
import type { Channel, Destination } from "../api/types";
import { recipes, shellQuote } from "./commands";
import { editError, specsOf, withSpec } from "./destinations";
import { channelHref, newHref, parseRoute } from "./route";
import { countdownS, readinessLook, uptimeMs } from "./states";
import { PreviewPlaces } from "./visible";

const destination = (more: Partial<Destination> = {}): Destination => ({
  name: "main",
  url: "rtmp://h/app/***",
  state: "backoff",
  attempts: 1,
  last_error: null,
  next_attempt_at: null,
  connected_at: null,
  bytes_sent: 0,
  dropped_units: 0,
  ...more,
});

describe("routes", () => {
  it("lead back to where they came from", () => {
    for (const id of ["demo", "a/b", "100%"]) {
      expect(parseRoute(channelHref(id))).toEqual({ page: "channel", id });
    }
    expect(parseRoute(newHref())).toEqual({ page: "new", id: "" });
    expect(parseRoute(newHref("x"))).toEqual({ page: "new", id: "x" });
  });

  it.each(["", "#", "#/", "#/channels/", "#/other/x", "#/channels/%E0%A4%A"])(
    "%s is the list",
    (hash) => {
      expect(parseRoute(hash)).toEqual({ page: "list" });
    },
  );
});

describe("command lines", () => {
  it("survive the shell", () => {
    expect(shellQuote("http://h:1/whip/demo")).toBe("http://h:1/whip/demo");
    expect(shellQuote("http://h/a?b&c")).toBe("'http://h/a?b&c'");
    expect(shellQuote("it's")).toBe("'it'\\''s'");
  });

  it("name the channel's address, and a token where one is needed", () => {
    for (const recipe of recipes("http://h:8080/", "demo", false)) {
      expect(recipe.text).toMatch(/http:\/\/h:8080\/whip\/demo|rtmp:\/\/h:1936\/live\/demo/);
      expect(recipe.text).not.toContain("TOKEN");
    }
    const withToken = recipes("http://h:8080/", "demo", true).map(({ text }) => text);
    expect(withToken.filter((text) => text.includes("TOKEN"))).toHaveLength(4);
  });
});

describe("destinations", () => {
  const all = [destination(), destination({ name: "two", url: "rtmp://i/app/***" })];
  it("are changed one at a time in the whole set", () => {
    const spec = { name: "two", url: "rtmp://new/app/key" };
    expect(withSpec(specsOf(all), "two", spec)).toEqual([
      { name: "main", url: "rtmp://h/app/***" },
      spec,
    ]);
    expect(withSpec(specsOf(all), undefined, spec)).toHaveLength(3);
  });

  it("a hidden key is never pushed as a key", () => {
    const kept = { name: "main", url: "rtmp://h/app/***" };
    expect(editError(kept, kept)).toBeUndefined();
    expect(editError({ ...kept, name: "other" }, kept)).toContain("whole address");
    expect(editError({ ...kept, url: "rtmp://x/app/***" }, kept)).toContain("whole address");
    expect(editError(kept, undefined)).toContain("whole address");
    expect(editError({ name: "", url: "http://x/y" }, undefined)).toContain("rtmp://");
    expect(editError({ name: "", url: "rtmps://x/app/key" }, undefined)).toBeUndefined();
  });

  it("count down to the next attempt", () => {
    const now = Date.parse("2026-01-01T00:00:00.000Z");
    const next = destination({ next_attempt_at: "2026-01-01T00:00:04.200Z" });
    expect(countdownS(next, now)).toBe(5);
    expect(countdownS(next, now + 60_000)).toBe(0);
    expect(countdownS(destination(), now)).toBeUndefined();
  });
});

describe("states", () => {
  it("a channel is on air since it went live", () => {
    const channel = { state: "live", live_since: "2026-01-01T00:00:00.000Z" } as Channel;
    const now = Date.parse("2026-01-01T00:01:00.000Z");
    expect(uptimeMs(channel, now)).toBe(60_000);
    expect(uptimeMs({ ...channel, state: "idle" }, now)).toBeUndefined();
  });

  it("an unreachable server is the worst news", () => {
    const ready = { ready: true, status: "ready", checks: [] } as const;
    expect(readinessLook(ready, true).word).toBe("Healthy");
    expect(readinessLook(ready, false).tone).toBe("bad");
    expect(readinessLook(undefined, true).tone).toBe("neutral");
  });
});

describe("PreviewPlaces", () => {
  it("lets as many play as there are places, in order", () => {
    const places = new PreviewPlaces(2);
    const granted: string[] = [];
    const give = ["a", "b", "c", "d"].map((name) => places.request(() => granted.push(name)));
    expect(granted).toEqual(["a", "b"]);
    give[2]?.();
    give[0]?.();
    expect(granted).toEqual(["a", "b", "d"]);
    give[0]?.();
    expect(granted).toHaveLength(3);
  });
});
