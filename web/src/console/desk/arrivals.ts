// How every participant's media has arrived over the last minutes, from one snapshot of the statistics to the next.

import type { IngestStats, ParticipantStats } from "../../api/types";
import { Series } from "../../charts/series";

export interface Arrival {
  readonly bitrate: Series;
  /** Share of packets that were missing at first, 0 to 1. */
  readonly missing: Series;
  /** Share that was missing for good. */
  readonly lost: Series;
  readonly rtt: Series;
  readonly jitter: Series;
}

/** Over a shorter time one lost packet would be a peak. */
const SHARE_MS = 2_000;

interface Counted {
  readonly atMs: number;
  readonly ingest: IngestStats;
}

export class Arrivals {
  readonly #spanMs: number;
  readonly #known = new Map<string, { readonly arrival: Arrival; counted: Counted }>();

  constructor(spanMs: number) {
    this.#spanMs = spanMs;
  }

  of(participant: string): Arrival | undefined {
    return this.#known.get(participant)?.arrival;
  }

  /** Takes a snapshot; who is not in it is forgotten. */
  push(atMs: number, participants: readonly ParticipantStats[]): void {
    const here = new Set(participants.map(({ id }) => id));
    for (const id of this.#known.keys()) if (!here.has(id)) this.#known.delete(id);
    for (const { id, ingest } of participants) {
      const known = this.#known.get(id) ?? {
        arrival: this.#fresh(),
        counted: { atMs, ingest },
      };
      this.#known.set(id, known);
      const { arrival, counted } = known;
      arrival.bitrate.push(atMs, ingest.video_bitrate_bps + ingest.audio_bitrate_bps);
      arrival.rtt.push(atMs, ingest.rtt_ms);
      arrival.jitter.push(atMs, ingest.jitter_ms);
      // Another session begins to count anew.
      const restarted = ingest.packets_received < counted.ingest.packets_received;
      if (!restarted && atMs - counted.atMs < SHARE_MS) continue;
      if (!restarted) {
        const lost = ingest.packets_lost - counted.ingest.packets_lost;
        const repaired = ingest.packets_repaired - counted.ingest.packets_repaired;
        const all = ingest.packets_received - counted.ingest.packets_received + lost;
        arrival.missing.push(atMs, all > 0 ? Math.max(0, lost + repaired) / all : 0);
        arrival.lost.push(atMs, all > 0 ? Math.max(0, lost) / all : 0);
      }
      known.counted = { atMs, ingest };
    }
  }

  #fresh(): Arrival {
    const series = () => new Series(this.#spanMs);
    return {
      bitrate: series(),
      missing: series(),
      lost: series(),
      rtt: series(),
      jitter: series(),
    };
  }
}
