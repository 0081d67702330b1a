// Watches a channel on the project's own watch page and reports what a viewer saw and heard.
//
// Usage: node watch.mjs WATCH_URL flv|hls|webrtc SECONDS [SETTLE_SECONDS]
// Says {"event":"playing"} once the picture moves, {"event":"judging"} when it has settled, {"event":"report",…} after SECONDS
// of judging, then ends.

import { readFileSync } from "node:fs";
import { openPage, say } from "./chromium.mjs";

// Playback settles before it is judged: players fill their buffers and find their distance to live.
const [url, player, seconds, settle = "4"] = process.argv.slice(2);
const here = (name) => readFileSync(new URL(name, import.meta.url), "utf8");
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1_000));

const { browser, page } = await openPage(say);
try {
  await page.goto(url);
  await page.waitForFunction(() => window.anchornet?.page === "watch", undefined, { timeout: 10_000 });
  await page.evaluate((kind) => window.anchornet.setPlayer(kind), player);
  // The sound of a stream is taken from the stream, once it is there.
  await page.waitForFunction((kind) => kind !== "webrtc" || window.anchornet.video.srcObject, player);
  await page.evaluate(here("page-probe.js"));
  await page.evaluate((source) => {
    const worklet = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    return window.startProbe(window.anchornet.video, worklet);
  }, here("tone-probe.js"));
  await page.waitForFunction(() => window.anchornet.video.currentTime > 0.5, undefined, { timeout: 30_000 });
  // Sound on one click, as a viewer does it.
  if (await page.evaluate(() => window.anchornet.video.muted)) {
    await page.getByRole("button", { name: /turn sound on/i }).first().click({ timeout: 5_000 });
  }
  say({ event: "playing", muted: await page.evaluate(() => window.anchornet.video.muted) });
  await sleep(Number(settle));
  await page.evaluate(() => window.probe.judge());
  say({ event: "judging" });
  const before = await page.evaluate(() => window.anchornet.stats());
  await sleep(Number(seconds));
  const report = await page.evaluate(() => window.probe.report());
  const after = await page.evaluate(() => window.anchornet.stats());
  say({ event: "report", report, before, after });
} catch (error) {
  const log = await page.evaluate(() => window.anchornet?.events).catch(() => null);
  say({ event: "failed", text: String(error), log });
  process.exitCode = 1;
} finally {
  await browser.close();
}
