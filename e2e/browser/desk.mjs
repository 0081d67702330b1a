// Takes a show to collab and back at the console, as a producer does, and reports what the page said.
//
// Usage: node desk.mjs CONSOLE_URL GUESTS SECONDS
// Waits for the host and GUESTS guests with live pictures, switches to collab by key, changes the layout, switches back after
// SECONDS by the button, and says {"event":"produced",…}.

import { openPage, say } from "./chromium.mjs";

const [url, guests, seconds] = process.argv.slice(2);
const people = Number(guests) + 1;
const PATIENCE = { timeout: 30_000 };

const { browser, page } = await openPage(say);

/** What the page says when the switch is done. */
async function outcome(mode) {
  const status = page.locator(".switch__status", { hasText: `${mode} is on air.` });
  await status.waitFor(PATIENCE);
  return (await status.innerText()).split("\n")[0];
}

const onAir = () => page.locator(".person[data-on-air=true]").count();

try {
  await page.goto(url);
  await page.waitForFunction(
    (count) => {
      const cards = [...document.querySelectorAll(".person")];
      const moving = (card) => (card.querySelector("video")?.currentTime ?? 0) > 0.2;
      return cards.length >= count && cards.every(moving);
    },
    people,
    PATIENCE,
  );
  say({ event: "pictures", onAir: await onAir() });

  await page.keyboard.press("c");
  const collab = await outcome("Collab");
  await page.waitForFunction(
    (count) => document.querySelectorAll(".person[data-on-air=true]").length === count,
    people,
    PATIENCE,
  );
  say({ event: "collab", said: collab });

  await page.getByRole("radio", { name: "Side by side" }).click(PATIENCE);
  await page.locator(".layout input[value=side-by-side]:checked").waitFor(PATIENCE);
  await new Promise((resolve) => setTimeout(resolve, Number(seconds) * 1_000));
  await page.getByRole("button", { name: /^Solo/ }).click();
  const solo = await outcome("Solo");
  await page.waitForFunction(
    () => document.querySelectorAll(".person[data-on-air=true]").length === 1,
    undefined,
    PATIENCE,
  );
  await page.locator("table tbody tr").nth(1).waitFor(PATIENCE);
  const layout = await page.locator(".layout input:checked").getAttribute("value");
  say({ event: "produced", collab, solo, layout, listed: await page.locator("table tbody tr").count() });
} catch (error) {
  const text = await page.locator("main").innerText().catch(() => "");
  say({ event: "failed", text: String(error), page: text.slice(0, 2_000) });
  process.exitCode = 1;
} finally {
  await browser.close();
}
