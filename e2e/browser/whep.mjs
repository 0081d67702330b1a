// Watches a WHEP URL on an empty page, with feedback for congestion control or without, and reports what a viewer saw, heard and counted.
//
// Usage: node whep.mjs WHEP_URL SECONDS [feedback|no-feedback]
// Says {"event":"playing"} once the picture moves, {"event":"report",…} after SECONDS of judging, then ends.

import { openPage, say } from "./chromium.mjs";
import { probe, received, subscribe } from "./subscribe.mjs";

const [url, seconds, mode] = process.argv.slice(2);
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1_000));

/** Jitter buffers find their size for so long before anything is judged. */
const SETTLE_S = 4;

const { browser, page } = await openPage(say);
try {
  await page.goto(new URL("/healthz", url).href);
  const firstFrameMs = await page.evaluate(subscribe, { url, feedback: mode === "feedback" });
  await probe(page);
  say({ event: "playing", firstFrameMs });
  await sleep(SETTLE_S);
  await page.evaluate(() => window.probe.judge());
  const before = await page.evaluate(received);
  say({ event: "judging", received: before });
  await sleep(Number(seconds));
  const report = await page.evaluate(() => window.probe.report());
  say({ event: "report", report, before, after: await page.evaluate(received) });
} catch (error) {
  say({ event: "failed", text: String(error) });
  process.exitCode = 1;
} finally {
  await browser.close();
}
