// One WHEP session inside a page, watched frame by frame and sample by sample.

import { readFileSync } from "node:fs";

const here = (name) => readFileSync(new URL(name, import.meta.url), "utf8");

/** Runs inside the page: one WHEP session into a <video> of its own. */
export async function subscribe({ url, feedback = true }) {
  const peer = new RTCPeerConnection();
  const stream = new MediaStream();
  peer.ontrack = ({ track }) => stream.addTrack(track);
  for (const kind of ["video", "audio"]) peer.addTransceiver(kind, { direction: "recvonly" });
  await peer.setLocalDescription(await peer.createOffer());
  // Without transport-wide feedback nobody estimates what the path carries: everything is sent, at once.
  const offer = feedback ? peer.localDescription.sdp : peer.localDescription.sdp.replace(/^a=.*transport-(cc|wide).*\r\n/gm, "");
  const headers = { "Content-Type": "application/sdp" };
  const began = performance.now();
  for (;;) {
    const answer = await fetch(url, { method: "POST", headers, body: offer });
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

/** Starts to watch what `subscribe` shows in `page`. */
export async function probe(page) {
  await page.evaluate(here("page-probe.js"));
  await page.evaluate((source) => {
    const worklet = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    return window.startProbe(window.whep.video, worklet);
  }, here("tone-probe.js"));
}

/** Runs inside the page: what the browser counted of each kind, and over which protocol it came. */
export async function received() {
  const report = await window.whep.peer.getStats();
  const stats = [...report.values()];
  const of = (kind) => stats.find((entry) => entry.type === "inbound-rtp" && entry.kind === kind);
  const transport = stats.find((entry) => entry.type === "transport");
  const pair = report.get(transport?.selectedCandidatePairId);
  const protocol = report.get(pair?.remoteCandidateId)?.protocol;
  return { video: of("video"), audio: of("audio"), protocol };
}
