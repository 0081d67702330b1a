// `window.anchornet`: what a page measures about itself, for end-to-end tests, bug reports and the curious. It is a
// contract: add to it, do not change what is there. See web/README.md.

import type { Studio } from "../studio/controller";
import type { WatchSession, WatchStats } from "../watch/session";

export interface StudioDiagnostics {
  readonly page: "studio";
  readonly channel: string;
  readonly participant: string;
  /** Phase of the session, its attempt, its last failure, and the newest WebRTC figures. */
  stats(): Record<string, unknown>;
  start(): Promise<void>;
  stop(): void;
}

export interface WatchDiagnostics {
  readonly page: "watch";
  readonly channel: string;
  /** The `<video>` element. */
  readonly video: HTMLVideoElement;
  stats(): WatchStats;
  /** The last 200 things that happened, oldest first; `t` is `performance.now()` in milliseconds. */
  readonly events: readonly {
    readonly t: number;
    readonly event: string;
    readonly detail: string;
  }[];
  setPlayer(kind: "flv" | "hls"): void;
}

declare global {
  interface Window {
    anchornet?: StudioDiagnostics | WatchDiagnostics;
  }
}

export function exposeStudio(studio: Studio): void {
  window.anchornet = {
    page: "studio",
    channel: studio.channel,
    participant: studio.participant,
    stats: () => ({
      ...studio.snapshot.value,
      ...studio.stats.value,
      source: studio.settings.value.source,
      notice: studio.notice.value,
      captureError: studio.captureError.value,
      mode: studio.room.channel.value?.mode,
      layout: studio.room.channel.value?.layout.name,
      onAir: studio.room.me.value?.on_air ?? false,
      peers: studio.room.stats.value,
    }),
    start: () => studio.goLive(),
    stop: () => studio.stop(),
  };
}

export function exposeWatch(session: WatchSession): void {
  window.anchornet = {
    page: "watch",
    channel: session.channel,
    video: session.video,
    stats: () => session.measure(),
    events: session.events,
    setPlayer: (kind) => session.setPlayer(kind),
  };
}
