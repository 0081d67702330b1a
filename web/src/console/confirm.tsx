// A question before something that cannot be taken back.

import { useAttempt } from "../ui/form-dialog";
import { Dialog, Notice } from "../ui/widgets";

export function Confirm(props: {
  title: string;
  text: string;
  action: string;
  run: () => Promise<void>;
  onClose: () => void;
}) {
  const { busy, error, attempt } = useAttempt();
  const run = async () => {
    if (await attempt(props.run)) props.onClose();
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
