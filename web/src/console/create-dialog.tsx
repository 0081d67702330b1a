// Makes a channel. Errors of the server stand at the field they belong to.

import { useState } from "preact/hooks";
import { api } from "../api/client";
import { ApiError, fieldMessage, fieldName, messageOf } from "../lib/problem";
import { isChannelName } from "../lib/url";
import { Dialog, Field, Notice } from "../ui/widgets";
import { channelHref, go, LIST_HREF } from "./route";
import type { Store } from "./store";

interface Errors {
  readonly id?: string;
  readonly title?: string;
  readonly form?: string;
}

function errorsOf(error: unknown): Errors {
  if (!(error instanceof ApiError)) return { form: messageOf(error) };
  const message = fieldMessage(error);
  if (error.status === 409) return { id: "There is a channel of this name already." };
  const field = fieldName(error.field);
  if (field === "id" || field === "channel") return { id: message };
  return field === "title" ? { title: message } : { form: message };
}

export function CreateDialog({ store, initial }: { store: Store; initial: string }) {
  const [id, setId] = useState(initial);
  const [title, setTitle] = useState("");
  const [errors, setErrors] = useState<Errors>({});
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    if (!isChannelName(id)) {
      setErrors({ id: "Use 1 to 64 letters, digits, “-” or “_”." });
      return;
    }
    setBusy(true);
    try {
      await api.createChannel({ id, title });
      await store.refresh();
      go(channelHref(id));
    } catch (error) {
      setErrors(errorsOf(error));
      setBusy(false);
    }
  };
  return (
    <Dialog title="New channel" onClose={() => go(LIST_HREF)}>
      <form class="stack" onSubmit={submit} noValidate>
        <Field
          label="Name"
          hint="Part of every address of the channel: letters, digits, “-” and “_”."
          error={errors.id}
        >
          {(control) => (
            <input
              {...control}
              class="input"
              value={id}
              maxLength={64}
              autocapitalize="off"
              autocomplete="off"
              spellcheck={false}
              required
              onInput={(event) => {
                setId(event.currentTarget.value);
                setErrors({});
              }}
            />
          )}
        </Field>
        <Field label="Title (optional)" hint="Shown to viewers." error={errors.title}>
          {(control) => (
            <input
              {...control}
              class="input"
              value={title}
              maxLength={200}
              onInput={(event) => setTitle(event.currentTarget.value)}
            />
          )}
        </Field>
        {errors.form ? (
          <Notice tone="bad" role="alert">
            {errors.form}
          </Notice>
        ) : null}
        <div class="dialog__actions">
          <button type="button" class="btn" onClick={() => go(LIST_HREF)}>
            Cancel
          </button>
          <button type="submit" class="btn btn--primary" disabled={busy}>
            Create channel
          </button>
        </div>
      </form>
    </Dialog>
  );
}
