// Asks for the access token; shown only where the server answered 401 or 403.

import { useState } from "preact/hooks";
import { setToken, token } from "../api/token";
import { Field } from "./widgets";

export function TokenForm(props: { scope: string; more?: string; onToken: () => void }) {
  const [value, setValue] = useState("");
  const refused = token() !== undefined;
  return (
    <form
      class="card stack"
      onSubmit={(event) => {
        event.preventDefault();
        setToken(value);
        props.onToken();
      }}
    >
      <h2>{refused ? "This token was not accepted" : "This server asks for a token"}</h2>
      <p class="muted">
        It needs the scope <code>{props.scope}</code>
        {props.more ? ` (${props.more})` : ""}. Whoever runs the server makes one with{" "}
        <code>anchornet token</code>. It is kept until this tab is closed.
      </p>
      <Field label="Access token">
        {(control) => (
          <input
            {...control}
            class="input"
            type="password"
            autocomplete="off"
            spellcheck={false}
            required
            value={value}
            onInput={(event) => setValue(event.currentTarget.value)}
          />
        )}
      </Field>
      <div>
        <button type="submit" class="btn btn--primary">
          Continue
        </button>
      </div>
    </form>
  );
}
