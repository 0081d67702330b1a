// Health of the node as a badge that opens the single checks, and the nodes of the cluster.

import { useState } from "preact/hooks";
import * as format from "../lib/format";
import { Badge, Dialog, Notice } from "../ui/widgets";
import { nowMs } from "./clock";
import { RELAYS_HREF } from "./route";
import { readinessLook } from "./states";
import type { Store } from "./store";

/** A node that was not heard of for this long is probably gone. */
const SILENT_MS = 15_000;
const TONES = { ok: "ok", degraded: "warn", failed: "bad" } as const;
const WORDS = { ok: "OK", degraded: "Degraded", failed: "Failed" } as const;

function Checks({ store }: { store: Store }) {
  const readiness = store.readiness.value;
  if (!readiness) return <p class="muted">The server has not said how it is.</p>;
  return (
    <ul class="stack stack--tight">
      {readiness.checks.map((check) => (
        <li key={check.name} class="row row--between">
          <span>
            <strong>{check.name}</strong>
            {check.detail ? <span class="muted small"> {check.detail}</span> : null}
          </span>
          <Badge tone={TONES[check.status]}>{WORDS[check.status]}</Badge>
        </li>
      ))}
    </ul>
  );
}

function Nodes({ store }: { store: Store }) {
  const nodes = store.nodes.value;
  if (nodes.length === 0) return null;
  return (
    <>
      <h3>Nodes</h3>
      <ul class="stack stack--tight">
        {nodes.map((node) => {
          const silent = nowMs.value - Date.parse(node.seen_at) > SILENT_MS;
          return (
            <li key={node.id} class="node">
              <div class="row row--between">
                <strong class="break">{node.id}</strong>
                {silent ? <Badge tone="warn">Silent</Badge> : <Badge tone="ok">Seen</Badge>}
              </div>
              <p class="small muted channel-card__facts">
                <span>{node.roles.join(" and ")}</span>
                <span>version {node.version}</span>
                <span>{format.plural(node.channels, "channel")}</span>
                <span>{format.plural(node.sessions, "session")}</span>
                <span>up {format.duration(nowMs.value - Date.parse(node.started_at))}</span>
                <code class="break">{node.url}</code>
              </p>
            </li>
          );
        })}
      </ul>
    </>
  );
}

export function Health({ store }: { store: Store }) {
  const [open, setOpen] = useState(false);
  const look = readinessLook(store.readiness.value, !store.unreachable.value);
  return (
    <>
      <button
        type="button"
        class="badge"
        data-tone={look.tone}
        aria-haspopup="dialog"
        onClick={() => setOpen(true)}
      >
        {look.word}
      </button>
      {open ? (
        <Dialog title="Health" onClose={() => setOpen(false)}>
          {store.unreachable.value ? (
            <Notice tone="bad">The server cannot be reached. What is shown may be old.</Notice>
          ) : null}
          <Checks store={store} />
          <Nodes store={store} />
          <p>
            <a href={RELAYS_HREF} onClick={() => setOpen(false)}>
              Relays of the scheduler
            </a>
          </p>
          <p class="small muted">
            {store.stream.value === "open"
              ? "Changes are shown as they happen."
              : "No event stream at the moment; the page asks every few seconds."}
          </p>
          <div class="dialog__actions">
            <button type="button" class="btn btn--primary" onClick={() => setOpen(false)}>
              Close
            </button>
          </div>
        </Dialog>
      ) : null}
    </>
  );
}
