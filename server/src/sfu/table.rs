//! All sessions of the media thread: who gets a datagram, who is due, who has to go. No IO of its own.
//!
//! Invariants:
//! - At most `max_sessions` sessions, of which at most `max_half_open` are not connected; the oldest half-open one makes
//!   room, so a flood of offers cannot keep others out for longer than they need to connect.
//! - A subscriber is fed by the newest connected session of its stream, and closed when the participant has left.
//! - A panic inside the engine ends the session it happened in and nothing else.

mod feeds;
mod forward;
mod gops;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::sync::watch;

use self::feeds::Feeds;
use self::forward::Fanout;
use self::gops::Gop;

use super::config::Config;
use super::delivery::Delivery;
use super::demux::{Datagram, Routes, binding_response, classify};
use super::metrics::{self, Present};
use super::packet::Relayed;
use super::program::{Demand, ProgramLink};
use super::sdp::Credentials;
use super::sdp::candidate::Candidate;
use super::sdp::fragment::{self, Fragment};
use super::session::{Output, Session, Totals};
use super::types::{
    CloseReason, OfferError, PatchError, Patched, SessionFlow, SessionId, SessionStats, StreamKey,
};

/// Deadlines are not served more often than this, whatever a session asks for.
const TICK: Duration = Duration::from_millis(2);
/// Later than any deadline of a session.
const FAR: Duration = Duration::from_secs(2 * 86_400);
/// Most datagrams that wait to be sent; the oldest are dropped, as a router would. Forwarding stops long before.
const MAX_TRANSMITS: usize = 4_096;
/// With so many datagrams waiting, the next subscriber is served when they have been sent.
const MANY_TRANSMITS: usize = MAX_TRANSMITS / 4;
/// Room for what is written before it is sent.
const ARENA: usize = 64 * 1_024;
/// One in so many sessions is for broadcasters and those who watch them, not for viewers of programs.
const BROADCASTERS_SHARE: usize = 4;
/// Datagrams with media that may wait for [`Table::settle`].
const MAX_UNSETTLED: usize = 64;

struct Entry {
    session: Session,
    /// Where a publisher's units go; subscribers have none.
    delivery: Option<Delivery>,
    /// Order of arrival; key of the half-open table.
    number: u64,
    /// The deadline that counts for it; others in the queue have been replaced.
    due: Instant,
    published: Option<Totals>,
    /// It is among the sessions that media has come for.
    touched: bool,
}

impl Entry {
    fn publish_totals(&mut self) {
        let totals = self.session.totals();
        match (totals, self.published) {
            (Totals::In(now), Some(Totals::In(before))) => metrics::media(&before, &now),
            (Totals::In(now), _) => metrics::media(&Default::default(), &now),
            (Totals::Out(now), Some(Totals::Out(before))) => metrics::forwarded(&before, &now),
            (Totals::Out(now), _) => metrics::forwarded(&Default::default(), &now),
        }
        self.published = Some(totals);
    }
}

/// All sessions.
pub(super) struct Table {
    limits: (usize, usize),
    max_subscribers_per_channel: usize,
    max_viewers_per_channel: usize,
    /// How long subscribers wait for a participant whose connection broke.
    patience: Duration,
    candidates: Vec<Candidate>,
    entries: HashMap<SessionId, Entry>,
    half_open: BTreeMap<u64, SessionId>,
    routes: Routes,
    feeds: Feeds,
    /// Publishers without a session: programs that somebody watches, and feeds.
    programs: HashMap<SessionId, Arc<watch::Sender<Demand>>>,
    /// Feeds that cannot be watched, and why.
    refusals: HashMap<SessionId, &'static str>,
    /// Packets on their way from publishers to subscribers. What is not served when [`Self::settle`] returns, because much
    /// waits to be sent, is served by the next call.
    relays: VecDeque<(SessionId, Relayed)>,
    /// They wait for the rest of their picture, until then.
    held: Option<Instant>,
    fanout: Fanout,
    /// Of sources that feed somebody.
    gops: HashMap<SessionId, Gop>,
    /// Subscribers who have just connected; empty when nothing is left over.
    newcomers: Vec<SessionId>,
    /// Where media is written.
    arena: BytesMut,
    /// Subscribers who need a keyframe, and of which layer.
    wishes: Vec<(SessionId, Option<u8>)>,
    /// A session has gone, so others may have nobody to wait for; false when a call returns.
    has_gone: bool,
    deadlines: BinaryHeap<Reverse<(Instant, SessionId)>>,
    transmits: VecDeque<(SocketAddr, BytesMut)>,
    /// Sessions that media has come for.
    touched: Vec<SessionId>,
    /// Datagrams that came for them.
    unsettled: usize,
    next_number: u64,
    unroutable: u64,
    /// As published.
    present: Present,
}

impl Table {
    pub(super) fn new(config: &Config, candidates: Vec<Candidate>) -> Self {
        Self {
            limits: (config.max_sessions, config.max_half_open),
            max_subscribers_per_channel: config.max_subscribers_per_channel,
            max_viewers_per_channel: config.max_viewers_per_channel,
            patience: Duration::from_millis(config.stream_resume_timeout_ms),
            candidates,
            entries: HashMap::new(),
            half_open: BTreeMap::new(),
            routes: Routes::default(),
            feeds: Feeds::default(),
            programs: HashMap::new(),
            refusals: HashMap::new(),
            relays: VecDeque::new(),
            held: None,
            fanout: Fanout::new(),
            gops: HashMap::new(),
            newcomers: Vec::new(),
            arena: BytesMut::with_capacity(ARENA),
            wishes: Vec::new(),
            has_gone: false,
            deadlines: BinaryHeap::new(),
            transmits: VecDeque::new(),
            touched: Vec::new(),
            unsettled: 0,
            next_number: 0,
            unroutable: 0,
            present: Present::default(),
        }
    }

    /// Takes up a publisher; subscribers find it under `key`.
    pub(super) fn open_publisher(
        &mut self,
        now: Instant,
        id: SessionId,
        session: Session,
        delivery: Delivery,
        key: Option<StreamKey>,
    ) -> Result<(), OfferError> {
        self.open(now, id, session, Some(delivery))?;
        if let Some(key) = key {
            self.feeds.add_publisher(key, id);
        }
        self.settle(now);
        Ok(())
    }

    /// Takes up a subscriber of what is published under `key`.
    pub(super) fn open_subscriber(
        &mut self,
        now: Instant,
        id: SessionId,
        session: Session,
        key: StreamKey,
    ) -> Result<(), OfferError> {
        if !self.feeds.is_known(&key) {
            return Err(OfferError::UnknownStream);
        }
        let source = self.feeds.source_of(&key);
        if let Some(why) = source.and_then(|source| self.refusals.get(&source)) {
            return Err(OfferError::NotPlayable(why));
        }
        let limit = self.max_subscribers_per_channel;
        if self.feeds.subscribers_in(&key.channel) >= limit {
            return Err(OfferError::ChannelFull { limit });
        }
        self.open(now, id, session, None)?;
        self.feeds.add_subscriber(key.clone(), id);
        self.update_relaying(id);
        self.count_viewers(now, &key);
        self.expect(id);
        // Somebody may have made room for it.
        self.settle(now);
        Ok(())
    }

    /// Takes up a viewer of a program.
    pub(super) fn open_viewer(
        &mut self,
        now: Instant,
        id: SessionId,
        session: Session,
        link: ProgramLink,
    ) -> Result<(), OfferError> {
        if link.demand.is_closed() {
            return Err(OfferError::UnknownStream);
        }
        let limit = self.max_viewers_per_channel;
        if self.feeds.subscribers_of(&link.key) >= limit {
            return Err(OfferError::ChannelFull { limit });
        }
        // Viewers have other ways to watch, broadcasters have no other way in.
        let (max_sessions, _) = self.limits;
        let limit = max_sessions - max_sessions / BROADCASTERS_SHARE;
        if self.entries.len() >= limit {
            return Err(OfferError::Full { limit });
        }
        self.open(now, id, session, None)?;
        if !self.programs.contains_key(&link.id) {
            let replaced = self.feeds.source_of(&link.key);
            self.feeds.add_publisher(link.key.clone(), link.id);
            self.feeds.connect(link.id);
            self.programs.insert(link.id, link.demand);
            // A channel that came to a bad end.
            if let Some(replaced) = replaced {
                self.programs.remove(&replaced);
                self.feeds.remove(now, replaced, None);
            }
        }
        self.feeds.add_subscriber(link.key.clone(), id);
        self.count_viewers(now, &link.key);
        self.expect(id);
        // Somebody may have made room for it.
        self.settle(now);
        Ok(())
    }

    /// A program has ended, and its viewers with it.
    pub(super) fn end_program(&mut self, now: Instant, id: SessionId) {
        if self.programs.remove(&id).is_some() {
            self.gops.remove(&id);
            self.feeds.remove(now, id, None);
            self.has_gone = true;
            self.settle(now);
        }
    }

    /// Takes up a publisher without a session.
    pub(super) fn open_feed(&mut self, now: Instant, link: ProgramLink) {
        self.feeds.add_publisher(link.key.clone(), link.id);
        self.feeds.connect(link.id);
        self.programs.insert(link.id, link.demand);
        self.update_relaying(link.id);
        self.count_viewers(now, &link.key);
    }

    /// Such a publisher is gone.
    pub(super) fn end_feed(&mut self, now: Instant, id: SessionId, returns: bool) {
        self.programs.remove(&id);
        self.gops.remove(&id);
        self.refusals.remove(&id);
        let siblings = self.feeds.publishers(id);
        let key = self.feeds.key(id).cloned();
        self.feeds.remove(now, id, returns.then_some(self.patience));
        if let Some((sibling, _)) = siblings.iter().find(|(sibling, _)| *sibling != id) {
            self.update_relaying(*sibling);
        }
        if let Some(key) = key {
            self.count_viewers(now, &key);
        }
        self.has_gone = true;
        self.settle(now);
    }

    /// Such a publisher cannot be watched.
    pub(super) fn refuse_feed(&mut self, now: Instant, id: SessionId, why: &'static str) {
        if !self.programs.contains_key(&id) {
            return;
        }
        self.refusals.insert(id, why);
        for subscriber in self.feeds.fed_by(id).to_vec() {
            self.end(now, subscriber, CloseReason::StreamEnded);
        }
        self.settle(now);
    }

    /// Tells a publisher without a session how many watch it; a program that nobody watches is forgotten.
    fn count_viewers(&mut self, now: Instant, key: &StreamKey) {
        let Some(id) = self.feeds.source_of(key) else {
            return;
        };
        let Some(demand) = self.programs.get(&id) else {
            return;
        };
        let viewers = self.feeds.subscribers_of(key);
        demand.send_modify(|demand| demand.viewers = viewers);
        if viewers == 0 && key.participant.is_none() {
            self.programs.remove(&id);
            self.feeds.remove(now, id, None);
        }
    }

    /// Takes up a session; the oldest half-open one goes when there is no room.
    fn open(
        &mut self,
        now: Instant,
        id: SessionId,
        session: Session,
        delivery: Option<Delivery>,
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
            self.end(now, oldest, CloseReason::NeverConnected);
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
            published: None,
            touched: false,
        };
        self.entries.insert(id, entry);
        self.deadlines.push(Reverse((now, id)));
        Ok(())
    }

    /// Takes a datagram from the socket; [`Self::settle`] follows the last one of a batch.
    pub(super) fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let kind = classify(datagram);
        if let Datagram::Check(check) = kind
            && check.ufrag.is_none()
        {
            let response = binding_response(&check.transaction, from);
            let response = BytesMut::from(response.as_slice());
            transmit(&mut self.transmits, from, response);
            return;
        }
        let Some(id) = self.routes.find(from, &kind) else {
            self.unroutable += 1;
            return;
        };
        match kind {
            Datagram::Check(check) => self.drive(now, id, |session| {
                session.handle_check(now, from, &check, datagram);
            }),
            Datagram::Answer => self.drive(now, id, |session| {
                session.handle_answer(now, from, datagram);
            }),
            Datagram::Dtls => self.drive(now, id, |session| {
                session.handle_dtls(now, from, datagram);
            }),
            Datagram::Media(_) => return self.media(now, id, from, datagram),
            Datagram::Other => {}
        }
        self.settle(now);
    }

    fn media(&mut self, now: Instant, id: SessionId, from: SocketAddr, datagram: &[u8]) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let session = &mut entry.session;
        let worked = catch_unwind(AssertUnwindSafe(|| {
            session.handle_media(now, from, datagram);
        }));
        self.unsettled += 1;
        if worked.is_err() {
            self.drop_panicked(now, id);
            self.settle(now);
        } else if !std::mem::replace(&mut entry.touched, true) {
            self.touched.push(id);
        }
    }

    /// Serves every session that is due, or that media has come for.
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
            let gone = entry.delivery.as_ref().is_some_and(Delivery::is_gone);
            self.drive(now, id, |session| {
                if session.poll_timeout() <= now {
                    session.handle_timeout(now);
                }
                if gone {
                    session.close(CloseReason::SinkGone);
                }
            });
        }
        self.settle(now);
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let sessions = self.deadlines.peek().map(|Reverse((at, _))| *at);
        [sessions, self.feeds.poll_timeout(), self.held]
            .into_iter()
            .flatten()
            .min()
    }

    /// Enough waits to be settled and sent now: one packet may go out to many.
    pub(super) fn is_backlogged(&self) -> bool {
        self.unsettled >= MAX_UNSETTLED || self.transmits.len() >= MANY_TRANSMITS
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
        self.drive(now, id, |session| session.request_keyframe(now, None));
        self.settle(now);
    }

    pub(super) fn set_height(&mut self, id: SessionId, height: Option<u32>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.session.set_height(height);
        }
    }

    pub(super) fn close(&mut self, now: Instant, id: SessionId, reason: CloseReason) {
        self.drive(now, id, |session| session.close(reason));
        self.settle(now);
    }

    /// Which stream a session publishes or receives, and which of both.
    pub(super) fn flow(&self, id: SessionId) -> Option<SessionFlow> {
        let entry = self.entries.get(&id)?;
        Some(SessionFlow {
            stream: self.feeds.key(id)?.clone(),
            receives: entry.session.is_subscriber(),
        })
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
        if let Some(delivery) = &entry.delivery {
            stats.sink_drops = delivery.drops();
        }
        Some(stats)
    }

    /// Whether an address speaks for a session.
    pub(super) fn is_proven(&self, address: SocketAddr) -> bool {
        self.routes.has_address(address)
    }

    /// Publishes gauges and counters.
    pub(super) fn publish_metrics(&mut self) {
        let present = Present {
            sessions: self.entries.len(),
            half_open: self.half_open.len(),
            subscribers: self.feeds.subscribers(),
            viewers: self.feeds.viewers(),
        };
        metrics::present(std::mem::replace(&mut self.present, present), present);
        metrics::unroutable(std::mem::take(&mut self.unroutable));
        for entry in self.entries.values_mut() {
            entry.publish_totals();
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
            self.drop_panicked(now, id);
            return;
        };
        let due = due.max(now + TICK);
        if due < entry.due {
            entry.due = due;
            self.deadlines.push(Reverse((due, id)));
        }
        self.carry_out(now, id);
    }

    fn drop_panicked(&mut self, now: Instant, id: SessionId) {
        tracing::error!(session = %id, "the WebRTC engine panicked; the session is dropped");
        metrics::engine_panic();
        self.remove(now, id, CloseReason::Failed);
    }

    fn carry_out(&mut self, now: Instant, id: SessionId) {
        let mut needs_keyframe = false;
        while let Some(entry) = self.entries.get_mut(&id) {
            let output = loop {
                match entry.session.poll_output() {
                    // The way of nearly every packet.
                    Some(Output::Transmit(to, datagram)) => {
                        transmit(&mut self.transmits, to, datagram);
                    }
                    other => break other,
                }
            };
            let Some(output) = output else { break };
            match output {
                Output::Connected => {
                    let remote = entry.session.stats(entry.due).remote_address;
                    let subscriber = entry.session.is_subscriber();
                    tracing::info!(session = %id, ?remote, subscriber, "session connected");
                    if let Some(delivery) = &mut entry.delivery {
                        delivery.connected();
                    }
                    self.half_open.remove(&entry.number);
                    if subscriber {
                        self.newcomers.push(id);
                    }
                    self.feeds.connect(id);
                    self.update_relaying(id);
                }
                Output::Unit(unit) => {
                    let delivery = entry.delivery.as_mut();
                    needs_keyframe |= delivery.is_some_and(|delivery| delivery.unit(unit));
                }
                Output::Relay(packet) => self.relays.push_back((id, packet)),
                Output::WantKeyframe(layer) => self.wishes.push((id, layer)),
                Output::Transmit(to, datagram) => transmit(&mut self.transmits, to, datagram),
                Output::Proven(address) => self.routes.add_address(address, id),
                Output::Forgotten(address) => self.routes.remove_address(address, id),
                Output::Ssrc(ssrc) => self.routes.add_ssrc(ssrc, id),
                Output::Closed(reason) => self.remove(now, id, reason),
            }
        }
        if needs_keyframe && let Some(entry) = self.entries.get_mut(&id) {
            entry.session.want_keyframe();
        }
    }

    /// Publishers give packets only while they feed somebody.
    fn update_relaying(&mut self, id: SessionId) {
        for (publisher, feeds) in self.feeds.publishers(id) {
            if let Some(entry) = self.entries.get_mut(&publisher) {
                entry.session.set_relayed(feeds);
            }
        }
    }

    /// Ends a session from here, telling the peer.
    fn end(&mut self, now: Instant, id: SessionId, reason: CloseReason) {
        if let Some(entry) = self.entries.get_mut(&id) {
            let _ = catch_unwind(AssertUnwindSafe(|| entry.session.close(reason)));
            self.carry_out(now, id);
        }
        self.remove(now, id, reason);
    }

    fn remove(&mut self, now: Instant, id: SessionId, reason: CloseReason) {
        let Some(mut entry) = self.entries.remove(&id) else {
            return;
        };
        self.half_open.remove(&entry.number);
        self.gops.remove(&id);
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
        // Those who were told to go are not waited for; those who vanished or reload their page are.
        let broke = matches!(
            reason,
            CloseReason::PeerClosed | CloseReason::Timeout | CloseReason::Failed
        );
        let siblings = self.feeds.publishers(id);
        let key = self.feeds.key(id).cloned();
        self.has_gone = true;
        self.feeds.remove(now, id, broke.then_some(self.patience));
        if let Some(key) = key {
            self.count_viewers(now, &key);
        }
        if let Some((sibling, _)) = siblings.iter().find(|(sibling, _)| *sibling != id) {
            self.update_relaying(*sibling);
        }
        entry.publish_totals();
        metrics::closed(reason);
        let subscriber = entry.session.is_subscriber();
        tracing::info!(session = %id, ?reason, subscriber, "session ended");
        if let Some(delivery) = entry.delivery {
            metrics::sink_drops(delivery.drops());
            delivery.close(reason);
        }
    }
}

/// Queues a datagram.
fn transmit(waiting: &mut VecDeque<(SocketAddr, BytesMut)>, to: SocketAddr, datagram: BytesMut) {
    if waiting.len() >= MAX_TRANSMITS {
        waiting.pop_front();
    }
    waiting.push_back((to, datagram));
}

#[cfg(test)]
mod feed_tests;
#[cfg(test)]
mod forward_tests;
#[cfg(test)]
mod live_tests;
#[cfg(test)]
mod program_tests;
#[cfg(test)]
mod tests;
