// Tiles of one's own on a grid of 32 by 18 squares: the picture's shape, so that a step is as long across as down.

import type { Tile } from "../../api/types";
import type { Rect } from "./layouts";

export const COLUMNS = 32;
export const ROWS = 18;
/** In steps: a smaller face is not recognised. */
const SMALLEST = 3;

const clamp = (value: number, low: number, high: number) => Math.min(high, Math.max(low, value));

/** The nearest place on the grid, inside the picture. */
function place({ x, y, width, height }: Rect): Rect {
  const wide = clamp(Math.round(width * COLUMNS), SMALLEST, COLUMNS);
  const high = clamp(Math.round(height * ROWS), SMALLEST, ROWS);
  return {
    x: clamp(Math.round(x * COLUMNS), 0, COLUMNS - wide) / COLUMNS,
    y: clamp(Math.round(y * ROWS), 0, ROWS - high) / ROWS,
    width: wide / COLUMNS,
    height: high / ROWS,
  };
}

/** `tile` moved by parts of the picture. */
export function movedTile(tile: Tile, dx: number, dy: number): Tile {
  return { ...tile, ...place({ ...tile, x: tile.x + dx, y: tile.y + dy }) };
}

/** `tile` with its lower right corner moved; the upper left one stays where it is. */
export function resizedTile(tile: Tile, dx: number, dy: number): Tile {
  const width = Math.min(tile.width + dx, 1 - tile.x);
  const height = Math.min(tile.height + dy, 1 - tile.y);
  return { ...tile, ...place({ ...tile, width, height }) };
}

/** The last tile lies in front. */
export function toFront(tiles: readonly Tile[], participant: string): Tile[] {
  const front = tiles.filter((tile) => tile.participant === participant);
  return [...tiles.filter((tile) => tile.participant !== participant), ...front];
}

/** A tile for everybody in `cast`: as they are, and for newcomers in the lower right corner. */
export function tilesFor(
  cast: readonly string[],
  known: readonly Tile[],
  rects: readonly Rect[],
): Tile[] {
  const kept = known.filter(({ participant }) => cast.includes(participant));
  const added = cast
    .filter((id) => !kept.some(({ participant }) => participant === id))
    .map((participant) => {
      const at = cast.indexOf(participant);
      const corner = { x: 0.72, y: 0.72, width: 0.25, height: 0.25 };
      return { participant, ...((known.length === 0 ? rects[at] : undefined) ?? place(corner)) };
    });
  return [...kept, ...added];
}

/** Where a tile is, for those who do not see it. */
export function tileWords({ participant, x, y, width, height }: Tile): string {
  const percent = (part: number) => `${Math.round(part * 100)} %`;
  return (
    `${participant}: ${percent(width)} wide, ${percent(height)} high, ` +
    `${percent(x)} from the left, ${percent(y)} from the top`
  );
}
