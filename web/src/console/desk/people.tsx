// Everybody who broadcasts to the channel: the mix in its order, then who waits.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { api } from "../../api/client";
import type { Channel, Participant } from "../../api/types";
import * as format from "../../lib/format";
import { Icon } from "../../ui/icon";
import { showToast } from "../../ui/toast";
import { Confirm } from "../confirm";
import type { Detail, Store } from "../store";
import { castOf, type Seat } from "./cast";
import type { Desk } from "./desk";
import { Person } from "./person";

/** Moving a card in the page takes the focus from its buttons; this gives it back. */
function useKeptFocus(container: { readonly current: HTMLElement | null }, order: string): void {
  const focused = useRef<string | undefined>(undefined);
  useLayoutEffect(() => {
    const name = focused.current;
    if (name === undefined || document.activeElement !== document.body) return;
    container.current?.querySelector<HTMLElement>(`[data-move="${CSS.escape(name)}"]`)?.focus();
  }, [order]);
  useLayoutEffect(() => {
    const element = container.current;
    const remember = (event: FocusEvent) => {
      const target = event.target instanceof HTMLElement ? event.target : undefined;
      focused.current = target?.dataset.move;
    };
    element?.addEventListener("focusin", remember);
    return () => element?.removeEventListener("focusin", remember);
  }, []);
}

export function People(props: {
  store: Store;
  desk: Desk;
  channel: Channel;
  detail: Detail;
  seats: readonly Seat[];
  onInvite: () => void;
}) {
  const { store, desk, channel, detail, seats } = props;
  const [removing, setRemoving] = useState<Participant | undefined>(undefined);
  const list = useRef<HTMLUListElement>(null);
  useKeptFocus(list, seats.map(({ participant }) => participant.id).join(" "));
  const inMix = castOf(seats).length;
  const statsOf = (id: string) => detail.stats?.participants.find((entry) => entry.id === id);
  const remove = async (gone: Participant) => {
    await api.removeParticipant(channel.id, gone.id);
    await store.refreshDetail();
    showToast(`${gone.id} is disconnected.`);
  };
  return (
    <section class="card stack" aria-label="Broadcasters">
      <div class="row row--between">
        <div class="row">
          <h2>Broadcasters</h2>
          {seats.length > 1 ? (
            <span class="muted">
              {format.plural(seats.length, "person", "people")}, {inMix} in the mix
            </span>
          ) : null}
        </div>
        <button type="button" class="btn" aria-keyshortcuts="i" onClick={props.onInvite}>
          <Icon name="invite" />
          Invite
        </button>
      </div>
      {seats.length === 0 ? (
        <p class="muted">
          Nobody is connected. Open the studio, send an invitation, or publish by WHIP.
        </p>
      ) : null}
      <ul class="people" ref={list}>
        {seats.map((seat) => (
          <Person
            key={seat.participant.id}
            desk={desk}
            channel={channel}
            seat={seat}
            last={seat.place === inMix}
            level={statsOf(seat.participant.id)?.level ?? seat.participant.level}
            ingest={statsOf(seat.participant.id)?.ingest ?? seat.participant.ingest}
            arrival={detail.arrivals.of(seat.participant.id)}
            onRemove={() => setRemoving(seat.participant)}
          />
        ))}
      </ul>
      {removing ? (
        <Confirm
          title={`Disconnect ${removing.id}?`}
          text={
            removing.role === "host"
              ? "The show loses its host. Viewers stay connected and see the host again on return."
              : "The guest leaves the show at once, and may come back."
          }
          action="Disconnect"
          run={() => remove(removing)}
          onClose={() => setRemoving(undefined)}
        />
      ) : null}
    </section>
  );
}
