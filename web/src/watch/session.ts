// One viewer of one channel: finds out where the stream is, keeps a player on it, and measures what the viewer sees.
// The page shows the signals; nothing here draws.

import { signal } from "@preact/signals";
import { api } from "../api/client";
import { token } from "../api/token";
import type { Channel } from "../api/types";
import { ApiError } from "../lib/problem";
import { absolute, absoluteSocket, withToken } from "../lib/url";
import { whepUrl } from "../whip/whep";
import { FLV_SYNC, HLS_SYNC, LiveSync, mayStart } from "./live-sync";
import { localUrl } from "./local";
import { type Input, type Snapshot, WatchMachine } from "./machine";
import {
  bufferedAhead,
  nextRangeStart,
  type Player,
  type PlayerKind,
  type Sources,
} from "./players/player";
import { FreezeDetector, StallMeter } from "./stall";

/** Often enough to see a stall of 200 ms. */
const SAMPLE_MS = 100;
const SYNC_MS = 500;
const CHANNEL_POLL_MS = 5_000;
/** A picture that was paused for longer than this comes back at the live edge. */
const PAUSE_KEEPS_MS = 4_000;
/** A hole in the timeline is stepped over after this long. */
const GAP_MS = 500;
/** A freeze is explained to the viewer after this long. */
const EXPLAIN_MS = 1_500;
const MAX_EVENTS = 200;

/** Loaded when they are wanted. */
const PLAYERS = {
  flv: () => import("./players/flv"),
  hls: () => import("./players/hls"),
  webrtc: () => import("./players/webrtc"),
};

/** The public figures; names and units are a contract (web/README.md). */
export interface WatchStats {
  readonly phase: Snapshot["phase"];
  readonly player: PlayerKind;
  readonly library: string | undefined;
  readonly currentTime: number;
  readonly paused: boolean;
  readonly muted: boolean;
  readonly playbackRate: number;
  readonly bufferS: number;
  readonly lagS: number | undefined;
  readonly latencyS: number | undefined;
  readonly stalls: number;
  readonly stalledMs: number;
  readonly droppedFrames: number;
  readonly totalFrames: number;
  readonly reconnects: number;
  readonly jumps: number;
  /** From opening the page (or the player) to the first picture. */
  readonly startupMs: number | undefined;
  readonly width: number;
  readonly height: number;
  readonly fps: number | undefined;
  readonly bitrateBps: number | undefined;
  readonly codec: string | undefined;
}

export interface SessionOptions {
  readonly channel: string;
  readonly player: PlayerKind;
  /** Changes of speed and jumps to stay near the live edge; off for measurements. */
  readonly sync: boolean;
  /** The port of a player on this machine, to play FLV from. */
  readonly local?: number | undefined;
  readonly video: HTMLVideoElement;
}

export class WatchSession {
  readonly channel: string;
  readonly local: number | undefined;
  readonly video: HTMLVideoElement;
  readonly kind = signal<PlayerKind>("flv");
  readonly snapshot = signal<Snapshot>(new WatchMachine().snapshot);
  readonly stats = signal<WatchStats | undefined>(undefined);
  readonly info = signal<Channel | undefined>(undefined);
  /** The browser refused sound without a click, so it plays muted. */
  readonly soundBlocked = signal(false);
  /** The browser refused to play at all without a click. */
  readonly playBlocked = signal(false);
  readonly pausedByViewer = signal(false);
  /** The picture has stood still for so long that the viewer deserves a word. */
  readonly frozen = signal(false);
  readonly events: { t: number; event: string; detail: string }[] = [];

  readonly #machine = new WatchMachine();
  readonly #stalls = new StallMeter();
  readonly #freezes = new FreezeDetector();
  readonly #useSync: boolean;
  #sync: LiveSync;
  #player: Player | undefined;
  #playerNumber = 0;
  #timer: number | undefined;
  #lastSyncMs = 0;
  #lastPositionS = 0;
  #openedMs = 0;
  #startupMs: number | undefined;
  #jumps = 0;
  #pausedAtMs: number | undefined;
  /** When data first came, while playback waits for a cushion. */
  #dataAtMs: number | undefined;
  #starting = false;
  #stalledAtMs: number | undefined;
  #framesBefore = { dropped: 0, total: 0 };
  #fps: { atMs: number; frames: number; value: number | undefined } = {
    atMs: 0,
    frames: 0,
    value: undefined,
  };

  constructor(options: SessionOptions) {
    this.channel = options.channel;
    this.local = options.local;
    this.video = options.video;
    this.kind.value = options.player;
    this.#useSync = options.sync;
    this.#sync = new LiveSync(options.player === "flv" ? FLV_SYNC : HLS_SYNC);
    for (const event of [
      "playing",
      "waiting",
      "pause",
      "seeking",
      "ratechange",
      "error",
      "resize",
    ]) {
      this.video.addEventListener(event, () => this.#log(event, this.video.currentTime.toFixed(2)));
    }
    this.video.addEventListener("pause", () => this.#onPause());
    this.video.addEventListener("play", () => this.#onPlay());
    document.addEventListener("visibilitychange", () => this.#onVisibility());
    window.addEventListener("online", () => this.#reopenIfLost());
    setInterval(() => this.#sample(), SAMPLE_MS);
    setInterval(() => void this.#pollChannel(), CHANNEL_POLL_MS);
  }

  open(): void {
    this.#openedMs = performance.now();
    this.#startupMs = undefined;
    void this.#pollChannel();
    this.#input({ type: "open" });
  }

  setPlayer(kind: PlayerKind): void {
    if (kind === this.kind.value) return;
    this.kind.value = kind;
    this.#sync = new LiveSync(kind === "flv" ? FLV_SYNC : HLS_SYNC);
    this.open();
  }

  togglePlay(): void {
    if (this.video.paused) void this.#play();
    else this.video.pause();
  }

  setMuted(muted: boolean): void {
    this.video.muted = muted;
    this.soundBlocked.value = false;
    if (!muted && this.video.paused && !this.pausedByViewer.value) void this.#play();
  }

  toLive(): void {
    this.#jump(this.#sync.targetS);
    if (this.video.paused) void this.#play();
  }

  #input(input: Input): void {
    this.#machine.handle(performance.now(), input);
    this.#drain();
  }

  #drain(): void {
    for (let output = this.#machine.pollOutput(); output; output = this.#machine.pollOutput()) {
      this.#log(output.type, `player ${output.player}`);
      if (output.type === "open") void this.#openPlayer(output.player);
      else this.#closePlayer();
    }
    const before = this.snapshot.value.phase;
    this.snapshot.value = this.#machine.snapshot;
    if (before !== this.snapshot.value.phase) this.#log("phase", this.snapshot.value.phase);
    clearTimeout(this.#timer);
    const at = this.#machine.pollTimeout();
    if (at === undefined) return;
    this.#timer = window.setTimeout(
      () => {
        this.#machine.handleTimeout(performance.now());
        this.#drain();
      },
      Math.max(0, at - performance.now()),
    );
  }

  async #openPlayer(number: number): Promise<void> {
    this.#playerNumber = number;
    const kind = this.kind.value;
    const handlers = {
      onData: () => {
        this.#dataAtMs ??= performance.now();
        this.#input({ type: "data", player: number });
      },
      onFailed: (
        cause: "not_found" | "denied" | "network" | "media" | "unsupported" | "ended",
        message: string,
      ) => {
        this.#log("failed", `${cause}: ${message}`);
        this.#input({ type: "failed", player: number, cause, message });
      },
    };
    const unsupported = (what: string) =>
      this.#input({ type: "failed", player: number, cause: "unsupported", message: what });
    try {
      const sources = await this.#sources();
      const library = await PLAYERS[kind]();
      // Meanwhile another player may have been asked for.
      if (number !== this.#playerNumber || this.#player) return;
      if ("createFlvPlayer" in library) {
        if (!library.flvSupported()) {
          unsupported("This browser cannot play HTTP-FLV. Choose HLS.");
          return;
        }
        this.#player = library.createFlvPlayer(this.video, sources.flv, handlers);
      } else if ("createWebrtcPlayer" in library) {
        if (!library.webrtcSupported()) {
          unsupported("This browser has no WebRTC. Choose FLV or HLS.");
          return;
        }
        const onStream = () => {
          if (!this.pausedByViewer.value) void this.#play();
        };
        this.#player = library.createWebrtcPlayer(this.video, sources.whep, {
          ...handlers,
          onStream,
        });
      } else {
        if (!library.hlsSupported(this.video)) {
          unsupported("This browser cannot play HLS.");
          return;
        }
        this.#player = library.createHlsPlayer(this.video, sources.hls, handlers);
      }
      this.#stalls.restart(performance.now());
      this.#dataAtMs = undefined;
      // Segments are a cushion of their own, and phones load nothing before they are asked to play.
      if (kind === "flv") this.#starting = true;
      else if (kind === "hls" && !this.pausedByViewer.value) void this.#play();
    } catch {
      handlers.onFailed("network", "The player could not be loaded.");
    }
  }

  #closePlayer(): void {
    this.#playerNumber = 0;
    if (!this.#player) return;
    // The element forgets its counts with its source.
    const quality = this.video.getVideoPlaybackQuality?.();
    this.#framesBefore.dropped += quality?.droppedVideoFrames ?? 0;
    this.#framesBefore.total += quality?.totalVideoFrames ?? 0;
    this.#player.destroy();
    this.#player = undefined;
    this.#starting = false;
    this.#stalledAtMs = undefined;
    this.frozen.value = false;
    this.video.playbackRate = 1;
  }

  /** From the channel's own record, so that an origin on another host is found; by convention when that is closed. */
  async #sources(): Promise<Sources> {
    if (!this.info.value) await this.#pollChannel();
    const name = encodeURIComponent(this.channel);
    const playback = this.info.value?.playback;
    const flv = absolute(playback?.flv || `/live/${name}.flv`, location.href);
    const hls = absolute(playback?.hls || `/live/${name}/index.m3u8`, location.href);
    const transport = new URLSearchParams(location.search).get("transport");
    const socket = absoluteSocket(playback?.ws_flv || `/live/${name}.flv`, location.href);
    const whep = whepUrl(location.href, this.channel);
    if (this.local !== undefined) {
      return { flv: localUrl(this.local, `/live/${name}.flv`), hls, whep };
    }
    return { flv: withToken(transport === "ws" ? socket : flv, token()), hls, whep };
  }

  async #pollChannel(): Promise<void> {
    try {
      this.info.value = await api.channel(this.channel);
    } catch (error) {
      // A viewer need not be allowed to read the API; what was known stays useful only if the channel still exists.
      if (error instanceof ApiError && error.status === 404) this.info.value = undefined;
    }
  }

  async #play(): Promise<void> {
    this.pausedByViewer.value = false;
    try {
      await this.video.play();
      this.playBlocked.value = false;
    } catch (error) {
      if (!(error instanceof DOMException) || error.name !== "NotAllowedError") return;
      if (!this.video.muted) {
        this.video.muted = true;
        this.soundBlocked.value = true;
        await this.#play();
        return;
      }
      this.playBlocked.value = true;
    }
  }

  #onPause(): void {
    // The browser pauses by itself at the end of a stream and when it throws a source away.
    if (!this.#player || this.video.ended) return;
    if (document.visibilityState !== "visible") return;
    this.pausedByViewer.value = true;
    this.#pausedAtMs = performance.now();
  }

  #onPlay(): void {
    this.pausedByViewer.value = false;
    const since = this.#pausedAtMs;
    this.#pausedAtMs = undefined;
    if (since !== undefined && performance.now() - since > PAUSE_KEEPS_MS) {
      this.#jump(this.#sync.targetS);
    }
  }

  #onVisibility(): void {
    // Browsers stop muted pictures in the background.
    if (document.visibilityState !== "visible" || this.pausedByViewer.value) return;
    if (this.video.paused && this.#player && !this.#starting) void this.#play();
  }

  #reopenIfLost(): void {
    if (this.snapshot.value.phase === "retrying" || this.snapshot.value.phase === "waiting") {
      this.#input({ type: "open" });
    }
  }

  #jump(lagS: number): void {
    if (!this.#player) return;
    this.#jumps += 1;
    this.#log("jump", `${lagS.toFixed(2)} s behind`);
    this.#player.jump(lagS);
  }

  #sample(): void {
    const nowMs = performance.now();
    const { video } = this;
    const phase = this.snapshot.value.phase;
    const connected = this.#player !== undefined && (phase === "playing" || phase === "opening");
    const expected = connected && !video.paused && !video.seeking;
    this.#startWhenReady(nowMs);
    this.#watchStalls(nowMs, expected);
    const position = video.currentTime;
    if (this.#player && position !== this.#lastPositionS && position > 0 && video.readyState >= 2) {
      this.#startupMs ??= nowMs - this.#openedMs;
      this.#input({ type: "progress", player: this.#playerNumber });
    } else if (this.#player && this.pausedByViewer.value && phase === "playing") {
      // A paused picture is not a dead one.
      this.#input({ type: "progress", player: this.#playerNumber });
    }
    this.#lastPositionS = position;
    if (nowMs - this.#lastSyncMs >= SYNC_MS) {
      this.#lastSyncMs = nowMs;
      this.#countFrames(nowMs);
      this.#follow(nowMs, expected);
      this.stats.value = this.measure();
    }
  }

  #startWhenReady(nowMs: number): void {
    if (!this.#starting || this.#dataAtMs === undefined || this.pausedByViewer.value) return;
    if (!mayStart(bufferedAhead(this.video), nowMs - this.#dataAtMs)) return;
    this.#starting = false;
    void this.#play();
  }

  #watchStalls(nowMs: number, expected: boolean): void {
    const positionS = this.video.currentTime;
    const event = this.#stalls.sample({ nowMs, positionS, expected });
    if (event?.type === "begin") {
      this.#log("stall", positionS.toFixed(2));
      this.#stalledAtMs = nowMs;
      this.#sync.onStall();
    }
    if (event?.type === "end") {
      this.#log("stall over", `${Math.round(event.durationMs)} ms`);
      this.#stalledAtMs = undefined;
      this.#sync.onStallEnd(event.durationMs);
    }
    this.#watchPicture(nowMs, expected);
    const forMs = this.#stalledAtMs === undefined ? 0 : nowMs - this.#stalledAtMs;
    this.frozen.value = forMs > EXPLAIN_MS || this.#stillWhileAway();
    // hls.js steps over holes by itself.
    if (forMs < GAP_MS || this.kind.value === "hls" || bufferedAhead(this.video) > 0.05) return;
    const next = nextRangeStart(this.video);
    if (next === undefined) return;
    this.#log("gap", `${(next - positionS).toFixed(2)} s`);
    this.video.currentTime = next + 0.05;
  }

  /** The host is away, and nothing moves in their place: no slate, which would speak for itself. */
  #stillWhileAway(): boolean {
    return this.info.value?.state === "away" && (this.#fps.value ?? 0) < 1;
  }

  #watchPicture(nowMs: number, expected: boolean): void {
    const { video } = this;
    const frozen = this.#freezes.sample({
      nowMs,
      positionS: video.currentTime,
      frames: video.getVideoPlaybackQuality?.().totalVideoFrames ?? 0,
      aheadS: bufferedAhead(video),
      fps: this.#fps.value,
      expected: expected && document.visibilityState === "visible",
    });
    if (!frozen) return;
    this.#log("frozen", video.currentTime.toFixed(2));
    video.currentTime += 0.01;
  }

  #follow(nowMs: number, expected: boolean): void {
    const figures = this.#player?.figures();
    if (!this.#useSync || !expected || !figures || this.snapshot.value.phase !== "playing") return;
    if (figures.targetS !== undefined) this.#sync.targetS = figures.targetS;
    if (figures.lagS === undefined) return;
    const aheadS = bufferedAhead(this.video);
    const action = this.#sync.observe({ nowMs, lagS: figures.lagS, aheadS });
    if (action.jumpToLagS !== undefined) this.#jump(action.jumpToLagS);
    if (this.video.playbackRate !== action.rate) this.video.playbackRate = action.rate;
  }

  #countFrames(nowMs: number): void {
    const frames = this.video.getVideoPlaybackQuality?.().totalVideoFrames ?? 0;
    const { atMs, frames: before } = this.#fps;
    if (nowMs - atMs < 1_900) return;
    const value =
      frames >= before && atMs > 0 ? ((frames - before) * 1000) / (nowMs - atMs) : undefined;
    this.#fps = { atMs: nowMs, frames, value };
  }

  measure(): WatchStats {
    const { video } = this;
    const figures = this.#player?.figures();
    const quality = video.getVideoPlaybackQuality?.();
    const stalls = this.#stalls.stats(performance.now());
    return {
      phase: this.snapshot.value.phase,
      player: this.kind.value,
      library: figures?.library,
      currentTime: video.currentTime,
      paused: video.paused,
      muted: video.muted,
      playbackRate: video.playbackRate,
      bufferS: bufferedAhead(video),
      lagS: figures?.lagS,
      latencyS: figures?.latencyS,
      stalls: stalls.count,
      stalledMs: stalls.totalMs,
      droppedFrames: this.#framesBefore.dropped + (quality?.droppedVideoFrames ?? 0),
      totalFrames: this.#framesBefore.total + (quality?.totalVideoFrames ?? 0),
      reconnects: this.snapshot.value.reconnects,
      jumps: this.#jumps,
      startupMs: this.#startupMs,
      width: video.videoWidth,
      height: video.videoHeight,
      fps: this.#fps.value ?? figures?.fps,
      bitrateBps: figures?.bitrateBps,
      codec: figures?.codec,
    };
  }

  #log(event: string, detail: string): void {
    this.events.push({ t: Math.round(performance.now()), event, detail });
    if (this.events.length > MAX_EVENTS) this.events.shift();
  }
}
