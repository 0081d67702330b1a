// One participant at the desk: picture, level, and what a producer can do to them.

import { useRef, useState } from "preact/hooks";
import type { AudioLevel, Channel, IngestStats, Participant, Qoe } from "../../api/types";
import * as format from "../../lib/format";
import { PeerVideo } from "../../peers/peer-video";
import { Icon } from "../../ui/icon";
import { LevelMeter } from "../../ui/level-meter";
import { Badge, type Fact, Facts } from "../../ui/widgets";
import { PARTICIPANT_STATES } from "../states";
import { HISTORY_MS } from "../store";
import { PreviewPlaces, usePlace, useVisible } from "../visible";
import { ArrivalPlots } from "./arrival-plots";
import type { Arrival } from "./arrivals";
import type { Seat } from "./cast";
import type { Desk } from "./desk";

/** Each picture is a whole WebRTC session, decoded here: more would slow the desk down. */
const MAX_PICTURES = 6;
const places = new PreviewPlaces(MAX_PICTURES);

/** More than this share lost is worth a colour. */
const MUCH_LOSS = 0.02;
const MAX_VOLUME = 2;

const GRADES = {
  unknown: undefined,
  good: { tone: "ok", word: "Good" },
  fair: { tone: "warn", word: "Fair" },
  poor: { tone: "bad", word: "Poor" },
} as const;

/** The summary of the figures, with what it suffers from. */
function qualityOf(ingest: IngestStats | undefined): string {
  const qoe = ingest?.qoe;
  const grade = GRADES[qoe?.grade ?? "unknown"];
  if (!qoe || !grade) return format.DASH;
  const reasons = qoe.reasons.map((reason) => reason.replace("_", " ")).join(", ");
  return [`${grade.word} (${qoe.score.toFixed(1)} of 5)`, reasons].filter(Boolean).join(": ");
}

function Quality({ qoe }: { qoe: Qoe | undefined }) {
  const grade = GRADES[qoe?.grade ?? "unknown"];
  return grade ? <Badge tone={grade.tone}>{grade.word}</Badge> : null;
}

/** The sizes that come in, the one of the program marked. */
function layersOf(ingest: IngestStats | undefined): Fact[] {
  const sizes = (ingest?.layers ?? []).filter((layer) => layer.active);
  if (sizes.length === 0) return [];
  const said = sizes.map(
    (layer) =>
      `${layer.height}p${layer.on_program ? "*" : ""} ${format.bitrate(layer.bitrate_bps)}`,
  );
  return [{ name: "Sizes", value: said.join(", ") }];
}

function factsOf(participant: Participant, ingest: IngestStats | undefined): Fact[] {
  const { video, audio } = participant;
  const loss = format.percent(ingest?.loss_ratio);
  const much = (ingest?.loss_ratio ?? 0) > MUCH_LOSS;
  return [
    { name: "Video", value: format.bitrate(ingest?.video_bitrate_bps) },
    { name: "Audio", value: format.bitrate(ingest?.audio_bitrate_bps) },
    {
      name: "Picture",
      value: format.size(video?.width ?? ingest?.width, video?.height ?? ingest?.height),
    },
    { name: "Frame rate", value: format.fps(ingest?.fps) },
    { name: "Loss", value: much ? <span class="person__loss">{loss}</span> : loss },
    {
      name: "Repaired / lost",
      value: ingest
        ? `${format.count(ingest.packets_repaired)} / ${format.count(ingest.packets_lost)}`
        : format.DASH,
    },
    {
      name: "Freezes",
      value: ingest?.freezes === undefined ? format.DASH : format.count(ingest.freezes),
    },
    { name: "Quality", value: qualityOf(ingest) },
    ...layersOf(ingest),
    { name: "Round trip", value: format.millis(ingest?.rtt_ms) },
    { name: "Jitter", value: format.millis(ingest?.jitter_ms) },
    {
      name: "Asked again / keyframes",
      value: ingest
        ? `${format.count(ingest.nacks_sent)} / ${format.count(ingest.plis_sent)}`
        : format.DASH,
    },
    {
      name: "Codecs",
      value:
        [video?.codec ?? ingest?.video_codec, audio?.codec ?? ingest?.audio_codec]
          .filter(Boolean)
          .join(", ") || format.DASH,
    },
    { name: "Protocol", value: participant.protocol.toUpperCase() },
  ];
}

function Picture(props: { channel: Channel; seat: Seat; listening: boolean }) {
  const { participant, place } = props.seat;
  const frame = useRef<HTMLDivElement>(null);
  const visible = useVisible(frame);
  const wanted = usePlace(places, visible && participant.state === "live");
  const state = PARTICIPANT_STATES[participant.state];
  return (
    <div class="stage person__picture" ref={frame}>
      <PeerVideo
        channel={props.channel.id}
        participant={participant.id}
        muted={!props.listening}
        wanted={wanted}
        attempt={participant.joined_at}
      />
      <div class="peer__tags">
        <span class="row">
          {place === undefined ? null : (
            <Badge plain>
              <span class="visually-hidden">Number </span>
              {place}
            </Badge>
          )}
          {participant.on_air ? <Badge tone="live">On air</Badge> : null}
        </span>
        {participant.state === "live" ? null : <Badge tone={state.tone}>{state.word}</Badge>}
      </div>
    </div>
  );
}

function Volume({ desk, participant }: { desk: Desk; participant: Participant }) {
  const [draft, setDraft] = useState<number | undefined>(undefined);
  const value = draft ?? participant.volume;
  return (
    <label class="person__volume">
      <span class="visually-hidden">Volume of {participant.id}</span>
      <input
        type="range"
        min={0}
        max={MAX_VOLUME}
        step={0.05}
        value={value}
        aria-valuetext={format.percent(value, 0)}
        onInput={(event) => setDraft(event.currentTarget.valueAsNumber)}
        onChange={(event) => {
          const volume = event.currentTarget.valueAsNumber;
          void desk.setVolume(participant, volume).finally(() => setDraft(undefined));
        }}
      />
      <span class="small person__percent" aria-hidden="true">
        {format.percent(value, 0)}
      </span>
    </label>
  );
}

function Order({ desk, seat, last }: { desk: Desk; seat: Seat; last: boolean }) {
  const { participant, place } = seat;
  if (place === undefined || (place === 1 && last)) return null;
  const button = (step: -1 | 1, end: boolean) => {
    const [way, icon] = step < 0 ? (["earlier", "up"] as const) : (["later", "down"] as const);
    return (
      <button
        type="button"
        class="btn btn--quiet btn--icon"
        data-move={`${participant.id} ${step}`}
        aria-label={`Move ${participant.id} ${way} in the mix`}
        title={`Move ${way} in the mix`}
        // At the end of the way the focus stays where it is.
        aria-disabled={end}
        onClick={() => (end ? undefined : void desk.move(participant.id, step))}
      >
        <Icon name={icon} size={18} />
      </button>
    );
  };
  return (
    <>
      {button(-1, place === 1)}
      {button(1, last)}
    </>
  );
}

export function Person(props: {
  desk: Desk;
  channel: Channel;
  seat: Seat;
  last: boolean;
  level: AudioLevel | undefined;
  ingest: IngestStats | undefined;
  arrival: Arrival | undefined;
  onRemove: () => void;
}) {
  const { desk, seat } = props;
  const { participant, inMix, wanted } = seat;
  const [listening, setListening] = useState(false);
  const [open, setOpen] = useState(false);
  const { id, muted } = participant;
  const host = participant.role === "host";
  const onKeyDown = (event: KeyboardEvent) => {
    if (!event.shiftKey || (event.key !== "ArrowUp" && event.key !== "ArrowDown")) return;
    event.preventDefault();
    void desk.move(id, event.key === "ArrowUp" ? -1 : 1);
  };
  return (
    <li class="person" data-on-air={participant.on_air} data-in-mix={inMix} onKeyDown={onKeyDown}>
      <Picture channel={props.channel} seat={seat} listening={listening} />
      <LevelMeter level={props.level} label={`Sound level of ${id}`} off={muted} />
      <div class="row row--between person__head">
        <strong class="person__name" title={id}>
          {id}
        </strong>
        {host ? <Badge plain>Host</Badge> : null}
      </div>
      <div class="person__sound">
        <button
          type="button"
          class="btn btn--icon"
          aria-pressed={muted}
          aria-label={`Mute ${id} for viewers`}
          title={muted ? "Viewers do not hear them" : "Mute for viewers"}
          onClick={() => void desk.setMuted(participant, !muted)}
        >
          <Icon name={muted ? "muted" : "mic"} size={18} />
        </button>
        <Volume desk={desk} participant={participant} />
        <button
          type="button"
          class="btn btn--quiet btn--icon"
          aria-pressed={listening}
          aria-label={`Listen to ${id} here`}
          title="Listen here, as they sound now"
          onClick={() => setListening(!listening)}
        >
          <Icon name="ear" size={18} />
        </button>
      </div>
      <div class="person__tools">
        {host ? (
          <span class="small muted">Always in the mix</span>
        ) : (
          <button
            type="button"
            class="btn person__mix"
            onClick={() => void desk.setInMix(participant, !wanted)}
          >
            <Icon name={wanted ? "exit" : "enter"} size={18} />
            {wanted ? "Take out" : "Put in"}
            <span class="visually-hidden"> of the mix: {id}</span>
          </button>
        )}
        <span class="person__more">
          <Order desk={desk} seat={seat} last={props.last} />
          <button
            type="button"
            class="btn btn--quiet btn--icon"
            aria-label={`Disconnect ${id}`}
            title="Disconnect"
            onClick={props.onRemove}
          >
            <Icon name="close" size={18} />
          </button>
        </span>
      </div>
      <details class="more small" onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary>
          How they arrive
          <Quality qoe={props.ingest?.qoe} />
        </summary>
        <Facts items={factsOf(participant, props.ingest)} label={`Ingest of ${id}`} />
        {open && props.arrival ? (
          <ArrivalPlots arrival={props.arrival} spanMs={HISTORY_MS} />
        ) : null}
      </details>
    </li>
  );
}
