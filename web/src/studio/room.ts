// The others in the channel, as a broadcaster sees them: who they are, who is on air, and how their pictures do. Polling
// alone is enough to be right; events make it prompt.

import { computed, signal } from "@preact/signals";
import { api } from "../api/client";
import { followEvents } from "../api/events";
import type { ApiEvent, Channel, Participant } from "../api/types";
import { ApiError } from "../lib/problem";
import type { Peer } from "../peers/peer-video";

const POLL_MS = 4_000;
const MEASURE_MS = 1_000;

/** How one of the others arrives here. */
export interface PeerStats {
  readonly id: string;
  readonly phase: string;
  readonly framesDecoded: number;
  readonly width: number;
  readonly height: number;
  /** Sound since the connection began, as energy: it grows while something is heard. */
  readonly audioEnergy: number;
}

/** The host first, then as they came. */
export function othersOf(participants: readonly Participant[], me: string): Participant[] {
  return participants
    .filter(({ id }) => id !== me)
    .sort(
      (a, b) =>
        Number(b.role === "host") - Number(a.role === "host") ||
        Date.parse(a.joined_at) - Date.parse(b.joined_at),
    );
}

/** Whether one is seen and heard by viewers, and what there is to know about it. */
export interface AirState {
  readonly onAir: boolean;
  readonly title: string;
  readonly detail: string;
}

function whyNotOnAir(channel: Channel): string {
  if (channel.mode !== "solo") return "The producer has taken you out of the mix.";
  if (channel.state === "away")
    return "The host is away: viewers see the slate until they are back.";
  if (channel.state === "idle") return "The host is not there yet: viewers see nothing so far.";
  return "Viewers see the host alone. You come in with the next collab.";
}

export function airState(
  channel: Channel | undefined,
  me: Participant | undefined,
): AirState | undefined {
  if (!channel || me?.state !== "live") return undefined;
  const host = me.role === "host";
  if (!me.on_air) {
    return { onAir: false, title: "You are not on air", detail: whyNotOnAir(channel) };
  }
  if (me.muted) {
    return {
      onAir: true,
      title: "On air, without sound",
      detail: "The producer has muted you: viewers see you and do not hear you.",
    };
  }
  const alone = channel.mode === "solo";
  const detail = alone && host ? "Viewers see you alone." : "Viewers see and hear you in the mix.";
  return { onAir: true, title: "On air", detail };
}

export class Room {
  readonly channel = signal<Channel | undefined>(undefined);
  readonly participants = signal<readonly Participant[]>([]);
  /** The producer has removed this broadcaster. */
  readonly removed = signal(false);
  /** The browser wants a click before it plays sound. */
  readonly soundBlocked = signal(false);
  readonly stats = signal<readonly PeerStats[]>([]);
  readonly others = computed(() => othersOf(this.participants.value, this.#me));
  readonly me = computed(() => this.participants.value.find(({ id }) => id === this.#me));
  readonly air = computed(() => airState(this.channel.value, this.me.value));
  readonly #id: string;
  readonly #me: string;
  readonly #onRemoved: () => void;
  readonly #peers = new Map<string, Peer>();
  #events: AbortController | undefined;
  #reading = false;
  #readAgain = false;
  #denied = false;

  constructor(id: string, me: string, onRemoved: () => void) {
    this.#id = id;
    this.#me = me;
    this.#onRemoved = onRemoved;
  }

  start(): void {
    setInterval(() => {
      if (!this.#denied) void this.read();
    }, POLL_MS);
    setInterval(() => void this.#measure(), MEASURE_MS);
    void this.read();
  }

  /** After a new token, or when there is reason to look at once. */
  again(): void {
    this.#denied = false;
    this.removed.value = false;
    void this.read();
  }

  setPeer(id: string, peer: Peer | undefined): void {
    if (peer) this.#peers.set(id, peer);
    else this.#peers.delete(id);
  }

  async read(): Promise<void> {
    // Several events in a row ask for the same lists.
    if (this.#reading) {
      this.#readAgain = true;
      return;
    }
    this.#reading = true;
    try {
      // One after the other: a channel that does not exist is asked for once, not twice.
      const channel = await api.channel(this.#id);
      const participants = await api.participants(this.#id);
      this.channel.value = channel;
      this.participants.value = participants;
      this.#follow();
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#reading = false;
    }
    if (this.#readAgain) {
      this.#readAgain = false;
      await this.read();
    }
  }

  #failed(error: unknown): void {
    if (!(error instanceof ApiError)) return;
    // Nobody has published to the channel yet; whoever does is told by an event.
    if (error.status === 404) {
      this.channel.value = undefined;
      this.participants.value = [];
      this.#follow();
    }
    this.#denied = error.status === 401 || error.status === 403;
    if (this.#denied) this.#events?.abort();
  }

  #follow(): void {
    if (this.#events && !this.#events.signal.aborted) return;
    this.#events = new AbortController();
    void followEvents(
      { onEvent: (event) => this.#onEvent(event), onState: () => undefined },
      this.#events.signal,
      this.#id,
    );
  }

  #onEvent(event: ApiEvent): void {
    if (event.type === "participant.left" && event.data.id === this.#me) {
      if (event.data.reason === "removed") {
        this.removed.value = true;
        this.#onRemoved();
      }
    }
    if (event.type !== "destination.updated") void this.read();
  }

  async #measure(): Promise<void> {
    const all = [...this.#peers].map(async ([id, peer]): Promise<PeerStats> => {
      const report = await peer
        .connection()
        ?.getStats()
        .catch(() => undefined);
      const of = (kind: string) =>
        [...(report?.values() ?? [])].find(
          (stat) => stat.type === "inbound-rtp" && stat.kind === kind,
        );
      const [video, audio] = [of("video"), of("audio")];
      return {
        id,
        phase: peer.snapshot().phase,
        framesDecoded: video?.framesDecoded ?? 0,
        width: video?.frameWidth ?? 0,
        height: video?.frameHeight ?? 0,
        audioEnergy: audio?.totalAudioEnergy ?? 0,
      };
    });
    this.stats.value = await Promise.all(all);
  }
}
