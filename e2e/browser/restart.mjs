// A broadcaster whose network changes: publishes, gathers new addresses and credentials, and goes on in the same session.
//
// Usage: node restart.mjs PAGE_URL WHIP_URL SECONDS
// Says {"event":"live"} once media flows, waits SECONDS, restarts ICE by PATCH, waits as long again, and says
// {"event":"report","report":{status,etagChanged,ports:[before,after],sent:[before,after],state}}.

import { openPage, say } from "./chromium.mjs";

const [url, whip, seconds] = process.argv.slice(2);
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1_000));

/** Runs inside the page: a fake camera and microphone by WHIP. */
async function publish(url) {
  const media = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 360, frameRate: 15 }, audio: true });
  const peer = new RTCPeerConnection();
  for (const track of media.getTracks()) {
    const sender = peer.addTransceiver(track, { direction: "sendonly" });
    if (track.kind !== "video") continue;
    const codecs = RTCRtpSender.getCapabilities("video").codecs;
    sender.setCodecPreferences(codecs.filter(({ mimeType }) => /H264|rtx/i.test(mimeType)));
  }
  await peer.setLocalDescription(await peer.createOffer());
  const headers = { "Content-Type": "application/sdp" };
  const answer = await fetch(url, { method: "POST", headers, body: peer.localDescription.sdp });
  if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`);
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  window.show = { peer, session: new URL(answer.headers.get("Location"), url).href, etag: answer.headers.get("ETag") };
}

/** Runs inside the page: RFC 9725 section 4.3.3. */
async function restart() {
  const { peer, session, etag } = window.show;
  const before = peer.remoteDescription.sdp;
  await peer.setLocalDescription(await peer.createOffer({ iceRestart: true }));
  const offer = peer.localDescription.sdp;
  const line = (sdp, start) => sdp.split("\r\n").find((line) => line.startsWith(start));
  const body = ["a=ice-ufrag:", "a=ice-pwd:", "m=", "a=mid:"].map((start) => `${line(offer, start)}\r\n`).join("");
  const headers = { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": etag };
  const answer = await fetch(session, { method: "PATCH", headers, body });
  const fragment = await answer.text();
  if (answer.status !== 200) throw new Error(`${answer.status} ${fragment}`);
  const swap = (sdp, start) => sdp.replaceAll(new RegExp(`^${start}\\S+`, "gm"), line(fragment, start));
  const sdp = swap(swap(before, "a=ice-ufrag:"), "a=ice-pwd:");
  await peer.setRemoteDescription({ type: "answer", sdp });
  return { status: answer.status, etagChanged: answer.headers.get("ETag") !== etag };
}

/** Runs inside the page: the port that media leaves from, and pictures sent. */
async function look() {
  const { peer } = window.show;
  const stats = await peer.getStats();
  const all = [...stats.values()];
  const transport = all.find(({ type }) => type === "transport");
  const pair = stats.get(transport.selectedCandidatePairId);
  const video = all.find(({ type, kind }) => type === "outbound-rtp" && kind === "video");
  return { port: stats.get(pair.localCandidateId).port, sent: video.framesSent, state: peer.connectionState };
}

const { browser, page } = await openPage(say);
try {
  await page.goto(url);
  await page.evaluate(publish, whip);
  await page.waitForFunction(() => window.show.peer.connectionState === "connected", undefined, { timeout: 20_000 });
  say({ event: "live" });
  await sleep(Number(seconds));
  const before = await page.evaluate(look);
  const restarted = await page.evaluate(restart);
  await sleep(Number(seconds));
  const after = await page.evaluate(look);
  const report = { ...restarted, ports: [before.port, after.port], sent: [before.sent, after.sent], state: after.state };
  say({ event: "report", report });
} catch (error) {
  say({ event: "failed", text: String(error) });
  process.exitCode = 1;
} finally {
  await browser.close();
}
