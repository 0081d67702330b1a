// Why a picture is not what was chosen: from what the browser says about its encoder and the server about what arrives.

import type { IngestStats } from "../api/types";
import * as format from "../lib/format";
import { dimensions, type Settings } from "./settings";
import type { PublishStats } from "./stats";

/** Shares of what was chosen below which it shows. */
const SMALL = 0.95;
const SLOW = 0.8;
/** Share of packets that is missing for good, from which on pictures break. */
const MUCH_LOSS = 0.01;

/** What viewers see of it: a smaller picture, fewer pictures, or a coarser one. */
function effect(settings: Settings, stats: PublishStats): string | undefined {
  const chosen = dimensions(settings);
  const { width, height, fps } = stats;
  // A camera held upright has the sides the other way round.
  const isSmall =
    width !== undefined &&
    height !== undefined &&
    Math.max(width, height) < SMALL * Math.max(chosen.width, chosen.height);
  const isSlow = fps !== undefined && fps < SLOW * settings.fps;
  const parts = [
    isSmall
      ? `${format.size(width, height)} instead of ${format.size(chosen.width, chosen.height)}`
      : undefined,
    isSlow ? `${format.fps(fps)} instead of ${settings.fps}` : undefined,
  ].filter((part) => part !== undefined);
  return parts.length > 0 ? parts.join(" and ") : undefined;
}

function cause(settings: Settings, stats: PublishStats): string | undefined {
  switch (stats.limitation) {
    case "cpu":
      return "This device cannot encode more in time. A smaller picture or a lower frame rate looks better.";
    case "bandwidth": {
      const carries = stats.availableBps;
      // The encoder follows the estimate with a delay, at the start above all.
      if (carries !== undefined && carries > settings.videoKbps * 1_000)
        return "The browser is still finding out what the upload carries.";
      const about = carries === undefined ? "" : ` It carries about ${format.bitrate(carries)}.`;
      return `The upload does not carry the chosen bitrate.${about}`;
    }
    default:
      return undefined;
  }
}

/** For the broadcaster; undefined when the picture is as chosen, or nothing says why it is not. */
export function softness(
  settings: Settings,
  stats: PublishStats,
  ingest: IngestStats | undefined,
): string | undefined {
  const why = cause(settings, stats);
  const seen = effect(settings, stats);
  const sentences: string[] = [];
  if (why)
    sentences.push(seen ? `Viewers get ${seen}.` : "The picture is coarser than chosen.", why);
  const { packets_lost: lost = 0, packets_received: received = 0 } = ingest ?? {};
  if (lost > MUCH_LOSS * (lost + received)) {
    const share = format.percent(lost / (lost + received));
    sentences.push(
      `The server never gets ${share} of the packets: the picture stands still at times.`,
    );
  }
  return sentences.length > 0 ? sentences.join(" ") : undefined;
}
