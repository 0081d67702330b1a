// Short messages that announce themselves and go away, with at most one action (for example: undo).

import { signal } from "@preact/signals";

interface Toast {
  readonly id: number;
  /** A newer message of the same key takes the place of this one. */
  readonly key?: string;
  readonly text: string;
  readonly action?: { readonly label: string; readonly run: () => void };
}

const MAX_TOASTS = 3;
const toasts = signal<readonly Toast[]>([]);
let nextId = 1;

export function dismissToast(id: number): void {
  toasts.value = toasts.value.filter((toast) => toast.id !== id);
}

export function showToast(
  text: string,
  options: { action?: Toast["action"]; ms?: number; key?: string } = {},
): number {
  const id = nextId;
  nextId += 1;
  const { action, key } = options;
  const toast: Toast = { id, text, ...(action ? { action } : {}), ...(key ? { key } : {}) };
  const others = toasts.value.filter((other) => key === undefined || other.key !== key);
  toasts.value = [...others, toast].slice(-MAX_TOASTS);
  setTimeout(() => dismissToast(id), options.ms ?? 5_000);
  return id;
}

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.value.map((toast) => (
        <div class="toast" key={toast.id}>
          <span>{toast.text}</span>
          {toast.action ? (
            <button
              type="button"
              class="btn"
              onClick={() => {
                toast.action?.run();
                dismissToast(toast.id);
              }}
            >
              {toast.action.label}
            </button>
          ) : null}
        </div>
      ))}
    </div>
  );
}
