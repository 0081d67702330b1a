// A dialog with a form that a server has the last word on.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { messageOf } from "../lib/problem";
import { Dialog } from "./widgets";

/** One request at a time, and what was wrong with the last one. */
export function useAttempt() {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string | undefined>(undefined);
  /** Whether `work` went well. */
  const attempt = async (work: () => Promise<unknown>): Promise<boolean> => {
    setBusy(true);
    try {
      await work();
      setError(undefined);
      return true;
    } catch (reason) {
      setError(messageOf(reason));
      return false;
    } finally {
      setBusy(false);
    }
  };
  return { busy, error, attempt, clear: () => setError(undefined) };
}

/** Fields over a row of buttons; `leave` names the one that closes it without saving. */
export function FormDialog(props: {
  title: string;
  leave: string;
  busy: boolean;
  onSave: () => void;
  onClose: () => void;
  children: ComponentChildren;
}) {
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <form
        class="stack"
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          props.onSave();
        }}
      >
        {props.children}
        <div class="dialog__actions">
          <button type="button" class="btn" onClick={props.onClose}>
            {props.leave}
          </button>
          <button type="submit" class="btn btn--primary" disabled={props.busy}>
            Save
          </button>
        </div>
      </form>
    </Dialog>
  );
}
