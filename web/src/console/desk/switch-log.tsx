// What was on air when, and how every switch went: the proof that nobody noticed.

import type { Channel, SwitchRecord } from "../../api/types";
import * as format from "../../lib/format";
import { Badge } from "../../ui/widgets";
import { nowMs } from "../clock";

/** As many as fit without scrolling a phone for ever; the server keeps more. */
const SHOWN = 12;
const STRIP_MS = 15 * 60_000;

export interface Stretch {
  readonly mode: "solo" | "collab";
  /** Parts of the whole, 0 to 1. */
  readonly from: number;
  readonly to: number;
}

/** What was on air in the `spanMs` before `nowAtMs`, oldest first. */
export function stretches(
  switches: readonly SwitchRecord[],
  liveSinceMs: number | undefined,
  nowAtMs: number,
  spanMs: number,
): Stretch[] {
  if (liveSinceMs === undefined) return [];
  const startMs = nowAtMs - spanMs;
  const part = (ms: number) => Math.min(1, Math.max(0, (ms - startMs) / spanMs));
  const first = switches[0];
  // Before the first one that is known, it was the other mode.
  let mode: Stretch["mode"] = first?.mode === "solo" ? "collab" : "solo";
  let from = liveSinceMs;
  const result: Stretch[] = [];
  const add = (untilMs: number) => {
    const stretch = { mode, from: part(from), to: part(untilMs) };
    if (stretch.to > stretch.from) result.push(stretch);
  };
  for (const record of switches) {
    const cutMs = Date.parse(record.requested_at) + (record.cut?.waited_ms ?? 0);
    if (cutMs < liveSinceMs) {
      mode = record.mode;
      continue;
    }
    add(cutMs);
    mode = record.mode;
    from = cutMs;
  }
  add(nowAtMs);
  return result;
}

function Strip({ parts }: { parts: readonly Stretch[] }) {
  return (
    <figure class="strip">
      <svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" focusable="false">
        {parts.map(({ mode, from, to }) => (
          <rect
            key={from}
            class={`strip__${mode}`}
            x={from * 100}
            width={(to - from) * 100}
            y={mode === "collab" ? 0 : 2}
            height={mode === "collab" ? 6 : 4}
          />
        ))}
      </svg>
      <figcaption class="row row--between small muted">
        <span>15 minutes ago</span>
        <span class="row">
          <span class="strip__key strip__key--solo">Solo</span>
          <span class="strip__key strip__key--collab">Collab</span>
        </span>
        <span>now</span>
      </figcaption>
    </figure>
  );
}

function gapText({ splice }: SwitchRecord): string {
  if (!splice) return format.DASH;
  const { gap_samples: gap, overlap_samples: overlap } = splice;
  if (gap === 0 && overlap === 0) return "none";
  return format.plural(gap + overlap, "sample");
}

export function SwitchLog(props: { channel: Channel; switches: readonly SwitchRecord[] }) {
  const { channel, switches } = props;
  const since = channel.live_since === undefined ? undefined : Date.parse(channel.live_since);
  const parts = stretches(switches, since, nowMs.value, STRIP_MS);
  const newest = [...switches].reverse().slice(0, SHOWN);
  return (
    <section class="card stack" aria-label="Switches">
      <div class="row">
        <h2>Switches</h2>
        {switches.length > 0 ? (
          <span class="muted">{format.count(switches.at(-1)?.number)} in this channel</span>
        ) : null}
      </div>
      {channel.state === "idle" ? null : <Strip parts={parts} />}
      {newest.length === 0 ? (
        <p class="muted">None yet. Every switch is listed here with how long it took.</p>
      ) : (
        <table class="table">
          <thead>
            <tr>
              <th scope="col">Time</th>
              <th scope="col">To</th>
              <th scope="col" class="table__number">
                Cut after
              </th>
              <th scope="col" class="table__number">
                Gap in sound
              </th>
            </tr>
          </thead>
          <tbody>
            {newest.map((record) => (
              <tr key={record.number}>
                <td>{new Date(record.requested_at).toLocaleTimeString()}</td>
                <td>
                  <Badge plain>{record.mode === "solo" ? "Solo" : "Collab"}</Badge>
                </td>
                <td class="table__number">
                  {record.cut ? format.millis(record.cut.waited_ms) : "no cut needed"}
                </td>
                <td class="table__number">{gapText(record)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}
