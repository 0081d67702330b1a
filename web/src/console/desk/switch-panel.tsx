// The one big switch: what viewers get, what changes it, and how the last change went.

import { useEffect, useState } from "preact/hooks";
import type { Channel, ChannelStats, LayoutName, Mode } from "../../api/types";
import * as format from "../../lib/format";
import { layoutWord } from "../../lib/layout-words";
import { Icon, type IconName } from "../../ui/icon";
import { Notice } from "../../ui/widgets";
import { castOf, obstacle, type Seat } from "./cast";
import type { Desk, Outcome } from "./desk";
import { LAYOUTS, tilesOf } from "./layouts";
import { TileEditor } from "./tile-editor";

type RefusedOutcome = Extract<Outcome, { kind: "refused" }>;

interface Props {
  readonly desk: Desk;
  readonly channel: Channel;
  readonly seats: readonly Seat[];
  readonly stats: ChannelStats | undefined;
  readonly onInvite: () => void;
}

function ModeButton(props: {
  desk: Desk;
  mode: Mode;
  on: boolean;
  /** Viewers get something at all. */
  live: boolean;
  icon: IconName;
  note: string;
  shortcut: string;
}) {
  const { desk, mode, on, live } = props;
  const pending = desk.pending.value;
  return (
    <button
      type="button"
      class="switch__mode"
      aria-pressed={on}
      aria-keyshortcuts={props.shortcut}
      data-on-air={on && live}
      data-pending={pending?.mode === mode}
      // Not disabled while it works: that would take the focus away.
      aria-disabled={pending !== undefined}
      onClick={() => void desk.switchTo(mode)}
    >
      <Icon name={props.icon} size={26} />
      <span>
        <strong>{mode === "solo" ? "Solo" : "Collab"}</strong>
        <small>{props.note}</small>
      </span>
      {on && live ? <span class="switch__lamp">On air</span> : null}
    </button>
  );
}

/** How long the switch takes so far; for the eye only, the announcement is made once. */
function Elapsed({ sinceMs }: { sinceMs: number }) {
  const [nowMs, setNow] = useState(() => performance.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(performance.now()), 100);
    return () => clearInterval(timer);
  }, []);
  return <span aria-hidden="true">{format.seconds((nowMs - sinceMs) / 1000)}</span>;
}

function Refused(props: { outcome: RefusedOutcome; desk: Desk; onInvite: () => void }) {
  const { outcome, desk } = props;
  return (
    <Notice
      tone="bad"
      role="alert"
      title={outcome.title}
      action={
        <>
          {outcome.remedy === "invite" ? (
            <button type="button" class="btn" onClick={props.onInvite}>
              <Icon name="invite" />
              Invite a guest
            </button>
          ) : null}
          {outcome.remedy === "retry" ? (
            <button type="button" class="btn" onClick={() => void desk.switchTo("collab")}>
              Try again
            </button>
          ) : null}
          <button
            type="button"
            class="btn btn--quiet"
            onClick={() => {
              desk.outcome.value = undefined;
            }}
          >
            Dismiss
          </button>
        </>
      }
    >
      {format.sentence(outcome.detail)}
    </Notice>
  );
}

/** What one should know before pressing. */
function Hint({ channel, seats, stats, onInvite }: Props) {
  if (channel.mode === "collab" && stats?.program.source === "host") {
    return (
      <Notice tone="warn" title="The mixer is being restarted" role="status">
        Viewers see the host alone. The mix comes back by itself.
      </Notice>
    );
  }
  if (channel.mode === "collab") return null;
  const missing = obstacle(channel, seats);
  if (missing === undefined) return null;
  return (
    <div class="row switch__hint">
      <span class="muted">
        {missing === "no-host"
          ? "Collab becomes possible when the host is on air."
          : "Collab needs a guest on program."}
      </span>
      {missing === "no-guest" ? (
        <button type="button" class="btn" onClick={onInvite}>
          <Icon name="invite" />
          Invite a guest
        </button>
      ) : null}
    </div>
  );
}

function Status({ desk }: { desk: Desk }) {
  const pending = desk.pending.value;
  const outcome = desk.outcome.value;
  const done = outcome?.kind === "done" ? outcome.text : "";
  return (
    <div class="switch__status row row--between">
      <div class="row">
        <p class="row" role="status" aria-live="polite">
          {pending ? <span class="spinner spinner--small" aria-hidden="true" /> : null}
          {pending ? `Switching to ${pending.mode}…` : null}
        </p>
        {pending ? <Elapsed sinceMs={pending.sinceMs} /> : <p>{done}</p>}
      </div>
      {desk.undo.value && !pending ? (
        <button
          type="button"
          class="btn btn--quiet"
          aria-keyshortcuts="u"
          onClick={() => void desk.undoLast()}
        >
          <Icon name="undo" />
          {desk.undo.value.label}
        </button>
      ) : null}
    </div>
  );
}

function Drawing(props: { name: LayoutName; channel: Channel; cast: readonly string[] }) {
  // One alone says nothing about a layout: it is drawn for the two that a collab needs.
  const count = Math.max(2, props.cast.length);
  const tiles = tilesOf(
    props.name === "custom" ? props.channel.layout : { name: props.name, tiles: [] },
    count,
  );
  return (
    <svg class="layout__drawing" viewBox="0 0 160 90" aria-hidden="true" focusable="false">
      <rect width="160" height="90" class="layout__ground" />
      {tiles.map((tile, at) => {
        const [x, y, width, height] = [
          tile.x * 160,
          tile.y * 90,
          tile.width * 160,
          tile.height * 90,
        ];
        const number = Math.min(width, height) >= 12;
        const first = "participant" in tile ? tile.participant === props.cast[0] : at === 0;
        const place = "participant" in tile ? props.cast.indexOf(String(tile.participant)) : at;
        if (place < 0) return null;
        return (
          <g key={at}>
            <rect
              class={first ? "layout__tile layout__tile--first" : "layout__tile"}
              x={x + 0.75}
              y={y + 0.75}
              width={width - 1.5}
              height={height - 1.5}
              rx="2"
            />
            {number ? (
              <text x={x + width / 2} y={y + height / 2} class="layout__number">
                {place + 1}
              </text>
            ) : null}
          </g>
        );
      })}
    </svg>
  );
}

function LayoutPicker({ desk, channel, seats }: Props) {
  const cast = castOf(seats);
  const [arranging, setArranging] = useState(false);
  const custom = channel.layout.name === "custom";
  const shown: readonly LayoutName[] = custom ? [...LAYOUTS, "custom"] : LAYOUTS;
  return (
    <fieldset class="layouts">
      <legend class="field__label">
        {channel.mode === "collab" ? "Layout" : "Layout of the next collab"}
      </legend>
      <div class="layouts__choices">
        {shown.map((name, at) => (
          <label class="layout" key={name} title={`${layoutWord(name)} (${at + 1})`}>
            <input
              type="radio"
              name="layout"
              value={name}
              checked={channel.layout.name === name}
              onChange={() => void desk.setLayout(name)}
            />
            <Drawing name={name} channel={channel} cast={cast} />
            <span class="layout__word">{layoutWord(name)}</span>
          </label>
        ))}
      </div>
      <div class="row row--between">
        <label class="row layouts__background small">
          <input
            type="color"
            value={channel.layout.background ?? "#101820"}
            onChange={(event) => void desk.setBackground(event.currentTarget.value)}
          />
          Background
        </label>
        <button
          type="button"
          class="btn btn--quiet"
          disabled={cast.length === 0}
          onClick={() => setArranging(true)}
        >
          <Icon name="edit" size={18} />
          Arrange by hand
        </button>
      </div>
      {arranging ? (
        <TileEditor desk={desk} channel={channel} cast={cast} onClose={() => setArranging(false)} />
      ) : null}
    </fieldset>
  );
}

export function SwitchPanel(props: Props) {
  const { desk, channel, seats } = props;
  const inMix = castOf(seats).length;
  const outcome = desk.outcome.value;
  const live = channel.state !== "idle";
  const slate = props.stats?.program.source === "slate" && channel.mode === "solo";
  const host = seats.find(({ participant }) => participant.role === "host")?.participant.id;
  return (
    <section class="card stack switch" aria-label="Switch">
      {/* biome-ignore lint/a11y/useSemanticElements: a fieldset cannot be laid out as a grid everywhere. */}
      <div class="switch__modes" role="group" aria-label="What viewers see">
        <ModeButton
          desk={desk}
          mode="solo"
          on={channel.mode === "solo"}
          live={live}
          icon="host"
          note={slate ? "host away: slate" : `${host ?? "the host"} alone`}
          shortcut="s"
        />
        <ModeButton
          desk={desk}
          mode="collab"
          on={channel.mode === "collab"}
          live={live}
          icon="guests"
          note={inMix > 1 ? `${inMix} in the mix` : "the host and guests"}
          shortcut="c"
        />
      </div>
      <Status desk={desk} />
      {outcome?.kind === "refused" ? (
        <Refused outcome={outcome} desk={desk} onInvite={props.onInvite} />
      ) : (
        <Hint {...props} />
      )}
      <LayoutPicker {...props} />
    </section>
  );
}
