import { describe, expect, it } from "vitest";
import * as format from "./format";
import { ApiError, fieldMessage, fieldName, parseProblem } from "./problem";
import { absoluteSocket, channelFromLocation, isChannelName, withToken } from "./url";

describe("format", () => {
  it("shows figures as people read them", () => {
    expect(format.bitrate(2_512_345)).toBe("2.51 Mb/s");
    expect(format.bitrate(127_900)).toBe("128 kb/s");
    expect(format.bitrate(0)).toBe("0 b/s");
    expect(format.bytes(234_567_890)).toBe("234.6 MB");
    expect(format.bytes(999)).toBe("999 B");
    expect(format.duration(3_725_000)).toBe("1:02:05");
    expect(format.duration(65_999)).toBe("1:05");
    expect(format.duration(-5)).toBe("0:00");
    expect(format.percent(0.0284)).toBe("2.8 %");
    expect(format.size(1280, 720)).toBe("1280×720");
    expect(format.plural(1, "viewer")).toBe("1 viewer");
    expect(format.plural(1_200, "viewer")).toBe("1,200 viewers");
  });

  it("shows what is not known as a dash, never as NaN", () => {
    const helpers = [
      format.bitrate,
      format.bytes,
      format.duration,
      format.seconds,
      format.millis,
      format.percent,
      format.fps,
      format.count,
    ];
    for (const helper of helpers) {
      for (const value of [undefined, null, Number.NaN, Number.POSITIVE_INFINITY]) {
        expect(helper(value)).toBe(format.DASH);
      }
    }
    expect(format.size(0, 0)).toBe(format.DASH);
  });
});

describe("problem details", () => {
  const json = "application/problem+json";
  it("are read from problem+json", () => {
    const body = JSON.stringify({ title: "Bad", detail: "must be short", field: "[0].url", x: 1 });
    expect(parseProblem(body, json, 422)).toEqual({
      status: 422,
      title: "Bad",
      detail: "must be short",
      field: "[0].url",
    });
  });

  it.each([
    ["{", json],
    ["null", json],
    ['{"detail":7}', json],
    ["<html>nginx</html>", "text/html"],
    ["", null],
  ])("%s says nothing", (body, type) => {
    expect(parseProblem(body, type, 502)).toEqual({ status: 502 });
    expect(new ApiError(502, parseProblem(body, type, 502)).message).toBe(
      "The server answered 502.",
    );
  });

  it("short plain text is a reason too", () => {
    expect(parseProblem("too many\n", "text/plain", 429).detail).toBe("too many");
  });

  it.each([
    ["url: must be short", "[0].url", "must be short"],
    ["[0].url: must be short", "[0].url", "must be short"],
    ["must be short", "url", "must be short"],
    ["url: must be short", undefined, "url: must be short"],
  ])("%s at field %s reads: %s", (detail, field, text) => {
    const problem = field === undefined ? { detail } : { detail, field };
    expect(fieldMessage(new ApiError(422, problem))).toBe(text);
  });

  it.each([
    ["[0].url", "url"],
    ["/destinations/0/name", "name"],
    ["id", "id"],
    [undefined, undefined],
  ])("%s is the input %s", (field, name) => {
    expect(fieldName(field)).toBe(name);
  });
});

describe("addresses", () => {
  it.each([
    ["/studio/demo", "", "demo"],
    ["/watch/demo/", "", "demo"],
    ["/watch/a%2Fb", "", "a/b"],
    ["/watch/%E0%A4%A", "", undefined],
    ["/watch.html", "?channel=demo", "demo"],
    ["/watch/", "", undefined],
    ["/", "", undefined],
  ])("%s%s is about %s", (pathname, search, channel) => {
    expect(channelFromLocation({ pathname, search })).toBe(channel);
  });

  it("channel names are those of the server", () => {
    expect(["demo", "a-b_C9", "x".repeat(64)].every(isChannelName)).toBe(true);
    expect(["", "a b", "a/b", "ä", "a.b", "x".repeat(65)].some(isChannelName)).toBe(false);
  });

  it("sockets follow the scheme of the page", () => {
    expect(absoluteSocket("/live/a.flv", "https://h:1/x")).toBe("wss://h:1/live/a.flv");
    expect(absoluteSocket("ws://o:2/live/a.flv", "http://h/")).toBe("ws://o:2/live/a.flv");
  });

  it("a token is added once, and only if there is one", () => {
    expect(withToken("http://h/a.flv?x=1", "t k")).toBe("http://h/a.flv?x=1&token=t+k");
    expect(withToken("http://h/a.flv?token=a", "b")).toBe("http://h/a.flv?token=a");
    expect(withToken("http://h/a.flv", undefined)).toBe("http://h/a.flv");
  });
});
