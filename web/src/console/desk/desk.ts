// What a producer does to a show, without the page: every action is asked of the server, its result is told, and whatever
// viewers notice can be taken back. Nothing here touches the document.

import { type Signal, signal } from "@preact/signals";
import type { api } from "../../api/client";
import type {
  Channel,
  Layout,
  LayoutName,
  Mode,
  Participant,
  ParticipantPatch,
  SwitchReport,
  Tile,
} from "../../api/types";
import * as format from "../../lib/format";
import { layoutWord } from "../../lib/layout-words";
import { ApiError, messageOf } from "../../lib/problem";
import { castOf, moved, participantsOf, seats } from "./cast";

export interface Pending {
  readonly mode: Mode;
  readonly sinceMs: number;
}

/** How a switch ended. */
export type Outcome =
  | { readonly kind: "done"; readonly text: string }
  | {
      readonly kind: "refused";
      readonly title: string;
      readonly detail: string;
      /** What helps: a guest, or another try. */
      readonly remedy: "invite" | "retry" | undefined;
    };

export interface Undo {
  readonly label: string;
  readonly run: () => Promise<void>;
}

/** What the desk needs from the page around it; a test hands in its own. */
export interface Surroundings {
  readonly api: Pick<typeof api, "setMode" | "setLayout" | "changeParticipant">;
  readonly channel: () => Channel | undefined;
  readonly participants: () => readonly Participant[];
  readonly onChannel: (channel: Channel) => void;
  readonly onParticipant: (participant: Participant) => void;
  readonly refresh: () => void;
  /** Says what was done, with a way back where there is one. */
  readonly say: (text: string, undo?: Undo) => void;
  readonly nowMs: () => number;
}

const WORDS: Record<Mode, string> = { solo: "Solo", collab: "Collab" };

export class Desk {
  readonly pending: Signal<Pending | undefined> = signal(undefined);
  readonly outcome: Signal<Outcome | undefined> = signal(undefined);
  /** The order for the next collab, set while there is none; undefined: as the channel has it. */
  readonly draft: Signal<readonly string[] | undefined> = signal(undefined);
  /** The newest action that can be taken back. */
  readonly undo: Signal<Undo | undefined> = signal(undefined);
  readonly #around: Surroundings;

  constructor(around: Surroundings) {
    this.#around = around;
  }

  get order(): readonly string[] {
    return this.draft.value ?? this.#around.channel()?.order ?? [];
  }

  async switchTo(mode: Mode): Promise<void> {
    const before = this.#around.channel()?.mode;
    if (this.pending.value || before === undefined) return;
    const names =
      mode === "collab" ? participantsOf(this.order, this.#around.participants()) : undefined;
    this.outcome.value = undefined;
    this.pending.value = { mode, sinceMs: this.#around.nowMs() };
    try {
      const request = names ? { mode, participants: names } : { mode };
      const id = this.#around.channel()?.id ?? "";
      const report = await this.#around.api.setMode(id, request);
      if (mode === "collab") this.draft.value = undefined;
      this.#adopt({ mode });
      this.outcome.value = { kind: "done", text: outcomeText(mode, report) };
      if (report?.changed !== false && before !== mode) {
        this.#offer(this.outcome.value.text, {
          label: `Back to ${before}`,
          run: () => this.switchTo(before),
        });
      }
    } catch (error) {
      this.outcome.value = refusal(mode, error);
    } finally {
      this.pending.value = undefined;
      this.#around.refresh();
    }
  }

  /** Chooses a layout; it is kept for the next collab when there is none at the moment. */
  async setLayout(name: LayoutName): Promise<void> {
    const before = this.#around.channel()?.layout;
    if (!before || before.name === name) return;
    const { background } = before;
    await this.#putLayout({ name, tiles: [], ...(background ? { background } : {}) }, before);
  }

  /** A layout of one's own. */
  async setTiles(tiles: readonly Tile[]): Promise<void> {
    const before = this.#around.channel()?.layout;
    if (!before || tiles.length === 0) return;
    await this.#putLayout({ ...before, name: "custom", tiles }, before);
  }

  async setBackground(background: string): Promise<void> {
    const before = this.#around.channel()?.layout;
    if (!before || before.background === background) return;
    await this.#putLayout({ ...before, background }, before);
  }

  async #putLayout(layout: Layout, before: Layout): Promise<void> {
    const channel = this.#around.channel();
    if (!channel) return;
    this.#adopt({ layout });
    await this.#attempt("The layout stays", async () => {
      await this.#around.api.setLayout(channel.id, layout);
      const what =
        layout.background !== before.background
          ? "New background"
          : `Layout: ${layoutWord(layout.name)}`;
      this.#offer(channel.mode === "collab" ? `${what}.` : `${what}, at the next collab.`, {
        label: "Undo",
        run: () => this.#putLayout(before, layout),
      });
    });
  }

  async setMuted(participant: Participant, muted: boolean): Promise<void> {
    const text = muted
      ? `${participant.id} is not heard by viewers.`
      : `${participant.id} is heard again.`;
    await this.#patch(participant, { muted }, { muted: !muted }, text);
  }

  async setVolume(participant: Participant, volume: number): Promise<void> {
    const before = participant.volume;
    if (before === volume) return;
    const text = `${participant.id}: volume ${format.percent(volume, 0)}.`;
    await this.#patch(participant, { volume }, { volume: before }, text);
  }

  /** Into the mix or out of it, whether or not there is a collab at the moment. */
  async setInMix(participant: Participant, inMix: boolean): Promise<void> {
    const { id } = participant;
    const text = inMix ? `${id} is in the mix.` : `${id} is out of the mix.`;
    const listed = this.order.length === 0 || this.order.includes(id);
    if (participant.on_program !== inMix) {
      await this.#patch(participant, { on_program: inMix }, { on_program: !inMix }, text);
    }
    // An order names everybody who is in: who comes later is added at its end.
    if (inMix && !listed) await this.#arrange([...this.order, id], text);
  }

  async move(id: string, step: -1 | 1): Promise<void> {
    const cast = castOf(seats(this.#around.participants(), this.order));
    const order = moved(cast, id, step);
    if (order) await this.#arrange(order, `${id} is now number ${order.indexOf(id) + 1}.`);
  }

  async #arrange(order: readonly string[], text: string): Promise<void> {
    const channel = this.#around.channel();
    if (!channel) return;
    const before = this.order;
    const undo = { label: "Undo", run: () => this.#arrange(before, "The order is as before.") };
    if (channel.mode === "solo") {
      this.draft.value = order;
      this.#offer(text, undo);
      return;
    }
    this.#adopt({ order });
    await this.#attempt("The order stays", async () => {
      const names = participantsOf(order, this.#around.participants());
      const request = names ? { mode: "collab", participants: names } : { mode: "collab" };
      await this.#around.api.setMode(channel.id, request as { mode: Mode });
      this.#offer(text, undo);
    });
  }

  async undoLast(): Promise<void> {
    const undo = this.undo.value;
    this.undo.value = undefined;
    await undo?.run();
  }

  async #patch(
    participant: Participant,
    patch: ParticipantPatch,
    back: ParticipantPatch,
    text: string,
  ): Promise<void> {
    const channel = this.#around.channel();
    if (!channel) return;
    this.#around.onParticipant({ ...participant, ...patch });
    await this.#attempt(`${participant.id} stays as before`, async () => {
      const answer = await this.#around.api.changeParticipant(channel.id, participant.id, patch);
      if (answer) this.#around.onParticipant(answer);
      this.#offer(text, {
        label: "Undo",
        run: () => {
          const again = { ...participant, ...patch };
          return this.#patch(again, back, patch, `${participant.id} is as before.`);
        },
      });
    });
  }

  /** What the page shows before the server's own word arrives. */
  #adopt(change: Partial<Channel>): void {
    const channel = this.#around.channel();
    if (channel) this.#around.onChannel({ ...channel, ...change });
  }

  async #attempt(failure: string, run: () => Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      this.#around.say(`${failure}: ${messageOf(error)}`);
    }
    this.#around.refresh();
  }

  #offer(text: string, undo: Undo): void {
    // Also from the toast, an action is taken back once.
    const once: Undo = {
      label: undo.label,
      run: async () => {
        if (this.undo.value === once) this.undo.value = undefined;
        await undo.run();
      },
    };
    this.undo.value = once;
    this.#around.say(text, once);
  }
}

function outcomeText(mode: Mode, report: SwitchReport | undefined): string {
  if (report?.changed === false) return `${WORDS[mode]} was on air already.`;
  const waited = report?.cut ? ` Cut after ${format.millis(report.cut.waited_ms)}.` : "";
  return `${WORDS[mode]} is on air.${waited}`;
}

/** Why a switch did not happen, and what helps. */
export function refusal(mode: Mode, error: unknown): Outcome {
  const stays = mode === "collab" ? "Solo stays on air" : "Collab stays on air";
  const status = error instanceof ApiError ? error.status : undefined;
  const remedies: Record<number, "invite" | "retry"> = {
    409: "invite",
    503: "retry",
    504: "retry",
  };
  const titles: Record<number, string> = {
    403: `${stays}: your token does not allow switching`,
    409: `${stays}: somebody is missing`,
    503: `${stays}: there is no mixer at the moment`,
    504: `${stays}: it took too long`,
  };
  const remedy = status === undefined ? "retry" : remedies[status];
  return {
    kind: "refused",
    title: (status === undefined ? undefined : titles[status]) ?? stays,
    detail: messageOf(error),
    remedy: status === 409 && mode === "solo" ? undefined : remedy,
  };
}
