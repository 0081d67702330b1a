// Starts the system's Chromium without a window, with fake devices, and with nothing that talks to the outside.

import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // A page in the background would be slowed down; no page here ever has the focus.
  "--disable-background-timer-throttling",
  "--disable-backgrounding-occluded-windows",
  "--disable-renderer-backgrounding",
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
  "--autoplay-policy=no-user-gesture-required",
  // Loopback addresses are candidates, and not hidden behind mDNS names.
  "--allow-loopback-in-peer-connection",
  "--disable-features=WebRtcHideLocalIpsWithMdns",
];

// An origin that is not on loopback, and yet may use what browsers keep for secure ones.
const { TRUSTED_ORIGIN } = process.env;
if (TRUSTED_ORIGIN) FLAGS.push(`--unsafely-treat-insecure-origin-as-secure=${TRUSTED_ORIGIN}`);

/** A page in a Chromium of its own. What it logs as an error goes to `say`. */
export async function openPage(say) {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  const browser = await chromium.launch({
    executablePath,
    args: FLAGS,
    // The scripts themselves decide how they end.
    handleSIGTERM: false,
    handleSIGINT: false,
  });
  // The probe is a script of the test, not of the page.
  const context = await browser.newContext({ bypassCSP: true, viewport: { width: 1280, height: 900 } });
  const page = await context.newPage();
  page.on("pageerror", (error) => say({ event: "page error", text: String(error) }));
  page.on("console", (message) => {
    if (message.type() === "error") say({ event: "console error", text: message.text().slice(0, 300) });
  });
  return { browser, page };
}

/** One JSON object on a line of stdout: how these scripts report. */
export function say(object) {
  process.stdout.write(`${JSON.stringify(object)}\n`);
}

/** Resolves when the test asks this script to end. */
export function asked() {
  return new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, resolve);
  });
}
