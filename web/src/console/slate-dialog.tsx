// What viewers see while the host is away, and what lies behind the tiles. A picture is taken at once; the text on Save.

import { useState } from "preact/hooks";
import { api } from "../api/client";
import type { Channel, PicturePlace, Still } from "../api/types";
import { messageOf } from "../lib/problem";
import { Dialog, Field } from "../ui/widgets";
import type { Store } from "./store";

const describe = (still: Still | undefined) =>
  still ? `${still.width} × ${still.height}, ${Math.ceil(still.bytes / 1024)} KiB` : "the default";

export function SlateDialog(props: { store: Store; channel: Channel; onClose: () => void }) {
  const { store, channel } = props;
  const slate = channel.slate ?? {};
  const [text, setText] = useState(slate.text ?? "");
  const [custom, setCustom] = useState(slate.text !== undefined);
  const [errors, setErrors] = useState<Partial<Record<"text" | PicturePlace, string>>>({});
  const [busy, setBusy] = useState(false);
  const attempt = async (what: "text" | PicturePlace, work: () => Promise<unknown>) => {
    setBusy(true);
    try {
      await work();
      await store.refresh();
      setErrors({ ...errors, [what]: undefined });
      return true;
    } catch (reason) {
      setErrors({ ...errors, [what]: messageOf(reason) });
      return false;
    } finally {
      setBusy(false);
    }
  };
  const submit = async (event: Event) => {
    event.preventDefault();
    const wanted = custom ? text.trim() : null;
    if (await attempt("text", () => api.setSlate(channel.id, wanted))) props.onClose();
  };
  const picture = (place: PicturePlace, label: string, hint: string, still: Still | undefined) => (
    <Field label={`${label}: ${describe(still)}`} hint={hint} error={errors[place]}>
      {(control) => (
        <div class="row">
          <input
            {...control}
            type="file"
            accept="image/png,image/jpeg"
            disabled={busy}
            onChange={(event) => {
              const file = event.currentTarget.files?.[0];
              if (file) void attempt(place, () => api.setPicture(channel.id, place, file));
            }}
          />
          <button
            type="button"
            class="btn"
            disabled={busy || !still}
            aria-label={`Take away: ${label}`}
            onClick={() => attempt(place, () => api.removePicture(channel.id, place))}
          >
            Take away
          </button>
        </div>
      )}
    </Field>
  );
  return (
    <Dialog title={`Slate of ${channel.id}`} onClose={props.onClose}>
      <form class="stack" onSubmit={submit} noValidate>
        <Field
          label="Text"
          hint={
            custom
              ? "On screen while the host is away; up to four lines. Empty: none."
              : "On screen while the host is away. As this server is configured, until you write something."
          }
          error={errors.text}
        >
          {(control) => (
            <textarea
              {...control}
              class="input"
              rows={2}
              maxLength={200}
              value={text}
              onInput={(event) => {
                setText(event.currentTarget.value);
                setCustom(true);
              }}
            />
          )}
        </Field>
        {picture("slate", "Picture of the slate", "PNG or JPEG, up to 4 MiB.", slate.picture)}
        {picture(
          "background",
          "Behind the tiles",
          "Also behind the slate, when it has no picture of its own.",
          slate.background,
        )}
        <div class="dialog__actions">
          {custom ? (
            <button
              type="button"
              class="btn"
              onClick={() => {
                setText("");
                setCustom(false);
              }}
            >
              Default text
            </button>
          ) : null}
          <button type="button" class="btn" onClick={props.onClose}>
            Close
          </button>
          <button type="submit" class="btn btn--primary" disabled={busy}>
            Save
          </button>
        </div>
      </form>
    </Dialog>
  );
}
