// The player page: /watch/{channel}. `?player=flv|hls|webrtc`, `?muted=0`, `?autoplay=0`, `?sync=0`, `?transport=ws`; `?local=8090`: from a
// player on this machine.

import { render } from "preact";
import "../ui/index.css";
import "./watch.css";
import { adoptTokenFromAddress } from "../api/token";
import { exposeWatch } from "../lib/diagnostics";
import { channelFromLocation, isChannelName } from "../lib/url";
import { Brand, Notice } from "../ui/widgets";
import { localPort } from "./local";
import { WatchPage } from "./page";
import { isPlayerKind } from "./players/player";
import { WatchSession } from "./session";

adoptTokenFromAddress();
const channel = channelFromLocation(location);
const root = document.getElementById("app");

function NoChannel() {
  return (
    <>
      <header class="topbar">
        <Brand />
      </header>
      <main class="page">
        <Notice tone="bad" title="Which channel?" role="alert">
          This address names no channel. <a href="/">See what is on air.</a>
        </Notice>
      </main>
    </>
  );
}

function createVideo(muted: boolean): HTMLVideoElement {
  const video = document.createElement("video");
  video.playsInline = true;
  video.muted = muted;
  video.preload = "auto";
  video.setAttribute("aria-label", "Live picture");
  // So that tests and visitors may draw the picture of an origin on another host.
  video.crossOrigin = "anonymous";
  return video;
}

if (root && channel !== undefined && isChannelName(channel)) {
  document.title = `${channel} · AnchorNet`;
  const query = new URLSearchParams(location.search);
  const player = query.get("player");
  const session = new WatchSession({
    channel,
    player: isPlayerKind(player) ? player : "flv",
    sync: query.get("sync") !== "0",
    local: localPort(query.get("local")),
    video: createVideo(query.get("muted") === "1"),
  });
  exposeWatch(session);
  render(<WatchPage session={session} />, root);
  if (query.get("autoplay") !== "0") session.open();
} else if (root) {
  render(<NoChannel />, root);
}
