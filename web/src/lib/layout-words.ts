// Layouts in words.

import type { LayoutName } from "../api/types";

const WORDS: Readonly<Record<LayoutName, string>> = {
  grid: "Grid",
  "side-by-side": "Side by side",
  speaker: "Speaker",
  pip: "Picture in picture",
  custom: "Custom",
};

export const layoutWord = (name: LayoutName): string => WORDS[name];
