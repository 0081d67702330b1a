//! Packets of publishers on their way to those whom they concern.
//!
//! Packets of one source that came together are taken to one subscriber after the other, so that each subscriber's session is
//! looked at once for all of them and what goes to one peer lies side by side. When much waits to be sent, the rest is left
//! for the next call: nothing that is forwarded is dropped for want of room.
//!
//! A picture that has begun to come is waited for, for [`HOLD`] at most: the kernel takes several packets to one peer for
//! little more than one, and caches find each subscriber once.

use std::time::{Duration, Instant};

use super::gops::Gop;
use super::{MANY_TRANSMITS, MAX_UNSETTLED, Table};
use crate::sfu::ingress_clock::Media;
use crate::sfu::packet::Relayed;
use crate::sfu::types::{CloseReason, SessionId};

/// The longest that packets wait for the end of their picture. Senders that pace spread a picture over more; of theirs each
/// burst goes out together.
const HOLD: Duration = Duration::from_millis(1);

/// Packets on their way to those whom they concern.
pub(super) struct Fanout {
    from: SessionId,
    packets: Vec<Relayed>,
    subscribers: Vec<SessionId>,
    /// Of the next one to serve.
    next: usize,
}

impl Fanout {
    /// Nothing is on its way.
    pub(super) fn new() -> Self {
        Self {
            from: SessionId(uuid::Uuid::nil()),
            packets: Vec::new(),
            subscribers: Vec::new(),
            next: 0,
        }
    }

    fn is_done(&self) -> bool {
        self.next >= self.subscribers.len()
    }
}

impl Table {
    /// Takes packets of the program `from` to its viewers.
    pub(in crate::sfu) fn relay(
        &mut self,
        now: Instant,
        from: SessionId,
        packets: impl IntoIterator<Item = Relayed>,
    ) {
        let packets = packets.into_iter().map(|packet| (from, packet));
        self.relays.extend(packets);
        self.settle(now);
    }

    /// Does what the media that came since the last call asks for, and takes packets and requests on to those whom they
    /// concern, until everything rests or [`MANY_TRANSMITS`] wait.
    pub(in crate::sfu) fn settle(&mut self, now: Instant) {
        self.unsettled = 0;
        for id in std::mem::take(&mut self.touched) {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.touched = false;
            }
            self.drive(now, id, |session| session.settle(now));
        }
        loop {
            while self.next_fanout(now) {
                while let Some(subscriber) = self.fanout.subscribers.get(self.fanout.next).copied()
                {
                    if self.transmits.len() >= MANY_TRANSMITS {
                        return;
                    }
                    self.fanout.next += 1;
                    self.forward(now, subscriber);
                }
            }
            for newcomer in std::mem::take(&mut self.newcomers) {
                self.replay(now, newcomer);
            }
            for (subscriber, layer) in std::mem::take(&mut self.wishes) {
                let Some(source) = self.feeds.source(subscriber) else {
                    continue;
                };
                if let Some(demand) = self.programs.get(&source) {
                    demand.send_modify(|demand| demand.keyframes += 1);
                } else {
                    self.drive(now, source, |session| {
                        session.request_keyframe(now, layer);
                    });
                }
            }
            let is_due = self.feeds.poll_timeout().is_some_and(|at| at <= now);
            if std::mem::take(&mut self.has_gone) || is_due {
                for orphan in self.feeds.orphans(now) {
                    self.end(now, orphan, CloseReason::StreamEnded);
                }
            }
            let rests = self.relays.is_empty() || self.held.is_some();
            if rests && self.wishes.is_empty() && !self.has_gone {
                return;
            }
        }
    }

    /// [`Self::settle`] has left something over.
    pub(in crate::sfu) fn is_unsettled(&self) -> bool {
        !self.fanout.is_done() || !self.relays.is_empty() && self.held.is_none()
    }

    /// A subscriber will come: the keyframe that it begins with can be made while it connects.
    pub(super) fn expect(&mut self, subscriber: SessionId) {
        let source = self.feeds.source(subscriber);
        let gop = source.and_then(|source| self.gops.get(&source));
        if source.is_some() && gop.is_none_or(Gop::lacks_keyframe) {
            self.wishes.push((subscriber, None));
        }
    }

    /// Whether what has come is worth taking on: it ends with the end of a picture, with sound, or has waited.
    fn is_ripe(&mut self, now: Instant) -> bool {
        let Some((_, newest)) = self.relays.back() else {
            return false;
        };
        let is_whole = newest.media == Media::Audio || newest.packet.marker;
        let is_much = self.relays.len() >= MAX_UNSETTLED;
        let held = *self.held.get_or_insert(now + HOLD);
        if !is_whole && !is_much && now < held {
            return false;
        }
        self.held = None;
        true
    }

    /// Takes up the packets of the next source, all that follow each other, if those of the last have been served.
    fn next_fanout(&mut self, now: Instant) -> bool {
        let fanout = &mut self.fanout;
        if !fanout.is_done() {
            return true;
        }
        if !self.is_ripe(now) {
            return false;
        }
        let fanout = &mut self.fanout;
        fanout.packets.clear();
        fanout.subscribers.clear();
        fanout.next = 0;
        let Some((from, _)) = self.relays.front() else {
            return false;
        };
        fanout.from = *from;
        while let Some((from, packet)) = self.relays.pop_front() {
            if from != fanout.from || fanout.packets.len() >= MAX_UNSETTLED {
                self.relays.push_front((from, packet));
                break;
            }
            fanout.packets.push(packet);
        }
        let subscribers = self.feeds.fed_by(fanout.from);
        if subscribers.is_empty() {
            self.gops.remove(&fanout.from);
        } else {
            let gop = self.gops.entry(fanout.from).or_default();
            fanout.packets.iter().for_each(|packet| gop.add(packet));
        }
        fanout.subscribers.extend_from_slice(subscribers);
        true
    }

    /// Shows the present picture to a subscriber who has just connected.
    fn replay(&mut self, now: Instant, subscriber: SessionId) {
        let source = self.feeds.source(subscriber);
        let found = source.and_then(|source| Some((source, self.gops.get(&source)?)));
        let Some((from, gop)) = found else { return };
        let packets = gop.replay(now);
        self.send_to(now, subscriber, from, &packets);
    }

    fn send_to(
        &mut self,
        now: Instant,
        subscriber: SessionId,
        from: SessionId,
        packets: &[Relayed],
    ) {
        let mut arena = std::mem::take(&mut self.arena);
        self.drive(now, subscriber, |session| {
            session.forward(now, from, packets, &mut arena);
        });
        self.arena = arena;
    }

    /// Serves one subscriber.
    fn forward(&mut self, now: Instant, subscriber: SessionId) {
        let packets = std::mem::take(&mut self.fanout.packets);
        self.send_to(now, subscriber, self.fanout.from, &packets);
        self.fanout.packets = packets;
    }
}
