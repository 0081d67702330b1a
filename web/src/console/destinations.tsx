// Where the program is pushed to: the state of each destination, and changing the set.

import { useState } from "preact/hooks";
import { api } from "../api/client";
import type { ChannelStats, Destination, DestinationSpec } from "../api/types";
import * as format from "../lib/format";
import { ApiError, fieldMessage, fieldName, messageOf } from "../lib/problem";
import { Icon } from "../ui/icon";
import { showToast } from "../ui/toast";
import { Badge, Dialog, Field, Notice } from "../ui/widgets";
import { nowMs } from "./clock";
import { Confirm } from "./confirm";
import { countdownS, DESTINATION_STATES } from "./states";
import type { Store } from "./store";

/** The set as it is now; the server keeps the stream key of an entry whose name and redacted address are unchanged. */
export function specsOf(destinations: readonly Destination[]): DestinationSpec[] {
  return destinations.map(({ name, url }) => ({ name, url }));
}

/** The set with one entry added (`at` undefined) or replaced. */
export function withSpec(
  all: readonly DestinationSpec[],
  at: string | undefined,
  spec: DestinationSpec,
): DestinationSpec[] {
  if (at === undefined) return [...all, spec];
  return all.map((old) => (old.name === at ? spec : old));
}

/** What is wrong with an edited entry before the server is asked; undefined when nothing is. */
export function editError(spec: DestinationSpec, edited: DestinationSpec | undefined) {
  if (!/^rtmps?:\/\/./.test(spec.url)) return "Must begin with rtmp:// or rtmps://";
  // The server finds a hidden key by name and address together.
  const hidden = spec.url.endsWith("/***");
  if (hidden && (spec.url !== edited?.url || spec.name !== edited.name)) {
    return "The stream key is hidden here. Enter the whole address to change anything.";
  }
  return undefined;
}

interface Errors {
  readonly url?: string;
  readonly name?: string;
  readonly form?: string;
}

function errorsOf(error: unknown): Errors {
  if (!(error instanceof ApiError)) return { form: messageOf(error) };
  const message = fieldMessage(error);
  const field = fieldName(error.field);
  if (field === "url") return { url: message };
  return field === "name" ? { name: message } : { form: message };
}

function EditDialog(props: {
  store: Store;
  channel: string;
  all: readonly Destination[];
  edited: Destination | undefined;
  onClose: () => void;
}) {
  const [url, setUrl] = useState(props.edited?.url ?? "");
  const [name, setName] = useState(props.edited?.name ?? "");
  const [errors, setErrors] = useState<Errors>({});
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    const spec = { url: url.trim(), name: name.trim() };
    const wrong = editError(spec, props.edited);
    if (wrong !== undefined) {
      setErrors({ url: wrong });
      return;
    }
    setBusy(true);
    try {
      const all = withSpec(specsOf(props.all), props.edited?.name, spec);
      await api.setDestinations(props.channel, all);
      await props.store.refreshDetail();
      props.onClose();
    } catch (error) {
      setErrors(errorsOf(error));
      setBusy(false);
    }
  };
  return (
    <Dialog
      title={props.edited ? "Change destination" : "Add a destination"}
      onClose={props.onClose}
    >
      <form class="stack" onSubmit={submit} noValidate>
        <Field
          label="Address with stream key"
          hint={
            props.edited
              ? "The stream key is hidden. Leave the address as it is to keep it."
              : "rtmp:// or rtmps://, as the platform shows it, with the stream key at the end."
          }
          error={errors.url}
        >
          {(control) => (
            <input
              {...control}
              class="input"
              type="url"
              placeholder="rtmps://live.example/app/stream-key"
              autocomplete="off"
              spellcheck={false}
              required
              value={url}
              onInput={(event) => {
                setUrl(event.currentTarget.value);
                setErrors({});
              }}
            />
          )}
        </Field>
        <Field label="Name (optional)" error={errors.name}>
          {(control) => (
            <input
              {...control}
              class="input"
              maxLength={64}
              value={name}
              onInput={(event) => {
                setName(event.currentTarget.value);
                setErrors({});
              }}
            />
          )}
        </Field>
        {errors.form ? (
          <Notice tone="bad" role="alert">
            {errors.form}
          </Notice>
        ) : null}
        <div class="dialog__actions">
          <button type="button" class="btn" onClick={props.onClose}>
            Cancel
          </button>
          <button type="submit" class="btn btn--primary" disabled={busy}>
            {props.edited ? "Save" : "Add destination"}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function nextAttempt(destination: Destination, now: number): string | undefined {
  const seconds = countdownS(destination, now);
  if (seconds === undefined) return undefined;
  return seconds === 0 ? "now" : `in ${format.duration(seconds * 1000)}`;
}

function Entry(props: {
  destination: Destination;
  bitrateBps: number | undefined;
  onEdit: () => void;
  onRemove: () => void;
}) {
  const { destination } = props;
  const state = DESTINATION_STATES[destination.state];
  const next = nextAttempt(destination, nowMs.value);
  const since = destination.connected_at ? Date.parse(destination.connected_at) : undefined;
  return (
    <li class="destination">
      <div class="row row--tools">
        <div class="row">
          <strong class="break">{destination.name}</strong>
          <Badge tone={state.tone}>{state.word}</Badge>
        </div>
        <div class="row destination__tools">
          <button
            type="button"
            class="btn btn--quiet btn--icon"
            aria-label={`Change ${destination.name}`}
            onClick={props.onEdit}
          >
            <Icon name="edit" />
          </button>
          <button
            type="button"
            class="btn btn--quiet btn--icon"
            aria-label={`Remove ${destination.name}`}
            onClick={props.onRemove}
          >
            <Icon name="trash" />
          </button>
        </div>
      </div>
      <code class="small break muted">{destination.url}</code>
      <p class="small muted destination__facts">
        {destination.state === "live" ? (
          <>
            {since !== undefined ? <span>for {format.duration(nowMs.value - since)}</span> : null}
            <span>{format.bitrate(props.bitrateBps)}</span>
          </>
        ) : null}
        <span>{format.bytes(destination.bytes_sent)} sent</span>
        {destination.attempts > 0 && destination.state !== "live" ? (
          <span>{format.plural(destination.attempts, "attempt")}</span>
        ) : null}
        {next !== undefined ? <span>next attempt {next}</span> : null}
        {destination.dropped_units > 0 ? (
          <span>{format.plural(destination.dropped_units, "frame")} dropped</span>
        ) : null}
      </p>
      {destination.last_error && destination.state !== "live" ? (
        <p class="small destination__error">{destination.last_error}</p>
      ) : null}
    </li>
  );
}

export function Destinations(props: {
  store: Store;
  channel: string;
  destinations: readonly Destination[];
  stats: ChannelStats | undefined;
}) {
  const [editing, setEditing] = useState<Destination | "new" | undefined>(undefined);
  const [removing, setRemoving] = useState<Destination | undefined>(undefined);
  const { destinations } = props;
  const remove = async (gone: Destination) => {
    const rest = destinations.filter(({ name }) => name !== gone.name);
    const after = await api.setDestinations(props.channel, specsOf(rest));
    await props.store.refreshDetail();
    if (after?.items.some(({ name }) => name === gone.name)) {
      throw new Error("The server's configuration pushes every channel there, so it stays.");
    }
    showToast(`${gone.name} is removed.`);
  };
  return (
    <section class="card stack" aria-label="Destinations">
      <div class="row row--between">
        <h2>Destinations</h2>
        <button type="button" class="btn" onClick={() => setEditing("new")}>
          <Icon name="plus" />
          Add
        </button>
      </div>
      {destinations.length === 0 ? (
        <p class="muted">
          The program goes to this server's own viewers. Add an RTMP address to push it to a
          platform or a CDN as well.
        </p>
      ) : (
        <ul class="stack">
          {destinations.map((destination) => (
            <Entry
              key={destination.name}
              destination={destination}
              bitrateBps={
                props.stats?.destinations.find(({ name }) => name === destination.name)?.bitrate_bps
              }
              onEdit={() => setEditing(destination)}
              onRemove={() => setRemoving(destination)}
            />
          ))}
        </ul>
      )}
      {editing ? (
        <EditDialog
          store={props.store}
          channel={props.channel}
          all={destinations}
          edited={editing === "new" ? undefined : editing}
          onClose={() => setEditing(undefined)}
        />
      ) : null}
      {removing ? (
        <Confirm
          title={`Remove ${removing.name}?`}
          text="Pushing to it ends at once. Its stream key is forgotten."
          action="Remove"
          run={() => remove(removing)}
          onClose={() => setRemoving(undefined)}
        />
      ) : null}
    </section>
  );
}
