// A co-broadcaster: goes live from the studio page and watches another participant by WHEP, in the same page.
//
// Usage: node talk.mjs STUDIO_URL WHEP_URL SECONDS
// Says {"event":"live"} once media flows, {"event":"playing"} once the other's picture moves, {"event":"report",…} after
// SECONDS of judging, and stays live until SIGTERM. It asks for the other until the other is there.

import { readFileSync } from "node:fs";
import { asked, openPage, say } from "./chromium.mjs";

const [studio, whep, seconds] = process.argv.slice(2);
const here = (name) => readFileSync(new URL(name, import.meta.url), "utf8");
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1_000));

/** Jitter buffers find their size for so long before anything is judged. */
const SETTLE_S = 4;

/** Runs inside the page: one WHEP session into a <video> of its own. */
async function subscribe(url) {
  const peer = new RTCPeerConnection();
  const stream = new MediaStream();
  peer.ontrack = ({ track }) => stream.addTrack(track);
  for (const kind of ["video", "audio"]) peer.addTransceiver(kind, { direction: "recvonly" });
  await peer.setLocalDescription(await peer.createOffer());
  const headers = { "Content-Type": "application/sdp" };
  const began = performance.now();
  for (;;) {
    const answer = await fetch(url, { method: "POST", headers, body: peer.localDescription.sdp });
    if (answer.status === 201) {
      await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
      break;
    }
    if (answer.status !== 404 || performance.now() - began > 20_000) {
      throw new Error(`${answer.status} ${await answer.text()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  const posted = performance.now();
  const video = document.createElement("video");
  // The probe takes the sound from the stream.
  video.muted = true;
  video.srcObject = stream;
  document.body.append(video);
  const first = new Promise((resolve) => video.requestVideoFrameCallback(() => resolve(performance.now() - posted)));
  await video.play();
  window.whep = { peer, video, firstFrameMs: await first };
  return window.whep.firstFrameMs;
}

const end = asked();
const { browser, page } = await openPage(say);
try {
  await page.goto(studio);
  await page.waitForFunction(() => window.anchornet?.page === "studio", undefined, { timeout: 10_000 });
  const phase = () => page.evaluate(() => window.anchornet.stats().phase);
  if ((await phase()) === "idle") await page.evaluate(() => void window.anchornet.start());
  await page.waitForFunction(() => window.anchornet.stats().phase === "live", undefined, { timeout: 30_000 });
  say({ event: "live" });
  const firstFrameMs = await page.evaluate(subscribe, whep);
  await page.evaluate(here("page-probe.js"));
  await page.evaluate((source) => {
    const worklet = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    return window.startProbe(window.whep.video, worklet);
  }, here("tone-probe.js"));
  say({ event: "playing", firstFrameMs });
  await sleep(SETTLE_S);
  await page.evaluate(() => window.probe.judge());
  await sleep(Number(seconds));
  say({ event: "report", report: await page.evaluate(() => window.probe.report()) });
  await end;
  await page.evaluate(() => window.whep.peer.close());
  await page.evaluate(() => window.anchornet.stop());
} catch (error) {
  say({ event: "failed", text: String(error) });
  process.exitCode = 1;
} finally {
  await browser.close();
}
