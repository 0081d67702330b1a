//! All sessions of the media thread: who gets a datagram, who is due, who has to go. No IO of its own.
//!
//! Invariants:
//! - At most `max_sessions` sessions, of which at most `max_half_open` are not connected; the oldest half-open one makes
//!   room, so a flood of offers cannot keep others out for longer than they need to connect.
//! - A panic inside the engine ends the session it happened in and nothing else.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::config::Config;
use super::delivery::Delivery;
use super::demux::{Datagram, Routes, binding_response, classify};
use super::ingest::Totals;
use super::metrics;
use super::sdp::Credentials;
use super::sdp::fragment::{self, Fragment};
use super::session::{Output, Session};
use super::types::{CloseReason, OfferError, PatchError, Patched, SessionId, SessionStats};

/// Deadlines are not served more often than this, whatever a session asks for.
const TICK: Duration = Duration::from_millis(2);
/// Later than any deadline of a session.
const FAR: Duration = Duration::from_secs(2 * 86_400);
/// Most datagrams that wait to be sent; the oldest are dropped, as a router would.
const MAX_TRANSMITS: usize = 4_096;

struct Entry {
    session: Session,
    delivery: Delivery,
    /// Order of arrival; key of the half-open table.
    number: u64,
    /// The deadline that counts for it; others in the queue have been replaced.
    due: Instant,
    published: Totals,
}

/// All sessions.
pub(super) struct Table {
    limits: (usize, usize),
    candidates: Vec<SocketAddr>,
    entries: HashMap<SessionId, Entry>,
    half_open: BTreeMap<u64, SessionId>,
    routes: Routes,
    deadlines: BinaryHeap<Reverse<(Instant, SessionId)>>,
    transmits: VecDeque<(SocketAddr, BytesMut)>,
    next_number: u64,
    unroutable: u64,
}

impl Table {
    pub(super) fn new(config: &Config, candidates: Vec<SocketAddr>) -> Self {
        Self {
            limits: (config.max_sessions, config.max_half_open),
            candidates,
            entries: HashMap::new(),
            half_open: BTreeMap::new(),
            routes: Routes::default(),
            deadlines: BinaryHeap::new(),
            transmits: VecDeque::new(),
            next_number: 0,
            unroutable: 0,
        }
    }

    /// Takes up a session; the oldest half-open one goes when there is no room.
    pub(super) fn open(
        &mut self,
        now: Instant,
        id: SessionId,
        session: Session,
        delivery: Delivery,
    ) -> Result<(), OfferError> {
        let (max_sessions, max_half_open) = self.limits;
        if max_half_open == 0 || max_sessions == 0 {
            return Err(OfferError::Full {
                limit: max_sessions,
            });
        }
        while self.half_open.len() >= max_half_open || self.entries.len() >= max_sessions {
            let Some((_, oldest)) = self.half_open.first_key_value() else {
                return Err(OfferError::Full {
                    limit: max_sessions,
                });
            };
            let oldest = *oldest;
            self.end(oldest, CloseReason::NeverConnected);
        }
        let ufrag = session.credentials().ufrag.clone();
        self.routes.add_ufrag(ufrag, id);
        let number = self.next_number;
        self.next_number += 1;
        self.half_open.insert(number, id);
        let entry = Entry {
            session,
            delivery,
            number,
            due: now,
            published: Totals::default(),
        };
        self.entries.insert(id, entry);
        self.deadlines.push(Reverse((now, id)));
        Ok(())
    }

    /// Takes a datagram from the socket.
    pub(super) fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let kind = classify(datagram);
        if let Datagram::Check(check) = kind
            && check.ufrag.is_none()
        {
            let response = binding_response(&check.transaction, from);
            self.transmit(from, BytesMut::from(response.as_slice()));
            return;
        }
        let Some(id) = self.routes.find(from, &kind) else {
            self.unroutable += 1;
            return;
        };
        self.drive(now, id, |session| match kind {
            Datagram::Check(check) => session.handle_check(now, from, &check, datagram),
            Datagram::Answer => session.handle_answer(now, from, datagram),
            Datagram::Dtls | Datagram::Media(_) => session.handle_datagram(now, from, datagram),
            Datagram::Other => {}
        });
    }

    /// Serves every session that is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(Reverse((at, id))) = self.deadlines.peek().copied() {
            if at > now {
                break;
            }
            self.deadlines.pop();
            let Some(entry) = self.entries.get_mut(&id) else {
                continue;
            };
            if entry.due != at {
                continue; // replaced by an earlier deadline, which has set its own successor
            }
            entry.due = now + FAR;
            let gone = entry.delivery.is_gone();
            self.drive(now, id, |session| {
                if session.poll_timeout() <= now {
                    session.handle_timeout(now);
                }
                if gone {
                    session.close(CloseReason::SinkGone);
                }
            });
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.peek().map(|Reverse((at, _))| *at)
    }

    /// The next datagram to send.
    pub(super) fn poll_transmit(&mut self) -> Option<(SocketAddr, BytesMut)> {
        self.transmits.pop_front()
    }

    /// Trickle or restart; `fresh` are our credentials if it is a restart.
    pub(super) fn patch(
        &mut self,
        id: SessionId,
        if_match: Option<&str>,
        fragment: &Fragment,
        fresh: Credentials,
    ) -> Result<Option<Patched>, PatchError> {
        let entry = self
            .entries
            .get_mut(&id)
            .ok_or(PatchError::UnknownSession)?;
        let Some(replaced) = entry.session.patch(if_match, fragment, fresh)? else {
            return Ok(None);
        };
        let local = entry.session.credentials();
        self.routes.remove_ufrag(&replaced);
        self.routes.add_ufrag(local.ufrag.clone(), id);
        Ok(Some(Patched {
            etag: entry.session.etag(),
            fragment: fragment::render(local, &self.candidates),
        }))
    }

    pub(super) fn request_keyframe(&mut self, now: Instant, id: SessionId) {
        self.drive(now, id, |session| session.request_keyframe(now));
    }

    pub(super) fn close(&mut self, now: Instant, id: SessionId, reason: CloseReason) {
        self.drive(now, id, |session| session.close(reason));
    }

    pub(super) fn close_all(&mut self, now: Instant, reason: CloseReason) {
        let ids: Vec<SessionId> = self.entries.keys().copied().collect();
        for id in ids {
            self.close(now, id, reason);
        }
    }

    pub(super) fn stats(&self, now: Instant, id: SessionId) -> Option<SessionStats> {
        let entry = self.entries.get(&id)?;
        let mut stats = entry.session.stats(now);
        stats.sink_drops = entry.delivery.drops();
        Some(stats)
    }

    /// Publishes gauges and counters.
    pub(super) fn publish_metrics(&mut self) {
        metrics::sessions(self.entries.len(), self.half_open.len());
        metrics::unroutable(std::mem::take(&mut self.unroutable));
        for entry in self.entries.values_mut() {
            let totals = entry.session.totals();
            metrics::media(&entry.published, &totals);
            entry.published = totals;
        }
    }

    /// Sessions, half-open ones included.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Queued deadlines, replaced ones included.
    #[cfg(test)]
    pub(super) fn deadlines_len(&self) -> usize {
        self.deadlines.len()
    }

    /// Entries of the routing tables.
    #[cfg(test)]
    pub(super) fn routes_len(&self) -> usize {
        self.routes.len()
    }

    /// Lets a session work and carries out what it says. The engine is foreign code that parses what peers send: should
    /// it panic, only this session ends.
    fn drive(&mut self, now: Instant, id: SessionId, work: impl FnOnce(&mut Session)) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let worked = catch_unwind(AssertUnwindSafe(|| {
            work(&mut entry.session);
            entry.session.poll_timeout()
        }));
        let Ok(due) = worked else {
            tracing::error!(session = %id, "the WebRTC engine panicked; the session is dropped");
            metrics::engine_panic();
            self.remove(id, CloseReason::Failed);
            return;
        };
        let due = due.max(now + TICK);
        if due < entry.due {
            entry.due = due;
            self.deadlines.push(Reverse((due, id)));
        }
        self.carry_out(id);
    }

    fn carry_out(&mut self, id: SessionId) {
        let mut needs_keyframe = false;
        while let Some(entry) = self.entries.get_mut(&id) {
            let Some(output) = entry.session.poll_output() else {
                break;
            };
            match output {
                Output::Connected => {
                    let remote = entry.session.stats(entry.due).remote_address;
                    tracing::info!(session = %id, ?remote, "publisher connected");
                    entry.delivery.connected();
                    self.half_open.remove(&entry.number);
                }
                Output::Unit(unit) => needs_keyframe |= entry.delivery.unit(unit),
                Output::Transmit(to, datagram) => self.transmit(to, datagram),
                Output::Proven(address) => self.routes.add_address(address, id),
                Output::Forgotten(address) => self.routes.remove_address(address, id),
                Output::Ssrc(ssrc) => self.routes.add_ssrc(ssrc, id),
                Output::Closed(reason) => self.remove(id, reason),
            }
        }
        if needs_keyframe && let Some(entry) = self.entries.get_mut(&id) {
            entry.session.want_keyframe();
        }
    }

    /// Ends a session from here, telling the peer.
    fn end(&mut self, id: SessionId, reason: CloseReason) {
        if let Some(entry) = self.entries.get_mut(&id) {
            let _ = catch_unwind(AssertUnwindSafe(|| entry.session.close(reason)));
            self.carry_out(id);
        }
        self.remove(id, reason);
    }

    fn remove(&mut self, id: SessionId, reason: CloseReason) {
        let Some(entry) = self.entries.remove(&id) else {
            return;
        };
        self.half_open.remove(&entry.number);
        let (ufrags, addresses, ssrcs) = entry.session.routes();
        for ufrag in ufrags {
            self.routes.remove_ufrag(ufrag);
        }
        for address in addresses {
            self.routes.remove_address(address, id);
        }
        for ssrc in ssrcs {
            self.routes.remove_ssrc(*ssrc);
        }
        metrics::media(&entry.published, &entry.session.totals());
        metrics::sink_drops(entry.delivery.drops());
        metrics::closed(reason);
        tracing::info!(session = %id, ?reason, "publisher session ended");
        entry.delivery.close(reason);
    }

    fn transmit(&mut self, to: SocketAddr, datagram: BytesMut) {
        if self.transmits.len() >= MAX_TRANSMITS {
            self.transmits.pop_front();
        }
        self.transmits.push_back((to, datagram));
    }
}

#[cfg(test)]
mod live_tests;
#[cfg(test)]
mod tests;
