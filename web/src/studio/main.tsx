// The studio page: /studio/{channel}.

import { render } from "preact";
import "../ui/index.css";
import "../peers/peers.css";
import "./studio.css";
import { adoptTokenFromAddress } from "../api/token";
import { exposeStudio } from "../lib/diagnostics";
import { channelFromLocation, isChannelName } from "../lib/url";
import { Brand, Notice } from "../ui/widgets";
import { Studio } from "./controller";
import { StudioPage } from "./page";

adoptTokenFromAddress();
const channel = channelFromLocation(location);
const root = document.getElementById("app");

function NoChannel() {
  return (
    <>
      <header class="topbar">
        <Brand where="Studio" />
      </header>
      <main class="page">
        <Notice tone="bad" title="Which channel?" role="alert">
          This address names no channel. Channel names are 1 to 64 letters, digits, “-” or “_”.{" "}
          <a href="/">Choose one in the console.</a>
        </Notice>
      </main>
    </>
  );
}

if (root && channel !== undefined && isChannelName(channel)) {
  document.title = `Studio ${channel} · AnchorNet`;
  const studio = new Studio(channel);
  exposeStudio(studio);
  studio.room.start();
  render(<StudioPage studio={studio} />, root);
  const query = new URLSearchParams(location.search);
  if (query.get("autostart") === "1") void studio.goLive();
  else if (studio.settings.value.source === "pattern") void studio.openSource();
  else void studio.refreshDevices();
} else if (root) {
  render(<NoChannel />, root);
}
