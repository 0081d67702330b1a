// The others as pictures, and the light that says whether one is on air oneself.

import { useEffect, useState } from "preact/hooks";
import type { Participant } from "../api/types";
import { layoutWord } from "../lib/layout-words";
import { type Peer, PeerVideo } from "../peers/peer-video";
import { Icon } from "../ui/icon";
import { Badge, Notice } from "../ui/widgets";
import type { Studio } from "./controller";
import type { Room } from "./room";

const LISTEN_MS = 200;
/** Louder than this, on the receiver's scale of 0 to 1, somebody speaks. */
const SPEAKING = 0.02;

/** Whether sound comes over `peer` at the moment. */
function useSpeaking(peer: Peer | undefined): boolean {
  const [speaking, setSpeaking] = useState(false);
  useEffect(() => {
    if (!peer) return;
    let quiet = 0;
    const timer = setInterval(() => {
      const receivers = peer.connection()?.getReceivers() ?? [];
      const audio = receivers.find(({ track }) => track.kind === "audio");
      const level = audio?.getSynchronizationSources?.()[0]?.audioLevel ?? 0;
      quiet = level > SPEAKING ? 0 : quiet + 1;
      setSpeaking(quiet < 3);
    }, LISTEN_MS);
    return () => {
      clearInterval(timer);
      setSpeaking(false);
    };
  }, [peer]);
  return speaking;
}

function PeerTile(props: { room: Room; channel: string; participant: Participant }) {
  const { room, participant } = props;
  const { id } = participant;
  const [muted, setMuted] = useState(false);
  const [peer, setPeer] = useState<Peer | undefined>(undefined);
  const speaking = useSpeaking(peer);
  return (
    <li class="stage tile" data-speaking={speaking && !muted}>
      <PeerVideo
        channel={props.channel}
        participant={id}
        muted={muted}
        wanted={participant.state === "live"}
        attempt={participant.joined_at}
        onPeer={(next) => {
          setPeer(next);
          room.setPeer(id, next);
        }}
        onBlocked={(blocked) => {
          room.soundBlocked.value = blocked;
        }}
      />
      <div class="peer__tags">
        <span class="row">{participant.on_air ? <Badge tone="live">On air</Badge> : null}</span>
        {participant.state === "live" ? null : <Badge tone="warn">Connecting</Badge>}
      </div>
      <div class="tile__foot">
        <span class="tile__name" title={id}>
          {id}
          {participant.role === "host" ? " (host)" : ""}
        </span>
        <button
          type="button"
          class="tile__mute"
          aria-pressed={muted}
          aria-label={`Mute ${id} for yourself`}
          title={muted ? "You do not hear them" : "Mute for yourself"}
          onClick={() => setMuted(!muted)}
        >
          <Icon name={muted ? "muted" : "sound"} size={18} />
        </button>
      </div>
    </li>
  );
}

/** On air or not, in words and colour, and announced when it changes. */
export function AirLight({ studio }: { studio: Studio }) {
  const { room } = studio;
  const air = studio.snapshot.value.phase === "live" ? room.air.value : undefined;
  const channel = room.channel.value;
  const mode = channel?.mode === "collab" ? `Collab, ${layoutWord(channel.layout.name)}` : "Solo";
  return (
    <div role="status" aria-live="polite">
      {air ? (
        <div class="air" data-on={air.onAir}>
          <div>
            <strong class="air__title">{air.title}</strong>
            <span>{air.detail}</span>
          </div>
          <span class="air__mode">{mode}</span>
        </div>
      ) : null}
    </div>
  );
}

/** The others beside oneself, once one has joined. */
export function Tiles({ studio }: { studio: Studio }) {
  const { room } = studio;
  const others = room.others.value;
  if (!studio.onAir || others.length === 0) return null;
  return (
    <ul class="tiles" aria-label="The others">
      {others.map((participant) => (
        <PeerTile
          key={participant.id}
          room={room}
          channel={studio.channel}
          participant={participant}
        />
      ))}
    </ul>
  );
}

/** What there is to say about the others. */
export function Company({ studio }: { studio: Studio }) {
  const { room } = studio;
  const joined = studio.onAir;
  const names = room.others.value.map(({ id, role }) => (role === "host" ? `${id} (host)` : id));
  const playAll = () => {
    for (const video of document.querySelectorAll<HTMLVideoElement>(".tile video")) {
      void video.play().catch(() => undefined);
    }
    room.soundBlocked.value = false;
  };
  return (
    <>
      {room.removed.value && !joined ? (
        <Notice tone="warn" role="alert" title="You were taken out of the show">
          The producer has disconnected you. You can join again if that was a mistake.
        </Notice>
      ) : null}
      {joined && room.soundBlocked.value ? (
        <Notice
          tone="warn"
          role="alert"
          action={
            <button type="button" class="btn" onClick={playAll}>
              <Icon name="sound" />
              Turn sound on
            </button>
          }
        >
          This browser plays the others only after a click.
        </Notice>
      ) : null}
      {!joined && names.length > 0 ? (
        <p class="muted break">
          In the show: {names.join(", ")}. You see and hear them when you have joined.
        </p>
      ) : null}
    </>
  );
}
