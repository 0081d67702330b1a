// Who broadcasts, and how well it arrives.

import { useState } from "preact/hooks";
import { api } from "../api/client";
import type { IngestStats, Participant } from "../api/types";
import * as format from "../lib/format";
import { Icon } from "../ui/icon";
import { showToast } from "../ui/toast";
import { Badge, type Fact, Facts } from "../ui/widgets";
import { Confirm } from "./confirm";
import { PARTICIPANT_STATES } from "./states";
import type { Store } from "./store";

/** More than this share lost is worth a colour. */
const MUCH_LOSS = 0.02;

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
    { name: "Loss", value: much ? <span class="participant__loss">{loss}</span> : loss },
    {
      name: "Repaired / lost",
      value: ingest
        ? `${format.count(ingest.packets_repaired)} / ${format.count(ingest.packets_lost)}`
        : format.DASH,
    },
    { name: "Round trip", value: format.millis(ingest?.rtt_ms) },
    { name: "Jitter", value: format.millis(ingest?.jitter_ms) },
    {
      name: "Codecs",
      value:
        [video?.codec ?? ingest?.video_codec, audio?.codec ?? ingest?.audio_codec]
          .filter(Boolean)
          .join(", ") || format.DASH,
    },
  ];
}

function Entry(props: {
  participant: Participant;
  ingest: IngestStats | undefined;
  onRemove: () => void;
}) {
  const { participant } = props;
  const state = PARTICIPANT_STATES[participant.state];
  return (
    <li class="participant stack">
      <div class="row row--tools">
        <div class="row">
          <strong class="break">{participant.id}</strong>
          <Badge plain>{participant.role === "host" ? "Host" : "Guest"}</Badge>
          <Badge tone={state.tone}>{state.word}</Badge>
          <span class="small muted">{participant.protocol.toUpperCase()}</span>
        </div>
        <button
          type="button"
          class="btn btn--quiet btn--icon"
          aria-label={`Disconnect ${participant.id}`}
          onClick={props.onRemove}
        >
          <Icon name="close" />
        </button>
      </div>
      <Facts items={factsOf(participant, props.ingest)} label={`Ingest of ${participant.id}`} />
    </li>
  );
}

export function Participants(props: {
  store: Store;
  channel: string;
  participants: readonly Participant[];
  ingest: (id: string) => IngestStats | undefined;
}) {
  const [removing, setRemoving] = useState<Participant | undefined>(undefined);
  const remove = async (gone: Participant) => {
    await api.removeParticipant(props.channel, gone.id);
    await props.store.refreshDetail();
    showToast(`${gone.id} is disconnected.`);
  };
  return (
    <section class="card stack" aria-label="Broadcasters">
      <h2>Broadcasters</h2>
      {props.participants.length === 0 ? (
        <p class="muted">Nobody is connected. Open the studio, or publish by WHIP.</p>
      ) : (
        <ul class="stack">
          {props.participants.map((participant) => (
            <Entry
              key={participant.id}
              participant={participant}
              ingest={props.ingest(participant.id) ?? participant.ingest}
              onRemove={() => setRemoving(participant)}
            />
          ))}
        </ul>
      )}
      {removing ? (
        <Confirm
          title={`Disconnect ${removing.id}?`}
          text={
            removing.role === "host"
              ? "The show loses its host. Viewers stay connected and see the host again on return."
              : "The guest leaves the show at once, and may come back."
          }
          action="Disconnect"
          run={() => remove(removing)}
          onClose={() => setRemoving(undefined)}
        />
      ) : null}
    </section>
  );
}
