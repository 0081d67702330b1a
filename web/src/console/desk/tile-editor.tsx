// Arranges the picture by hand: tiles are dragged, or moved and sized with the arrow keys.

import { useRef, useState } from "preact/hooks";
import type { Channel, Tile } from "../../api/types";
import { Dialog } from "../../ui/widgets";
import type { Desk } from "./desk";
import { tilesOf } from "./layouts";
import { COLUMNS, movedTile, ROWS, resizedTile, tilesFor, tileWords, toFront } from "./tiles";

const STEPS: Readonly<Record<string, readonly [number, number]>> = {
  ArrowLeft: [-1 / COLUMNS, 0],
  ArrowRight: [1 / COLUMNS, 0],
  ArrowUp: [0, -1 / ROWS],
  ArrowDown: [0, 1 / ROWS],
};

interface Drag {
  readonly tile: Tile;
  readonly sizing: boolean;
  readonly x: number;
  readonly y: number;
}

export function TileEditor(props: {
  desk: Desk;
  channel: Channel;
  cast: readonly string[];
  onClose: () => void;
}) {
  const { desk, channel, cast, onClose } = props;
  const [tiles, setTiles] = useState<readonly Tile[]>(() =>
    tilesFor(cast, channel.layout.tiles, tilesOf(channel.layout, cast.length)),
  );
  const [spoken, setSpoken] = useState("");
  const picture = useRef<HTMLDivElement>(null);
  const drag = useRef<Drag | undefined>(undefined);
  const put = (next: Tile) => {
    setTiles((all) => all.map((tile) => (tile.participant === next.participant ? next : tile)));
  };
  const begin = (event: PointerEvent, tile: Tile) => {
    if (!(event.currentTarget instanceof HTMLElement)) return;
    const corner = event.target instanceof Element && event.target.closest(".tilebox__corner");
    event.currentTarget.setPointerCapture(event.pointerId);
    drag.current = { tile, sizing: corner !== null, x: event.clientX, y: event.clientY };
    setTiles((all) => toFront(all, tile.participant));
  };
  const follow = (event: PointerEvent) => {
    const box = picture.current?.getBoundingClientRect();
    const from = drag.current;
    if (!box || !from) return;
    const dx = (event.clientX - from.x) / box.width;
    const dy = (event.clientY - from.y) / box.height;
    put(from.sizing ? resizedTile(from.tile, dx, dy) : movedTile(from.tile, dx, dy));
  };
  const end = () => {
    drag.current = undefined;
  };
  const key = (event: KeyboardEvent, tile: Tile) => {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    const next = event.shiftKey ? resizedTile(tile, ...step) : movedTile(tile, ...step);
    put(next);
    setSpoken(tileWords(next));
  };
  // Tiles keep their place in the page, whichever lies in front: the focus stays.
  const inOrder = cast.flatMap((id) => tiles.find(({ participant }) => participant === id) ?? []);
  return (
    <Dialog title="Arrange the picture" wide onClose={onClose}>
      <p class="small muted">
        Drag a tile, or its corner to size it. By keyboard: arrow keys, with Shift to size. Whoever
        was touched last lies in front.
      </p>
      <div
        class="tileboard"
        ref={picture}
        style={{ background: channel.layout.background ?? "#101820" }}
      >
        {inOrder.map((tile) => (
          <button
            type="button"
            key={tile.participant}
            class="tilebox"
            aria-label={tileWords(tile)}
            style={{
              left: `${tile.x * 100}%`,
              top: `${tile.y * 100}%`,
              width: `${tile.width * 100}%`,
              height: `${tile.height * 100}%`,
              zIndex: String(tiles.indexOf(tile)),
            }}
            onPointerDown={(event) => begin(event, tile)}
            onPointerMove={follow}
            onPointerUp={end}
            onPointerCancel={end}
            onFocus={() => setTiles((all) => toFront(all, tile.participant))}
            onKeyDown={(event) => key(event, tile)}
          >
            <span class="tilebox__name">{tile.participant}</span>
            <span class="tilebox__corner" aria-hidden="true" />
          </button>
        ))}
      </div>
      <p class="visually-hidden" role="status" aria-live="polite">
        {spoken}
      </p>
      <div class="dialog__actions">
        <button type="button" class="btn" onClick={onClose}>
          Cancel
        </button>
        <button
          type="button"
          class="btn btn--primary"
          onClick={() => {
            void desk.setTiles(tiles);
            onClose();
          }}
        >
          Use it
        </button>
      </div>
    </Dialog>
  );
}
