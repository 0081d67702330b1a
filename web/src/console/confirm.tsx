// A question before something that cannot be taken back.

import { useState } from "preact/hooks";
import { messageOf } from "../lib/problem";
import { Dialog, Notice } from "../ui/widgets";

export function Confirm(props: {
  title: string;
  text: string;
  action: string;
  run: () => Promise<void>;
  onClose: () => void;
}) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string | undefined>(undefined);
  const run = async () => {
    setBusy(true);
    try {
      await props.run();
      props.onClose();
    } catch (reason) {
      setError(messageOf(reason));
      setBusy(false);
    }
  };
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <p>{props.text}</p>
      {error ? (
        <Notice tone="bad" role="alert">
          {error}
        </Notice>
      ) : null}
      <div class="dialog__actions">
        <button type="button" class="btn" onClick={props.onClose}>
          Cancel
        </button>
        <button type="button" class="btn btn--danger" disabled={busy} onClick={() => void run()}>
          {props.action}
        </button>
      </div>
    </Dialog>
  );
}
