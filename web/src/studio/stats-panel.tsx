// How the connection does, in figures.

import * as format from "../lib/format";
import { Facts, Notice } from "../ui/widgets";
import type { Studio } from "./controller";
import { limitationText } from "./stats";

export function StatsPanel({ studio }: { studio: Studio }) {
  if (studio.snapshot.value.phase !== "live") return null;
  const stats = studio.stats.value;
  const limited = stats.limitation === "cpu" || stats.limitation === "bandwidth";
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
      {limited ? (
        <Notice tone="warn">
          {stats.limitation === "cpu"
            ? "This device cannot encode the chosen size in time. A smaller picture or a lower frame rate looks better."
            : "The upload does not carry the chosen bitrate. A lower bitrate makes the picture steadier."}
        </Notice>
      ) : null}
    </section>
  );
}
