// What viewers see while the host is away, and what lies behind the tiles. A picture is taken at once; the text on Save.

import { useEffect, useState } from "preact/hooks";
import { api } from "../api/client";
import type { Channel, PicturePlace, Still } from "../api/types";
import { FormDialog, useAttempt } from "../ui/form-dialog";
import { Field } from "../ui/widgets";
import type { Store } from "./store";

interface Place {
  readonly place: PicturePlace;
  readonly label: string;
  readonly hint: string;
}

const SLATE: Place = {
  place: "slate",
  label: "Picture of the slate",
  hint: "PNG or JPEG, up to 4 MiB.",
};
const BACKGROUND: Place = {
  place: "background",
  label: "Picture behind the tiles",
  hint: "Also behind the slate, when that has no picture of its own.",
};

const describe = (still: Still) =>
  `${still.width} × ${still.height}, ${Math.ceil(still.bytes / 1024)} KiB`;

const MAX_BYTES = 4 * 1024 * 1024;

/** Told before anything is sent: a server that refuses a large body may end the connection before its reason is read. */
function checked(file: File): File {
  if (file.type !== "image/png" && file.type !== "image/jpeg") {
    throw new Error(`${file.name} is neither PNG nor JPEG.`);
  }
  if (file.size > MAX_BYTES) {
    const mib = (file.size / 1024 / 1024).toFixed(1);
    throw new Error(`${file.name} has ${mib} MiB, at most 4 are taken. Make it smaller.`);
  }
  return file;
}

/** The uploaded picture as the server has it, for an `img`; fetched again when `version` changes. */
function usePicture(channel: string, place: PicturePlace, wanted: boolean, version: number) {
  const [url, setUrl] = useState<string | undefined>(undefined);
  useEffect(() => {
    if (!wanted) return;
    const gone = new AbortController();
    let made: string | undefined;
    void api.picture(channel, place, gone.signal).then(
      (blob) => {
        if (gone.signal.aborted) return;
        made = URL.createObjectURL(blob);
        setUrl(made);
      },
      // Without the picture its size still says that there is one.
      () => undefined,
    );
    return () => {
      gone.abort();
      if (made) URL.revokeObjectURL(made);
      setUrl(undefined);
    };
  }, [channel, place, wanted, version]);
  return url;
}

function PictureField(props: {
  store: Store;
  channel: string;
  what: Place;
  still: Still | undefined;
}) {
  const { store, channel, still } = props;
  const { place, label, hint } = props.what;
  const { busy, error, attempt } = useAttempt();
  const [version, setVersion] = useState(0);
  const url = usePicture(channel, place, still !== undefined, version);
  const change = (work: () => Promise<unknown>) =>
    attempt(async () => {
      await work();
      await store.refresh();
      setVersion((count) => count + 1);
    });
  return (
    <Field label={label} hint={hint} error={error}>
      {(control) => (
        <div class="picture">
          <div class="picture__now">
            {url ? <img src={url} alt={`${label} now`} /> : null}
            <span role="status">{busy ? "Sending…" : still ? describe(still) : "The default"}</span>
          </div>
          <input
            {...control}
            class="picture__file"
            type="file"
            accept="image/png,image/jpeg"
            disabled={busy}
            onChange={(event) => {
              const input = event.currentTarget;
              const file = input.files?.[0];
              if (!file) return;
              // Emptied, so that the same file can be chosen again after it was changed.
              void change(async () => api.setPicture(channel, place, checked(file))).then(() => {
                input.value = "";
              });
            }}
          />
          {still ? (
            <button
              type="button"
              class="btn"
              disabled={busy}
              aria-label={`Remove: ${label}`}
              onClick={() => void change(() => api.removePicture(channel, place))}
            >
              Remove
            </button>
          ) : null}
        </div>
      )}
    </Field>
  );
}

export function SlateDialog(props: { store: Store; channel: Channel; onClose: () => void }) {
  const { store, channel } = props;
  const slate = channel.slate ?? {};
  const [text, setText] = useState(slate.text ?? "");
  const [custom, setCustom] = useState(slate.text !== undefined);
  const { busy, error, attempt } = useAttempt();
  const save = async () => {
    const saved = await attempt(async () => {
      await api.setSlate(channel.id, custom ? text.trim() : null);
      await store.refresh();
    });
    if (saved) props.onClose();
  };
  return (
    <FormDialog
      title={`Slate of ${channel.id}`}
      leave="Close"
      busy={busy}
      onSave={() => void save()}
      onClose={props.onClose}
    >
      <p class="muted">Viewers see it while the host is away.</p>
      <div class="stack stack--tight">
        <Field
          label="Text"
          hint={
            custom ? "Up to four lines. Empty: no text." : "The server's own, until you write one."
          }
          error={error}
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
        {custom ? (
          <div class="row">
            <button
              type="button"
              class="btn"
              onClick={() => {
                setText("");
                setCustom(false);
              }}
            >
              Use the server's text
            </button>
          </div>
        ) : null}
      </div>
      <PictureField store={store} channel={channel.id} what={SLATE} still={slate.picture} />
      <PictureField store={store} channel={channel.id} what={BACKGROUND} still={slate.background} />
    </FormDialog>
  );
}
