// Small plots of how one participant's media arrives.

import { Plot } from "../../charts/plot";
import { axisFromZero, bitrateTick, largest } from "../../charts/scale";
import * as format from "../../lib/format";
import type { Arrival } from "./arrivals";

export function ArrivalPlots({ arrival, spanMs }: { arrival: Arrival; spanMs: number }) {
  const { bitrate, missing, lost, rtt, jitter } = arrival;
  const common = { spanMs, nowMs: bitrate.last?.atMs ?? 0 };
  return (
    <div class="plots">
      <Plot
        {...common}
        title="Bitrate"
        lines={[{ name: "both", series: bitrate, colour: "--accent" }]}
        axis={axisFromZero(largest(bitrate.points), 500_000)}
        format={format.bitrate}
        tick={bitrateTick}
      />
      <Plot
        {...common}
        title="Loss"
        lines={[
          { name: "at first", series: missing, colour: "--warn" },
          { name: "after repair", series: lost, colour: "--accent" },
        ]}
        axis={axisFromZero(largest(missing.points), 0.05)}
        format={format.percent}
        tick={(value) => format.percent(value, 0)}
      />
      <Plot
        {...common}
        title="Delay"
        lines={[
          { name: "round trip", series: rtt, colour: "--accent" },
          { name: "jitter", series: jitter, colour: "--warn" },
        ]}
        axis={axisFromZero(Math.max(largest(rtt.points), largest(jitter.points)), 50)}
        format={format.millis}
        tick={(value) => `${value} ms`}
      />
    </div>
  );
}
