//! A player: takes a stream from relays and the origin, and puts it together again.
//!
//! [`Player`] decides (sans-IO); [`run`] is its shell, which serves the result as HTTP-FLV. The player starts with
//! everything from the origin, from the newest keyframe on. Then each substream is taken from a relay as soon as one
//! delivers it ([`sources`]); what gets lost on the way is asked for where it pays ([`repair`]); and when the buffer runs
//! low, everything comes from the origin again until it has been full for a while.
//!
//! Invariants:
//! - What leaves is the origin's stream in the origin's order, each frame once, without gaps as long as the origin still
//!   has what is missing; otherwise it goes on with the next keyframe, and [`Stats::skips`] counts it.
//! - Nothing that a relay sends can change that: what has no MAC is dropped; a frame that the origin has not signed, at the
//!   place that its chain says, is too, and who sends one is left and reported. Where the origin does not sign, chains that
//!   contradict their CRCs are dropped, and who sends three is left.
//!
//! Bounds: [`order`] and [`crate::chain`] for frames, one session and one attempt per substream, [`MAX_RELAYS`] relays, one request for
//! headers and [`repair::MAX_REQUESTS`] for frames at a time. Outputs are drained by the shell after every call.

mod answers;
mod attempt;
mod link;
mod order;
mod playout;
mod repair;
mod shell;
mod sources;
mod stats;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::substream::feed::{Record, Start};
use media::substream::sign::PublicKey;
use media::substream::{CHAIN_LENGTH, Entry, Split};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::assembly::{Assembly, Evidence, Inserted};
use crate::chain::Outcome;
use crate::recovery::{Deadlines, Prices};
use crate::wire::{Kind, data};
use answers::Answers;
use link::Link;
use order::Order;
use playout::Playout;
use repair::Request;
use sources::{Feed, Substream};

pub use link::RelayInfo;
pub use playout::CatchUp;
pub use shell::{Options, Report, run};
pub use stats::{Stats, SubstreamStats};

/// Relays that are remembered.
pub const MAX_RELAYS: usize = 64;
/// How often the player looks at everything.
const TICK: Duration = Duration::from_millis(10);
/// How long a hole in the order is left to the relays before the origin is asked for headers.
const HOLE: Duration = Duration::from_millis(80);

/// How a player behaves.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// What is buffered before the playhead starts.
    pub target: Duration,
    /// How whoever shows the stream comes back to that.
    pub catch_up: CatchUp,
    /// With less than this in the buffer, what is missing is taken from the origin: its substreams, or all when nothing is
    /// known to be missing. The paper's threshold (§7.4): 500 ms is little better, 300 ms much worse.
    pub fallback: Duration,
    /// With at least this in the buffer, for [`Config::stable`], relays are trusted again.
    pub back: Duration,
    /// See [`Config::back`]. Twice as long when the player had fallen back within the minute before, four times the next
    /// time, eight times at most.
    pub stable: Duration,
    /// Relays are used only by those who stay: after this long.
    pub relay_after: Duration,
    /// A frame that cannot be had holds the order up for this long; then it goes on with the next keyframe.
    pub patience: Duration,
    /// Relays asked at once for a substream; three at most.
    pub probes: usize,
    /// What things cost.
    pub prices: Prices,
    /// The policy as the paper has it, to compare: in fallback the origin sends everything while relays go on, and what is
    /// late is asked for at once.
    pub literal: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            target: Duration::from_millis(1_000),
            catch_up: CatchUp::NEVER,
            fallback: Duration::from_millis(400),
            back: Duration::from_millis(800),
            stable: Duration::from_secs(5),
            relay_after: Duration::from_secs(30),
            patience: Duration::from_secs(3),
            probes: attempt::MAX_PROBES,
            prices: Prices::default(),
            literal: false,
        }
    }
}

/// Where a feed begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// With the newest keyframe.
    Gop,
    /// After this frame.
    After(Entry),
}

/// What happens to a player.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram has come.
    Datagram(SocketAddr, &'a [u8]),
    /// The feed of this number brings something.
    Record(u64, Record),
    /// The feed of this number has ended; whether because its beginning is not there.
    FeedEnded {
        /// Its number.
        feed: u64,
        /// The origin does not have the frame after which it should begin.
        gone: bool,
    },
    /// The answer to a request for frames; `None` when it failed.
    Frames(u64, Option<Vec<Record>>),
    /// The answer to a request for headers; `None` when the origin does not have that frame.
    Headers(Option<Vec<Record>>),
    /// The relays that are recommended, best first; empty when nobody was reached.
    Relays(Vec<RelayInfo>),
    /// The player is to end: relays are told.
    Leave,
}

/// What the shell has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Send(SocketAddr, Vec<u8>),
    /// Ask the origin for substreams.
    OpenFeed {
        /// Names the feed.
        feed: u64,
        /// The substreams, one bit each.
        mask: u64,
        /// Where it begins.
        from: From,
    },
    /// A feed is not needed any more.
    CloseFeed(u64),
    /// Ask the origin for frames by decoding time and CRC.
    FetchFrames(u64, Vec<(u32, u32)>),
    /// Ask the origin for the headers after a frame.
    FetchHeaders(Entry),
    /// Ask for relays; these have not worked.
    FetchRelays(Vec<u64>),
    /// A stream begins, with these tags; if there was one before, it is over.
    Begin(Bytes),
    /// The next frame.
    Frame(Entry, Bytes),
}

/// The state machine of a player.
#[derive(Debug)]
pub struct Player {
    config: Config,
    random: StdRng,
    started: Instant,
    next_tick: Instant,
    epoch: Option<u16>,
    /// What frames from relays are checked with.
    signer: Option<PublicKey>,
    split: Split,
    order: Order,
    assembly: Assembly,
    playout: Playout,
    substreams: Vec<Substream>,
    links: BTreeMap<u64, Link>,
    relays: Vec<sources::Candidate>,
    relays_asked: Option<Instant>,
    relays_known: Option<Instant>,
    /// Relays that have failed since relays were asked for.
    failed: Vec<u64>,
    /// One of them has changed frames.
    has_forgers: bool,
    feed: Option<Feed>,
    feed_again: Instant,
    /// The newest entries that the feed has brought.
    feed_chain: VecDeque<Entry>,
    fallback: Option<Instant>,
    /// How often relays were trusted too early of late, and until when that counts.
    relapses: (u32, Instant),
    requests: HashMap<u64, Request>,
    wants: HashMap<Entry, repair::Want>,
    headers_asked: Option<Instant>,
    deadlines: Deadlines,
    /// How long relays take with what is asked of them again.
    answers: Answers,
    blocked_since: Option<Instant>,
    next_id: u64,
    outputs: VecDeque<Output>,
    stats: Stats,
}

impl Player {
    /// A player that begins now, with a seed for the numbers of its sessions.
    #[must_use]
    pub fn new(now: Instant, config: Config, seed: [u8; 32]) -> Self {
        let split = Split::default();
        Self {
            random: StdRng::from_seed(seed),
            started: now,
            next_tick: now,
            epoch: None,
            signer: None,
            split,
            order: Order::new(),
            assembly: Assembly::default(),
            playout: Playout::new(config.target, config.catch_up),
            substreams: sources::all(now, split),
            links: BTreeMap::new(),
            relays: Vec::new(),
            relays_asked: None,
            relays_known: None,
            failed: Vec::new(),
            has_forgers: false,
            feed: None,
            feed_again: now,
            feed_chain: VecDeque::new(),
            fallback: None,
            relapses: (0, now),
            requests: HashMap::new(),
            wants: HashMap::new(),
            headers_asked: None,
            deadlines: Deadlines::default(),
            answers: Answers::default(),
            blocked_since: None,
            next_id: 0,
            outputs: VecDeque::new(),
            stats: Stats::default(),
            config,
        }
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Datagram(from, bytes) => self.datagram(now, from, bytes),
            Input::Record(feed, record) => {
                if self.feed.as_ref().is_some_and(|open| open.id == feed) {
                    self.record(now, record);
                }
            }
            Input::FeedEnded { feed, gone } => self.feed_ended(now, feed, gone),
            Input::Frames(request, records) => self.fetched(now, request, records),
            Input::Headers(records) => self.headers(now, records),
            Input::Relays(relays) => self.recommended(now, relays),
            Input::Leave => {
                self.links.values_mut().for_each(|link| link.leave(now));
                self.send_all();
            }
        }
        self.release(now);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        self.playout.advance(now);
        self.order.chain.forget(now);
        self.close_holes(now);
        self.repair(now);
        self.choose_sources(now);
        self.skip_if_blocked(now);
        let buffer_ms = u16::try_from(self.playout.buffered_ms(now).max(0)).unwrap_or(u16::MAX);
        for link in self.links.values_mut() {
            link.handle_timeout(now, buffer_ms);
        }
        self.send_all();
        self.forget_links();
        self.release(now);
    }

    /// What the shell has to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Player::handle_timeout`] must be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        self.next_tick
    }

    /// The player at this moment.
    #[must_use]
    pub fn stats(&self, now: Instant) -> Stats {
        let mut stats = self.stats.clone();
        stats.buffer_ms = self.playout.buffered_ms(now);
        stats.playing = self.playout.is_running();
        stats.fallback = self.fallback.is_some();
        stats.stalls = self.playout.stalls;
        stats.stalled_ms = u64::try_from(self.playout.stalled.as_millis()).unwrap_or(u64::MAX);
        let open = self.links.values().map(|link| link.lost_total);
        stats.lost_packets += open.sum::<u64>();
        stats.substreams = self
            .substreams
            .iter()
            .map(|substream| {
                let link = substream.shown_link().and_then(|id| self.links.get(&id));
                SubstreamStats {
                    source: substream.source_name(),
                    relay: link.map(|link| link.relay.address),
                    rtt_ms: link
                        .and_then(Link::rtt)
                        .map(|rtt| rtt.as_secs_f64() * 1_000.0),
                }
            })
            .collect();
        stats
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let found = self
            .links
            .iter_mut()
            .find(|(_, link)| link.relay.address == from && link.is_mine(bytes));
        let Some((id, link)) = found else {
            // What comes late for a session that is over is no offence.
            self.stats.strange_datagrams += 1;
            return;
        };
        if Kind::of(bytes) != Some(Kind::Data) {
            link.control(now, bytes);
            self.send_all();
            return;
        }
        let id = *id;
        let Ok(packet) = data::read(bytes, &link.keys) else {
            self.stats.bad_input += 1;
            return;
        };
        let (head, entry) = (packet.head, packet.head.entry);
        if head.substream != link.substream || self.epoch != Some(head.epoch) {
            return;
        }
        if self.split.substream(&entry.header) != link.substream {
            // It would spoil frames that others bring.
            self.stats.bad_input += 1;
            link.corrupt();
            return;
        }
        link.packet(now, head.pseq);
        if head.resent {
            link.delivery.observe(true);
            let trip = link.rtt().unwrap_or_default();
            if let Some(took) = link.answers.answered(now, &entry, trip) {
                self.answers.observe(took);
            }
        }
        if self.signer.is_none()
            && let Outcome::Corrupt(_) = self.order.link(now, &packet.chain)
        {
            self.stats.bad_input += 1;
            link.corrupt();
            return;
        }
        let whole = link.is_whole(&entry);
        let known = self.order.has(&entry) || self.order.has_left(&entry);
        if known {
            self.stats.duplicate_bytes += length(packet.payload.len());
            if whole {
                self.delivered(now, id, &entry, true);
            }
            return;
        }
        let evidence = Evidence {
            sender: Some(id),
            proof: packet.signature.map(|signature| (packet.chain, signature)),
        };
        let inserted = self
            .assembly
            .insert(&entry, head.index, packet.payload, evidence);
        if let Inserted::Complete(body, evidence) = inserted {
            if !self.is_genuine(now, &entry, &body, &evidence) {
                self.forged(id, evidence.sender);
                return;
            }
            self.stats.relay_bytes += length(body.len());
            self.arrived(entry, body);
            if whole {
                self.delivered(now, id, &entry, false);
            }
        }
    }

    /// Whether the origin has signed a frame at its place, which is known from then on; without signatures all are.
    fn is_genuine(
        &mut self,
        now: Instant,
        entry: &Entry,
        body: &[u8],
        evidence: &Evidence,
    ) -> bool {
        let Some(signer) = &self.signer else {
            return true;
        };
        let Some((chain, signature)) = &evidence.proof else {
            return false;
        };
        let before = chain.split_last().map_or(&[][..], |(_, before)| before);
        let genuine = signer.verifies(before, entry, body, signature);
        if genuine {
            self.order.link(now, chain);
        }
        genuine
    }

    /// A frame is not the origin's. When all of it has come from one relay, that relay is left at once.
    fn forged(&mut self, last: u64, sender: Option<u64>) {
        self.stats.forged_frames += 1;
        let Some(link) = self.links.get_mut(&sender.unwrap_or(last)) else {
            return;
        };
        match sender {
            Some(_) => link.forged(),
            None => link.corrupt(),
        }
    }

    /// A frame is there.
    fn arrived(&mut self, entry: Entry, body: Bytes) {
        // What of it came over relays was for nothing.
        self.stats.duplicate_bytes += length(self.assembly.received(&entry));
        self.assembly.remove(&entry);
        self.wants.remove(&entry);
        let substream = self.split.substream(&entry.header);
        if let Some(substream) = self.substreams.get_mut(usize::from(substream)) {
            substream.rate.count(body.len());
        }
        let bytes = length(body.len());
        if !self.order.insert(entry, body) {
            self.stats.duplicate_bytes += bytes;
        }
    }

    fn record(&mut self, now: Instant, record: Record) {
        match record {
            Record::Start(start) => self.start(now, start),
            Record::Header(entry) => self.feed_entry(now, entry),
            Record::Frame(entry, body) | Record::Signed(entry, _, body) => {
                self.feed_entry(now, entry);
                self.stats.origin_bytes += length(body.len());
                self.arrived(entry, body);
            }
        }
    }

    fn feed_entry(&mut self, now: Instant, entry: Entry) {
        self.feed_chain.push_back(entry);
        if self.feed_chain.len() > CHAIN_LENGTH + 1 {
            self.feed_chain.pop_front();
        }
        let local = self.feed_chain.make_contiguous();
        self.order.link(now, local);
        self.feed_passed(&entry);
    }

    fn start(&mut self, now: Instant, start: Start) {
        if let Some(feed) = &mut self.feed {
            feed.started = true;
            feed.mask &= start.split.all();
        }
        if self.epoch != Some(start.epoch) || self.split != start.split {
            self.begin(now, &start);
        }
        if !self.order.chain.is_seeded() {
            self.order.seed(now, &start.prior);
        }
        let skip = start.prior.len().saturating_sub(CHAIN_LENGTH);
        self.feed_chain = start.prior.into_iter().skip(skip).collect();
    }

    /// A stream begins; what was there of another one is forgotten.
    fn begin(&mut self, now: Instant, start: &Start) {
        self.epoch = Some(start.epoch);
        self.signer = start.signer;
        self.split = start.split;
        self.order = Order::new();
        self.assembly.clear();
        self.playout.reset();
        self.wants.clear();
        self.requests.clear();
        self.blocked_since = None;
        self.drop_links(now);
        self.substreams = sources::all(now, start.split);
        self.outputs.push_back(Output::Begin(start.prelude.clone()));
    }

    fn release(&mut self, now: Instant) {
        while let Some((entry, body)) = self.order.release() {
            self.blocked_since = None;
            self.stats.frames += 1;
            self.playout.released(now, entry.header.dts_ms);
            self.outputs.push_back(Output::Frame(entry, body));
        }
    }

    /// Goes on with the next keyframe when a frame cannot be had.
    fn skip_if_blocked(&mut self, now: Instant) {
        if self.order.waiting().next().is_none() {
            self.blocked_since = None;
            return;
        }
        let since = *self.blocked_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= self.config.patience
            && !self.playout.is_running()
        {
            self.skip(now);
        }
    }

    fn skip(&mut self, now: Instant) {
        self.stats.skips += 1;
        self.blocked_since = None;
        self.order.skip();
        self.wants.clear();
        self.assembly.clear();
        self.close_feed();
        self.feed_again = now;
    }

    /// Sends what the links have to say.
    fn send_all(&mut self) {
        for link in self.links.values_mut() {
            let to = link.relay.address;
            let datagrams = link.take_outbox().into_iter();
            self.outputs
                .extend(datagrams.map(|bytes| Output::Send(to, bytes)));
        }
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests;
