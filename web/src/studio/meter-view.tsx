// The level meter, drawn at the display's rate without rendering the page.

import { useEffect, useRef } from "preact/hooks";
import { meterFraction } from "../lib/level";
import type { Studio } from "./controller";
import { Needle } from "./meter";

export function Meter({ studio }: { studio: Studio }) {
  const bar = useRef<HTMLDivElement>(null);
  const peak = useRef<HTMLDivElement>(null);
  const meter = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const rms = new Needle(40);
    const top = new Needle(12);
    let request = 0;
    let spokenMs = 0;
    const draw = (nowMs: number) => {
      const level = studio.level;
      const muted = studio.muted.value;
      const quiet = Number.NEGATIVE_INFINITY;
      const loud = meterFraction(rms.push(muted ? quiet : (level?.rmsDb ?? quiet), nowMs));
      const high = meterFraction(top.push(muted ? quiet : (level?.peakDb ?? quiet), nowMs));
      bar.current?.style.setProperty("--level", String(loud));
      peak.current?.style.setProperty("--level", String(high));
      if (peak.current) peak.current.hidden = high === 0;
      if (nowMs - spokenMs > 1000) {
        spokenMs = nowMs;
        meter.current?.setAttribute("aria-valuenow", String(Math.round(loud * 100)));
      }
      request = requestAnimationFrame(draw);
    };
    request = requestAnimationFrame(draw);
    return () => cancelAnimationFrame(request);
  }, [studio]);
  return (
    // biome-ignore lint/a11y/useSemanticElements: the native element cannot be drawn at 60 frames a second.
    <div
      class="meter"
      ref={meter}
      role="meter"
      aria-label="Sound level"
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={0}
    >
      <div class="meter__bar" ref={bar} />
      <div class="meter__peak" ref={peak} />
    </div>
  );
}
