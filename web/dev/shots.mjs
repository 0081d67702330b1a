// Takes screenshots of every page in every state, by desktop and phone, light and dark: look at them after a change. Checks
// them for accessibility (axe) and sideways scrolling at the same time.
//
//   node dev/shots.mjs [--out DIR] [--only NAME] [--port 8080]     needs `npm run build` and /usr/bin/chromium
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { chromium } from "playwright-core";

const option = (name, otherwise) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : process.argv[at + 1];
};
const out = path.resolve(option("out", ".cache/shots"));
const only = option("only", "");
const port = Number(option("port", "8080"));
const browserPath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const FLAGS =
  "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking " +
  "--disable-component-update --disable-sync --use-fake-device-for-media-stream --use-fake-ui-for-media-stream " +
  "--autoplay-policy=no-user-gesture-required --allow-loopback-in-peer-connection";

const VIEWS = {
  "desk-light": { viewport: { width: 1440, height: 900 }, colorScheme: "light" },
  "desk-dark": { viewport: { width: 1440, height: 900 }, colorScheme: "dark" },
  "phone-light": { viewport: { width: 360, height: 740 }, colorScheme: "light", hasTouch: true },
  "phone-dark": { viewport: { width: 360, height: 740 }, colorScheme: "dark", hasTouch: true },
};

/** Answers WHIP offers with a peer connection in another page, because the mock has no media. */
async function answerWhip(context) {
  const peer = await context.newPage();
  await peer.goto("about:blank");
  await context.route("**/whip/**", async (route) => {
    const request = route.request();
    if (request.method() !== "POST") return route.fulfill({ status: 200 });
    const sdp = await peer.evaluate(async (offer) => {
      const connection = new RTCPeerConnection();
      window.peers = [...(window.peers ?? []), connection];
      await connection.setRemoteDescription({ type: "offer", sdp: offer });
      await connection.setLocalDescription(await connection.createAnswer());
      await new Promise((resolve) => {
        if (connection.iceGatheringState === "complete") resolve();
        connection.onicegatheringstatechange = () =>
          connection.iceGatheringState === "complete" && resolve();
      });
      return connection.localDescription.sdp;
    }, request.postData());
    return route.fulfill({
      status: 201,
      headers: { "Content-Type": "application/sdp", Location: "/whip/demo/session" },
      body: sdp,
    });
  });
}

/** Answers WHEP offers with a drawn picture and a tone, for the same reason. */
async function answerWhep(context) {
  const peer = await context.newPage();
  await peer.goto("about:blank");
  await context.route("**/whep/**", async (route) => {
    const request = route.request();
    if (request.method() !== "POST") return route.fulfill({ status: 200 });
    const name = request.url().split("/").at(-1);
    const sdp = await peer.evaluate(
      async ([offer, who]) => {
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [320, 180];
        const pen = canvas.getContext("2d");
        const hue = [...who].reduce((sum, letter) => sum + 47 * letter.charCodeAt(0), 0) % 360;
        const draw = () => {
          const sway = 12 * Math.sin(performance.now() / 700 + hue);
          pen.fillStyle = `hsl(${hue} 45% 28%)`;
          pen.fillRect(0, 0, 320, 180);
          pen.fillStyle = `hsl(${hue} 40% 72%)`;
          pen.beginPath();
          pen.arc(160 + sway, 75, 34, 0, 7);
          pen.ellipse(160 + sway / 2, 190, 78, 75, 0, 0, 7);
          pen.fill();
        };
        draw();
        setInterval(draw, 66);
        const connection = new RTCPeerConnection();
        window.peers = [...(window.peers ?? []), connection];
        await connection.setRemoteDescription({ type: "offer", sdp: offer });
        const audio = new AudioContext();
        const tone = audio.createOscillator();
        const out = audio.createMediaStreamDestination();
        tone.connect(out);
        tone.start();
        for (const track of [
          ...canvas.captureStream(15).getTracks(),
          ...out.stream.getAudioTracks(),
        ]) {
          connection.addTrack(track);
        }
        await connection.setLocalDescription(await connection.createAnswer());
        await new Promise((resolve) => {
          if (connection.iceGatheringState === "complete") resolve();
          connection.onicegatheringstatechange = () =>
            connection.iceGatheringState === "complete" && resolve();
        });
        return connection.localDescription.sdp;
      },
      [request.postData(), name],
    );
    return route.fulfill({
      status: 201,
      headers: { "Content-Type": "application/sdp", Location: "/whep/demo/sessions/s" },
      body: sdp,
    });
  });
}

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What axe finds, one line each. */
async function violations(page) {
  await page.evaluate(axe);
  const result = await page.evaluate(() =>
    window.axe.run(document, { resultTypes: ["violations"] }),
  );
  return result.violations.map(
    ({ id, help, nodes }) => `${id}: ${help} (${nodes.map((n) => n.target.join(" ")).join("; ")})`,
  );
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const SHOTS = [
  { name: "console-empty", scenario: "empty", url: "/" },
  { name: "console-denied", scenario: "denied", url: "/" },
  { name: "console-broken", scenario: "broken", url: "/" },
  { name: "console-list", scenario: "live", url: "/", waitMs: 3500 },
  {
    name: "console-channel",
    scenario: "live",
    whep: true,
    url: "/#/channels/demo",
    waitMs: 9000,
    full: true,
  },
  {
    name: "console-collab",
    scenario: "live",
    whep: true,
    url: "/#/channels/demo",
    act: async (page) => {
      await page.getByRole("button", { name: /^Solo/ }).click();
      await wait(400);
      await page.getByRole("button", { name: /^Collab/ }).click();
    },
    waitMs: 3000,
  },
  {
    name: "console-sixteen",
    scenario: "live",
    whep: true,
    url: "/#/channels/panel",
    waitMs: 5000,
    full: true,
  },
  { name: "console-mixer-down", scenario: "live", url: "/#/channels/broken-mixer", waitMs: 2000 },
  {
    name: "console-refused",
    scenario: "live",
    url: "/#/channels/concert",
    act: (page) => page.getByRole("button", { name: /^Collab/ }).click(),
    waitMs: 1500,
  },
  { name: "console-no-host", scenario: "live", url: "/#/channels/tomorrow", waitMs: 1500 },
  { name: "console-away", scenario: "live", url: "/#/channels/talk-of-the-town", waitMs: 1500 },
  {
    name: "console-invite",
    scenario: "live",
    url: "/#/channels/demo",
    act: async (page) => {
      await page.getByRole("button", { name: "Invite", exact: true }).click();
      await page.getByLabel("Name").fill("erin");
      await page.getByRole("button", { name: "Make the link" }).click();
    },
    waitMs: 600,
  },
  {
    name: "console-arrange",
    scenario: "live",
    url: "/#/channels/demo",
    act: async (page) => {
      await page.getByRole("button", { name: "Arrange by hand" }).click();
      await page.locator(".tilebox").nth(1).focus();
      for (const key of ["ArrowDown", "ArrowLeft", "Shift+ArrowRight"]) {
        await page.keyboard.press(key);
      }
    },
  },
  {
    name: "console-keys",
    scenario: "live",
    url: "/#/channels/demo",
    act: (page) => page.keyboard.press("?"),
  },
  { name: "console-missing", scenario: "live", url: "/#/channels/nowhere", waitMs: 1500 },
  {
    name: "console-create",
    scenario: "live",
    url: "/#/new/a%20b",
    act: (page) => page.getByRole("button", { name: "Create channel" }).click(),
  },
  {
    name: "console-destination",
    scenario: "live",
    url: "/#/channels/demo",
    act: async (page) => {
      await page.getByRole("button", { name: "Add", exact: true }).click();
      await page.getByLabel("Address with stream key").fill("rtmp://host");
      await page.getByRole("button", { name: "Add destination" }).click();
    },
    waitMs: 1500,
  },
  {
    name: "console-health",
    scenario: "live",
    url: "/",
    act: (page) => page.getByRole("button", { name: "Degraded" }).click(),
  },
  { name: "console-relays", scenario: "live", url: "/#/relays", waitMs: 800, full: true },
  { name: "console-no-relays", scenario: "empty", url: "/#/relays", waitMs: 800 },
  { name: "studio-start", scenario: "live", url: "/studio/demo" },
  {
    name: "studio-refused",
    scenario: "live",
    url: "/studio/demo?source=pattern&autostart=1",
    waitMs: 2500,
  },
  {
    name: "studio-live",
    scenario: "live",
    whip: true,
    url: "/studio/demo?source=pattern&autostart=1&size=640x360",
    waitMs: 6000,
    full: true,
  },
  { name: "studio-invited", scenario: "live", url: "/studio/demo?role=guest&participant=bob" },
  {
    name: "studio-guest",
    scenario: "live",
    whip: true,
    whep: true,
    url: "/studio/demo?source=pattern&autostart=1&size=640x360&role=guest&participant=bob",
    waitMs: 6000,
    full: true,
  },
  {
    name: "studio-on-air",
    scenario: "live",
    whip: true,
    whep: true,
    url: "/studio/broken-mixer?source=pattern&autostart=1&size=640x360&role=guest&participant=bob",
    waitMs: 5000,
  },
  {
    name: "studio-sixteen",
    scenario: "live",
    whip: true,
    whep: true,
    url: "/studio/panel?source=pattern&autostart=1&size=640x360&role=guest&participant=ada",
    waitMs: 6000,
    full: true,
  },
  { name: "watch-flv", scenario: "live", url: "/watch/demo", waitMs: 5000, full: true },
  { name: "watch-hls", scenario: "live", url: "/watch/demo?player=hls", waitMs: 6000 },
  { name: "watch-waiting", scenario: "live", url: "/watch/tomorrow", waitMs: 2000 },
  { name: "watch-off", scenario: "live", url: "/watch/demo?autoplay=0" },
];

async function shoot(browser, shot, base) {
  for (const [view, settings] of Object.entries(VIEWS)) {
    const context = await browser.newContext({
      ...settings,
      permissions: ["camera", "microphone"],
    });
    if (shot.whip) await answerWhip(context);
    if (shot.whep) await answerWhep(context);
    const page = await context.newPage();
    page.on("console", (message) => {
      if (message.type() === "error") console.log(`  ${shot.name} ${view}: ${message.text()}`);
    });
    page.on("pageerror", (error) => console.log(`  ${shot.name} ${view}: ${error}`));
    await page.goto(base + shot.url);
    await wait(800);
    if (shot.act) await shot.act(page);
    await wait(shot.waitMs ?? 300);
    await page.screenshot({
      path: path.join(out, `${shot.name}.${view}.png`),
      fullPage: shot.full,
    });
    const wide = await page.evaluate(
      () => document.documentElement.scrollWidth > document.documentElement.clientWidth,
    );
    if (wide) console.log(`  ${shot.name} ${view}: scrolls sideways`);
    for (const line of await violations(page)) console.log(`  ${shot.name} ${view}: ${line}`);
    await context.close();
  }
  console.log(shot.name);
}

mkdirSync(out, { recursive: true });
const browser = await chromium.launch({ executablePath: browserPath, args: FLAGS.split(" ") });
for (const scenario of ["empty", "denied", "broken", "live"]) {
  const shots = SHOTS.filter((shot) => shot.scenario === scenario && shot.name.includes(only));
  if (shots.length === 0) continue;
  const mock = spawn(
    process.execPath,
    [
      path.join(import.meta.dirname, "mock.mjs"),
      "--dist",
      "--port",
      String(port),
      "--scenario",
      scenario,
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  await new Promise((resolve) => mock.stdout.once("data", resolve));
  if (scenario === "live") await wait(7000);
  try {
    for (const shot of shots) await shoot(browser, shot, `http://127.0.0.1:${port}`);
  } finally {
    mock.kill("SIGTERM");
    await new Promise((resolve) => mock.once("exit", resolve));
  }
}
await browser.close();
