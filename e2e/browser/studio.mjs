// Goes live from the project's own studio page and stays live until SIGTERM.
//
// Usage: node studio.mjs STUDIO_URL
// Says {"event":"live"} once media flows, {"event":"stats",…} every second, {"event":"ended"} after stopping.

import { asked, openPage, say } from "./chromium.mjs";

const [url] = process.argv.slice(2);
const end = asked();
const { browser, page } = await openPage(say);
try {
  await page.goto(url);
  await page.waitForFunction(() => window.anchornet?.page === "studio", undefined, { timeout: 10_000 });
  const phase = () => page.evaluate(() => window.anchornet.stats().phase);
  if ((await phase()) === "idle") await page.evaluate(() => void window.anchornet.start());
  await page.waitForFunction(() => window.anchornet.stats().phase === "live", undefined, { timeout: 30_000 });
  say({ event: "live" });
  const report = setInterval(async () => {
    const stats = await page.evaluate(() => window.anchornet.stats()).catch(() => undefined);
    if (stats) say({ event: "stats", stats });
  }, 1_000);
  await end;
  clearInterval(report);
  await page.evaluate(() => window.anchornet.stop());
  await page.waitForFunction(() => window.anchornet.stats().phase === "idle", undefined, { timeout: 5_000 });
  say({ event: "ended" });
} catch (error) {
  say({ event: "failed", text: String(error), stats: await page.evaluate(() => window.anchornet?.stats()).catch(() => null) });
  process.exitCode = 1;
} finally {
  await browser.close();
}
