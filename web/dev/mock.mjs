// A stand-in for the server, to see the pages in every state without it.
//
//   node dev/mock.mjs [--dist] [--port 8080] [--scenario live|empty|denied|broken]
//
// `--dist` also serves the built pages. Live pictures need ffmpeg on the path; without it channels stay dark. The mock
// answers WHIP and WHEP with 503: media in both directions is what the real server is for.
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream, existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { FlvHub } from "./flv-hub.mjs";

const option = (name, otherwise) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : process.argv[at + 1];
};
const port = Number(option("port", "8080"));
const scenario = option("scenario", "live");
const dist = process.argv.includes("--dist")
  ? path.resolve(import.meta.dirname, "../dist")
  : undefined;
const startedMs = Date.now();
const iso = (offsetMs = 0) => new Date(Date.now() + offsetMs).toISOString();

/* ---- media ---- */

const ENCODE = [
  ..."-c:v libx264 -profile:v baseline -preset ultrafast -tune zerolatency -g 60 -b:v 900k".split(
    " ",
  ),
  ..."-pix_fmt yuv420p -c:a aac -b:a 128k -ar 48000 -ac 2".split(" "),
];
const input = (picture, hz) => [
  ..."-re -f lavfi -i".split(" "),
  `${picture}=size=640x360:rate=30`,
  ..."-re -f lavfi -i".split(" "),
  `sine=frequency=${hz}:sample_rate=48000`,
];
const haveFfmpeg = (() => {
  try {
    execFileSync("ffmpeg", ["-version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
})();
const hubs = new Map();
const segments = mkdtempSync(path.join(tmpdir(), "anchornet-mock-"));
const children = [];

function startMedia() {
  if (!haveFfmpeg || scenario === "empty") return;
  hubs.set("demo", new FlvHub([...input("testsrc2", 440), ...ENCODE, "-f", "flv", "pipe:1"]));
  hubs.set("panel", hubs.get("demo"));
  hubs.set("broken-mixer", hubs.get("demo"));
  hubs.set("concert", new FlvHub([...input("smptehdbars", 330), ...ENCODE, "-f", "flv", "pipe:1"]));
  children.push(
    spawn(
      "ffmpeg",
      [
        "-v",
        "error",
        ...input("testsrc2", 440),
        ...ENCODE,
        ..."-f hls -hls_time 2 -hls_list_size 6".split(" "),
        ..."-hls_flags delete_segments+independent_segments+program_date_time".split(" "),
        path.join(segments, "index.m3u8"),
      ],
      { stdio: "ignore" },
    ),
  );
}

async function stop() {
  for (const hub of new Set(hubs.values())) hub.stop();
  // A dying ffmpeg still writes its last segment.
  const ends = children.map((child) => new Promise((resolve) => child.once("exit", resolve)));
  for (const child of children) child.kill();
  await Promise.all(ends);
  rmSync(segments, { recursive: true, force: true });
  process.exit(0);
}
process.on("SIGINT", stop);
process.on("SIGTERM", stop);

/* ---- state ---- */

const viewers = (total) => ({ total, flv: total, ws_flv: 0, hls: 0, rtmp: 0, whep: 0 });
const playback = (id) => ({
  flv: `/live/${id}.flv`,
  ws_flv: `/live/${id}.flv`,
  hls: `/live/${id}/index.m3u8`,
});
const channel = (id, more = {}) => ({
  id,
  title: "",
  mode: "solo",
  state: "idle",
  node: "anchor-1",
  created_at: iso(-7_200_000),
  participants: 0,
  destinations: 0,
  viewers: viewers(0),
  playback: playback(id),
  layout: { name: "grid", tiles: [] },
  order: [],
  ...more,
});
const person = (id, role, joinedS, more = {}) => ({
  id,
  role,
  state: "live",
  protocol: "whip",
  joined_at: iso(-joinedS * 1000),
  muted: false,
  volume: 1,
  on_program: true,
  ...more,
});
const destination = (name, url, state, more = {}) => ({
  name,
  url,
  state,
  attempts: 0,
  last_error: null,
  next_attempt_at: null,
  connected_at: null,
  bytes_sent: 0,
  dropped_units: 0,
  ...more,
});

const channels = new Map();
const destinations = new Map();
/** Broadcasters by channel. */
const people = new Map();
/** Switches by channel, oldest first. */
const switches = new Map();
const CROWD = "Ada Bo Cleo Dara Eli Fay Gus Hana Ivo Jun Kim Lou Mia Ned Oz".split(" ");
if (scenario !== "empty") {
  const live = { state: "live", live_since: iso(-754_000), host: "alice", participants: 1 };
  channels.set("demo", channel("demo", { ...live, title: "Harbour at dawn", destinations: 3 }));
  channels.set("concert", channel("concert", { ...live, live_since: iso(-5_025_000) }));
  channels.set(
    "talk-of-the-town",
    channel("talk-of-the-town", { state: "away", live_since: iso(-95_000), host: "bob" }),
  );
  people.set("demo", [
    person("alice", "host", 754),
    person("bob", "guest", 320),
    person("carol-from-the-harbour-office", "guest", 95, { muted: true }),
    person("dan", "guest", 12, { state: "connecting" }),
  ]);
  people.set("concert", [person("alice", "host", 5_025)]);
  people.set("talk-of-the-town", [person("bob", "host", 400, { state: "connecting" })]);
  channels.set(
    "panel",
    channel("panel", { ...live, mode: "collab", host: "moderator", title: "Sixteen at one table" }),
  );
  people.set("panel", [
    person("moderator", "host", 900),
    ...CROWD.map((name, at) => person(name.toLowerCase(), "guest", 800 - at)),
  ]);
  // Collab without a mixer: what is shown while it is being restarted.
  channels.set("broken-mixer", channel("broken-mixer", { ...live, mode: "collab", host: "alice" }));
  people.set("broken-mixer", [person("alice", "host", 90), person("bob", "guest", 60)]);
  switches.set(
    "demo",
    [40, 260, 410, 700]
      .map((agoS, at) => record(4 - at, at % 2 ? "collab" : "solo", agoS))
      .reverse(),
  );
  channels.set("tomorrow", channel("tomorrow", { title: "Tomorrow's show" }));
  destinations.set("demo", [
    destination("main platform", "rtmps://live.example/app/***", "live", {
      connected_at: iso(-750_000),
      bytes_sent: 234_567_890,
      attempts: 1,
    }),
    destination("backup", "rtmp://backup.example:1935/live/***", "backoff", {
      attempts: 4,
      last_error: "connection refused (os error 111)",
      next_attempt_at: iso(17_000),
      bytes_sent: 1_200_000,
      dropped_units: 312,
    }),
    destination("partner", "rtmps://partner.example/ingest/***", "refused", {
      attempts: 1,
      last_error: "the server refused the stream key: NetStream.Publish.BadName",
      next_attempt_at: iso(290_000),
    }),
  ]);
}

const wave = (period, low, high) =>
  low + ((Math.sin(((Date.now() - startedMs) / period) * 2 * Math.PI) + 1) / 2) * (high - low);

const level = (name) => {
  const period = 1_500 + 270 * name.length;
  return { rms_dbfs: wave(period, -48, -14), peak_dbfs: wave(period, -34, -4) };
};

/** A switch `agoS` seconds ago. */
function record(number, mode, agoS = 0) {
  return {
    number,
    mode,
    requested_at: iso(-agoS * 1000),
    cut: { video_dts_ms: 1, audio_dts_ms: 1, waited_ms: 96 + 47 * (number % 3) },
    splice: { method: "crossfade", fade_ms: 10, gap_samples: 0, overlap_samples: 0 },
  };
}

function ingest() {
  return {
    video_bitrate_bps: Math.round(wave(23_000, 2.1e6, 2.6e6)),
    audio_bitrate_bps: 128_000,
    fps: wave(9_000, 29.6, 30.2),
    video_codec: "avc1.42e01f",
    audio_codec: "opus",
    width: 1280,
    height: 720,
    packets_received: 412_345,
    packets_lost: 2,
    packets_repaired: 518,
    loss_ratio: wave(31_000, 0, 0.03),
    jitter_ms: 3.2,
    rtt_ms: wave(15_000, 21, 38),
    nacks_sent: 530,
    plis_sent: 3,
    keyframes: 377,
    dropped_units: 0,
    freezes: 1,
    frozen_ms: 420,
    layers: [],
    qoe: { grade: "fair", score: 3.8, reasons: ["loss"] },
  };
}

const inMix = (id, who) => {
  const { order } = channels.get(id);
  return who.role === "host" || (who.on_program && (!order.length || order.includes(who.id)));
};

function participants(id) {
  const { mode } = channels.get(id);
  return (people.get(id) ?? [])
    .map((who) => ({
      ...who,
      on_air:
        who.state === "live" && (who.role === "host" || (mode === "collab" && inMix(id, who))),
      ...(who.state === "live"
        ? {
            level: level(who.id),
            video: { codec: "avc1.42e01f", width: 1280, height: 720 },
            audio: { codec: "opus", sample_rate_hz: 48_000, channels: 2 },
            ingest: ingest(),
          }
        : {}),
    }))
    .sort((a, b) => (a.id < b.id ? -1 : 1));
}

const source = (id) =>
  channels.get(id).mode === "collab" && id !== "broken-mixer" ? "mix" : "host";

function stats(id) {
  const { state, mode } = channels.get(id);
  const live = state === "live";
  return {
    channel: id,
    at: iso(),
    uptime_ms: Date.now() - startedMs,
    mode,
    state,
    program: {
      source: live ? source(id) : state === "away" ? "slate" : "none",
      fps: live ? wave(9_000, 29.6, 30.2) : 0,
      video_bitrate_bps: live ? Math.round(wave(23_000, 2.1e6, 2.6e6)) : 0,
      audio_bitrate_bps: live ? 128_000 : 0,
      width: live ? 1280 : 0,
      height: live ? 720 : 0,
      audio_level: live
        ? { rms_dbfs: wave(7_000, -34, -16), peak_dbfs: wave(7_000, -18, -4) }
        : { rms_dbfs: -100, peak_dbfs: -100 },
      silence_samples: 4_800,
      concealed_samples: 960,
      video_units: 22_620,
      audio_units: 35_343,
      keyframes: 377,
      dropped_units: 0,
      video_dts_ms: 754_000,
      audio_dts_ms: 754_010,
      program_delay_ms: 300,
      switches: 0,
    },
    participants: participants(id).flatMap((p) =>
      p.ingest
        ? [{ id: p.id, role: p.role, state: p.state, level: p.level, ingest: p.ingest }]
        : [],
    ),
    destinations: (destinations.get(id) ?? []).map((d) => ({
      name: d.name,
      state: d.state,
      bitrate_bps: d.state === "live" ? Math.round(wave(23_000, 2.2e6, 2.7e6)) : 0,
      bytes_sent: d.bytes_sent,
      dropped_units: d.dropped_units,
    })),
    viewers: viewers(hubs.get(id)?.viewers ?? 0),
  };
}

const readiness = () => ({
  ready: true,
  status: "degraded",
  checks: [
    { name: "registry", status: "degraded", detail: "Redis is lost; running on local state" },
    { name: "udp", status: "ok", detail: "127.0.0.1:8189 reachable" },
    { name: "origin", status: "ok", detail: "" },
  ],
});

const relays = () => {
  const relay = (id, region, load, state, substreams, more = {}) => ({
    id,
    address: `198.51.100.${Number.parseInt(id, 16)}:4100`,
    region,
    load,
    sessions: Math.round(load * 40),
    used_kbps: Math.round(load * 20_000),
    capacity_kbps: 20_000,
    expansion: substreams.length === 0 ? 0 : 2 + load * 6,
    state,
    silent_ms: 1_200,
    serves: substreams.length === 0 ? [] : [{ stream: "demo", substreams }],
    ...more,
  });
  if (scenario === "empty") return { scheduled: false, known: 0, relays: [] };
  return {
    scheduled: true,
    known: 9,
    relays: [
      relay("1f", "north", 0.62, "ok", [0, 1]),
      relay("2a", "north", 0.97, "full", [1, 2]),
      relay("3", "north", 0.05, "ok", []),
      relay("4b", "south", 0.81, "ok", [0, 3]),
      relay("5", "south", 0.33, "leaving", [2]),
      relay("6", "south", 0.4, "blocked", [3], {
        serves: [
          { stream: "demo", substreams: [3] },
          { stream: "concert", substreams: [0, 1, 2] },
        ],
      }),
      relay("7", "", 0.2, "ok", [1], { silent_ms: 17_000, capacity_kbps: 0 }),
      relay("8", "", 0.01, "ok", []),
      relay("9c", "north", 0.51, "ok", [0, 1, 2, 3]),
    ],
  };
};
const nodes = () => [
  {
    id: "anchor-1",
    url: `http://127.0.0.1:${port}`,
    roles: ["anchor", "origin"],
    version: "0.1.0",
    started_at: iso(-86_400_000),
    seen_at: iso(),
    channels: channels.size,
    sessions: 2,
  },
  {
    id: "anchor-2",
    url: "http://10.0.0.2:8080",
    roles: ["anchor"],
    version: "0.1.0",
    started_at: iso(-3_600_000),
    seen_at: iso(-40_000),
    channels: 0,
    sessions: 0,
  },
];

/* ---- HTTP ---- */

const listeners = new Set();
let eventId = 0;
function announce(type, id, data) {
  eventId += 1;
  const event = { id: eventId, at: iso(), channel: id, type, data };
  const text = `id: ${event.id}\nevent: ${type}\ndata: ${JSON.stringify(event)}\n\n`;
  for (const response of listeners) response.write(text);
}

function json(response, status, body) {
  response.writeHead(status, { "Content-Type": "application/json", "Cache-Control": "no-store" });
  response.end(body === undefined ? "" : JSON.stringify(body));
}

function problem(response, status, title, more = {}) {
  response.writeHead(status, { "Content-Type": "application/problem+json" });
  response.end(JSON.stringify({ type: "about:blank", title, status, ...more }));
}

async function bodyOf(request) {
  let text = "";
  for await (const chunk of request) text += chunk;
  return text === "" ? undefined : JSON.parse(text);
}

const list = (items) => ({ items });
const NAME = /^[A-Za-z0-9_-]{1,64}$/;

async function createChannel(request, response) {
  const body = await bodyOf(request);
  if (!NAME.test(body.id ?? "")) {
    return problem(response, 422, "Invalid value", {
      field: "id",
      detail: "must be 1 to 64 characters",
    });
  }
  if (channels.has(body.id)) return problem(response, 409, "Channel exists");
  channels.set(body.id, channel(body.id, { title: body.title ?? "", created_at: iso() }));
  announce("channel.created", body.id, channels.get(body.id));
  return json(response, 201, channels.get(body.id));
}

async function putDestinations(id, request, response) {
  const specs = await bodyOf(request);
  for (const [at, spec] of specs.entries()) {
    if (!/^rtmps?:\/\/[^/]+\/.+/.test(spec.url)) {
      const detail = "must have a path: the application and the stream key";
      return problem(response, 422, "Invalid value", { field: `[${at}].url`, detail });
    }
  }
  const before = destinations.get(id) ?? [];
  destinations.set(
    id,
    specs.map((spec, at) => {
      const name = spec.name || `destination-${at + 1}`;
      const kept = before.find((d) => d.name === name && d.url === spec.url);
      return (
        kept ?? destination(name, spec.url.replace(/[^/]*$/, "***"), "connecting", { attempts: 1 })
      );
    }),
  );
  channels.get(id).destinations = specs.length;
  return json(response, 200, list(destinations.get(id)));
}

const changed = (id) => announce("channel.updated", id, channels.get(id));

async function setMode(id, request, response) {
  const body = await bodyOf(request);
  const show = channels.get(id);
  const guests = (people.get(id) ?? []).filter((p) => p.role === "guest" && p.state === "live");
  await new Promise((resolve) => setTimeout(resolve, 140));
  if (body.mode === "collab" && guests.length === 0) {
    const detail =
      "the channel has no live guest on program to collaborate with; invite one, or put one on program";
    return problem(response, 409, "Conflict", { detail });
  }
  if (id === "concert") {
    const detail = "the mixer cannot be started, so the channel stays in solo mode";
    return problem(response, 503, "Service Unavailable", { detail });
  }
  const report = { mode: body.mode, requested_at: iso(-140), cut: null, splice: null };
  if (body.mode === "collab") show.order = body.participants ?? [];
  if (show.mode === body.mode) {
    changed(id);
    return json(response, 200, { ...report, changed: false });
  }
  show.mode = body.mode;
  const all = switches.get(id) ?? [];
  const made = record((all.at(-1)?.number ?? 0) + 1, body.mode);
  switches.set(id, [...all, made].slice(-50));
  announce("mode.switched", id, { ...report, ...made, changed: true });
  changed(id);
  return json(response, 200, { ...report, ...made, changed: true });
}

async function setLayout(id, request, response) {
  channels.get(id).layout = await bodyOf(request);
  announce("layout.changed", id, channels.get(id).layout);
  changed(id);
  return json(response, 200, channels.get(id).layout);
}

async function participant(id, name, request, response) {
  const all = people.get(id) ?? [];
  const who = all.find((p) => p.id === name);
  if (!who) return problem(response, 404, "Not found", { detail: "no such participant" });
  if (request.method === "DELETE") {
    people.set(
      id,
      all.filter((p) => p !== who),
    );
    announce("participant.left", id, { id: name, reason: "kicked" });
    response.writeHead(204);
    return response.end();
  }
  Object.assign(who, await bodyOf(request));
  const now = participants(id).find((p) => p.id === name);
  announce("participant.updated", id, now);
  return json(response, 200, now);
}

async function invite(id, request, response) {
  const body = await bodyOf(request);
  const query = new URLSearchParams({ role: body.role });
  if (body.participant) query.set("participant", body.participant);
  const url = `http://127.0.0.1:${port}/studio/${id}?${query}#token=mock.token.mock`;
  const expires = iso((body.expires_in_s ?? 3_600) * 1000);
  return json(response, 201, { url, token: "mock.token.mock", expires_at: expires });
}

function events(request, response) {
  response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
  response.write(": hello\n\n");
  listeners.add(response);
  request.on("close", () => listeners.delete(response));
}

async function apiRequest(request, response, pathname) {
  if (scenario === "broken")
    return problem(response, 500, "Internal error", { detail: "The mock is broken on purpose." });
  if (scenario === "denied" && request.headers.authorization !== "Bearer secret") {
    return problem(response, 401, "Unauthorized", { detail: "a token is needed" });
  }
  const method = request.method;
  if (pathname === "/api/v1/events") return events(request, response);
  if (pathname === "/api/v1/relays") return json(response, 200, relays());
  if (pathname === "/api/v1/nodes") return json(response, 200, list(nodes()));
  if (pathname === "/api/v1/channels") {
    if (method === "POST") return createChannel(request, response);
    for (const [id, hub] of hubs) {
      if (channels.has(id)) channels.get(id).viewers = viewers(hub.viewers);
    }
    for (const [id, all] of people) channels.get(id).participants = all.length;
    return json(response, 200, list([...channels.values()].sort((a, b) => (a.id < b.id ? -1 : 1))));
  }
  const [, id, rest] = /^\/api\/v1\/channels\/([^/]+)(\/.*)?$/.exec(pathname) ?? [];
  if (id === undefined || !channels.has(id)) return problem(response, 404, "No such channel");
  if (rest === undefined && method === "DELETE") {
    channels.delete(id);
    announce("channel.deleted", id, {});
    response.writeHead(204);
    return response.end();
  }
  if (rest === undefined) return json(response, 200, channels.get(id));
  if (rest === "/stats") return json(response, 200, stats(id));
  if (rest === "/participants") return json(response, 200, list(participants(id)));
  if (rest?.startsWith("/participants/")) {
    return participant(id, decodeURIComponent(rest.slice(14)), request, response);
  }
  if (rest === "/mode") return setMode(id, request, response);
  if (rest === "/layout") return setLayout(id, request, response);
  if (rest === "/switches") return json(response, 200, list(switches.get(id) ?? []));
  if (rest === "/invites") return invite(id, request, response);
  if (rest === "/destinations" && method === "PUT") return putDestinations(id, request, response);
  if (rest === "/destinations") return json(response, 200, list(destinations.get(id) ?? []));
  return problem(response, 404, "No such resource");
}

const MIME = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".m3u8": "application/vnd.apple.mpegurl",
  ".ts": "video/mp2t",
};
/** The policy that the real server sends, so that a page that would break there breaks here. */
const POLICY =
  "default-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; connect-src 'self' ws: wss:; " +
  "script-src 'self' blob:; img-src 'self' data: blob:; style-src 'self'; object-src 'none'; base-uri 'none'";

function file(response, name, headers = {}) {
  if (!existsSync(name) || !statSync(name).isFile()) return problem(response, 404, "Not found");
  response.writeHead(200, {
    "Content-Type": MIME[path.extname(name)] ?? "application/octet-stream",
    ...headers,
  });
  return createReadStream(name).pipe(response);
}

function live(request, response, pathname) {
  const [, id] = /^\/live\/([^/]+)\.flv$/.exec(pathname) ?? [];
  if (id !== undefined) {
    const hub = hubs.get(id);
    if (!hub) return problem(response, 404, "No such stream");
    response.writeHead(200, { "Content-Type": "video/x-flv", "Cache-Control": "no-store" });
    const leave = hub.join((bytes) => response.write(bytes));
    return request.on("close", leave);
  }
  const [, stream, name] = /^\/live\/([^/]+)\/([^/]+)$/.exec(pathname) ?? [];
  if (stream !== "demo") return problem(response, 404, "No such stream");
  return file(response, path.join(segments, name), { "Cache-Control": "no-store" });
}

const server = http.createServer((request, response) => {
  const { pathname } = new URL(request.url, "http://mock");
  if (pathname.startsWith("/api/")) return apiRequest(request, response, pathname);
  if (pathname === "/readyz") {
    return scenario === "broken"
      ? problem(response, 500, "Internal error")
      : json(response, 200, readiness());
  }
  if (pathname.startsWith("/live/")) return live(request, response, pathname);
  if (/^\/wh[ei]p\//.test(pathname)) return problem(response, 503, "The mock has no media");
  if (!dist) return problem(response, 404, "Not found");
  const page = { "/": "index", studio: "studio", watch: "watch" }[pathname.split("/")[1] || "/"];
  if (page) {
    return file(response, path.join(dist, `${page}.html`), { "Content-Security-Policy": POLICY });
  }
  return file(response, path.join(dist, path.normalize(pathname)));
});

/* ---- WebSocket: just enough of RFC 6455 to send binary messages ---- */

function frame(bytes) {
  const long = bytes.length > 65_535;
  const head = Buffer.alloc(long ? 10 : bytes.length > 125 ? 4 : 2);
  head[0] = 0x82;
  head[1] = long ? 127 : bytes.length > 125 ? 126 : bytes.length;
  if (long) head.writeBigUInt64BE(BigInt(bytes.length), 2);
  else if (bytes.length > 125) head.writeUInt16BE(bytes.length, 2);
  return Buffer.concat([head, bytes]);
}

server.on("upgrade", (request, socket) => {
  const { pathname } = new URL(request.url, "http://mock");
  const hub = hubs.get(/^\/live\/([^/]+)\.flv$/.exec(pathname)?.[1]);
  if (!hub) return socket.end("HTTP/1.1 404 Not Found\r\n\r\n");
  const accept = createHash("sha1")
    .update(`${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
    .digest("base64");
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  const leave = hub.join((bytes) => socket.write(frame(bytes)));
  socket.on("error", leave);
  socket.on("close", leave);
});

startMedia();
server.listen(port, "127.0.0.1", () => {
  console.log(`mock server (${scenario}) at http://127.0.0.1:${port}/`);
});
