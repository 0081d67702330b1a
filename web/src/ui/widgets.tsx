// The parts that all pages are made of.

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { Icon, type IconName } from "./icon";

export type Tone = "neutral" | "live" | "ok" | "warn" | "bad";

export function Badge(props: { tone?: Tone; plain?: boolean; children: ComponentChildren }) {
  return (
    <span class={props.plain ? "badge badge--plain" : "badge"} data-tone={props.tone ?? "neutral"}>
      {props.children}
    </span>
  );
}

export function Brand({ where }: { where?: string }) {
  return (
    <>
      <a class="brand" href="/">
        <Icon name="anchor" size={24} />
        AnchorNet
      </a>
      {where ? <span class="topbar__where wide-only">{where}</span> : null}
    </>
  );
}

export interface Fact {
  readonly name: string;
  readonly value: ComponentChildren;
}

export function Facts({ items, label }: { items: readonly Fact[]; label?: string }) {
  return (
    <dl class="facts" aria-label={label}>
      {items.map((item) => (
        <div key={item.name}>
          <dt>{item.name}</dt>
          <dd>{item.value}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Notice(props: {
  tone?: Tone;
  title?: string;
  children?: ComponentChildren;
  action?: ComponentChildren;
  role?: "alert" | "status";
}) {
  return (
    <div class="notice" data-tone={props.tone ?? "neutral"} role={props.role}>
      <div class="stack stack--tight">
        {props.title ? <strong>{props.title}</strong> : null}
        {props.children ? <div>{props.children}</div> : null}
        {props.action ? <div class="row">{props.action}</div> : null}
      </div>
    </div>
  );
}

async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Pages without TLS on another host have no clipboard: the text is selected instead.
    return false;
  }
}

/** Text with a button that copies it. */
export function CopyField(props: { text: string; label: string; wrap?: boolean }) {
  const [state, setState] = useState<"idle" | "copied" | "select">("idle");
  const code = useRef<HTMLElement>(null);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (state === "idle") return;
    const timer = setTimeout(() => setState("idle"), 2500);
    return () => clearTimeout(timer);
  }, [state]);
  const copy = async () => {
    if (await copyText(props.text)) {
      setState("copied");
      return;
    }
    input.current?.select();
    if (code.current) getSelection()?.selectAllChildren(code.current);
    setState("select");
  };
  const word = { idle: "Copy", copied: "Copied", select: "Press Ctrl C" }[state];
  return (
    <div class={props.wrap ? "copy copy--wrap" : "copy"}>
      {props.wrap ? (
        <code class="copy__text" ref={code}>
          {props.text}
        </code>
      ) : (
        <input
          class="copy__text"
          ref={input}
          readOnly
          aria-label={props.label}
          value={props.text}
          onFocus={(event) => event.currentTarget.select()}
        />
      )}
      <button type="button" class="copy__button" onClick={copy}>
        <span class="visually-hidden">{props.label}: </span>
        <span aria-live="polite">{word}</span>
      </button>
    </div>
  );
}

export function Segmented<T extends string>(props: {
  legend: string;
  value: T;
  options: readonly { value: T; label: string; icon?: IconName; disabled?: boolean }[];
  onChange: (value: T) => void;
  wide?: boolean;
  disabled?: boolean;
}) {
  const name = useId();
  return (
    <fieldset
      class={props.wide ? "segmented segmented--wide" : "segmented"}
      disabled={props.disabled ?? false}
    >
      <legend class="visually-hidden">{props.legend}</legend>
      {props.options.map((option) => (
        <label class="segmented__option" key={option.value}>
          <input
            type="radio"
            name={name}
            value={option.value}
            checked={option.value === props.value}
            disabled={option.disabled ?? false}
            onChange={() => props.onChange(option.value)}
          />
          <span>
            {option.icon ? <Icon name={option.icon} size={18} /> : null}
            {option.label}
          </span>
        </label>
      ))}
    </fieldset>
  );
}

/** A labelled control with its hint and its error, tied together for assistive technology. */
export function Field(props: {
  label: string;
  hint?: string;
  error?: string | undefined;
  children: (control: {
    id: string;
    "aria-invalid": boolean;
    "aria-describedby": string | undefined;
  }) => ComponentChildren;
}) {
  const id = useId();
  const notes = [props.error ? `${id}-error` : "", props.hint ? `${id}-hint` : ""];
  return (
    <div class="field">
      <label class="field__label" for={id}>
        {props.label}
      </label>
      {props.children({
        id,
        "aria-invalid": props.error !== undefined,
        "aria-describedby": notes.filter(Boolean).join(" ") || undefined,
      })}
      {props.error ? (
        <p class="field__error" id={`${id}-error`} role="alert">
          {props.error}
        </p>
      ) : null}
      {props.hint ? (
        <p class="field__hint" id={`${id}-hint`}>
          {props.hint}
        </p>
      ) : null}
    </div>
  );
}

export function Check(props: {
  label: string;
  checked: boolean;
  disabled?: boolean;
  onChange: (checked: boolean) => void;
}) {
  return (
    <label class="check">
      <input
        type="checkbox"
        checked={props.checked}
        disabled={props.disabled ?? false}
        onChange={(event) => props.onChange(event.currentTarget.checked)}
      />
      {props.label}
    </label>
  );
}

/** A modal dialog that is open for as long as it is rendered. */
export function Dialog(props: {
  title: string;
  wide?: boolean;
  onClose: () => void;
  children: ComponentChildren;
}) {
  const element = useRef<HTMLDialogElement>(null);
  const title = useId();
  useEffect(() => {
    const dialog = element.current;
    const before = document.activeElement;
    dialog?.showModal();
    return () => {
      dialog?.close();
      // Where the keyboard was: a browser brings it back only for a dialog that stays in the document.
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog
      class={props.wide ? "dialog dialog--wide" : "dialog"}
      ref={element}
      aria-labelledby={title}
      onCancel={(event) => {
        event.preventDefault();
        props.onClose();
      }}
    >
      <div class="stack">
        <h2 id={title}>{props.title}</h2>
        {props.children}
      </div>
    </dialog>
  );
}
