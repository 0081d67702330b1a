// Keyboard shortcuts of the player page.

import { useShortcuts } from "../ui/shortcuts";

export interface KeyActions {
  readonly togglePlay: () => void;
  readonly toggleMute: () => void;
  readonly volume: (step: number) => void;
  readonly toLive: () => void;
  readonly toggleFullscreen: () => void;
  readonly togglePip: () => void;
}

/** What `key` does; undefined when it does nothing. */
export function actionOf(key: string, actions: KeyActions): (() => void) | undefined {
  switch (key.toLowerCase()) {
    case " ":
    case "k":
      return actions.togglePlay;
    case "m":
      return actions.toggleMute;
    case "arrowup":
      return () => actions.volume(0.05);
    case "arrowdown":
      return () => actions.volume(-0.05);
    case "l":
      return actions.toLive;
    case "f":
      return actions.toggleFullscreen;
    case "p":
      return actions.togglePip;
    default:
      return undefined;
  }
}

export function useKeys(actions: KeyActions): void {
  useShortcuts((key) => actionOf(key, actions));
}
