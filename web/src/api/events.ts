// Server-sent events by `fetch`, because `EventSource` cannot send an Authorization header. The parser follows the
// event stream format of the HTML standard; the reader reconnects for as long as it is wanted.

import { Backoff } from "../lib/backoff";
import { authorization } from "./client";
import type { ApiEvent } from "./types";

export interface Message {
  readonly id: string | undefined;
  readonly event: string;
  readonly data: string;
}

/** Turns chunks of text into messages. A line longer than the bound means the peer is not an event stream. */
export class EventStreamParser {
  static readonly MAX_LINE = 1 << 20;
  #rest = "";
  #id: string | undefined;
  #event = "";
  #data: string[] = [];

  push(chunk: string): Message[] {
    const messages: Message[] = [];
    const text = this.#rest + chunk;
    // A trailing CR may be the first half of CR LF.
    const end = text.endsWith("\r") ? text.length - 1 : text.length;
    const lines = text.slice(0, end).split(/\r\n|\r|\n/);
    this.#rest = (lines.pop() ?? "") + text.slice(end);
    if (this.#rest.length > EventStreamParser.MAX_LINE)
      throw new Error("event stream line too long");
    for (const line of lines) {
      const message = this.#line(line);
      if (message) messages.push(message);
    }
    return messages;
  }

  #line(line: string): Message | undefined {
    if (line === "") return this.#dispatch();
    if (line.startsWith(":")) return undefined;
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    if (field === "event") this.#event = value;
    if (field === "id" && !value.includes("\0")) this.#id = value;
    return undefined;
  }

  #dispatch(): Message | undefined {
    const data = this.#data;
    const event = this.#event || "message";
    this.#data = [];
    this.#event = "";
    return data.length === 0 ? undefined : { id: this.#id, event, data: data.join("\n") };
  }
}

export type StreamState = "connecting" | "open" | "lost";

export interface EventHandlers {
  readonly onEvent: (event: ApiEvent) => void;
  readonly onState: (state: StreamState) => void;
}

function wait(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

async function readOnce(path: string, handlers: EventHandlers, signal: AbortSignal): Promise<void> {
  const response = await fetch(path, {
    headers: { Accept: "text/event-stream", ...authorization() },
    cache: "no-store",
    signal,
  });
  if (!response.ok || !response.body) throw new Error(`events: ${response.status}`);
  handlers.onState("open");
  const parser = new EventStreamParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    for (const message of parser.push(value)) {
      const event: unknown = JSON.parse(message.data);
      if (typeof event === "object" && event !== null && "type" in event) {
        handlers.onEvent(event as ApiEvent);
      }
    }
  }
}

/** Follows the events, of one channel or of all, until `signal` is aborted. */
export async function followEvents(
  handlers: EventHandlers,
  signal: AbortSignal,
  channel?: string,
): Promise<void> {
  const filter = channel === undefined ? "" : `?channel=${encodeURIComponent(channel)}`;
  const backoff = new Backoff({ firstMs: 1_000, maxMs: 15_000 });
  while (!signal.aborted) {
    handlers.onState("connecting");
    const startedMs = performance.now();
    try {
      await readOnce(`/api/v1/events${filter}`, handlers, signal);
    } catch {
      // Refused, lost or not an event stream: polling goes on meanwhile.
    }
    if (signal.aborted) return;
    handlers.onState("lost");
    if (performance.now() - startedMs > 30_000) backoff.reset();
    await wait(backoff.next(), signal);
  }
}
