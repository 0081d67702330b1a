// Where the mixer puts the tiles, as drawn previews: fractions of a 16:9 picture, with the gaps the mixer leaves.

import type { Layout, LayoutName } from "../../api/types";

export interface Rect {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** Those that need no tiles of their own, in the order of the picker. */
export const LAYOUTS: readonly LayoutName[] = ["grid", "side-by-side", "speaker", "pip"];

const ASPECT = 16 / 9;
const GAP = 1 / 128;
/** The same distance as a part of the height. */
const GAP_Y = GAP * ASPECT;

const WHOLE: Rect = { x: 0, y: 0, width: 1, height: 1 };

function grid(count: number): Rect[] {
  if (count === 1) return [WHOLE];
  const columns = Math.ceil(Math.sqrt(count));
  const rows = Math.ceil(count / columns);
  const side = Math.min((1 - GAP * (columns - 1)) / columns, (1 - GAP_Y * (rows - 1)) / rows);
  const top = (1 - rows * side - (rows - 1) * GAP_Y) / 2;
  return Array.from({ length: count }, (_, n) => {
    const row = Math.floor(n / columns);
    const inRow = row + 1 === rows ? count - row * columns : columns;
    const left = (1 - inRow * side - (inRow - 1) * GAP) / 2;
    return {
      x: left + (n % columns) * (side + GAP),
      y: top + row * (side + GAP_Y),
      width: side,
      height: side,
    };
  });
}

function columns(count: number): Rect[] {
  return Array.from({ length: count }, (_, n) => ({
    x: n / count,
    y: 0,
    width: 1 / count,
    height: 1,
  }));
}

function speaker(count: number): Rect[] {
  if (count === 1) return [WHOLE];
  const strip = 1 / 5;
  const main = 1 - strip - GAP;
  const others = count - 1;
  const rows = Math.max(4, others);
  const height = Math.min((1 - GAP_Y * (rows - 1)) / rows, strip);
  const top = (1 - others * height - (others - 1) * GAP_Y) / 2;
  return [
    { x: 0, y: (1 - main) / 2, width: main, height: main },
    ...Array.from({ length: others }, (_, n) => ({
      x: 1 - strip,
      y: top + n * (height + GAP_Y),
      width: strip,
      height,
    })),
  ];
}

function pip(count: number): Rect[] {
  const others = count - 1;
  const margin = GAP * 2;
  const width = Math.min((1 - margin * (others + 1)) / Math.max(1, others), 1 / 4);
  return [
    WHOLE,
    ...Array.from({ length: others }, (_, n) => ({
      x: 1 - (n + 1) * (width + margin),
      y: 1 - width - margin * ASPECT,
      width,
      height: width,
    })),
  ];
}

/** The tiles of `count` participants, in their order and back to front. */
export function tilesOf(layout: Pick<Layout, "name" | "tiles">, count: number): readonly Rect[] {
  if (layout.name === "custom") return layout.tiles;
  const draw = { grid, "side-by-side": columns, speaker, pip }[layout.name];
  return count < 1 ? [] : draw(Math.min(count, 16));
}
