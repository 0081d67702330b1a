// One clock for all uptimes and countdowns of the page.

import { signal } from "@preact/signals";

/** Unix milliseconds, a new value each second while the page is seen. */
export const nowMs = signal(Date.now());

export function startClock(): void {
  setInterval(() => {
    if (document.visibilityState === "visible") nowMs.value = Date.now();
  }, 1_000);
}
