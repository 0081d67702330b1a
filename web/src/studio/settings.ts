// What the broadcaster chose. Kept per browser, so that the next show starts where the last one ended; an address may
// preset it, for links to newcomers and for tests.

import type { HostAdaptation, Role } from "../api/types";
import type { EncoderSettings } from "../whip/client";
import type { Sound } from "./music";

export const PRIORITIES = ["channel", "balanced", "motion", "sharpness"] as const;
export type Priority = (typeof PRIORITIES)[number];
export type SourceKind = "camera" | "screen" | "pattern";

export interface Settings {
  readonly source: SourceKind;
  readonly cameraId: string;
  readonly microphoneId: string;
  readonly size: string;
  readonly fps: number;
  readonly videoKbps: number;
  readonly audioKbps: number;
  readonly stereo: boolean;
  readonly voiceProcessing: boolean;
  /** What is kept when the connection gets slow; `channel`: what the server says. */
  readonly priority: Priority;
  readonly sound: Sound;
  readonly role: Role;
  readonly participant: string;
}

/** Name → width, height and a bitrate that suits it at 30 frames a second. */
export const SIZES: Readonly<
  Record<string, { readonly width: number; readonly height: number; readonly kbps: number }>
> = {
  "1920x1080": { width: 1920, height: 1080, kbps: 4500 },
  "1280x720": { width: 1280, height: 720, kbps: 2500 },
  "960x540": { width: 960, height: 540, kbps: 1600 },
  "640x360": { width: 640, height: 360, kbps: 900 },
};

export const FRAME_RATES = [15, 24, 25, 30, 50, 60] as const;

export const DEFAULTS: Settings = {
  source: "camera",
  cameraId: "",
  microphoneId: "",
  size: "1280x720",
  fps: 30,
  videoKbps: 2500,
  audioKbps: 128,
  stereo: true,
  voiceProcessing: true,
  priority: "channel",
  sound: "music",
  role: "host",
  participant: "",
};

export const DEFAULT_SIZE = { width: 1280, height: 720, kbps: 2500 } as const;

export function dimensions(settings: Settings) {
  return SIZES[settings.size] ?? DEFAULT_SIZE;
}

const within = (value: number, low: number, high: number, otherwise: number) =>
  Number.isFinite(value) ? Math.min(high, Math.max(low, Math.round(value))) : otherwise;

const oneOf = <T>(value: unknown, options: readonly T[], otherwise: T): T =>
  options.includes(value as T) ? (value as T) : otherwise;

/** Makes settings out of anything that was stored or typed. */
export function sanitize(raw: Partial<Record<keyof Settings, unknown>>): Settings {
  const text = (value: unknown) => (typeof value === "string" ? value : "");
  const size = oneOf(raw.size, Object.keys(SIZES), DEFAULTS.size);
  return {
    source: oneOf(raw.source, ["camera", "screen", "pattern"] as const, DEFAULTS.source),
    cameraId: text(raw.cameraId),
    microphoneId: text(raw.microphoneId),
    size,
    fps: oneOf<number>(Number(raw.fps), FRAME_RATES, DEFAULTS.fps),
    videoKbps: within(Number(raw.videoKbps), 100, 12_000, SIZES[size]?.kbps ?? DEFAULTS.videoKbps),
    audioKbps: within(Number(raw.audioKbps), 16, 320, DEFAULTS.audioKbps),
    stereo: typeof raw.stereo === "boolean" ? raw.stereo : DEFAULTS.stereo,
    voiceProcessing:
      typeof raw.voiceProcessing === "boolean" ? raw.voiceProcessing : DEFAULTS.voiceProcessing,
    priority: oneOf(raw.priority, PRIORITIES, DEFAULTS.priority),
    sound: oneOf(raw.sound, ["music", "tone", "silence"] as const, DEFAULTS.sound),
    role: oneOf(raw.role, ["host", "guest"] as const, DEFAULTS.role),
    participant: /^[A-Za-z0-9_-]{1,64}$/.test(text(raw.participant)) ? text(raw.participant) : "",
  };
}

/** `?source=pattern&size=640x360&fps=30&kbps=900&audio_kbps=128&sound=tone&role=guest&participant=bob` */
export function fromQuery(search: string): Partial<Record<keyof Settings, unknown>> {
  const query = new URLSearchParams(search);
  const names: Record<string, keyof Settings> = {
    source: "source",
    size: "size",
    fps: "fps",
    kbps: "videoKbps",
    audio_kbps: "audioKbps",
    sound: "sound",
    role: "role",
    participant: "participant",
    priority: "priority",
  };
  const result: Partial<Record<keyof Settings, unknown>> = {};
  for (const [name, key] of Object.entries(names)) {
    const value = query.get(name);
    if (value !== null) result[key] = value;
  }
  for (const [name, key] of [
    ["stereo", "stereo"],
    ["voice", "voiceProcessing"],
  ] as const) {
    const value = query.get(name);
    if (value !== null) result[key] = value === "1" || value === "true";
  }
  // A size without a bitrate means the bitrate that suits it.
  if (result.size !== undefined && result.videoKbps === undefined) result.videoKbps = Number.NaN;
  return result;
}

const STORE = "anchornet.studio";

export function loadSettings(search: string): Settings {
  let stored: Partial<Record<keyof Settings, unknown>> = {};
  try {
    const value: unknown = JSON.parse(localStorage.getItem(STORE) ?? "{}");
    if (typeof value === "object" && value !== null) stored = value;
  } catch {
    // Unreadable or forbidden storage: the defaults will do.
  }
  return sanitize({ ...stored, ...fromQuery(search) });
}

export function saveSettings(settings: Settings): void {
  try {
    // Who one is belongs to the tab, not to the browser.
    const { participant: _participant, role: _role, ...kept } = settings;
    localStorage.setItem(STORE, JSON.stringify(kept));
  } catch {
    // Settings then last as long as the page.
  }
}

/**
 * The participant id of this tab on this channel: the same over reloads and reconnects, so that the server knows a host
 * who comes back.
 */
export function participantOfTab(channel: string, random: () => string): string {
  const key = `anchornet.participant.${channel}`;
  try {
    const kept = sessionStorage.getItem(key);
    if (kept) return kept;
    const fresh = random();
    sessionStorage.setItem(key, fresh);
    return fresh;
  } catch {
    return random();
  }
}

export function randomParticipant(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(5));
  return `web-${Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("")}`;
}

const DEGRADATION = {
  balanced: "balanced",
  motion: "maintain-framerate",
  sharpness: "maintain-resolution",
  "keep-framerate": "maintain-framerate",
  "keep-resolution": "maintain-resolution",
} as const;

/** `adaptation`: what the server wants of broadcasters who have not chosen. */
export function encoderSettings(
  settings: Settings,
  adaptation: HostAdaptation = "balanced",
): EncoderSettings {
  const { priority } = settings;
  return {
    maxVideoBitrate: settings.videoKbps * 1000,
    maxFramerate: settings.fps,
    degradation: DEGRADATION[priority === "channel" ? adaptation : priority],
    audio: { stereo: settings.stereo, maxAverageBitrate: settings.audioKbps * 1000 },
  };
}

export function contentHint(settings: Settings): string {
  if (settings.priority === "sharpness") return "detail";
  if (settings.priority === "motion") return "motion";
  return settings.source === "screen" ? "detail" : "motion";
}
