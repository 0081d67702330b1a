// What the page of relays counts.

import type { Relay } from "../api/types";

export interface Region {
  readonly name: string;
  readonly relays: readonly Relay[];
}

/** By name, those of no region last; the busiest relay of each first. */
export function byRegion(relays: readonly Relay[]): readonly Region[] {
  const regions = new Map<string, Relay[]>();
  for (const relay of relays) {
    const inside = regions.get(relay.region) ?? [];
    inside.push(relay);
    regions.set(relay.region, inside);
  }
  const order = (name: string) => (name === "" ? "\uffff" : name);
  return [...regions]
    .sort(([a], [b]) => order(a).localeCompare(order(b)))
    .map(([name, inside]) => ({
      name,
      relays: inside.sort((a, b) => b.load - a.load || a.id.localeCompare(b.id)),
    }));
}

export interface Totals {
  readonly sessions: number;
  readonly kbps: number;
  /** Bytes sent for one taken from the origin, over all; undefined when nothing is known. */
  readonly expansion: number | undefined;
  readonly full: number;
}

export function totals(relays: readonly Relay[]): Totals {
  const add = (of: (relay: Relay) => number) => relays.reduce((sum, one) => sum + of(one), 0);
  const measured = relays.filter(({ expansion, used_kbps }) => expansion > 0 && used_kbps > 0);
  const sent = measured.reduce((sum, one) => sum + one.used_kbps, 0);
  const taken = measured.reduce((sum, one) => sum + one.used_kbps / one.expansion, 0);
  return {
    sessions: add(({ sessions }) => sessions),
    kbps: add(({ used_kbps }) => used_kbps),
    expansion: taken > 0 ? sent / taken : undefined,
    full: relays.filter(({ state }) => state === "full").length,
  };
}

export interface StreamSources {
  readonly name: string;
  /** For each substream the relays that have it. */
  readonly substreams: readonly (readonly string[])[];
}

/** Four substreams at least: as many as the origin splits into by default. */
const USUAL = 4;

export function sourcesOf(relays: readonly Relay[]): readonly StreamSources[] {
  const streams = new Map<string, string[][]>();
  for (const relay of relays) {
    for (const { stream, substreams } of relay.serves) {
      const sources = streams.get(stream) ?? Array.from({ length: USUAL }, (): string[] => []);
      for (const substream of substreams) {
        while (sources.length <= substream) sources.push([]);
        sources[substream]?.push(relay.id);
      }
      streams.set(stream, sources);
    }
  }
  return [...streams]
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([name, substreams]) => ({ name, substreams }));
}

export const loadTone = ({ load }: Pick<Relay, "load">) =>
  load >= 0.95 ? "bad" : load >= 0.75 ? "warn" : "ok";
