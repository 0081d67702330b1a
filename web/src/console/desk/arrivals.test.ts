import { describe, expect, it } from "vitest";
import type { IngestStats, ParticipantStats } from "../../api/types";
import { Arrivals } from "./arrivals";

function person(id: string, counts: Partial<IngestStats>): ParticipantStats {
  const ingest: Partial<IngestStats> = {
    video_bitrate_bps: 900_000,
    audio_bitrate_bps: 100_000,
    packets_received: 0,
    packets_lost: 0,
    packets_repaired: 0,
    rtt_ms: 40,
    jitter_ms: 3,
    ...counts,
  };
  return { id, ingest } as ParticipantStats;
}

describe("Arrivals", () => {
  it("says which share was missing between two snapshots", () => {
    const arrivals = new Arrivals(60_000);
    arrivals.push(0, [person("ann", { packets_received: 1_000 })]);
    arrivals.push(500, [person("ann", { packets_received: 1_050, packets_lost: 3 })]);
    const counts = { packets_received: 1_190, packets_lost: 10, packets_repaired: 30 };
    arrivals.push(2_000, [person("ann", counts)]);
    const ann = arrivals.of("ann");
    expect(ann?.bitrate.points.map(({ value }) => value)).toEqual([1e6, 1e6, 1e6]);
    expect(ann?.missing.points).toEqual([{ atMs: 2_000, value: 0.2 }]);
    expect(ann?.lost.points).toEqual([{ atMs: 2_000, value: 0.05 }]);
  });

  it("begins again with a new session and forgets who left", () => {
    const arrivals = new Arrivals(60_000);
    arrivals.push(0, [person("ann", { packets_received: 9_000 }), person("bob", {})]);
    arrivals.push(3_000, [person("ann", { packets_received: 10 })]);
    expect(arrivals.of("ann")?.missing.points).toEqual([]);
    expect(arrivals.of("bob")).toBeUndefined();
    arrivals.push(5_000, [person("ann", { packets_received: 110 })]);
    expect(arrivals.of("ann")?.missing.last?.value).toBe(0);
  });
});
