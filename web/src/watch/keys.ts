// Keyboard shortcuts of the player page.

import { useEffect, useRef } from "preact/hooks";

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

/** Keys that a focused control needs for itself are left to it. */
function belongsToControl(event: KeyboardEvent): boolean {
  const target = event.target instanceof Element ? event.target : undefined;
  if (target?.closest("input, select, textarea, [contenteditable]")) return true;
  return event.key === " " && target?.closest("button, summary, a") != null;
}

export function useKeys(actions: KeyActions): void {
  const current = useRef(actions);
  current.current = actions;
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || belongsToControl(event)) return;
      const action = actionOf(event.key, current.current);
      if (!action) return;
      event.preventDefault();
      action();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, []);
}
