// The desk by keyboard. Single keys can be turned off (WCAG 2.1, success criterion 2.1.4): speech input types them by
// accident.

import { signal } from "@preact/signals";
import { useShortcuts } from "../../ui/shortcuts";
import { Check, Dialog } from "../../ui/widgets";
import type { Desk } from "./desk";
import { LAYOUTS } from "./layouts";

const STORE = "anchornet.desk.keys";

function stored(): boolean {
  try {
    return localStorage.getItem(STORE) !== "off";
  } catch {
    return true;
  }
}

const enabled = signal(stored());

function enable(on: boolean): void {
  enabled.value = on;
  try {
    localStorage.setItem(STORE, on ? "on" : "off");
  } catch {
    // Remembered until the page is left.
  }
}

export interface DeskKeys {
  readonly desk: Desk;
  readonly invite: () => void;
  readonly help: () => void;
}

/** What `key` does; undefined when it does nothing. */
export function actionOf(key: string, keys: DeskKeys): (() => void) | undefined {
  const { desk } = keys;
  const layout = LAYOUTS[Number(key) - 1];
  if (layout) return () => void desk.setLayout(layout);
  switch (key) {
    case "s":
      return () => void desk.switchTo("solo");
    case "c":
      return () => void desk.switchTo("collab");
    case "u":
      return () => void desk.undoLast();
    case "i":
      return keys.invite;
    case "?":
      return keys.help;
    default:
      return undefined;
  }
}

export function useDeskKeys(keys: DeskKeys): void {
  useShortcuts((key) => (enabled.value || key === "?" ? actionOf(key, keys) : undefined));
}

const ROWS: readonly { readonly keys: readonly string[]; readonly does: string }[] = [
  { keys: ["S"], does: "Solo: the host alone" },
  { keys: ["C"], does: "Collab: everybody in the mix" },
  { keys: ["1", "–", "4"], does: "Layout, in the order shown" },
  { keys: ["U"], does: "Undo the last action" },
  { keys: ["I"], does: "Invite somebody" },
  {
    keys: ["Shift", "↑", "↓"],
    does: "Move a broadcaster in the mix, with the focus on their card",
  },
  { keys: ["?"], does: "This list" },
];

export function ShortcutsDialog({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keyboard shortcuts" onClose={onClose}>
      <dl class="keys">
        {ROWS.map(({ keys, does }) => (
          <div key={does}>
            <dt>{keys.map((key) => (key === "–" ? " to " : <kbd key={key}>{key}</kbd>))}</dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
      <Check label="Use single keys" checked={enabled.value} onChange={enable} />
      <div class="dialog__actions">
        <button type="button" class="btn btn--primary" onClick={onClose}>
          Close
        </button>
      </div>
    </Dialog>
  );
}
