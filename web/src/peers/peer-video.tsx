// The live picture of one participant, in real time.

import { useEffect, useRef, useState } from "preact/hooks";
import { token } from "../api/token";
import type { Snapshot } from "../whip/machine";
import { WhepClient, whepUrl } from "../whip/whep";

export interface Peer {
  /** For statistics and levels. */
  readonly connection: () => RTCPeerConnection | undefined;
  readonly snapshot: () => Snapshot;
}

/** What there is to say while there is no picture; undefined when there is one. */
export function pictureWord(snapshot: Snapshot | undefined): string | undefined {
  switch (snapshot?.phase) {
    case "opening":
    case "connecting":
      return "Connecting";
    case "live":
      return undefined;
    case "recovering":
      return "Reconnecting";
    case "waiting":
      return snapshot.failure?.status === 404 ? "Waiting for the picture" : "Reconnecting";
    case "failed":
      return snapshot.failure?.message ?? "No picture";
    case undefined:
    case "idle":
      return "";
  }
}

/** Two letters that stand for somebody while there is no picture. */
export function initials(name: string): string {
  const words = name.split(/[-_]+/).filter(Boolean);
  const letters =
    words.length > 1 ? words.slice(0, 2).map((word) => word[0]) : [...name.slice(0, 2)];
  return letters.join("").toUpperCase();
}

/** The browser lets sound begin only after a click somewhere; `onBlocked` says that it did not. */
async function play(video: HTMLVideoElement, onBlocked: (blocked: boolean) => void) {
  try {
    await video.play();
    onBlocked(false);
  } catch (error) {
    const blocked = error instanceof DOMException && error.name === "NotAllowedError";
    if (blocked) onBlocked(true);
  }
}

export function PeerVideo(props: {
  channel: string;
  participant: string;
  muted: boolean;
  /** Only while true is there a connection. */
  wanted: boolean;
  /** Changes when it is worth looking again at once: the participant has come back. */
  attempt?: string | number;
  onPeer?: (peer: Peer | undefined) => void;
  onBlocked?: (blocked: boolean) => void;
}) {
  const { channel, participant, muted, wanted, attempt, onPeer, onBlocked } = props;
  const video = useRef<HTMLVideoElement>(null);
  const client = useRef<WhepClient | undefined>(undefined);
  const [snapshot, setSnapshot] = useState<Snapshot | undefined>(undefined);
  const [shown, setShown] = useState(false);
  useEffect(() => {
    const element = video.current;
    if (!wanted || !element) return;
    const peer = new WhepClient(
      {
        url: whepUrl(location.href, channel, participant),
        token,
        onStream: (stream) => {
          element.srcObject = stream;
          void play(element, onBlocked ?? (() => undefined));
        },
      },
      setSnapshot,
    );
    client.current = peer;
    onPeer?.({ connection: () => peer.connection, snapshot: () => peer.snapshot });
    const end = () => peer.stop();
    window.addEventListener("pagehide", end);
    peer.start();
    return () => {
      window.removeEventListener("pagehide", end);
      client.current = undefined;
      onPeer?.(undefined);
      peer.stop();
      element.srcObject = null;
      setShown(false);
    };
    // The callbacks are signals' setters and the like: a new one is no reason for a new connection.
  }, [channel, participant, wanted]);
  useEffect(() => client.current?.again(), [attempt]);
  useEffect(() => {
    // As a property: the attribute does not follow later changes.
    const element = video.current;
    if (!element) return;
    element.muted = muted;
    if (!muted && element.srcObject) void play(element, onBlocked ?? (() => undefined));
  }, [muted]);
  const word = wanted ? pictureWord(snapshot) : "";
  return (
    <>
      {/* biome-ignore lint/a11y/useMediaCaption: a live conversation has no captions to offer. */}
      <video
        ref={video}
        playsInline
        disableRemotePlayback
        tabIndex={-1}
        aria-label={`Picture of ${participant}`}
        hidden={!shown}
        onPlaying={() => setShown(true)}
      />
      {shown ? null : (
        <span class="peer__initials" aria-hidden="true">
          {initials(participant)}
        </span>
      )}
      {word ? <span class="peer__word">{word}</span> : null}
    </>
  );
}
