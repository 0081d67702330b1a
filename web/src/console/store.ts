// What the console knows: one store of signals, fed by events where they come and by polling always. Polling alone is
// enough to be right; events only make it prompt.

import { signal } from "@preact/signals";
import { api } from "../api/client";
import { followEvents, type StreamState } from "../api/events";
import type {
  ApiEvent,
  Channel,
  ChannelStats,
  Destination,
  Node,
  Participant,
  Readiness,
  SwitchRecord,
} from "../api/types";
import { Series } from "../charts/series";
import { ApiError, messageOf } from "../lib/problem";
import { Arrivals } from "./desk/arrivals";

export const HISTORY_MS = 3 * 60_000;
const LIST_MS = 3_000;
/** Twice a second: level meters show what they say. */
const STATS_MS = 500;
const DETAIL_MS = 2_500;
const SLOW_MS = 10_000;

export interface History {
  readonly video: Series;
  readonly audio: Series;
  readonly fps: Series;
  readonly rms: Series;
  readonly peak: Series;
}

const newHistory = (): History => ({
  video: new Series(HISTORY_MS),
  audio: new Series(HISTORY_MS),
  fps: new Series(HISTORY_MS),
  rms: new Series(HISTORY_MS),
  peak: new Series(HISTORY_MS),
});

/** Everything about the channel that is shown in full. */
export interface Detail {
  readonly id: string;
  readonly stats: ChannelStats | undefined;
  readonly participants: readonly Participant[];
  /** The newest switches, oldest first. */
  readonly switches: readonly SwitchRecord[];
  /** Undefined where the token does not allow to see them. */
  readonly destinations: readonly Destination[] | undefined;
  readonly history: History;
  readonly arrivals: Arrivals;
}

export class Store {
  readonly channels = signal<readonly Channel[] | undefined>(undefined);
  readonly error = signal<string | undefined>(undefined);
  readonly denied = signal(false);
  readonly stream = signal<StreamState>("connecting");
  readonly detail = signal<Detail | undefined>(undefined);
  readonly nodes = signal<readonly Node[]>([]);
  readonly readiness = signal<Readiness | undefined>(undefined);
  readonly unreachable = signal(false);

  #events: AbortController | undefined;
  /** Channels that were put while a list was on its way. */
  readonly #put = new Set<string>();
  #refreshing = false;
  #refreshAgain = false;
  #mayReadNodes = true;
  /** Numbers of the reads of the detail: an old answer does not replace a newer one. */
  #asked = 0;
  #newest = 0;

  start(): void {
    this.#every(LIST_MS, () => this.refresh());
    this.#every(STATS_MS, () => this.#readStats());
    this.#every(DETAIL_MS, () => this.#readDetail());
    this.#every(SLOW_MS, () => this.#readNode());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.reload();
    });
    this.restart();
  }

  /** After a new token. */
  restart(): void {
    this.denied.value = false;
    this.#mayReadNodes = true;
    this.#events?.abort();
    this.#events = new AbortController();
    void followEvents(
      { onEvent: (event) => this.#onEvent(event), onState: (state) => this.#onStream(state) },
      this.#events.signal,
    );
    this.reload();
  }

  reload(): void {
    void this.refresh();
    void this.#readDetail();
    void this.#readStats();
    void this.#readNode();
  }

  select(id: string | undefined): void {
    if (id === this.detail.value?.id) return;
    this.detail.value =
      id === undefined
        ? undefined
        : {
            id,
            stats: undefined,
            participants: [],
            switches: [],
            destinations: [],
            history: newHistory(),
            arrivals: new Arrivals(HISTORY_MS),
          };
    void this.#readStats();
    void this.#readDetail();
  }

  async refresh(): Promise<void> {
    // Several events in a row ask for the same list.
    if (this.#refreshing) {
      this.#refreshAgain = true;
      return;
    }
    this.#refreshing = true;
    this.#put.clear();
    try {
      const listed = await api.channels();
      // What was put since the list was asked for is newer than the list.
      const known = (id: string) => this.channels.value?.find((channel) => channel.id === id);
      this.channels.value = listed.map((channel) =>
        this.#put.has(channel.id) ? (known(channel.id) ?? channel) : channel,
      );
      this.error.value = undefined;
      this.unreachable.value = false;
      this.denied.value = false;
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#refreshing = false;
    }
    if (this.#refreshAgain) {
      this.#refreshAgain = false;
      await this.refresh();
    }
  }

  async refreshDetail(): Promise<void> {
    await this.#readDetail();
  }

  #every(ms: number, run: () => Promise<void>): void {
    setInterval(() => {
      if (document.visibilityState === "visible" && !this.denied.value) void run();
    }, ms);
  }

  #failed(error: unknown): void {
    if (error instanceof ApiError && (error.status === 401 || error.status === 403)) {
      this.denied.value = true;
      return;
    }
    this.unreachable.value = !(error instanceof ApiError);
    this.error.value = messageOf(error);
  }

  #onStream(state: StreamState): void {
    const before = this.stream.value;
    this.stream.value = state;
    // Whatever happened while nobody listened is in the lists.
    if (state === "open" && before !== "open") this.reload();
  }

  #onEvent(event: ApiEvent): void {
    switch (event.type) {
      case "channel.created":
      case "channel.updated":
        this.putChannel(event.data);
        if (event.channel === this.detail.value?.id) void this.#readDetail();
        return;
      case "channel.deleted":
        this.channels.value = this.channels.value?.filter(({ id }) => id !== event.channel);
        if (this.detail.value?.id === event.channel) void this.#readDetail();
        return;
      case "readiness.changed":
        this.readiness.value = event.data;
        return;
      case "resync":
        this.reload();
        return;
      case "participant.joined":
      case "participant.updated":
      case "participant.left":
      case "destination.updated":
      case "mode.switched":
      case "layout.changed":
        if (event.channel === this.detail.value?.id) void this.#readDetail();
        return;
    }
  }

  /** What an answer says about a participant; what it leaves out is still as it was. */
  putParticipant(participant: Participant): void {
    const detail = this.detail.value;
    if (!detail) return;
    this.#newest = this.#asked + 1;
    const participants = detail.participants.map((known) =>
      known.id === participant.id ? { ...known, ...participant } : known,
    );
    this.detail.value = { ...detail, participants };
  }

  putChannel(channel: Channel): void {
    this.#put.add(channel.id);
    const others = (this.channels.value ?? []).filter(({ id }) => id !== channel.id);
    this.channels.value = [...others, channel].sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** The channel that is shown in full, unless the list says that there is none. */
  #shown(): string | undefined {
    const id = this.detail.value?.id;
    const known = this.channels.value;
    return known === undefined || known.some((channel) => channel.id === id) ? id : undefined;
  }

  async #readStats(): Promise<void> {
    const id = this.#shown();
    if (id === undefined) return;
    try {
      const stats = await api.stats(id);
      const detail = this.detail.value;
      if (detail?.id !== id) return;
      record(detail.history, stats);
      detail.arrivals.push(Date.parse(stats.at), stats.participants);
      this.detail.value = { ...detail, stats };
    } catch {
      // The list's poll reports what is wrong.
    }
  }

  async #readDetail(): Promise<void> {
    const id = this.#shown();
    if (id === undefined) return;
    const before = this.detail.value;
    this.#asked += 1;
    const mine = this.#asked;
    const [participants, switches, destinations] = await Promise.all([
      api.participants(id).catch(() => before?.participants ?? []),
      api.switches(id).catch(() => before?.switches ?? []),
      api.destinations(id).catch((error: unknown) => {
        const hidden = error instanceof ApiError && error.status === 403;
        return hidden ? undefined : before?.destinations;
      }),
    ]);
    const detail = this.detail.value;
    if (detail?.id === id && mine >= this.#newest) {
      this.#newest = mine;
      this.detail.value = { ...detail, participants, switches, destinations };
    }
  }

  async #readNode(): Promise<void> {
    this.readiness.value = await api.readiness().catch(() => undefined);
    if (!this.#mayReadNodes) return;
    try {
      this.nodes.value = await api.nodes();
    } catch (error) {
      // Nodes are for administrators; asking again would only fill the server's log.
      this.#mayReadNodes = !(error instanceof ApiError && error.status === 403);
    }
  }
}

function record(history: History, stats: ChannelStats): void {
  const atMs = Date.parse(stats.at);
  const { program } = stats;
  history.video.push(atMs, program.video_bitrate_bps);
  history.audio.push(atMs, program.audio_bitrate_bps);
  history.fps.push(atMs, program.fps);
  history.rms.push(atMs, program.audio_level.rms_dbfs);
  history.peak.push(atMs, program.audio_level.peak_dbfs);
}
