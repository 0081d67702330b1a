// What the page needs from a player, whichever library does the work.

import type { Cause } from "../machine";

export const PLAYER_KINDS = ["flv", "hls", "webrtc"] as const;

export type PlayerKind = (typeof PLAYER_KINDS)[number];

export function isPlayerKind(text: unknown): text is PlayerKind {
  return PLAYER_KINDS.some((kind) => kind === text);
}

export interface Sources {
  readonly flv: string;
  readonly hls: string;
  readonly whep: string;
}

export interface PlayerHandlers {
  /** The stream has been understood: there is something to play. */
  readonly onData: () => void;
  readonly onFailed: (cause: Cause, message: string) => void;
}

/** What only the library knows; the rest is read from the video element. */
export interface PlayerFigures {
  readonly library: string;
  /** From the playback position to the newest data, in seconds. */
  readonly lagS?: number;
  /** From the wall clock in the stream to the screen, in seconds. */
  readonly latencyS?: number;
  /** Where the library wants to be behind the live edge, when it decides that itself. */
  readonly targetS?: number;
  readonly bitrateBps?: number;
  readonly fps?: number;
  readonly codec?: string;
}

export interface Player {
  readonly kind: PlayerKind;
  figures(): PlayerFigures;
  /** To the live edge, `lagS` seconds behind the newest data. */
  jump(lagS: number): void;
  destroy(): void;
}

export function words(cause: Cause): string {
  switch (cause) {
    case "not_found":
      return "Nobody is on air.";
    case "denied":
      return "The server wants a token for this channel.";
    case "unsupported":
      return "This browser cannot decode the stream.";
    case "media":
      return "The stream could not be decoded.";
    case "ended":
      return "The stream has ended.";
    case "network":
      return "The connection to the server was lost.";
  }
}

export function causeOfStatus(status: number | undefined): Cause {
  if (status === 404) return "not_found";
  return status === 401 || status === 403 ? "denied" : "network";
}

/** Seconds between the position and the end of the buffered range around it. */
export function bufferedAhead(video: HTMLVideoElement): number {
  const { buffered, currentTime } = video;
  for (let i = buffered.length - 1; i >= 0; i -= 1) {
    if (buffered.start(i) <= currentTime + 0.1 && currentTime < buffered.end(i)) {
      return buffered.end(i) - currentTime;
    }
  }
  return 0;
}

/** Where the next buffered range begins, when the position is in none or at the end of one. */
export function nextRangeStart(video: HTMLVideoElement): number | undefined {
  const { buffered, currentTime } = video;
  for (let i = 0; i < buffered.length; i += 1) {
    if (buffered.start(i) > currentTime) return buffered.start(i);
  }
  return undefined;
}

/** Seconds between the position and the newest data, gaps included. */
export function bufferedLag(video: HTMLVideoElement): number {
  const { buffered, currentTime } = video;
  return buffered.length === 0 ? 0 : Math.max(0, buffered.end(buffered.length - 1) - currentTime);
}
