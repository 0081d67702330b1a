// HTTP-FLV (or the same bytes over a web socket) by mpegts.js: the shortest way from the origin to the screen.

import mpegts from "mpegts.js";
import type { Cause } from "../machine";
import {
  bufferedLag,
  causeOfStatus,
  type Player,
  type PlayerFigures,
  type PlayerHandlers,
  words,
} from "./player";

const CONFIG = {
  enableWorker: false,
  // Stashing trades latency for fewer, larger appends.
  enableStashBuffer: false,
  lazyLoad: false,
  deferLoadAfterSourceOpen: false,
  // The page's own control (live-sync.ts) decides about speed and seeking.
  liveBufferLatencyChasing: false,
  liveSync: false,
  autoCleanupSourceBuffer: true,
  autoCleanupMaxBackwardDuration: 40,
  autoCleanupMinBackwardDuration: 20,
};

function causeOf(type: unknown, detail: unknown, info: unknown): Cause {
  if (detail === mpegts.ErrorDetails.NETWORK_STATUS_CODE_INVALID) {
    return causeOfStatus((info as { code?: number } | undefined)?.code);
  }
  if (detail === mpegts.ErrorDetails.MEDIA_CODEC_UNSUPPORTED) return "unsupported";
  return type === mpegts.ErrorTypes.MEDIA_ERROR ? "media" : "network";
}

export function flvSupported(): boolean {
  return mpegts.getFeatureList().mseLivePlayback;
}

/** `video/x-flv; codecs="avc1.42E01F,mp4a.40.2"` → `avc1.42E01F, mp4a.40.2` */
export function codecOf(mimeType: string): string {
  return (/codecs="([^"]*)"/.exec(mimeType)?.[1] ?? "").split(",").join(", ");
}

function jumpTo(video: HTMLVideoElement, lagS: number): void {
  const { buffered } = video;
  const last = buffered.length - 1;
  if (last >= 0) video.currentTime = Math.max(buffered.start(last), buffered.end(last) - lagS);
}

export function createFlvPlayer(
  video: HTMLVideoElement,
  url: string,
  handlers: PlayerHandlers,
): Player {
  mpegts.LoggingControl.enableAll = false;
  const player = mpegts.createPlayer({ type: "flv", isLive: true, cors: true, url }, CONFIG);
  let alive = true;
  let speedKBps = 0;
  let media: { readonly fps?: number; readonly mimeType?: string } = {};
  const fail = (cause: Cause) => {
    if (alive) handlers.onFailed(cause, words(cause));
  };
  player.on(mpegts.Events.ERROR, (type: unknown, detail: unknown, info: unknown) =>
    fail(causeOf(type, detail, info)),
  );
  player.on(mpegts.Events.LOADING_COMPLETE, () => fail("ended"));
  player.on(mpegts.Events.MEDIA_INFO, (info: typeof media) => {
    media = info;
    if (alive) handlers.onData();
  });
  player.on(mpegts.Events.STATISTICS_INFO, (statistics: { readonly speed?: number }) => {
    speedKBps = statistics.speed ?? 0;
  });
  player.attachMediaElement(video);
  player.load();
  return {
    kind: "flv",
    figures: (): PlayerFigures => ({
      library: "mpegts.js",
      lagS: bufferedLag(video),
      ...(speedKBps > 0 ? { bitrateBps: speedKBps * 8 * 1024 } : {}),
      ...(media.fps ? { fps: media.fps } : {}),
      ...(media.mimeType ? { codec: codecOf(media.mimeType) } : {}),
    }),
    jump: (lagS) => jumpTo(video, lagS),
    destroy: () => {
      alive = false;
      player.destroy();
    },
  };
}
