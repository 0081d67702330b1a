// One channel in full.

import { useMemo, useState } from "preact/hooks";
import { api } from "../api/client";
import { token } from "../api/token";
import type { Channel, ChannelStats, Viewers } from "../api/types";
import { Plot } from "../charts/plot";
import { axisFromZero, bitrateTick, fixedAxis, largest } from "../charts/scale";
import * as format from "../lib/format";
import { Icon } from "../ui/icon";
import { LevelMeter } from "../ui/level-meter";
import { showToast } from "../ui/toast";
import { Badge, CopyField, Facts, Notice } from "../ui/widgets";
import { nowMs } from "./clock";
import { recipes, whipUrl } from "./commands";
import { Confirm } from "./confirm";
import { seats } from "./desk/cast";
import { Desk } from "./desk/desk";
import { InviteDialog } from "./desk/invite-dialog";
import { Links } from "./desk/links";
import { People } from "./desk/people";
import { ShortcutsDialog, useDeskKeys } from "./desk/shortcuts";
import { SwitchLog } from "./desk/switch-log";
import { SwitchPanel } from "./desk/switch-panel";
import { Destinations } from "./destinations";
import { Preview } from "./preview";
import { go, LIST_HREF, newHref } from "./route";
import { SlateDialog } from "./slate-dialog";
import { CHANNEL_STATES, uptimeMs } from "./states";
import { type Detail, HISTORY_MS, type Store } from "./store";
import { TitleDialog } from "./title-dialog";

const SOURCES = {
  none: "Nothing yet",
  host: "The host",
  mix: "The mix",
  slate: "Slate",
} as const;

/** How long an action can be taken back from its message; the desk keeps the last one longer. */
const UNDO_MS = 8_000;

function Plots({ detail }: { detail: Detail }) {
  const { history } = detail;
  // The server's clock marks the samples, so the newest one is "now"; clocks of two machines differ.
  const now = history.video.last?.atMs ?? nowMs.value;
  const common = { spanMs: HISTORY_MS, nowMs: now };
  return (
    <section class="card stack" aria-label="Program over the last three minutes">
      <h2>The last three minutes</h2>
      <div class="plots">
        <Plot
          {...common}
          title="Bitrate"
          lines={[
            { name: "video", series: history.video, colour: "--accent" },
            { name: "audio", series: history.audio, colour: "--warn" },
          ]}
          axis={axisFromZero(largest(history.video.points), 500_000)}
          format={format.bitrate}
          tick={bitrateTick}
        />
        <Plot
          {...common}
          title="Frame rate"
          lines={[{ name: "fps", series: history.fps, colour: "--accent" }]}
          axis={axisFromZero(largest(history.fps.points), 30)}
          format={format.fps}
          tick={(value) => `${value} fps`}
        />
        <Plot
          {...common}
          title="Sound level"
          lines={[
            { name: "RMS", series: history.rms, colour: "--accent" },
            { name: "peak", series: history.peak, colour: "--warn" },
          ]}
          axis={fixedAxis(-60, 0, [-60, -30, 0])}
          format={(value) => (value <= -90 ? "silent" : `${Math.round(value)} dB`)}
          tick={(value) => `${value} dB`}
        />
      </div>
    </section>
  );
}

/** "WebRTC 2, HLS 1": only what somebody uses; a line breaks between ways only. */
function watchedBy(viewers: Viewers): string {
  const ways: readonly (readonly [string, number])[] = [
    ["WebRTC", viewers.whep],
    ["FLV", viewers.flv],
    ["WS\u2011FLV", viewers.ws_flv],
    ["HLS", viewers.hls],
    ["RTMP", viewers.rtmp],
  ];
  const used = ways.filter(([, count]) => count > 0);
  return used.map(([way, count]) => `${way}\u00a0${format.count(count)}`).join(", ") || format.DASH;
}

function programFacts(channel: Channel, stats: ChannelStats | undefined) {
  const program = stats?.program;
  const viewers = stats?.viewers ?? channel.viewers;
  return [
    { name: "On air", value: format.duration(uptimeMs(channel, nowMs.value)) },
    { name: "Picture", value: format.size(program?.width, program?.height) },
    { name: "Viewers", value: format.count(viewers.total) },
    { name: "They watch by", value: watchedBy(viewers) },
    {
      name: "Sound",
      value: program
        ? program.audio_passes
          ? "The host's AAC, untouched"
          : "Encoded"
        : format.DASH,
    },
    {
      name: "Program delay",
      value: program?.program_delay_ms ? format.millis(program.program_delay_ms) : format.DASH,
    },
    {
      name: "Silence inserted",
      value: program ? format.seconds(program.silence_samples / 48_000) : format.DASH,
    },
  ];
}

function Program({ channel, stats }: { channel: Channel; stats: ChannelStats | undefined }) {
  const source = stats?.program.source;
  return (
    <section class="card stack program" aria-label="Program, as viewers get it">
      <div class="row row--between">
        <h2>Program</h2>
        <span class="muted">{source ? SOURCES[source] : ""}</span>
      </div>
      <Preview channel={channel} key={channel.id} main />
      <LevelMeter level={stats?.program.audio_level} label="Sound level of the program" />
      <Facts items={programFacts(channel, stats)} />
    </section>
  );
}

function Publish({ channel }: { channel: Channel }) {
  const needsToken = token() !== undefined;
  return (
    <section class="card stack" aria-label="Publish">
      <h2>Publish to this channel</h2>
      <div class="row">
        <a class="btn btn--primary" href={`/studio/${encodeURIComponent(channel.id)}`}>
          <Icon name="live" />
          Open the studio
        </a>
      </div>
      <div class="field">
        <span class="field__label">WHIP address</span>
        <CopyField text={whipUrl(location.origin, channel.id)} label="WHIP address" />
      </div>
      {recipes(location.origin, channel.id, needsToken).map((recipe) => (
        <details class="more" key={recipe.name}>
          <summary>{recipe.name}</summary>
          <div class="stack stack--tight">
            <p class="small muted">{recipe.note}</p>
            <CopyField text={recipe.text} label={recipe.name} wrap />
          </div>
        </details>
      ))}
    </section>
  );
}

function Watch({ channel }: { channel: Channel }) {
  const full = (path: string) => new URL(path, location.href).href;
  const page = full(`/watch/${encodeURIComponent(channel.id)}`);
  return (
    <section class="card stack" aria-label="Watch">
      <h2>Watch this channel</h2>
      <div class="row">
        <a class="btn" href={page} target="_blank" rel="noopener">
          <Icon name="play" />
          Open the watch page
        </a>
      </div>
      {[
        { label: "Watch page", url: page },
        { label: "HTTP-FLV", url: full(channel.playback.flv) },
        { label: "HLS", url: full(channel.playback.hls) },
      ].map(({ label, url }) => (
        <div class="field" key={label}>
          <span class="field__label">{label}</span>
          <CopyField text={url} label={label} />
        </div>
      ))}
    </section>
  );
}

function Header(props: { store: Store; channel: Channel; onKeys: () => void }) {
  const { store, channel } = props;
  const [deleting, setDeleting] = useState(false);
  const [renaming, setRenaming] = useState(false);
  const [slating, setSlating] = useState(false);
  const state = CHANNEL_STATES[channel.state];
  const remove = async () => {
    await api.deleteChannel(channel.id);
    await store.refresh();
    go(LIST_HREF);
    showToast(`Channel ${channel.id} is deleted.`);
  };
  return (
    <div class="row row--between">
      <div class="row">
        <a class="btn btn--quiet btn--icon detail__back" href={LIST_HREF} aria-label="All channels">
          <Icon name="back" />
        </a>
        <h1>{channel.title || channel.id}</h1>
        <span role="status" aria-live="polite">
          <Badge tone={state.tone}>{state.word}</Badge>
        </span>
      </div>
      <div class="row">
        <button
          type="button"
          class="btn btn--icon"
          aria-label="Keyboard shortcuts"
          aria-keyshortcuts="?"
          title="Keyboard shortcuts (?)"
          onClick={props.onKeys}
        >
          <Icon name="keys" />
        </button>
        <button type="button" class="btn" onClick={() => setRenaming(true)}>
          <Icon name="edit" />
          Title
        </button>
        <button type="button" class="btn" onClick={() => setSlating(true)}>
          <Icon name="screen" />
          Slate
        </button>
        <button type="button" class="btn" onClick={() => setDeleting(true)}>
          <Icon name="trash" />
          Delete
        </button>
      </div>
      {renaming ? (
        <TitleDialog store={store} channel={channel} onClose={() => setRenaming(false)} />
      ) : null}
      {slating ? (
        <SlateDialog store={store} channel={channel} onClose={() => setSlating(false)} />
      ) : null}
      {deleting ? (
        <Confirm
          title={`Delete channel ${channel.id}?`}
          text={
            channel.state === "idle"
              ? "Its destinations are forgotten."
              : "The show ends for everybody at once, and its destinations are forgotten. A host who goes on publishing may bring it back."
          }
          action="Delete channel"
          run={remove}
          onClose={() => setDeleting(false)}
        />
      ) : null}
    </div>
  );
}

/** The desk of one channel: it lives as long as the page shows it. */
function useDesk(store: Store, id: string): Desk {
  return useMemo(
    () =>
      new Desk({
        api,
        channel: () => store.channels.value?.find((entry) => entry.id === id),
        participants: () => store.detail.value?.participants ?? [],
        onChannel: (channel) => store.putChannel(channel),
        onParticipant: (participant) => store.putParticipant(participant),
        refresh: () => store.reload(),
        say: (text, undo) =>
          showToast(
            text,
            undo
              ? {
                  key: "desk",
                  action: { label: undo.label, run: () => void undo.run() },
                  ms: UNDO_MS,
                }
              : { key: "desk", ms: UNDO_MS },
          ),
        nowMs: () => performance.now(),
      }),
    [store, id],
  );
}

function Show(props: { store: Store; channel: Channel; detail: Detail }) {
  const { store, channel, detail } = props;
  const desk = useDesk(store, channel.id);
  const [open, setOpen] = useState<"invite" | "keys" | undefined>(undefined);
  const invite = () => setOpen("invite");
  useDeskKeys({ desk, invite, help: () => setOpen("keys") });
  const { stats } = detail;
  const everybody = seats(detail.participants, desk.order);
  return (
    <article class="stack" aria-label={`Channel ${channel.id}`}>
      <Header store={store} channel={channel} onKeys={() => setOpen("keys")} />
      <div class="desk">
        <Program channel={channel} stats={stats} />
        <SwitchPanel
          desk={desk}
          channel={channel}
          seats={everybody}
          stats={stats}
          onInvite={invite}
        />
      </div>
      <People
        store={store}
        desk={desk}
        channel={channel}
        detail={detail}
        seats={everybody}
        onInvite={invite}
      />
      <div class="detail__pair">
        <div class="stack">
          <SwitchLog channel={channel} switches={detail.switches} />
          <Links store={store} channel={channel} />
          {detail.destinations ? (
            <Destinations
              store={store}
              channel={channel.id}
              destinations={detail.destinations}
              stats={stats}
            />
          ) : null}
        </div>
        <div class="stack">
          <Publish channel={channel} />
          <Watch channel={channel} />
        </div>
      </div>
      <Plots detail={detail} />
      {open === "invite" ? (
        <InviteDialog channel={channel.id} onClose={() => setOpen(undefined)} />
      ) : null}
      {open === "keys" ? <ShortcutsDialog onClose={() => setOpen(undefined)} /> : null}
    </article>
  );
}

export function ChannelPage({ store, id }: { store: Store; id: string }) {
  const detail = store.detail.value;
  const channel = store.channels.value?.find((entry) => entry.id === id);
  if (!channel || !detail || detail.id !== id) {
    return store.channels.value !== undefined ? (
      <div class="stack">
        <h1>{id}</h1>
        <Notice title={`There is no channel “${id}”.`} role="status">
          It was deleted, or nobody has published to it yet. <a href={newHref(id)}>Create it</a> or{" "}
          <a href={LIST_HREF}>go back to all channels</a>.
        </Notice>
      </div>
    ) : (
      <p role="status">Loading the channel…</p>
    );
  }
  return <Show store={store} channel={channel} detail={detail} key={id} />;
}
