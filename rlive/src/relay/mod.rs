//! A relay: takes substreams from the origin when players want them, and pushes their packets.
//!
//! [`Relay`] decides (sans-IO); [`run`] is its shell. A player subscribes with a ticket that the origin has sealed for
//! this relay, and proves its address by a cookie before the relay keeps or sends anything. From then on every frame that
//! comes from the origin is cut into packets and sent to all subscribers of its substream at once: no pacing, no waiting
//! for acknowledgements. What a player lacks it asks for, and gets from the cache.
//!
//! Invariants:
//! - An address that has not answered a challenge gets at most 36 bytes for 1200.
//! - A session that does not report for [`LEASE`] ends; so does one whose stream cannot be had.
//! - What is sent again is at most a quarter of what is sent ([`RESEND_SHARE`]), each packet at most [`MAX_ANSWERS`] times;
//!   what is sent for the first time is at most what the ticket allows: beyond that frames are skipped, whole.
//! - Challenges and subscriptions are limited ([`limit`]); what is beyond is not answered.
//! - Who is full in anything that it has ([`quota`]) takes nobody else; who leaves says so first, so that players have time.
//! - Feeds without subscribers are given back after [`LINGER`].
//!
//! Queues: the cache of each feed ([`cache`]); outputs are drained by the shell after every call.

mod adviser;
mod cache;
mod limit;
mod pulse;
mod quota;
mod session;
mod shell;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use bytes::Bytes;
use media::substream::feed::Record;
use media::substream::sign::Signature;
use media::substream::{CHAIN_LENGTH, Entry, MAX_SUBSTREAMS};
use media::ticket::{Key, Ticket};
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};

use crate::wire::advice::Advice;
use crate::wire::control::{self, Advised, Cookie, Fare, Message, Missing, Reason, Subscribe};
use crate::wire::heartbeat::{Served, stream_tag};
use crate::wire::{Direction, Keys, Kind};
use adviser::Adviser;
use cache::Cache;
use limit::{Limits, host_of};
use quota::Meter;
use session::Session;

pub use pulse::{HEARTBEAT, HEARTBEAT_IDLE};
pub(crate) use pulse::{Identity, Pulse};
pub use quota::{Process, Usage};
pub use shell::{Options, run};

/// A session ends when nothing has come from its player for so long.
pub const LEASE: Duration = Duration::from_secs(5);
/// A packet is sent again this often at most to one player, however often it is asked for.
pub const MAX_ANSWERS: u8 = 2;
/// How long a cookie is good.
const COOKIE_LIFE_S: u32 = 10;
/// A feed without subscribers is kept for so long.
const LINGER: Duration = Duration::from_secs(3);
/// The most that is sent again, as a part of what is sent.
const RESEND_SHARE: u64 = 4;
/// A feed that ends is tried again at first after this, then after twice as long each time.
const RETRY: Duration = Duration::from_millis(200);
/// A stream that cannot be had for this many tries is given up.
const TRIES: u32 = 5;
/// How often leases and feeds are looked at.
const HOUSEKEEPING: Duration = Duration::from_millis(100);

/// Bounds of a relay.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Sessions at one time.
    pub max_sessions: usize,
    /// Sessions of one host at one time: an address, or 64 bits of an address of IPv6.
    pub max_sessions_per_ip: usize,
    /// Substreams taken from the origin at one time.
    pub max_feeds: usize,
    /// What can be sent, in kilobits per second; 0: unknown.
    pub capacity_kbps: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_sessions: 1_000,
            max_sessions_per_ip: 64,
            max_feeds: 64,
            capacity_kbps: 0,
        }
    }
}

/// What a relay takes from the origin: one substream of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FeedName {
    /// The stream.
    pub stream: String,
    /// The substream.
    pub substream: u8,
}

/// What happens to a relay.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram has come; `wall_s` is the time by which tickets expire.
    Datagram {
        /// From where.
        from: SocketAddr,
        /// What.
        bytes: &'a [u8],
        /// Seconds since 1970.
        wall_s: u32,
    },
    /// A feed brings something.
    Record(&'a FeedName, Record),
    /// A feed has ended, or could not be opened.
    FeedEnded(&'a FeedName),
    /// What the machine says about the relay's process, every now and then.
    Process(Process),
    /// The scheduler answers a heartbeat that has asked.
    Advice(&'a Advice),
    /// The relay is to be shut down soon: players are told to go elsewhere, nobody else is let in.
    Drain,
    /// The relay is to be shut down: sessions end, nobody else is let in.
    Leave,
}

/// What the shell has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Send(SocketAddr, Vec<u8>),
    /// Ask the origin for a substream, from the next frame on.
    OpenFeed(FeedName),
    /// It is not needed any more.
    CloseFeed(FeedName),
}

/// Counters, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Bytes of frames from the origin.
    pub received_bytes: u64,
    /// Bytes of packets sent for the first time.
    pub sent_bytes: u64,
    /// Bytes of packets sent again.
    pub resent_bytes: u64,
    /// Frames that were not sent to a player because it would have been more than its ticket allows.
    pub skipped_frames: u64,
    /// Sessions opened.
    pub sessions: u64,
    /// Sessions that ended in silence.
    pub silent: u64,
    /// Subscriptions refused.
    pub refused: u64,
    /// Subscriptions that were not answered, because there were too many.
    pub limited: u64,
    /// Datagrams that were malformed, forged or played again.
    pub bad_datagrams: u64,
    /// Suggestions to go elsewhere, for the sake of quality.
    pub advised_quality: u64,
    /// The same, for the sake of cost.
    pub advised_cost: u64,
}

#[derive(Debug)]
struct Feed {
    /// Whether the origin is asked now; otherwise when it is asked again.
    state: FeedState,
    tries: u32,
    epoch: u16,
    /// The newest entries, oldest first.
    chain: VecDeque<Entry>,
    cache: Cache,
    subscribers: Vec<u32>,
    unused_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FeedState {
    Open,
    Again(Instant),
}

/// The state machine of a relay.
#[derive(Debug)]
pub struct Relay {
    config: Config,
    key: Key,
    cookie_key: hmac::Key,
    random: StdRng,
    started: Instant,
    limits: Limits,
    leaving: bool,
    sessions: BTreeMap<u32, Session>,
    feeds: BTreeMap<FeedName, Feed>,
    outputs: VecDeque<Output>,
    meter: Meter,
    adviser: Adviser,
    /// When it was last to be asked how full others are.
    asks: Option<Instant>,
    next_look: Instant,
    /// What has happened so far.
    pub counters: Counters,
}

impl Relay {
    /// A relay whose key the origin knows, with a seed for cookies and session numbers.
    #[must_use]
    pub fn new(now: Instant, config: Config, key: Key, seed: [u8; 32]) -> Self {
        let mut random = StdRng::from_seed(seed);
        let mut secret = [0; 32];
        random.fill_bytes(&mut secret);
        Self {
            config,
            key,
            cookie_key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            random,
            started: now,
            limits: Limits::new(now),
            leaving: false,
            sessions: BTreeMap::new(),
            feeds: BTreeMap::new(),
            outputs: VecDeque::new(),
            meter: Meter::new(now, config.capacity_kbps),
            adviser: Adviser::new(now),
            asks: None,
            next_look: now + HOUSEKEEPING,
            counters: Counters::default(),
        }
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Datagram {
                from,
                bytes,
                wall_s,
            } => {
                if self.datagram(now, from, bytes, wall_s).is_none() {
                    self.counters.bad_datagrams += 1;
                }
            }
            Input::Record(name, record) => self.record(now, name, record),
            Input::FeedEnded(name) => self.feed_ended(now, name),
            Input::Process(process) => self.meter.process(now, process),
            Input::Advice(advice) => self.adviser.advised(now, advice),
            Input::Drain => {
                self.leaving = true;
                let all: Vec<u32> = self.sessions.keys().copied().collect();
                all.into_iter()
                    .for_each(|conn| self.suggest(conn, Advised::Leaving));
            }
            Input::Leave => {
                self.leaving = true;
                let all: Vec<u32> = self.sessions.keys().copied().collect();
                for conn in all {
                    self.end(now, conn, Some(Reason::Leaving));
                }
            }
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + HOUSEKEEPING;
        let silent: Vec<u32> = self
            .sessions
            .iter()
            .filter(|(_, session)| now.saturating_duration_since(session.heard) >= LEASE)
            .map(|(conn, _)| *conn)
            .collect();
        for conn in silent {
            self.counters.silent += 1;
            self.end(now, conn, Some(Reason::Silence));
        }
        let sent = self.counters.sent_bytes + self.counters.resent_bytes;
        self.meter.sent(now, sent);
        self.advise(now);
        let outputs = &mut self.outputs;
        self.feeds.retain(|name, feed| {
            feed.cache.trim(now);
            let unused = feed.unused_since;
            let keep = unused.is_none_or(|since| now.saturating_duration_since(since) < LINGER);
            match feed.state {
                FeedState::Open if !keep => outputs.push_back(Output::CloseFeed(name.clone())),
                FeedState::Again(at) if keep && at <= now => {
                    feed.state = FeedState::Open;
                    outputs.push_back(Output::OpenFeed(name.clone()));
                }
                FeedState::Open | FeedState::Again(_) => {}
            }
            keep
        });
    }

    /// What the shell has to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Relay::handle_timeout`] must be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        self.next_look
    }

    /// How full the relay is, 0 to 1.
    #[must_use]
    pub fn load(&self) -> f32 {
        match self.leaving {
            true => 1.0,
            false => self.usage().load(),
        }
    }

    /// What is used of what there is.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.meter
            .usage(self.sessions.len(), self.config.max_sessions)
    }

    /// Whether the next heartbeat is to ask how full others are.
    #[must_use]
    pub fn asks(&self, now: Instant) -> bool {
        self.asks
            .is_some_and(|at| now.saturating_duration_since(at) < HEARTBEAT)
    }

    fn advise(&mut self, now: Instant) {
        let load = self.usage().load();
        if self.adviser.asks(now, load, self.config.capacity_kbps > 0) {
            self.asks = Some(now);
        }
        if self.leaving {
            return;
        }
        for (conn, advised) in self.adviser.look(now) {
            match advised {
                Advised::Cost => self.counters.advised_cost += 1,
                Advised::Quality => self.counters.advised_quality += 1,
                Advised::Leaving => {}
            }
            self.suggest(conn, advised);
        }
    }

    fn suggest(&mut self, conn: u32, advised: Advised) {
        if let Some(session) = self.sessions.get(&conn) {
            let suggest = control::write_suggest(conn, advised, &session.keys);
            self.outputs
                .push_back(Output::Send(session.address, suggest));
        }
    }

    /// A session says how it fares.
    fn fares(&mut self, conn: u32, fares: &[Fare]) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        let (Some(fare), Some(name)) = (fares.first(), session.wanted.first()) else {
            return;
        };
        let before = session.reported.replace(fare.pseq);
        let sent = before.map_or(0, |before| fare.pseq.wrapping_sub(before));
        // More than a million packets in half a second is a number gone backwards.
        let sent = if sent < 1 << 20 { sent } else { 0 };
        let what = (stream_tag(&name.stream), name.substream);
        self.adviser.report(conn, what, sent, fare.lost);
    }

    /// Sessions now.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Sessions at most.
    #[must_use]
    pub fn max_sessions(&self) -> usize {
        self.config.max_sessions
    }

    /// Whether nobody is let in any more.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// The substreams that are there for players, in order.
    #[must_use]
    pub fn served(&self) -> Vec<Served> {
        let open = self.feeds.iter().filter(|(_, feed)| feed.tries == 0);
        let mut served: Vec<Served> = open
            .map(|(name, feed)| Served {
                stream: stream_tag(&name.stream),
                substream: name.substream,
                players: u8::try_from(feed.subscribers.len()).unwrap_or(u8::MAX),
            })
            .collect();
        served.sort_unstable();
        served
    }

    /// `None`: it was not good.
    fn datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &[u8],
        wall_s: u32,
    ) -> Option<()> {
        match Kind::of(bytes)? {
            Kind::Subscribe => self.subscribe(now, from, bytes, wall_s),
            Kind::Nack | Kind::Report | Kind::Bye => self.message(now, from, bytes),
            Kind::Data
            | Kind::Challenge
            | Kind::Accept
            | Kind::Refuse
            | Kind::Heartbeat
            | Kind::Advice
            | Kind::Pong
            | Kind::Suggest
            | Kind::Where
            | Kind::Seen
            | Kind::Punch => None,
        }
    }

    fn subscribe(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &[u8],
        wall_s: u32,
    ) -> Option<()> {
        let asked = Subscribe::read(bytes).ok()?;
        let proven = self.is_my_cookie(now, from, &asked);
        let within = match proven {
            true => self.limits.may_subscribe(now, from.ip()),
            false => self.limits.may_challenge(now),
        };
        if !within {
            self.counters.limited += 1;
            return Some(());
        }
        if !proven && let Some(reason) = self.no_room() {
            // So whoever asks several relays knows at once who can take them; it is less than the challenge.
            self.refuse(from, asked.nonce, reason);
            return Some(());
        }
        if !proven {
            let cookie = self.cookie(self.age_s(now), from, asked.nonce);
            let challenge = control::write_challenge(asked.nonce, &cookie);
            self.outputs.push_back(Output::Send(from, challenge));
            return Some(());
        }
        let keys = Keys::new(&self.key.of_session(&asked.ticket));
        let ticket = Ticket::open(&self.key, &asked.ticket, wall_s);
        let Ok(ticket) = ticket else {
            self.refuse(from, asked.nonce, Reason::Ticket);
            return Some(());
        };
        // A ticket that was seen on its way is worth nothing without its key.
        keys.open(Direction::Up, bytes).ok()?;
        let twice = self
            .sessions
            .values()
            .find(|session| session.address == from && session.nonce == asked.nonce);
        if let Some(session) = twice {
            let accept = session.accept();
            self.outputs.push_back(Output::Send(from, accept));
            return Some(());
        }
        let wanted: Vec<FeedName> = (0..MAX_SUBSTREAMS)
            .filter(|substream| asked.mask & (1 << substream) != 0)
            .map(|substream| FeedName {
                stream: ticket.stream.clone(),
                substream,
            })
            .collect();
        if let Some(reason) = self.refusal(from.ip(), &wanted) {
            self.refuse(from, asked.nonce, reason);
            return Some(());
        }
        let conn = self.new_conn();
        for name in &wanted {
            self.feed(name).subscribers.push(conn);
        }
        let session = Session::new(now, from, keys, conn, &asked, &ticket, wanted);
        self.outputs.push_back(Output::Send(from, session.accept()));
        self.sessions.insert(conn, session);
        self.counters.sessions += 1;
        Some(())
    }

    /// Why nobody can be taken, whoever it is.
    fn no_room(&self) -> Option<Reason> {
        if self.leaving {
            Some(Reason::Leaving)
        } else if self.usage().is_full() {
            Some(Reason::Full)
        } else {
            None
        }
    }

    fn refusal(&self, ip: IpAddr, wanted: &[FeedName]) -> Option<Reason> {
        let of_host = |session: &&Session| host_of(session.address.ip()) == host_of(ip);
        let of_ip = self.sessions.values().filter(of_host);
        let new_feeds = wanted.iter().filter(|name| !self.feeds.contains_key(name));
        if let Some(reason) = self.no_room() {
            Some(reason)
        } else if wanted.is_empty() {
            Some(Reason::NoStream)
        } else if of_ip.count() >= self.config.max_sessions_per_ip
            || self.feeds.len() + new_feeds.count() > self.config.max_feeds
        {
            Some(Reason::Full)
        } else {
            None
        }
    }

    fn refuse(&mut self, to: SocketAddr, nonce: u64, reason: Reason) {
        self.counters.refused += 1;
        let refusal = control::write_refuse(nonce, reason);
        self.outputs.push_back(Output::Send(to, refusal));
    }

    fn new_conn(&mut self) -> u32 {
        loop {
            let conn = self.random.next_u32();
            if !self.sessions.contains_key(&conn) {
                return conn;
            }
        }
    }

    /// The feed of a substream; the origin is asked for it if it is new.
    fn feed(&mut self, name: &FeedName) -> &mut Feed {
        let outputs = &mut self.outputs;
        let feed = self.feeds.entry(name.clone()).or_insert_with(|| {
            outputs.push_back(Output::OpenFeed(name.clone()));
            Feed {
                state: FeedState::Open,
                tries: 0,
                epoch: 0,
                chain: VecDeque::new(),
                cache: Cache::default(),
                subscribers: Vec::new(),
                unused_since: None,
            }
        });
        feed.unused_since = None;
        feed
    }

    fn message(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) -> Option<()> {
        let conn = crate::wire::data::conn_of(bytes)?;
        let session = self.sessions.get_mut(&conn)?;
        if session.address != from {
            return None;
        }
        let (seq, message) = Message::read(bytes, &session.keys).ok()?;
        if !session.replay.is_new(seq) {
            return None;
        }
        session.heard = now;
        match message {
            Message::Nack(missing) => self.resend(now, conn, &missing),
            Message::Report {
                player_ms, fares, ..
            } => {
                let pong = control::write_pong(conn, player_ms, &session.keys);
                self.outputs.push_back(Output::Send(from, pong));
                self.fares(conn, &fares);
            }
            Message::Bye => self.end(now, conn, None),
        }
        Some(())
    }

    fn resend(&mut self, now: Instant, conn: u32, missing: &[Missing]) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        for missing in missing {
            let frame = session.wanted.iter().find_map(|name| {
                let feed = self.feeds.get(name)?;
                let frame = feed.cache.find(missing.dts_ms, missing.crc)?;
                Some((name.substream, feed.epoch, frame))
            });
            let Some((substream, epoch, frame)) = frame else {
                continue;
            };
            let wanted = (0..32_u16)
                .filter(|bit| missing.mask & (1 << bit) != 0)
                .filter_map(|bit| missing.base.checked_add(bit))
                .filter(|index| *index < frame.entry.header.packets());
            for index in wanted {
                if session.resent_bytes > session.sent_bytes / RESEND_SHARE + (64 << 10) {
                    return;
                }
                if !session.may_answer(now, &frame.entry, index) {
                    continue;
                }
                let packet = session.packet(now, substream, epoch, frame, index, true);
                let bytes = u64::try_from(packet.len()).unwrap_or_default();
                session.resent_bytes += bytes;
                self.counters.resent_bytes += bytes;
                self.outputs
                    .push_back(Output::Send(session.address, packet));
            }
        }
    }

    fn record(&mut self, now: Instant, name: &FeedName, record: Record) {
        let Some(feed) = self.feeds.get_mut(name) else {
            return;
        };
        match record {
            Record::Start(start) => {
                feed.tries = 0;
                if feed.epoch != start.epoch {
                    feed.cache = Cache::default();
                }
                feed.epoch = start.epoch;
                feed.chain = start.prior.into();
            }
            Record::Header(entry) => feed.chain.push_back(entry),
            Record::Frame(entry, body) => {
                self.push(now, name, entry, (None, body));
                return;
            }
            Record::Signed(entry, signature, body) => {
                self.push(now, name, entry, (Some(signature), body));
                return;
            }
        }
        trim(&mut feed.chain);
    }

    /// Sends a frame to everybody who wants it.
    fn push(
        &mut self,
        now: Instant,
        name: &FeedName,
        entry: Entry,
        (signature, body): (Option<Signature>, Bytes),
    ) {
        let Some(feed) = self.feeds.get_mut(name) else {
            return;
        };
        self.counters.received_bytes += u64::try_from(body.len()).unwrap_or_default();
        let chain: Vec<Entry> = feed.chain.iter().copied().collect();
        let Some(frame) = feed.cache.push(now, entry, chain, (signature, body)) else {
            return;
        };
        for conn in &feed.subscribers {
            let Some(session) = self.sessions.get_mut(conn) else {
                continue;
            };
            if !session.may_send(now, entry.header.size) {
                self.counters.skipped_frames += 1;
                continue;
            }
            for index in 0..entry.header.packets() {
                let packet = session.packet(now, name.substream, feed.epoch, frame, index, false);
                let bytes = u64::try_from(packet.len()).unwrap_or_default();
                session.sent_bytes += bytes;
                self.counters.sent_bytes += bytes;
                self.outputs
                    .push_back(Output::Send(session.address, packet));
            }
        }
        feed.chain.push_back(entry);
        trim(&mut feed.chain);
    }

    fn feed_ended(&mut self, now: Instant, name: &FeedName) {
        let Some(feed) = self.feeds.get_mut(name) else {
            return;
        };
        feed.tries += 1;
        feed.state = FeedState::Again(now + RETRY * 2_u32.pow(feed.tries.min(5) - 1));
        if feed.tries >= TRIES {
            for conn in feed.subscribers.clone() {
                self.end(now, conn, Some(Reason::NoStream));
            }
        }
    }

    /// Ends a session, and tells the player why if it does not know.
    fn end(&mut self, now: Instant, conn: u32, reason: Option<Reason>) {
        let Some(session) = self.sessions.remove(&conn) else {
            return;
        };
        self.adviser.forget(conn);
        if let Some(reason) = reason {
            let bye = control::write_bye(conn, reason, &session.keys);
            self.outputs.push_back(Output::Send(session.address, bye));
        }
        for name in &session.wanted {
            if let Some(feed) = self.feeds.get_mut(name) {
                feed.subscribers.retain(|other| *other != conn);
                if feed.subscribers.is_empty() {
                    feed.unused_since = Some(now);
                }
            }
        }
    }

    fn age_s(&self, now: Instant) -> u32 {
        let age = now.saturating_duration_since(self.started).as_secs();
        u32::try_from(age).unwrap_or(u32::MAX)
    }

    /// Proof that an address has received what was sent there: time, and a MAC over time, address and nonce.
    fn cookie(&self, at_s: u32, address: SocketAddr, nonce: u64) -> Cookie {
        let mut context = hmac::Context::with_key(&self.cookie_key);
        match address.ip() {
            IpAddr::V4(ip) => context.update(&ip.octets()),
            IpAddr::V6(ip) => context.update(&ip.octets()),
        }
        context.update(&address.port().to_be_bytes());
        context.update(&nonce.to_be_bytes());
        context.update(&at_s.to_be_bytes());
        let mac = context.sign();
        let bytes = at_s.to_be_bytes();
        let mut cookie = Cookie::default();
        for (to, from) in cookie.iter_mut().zip(bytes.iter().chain(mac.as_ref())) {
            *to = *from;
        }
        cookie
    }

    fn is_my_cookie(&self, now: Instant, from: SocketAddr, asked: &Subscribe) -> bool {
        let [a, b, c, d, ..] = asked.cookie;
        let at_s = u32::from_be_bytes([a, b, c, d]);
        let fresh = self
            .age_s(now)
            .checked_sub(at_s)
            .is_some_and(|age| age <= COOKIE_LIFE_S);
        let expected = self.cookie(at_s, from, asked.nonce);
        fresh && aws_lc_rs::constant_time::verify_slices_are_equal(&expected, &asked.cookie).is_ok()
    }
}

fn trim(chain: &mut VecDeque<Entry>) {
    while chain.len() > CHAIN_LENGTH {
        chain.pop_front();
    }
}

#[cfg(test)]
mod tests;
