// Who is in the mix and where, as the server decides it: the producer's order first, else the host and then as they came.

import type { Channel, Participant } from "../../api/types";

/** The mixer draws no more. */
export const MAX_IN_MIX = 16;

export interface Seat {
  readonly participant: Participant;
  /** Wanted in the mix by the producer, whether connected or not. */
  readonly wanted: boolean;
  /** Seen and heard when the channel is in collab. */
  readonly inMix: boolean;
  /** From 1 on; undefined for who is not in the mix. */
  readonly place: number | undefined;
}

const isThere = ({ state }: Participant) => state === "live";

function isWanted(participant: Participant, order: readonly string[]): boolean {
  if (participant.role === "host") return true;
  return participant.on_program && (order.length === 0 || order.includes(participant.id));
}

function rank(participant: Participant, order: readonly string[]): number {
  const listed = order.indexOf(participant.id);
  if (listed >= 0) return listed + 1;
  return participant.role === "host" ? 0 : order.length + 1;
}

/** Everybody: those in the mix in its order, then the others as they came. */
export function seats(participants: readonly Participant[], order: readonly string[]): Seat[] {
  const byArrival = [...participants].sort(
    (a, b) =>
      Number(b.role === "host") - Number(a.role === "host") ||
      Date.parse(a.joined_at) - Date.parse(b.joined_at) ||
      (a.id < b.id ? -1 : 1),
  );
  const cast = byArrival
    .filter((participant) => isThere(participant) && isWanted(participant, order))
    .sort((a, b) => rank(a, order) - rank(b, order))
    .slice(0, MAX_IN_MIX);
  const others = byArrival.filter((participant) => !cast.includes(participant));
  return [...cast, ...others].map((participant, at) => {
    const inMix = at < cast.length;
    const wanted = isWanted(participant, order);
    return { participant, wanted, inMix, place: inMix ? at + 1 : undefined };
  });
}

export function castOf(all: readonly Seat[]): string[] {
  return all.filter(({ inMix }) => inMix).map(({ participant }) => participant.id);
}

/** The order after `id` moved by `step` places; undefined when there is no such place. */
export function moved(cast: readonly string[], id: string, step: -1 | 1): string[] | undefined {
  const from = cast.indexOf(id);
  const to = from + step;
  if (from < 0 || to < 0 || to >= cast.length) return undefined;
  const result = cast.filter((other) => other !== id);
  result.splice(to, 0, id);
  return result;
}

/**
 * Whom to name in a request for collab: nobody when everybody is meant, which also lets guests who come later in by
 * themselves. An order without a guest who is there is no order any more.
 */
export function participantsOf(
  order: readonly string[],
  participants: readonly Participant[],
): string[] | undefined {
  const there = order.filter((id) => participants.some((p) => p.id === id && isThere(p)));
  const guests = there.some((id) => participants.some((p) => p.id === id && p.role === "guest"));
  return guests ? there : undefined;
}

/** Whether a switch to collab can work, in words for who wants it; undefined when it can. */
export function obstacle(
  channel: Channel,
  all: readonly Seat[],
): "no-host" | "no-guest" | undefined {
  const live = all.filter(({ participant }) => isThere(participant));
  if (channel.state === "idle" || !live.some(({ participant }) => participant.role === "host")) {
    return "no-host";
  }
  const guest = live.some(({ participant, inMix }) => inMix && participant.role === "guest");
  return guest ? undefined : "no-guest";
}
