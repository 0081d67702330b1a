// What the studio looks like: the picture and its state on one side, the choices on the other.

import { useEffect, useRef, useState } from "preact/hooks";
import * as format from "../lib/format";
import { Icon } from "../ui/icon";
import { TokenForm } from "../ui/token-form";
import { Badge, Brand, CopyField, Notice, type Tone } from "../ui/widgets";
import type { Phase, Snapshot } from "../whip/machine";
import type { Studio } from "./controller";
import { Meter } from "./meter-view";
import { AirLight, Company, Tiles } from "./room-view";
import { SettingsPanel } from "./settings-panel";
import { StatsPanel } from "./stats-panel";

const PHASES: Record<Phase, { word: string; tone: Tone }> = {
  idle: { word: "Off air", tone: "neutral" },
  opening: { word: "Connecting", tone: "warn" },
  connecting: { word: "Connecting", tone: "warn" },
  live: { word: "Live", tone: "live" },
  recovering: { word: "Reconnecting", tone: "warn" },
  waiting: { word: "Reconnecting", tone: "warn" },
  failed: { word: "Off air", tone: "bad" },
};

/** Renders once a second, for clocks and countdowns. */
function useNow(active: boolean): number {
  const [now, setNow] = useState(() => performance.now());
  useEffect(() => {
    if (!active) return;
    const timer = setInterval(() => setNow(performance.now()), 250);
    return () => clearInterval(timer);
  }, [active]);
  return now;
}

function Preview({ studio }: { studio: Studio }) {
  const video = useRef<HTMLVideoElement>(null);
  const stream = studio.preview.value;
  useEffect(() => {
    const element = video.current;
    if (!element) return;
    element.srcObject = stream ?? null;
    if (stream) element.play().catch(() => undefined);
  }, [stream]);
  const mirrored = studio.settings.value.source === "camera";
  return (
    <video
      ref={video}
      class={mirrored ? "studio__video studio__video--mirrored" : "studio__video"}
      muted
      autoplay
      playsInline
      aria-label="Preview of what you publish"
    />
  );
}

const START_WORDS = {
  camera: { label: "Turn on camera", icon: "camera" },
  screen: { label: "Choose a screen", icon: "screen" },
  pattern: { label: "Show test picture", icon: "pattern" },
} as const;

function StageMessage({ studio }: { studio: Studio }) {
  const { source } = studio.settings.value;
  if (studio.opening.value) {
    return (
      <div class="stage__message" role="status">
        <span class="spinner" aria-hidden="true" />
        {source === "pattern"
          ? "Starting the test picture"
          : "Waiting for the browser's permission"}
      </div>
    );
  }
  if (studio.preview.value) return null;
  const start = START_WORDS[source];
  return (
    <div class="stage__message">
      {studio.captureError.value ? (
        <p class="studio__capture-error" role="alert">
          {studio.captureError.value}
        </p>
      ) : (
        <p>Nothing is captured yet, and nothing leaves this device before you go live.</p>
      )}
      <div class="row studio__centre">
        <button type="button" class="btn btn--primary" onClick={() => void studio.openSource()}>
          <Icon name={start.icon} />
          {start.label}
        </button>
        {source !== "pattern" ? (
          <button
            type="button"
            class="btn"
            onClick={() => void studio.change({ source: "pattern" })}
          >
            <Icon name="pattern" />
            Use test picture
          </button>
        ) : null}
      </div>
    </div>
  );
}

function stateSentence(snapshot: Snapshot, guest: boolean, nowMs: number): string {
  switch (snapshot.phase) {
    case "idle":
      return guest ? "You have not joined." : "You are off air.";
    case "opening":
      return "Asking the server…";
    case "connecting":
      return "Connecting the media…";
    case "live":
      return `${guest ? "Connected" : "On air"} for ${format.duration(nowMs - (snapshot.liveSinceMs ?? nowMs))}`;
    case "recovering":
      return "The connection is interrupted; trying to restore it…";
    case "waiting": {
      const seconds = Math.max(0, Math.ceil(((snapshot.retryAtMs ?? nowMs) - nowMs) / 1000));
      return `Trying again in ${seconds} s (attempt ${snapshot.attempt + 1}).`;
    }
    case "failed":
      return guest ? "You are not connected." : "You are off air.";
  }
}

function Controls({ studio }: { studio: Studio }) {
  const snapshot = studio.snapshot.value;
  const onAir = studio.onAir;
  const guest = studio.settings.value.role === "guest";
  const now = useNow(onAir);
  return (
    <div class="row row--between studio__controls" data-joined={onAir}>
      <div class="row">
        {onAir ? (
          <button type="button" class="btn btn--large btn--danger" onClick={() => studio.stop()}>
            {guest ? "Leave" : "Stop"}
          </button>
        ) : (
          <button
            type="button"
            class="btn btn--large btn--primary"
            disabled={studio.opening.value}
            onClick={() => void studio.goLive()}
          >
            <Icon name={guest ? "enter" : "live"} />
            {guest ? "Join the show" : "Go live"}
          </button>
        )}
        <button
          type="button"
          class="btn btn--large"
          aria-pressed={studio.muted.value}
          onClick={() => studio.setMuted(!studio.muted.value)}
        >
          <Icon name={studio.muted.value ? "muted" : "mic"} />
          {studio.muted.value ? "Unmute" : "Mute"}
        </button>
      </div>
      <p class="muted">{stateSentence(snapshot, guest, now)}</p>
    </div>
  );
}

function Problems({ studio }: { studio: Studio }) {
  const { failure, phase } = studio.snapshot.value;
  const denied = failure?.status === 401 || failure?.status === 403;
  return (
    <>
      {failure && phase === "failed" && denied ? (
        <TokenForm scope="publish" onToken={() => void studio.goLive()} />
      ) : null}
      {failure && phase !== "live" && !(denied && phase === "failed") ? (
        <Notice tone={phase === "failed" ? "bad" : "warn"} role="alert" title={failure.message}>
          {failure.status === 409 && phase === "failed" ? (
            <button
              type="button"
              class="btn"
              onClick={() => void studio.change({ role: "guest" }).then(() => studio.goLive())}
            >
              Join as a guest
            </button>
          ) : null}
          {failure.status === 404 && phase === "failed" ? (
            <button type="button" class="btn" onClick={() => void studio.createChannel()}>
              Create it and go live
            </button>
          ) : null}
        </Notice>
      ) : null}
      {studio.notice.value ? (
        <Notice tone="warn" role="alert">
          {studio.notice.value}
        </Notice>
      ) : null}
      {studio.captureError.value && studio.preview.value ? (
        <Notice tone="bad" role="alert">
          {studio.captureError.value}
        </Notice>
      ) : null}
    </>
  );
}

/** Connected is not on air: for a guest the server says which. */
function phaseLook(studio: Studio): { word: string; tone: Tone } {
  const look = PHASES[studio.snapshot.value.phase];
  const waits = studio.snapshot.value.phase === "live" && studio.room.air.value?.onAir === false;
  return waits ? { word: "Connected", tone: "ok" } : look;
}

export function StudioPage({ studio }: { studio: Studio }) {
  const phase = phaseLook(studio);
  const company = studio.onAir ? studio.room.others.value.length : 0;
  const watch = new URL(`/watch/${encodeURIComponent(studio.channel)}`, location.href).href;
  return (
    <>
      <a class="skip-link" href="#main">
        Skip to the studio
      </a>
      <header class="topbar">
        <Brand where="Studio" />
        <div class="topbar__end">
          <span role="status" aria-live="polite">
            <Badge tone={phase.tone}>{phase.word}</Badge>
          </span>
        </div>
      </header>
      <main class="page studio" id="main">
        <section class="stack" aria-label="Picture">
          <div class="stack stack--tight">
            <h1>{studio.room.channel.value?.title || studio.channel}</h1>
            <AirLight studio={studio} />
          </div>
          <div class="pictures" data-others={Math.min(company, 5)}>
            <div class="stage">
              <Preview studio={studio} />
              <StageMessage studio={studio} />
              {company > 0 ? (
                <div class="tile__foot">
                  <span class="tile__name">You ({studio.participant})</span>
                </div>
              ) : null}
            </div>
            <Tiles studio={studio} />
          </div>
          <Company studio={studio} />
          <Meter studio={studio} />
          <Controls studio={studio} />
          <Problems studio={studio} />
          <StatsPanel studio={studio} />
        </section>
        <aside class="stack" aria-label="Settings">
          <SettingsPanel studio={studio} />
          <section class="card stack stack--tight">
            <h2>Invite viewers</h2>
            <CopyField text={watch} label="Watch page" />
            <p class="small row">
              <a href={watch} target="_blank" rel="noopener">
                Open the watch page
              </a>
              <a
                href={`/#/channels/${encodeURIComponent(studio.channel)}`}
                target="_blank"
                rel="noopener"
              >
                See it in the console
              </a>
            </p>
          </section>
        </aside>
      </main>
    </>
  );
}
