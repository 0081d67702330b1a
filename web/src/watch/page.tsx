// What the player page looks like.

import { useEffect, useRef, useState } from "preact/hooks";
import * as format from "../lib/format";
import { Icon } from "../ui/icon";
import { TokenForm } from "../ui/token-form";
import { Badge, Brand, type Fact, Facts, Notice, Segmented, type Tone } from "../ui/widgets";
import { type KeyActions, useKeys } from "./keys";
import { LocalSources } from "./local";
import type { PlayerKind } from "./players/player";
import type { WatchSession, WatchStats } from "./session";

/** More than this behind, the way back to the live edge is offered. */
const BEHIND_S = 5;

function state(session: WatchSession): { word: string; tone: Tone } {
  const { phase } = session.snapshot.value;
  if (phase === "playing") {
    if (session.info.value?.state === "away") return { word: "Host away", tone: "warn" };
    return session.pausedByViewer.value
      ? { word: "Paused", tone: "neutral" }
      : { word: "Live", tone: "live" };
  }
  const words = {
    off: { word: "Stopped", tone: "neutral" },
    opening: { word: "Starting", tone: "warn" },
    waiting: { word: "Not on air", tone: "neutral" },
    retrying: { word: "Reconnecting", tone: "warn" },
    denied: { word: "Token needed", tone: "bad" },
    unsupported: { word: "Cannot play", tone: "bad" },
  } as const;
  return words[phase];
}

function Overlay({ session }: { session: WatchSession }) {
  const { phase, message } = session.snapshot.value;
  if (phase === "playing" && session.playBlocked.value) {
    return (
      <button type="button" class="watch__big" onClick={() => session.togglePlay()}>
        <Icon name="play" size={40} />
        Play
      </button>
    );
  }
  if (phase === "playing") {
    const away = session.info.value?.state === "away";
    return session.frozen.value ? (
      <div class="watch__frozen" role="status">
        <span class="spinner" aria-hidden="true" />
        {away ? "The host is away for a moment." : "Waiting for the picture…"}
      </div>
    ) : null;
  }
  if (phase === "off") {
    return (
      <button type="button" class="watch__big" onClick={() => session.open()}>
        <Icon name="play" size={40} />
        Watch
      </button>
    );
  }
  const spinning = phase === "opening" || phase === "retrying" || phase === "waiting";
  const title = {
    opening: "Starting…",
    waiting: message ?? "The show has not begun yet.",
    retrying: "Reconnecting…",
    denied: "This channel needs a token.",
    unsupported: message ?? "This browser cannot play the stream.",
  }[phase];
  const more = {
    opening: undefined,
    waiting: "It starts here by itself as soon as the host is on air.",
    retrying: message,
    denied: undefined,
    unsupported: undefined,
  }[phase];
  return (
    <div class="stage__message" role="status">
      {spinning ? <span class="spinner" aria-hidden="true" /> : null}
      <p class="watch__headline">{title}</p>
      {more ? <p>{more}</p> : null}
    </div>
  );
}

function Picture({ session }: { session: WatchSession }) {
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    place.current?.append(session.video);
  }, [session]);
  return <div class="watch__picture" ref={place} />;
}

function Volume({ session }: { session: WatchSession }) {
  const [level, setLevel] = useState(1);
  const [muted, setMuted] = useState(session.video.muted);
  useEffect(() => {
    const follow = () => {
      setMuted(session.video.muted);
      setLevel(session.video.volume);
    };
    session.video.addEventListener("volumechange", follow);
    return () => session.video.removeEventListener("volumechange", follow);
  }, [session]);
  return (
    <div class="row watch__volume">
      <button
        type="button"
        class="btn btn--quiet btn--icon"
        aria-label={muted ? "Turn sound on" : "Turn sound off"}
        onClick={() => session.setMuted(!muted)}
      >
        <Icon name={muted ? "muted" : "sound"} />
      </button>
      <input
        type="range"
        class="watch__slider"
        aria-label="Volume"
        min={0}
        max={1}
        step={0.05}
        value={muted ? 0 : level}
        onInput={(event) => {
          session.video.volume = event.currentTarget.valueAsNumber;
          session.setMuted(event.currentTarget.valueAsNumber === 0);
        }}
      />
    </div>
  );
}

function Bar({ session, actions }: { session: WatchSession; actions: KeyActions }) {
  const stats = session.stats.value;
  const running = session.snapshot.value.phase === "playing" && !session.pausedByViewer.value;
  const behind = (stats?.lagS ?? 0) > BEHIND_S && session.kind.value === "flv";
  return (
    <div class="watch__bar">
      <button
        type="button"
        class="btn btn--quiet btn--icon"
        aria-label={running ? "Pause" : "Play"}
        onClick={actions.togglePlay}
      >
        <Icon name={running ? "pause" : "play"} />
      </button>
      <Volume session={session} />
      {behind ? (
        <button type="button" class="btn btn--quiet" onClick={actions.toLive}>
          <Icon name="edge" />
          To live
        </button>
      ) : null}
      <span class="watch__gap" />
      <Segmented
        legend="Player"
        value={session.kind.value}
        options={[
          { value: "flv", label: "FLV" },
          { value: "hls", label: "HLS" },
          { value: "webrtc", label: "WebRTC" },
        ]}
        onChange={(kind: PlayerKind) => session.setPlayer(kind)}
      />
      {document.pictureInPictureEnabled ? (
        <button
          type="button"
          class="btn btn--quiet btn--icon"
          aria-label="Picture in picture"
          onClick={actions.togglePip}
        >
          <Icon name="pip" />
        </button>
      ) : null}
      <button
        type="button"
        class="btn btn--quiet btn--icon"
        aria-label="Full screen"
        onClick={actions.toggleFullscreen}
      >
        <Icon name="full" />
      </button>
    </div>
  );
}

function facts(stats: WatchStats | undefined): Fact[] {
  const latency =
    stats?.latencyS !== undefined
      ? { name: "Latency", value: format.seconds(stats.latencyS) }
      : { name: "Behind newest data", value: format.seconds(stats?.lagS, 2) };
  const frames = stats ? `${format.count(stats.droppedFrames)}` : format.DASH;
  const stalled = stats && stats.stalls > 0 ? ` (${format.seconds(stats.stalledMs / 1000)})` : "";
  return [
    latency,
    { name: "Buffer", value: format.seconds(stats?.bufferS, 2) },
    { name: "Stalls", value: stats ? `${stats.stalls}${stalled}` : format.DASH },
    { name: "Dropped frames", value: frames },
    { name: "Reconnects", value: format.count(stats?.reconnects) },
    { name: "Picture", value: format.size(stats?.width, stats?.height) },
    { name: "Frame rate", value: format.fps(stats?.fps) },
    { name: "Bitrate", value: format.bitrate(stats?.bitrateBps) },
    {
      name: "Speed",
      value: stats ? `${Math.round(stats.playbackRate * 100)} %` : format.DASH,
    },
    {
      name: "First picture after",
      value:
        stats?.startupMs === undefined ? format.DASH : format.seconds(stats.startupMs / 1000, 2),
    },
    { name: "Player", value: stats?.library ?? format.DASH },
    { name: "Codecs", value: stats?.codec ?? format.DASH },
  ];
}

const KEYS = [
  ["Space", "play or pause"],
  ["M", "sound on or off"],
  ["↑ ↓", "volume"],
  ["L", "to the live edge"],
  ["F", "full screen"],
  ["P", "picture in picture"],
] as const;

export function WatchPage({ session }: { session: WatchSession }) {
  const stage = useRef<HTMLDivElement>(null);
  const actions: KeyActions = {
    togglePlay: () => {
      if (session.snapshot.value.phase === "off") session.open();
      else session.togglePlay();
    },
    toggleMute: () => session.setMuted(!session.video.muted),
    volume: (step) => {
      session.video.volume = Math.min(1, Math.max(0, session.video.volume + step));
      if (session.video.muted && step > 0) session.setMuted(false);
    },
    toLive: () => session.toLive(),
    toggleFullscreen: () => {
      if (document.fullscreenElement) void document.exitFullscreen();
      else void stage.current?.requestFullscreen?.().catch(() => undefined);
    },
    togglePip: () => {
      if (document.pictureInPictureElement) void document.exitPictureInPicture();
      else void session.video.requestPictureInPicture?.().catch(() => undefined);
    },
  };
  useKeys(actions);
  const badge = state(session);
  const info = session.info.value;
  return (
    <>
      <a class="skip-link" href="#main">
        Skip to the picture
      </a>
      <header class="topbar">
        <Brand />
        <div class="topbar__end">
          {info ? (
            <span class="muted small">{format.plural(info.viewers.total, "viewer")}</span>
          ) : null}
          <span role="status" aria-live="polite">
            <Badge tone={badge.tone}>{badge.word}</Badge>
          </span>
        </div>
      </header>
      <main class="page stack watch" id="main">
        <h1>{info?.title || session.channel}</h1>
        <div class="watch__stage" ref={stage}>
          <div class="stage">
            <Picture session={session} />
            <Overlay session={session} />
            {session.soundBlocked.value && session.snapshot.value.phase === "playing" ? (
              <button type="button" class="watch__sound" onClick={() => session.setMuted(false)}>
                <Icon name="muted" />
                Turn sound on
              </button>
            ) : null}
          </div>
          <Bar session={session} actions={actions} />
        </div>
        {session.snapshot.value.phase === "denied" ? (
          <TokenForm scope="view" onToken={() => session.open()} />
        ) : null}
        {session.snapshot.value.phase === "unsupported" ? (
          <Notice
            tone="bad"
            role="alert"
            action={
              session.kind.value === "flv" ? (
                <button type="button" class="btn" onClick={() => session.setPlayer("hls")}>
                  Try HLS
                </button>
              ) : null
            }
          >
            {session.snapshot.value.message}
          </Notice>
        ) : null}
        {session.local === undefined ? null : <LocalSources port={session.local} />}
        <section class="card stack" aria-label="Playback figures">
          <h2>Playback</h2>
          <Facts items={facts(session.stats.value)} />
          <details class="more">
            <summary>Keyboard</summary>
            <ul class="watch__keys">
              {KEYS.map(([key, what]) => (
                <li key={key}>
                  <kbd>{key}</kbd> {what}
                </li>
              ))}
            </ul>
          </details>
        </section>
      </main>
    </>
  );
}
