// How the connection does, in figures.

import * as format from "../lib/format";
import { Facts, Notice } from "../ui/widgets";
import type { Studio } from "./controller";
import { limitationText } from "./stats";

export function StatsPanel({ studio }: { studio: Studio }) {
  if (studio.snapshot.value.phase !== "live") return null;
  const stats = studio.stats.value;
  return (
    <section class="card stack" aria-label="Connection">
      <h2>Connection</h2>
      <Facts
        items={[
          { name: "Picture", value: format.size(stats.width, stats.height) },
          { name: "Frame rate", value: format.fps(stats.fps) },
          { name: "Video", value: format.bitrate(stats.videoBps) },
          { name: "Audio", value: format.bitrate(stats.audioBps) },
          { name: "Round trip", value: format.millis(stats.rttMs) },
          { name: "Loss before repair", value: format.percent(stats.loss) },
          { name: "Estimated upload", value: format.bitrate(stats.availableBps) },
          { name: "Limited by", value: limitationText(stats.limitation) },
          ...(stats.encoder ? [{ name: "Encoder", value: stats.encoder }] : []),
        ]}
      />
      {studio.softness.value ? <Notice tone="warn">{studio.softness.value}</Notice> : null}
    </section>
  );
}
