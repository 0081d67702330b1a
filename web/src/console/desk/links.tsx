// Two channels in one show: whose hosts are guests here, or in whose show this host is one.

import { useState } from "preact/hooks";
import { api } from "../../api/client";
import type { Channel } from "../../api/types";
import { ApiError, fieldMessage, messageOf } from "../../lib/problem";
import { Icon } from "../../ui/icon";
import { showToast } from "../../ui/toast";
import { Field, Notice } from "../../ui/widgets";
import type { Store } from "../store";

const href = (channel: string) => `#/channels/${encodeURIComponent(channel)}`;

/** Those that could be asked in: not this one, and in no show yet. */
export function candidates(channel: Channel, all: readonly Channel[]): readonly Channel[] {
  return all.filter(
    ({ id, show, links }) => id !== channel.id && show === undefined && (links ?? []).length === 0,
  );
}

function Other(props: {
  id: string;
  note: string;
  action: string;
  busy: boolean;
  onEnd: () => void;
}) {
  return (
    <li class="row row--between">
      <span>
        <a href={href(props.id)}>{props.id}</a> <span class="muted">{props.note}</span>
      </span>
      <button type="button" class="btn" disabled={props.busy} onClick={props.onEnd}>
        {props.action}
      </button>
    </li>
  );
}

function Ask(props: {
  choices: readonly Channel[];
  busy: boolean;
  onAsk: (other: string) => void;
}) {
  const [other, setOther] = useState("");
  const chosen = other || props.choices[0]?.id;
  if (chosen === undefined) {
    return (
      <p class="small muted">
        The host of another channel of this server can be a guest here, and both channels show one
        mix. There is no other channel that is free now.
      </p>
    );
  }
  return (
    <form
      class="row row--end"
      onSubmit={(event) => {
        event.preventDefault();
        props.onAsk(chosen);
      }}
    >
      <Field label="Host of" hint="Both channels show one mix, with one call for both.">
        {(control) => (
          <select
            {...control}
            class="input"
            value={chosen}
            onChange={(event) => setOther(event.currentTarget.value)}
          >
            {props.choices.map(({ id, title }) => (
              <option key={id} value={id}>
                {title ? `${title} (${id})` : id}
              </option>
            ))}
          </select>
        )}
      </Field>
      <button type="submit" class="btn" disabled={props.busy}>
        <Icon name="invite" />
        Bring into the show
      </button>
    </form>
  );
}

export function Links({ store, channel }: { store: Store; channel: Channel }) {
  const [error, setError] = useState<string | undefined>();
  const [busy, setBusy] = useState(false);
  const attempt = async (work: () => Promise<unknown>, said: string) => {
    setBusy(true);
    try {
      await work();
      setError(undefined);
      showToast(said);
    } catch (reason) {
      setError(reason instanceof ApiError ? fieldMessage(reason) : messageOf(reason));
    } finally {
      setBusy(false);
    }
  };
  const links = channel.links ?? [];
  const { show } = channel;
  return (
    <section class="card stack" aria-label="Two channels in one show">
      <h2>In one show with</h2>
      {show !== undefined || links.length > 0 ? (
        <ul class="stack stack--tight list">
          {show !== undefined ? (
            <Other
              id={show}
              note="mixes for both; this channel follows its switches"
              action="Leave"
              busy={busy}
              onEnd={() =>
                attempt(() => api.unlink(show, channel.id), `Out of the show of ${show}.`)
              }
            />
          ) : null}
          {links.map((id) => (
            <Other
              key={id}
              id={id}
              note="shows this mix, too"
              action="Part"
              busy={busy}
              onEnd={() => attempt(() => api.unlink(channel.id, id), `${id} goes on alone.`)}
            />
          ))}
        </ul>
      ) : null}
      {show === undefined ? (
        <Ask
          choices={candidates(channel, store.channels.value ?? [])}
          busy={busy}
          onAsk={(other) => attempt(() => api.link(channel.id, other), `${other} is in the show.`)}
        />
      ) : null}
      {error ? (
        <Notice tone="bad" role="alert">
          {error}
        </Notice>
      ) : null}
    </section>
  );
}
