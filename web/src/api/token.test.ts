import { describe, expect, it } from "vitest";
import { takeToken } from "./token";

describe("takeToken", () => {
  it("finds a token behind the # and in the query, and leaves the rest", () => {
    expect(takeToken("http://h/studio/demo?role=guest#token=a.b-c_d")).toEqual({
      token: "a.b-c_d",
      rest: "http://h/studio/demo?role=guest",
    });
    expect(takeToken("http://h/?token=x&source=pattern#/channels/a")).toEqual({
      token: "x",
      rest: "http://h/?source=pattern#/channels/a",
    });
    expect(takeToken("http://h/studio/a#x=1&token=t%20u&y=2")).toEqual({
      token: "t u",
      rest: "http://h/studio/a#x=1&y=2",
    });
  });

  it("takes nothing else for one", () => {
    expect(takeToken("http://h/#/channels/token=x")).toBeUndefined();
    expect(takeToken("http://h/studio/a#mytoken=x")).toBeUndefined();
  });

  it("survives text that is no escape", () => {
    expect(takeToken("http://h/#token=%E0%A4%A")?.token).toBe("%E0%A4%A");
  });
});
