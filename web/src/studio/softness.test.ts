import { describe, expect, it } from "vitest";
import type { IngestStats } from "../api/types";
import { DEFAULTS, encoderSettings } from "./settings";
import { softness } from "./softness";

const asChosen = { width: 1280, height: 720, fps: 30, limitation: "none" };

describe("softness", () => {
  it("says nothing about a picture that is as chosen", () => {
    expect(softness(DEFAULTS, asChosen, undefined)).toBeUndefined();
    expect(softness(DEFAULTS, {}, undefined)).toBeUndefined();
    // Somebody else's choice, not a limitation: a window that is smaller than the picture.
    expect(softness(DEFAULTS, { ...asChosen, width: 640, height: 360 }, undefined)).toBeUndefined();
  });

  it("says what viewers get and why", () => {
    const thin = { width: 640, height: 360, fps: 14, limitation: "bandwidth", availableBps: 7e5 };
    const text = softness(DEFAULTS, thin, undefined) ?? "";
    expect(text).toContain("640×360 instead of 1280×720");
    expect(text).toContain("14.0 fps instead of 30");
    expect(text).toContain("700 kb/s");
    expect(softness(DEFAULTS, { ...asChosen, limitation: "cpu" }, undefined)).toContain("device");
    const early = { ...thin, availableBps: 5e6 };
    expect(softness(DEFAULTS, early, undefined)).toContain("finding out");
  });

  it("adds what the server misses", () => {
    const ingest = { packets_lost: 50, packets_received: 950 } as IngestStats;
    expect(softness(DEFAULTS, asChosen, ingest)).toContain("5.0 %");
  });
});

describe("what is given up first", () => {
  it("is the channel's choice unless the broadcaster made one", () => {
    const degradation = (priority: typeof DEFAULTS.priority) =>
      encoderSettings({ ...DEFAULTS, priority }, "keep-resolution").degradation;
    expect(degradation("channel")).toBe("maintain-resolution");
    expect(degradation("motion")).toBe("maintain-framerate");
    expect(encoderSettings(DEFAULTS).degradation).toBe("balanced");
  });
});
