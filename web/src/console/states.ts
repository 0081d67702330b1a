// States of the API in words and tones.

import type {
  Channel,
  ChannelState,
  Destination,
  DestinationState,
  ParticipantState,
  Readiness,
} from "../api/types";
import type { Tone } from "../ui/widgets";

interface Look {
  readonly word: string;
  readonly tone: Tone;
}

export const CHANNEL_STATES: Record<ChannelState, Look> = {
  idle: { word: "Off air", tone: "neutral" },
  live: { word: "Live", tone: "live" },
  away: { word: "Host away", tone: "warn" },
};

export const DESTINATION_STATES: Record<DestinationState, Look> = {
  idle: { word: "Waiting for the host", tone: "neutral" },
  connecting: { word: "Connecting", tone: "warn" },
  live: { word: "Live", tone: "ok" },
  backoff: { word: "Trying again", tone: "warn" },
  refused: { word: "Refused", tone: "bad" },
  stopped: { word: "Stopped", tone: "neutral" },
};

export const PARTICIPANT_STATES: Record<ParticipantState, Look> = {
  connecting: { word: "Connecting", tone: "warn" },
  live: { word: "Connected", tone: "ok" },
  away: { word: "Away", tone: "warn" },
};

export function readinessLook(readiness: Readiness | undefined, reachable: boolean): Look {
  if (!reachable) return { word: "Server unreachable", tone: "bad" };
  switch (readiness?.status) {
    case undefined:
      return { word: "Checking", tone: "neutral" };
    case "ready":
      return { word: "Healthy", tone: "ok" };
    case "degraded":
      return { word: "Degraded", tone: "warn" };
    case "not_ready":
      return { word: "Not ready", tone: "bad" };
  }
}

/** Since when it is on air, in milliseconds; undefined when it is not. */
export function uptimeMs(channel: Channel, nowMs: number): number | undefined {
  return channel.live_since === undefined || channel.state === "idle"
    ? undefined
    : Math.max(0, nowMs - Date.parse(channel.live_since));
}

/** Whole seconds until the next attempt; undefined when none is planned. */
export function countdownS(destination: Destination, nowMs: number): number | undefined {
  if (destination.next_attempt_at === null) return undefined;
  return Math.max(0, Math.ceil((Date.parse(destination.next_attempt_at) - nowMs) / 1000));
}
