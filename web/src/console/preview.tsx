// Small live pictures in the list of channels. They are for recognising a show, so they are cheap: only as many as are
// seen and only a few at a time, muted, and may be late. The program of the open channel stays near the live edge, so that its
// producer sees a cut soon after having made it.

import { useEffect, useRef, useState } from "preact/hooks";
import { token } from "../api/token";
import type { Channel } from "../api/types";
import { absoluteSocket, withToken } from "../lib/url";
import type { Player } from "../watch/players/player";
import { PreviewPlaces, usePlace, useVisible } from "./visible";

/** Decoding is the cost; a browser also allows few connections to one host. */
const MAX_PLAYING = 4;
const RETRY_MS = 3_000;
/** Behind the newest data: more is skipped, down to `to`. */
const LAG_S = { main: { most: 1.6, to: 0.7 }, list: { most: 6, to: 1 } };

const places = new PreviewPlaces(MAX_PLAYING);
/** The program of the channel that is open does not wait for the others. */
const mainPlace = new PreviewPlaces(1);

/** Who looks after a show is no viewer of it. */
function uncounted(address: string): string {
  const url = new URL(address);
  url.searchParams.set("preview", "1");
  return url.href;
}

/** Plays `url` into `video` until the result is called; comes back by itself when the stream breaks. */
function keepPlaying(
  video: HTMLVideoElement,
  url: string,
  lag: { readonly most: number; readonly to: number },
  onShown: (shown: boolean) => void,
) {
  let stopped = false;
  let player: Player | undefined;
  let timer: number | undefined;
  const open = async () => {
    const { createFlvPlayer, flvSupported } = await import("../watch/players/flv");
    if (stopped || !flvSupported()) return;
    player = createFlvPlayer(video, url, {
      onData: () => void video.play().catch(() => undefined),
      onFailed: () => {
        player?.destroy();
        player = undefined;
        onShown(false);
        timer = window.setTimeout(() => void open(), RETRY_MS);
      },
    });
  };
  const chase = window.setInterval(() => {
    if ((player?.figures().lagS ?? 0) > lag.most) player?.jump(lag.to);
  }, 1_000);
  const shown = () => onShown(true);
  video.addEventListener("playing", shown);
  void open();
  return () => {
    stopped = true;
    clearTimeout(timer);
    clearInterval(chase);
    video.removeEventListener("playing", shown);
    player?.destroy();
  };
}

export function Preview({ channel, main }: { channel: Channel; main?: boolean }) {
  const frame = useRef<HTMLDivElement>(null);
  const video = useRef<HTMLVideoElement>(null);
  const visible = useVisible(frame);
  const [shown, setShown] = useState(false);
  const wanted = visible && channel.state !== "idle";
  const playing = usePlace(main ? mainPlace : places, wanted);
  const address = channel.playback.ws_flv || channel.playback.flv;
  useEffect(() => {
    const element = video.current;
    if (!playing || !element) return;
    const url = withToken(uncounted(absoluteSocket(address, location.href)), token());
    const stop = keepPlaying(element, url, main ? LAG_S.main : LAG_S.list, setShown);
    return () => {
      stop();
      setShown(false);
    };
  }, [playing, address, main]);
  const word = channel.state === "idle" ? "Off air" : wanted ? "Loading picture" : "";
  return (
    <div class="stage preview" ref={frame} aria-hidden="true">
      <video ref={video} muted playsInline disableRemotePlayback tabIndex={-1} />
      {shown ? null : <span class="preview__word">{word}</span>}
    </div>
  );
}
