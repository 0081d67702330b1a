// A link that lets somebody into the show, with nothing to install and nothing to type.

import { useState } from "preact/hooks";
import { api } from "../../api/client";
import type { Invite, Role } from "../../api/types";
import { ApiError, fieldMessage, fieldName, messageOf } from "../../lib/problem";
import { CopyField, Dialog, Field, Notice, Segmented } from "../../ui/widgets";

const HOUR_S = 3_600;
const EXPIRIES: readonly { readonly seconds: number; readonly word: string }[] = [
  { seconds: HOUR_S, word: "1 hour" },
  { seconds: 4 * HOUR_S, word: "4 hours" },
  { seconds: 24 * HOUR_S, word: "1 day" },
  { seconds: 7 * 24 * HOUR_S, word: "7 days" },
];

const NAME = /^[A-Za-z0-9_-]{1,64}$/;

function Made({ invite, role }: { invite: Invite; role: Role }) {
  const url = new URL(invite.url, location.href).href;
  const until = invite.expires_at ? new Date(invite.expires_at) : undefined;
  return (
    <div class="stack stack--tight" role="status">
      <span class="field__label">Send this link to your {role}</span>
      <CopyField text={url} label="Invitation" />
      <p class="small muted">
        {invite.token
          ? "Whoever has the link can join: send it to one person only."
          : "This server asks nobody for a token, so the link is good for anybody."}
        {until ? ` It works until ${until.toLocaleString()}.` : ""}
      </p>
    </div>
  );
}

export function InviteDialog({ channel, onClose }: { channel: string; onClose: () => void }) {
  const [role, setRole] = useState<Role>("guest");
  const [name, setName] = useState("");
  const [expiresS, setExpires] = useState(4 * HOUR_S);
  const [invite, setInvite] = useState<Invite | undefined>(undefined);
  const [error, setError] = useState<{ field?: string | undefined; text: string } | undefined>();
  const [busy, setBusy] = useState(false);
  /** A link that was made with other choices is not shown any more. */
  const change = (apply: () => void) => {
    apply();
    setInvite(undefined);
    setError(undefined);
  };
  const submit = async (event: Event) => {
    event.preventDefault();
    const participant = name.trim();
    if (participant !== "" && !NAME.test(participant)) {
      setError({ field: "participant", text: "1 to 64 letters, digits, “-” or “_”." });
      return;
    }
    setBusy(true);
    try {
      const made = await api.invite(channel, {
        role,
        expires_in_s: expiresS,
        ...(participant ? { participant } : {}),
      });
      setInvite(made);
      setError(undefined);
    } catch (reason) {
      setError(
        reason instanceof ApiError
          ? { field: fieldName(reason.field), text: fieldMessage(reason) }
          : { text: messageOf(reason) },
      );
    } finally {
      setBusy(false);
    }
  };
  const inName = error?.field === "participant";
  return (
    <Dialog title="Invite somebody" onClose={onClose}>
      <form class="stack" onSubmit={submit} noValidate>
        <Segmented
          legend="Role"
          wide
          value={role}
          options={[
            { value: "guest", label: "Guest" },
            { value: "host", label: "Host" },
          ]}
          onChange={(value) => change(() => setRole(value))}
        />
        <Field
          label="Name"
          hint="Shown under the picture. Empty: one is made up."
          error={inName ? error?.text : undefined}
        >
          {(control) => (
            <input
              {...control}
              class="input"
              autocomplete="off"
              spellcheck={false}
              maxLength={64}
              value={name}
              onInput={(event) => {
                const { value } = event.currentTarget;
                change(() => setName(value));
              }}
            />
          )}
        </Field>
        <Field label="Good for">
          {(control) => (
            <select
              {...control}
              class="input"
              value={String(expiresS)}
              onChange={(event) => {
                const seconds = Number(event.currentTarget.value);
                change(() => setExpires(seconds));
              }}
            >
              {EXPIRIES.map(({ seconds, word }) => (
                <option key={seconds} value={String(seconds)}>
                  {word}
                </option>
              ))}
            </select>
          )}
        </Field>
        {error && !inName ? (
          <Notice tone="bad" role="alert">
            {error.text}
          </Notice>
        ) : null}
        {invite ? <Made invite={invite} role={role} /> : null}
        <div class="dialog__actions">
          <button type="button" class="btn" onClick={onClose}>
            Close
          </button>
          <button type="submit" class="btn btn--primary" disabled={busy}>
            {invite ? "Make another link" : "Make the link"}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
