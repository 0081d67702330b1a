// Changes the title that viewers see.

import { useState } from "preact/hooks";
import { api } from "../api/client";
import type { Channel } from "../api/types";
import { messageOf } from "../lib/problem";
import { Dialog, Field } from "../ui/widgets";
import type { Store } from "./store";

export function TitleDialog(props: { store: Store; channel: Channel; onClose: () => void }) {
  const [title, setTitle] = useState(props.channel.title);
  const [error, setError] = useState<string | undefined>(undefined);
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await api.renameChannel(props.channel.id, title.trim());
      await props.store.refresh();
      props.onClose();
    } catch (reason) {
      setError(messageOf(reason));
      setBusy(false);
    }
  };
  return (
    <Dialog title={`Title of ${props.channel.id}`} onClose={props.onClose}>
      <form class="stack" onSubmit={submit} noValidate>
        <Field label="Title" hint="Shown to viewers. Empty: they see the name." error={error}>
          {(control) => (
            <input
              {...control}
              class="input"
              maxLength={200}
              value={title}
              onInput={(event) => {
                setTitle(event.currentTarget.value);
                setError(undefined);
              }}
            />
          )}
        </Field>
        <div class="dialog__actions">
          <button type="button" class="btn" onClick={props.onClose}>
            Cancel
          </button>
          <button type="submit" class="btn btn--primary" disabled={busy}>
            Save
          </button>
        </div>
      </form>
    </Dialog>
  );
}
