import { afterEach, describe, expect, it, vi } from "vitest";
import { api } from "../api/client";
import type { Channel } from "../api/types";
import { Store } from "./store";

const channel = (id: string, more: Partial<Channel> = {}): Channel => ({
  id,
  title: "",
  mode: "solo",
  layout: { name: "grid", tiles: [] },
  order: [],
  state: "live",
  node: "node",
  created_at: "2024-01-01T00:00:00Z",
  participants: 1,
  destinations: 1,
  viewers: { total: 0, flv: 0, ws_flv: 0, hls: 0, rtmp: 0, whep: 0 },
  playback: { flv: "", ws_flv: "", hls: "" },
  ...more,
});

describe("the list of channels", () => {
  afterEach(() => vi.restoreAllMocks());

  it("does not take back what was chosen while it was on its way", async () => {
    let answer: (listed: Channel[]) => void = () => {};
    vi.spyOn(api, "channels").mockImplementation(
      () => new Promise((resolve) => (answer = resolve)),
    );
    const store = new Store();
    const refreshed = store.refresh();
    store.putChannel(channel("demo", { mode: "collab" }));
    answer([channel("demo"), channel("other", { mode: "collab" })]);
    await refreshed;
    expect(store.channels.value?.map(({ id, mode }) => [id, mode])).toEqual([
      ["demo", "collab"],
      ["other", "collab"],
    ]);
  });

  it("is believed again by the next one", async () => {
    const listed = vi.spyOn(api, "channels");
    const store = new Store();
    store.putChannel(channel("demo", { mode: "collab" }));
    listed.mockResolvedValue([channel("demo")]);
    await store.refresh();
    expect(store.channels.value?.[0]?.mode).toBe("solo");
  });
});
