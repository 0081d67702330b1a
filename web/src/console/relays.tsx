// The relays of the scheduler: where they are, how full, and which of them have which substream.

import { useEffect, useState } from "preact/hooks";
import { api } from "../api/client";
import type { Relay, RelayState, Relays } from "../api/types";
import * as format from "../lib/format";
import { ApiError, messageOf } from "../lib/problem";
import { Badge, Facts, Notice, type Tone } from "../ui/widgets";
import { byRegion, loadTone, type StreamSources, sourcesOf, totals } from "./relay-figures";
import { LIST_HREF } from "./route";

const READ_MS = 2_000;
/** Idle relays say how they are every 10 s. */
const SILENT_MS = 15_000;

const STATES: Record<RelayState, { word: string; tone: Tone }> = {
  ok: { word: "Takes players", tone: "ok" },
  full: { word: "Full", tone: "warn" },
  leaving: { word: "Leaving", tone: "neutral" },
  blocked: { word: "Blocked", tone: "bad" },
};

const expansion = (value: number | undefined) =>
  value === undefined || value === 0 ? format.DASH : `${value.toFixed(1)}×`;

function Tile({ relay }: { relay: Relay }) {
  const state =
    relay.silent_ms > SILENT_MS ? { word: "Silent", tone: "warn" as const } : STATES[relay.state];
  const sends = format.bitrate(relay.used_kbps * 1_000);
  const can = relay.capacity_kbps > 0 ? ` of ${format.bitrate(relay.capacity_kbps * 1_000)}` : "";
  return (
    <li class="relay" data-state={relay.state}>
      <div class="row row--between">
        <strong class="break">{relay.id}</strong>
        <Badge tone={state.tone}>{state.word}</Badge>
      </div>
      <meter
        class="relay__load"
        data-tone={loadTone(relay)}
        min={0}
        max={1}
        value={relay.load}
        aria-label={`Load of relay ${relay.id}`}
      />
      <p class="small relay__facts">
        <span>{format.percent(relay.load, 0)} full</span>
        <span>{format.plural(relay.sessions, "session")}</span>
        <span>γ {expansion(relay.expansion)}</span>
        <span>
          {sends}
          {can}
        </span>
      </p>
      <p class="small muted relay__facts">
        <code class="break">{relay.address}</code>
      </p>
    </li>
  );
}

function Sources({ stream }: { stream: StreamSources }) {
  return (
    <tr>
      <th scope="row" class="break">
        {stream.name}
      </th>
      {stream.substreams.map((relays, index) => (
        <td key={index}>
          {relays.length === 0 ? (
            <span class="muted">origin only</span>
          ) : (
            <span class="relay-chips">
              {relays.slice(0, 6).map((id) => (
                <span key={id} class="relay-chip">
                  {id}
                </span>
              ))}
              {relays.length > 6 ? <span class="muted">+{relays.length - 6}</span> : null}
            </span>
          )}
        </td>
      ))}
    </tr>
  );
}

function Streams({ relays }: { relays: readonly Relay[] }) {
  const streams = sourcesOf(relays);
  if (streams.length === 0) return null;
  const width = Math.max(...streams.map(({ substreams }) => substreams.length));
  const columns = Array.from({ length: width }, (_, index) => index);
  return (
    <section class="stack stack--tight" aria-label="Substreams">
      <h2>Who has which substream</h2>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by keyboard (WCAG 2.1.1) */}
      <section class="card relay-table" tabIndex={0} aria-label="Who has which substream">
        <table>
          <thead>
            <tr>
              <th scope="col">Stream</th>
              {columns.map((index) => (
                <th key={index} scope="col">
                  Substream {index}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {streams.map((stream) => (
              <Sources key={stream.name} stream={stream} />
            ))}
          </tbody>
        </table>
      </section>
    </section>
  );
}

function Known({ known }: { known: Relays }) {
  const { relays } = known;
  if (!known.scheduled) {
    return (
      <Notice title="No scheduler is configured">
        Relays carry substreams of a show to players. Start <code>anchornet scheduler</code> and a
        few <code>anchornet relay</code>, and set <code>origin.substreams.scheduler_url</code>.
      </Notice>
    );
  }
  if (relays.length === 0) {
    return (
      <Notice title="No relay has been heard yet">
        A relay that is told of the scheduler by <code>--scheduler</code> shows up here within ten
        seconds.
      </Notice>
    );
  }
  const sum = totals(relays);
  return (
    <>
      <Facts
        label="All relays"
        items={[
          { name: "Relays", value: known.known },
          { name: "Sessions", value: sum.sessions },
          { name: "Sending", value: format.bitrate(sum.kbps * 1_000) },
          { name: "Traffic expansion γ", value: expansion(sum.expansion) },
          { name: "Full", value: sum.full },
        ]}
      />
      {known.known > relays.length ? (
        <p class="small muted">The {relays.length} busiest are shown.</p>
      ) : null}
      <section class="relay-map" aria-label="Relays by region">
        {byRegion(relays).map(({ name, relays: inside }) => (
          <section key={name} class="relay-region" aria-label={name || "No region"}>
            <h2>
              {name || "No region"}{" "}
              <span class="muted small">{format.plural(inside.length, "relay")}</span>
            </h2>
            <ul class="relay-grid">
              {inside.map((relay) => (
                <Tile key={relay.id} relay={relay} />
              ))}
            </ul>
          </section>
        ))}
      </section>
      <Streams relays={relays} />
    </>
  );
}

export function RelaysPage() {
  const [known, setKnown] = useState<Relays>();
  const [error, setError] = useState<string>();
  useEffect(() => {
    const stop = new AbortController();
    const read = async () => {
      try {
        setKnown(await api.relays(stop.signal));
        setError(undefined);
      } catch (failure) {
        if (stop.signal.aborted) return;
        const denied = failure instanceof ApiError && [401, 403].includes(failure.status);
        setError(denied ? "Relays are shown to who has a token with admin" : messageOf(failure));
      }
    };
    void read();
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") void read();
    }, READ_MS);
    return () => {
      clearInterval(timer);
      stop.abort();
    };
  }, []);
  return (
    <div class="stack">
      <div class="row row--between">
        <h1>Relays</h1>
        <a href={LIST_HREF}>All channels</a>
      </div>
      {error ? (
        <Notice tone="bad" role="alert" title={error}>
          {known ? "What you see may be old." : ""}
        </Notice>
      ) : null}
      {known ? <Known known={known} /> : error ? null : <p class="muted">Asking the scheduler…</p>}
    </div>
  );
}
