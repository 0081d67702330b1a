// A level that comes a few times a second, drawn as a meter that moves smoothly in between.

import type { AudioLevel } from "../api/types";
import { meterFraction } from "../lib/level";

export function LevelMeter(props: { level: AudioLevel | undefined; label: string; off?: boolean }) {
  const { level, off } = props;
  const loud = off || !level ? 0 : meterFraction(level.rms_dbfs);
  const peak = off || !level ? 0 : meterFraction(level.peak_dbfs);
  return (
    // biome-ignore lint/a11y/useSemanticElements: the native element cannot be drawn as a level meter.
    <div
      class="meter meter--smooth"
      role="meter"
      aria-label={props.label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(loud * 100)}
    >
      <div class="meter__bar" />
      <div class="meter__cover" style={{ transform: `scaleX(${(1 - loud).toFixed(3)})` }} />
      {peak > 0 ? (
        <div class="meter__mark" style={{ transform: `translateX(${(peak * 100).toFixed(1)}%)` }} />
      ) : null}
    </div>
  );
}
