import { describe, expect, it } from "vitest";
import type { Channel, Participant } from "../api/types";
import { initials, pictureWord } from "../peers/peer-video";
import { airState, othersOf } from "./room";

const person = (id: string, more: Partial<Participant> = {}): Participant => ({
  id,
  role: "guest",
  state: "live",
  protocol: "whip",
  joined_at: "2026-01-01T00:00:00.000Z",
  muted: false,
  volume: 1,
  on_program: true,
  on_air: false,
  ...more,
});
const solo = { mode: "solo" } as Channel;
const collab = { mode: "collab" } as Channel;

describe("the others", () => {
  it("are everybody else, the host first", () => {
    const later = { joined_at: "2026-01-01T00:00:09.000Z" };
    const all = [
      person("bob", later),
      person("me"),
      person("ann"),
      person("zoe", { role: "host", ...later }),
    ];
    expect(othersOf(all, "me").map(({ id }) => id)).toEqual(["zoe", "ann", "bob"]);
  });
});

describe("the light", () => {
  it("is dark before one is connected", () => {
    expect(airState(solo, undefined)).toBeUndefined();
    expect(airState(solo, person("me", { state: "connecting" }))).toBeUndefined();
    expect(airState(undefined, person("me"))).toBeUndefined();
  });

  it("says why one is not on air", () => {
    expect(airState(solo, person("me"))).toMatchObject({ onAir: false });
    expect(airState(solo, person("me"))?.detail).toContain("host alone");
    expect(airState({ ...solo, state: "away" }, person("me"))?.detail).toContain("away");
    expect(airState({ ...solo, state: "idle" }, person("me"))?.detail).toContain("not there yet");
    expect(airState(collab, person("me", { on_program: false }))?.detail).toContain(
      "taken you out",
    );
  });

  it("is on when viewers see one, and says when they do not hear one", () => {
    const me = person("me", { on_air: true });
    expect(airState(collab, me)).toMatchObject({ onAir: true, title: "On air" });
    expect(airState(collab, { ...me, muted: true })?.title).toContain("without sound");
    expect(airState(solo, { ...me, role: "host" })?.detail).toContain("alone");
  });
});

describe("in place of a picture", () => {
  it("stand two letters", () => {
    expect(["bob", "carol-from-town", "x", "a_b", "--"].map(initials)).toEqual([
      "BO",
      "CF",
      "X",
      "AB",
      "--",
    ]);
  });

  it("stand words that say what happens", () => {
    const snapshot = { attempt: 1, retryAtMs: undefined, liveSinceMs: undefined };
    const word = (phase: "waiting" | "live", status?: number) =>
      pictureWord({
        ...snapshot,
        phase,
        failure: status === undefined ? undefined : { status, message: "no" },
      });
    expect(word("live")).toBeUndefined();
    expect(word("waiting", 404)).toBe("Waiting for the picture");
    expect(word("waiting", 503)).toBe("Reconnecting");
  });
});
