// Keys that work anywhere on a page, as long as no control needs them for itself.

import { useEffect, useRef } from "preact/hooks";

/** Keys that a focused control needs for itself are left to it; a dialog has the keyboard alone. */
function belongsToControl(event: KeyboardEvent): boolean {
  const target = event.target instanceof Element ? event.target : undefined;
  if (target?.closest("input, select, textarea, dialog, [contenteditable]")) return true;
  const activates = event.key === " " || event.key === "Enter";
  return activates && target?.closest("button, summary, a") != null;
}

/** Runs what `find` gives for a key that is pressed without Ctrl, Meta or Alt. */
export function useShortcuts(find: (key: string) => (() => void) | undefined): void {
  const current = useRef(find);
  current.current = find;
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || belongsToControl(event)) return;
      if (event.defaultPrevented) return;
      const action = current.current(event.key);
      if (!action) return;
      event.preventDefault();
      action();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, []);
}
