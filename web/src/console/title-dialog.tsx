// Changes the title that viewers see.

import { useState } from "preact/hooks";
import { api } from "../api/client";
import type { Channel } from "../api/types";
import { FormDialog, useAttempt } from "../ui/form-dialog";
import { Field } from "../ui/widgets";
import type { Store } from "./store";

export function TitleDialog(props: { store: Store; channel: Channel; onClose: () => void }) {
  const [title, setTitle] = useState(props.channel.title);
  const { busy, error, attempt, clear } = useAttempt();
  const save = async () => {
    const saved = await attempt(async () => {
      await api.renameChannel(props.channel.id, title.trim());
      await props.store.refresh();
    });
    if (saved) props.onClose();
  };
  return (
    <FormDialog
      title={`Title of ${props.channel.id}`}
      leave="Cancel"
      busy={busy}
      onSave={() => void save()}
      onClose={props.onClose}
    >
      <Field label="Title" hint="Shown to viewers. Empty: they see the name." error={error}>
        {(control) => (
          <input
            {...control}
            class="input"
            maxLength={200}
            value={title}
            onInput={(event) => {
              setTitle(event.currentTarget.value);
              clear();
            }}
          />
        )}
      </Field>
    </FormDialog>
  );
}
