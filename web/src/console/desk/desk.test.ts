import { describe, expect, it } from "vitest";
import type { Channel, LayoutName, Participant } from "../../api/types";
import { ApiError, NetworkError } from "../../lib/problem";
import { castOf, moved, obstacle, participantsOf, seats } from "./cast";
import { Desk, refusal, type Surroundings, type Undo } from "./desk";
import { tilesOf } from "./layouts";
import { actionOf } from "./shortcuts";
import { stretches } from "./switch-log";
import { movedTile, resizedTile, tilesFor, toFront } from "./tiles";

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

const HOST = person("zoe", { role: "host", joined_at: "2026-01-01T00:05:00.000Z" });
const ANN = person("ann");
const BOB = person("bob", { joined_at: "2026-01-01T00:01:00.000Z" });
const ALL = [BOB, ANN, HOST];
const CHANNEL = {
  id: "demo",
  mode: "solo",
  state: "live",
  layout: { name: "grid", tiles: [] },
  order: [],
} as unknown as Channel;

describe("the cast", () => {
  it("is the host, then guests as they came", () => {
    expect(castOf(seats(ALL, []))).toEqual(["zoe", "ann", "bob"]);
  });

  it("follows the order, with the host always in", () => {
    expect(castOf(seats(ALL, ["bob", "zoe", "ann"]))).toEqual(["bob", "zoe", "ann"]);
    expect(castOf(seats(ALL, ["bob"]))).toEqual(["zoe", "bob"]);
  });

  it("leaves out who is away or off the program, and lists them last", () => {
    const all = [
      HOST,
      person("ann", { on_program: false }),
      person("bob", { state: "connecting" }),
    ];
    const list = seats(all, []);
    expect(castOf(list)).toEqual(["zoe"]);
    expect(list.map(({ place }) => place)).toEqual([1, undefined, undefined]);
  });

  it("is at most what the mixer draws", () => {
    const crowd = Array.from({ length: 20 }, (_, n) => person(`g${String(n).padStart(2, "0")}`));
    expect(castOf(seats([HOST, ...crowd], []))).toHaveLength(16);
  });

  it("moves one place at a time, not beyond the ends", () => {
    expect(moved(["a", "b", "c"], "b", -1)).toEqual(["b", "a", "c"]);
    expect(moved(["a", "b", "c"], "b", 1)).toEqual(["a", "c", "b"]);
    expect(moved(["a", "b"], "a", -1)).toBeUndefined();
    expect(moved(["a", "b"], "b", 1)).toBeUndefined();
    expect(moved(["a"], "x", 1)).toBeUndefined();
  });

  it("is named in a request only when there is an order with a guest in it", () => {
    expect(participantsOf([], ALL)).toBeUndefined();
    expect(participantsOf(["gone", "bob"], ALL)).toEqual(["bob"]);
    expect(participantsOf(["gone", "zoe"], ALL)).toBeUndefined();
  });

  it("says what is missing for a collab", () => {
    expect(obstacle(CHANNEL, seats(ALL, []))).toBeUndefined();
    expect(obstacle(CHANNEL, seats([HOST], []))).toBe("no-guest");
    expect(obstacle(CHANNEL, seats([ANN], []))).toBe("no-host");
    expect(obstacle({ ...CHANNEL, state: "idle" }, seats(ALL, []))).toBe("no-host");
  });
});

describe("drawn layouts", () => {
  const names: LayoutName[] = ["grid", "side-by-side", "speaker", "pip"];
  it.each(names)("%s: every tile lies inside the picture", (name) => {
    for (let count = 0; count <= 20; count += 1) {
      const tiles = tilesOf({ name, tiles: [] }, count);
      expect(tiles).toHaveLength(Math.min(count, 16));
      for (const { x, y, width, height } of tiles) {
        expect(Math.min(x, y)).toBeGreaterThanOrEqual(-1e-9);
        expect(Math.max(x + width, y + height)).toBeLessThanOrEqual(1 + 1e-9);
        expect(Math.min(width, height)).toBeGreaterThan(0);
      }
    }
  });

  it("is what the mixer makes of two and three", () => {
    const [left, right] = tilesOf({ name: "grid", tiles: [] }, 2);
    expect(left?.width).toBeCloseTo(635 / 1280, 2);
    expect(left?.y).toBeCloseTo(182 / 720, 2);
    expect(right?.x).toBeCloseTo(645 / 1280, 2);
    const three = tilesOf({ name: "grid", tiles: [] }, 3);
    expect(three[2]?.x).toBeCloseTo((1 - (three[2]?.width ?? 0)) / 2, 5);
  });
});

describe("tiles by hand", () => {
  const tile = { participant: "ann", x: 0.5, y: 0.5, width: 0.25, height: 0.25 };
  const inside = ({ x, y, width, height }: typeof tile) =>
    x >= 0 && y >= 0 && x + width <= 1 && y + height <= 1 && width > 0 && height > 0;

  it("stay inside the picture and large enough, whatever is done to them", () => {
    for (const step of [-2, -0.3, -0.01, 0, 0.01, 0.3, 2]) {
      for (const other of [-2, 0, 0.4]) {
        expect(movedTile(tile, step, other)).toSatisfy(inside);
        expect(resizedTile(tile, step, other)).toSatisfy(inside);
      }
    }
    expect(resizedTile(tile, 9, 9)).toMatchObject({ x: 0.5, y: 0.5, width: 0.5, height: 0.5 });
  });

  it("begin as the layout has them; newcomers lie in a corner of an arranged picture", () => {
    const rects = tilesOf({ name: "side-by-side", tiles: [] }, 2);
    expect(tilesFor(["ann", "bob"], [], rects)).toMatchObject([
      { participant: "ann", x: 0 },
      { participant: "bob", x: 0.5 },
    ]);
    const kept = tilesFor(["ann", "bob"], [tile, { ...tile, participant: "gone" }], rects);
    expect(kept[0]).toEqual(tile);
    expect(kept).toHaveLength(2);
    expect(kept[1]?.width).toBeCloseTo(0.25);
  });

  it("come to the front", () => {
    const all = ["a", "b", "c"].map((participant) => ({ ...tile, participant }));
    expect(toFront(all, "a").map(({ participant }) => participant)).toEqual(["b", "c", "a"]);
  });
});

describe("the timeline", () => {
  const NOW = Date.parse("2026-01-01T01:00:00.000Z");
  const record = (number: number, mode: "solo" | "collab", agoS: number) => ({
    number,
    mode,
    requested_at: new Date(NOW - agoS * 1000).toISOString(),
    cut: null,
    splice: null,
  });
  const span = 100_000;
  const draw = (switches: ReturnType<typeof record>[], liveAgoS: number | undefined) =>
    stretches(switches, liveAgoS === undefined ? undefined : NOW - liveAgoS * 1000, NOW, span).map(
      ({ mode, from, to }) => `${mode} ${Math.round(from * 100)}-${Math.round(to * 100)}`,
    );

  it("is what was on air since it went live", () => {
    expect(draw([], undefined)).toEqual([]);
    expect(draw([], 500)).toEqual(["solo 0-100"]);
    expect(draw([], 40)).toEqual(["solo 60-100"]);
    expect(draw([record(1, "collab", 50), record(2, "solo", 20)], 80)).toEqual([
      "solo 20-50",
      "collab 50-80",
      "solo 80-100",
    ]);
  });

  it("knows the mode before the oldest switch in the list", () => {
    expect(draw([record(51, "solo", 30)], 500)).toEqual(["collab 0-70", "solo 70-100"]);
    expect(draw([record(1, "collab", 300)], 500)).toEqual(["collab 0-100"]);
    expect(draw([record(1, "collab", 300), record(2, "solo", 200)], 90)).toEqual(["solo 10-100"]);
  });
});

/** A desk with a server that notes what it is asked, or refuses. */
function setUp(channel: Partial<Channel> = {}, fail?: unknown) {
  const state = { channel: { ...CHANNEL, ...channel } as Channel, people: ALL };
  const asked: unknown[] = [];
  const said: { text: string; undo: Undo | undefined }[] = [];
  const ask = (what: unknown) => {
    asked.push(what);
    if (fail) throw fail;
  };
  const around: Surroundings = {
    api: {
      setMode: async (_, request) => {
        ask(request);
        const changed = state.channel.mode !== request.mode;
        state.channel = {
          ...state.channel,
          mode: request.mode,
          order: request.participants ?? [],
        };
        const cut = { video_dts_ms: 1, audio_dts_ms: 1, waited_ms: 143.4 };
        return {
          mode: request.mode,
          changed,
          requested_at: "",
          cut: changed ? cut : null,
          splice: null,
        };
      },
      setLayout: async (_, layout) => {
        ask(layout);
        return layout;
      },
      changeParticipant: async (_, id, patch) => {
        ask({ id, ...patch });
        return undefined;
      },
    },
    channel: () => state.channel,
    participants: () => state.people,
    onChannel: (next) => {
      state.channel = next;
    },
    onParticipant: (next) => {
      state.people = state.people.map((p) => (p.id === next.id ? { ...p, ...next } : p));
    },
    refresh: () => undefined,
    say: (text, undo) => said.push({ text, undo }),
    nowMs: () => 0,
  };
  return { desk: new Desk(around), state, asked, said };
}

describe("the desk", () => {
  it("switches, says how long it took, and goes back by undo", async () => {
    const { desk, asked, said } = setUp();
    const switching = desk.switchTo("collab");
    expect(desk.pending.value?.mode).toBe("collab");
    await desk.switchTo("solo");
    await switching;
    expect(desk.pending.value).toBeUndefined();
    expect(desk.outcome.value).toEqual({
      kind: "done",
      text: "Collab is on air. Cut after 143 ms.",
    });
    expect(said[0]?.undo?.label).toBe("Back to solo");
    await desk.undoLast();
    expect(asked).toEqual([{ mode: "collab" }, { mode: "solo" }]);
  });

  it("says that nothing had to change, and offers no way back from it", async () => {
    const { desk, said } = setUp({ mode: "collab" });
    await desk.switchTo("collab");
    expect(desk.outcome.value).toMatchObject({ text: "Collab was on air already." });
    expect(said).toEqual([]);
  });

  it("keeps an order made in solo for the collab", async () => {
    const { desk, asked } = setUp();
    await desk.move("bob", -1);
    expect(asked).toEqual([]);
    expect(desk.order).toEqual(["zoe", "bob", "ann"]);
    await desk.switchTo("collab");
    expect(asked).toEqual([{ mode: "collab", participants: ["zoe", "bob", "ann"] }]);
    expect(desk.draft.value).toBeUndefined();
    expect(desk.order).toEqual(["zoe", "bob", "ann"]);
  });

  it("changes the order of a running collab, and back", async () => {
    const { desk, asked, state } = setUp({ mode: "collab" });
    await desk.move("ann", 1);
    expect(asked).toEqual([{ mode: "collab", participants: ["zoe", "bob", "ann"] }]);
    await desk.undoLast();
    expect(asked[1]).toEqual({ mode: "collab" });
    expect(state.channel.order).toEqual([]);
  });

  it("adds somebody to an order at its end", async () => {
    const { desk, asked } = setUp({ mode: "collab", order: ["zoe", "bob"] });
    await desk.setInMix(ANN, true);
    expect(asked).toEqual([{ mode: "collab", participants: ["zoe", "bob", "ann"] }]);
  });

  it("mutes, and undo unmutes; an undo can be undone", async () => {
    const { desk, asked, state } = setUp();
    await desk.setMuted(BOB, true);
    expect(state.people.find(({ id }) => id === "bob")?.muted).toBe(true);
    await desk.undoLast();
    await desk.undoLast();
    expect(asked).toEqual([true, false, true].map((muted) => ({ id: "bob", muted })));
  });

  it("takes an action back once, from the toast or by key", async () => {
    const { desk, asked, said } = setUp();
    await desk.setInMix(BOB, false);
    await said[0]?.undo?.run();
    expect(asked).toHaveLength(2);
    expect(desk.undo.value?.label).toBe("Undo");
  });

  it("keeps the background when the layout changes", async () => {
    const { desk, asked } = setUp({ layout: { name: "grid", tiles: [], background: "#102030" } });
    await desk.setLayout("pip");
    await desk.setLayout("pip");
    await desk.setBackground("#000000");
    expect(asked).toEqual([
      { name: "pip", tiles: [], background: "#102030" },
      { name: "pip", tiles: [], background: "#000000" },
    ]);
  });

  it("tells why something did not happen", async () => {
    const { desk, said } = setUp({}, new ApiError(404, { detail: "no such participant" }));
    await desk.setVolume(BOB, 0.5);
    expect(said[0]?.text).toBe("bob stays as before: no such participant");
    expect(desk.undo.value).toBeUndefined();
  });

  it("a refused switch says what helps", async () => {
    const { desk } = setUp({}, new ApiError(409, { detail: "no live guest" }));
    await desk.switchTo("collab");
    expect(desk.outcome.value).toMatchObject({
      kind: "refused",
      detail: "no live guest",
      remedy: "invite",
    });
    expect(refusal("collab", new ApiError(503, {}))).toMatchObject({ remedy: "retry" });
    expect(refusal("solo", new ApiError(409, {}))).toMatchObject({ remedy: undefined });
    expect(refusal("collab", new NetworkError())).toMatchObject({ remedy: "retry" });
  });
});

describe("keys", () => {
  it("do what the list of keys says, and nothing else", async () => {
    const { desk, asked } = setUp();
    const opened: string[] = [];
    const keys = { desk, invite: () => opened.push("invite"), help: () => opened.push("help") };
    for (const key of ["4", "i", "?"]) actionOf(key, keys)?.();
    expect(opened).toEqual(["invite", "help"]);
    expect(asked).toEqual([{ name: "pip", tiles: [] }]);
    for (const key of ["5", "0", "x", "C", "Enter"]) expect(actionOf(key, keys)).toBeUndefined();
  });
});
