// HLS by hls.js, or by the browser itself where there are no media source extensions (iPhones).

import workerPath from "hls.js/dist/hls.worker.js?url";
// Without subtitles, alternative sound and encryption, which the origin does not serve.
import Hls from "hls.js/light";
import { token } from "../../api/token";
import { withToken } from "../../lib/url";
import type { Cause } from "../machine";
import {
  bufferedLag,
  causeOfStatus,
  type Player,
  type PlayerFigures,
  type PlayerHandlers,
  words,
} from "./player";

/** Retrying a missing playlist is the page's business: it knows whether to say "waiting" or "reconnecting". */
const PLAYLIST_POLICY = {
  default: {
    maxTimeToFirstByteMs: 8_000,
    maxLoadTimeMs: 20_000,
    timeoutRetry: { maxNumRetry: 1, retryDelayMs: 0, maxRetryDelayMs: 0 },
    errorRetry: null,
  },
};

function createHls(): Hls {
  return new Hls({
    lowLatencyMode: false,
    workerPath,
    backBufferLength: 20,
    maxBufferLength: 20,
    liveSyncDurationCount: 3,
    liveMaxLatencyDurationCount: 8,
    // The page's own control (live-sync.ts) changes the speed, and only when it must.
    maxLiveSyncPlaybackRate: 1,
    manifestLoadPolicy: PLAYLIST_POLICY,
    xhrSetup: (request, address) => request.open("GET", withToken(address, token()), true),
  });
}

function figuresOf(hls: Hls, bitrateBps: number | undefined): PlayerFigures {
  const playing = hls.playingDate?.getTime();
  const level = hls.levels[Math.max(0, hls.currentLevel)];
  return {
    library: "hls.js",
    ...(hls.latency > 0 ? { lagS: hls.latency } : {}),
    ...(playing !== undefined ? { latencyS: (Date.now() - playing) / 1000 } : {}),
    ...(hls.targetLatency !== null ? { targetS: hls.targetLatency } : {}),
    ...(bitrateBps !== undefined ? { bitrateBps } : {}),
    ...(level?.videoCodec
      ? { codec: [level.videoCodec, level.audioCodec].filter(Boolean).join(", ") }
      : {}),
  };
}

function createWithLibrary(video: HTMLVideoElement, url: string, handlers: PlayerHandlers): Player {
  const hls = createHls();
  let alive = true;
  let recovered = false;
  let bitrateBps: number | undefined;
  const fail = (cause: Cause) => {
    if (alive) handlers.onFailed(cause, words(cause));
  };
  hls.on(Hls.Events.ERROR, (_, data) => {
    if (!data.fatal) return;
    if (data.type !== Hls.ErrorTypes.MEDIA_ERROR) {
      // A playlist without its first segment yet is answered 503: the show is about to begin.
      const early = data.response?.code === 503 && bitrateBps === undefined;
      fail(early ? "not_found" : causeOfStatus(data.response?.code));
      return;
    }
    // The library's own repair helps once; after that a new player is the better one.
    if (recovered) fail("media");
    else hls.recoverMediaError();
    recovered = true;
  });
  hls.on(Hls.Events.FRAG_BUFFERED, (_, { stats, frag }) => {
    // A playlist without variants does not say its bitrate; the segments do.
    if (stats.loaded > 0 && frag.duration > 0) bitrateBps = (stats.loaded * 8) / frag.duration;
    if (alive) handlers.onData();
  });
  const stop = new AbortController();
  video.addEventListener("ended", () => fail("ended"), { signal: stop.signal });
  hls.loadSource(url);
  hls.attachMedia(video);
  return {
    kind: "hls",
    figures: () => figuresOf(hls, bitrateBps),
    jump: () => {
      if (hls.liveSyncPosition !== null) video.currentTime = hls.liveSyncPosition;
    },
    destroy: () => {
      alive = false;
      stop.abort();
      hls.destroy();
    },
  };
}

function createNative(video: HTMLVideoElement, url: string, handlers: PlayerHandlers): Player {
  const stop = new AbortController();
  const options = { signal: stop.signal };
  const fail = (cause: Cause) => handlers.onFailed(cause, words(cause));
  video.addEventListener("loadeddata", () => handlers.onData(), options);
  video.addEventListener("ended", () => fail("ended"), options);
  video.addEventListener(
    "error",
    // A media element does not tell a missing playlist from a broken one; "not there yet" is the likely one.
    () => fail(video.error?.code === MediaError.MEDIA_ERR_DECODE ? "media" : "not_found"),
    options,
  );
  video.src = withToken(url, token());
  return {
    kind: "hls",
    figures: () => ({ library: "the browser", lagS: bufferedLag(video) }),
    jump: (lagS) => {
      const { seekable } = video;
      if (seekable.length > 0) video.currentTime = seekable.end(seekable.length - 1) - lagS;
    },
    destroy: () => {
      stop.abort();
      video.removeAttribute("src");
      video.load();
    },
  };
}

export function hlsSupported(video: HTMLVideoElement): boolean {
  return Hls.isSupported() || video.canPlayType("application/vnd.apple.mpegurl") !== "";
}

export function createHlsPlayer(
  video: HTMLVideoElement,
  url: string,
  handlers: PlayerHandlers,
): Player {
  // Browsers with both answer "maybe" for native HLS and then play it worse, so the library comes first.
  return Hls.isSupported()
    ? createWithLibrary(video, url, handlers)
    : createNative(video, url, handlers);
}
