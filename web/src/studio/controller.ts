// The studio without its page: what is captured, what is published, and how the two follow each other. The page shows
// the signals and calls the methods; nothing here touches the document.

import { computed, effect, signal } from "@preact/signals";
import { api } from "../api/client";
import { token } from "../api/token";
import type { HostAdaptation } from "../api/types";
import { messageOf } from "../lib/problem";
import { type EncoderSettings, WhipClient } from "../whip/client";
import type { Snapshot } from "../whip/machine";
import { TrackMeter } from "./meter";
import { Room } from "./room";
import {
  encoderSettings,
  loadSettings,
  participantOfTab,
  randomParticipant,
  type Settings,
  saveSettings,
} from "./settings";
import { softness } from "./softness";
import { type Capture, type Devices, listDevices, openCapture } from "./sources";
import { type PublishStats, publishStats, type RawStat } from "./stats";

const IDLE: Snapshot = {
  phase: "idle",
  attempt: 0,
  failure: undefined,
  retryAtMs: undefined,
  liveSinceMs: undefined,
};

/** Settings that need the source opened anew; the others only configure the encoder. */
const CAPTURE_KEYS: readonly (keyof Settings)[] = [
  "source",
  "cameraId",
  "microphoneId",
  "size",
  "fps",
  "sound",
  "stereo",
  "voiceProcessing",
];

export class Studio {
  readonly channel: string;
  readonly settings = signal<Settings>(loadSettings(location.search));
  readonly devices = signal<Devices>({ cameras: [], microphones: [] });
  readonly preview = signal<MediaStream | undefined>(undefined);
  readonly captureError = signal<string | undefined>(undefined);
  readonly notice = signal<string | undefined>(undefined);
  readonly opening = signal(false);
  readonly muted = signal(false);
  readonly snapshot = signal<Snapshot>(IDLE);
  readonly stats = signal<PublishStats>({});
  /** Why viewers get less than was chosen. */
  readonly softness = computed(() =>
    softness(this.settings.value, this.stats.value, this.room.me.value?.ingest),
  );
  readonly participant: string;
  readonly room: Room;

  #adaptation: HostAdaptation | undefined;
  #context: AudioContext | undefined;
  #meter: TrackMeter | undefined;
  #capture: Capture | undefined;
  /** Counts openings, so that a slow one cannot replace a newer one. */
  #opening = 0;
  #client: WhipClient | undefined;
  #lastReport: readonly RawStat[] | undefined;
  #lastConnection: RTCPeerConnection | undefined;
  #wakeLock: WakeLockSentinel | undefined;

  constructor(channel: string) {
    this.channel = channel;
    const chosen = this.settings.value.participant;
    this.participant = chosen || participantOfTab(channel, randomParticipant);
    this.room = new Room(channel, this.participant, () => this.stop());
    navigator.mediaDevices?.addEventListener("devicechange", () => void this.#devicesChanged());
    window.addEventListener("online", () => this.#client?.online());
    window.addEventListener("pagehide", () => this.#client?.stop());
    window.addEventListener("beforeunload", (event) => {
      if (this.onAir) event.preventDefault();
    });
    document.addEventListener("visibilitychange", () => void this.#keepAwake());
    setInterval(() => void this.#measure(), 1_000);
    effect(() => {
      // Only this of the channel matters here; it seldom changes.
      const adaptation = this.room.channel.value?.host_adaptation;
      if (adaptation === this.#adaptation) return;
      this.#adaptation = adaptation;
      void this.#client?.configure(this.#encoder());
    });
  }

  get onAir(): boolean {
    return !["idle", "failed"].includes(this.snapshot.value.phase);
  }

  get level() {
    return this.#meter?.read();
  }

  /** Applies a change of the settings, to the running show too. */
  async change(change: Partial<Settings>): Promise<void> {
    const before = this.settings.value;
    const after = { ...before, ...change };
    this.settings.value = after;
    saveSettings(after);
    const capturing = this.#capture !== undefined || this.opening.value;
    const reopen = CAPTURE_KEYS.some((key) => before[key] !== after[key]);
    if (reopen && (capturing || change.source === "pattern")) await this.openSource();
    await this.#client?.configure(this.#encoder());
  }

  /** Opens the chosen source and shows it; a running show switches over to it. */
  async openSource(): Promise<boolean> {
    this.#opening += 1;
    const mine = this.#opening;
    this.opening.value = true;
    this.captureError.value = undefined;
    this.notice.value = undefined;
    // A device can often be opened only once, so the old one goes first, except for a picture that costs nothing.
    const old = this.#capture;
    if (this.settings.value.source === "camera") old?.stop();
    try {
      const capture = await openCapture(this.settings.value, this.#audioContext());
      if (mine !== this.#opening) {
        capture.stop();
        return false;
      }
      if (old && this.settings.value.source !== "camera") old.stop();
      await this.#adopt(capture);
      return true;
    } catch (error) {
      if (mine === this.#opening) {
        this.captureError.value = messageOf(error);
        if (old && this.settings.value.source === "camera") this.#dropCapture();
      }
      return false;
    } finally {
      if (mine === this.#opening) this.opening.value = false;
      void this.refreshDevices();
    }
  }

  async refreshDevices(): Promise<void> {
    this.devices.value = await listDevices().catch(() => ({ cameras: [], microphones: [] }));
  }

  async goLive(): Promise<void> {
    void this.#audioContext().resume();
    if (!this.#capture && !(await this.openSource())) return;
    this.#client?.stop();
    const query = new URLSearchParams({
      participant: this.participant,
      role: this.settings.value.role,
    });
    const client = new WhipClient(
      {
        url: new URL(`/whip/${encodeURIComponent(this.channel)}?${query}`, location.href).href,
        token,
        video: this.#capture?.video,
        audio: this.#capture?.audio,
        encoder: this.#encoder(),
      },
      (snapshot) => {
        if (this.#client !== client) return;
        const came = snapshot.phase === "live" && this.snapshot.value.phase !== "live";
        this.snapshot.value = snapshot;
        if (came) this.room.again();
        void this.#keepAwake();
      },
    );
    this.#client = client;
    client.start();
  }

  /** For servers where channels do not come into being by being published to. */
  async createChannel(): Promise<void> {
    try {
      await api.createChannel({ id: this.channel });
    } catch (error) {
      this.notice.value = `The channel could not be created: ${messageOf(error)}`;
      return;
    }
    this.notice.value = undefined;
    await this.goLive();
  }

  stop(): void {
    this.#client?.stop();
    this.stats.value = {};
  }

  setMuted(muted: boolean): void {
    this.muted.value = muted;
    if (this.#capture?.audio) this.#capture.audio.enabled = !muted;
  }

  #encoder(): EncoderSettings {
    return encoderSettings(this.settings.value, this.#adaptation);
  }

  #audioContext(): AudioContext {
    this.#context ??= new AudioContext({ sampleRate: 48_000, latencyHint: "interactive" });
    this.#meter ??= new TrackMeter(this.#context);
    void this.#context.resume();
    return this.#context;
  }

  async #adopt(capture: Capture): Promise<void> {
    this.#capture = capture;
    this.notice.value = capture.warning;
    const tracks = [capture.video, capture.audio].filter((track) => track !== undefined);
    this.preview.value = new MediaStream(tracks);
    if (capture.audio) capture.audio.enabled = !this.muted.value;
    this.#meter?.listen(capture.audio);
    for (const track of tracks) {
      track.addEventListener("ended", () => void this.#trackEnded(capture, track));
    }
    await this.#client?.replaceTrack("video", capture.video);
    await this.#client?.replaceTrack("audio", capture.audio);
  }

  #dropCapture(): void {
    this.#capture?.stop();
    this.#capture = undefined;
    this.preview.value = undefined;
    this.#meter?.listen(undefined);
  }

  /** A device was unplugged, or the user ended the sharing: the show goes on with what is left. */
  async #trackEnded(capture: Capture, track: MediaStreamTrack): Promise<void> {
    if (this.#capture !== capture) return;
    if (track.kind === "audio") {
      await this.#client?.replaceTrack("audio", undefined);
      this.#meter?.listen(undefined);
      this.notice.value =
        "The microphone is gone. Viewers hear silence until it is back or another one is chosen.";
      return;
    }
    const screen = this.settings.value.source === "screen";
    if (!this.onAir) {
      this.#dropCapture();
      this.captureError.value = screen ? "Sharing has ended." : "The camera is gone.";
      return;
    }
    this.settings.value = { ...this.settings.value, source: "pattern", sound: "silence" };
    await this.openSource();
    this.notice.value = screen
      ? "Sharing has ended. Viewers see the test picture until another source is chosen."
      : "The camera is gone. Viewers see the test picture until another source is chosen.";
  }

  async #devicesChanged(): Promise<void> {
    await this.refreshDevices();
    const { source, microphoneId } = this.settings.value;
    const audio = this.#capture?.audio;
    const silent = source !== "pattern" && this.#capture && audio?.readyState !== "live";
    const back = this.devices.value.microphones.some(
      (device) => microphoneId === "" || device.deviceId === microphoneId,
    );
    // Only the microphone comes back by itself: a camera that turns itself on would be a surprise.
    if (silent && back && source === "camera") await this.openSource();
  }

  async #measure(): Promise<void> {
    const connection = this.#client?.connection;
    if (!connection) {
      this.#lastReport = undefined;
      return;
    }
    if (connection !== this.#lastConnection) this.#lastReport = undefined;
    this.#lastConnection = connection;
    const report = await connection.getStats().catch(() => undefined);
    if (!report) return;
    const stats = [...report.values()] as RawStat[];
    const received = stats.find(({ type }) => type === "transport")?.packetsReceived;
    if (typeof received === "number") this.#client?.received(connection, received);
    this.stats.value = publishStats(this.#lastReport, stats);
    this.#lastReport = stats;
  }

  /** A phone that locks its screen ends the show. */
  async #keepAwake(): Promise<void> {
    if (!("wakeLock" in navigator)) return;
    if (!this.onAir) {
      await this.#wakeLock?.release().catch(() => undefined);
      this.#wakeLock = undefined;
      return;
    }
    if (document.visibilityState !== "visible" || (this.#wakeLock && !this.#wakeLock.released)) {
      return;
    }
    this.#wakeLock = await navigator.wakeLock.request("screen").catch(() => undefined);
  }
}
