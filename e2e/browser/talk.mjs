// A co-broadcaster: goes live from the studio page and watches another participant by WHEP, in the same page.
//
// Usage: node talk.mjs STUDIO_URL WHEP_URL SECONDS
// Says {"event":"live"} once media flows, {"event":"playing"} once the other's picture moves, {"event":"report",…} after
// SECONDS of judging, and stays live until SIGTERM. It asks for the other until the other is there.

import { asked, openPage, say } from "./chromium.mjs";
import { probe, subscribe } from "./subscribe.mjs";

const [studio, whep, seconds] = process.argv.slice(2);
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1_000));

/** Jitter buffers find their size for so long before anything is judged. */
const SETTLE_S = 4;

const end = asked();
const { browser, page } = await openPage(say);
try {
  await page.goto(studio);
  await page.waitForFunction(() => window.anchornet?.page === "studio", undefined, { timeout: 10_000 });
  const phase = () => page.evaluate(() => window.anchornet.stats().phase);
  if ((await phase()) === "idle") await page.evaluate(() => void window.anchornet.start());
  await page.waitForFunction(() => window.anchornet.stats().phase === "live", undefined, { timeout: 30_000 });
  say({ event: "live" });
  const firstFrameMs = await page.evaluate(subscribe, { url: whep });
  await probe(page);
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
