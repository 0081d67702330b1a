// All channels as cards with a live picture, or the way to the first one.

import { token } from "../api/token";
import type { Channel } from "../api/types";
import * as format from "../lib/format";
import { Icon } from "../ui/icon";
import { Badge, CopyField } from "../ui/widgets";
import { nowMs } from "./clock";
import { recipes } from "./commands";
import { Preview } from "./preview";
import { channelHref, newHref } from "./route";
import { CHANNEL_STATES, uptimeMs } from "./states";
import type { Store } from "./store";

function ChannelCard({ channel, selected }: { channel: Channel; selected: boolean }) {
  const state = CHANNEL_STATES[channel.state];
  const uptime = uptimeMs(channel, nowMs.value);
  return (
    <li>
      <a
        class="channel-card"
        href={channelHref(channel.id)}
        aria-current={selected ? "page" : undefined}
      >
        <Preview channel={channel} />
        <div class="channel-card__text">
          <div class="row row--between">
            <strong class="break">{channel.title || channel.id}</strong>
            <Badge tone={state.tone}>{state.word}</Badge>
          </div>
          <p class="small muted channel-card__facts">
            {channel.title ? <span class="break">{channel.id}</span> : null}
            <span>{channel.mode === "solo" ? "Solo" : "Collab"}</span>
            {uptime !== undefined ? <span>{format.duration(uptime)}</span> : null}
            <span>{format.plural(channel.viewers.total, "viewer")}</span>
            {channel.destinations > 0 ? (
              <span>{format.plural(channel.destinations, "destination")}</span>
            ) : null}
          </p>
        </div>
      </a>
    </li>
  );
}

/** What a newcomer can do in the next minute. */
function FirstSteps({ needsToken }: { needsToken: boolean }) {
  const demo = recipes(location.origin, "demo", needsToken)[0];
  return (
    <section class="card stack first-steps">
      <h1>Nobody is on air yet</h1>
      <p>
        A channel is one live show. The first one comes into being as soon as somebody publishes to
        it; here are three ways.
      </p>
      <ol class="first-steps__list">
        <li class="stack stack--tight">
          <h2>From this browser</h2>
          <p class="muted">
            Camera, screen, or a test picture with music when there is neither at hand.
          </p>
          <div class="row">
            <a class="btn btn--primary" href="/studio/demo?source=pattern">
              <Icon name="pattern" />
              Go live with the test picture
            </a>
            <a class="btn" href="/studio/demo?source=camera">
              <Icon name="camera" />
              Use my camera
            </a>
          </div>
        </li>
        <li class="stack stack--tight">
          <h2>From a terminal</h2>
          <p class="muted">The demo host that comes with the server.</p>
          {demo ? <CopyField text={demo.text} label="Command of the demo host" wrap /> : null}
        </li>
        <li class="stack stack--tight">
          <h2>From OBS, ffmpeg or GStreamer</h2>
          <p class="muted">
            Create a channel; its page shows the address and complete command lines to copy.
          </p>
          <div>
            <a class="btn" href={newHref()}>
              <Icon name="plus" />
              Create a channel
            </a>
          </div>
        </li>
      </ol>
      <p class="muted small">
        Then open <code>/watch/demo</code> on any device to see it.
      </p>
    </section>
  );
}

function Loading() {
  return (
    <ul class="channel-grid" aria-label="Loading channels" aria-busy="true">
      {[0, 1, 2].map((i) => (
        <li key={i} class="channel-card channel-card--loading">
          <div class="stage" />
          <div class="channel-card__text">&nbsp;</div>
        </li>
      ))}
    </ul>
  );
}

export function ChannelList({ store, selected }: { store: Store; selected: string | undefined }) {
  const channels = store.channels.value;
  if (channels === undefined) return store.error.value ? null : <Loading />;
  if (channels.length === 0) return <FirstSteps needsToken={token() !== undefined} />;
  const live = channels.filter(({ state }) => state === "live").length;
  return (
    <div class="stack">
      {selected === undefined ? (
        <div class="row">
          <h1>Channels</h1>
          <span class="muted">
            {live} of {channels.length} on air
          </span>
        </div>
      ) : null}
      <ul class="channel-grid" aria-label="Channels">
        {channels.map((channel) => (
          <ChannelCard key={channel.id} channel={channel} selected={channel.id === selected} />
        ))}
      </ul>
    </div>
  );
}
