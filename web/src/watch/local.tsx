// Where each substream comes from, when the page plays from `anchornet play` on this machine (`?local=8090`).

import { useEffect, useState } from "preact/hooks";
import * as format from "../lib/format";
import { Badge, Facts, Notice, type Tone } from "../ui/widgets";

const READ_MS = 1_000;

interface Substream {
  readonly source: "origin" | "trying" | "relay";
  readonly relay: string | null;
  readonly rtt_ms: number | null;
}

/** What the local player says about itself; more than is shown here. */
export interface LocalStats {
  readonly buffer_ms: number;
  readonly fallback: boolean;
  readonly substreams: readonly Substream[];
  readonly relay_bytes: number;
  readonly origin_bytes: number;
}

export const localUrl = (port: number, path: string) => `http://127.0.0.1:${port}${path}`;

/** The port of `?local=`; undefined when there is none. */
export function localPort(text: string | null): number | undefined {
  const port = Number(text ?? "");
  return Number.isInteger(port) && port > 0 && port < 65_536 ? port : undefined;
}

const LOOKS: Record<Substream["source"], { word: string; tone: Tone }> = {
  relay: { word: "Relay", tone: "ok" },
  trying: { word: "Origin, asking relays", tone: "warn" },
  origin: { word: "Origin", tone: "neutral" },
};

function Source({ index, from }: { index: number; from: Substream }) {
  const look = LOOKS[from.source];
  return (
    <li class="local-source">
      <strong>Substream {index}</strong>
      <Badge tone={look.tone}>{look.word}</Badge>
      <span class="small muted">
        {from.source === "relay" && from.relay ? <code>{from.relay}</code> : null}{" "}
        {from.source === "relay" ? format.millis(from.rtt_ms) : ""}
      </span>
    </li>
  );
}

/** The part that relays have brought. */
export function relayShare(stats: LocalStats): number | undefined {
  const all = stats.relay_bytes + stats.origin_bytes;
  return all > 0 ? stats.relay_bytes / all : undefined;
}

export function LocalSources({ port }: { port: number }) {
  const [stats, setStats] = useState<LocalStats>();
  const [lost, setLost] = useState(false);
  useEffect(() => {
    const read = async () => {
      try {
        const answer = await fetch(localUrl(port, "/stats"), { cache: "no-store" });
        setStats((await answer.json()) as LocalStats);
        setLost(false);
      } catch {
        setLost(true);
      }
    };
    void read();
    const timer = setInterval(() => void read(), READ_MS);
    return () => clearInterval(timer);
  }, [port]);
  return (
    <section class="card stack" aria-label="Sources">
      <h2>Where it comes from</h2>
      {lost ? (
        <Notice tone="bad" role="alert" title="The local player does not answer">
          Start it with <code>anchornet play … --listen 127.0.0.1:{port}</code>
        </Notice>
      ) : null}
      {stats ? (
        <>
          <ul class="local-sources">
            {stats.substreams.map((from, index) => (
              <Source key={`${index}`} index={index} from={from} />
            ))}
          </ul>
          <Facts
            items={[
              { name: "From relays", value: format.percent(relayShare(stats), 0) },
              { name: "Player's buffer", value: format.millis(stats.buffer_ms) },
              { name: "Everything from the origin", value: stats.fallback ? "yes" : "no" },
            ]}
          />
        </>
      ) : null}
    </section>
  );
}
