// A broadcaster who sends the picture in three sizes (simulcast), and two co-broadcasters who watch: one takes what it can get, one
// asks for a small picture. All in one page, so that one browser does.
//
// Usage: node layers.mjs PAGE_URL WHIP_URL WHEP_URL SECONDS
// Says {"event":"live"} once media flows, and after SECONDS {"event":"report","report":{sent,large,small}}.

import { openPage, say } from "./chromium.mjs";

const [url, whip, whep, seconds] = process.argv.slice(2);
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1_000));

/** Runs inside the page: a drawn picture and a tone, in three layers. */
async function publish(url) {
  const canvas = document.createElement("canvas");
  // Browsers send three sizes only of a picture that is large enough.
  [canvas.width, canvas.height] = [1024, 576];
  const pen = canvas.getContext("2d");
  let frame = 0;
  setInterval(() => {
    frame += 1;
    pen.fillStyle = `hsl(${frame % 360} 60% 40%)`;
    pen.fillRect(0, 0, 1024, 576);
    pen.fillStyle = "white";
    for (let n = 0; n < 40; n += 1) pen.fillRect((n * 97 + frame * 7) % 1024, (n * 53 + frame * 3) % 576, 40, 20);
  }, 1_000 / 15);
  const sound = new AudioContext();
  const tone = sound.createOscillator();
  const out = sound.createMediaStreamDestination();
  tone.connect(out);
  tone.start();
  const peer = new RTCPeerConnection();
  const [picture] = canvas.captureStream(15).getVideoTracks();
  const video = peer.addTransceiver(picture, {
    direction: "sendonly",
    sendEncodings: [
      { rid: "l", scaleResolutionDownBy: 4, maxBitrate: 100_000 },
      { rid: "m", scaleResolutionDownBy: 2, maxBitrate: 300_000 },
      { rid: "h", scaleResolutionDownBy: 1, maxBitrate: 900_000 },
    ],
  });
  const codecs = RTCRtpSender.getCapabilities("video").codecs;
  const isWanted = ({ mimeType, sdpFmtpLine = "" }) =>
    mimeType === "video/rtx" || (mimeType === "video/H264" && sdpFmtpLine.includes("packetization-mode=1"));
  video.setCodecPreferences(codecs.filter(isWanted));
  peer.addTransceiver(out.stream.getAudioTracks()[0], { direction: "sendonly" });
  await peer.setLocalDescription(await peer.createOffer());
  const headers = { "Content-Type": "application/sdp" };
  const answer = await fetch(url, { method: "POST", headers, body: peer.localDescription.sdp });
  if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`);
  const sdp = await answer.text();
  await peer.setRemoteDescription({ type: "answer", sdp });
  window.publisher = peer;
  return sdp.includes("a=simulcast:recv l;m;h");
}

/** Runs inside the page: one WHEP session that keeps the widths it has shown. */
async function subscribe([name, url]) {
  const peer = new RTCPeerConnection();
  const stream = new MediaStream();
  peer.ontrack = ({ track }) => stream.addTrack(track);
  for (const kind of ["video", "audio"]) peer.addTransceiver(kind, { direction: "recvonly" });
  await peer.setLocalDescription(await peer.createOffer());
  const headers = { "Content-Type": "application/sdp" };
  const answer = await fetch(url, { method: "POST", headers, body: peer.localDescription.sdp });
  if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`);
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  const posted = performance.now();
  const video = document.createElement("video");
  video.muted = true;
  video.srcObject = stream;
  document.body.append(video);
  const seen = { peer, widths: [], firstFrameMs: 0 };
  const watch = () => {
    seen.firstFrameMs ||= performance.now() - posted;
    if (seen.widths.at(-1) !== video.videoWidth) seen.widths.push(video.videoWidth);
    video.requestVideoFrameCallback(watch);
  };
  video.requestVideoFrameCallback(watch);
  await video.play();
  window[name] = seen;
}

/** Runs inside the page. */
async function report() {
  const stats = async (peer, type) => [...(await peer.getStats()).values()].filter((s) => s.type === type && s.kind === "video");
  const viewer = async ({ peer, widths, firstFrameMs }) => {
    const [video] = await stats(peer, "inbound-rtp");
    const { framesDecoded, framesDropped, freezeCount, frameWidth, frameHeight, pliCount, nackCount, packetsLost } = video;
    return { widths, firstFrameMs, framesDecoded, framesDropped, freezeCount, frameWidth, frameHeight, pliCount, nackCount, packetsLost };
  };
  const sent = (await stats(window.publisher, "outbound-rtp")).map(({ rid, framesSent, frameWidth, pliCount, keyFramesEncoded, retransmittedPacketsSent }) => ({
    rid, framesSent, frameWidth, pliCount, keyFramesEncoded, retransmittedPacketsSent,
  }));
  return { sent, large: await viewer(window.large), small: await viewer(window.small) };
}

const { browser, page } = await openPage(say);
try {
  await page.goto(url);
  const answered = await page.evaluate(publish, whip);
  if (!answered) throw new Error("the layers were not taken up");
  await page.waitForFunction(() => window.publisher.connectionState === "connected", undefined, { timeout: 20_000 });
  say({ event: "live" });
  await page.evaluate(subscribe, ["large", whep]);
  await page.evaluate(subscribe, ["small", `${whep}?max_height=200`]);
  await sleep(Number(seconds));
  say({ event: "report", report: await page.evaluate(report) });
} catch (error) {
  say({ event: "failed", text: String(error) });
  process.exitCode = 1;
} finally {
  await browser.close();
}
