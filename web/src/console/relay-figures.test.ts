import { describe, expect, it } from "vitest";
import type { Relay } from "../api/types";
import { byRegion, loadTone, sourcesOf, totals } from "./relay-figures";

const relay = (id: string, more: Partial<Relay> = {}): Relay => ({
  id,
  address: "192.0.2.1:4100",
  region: "",
  load: 0,
  sessions: 0,
  used_kbps: 0,
  capacity_kbps: 0,
  expansion: 0,
  state: "ok",
  silent_ms: 0,
  serves: [],
  ...more,
});

describe("relays", () => {
  it("stand in regions, the busiest first and those of none last", () => {
    const regions = byRegion([
      relay("a"),
      relay("b", { region: "south", load: 0.1 }),
      relay("c", { region: "south", load: 0.7 }),
      relay("d", { region: "north" }),
    ]);
    expect(regions.map(({ name }) => name)).toEqual(["north", "south", ""]);
    expect(regions[1]?.relays.map(({ id }) => id)).toEqual(["c", "b"]);
  });

  it("expand by bytes, not by relays", () => {
    const sum = totals([
      relay("a", { used_kbps: 9_000, expansion: 9, sessions: 4 }),
      relay("b", { used_kbps: 1_000, expansion: 1, sessions: 1, state: "full" }),
      relay("c", { used_kbps: 500 }),
    ]);
    expect(sum).toEqual({ sessions: 5, kbps: 10_500, expansion: 5, full: 1 });
    expect(totals([]).expansion).toBeUndefined();
  });

  it("are listed by the substreams that they have", () => {
    const serves = (substreams: number[]) => [{ stream: "demo", substreams }];
    const sources = sourcesOf([
      relay("a", { serves: serves([0, 2]) }),
      relay("b", { serves: serves([2, 5]) }),
    ]);
    expect(sources).toEqual([{ name: "demo", substreams: [["a"], [], ["a", "b"], [], [], ["b"]] }]);
  });

  it("are coloured by their load", () => {
    expect([0.1, 0.8, 0.96].map((load) => loadTone({ load }))).toEqual(["ok", "warn", "bad"]);
  });
});
