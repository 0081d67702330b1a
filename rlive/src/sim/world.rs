//! The world of one trial: an origin behind a dedicated node, relays, a scheduler and players, on virtual time.
//!
//! Events lie in a queue by time and number. The machines are those of production; the world carries what they say
//! over [`super::path`] and [`super::cdn`], and decides nothing for them.

mod pull;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use media::substream::MAX_SUBSTREAMS;
use media::substream::feed::Record;
use media::ticket::{Key, Ticket};

use super::arm::Arm;
use super::cdn::{Cdn, Connection};
use super::dice::Dice;
use super::figures::Figures;
use super::model::Model;
use super::path::{Lasts, Nature, Path, Replies, Spells, us};
use super::stream::{self, Stream};
use super::viewer::Viewer;
use super::{MAX_COUNT, Scale};
use crate::clock;
use crate::player::{self, Player, RelayInfo};
use crate::relay::{self, FeedName, Identity, Pulse, Relay};
use crate::scheduler::{self, Scheduler};
use crate::wire::control::{self, Reason, Subscribe};
use crate::wire::{Keys, Kind, data};
use pull::{Edge, Pull, Step};

const SECRET: &[u8] = b"simulator";
const STREAM: &str = "simulated";
/// Seconds since 1970 when a trial begins.
const WALL_S: u32 = 1_700_000_000;
/// Providers whose networks relays and players are in.
const PROVIDERS: u64 = 3;
/// The stream runs for this long before anybody comes.
const BEFORE_US: u64 = 6_000_000;
/// Players come within this time.
const ARRIVALS_US: u64 = 5_000_000;
/// How often viewers are looked at.
const LOOK_US: u64 = 50_000;
/// A relay that has not answered after this is of no use.
const USELESS_US: u64 = 1_000_000;
/// A relay keeps what nobody wants any more for so long.
const LINGER_US: u64 = 3_000_000;

/// What happens.
enum Event {
    /// The next frame is captured.
    Frame,
    PlayerTick(usize),
    RelayTick(usize),
    /// A viewer comes.
    Join(usize),
    /// Viewers are looked at.
    Look,
    ToRelay(usize, usize, Vec<u8>),
    ToPlayer(usize, usize, Vec<u8>),
    PlayerRecord(usize, u64, Record),
    PlayerFeedGone(usize, u64),
    RelayRecord(usize, u8, u64, Record),
    Frames(usize, u64, Option<Vec<Record>>),
    Headers(usize, Option<Vec<Record>>),
    /// A player's request is with the scheduler.
    Recommend(usize, Vec<u64>),
    Relays(usize, Vec<RelayInfo>),
    /// A single source: a player goes on with its connection.
    Pull(usize, u64, Step),
    /// And a relay, by its connection of this number, has a frame.
    AtEdge(usize, u64, usize),
}

struct Queued(u64, u64, Event);

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

struct Node {
    machine: Relay,
    pulse: Pulse,
    nature: Nature,
    address: SocketAddr,
    replies: Replies,
    /// Connections to the dedicated node, one for each substream, and their numbers.
    feeds: BTreeMap<u8, (u64, Connection)>,
    opened: u64,
    /// What it is as a single source.
    edge: Edge,
}

struct Seat {
    viewer: Viewer,
    machine: Player,
    address: SocketAddr,
    feed: Option<(u64, u64, Connection)>,
    /// The connection to a single source.
    pull: Option<Pull>,
    /// Ways to relays, as they are used.
    paths: BTreeMap<usize, Path>,
    /// Relays that were tried, when, and whether they would have opened a session.
    tried: BTreeMap<usize, (u64, bool)>,
    /// Sessions' keys by relay: where chains are taken off, packets are sealed again.
    keys: BTreeMap<usize, Vec<Keys>>,
    known: HashSet<Vec<u8>>,
}

/// A trial.
pub(super) struct World<'a> {
    model: &'a Model,
    arm: Arm,
    seed: u64,
    base: Instant,
    now: u64,
    end: u64,
    queue: BinaryHeap<Reverse<Queued>>,
    events: u64,
    stream: Stream,
    cdn: Cdn,
    scheduler: Scheduler,
    scheduler_dice: Dice,
    sequencer: Spells,
    tickets: u64,
    nodes: Vec<Node>,
    seats: Vec<Seat>,
    figures: Figures,
}

/// A part of a number as a small one, to make addresses of.
fn byte(number: u64) -> u8 {
    u8::try_from(number & 0xff).unwrap_or_default()
}

fn number(index: usize) -> u64 {
    u64::try_from(index).unwrap_or_default()
}

fn float(number: u64) -> f64 {
    f64::from(u32::try_from(number >> 16).unwrap_or(u32::MAX)) * 65_536.0
        + f64::from(u32::try_from(number & 0xffff).unwrap_or_default())
}

impl<'a> World<'a> {
    pub(super) fn new(model: &'a Model, arm: Arm, scale: Scale, seed: u64) -> Self {
        let base = clock::now();
        let end = BEFORE_US + ARRIVALS_US + us(scale.seconds);
        let split = arm.split();
        let mut dice = Dice::new(seed, &[9]);
        let mut world = Self {
            model,
            arm,
            seed,
            base,
            now: 0,
            end,
            queue: BinaryHeap::new(),
            events: 0,
            stream: Stream::new(seed, split, model),
            cdn: Cdn::new(seed, scale.seconds + 20.0, model),
            scheduler: Scheduler::new(
                scheduler::Config::default(),
                SECRET.to_vec(),
                HashSet::new(),
                dice.seed(),
            ),
            scheduler_dice: Dice::new(seed, &[10]),
            sequencer: Spells::new(
                Dice::new(seed, &[11]),
                model.sequencer_fails_every_s,
                Lasts::Between(model.sequencer_away_s, model.sequencer_away_s),
                (0.0, 0.0),
            ),
            tickets: 0,
            nodes: Vec::new(),
            seats: Vec::new(),
            figures: Figures::default(),
        };
        if arm.uses_relays() {
            (0..scale.relays).for_each(|n| world.add_relay(n));
        }
        for n in 0..scale.viewers {
            let mut dice = Dice::new(seed, &[12, number(n)]);
            let comes = BEFORE_US + us(dice.unit() * float(ARRIVALS_US) / 1e6);
            world.add_seat(n, dice.seed());
            world.post(comes, Event::Join(n));
        }
        world.post(0, Event::Frame);
        world.post(BEFORE_US, Event::Look);
        world
    }

    /// Plays the trial to its end.
    pub(super) fn run(mut self) -> Figures {
        while let Some(Reverse(Queued(at, _, event))) = self.queue.pop() {
            if at > self.end {
                break;
            }
            self.now = self.now.max(at);
            self.happen(event);
        }
        for seat in &mut self.seats {
            let stats = seat
                .machine
                .stats(self.base + Duration::from_micros(self.end));
            seat.viewer.add(&mut self.figures, &stats);
            for (at, opened) in seat.tried.values() {
                if at + USELESS_US <= self.end {
                    self.figures.tried += 1.0;
                    self.figures.invalid += f64::from(u8::from(!opened));
                }
            }
        }
        for node in &self.nodes {
            self.figures.relay_sent += float(node.machine.counters.sent_bytes);
            self.figures.relay_resent += float(node.machine.counters.resent_bytes);
        }
        self.figures
    }

    fn add_relay(&mut self, n: usize) {
        let id = number(n);
        let now = self.base;
        let mut dice = Dice::new(self.seed, &[13, id]);
        let nature = Nature::new(self.seed, id, self.arm.top(), self.model);
        let provider = byte(id % PROVIDERS);
        let address = SocketAddr::from(([10, provider, 1, byte(id)], 4_000));
        let key = Key::of_relay(SECRET, id);
        // As many sessions as its uplink, as it says, has room for.
        let kbps = self.model.video_kbps * 1.2 / f64::from(self.arm.split().substreams());
        let sessions = us(nature.says_mbps * 1_000.0 / kbps / 1e6).clamp(1, 1_000);
        let config = relay::Config {
            max_sessions: usize::try_from(sessions).unwrap_or(1),
            ..relay::Config::default()
        };
        let identity = Identity {
            relay: id,
            key: key.clone(),
            address,
            region: 0,
            capacity_kbps: u32::try_from(us(nature.says_mbps / 1_000.0)).unwrap_or(u32::MAX),
        };
        self.nodes.push(Node {
            machine: Relay::new(now, config, key, dice.seed()),
            pulse: Pulse::new(now, identity),
            nature,
            address,
            replies: Replies::new(Dice::new(self.seed, &[14, id]), self.model),
            feeds: BTreeMap::new(),
            opened: 0,
            edge: Edge::default(),
        });
        self.post(0, Event::RelayTick(n));
    }

    fn add_seat(&mut self, n: usize, seed: [u8; 32]) {
        let provider = byte(number(n) % PROVIDERS);
        self.seats.push(Seat {
            viewer: Viewer::default(),
            machine: Player::new(self.base, self.arm.config(self.model), seed),
            address: SocketAddr::from(([10, provider, 2, byte(number(n))], 5_000)),
            feed: None,
            pull: None,
            paths: BTreeMap::new(),
            tried: BTreeMap::new(),
            keys: BTreeMap::new(),
            known: HashSet::new(),
        });
    }

    fn post(&mut self, at: u64, event: Event) {
        self.events += 1;
        self.queue
            .push(Reverse(Queued(at.max(self.now), self.events, event)));
    }

    fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }

    fn wall_s(&self) -> u32 {
        WALL_S + u32::try_from(self.now / 1_000_000).unwrap_or_default()
    }

    fn happen(&mut self, event: Event) {
        let now = self.instant();
        match event {
            Event::Frame => self.frame(),
            Event::Join(n) => {
                let config = self.arm.config(self.model);
                if let Some(seat) = self.seats.get_mut(n) {
                    let mut dice = Dice::new(self.seed, &[15, number(n)]);
                    seat.machine = Player::new(now, config, dice.seed());
                    seat.viewer.joined = true;
                }
                self.post(self.now, Event::PlayerTick(n));
            }
            Event::PlayerTick(n) => {
                self.player(n, |player| player.handle_timeout(now));
                if let Some(seat) = self.seats.get(n) {
                    let next = seat.machine.poll_timeout();
                    let next = next.saturating_duration_since(self.base).as_micros();
                    self.post(
                        u64::try_from(next).unwrap_or(u64::MAX),
                        Event::PlayerTick(n),
                    );
                }
            }
            Event::RelayTick(n) => self.relay_tick(n),
            Event::Look => {
                for seat in self.seats.iter_mut().filter(|seat| seat.viewer.joined) {
                    let stats = seat.machine.stats(now);
                    seat.viewer.look(&stats, self.now, LOOK_US);
                }
                self.post(self.now + LOOK_US, Event::Look);
            }
            Event::ToRelay(n, from, bytes) => self.at_relay(n, from, &bytes),
            Event::ToPlayer(n, from, bytes) => self.at_player(n, from, &bytes),
            Event::PlayerRecord(n, feed, record) => {
                let bytes = float(number(stream::size(&record)));
                if let Some(seat) = self.seats.get_mut(n) {
                    if seat.feed.as_ref().is_some_and(|(id, ..)| *id == feed) {
                        self.figures.cdn_to_players += bytes;
                    }
                    if let Some(pull) = seat.pull.as_mut().filter(|pull| pull.feed == feed) {
                        pull.heard = self.now;
                        self.figures.relay_bytes += bytes;
                    }
                }
                self.player(n, |p| p.handle(now, player::Input::Record(feed, record)));
            }
            Event::PlayerFeedGone(n, feed) => {
                let gone = player::Input::FeedEnded { feed, gone: true };
                self.player(n, |p| p.handle(now, gone));
            }
            Event::RelayRecord(n, substream, opened, record) => {
                let Some(node) = self.nodes.get_mut(n) else {
                    return;
                };
                if node
                    .feeds
                    .get(&substream)
                    .is_none_or(|(id, _)| *id != opened)
                    || !node.nature.is_alive(self.now)
                {
                    return;
                }
                self.figures.cdn_to_relays += float(number(stream::size(&record)));
                let name = feed_name(substream);
                let input = relay::Input::Record(&name, record);
                node.machine.handle(now, input);
                self.drain_relay(n);
            }
            Event::Frames(n, id, records) => {
                let bytes: usize = records.iter().flatten().map(stream::size).sum();
                self.figures.cdn_to_players += float(number(bytes));
                self.player(n, |p| p.handle(now, player::Input::Frames(id, records)));
            }
            Event::Headers(n, records) => {
                self.player(n, |p| p.handle(now, player::Input::Headers(records)));
            }
            Event::Recommend(n, failed) => self.recommend(n, &failed),
            Event::Relays(n, relays) => {
                self.player(n, |p| p.handle(now, player::Input::Relays(relays)));
            }
            Event::Pull(n, feed, step) => self.step(n, feed, step),
            Event::AtEdge(n, opened, at) => self.at_edge(n, opened, at),
        }
    }

    /// The origin has a new frame: it goes to all who have asked.
    fn frame(&mut self) {
        let at = self.stream.make();
        let next = self.stream.next_at();
        self.post(next, Event::Frame);
        let mut posts = Vec::new();
        for (n, seat) in self.seats.iter_mut().enumerate() {
            if let Some((feed, mask, connection)) = &mut seat.feed
                && let Some(record) = self.stream.record(at, *mask)
            {
                let there = connection.send(&self.cdn, self.now, stream::size(&record));
                posts.push((there, Event::PlayerRecord(n, *feed, record)));
            }
        }
        for (n, node) in self.nodes.iter_mut().enumerate() {
            if !node.nature.is_alive(self.now) {
                continue;
            }
            let outage = node.nature.outage(self.now);
            if self.arm == Arm::Single
                && let Some(record) = self.stream.record(at, u64::MAX)
                && let Some((there, opened)) =
                    Self::sent_to_edge(&self.cdn, node, self.now, stream::size(&record))
            {
                let there = there.max(outage.unwrap_or_default());
                posts.push((there, Event::AtEdge(n, opened, at)));
            }
            for (substream, (opened, connection)) in &mut node.feeds {
                let Some(record) = self.stream.record(at, 1 << substream) else {
                    continue;
                };
                let there = connection.send(&self.cdn, self.now, stream::size(&record));
                let there = there.max(outage.unwrap_or_default());
                posts.push((there, Event::RelayRecord(n, *substream, *opened, record)));
            }
        }
        for (there, event) in posts {
            self.post(there, event);
        }
    }

    fn relay_tick(&mut self, n: usize) {
        let (now, wall_s) = (self.instant(), self.wall_s());
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        if self.arm == Arm::Single {
            if node.nature.stale || node.nature.is_alive(self.now) {
                self.edge_tick(n);
                self.post(self.now + 100_000, Event::RelayTick(n));
            }
            return;
        }
        if node.nature.stale || node.nature.is_alive(self.now) {
            node.machine.handle_timeout(now);
            let away = node.nature.outage(self.now).is_some();
            let heartbeat = node.pulse.poll(now, wall_s, &node.machine);
            if let Some(heartbeat) = heartbeat.filter(|_| !away) {
                self.scheduler.handle(now, wall_s, &heartbeat);
            }
            self.drain_relay(n);
            self.post(self.now + 100_000, Event::RelayTick(n));
        }
    }

    /// A datagram of a player is with a relay.
    fn at_relay(&mut self, n: usize, from: usize, bytes: &[u8]) {
        let (now, wall_s) = (self.instant(), self.wall_s());
        let (Some(node), Some(seat)) = (self.nodes.get_mut(n), self.seats.get(from)) else {
            return;
        };
        if !node.nature.is_alive(self.now) || node.nature.outage(self.now).is_some() {
            return;
        }
        if node.nature.full && Kind::of(bytes) == Some(Kind::Subscribe) {
            if let Ok(asked) = Subscribe::read(bytes) {
                let refusal = control::write_refuse(asked.nonce, Reason::Full);
                self.relay_sends(n, from, refusal);
            }
            return;
        }
        let input = relay::Input::Datagram {
            from: seat.address,
            bytes,
            wall_s,
        };
        node.machine.handle(now, input);
        self.drain_relay(n);
    }

    /// A datagram of a relay is with a player.
    fn at_player(&mut self, n: usize, from: usize, bytes: &[u8]) {
        let now = self.instant();
        let Some(address) = self.nodes.get(from).map(|node| node.address) else {
            return;
        };
        if let Some(seat) = self.seats.get_mut(n)
            && matches!(Kind::of(bytes), Some(Kind::Accept | Kind::Challenge))
            && let Some((at, opened)) = seat.tried.get_mut(&from)
            && self.now - *at < USELESS_US
        {
            *opened = true;
        }
        let bare = match self.arm {
            Arm::Central => self.without_chain(n, from, bytes),
            Arm::Cdn | Arm::Single | Arm::Multi | Arm::Paper | Arm::Ours => None,
        };
        let bytes = bare.as_deref().unwrap_or(bytes);
        self.player(n, |p| {
            p.handle(now, player::Input::Datagram(address, bytes));
        });
    }

    /// A packet as it would be if relays did not know what is before a frame.
    fn without_chain(&self, n: usize, from: usize, bytes: &[u8]) -> Option<Vec<u8>> {
        if Kind::of(bytes) != Some(Kind::Data) {
            return None;
        }
        let keys = self.seats.get(n)?.keys.get(&from)?;
        keys.iter().rev().find_map(|keys| {
            let packet = data::read(bytes, keys).ok()?;
            Some(data::write(&packet.head, &[], packet.payload, keys))
        })
    }

    /// Does something with a player, and carries what it says.
    fn player(&mut self, n: usize, act: impl FnOnce(&mut Player)) {
        if let Some(seat) = self.seats.get_mut(n) {
            act(&mut seat.machine);
        }
        while let Some(output) = self
            .seats
            .get_mut(n)
            .and_then(|seat| seat.machine.poll_output())
        {
            self.said(n, output);
        }
    }

    fn said(&mut self, n: usize, output: player::Output) {
        match output {
            player::Output::Send(to, bytes) => self.player_sends(n, to, bytes),
            player::Output::OpenFeed { feed, mask, from } => self.open_feed(n, feed, mask, from),
            player::Output::CloseFeed(feed) => {
                if let Some(seat) = self.seats.get_mut(n) {
                    seat.feed.take_if(|(id, ..)| *id == feed);
                }
                self.close_pull(n, feed);
            }
            player::Output::FetchFrames(id, names) => {
                let found = names
                    .iter()
                    .filter_map(|(dts, crc)| self.stream.find(*dts, *crc));
                let records: Vec<Record> = found
                    .filter_map(|at| self.stream.record(at, u64::MAX))
                    .collect();
                let bytes = records.iter().map(stream::size).sum();
                let (at, there) = self.cdn.fetch(n, self.now, bytes);
                // There is no way around a single source.
                let there = there && self.arm != Arm::Single;
                self.post(at, Event::Frames(n, id, there.then_some(records)));
            }
            player::Output::FetchHeaders(after) => {
                let away = match self.arm {
                    Arm::Paper => true,
                    Arm::Central => self.sequencer.at(self.now).is_some(),
                    Arm::Cdn | Arm::Single | Arm::Multi | Arm::Ours => false,
                };
                let from = self.stream.find(after.header.dts_ms, after.crc);
                let records = from.map(|from| {
                    (from + 1..self.stream.len())
                        .filter_map(|at| self.stream.record(at, 0))
                        .collect()
                });
                let (at, there) = self.cdn.fetch(n, self.now, 2_000);
                let answer = records.filter(|_| there && !away);
                self.post(at, Event::Headers(n, answer));
            }
            player::Output::FetchRelays(failed) => {
                let took = self
                    .scheduler_dice
                    .log_normal(self.model.recommend_ms, self.model.recommend_sigma);
                self.post(self.now + us(took / 1_000.0), Event::Recommend(n, failed));
            }
            player::Output::Begin(_) => {}
            player::Output::Frame(entry, body) => {
                let at = self.stream.number(entry.header.dts_ms, entry.crc);
                if let Some(seat) = self.seats.get_mut(n) {
                    seat.viewer.take(at, &entry, body.len());
                }
            }
        }
    }

    fn open_feed(&mut self, n: usize, feed: u64, mask: u64, from: player::From) {
        if self.arm == Arm::Single {
            self.pull(n, feed, from);
            return;
        }
        let at = match from {
            player::From::Gop => Some(self.stream.gop()),
            player::From::After(entry) => self
                .stream
                .find(entry.header.dts_ms, entry.crc)
                .map(|at| at + 1),
        };
        let Some(at) = at else {
            self.post(self.now + 20_000, Event::PlayerFeedGone(n, feed));
            return;
        };
        let mut connection = self.cdn.connect(n);
        connection.opened(self.now);
        let records = (at..self.stream.len()).filter_map(|at| self.stream.record(at, mask));
        let records: Vec<Record> = [self.stream.start(at)].into_iter().chain(records).collect();
        for record in records {
            let there = connection.send(&self.cdn, self.now, stream::size(&record));
            self.post(there, Event::PlayerRecord(n, feed, record));
        }
        if let Some(seat) = self.seats.get_mut(n) {
            seat.feed = Some((feed, mask, connection));
        }
    }

    fn recommend(&mut self, n: usize, failed: &[u64]) {
        let now = self.instant();
        let Some(seat) = self.seats.get(n) else {
            return;
        };
        self.scheduler.handle_timeout(now);
        let request = scheduler::Request {
            stream: STREAM,
            substreams: self.stream.split.substreams(),
            address: seat.address.ip(),
            region: 0,
            count: MAX_COUNT,
            failed,
        };
        let answer = self.scheduler.recommend(now, &request);
        if self.arm == Arm::Single {
            let relays: Vec<u64> = answer.into_iter().flatten().map(|r| r.relay).collect();
            self.recommended(n, relays.into_iter());
            return;
        }
        let mut merged: Vec<RelayInfo> = Vec::new();
        let longest = answer.iter().map(Vec::len).max().unwrap_or_default();
        for rank in 0..longest {
            for (index, relays) in (0..u32::from(MAX_SUBSTREAMS)).zip(&answer) {
                let Some(relay) = relays.get(rank) else {
                    continue;
                };
                if let Some(known) = merged.iter_mut().find(|known| known.id == relay.relay) {
                    known.mask |= 1 << index;
                    continue;
                }
                self.tickets += 1;
                let key = Key::of_relay(SECRET, relay.relay);
                let ticket = Ticket {
                    stream: STREAM.into(),
                    expires_s: self.wall_s() + 60,
                    max_kbps: 20_000,
                    nonce: self.tickets,
                };
                let ticket = ticket.seal(&key);
                merged.push(RelayInfo {
                    id: relay.relay,
                    address: relay.address,
                    mask: 1 << index,
                    key: key.of_session(&ticket),
                    ticket,
                });
            }
        }
        if self.arm == Arm::Central {
            self.remember_keys(n, &merged);
        }
        self.post(self.now, Event::Relays(n, merged));
    }

    fn remember_keys(&mut self, n: usize, relays: &[RelayInfo]) {
        let Some(seat) = self.seats.get_mut(n) else {
            return;
        };
        for info in relays {
            if seat.known.insert(info.ticket.clone()) {
                let relay = usize::try_from(info.id).unwrap_or_default();
                let keys = seat.keys.entry(relay).or_default();
                keys.push(Keys::new(&info.key));
            }
        }
    }

    fn path(&mut self, relay: usize, player: usize) -> Option<&mut Path> {
        let (seed, model) = (self.seed, self.model);
        let slow = self.nodes.get(relay)?.nature.slow;
        let seat = self.seats.get_mut(player)?;
        let near = number(relay) % PROVIDERS == number(player) % PROVIDERS;
        let (relay_id, player_id) = (number(relay), number(player));
        let path = seat
            .paths
            .entry(relay)
            .or_insert_with(|| Path::new(seed, relay_id, player_id, near, slow, model));
        Some(path)
    }

    fn player_sends(&mut self, n: usize, to: SocketAddr, bytes: Vec<u8>) {
        let Some(relay) = self.nodes.iter().position(|node| node.address == to) else {
            return;
        };
        let now = self.now;
        let kind = Kind::of(&bytes);
        if kind == Some(Kind::Subscribe)
            && let Some(seat) = self.seats.get_mut(n)
        {
            seat.tried.entry(relay).or_insert((now, false));
        }
        let at = self.path(relay, n).and_then(|path| path.up(now));
        let Some(mut at) = at else {
            return;
        };
        if kind == Some(Kind::Nack)
            && let Some(node) = self.nodes.get_mut(relay)
        {
            at += node.replies.draw_us();
        }
        self.post(at, Event::ToRelay(relay, n, bytes));
    }

    fn drain_relay(&mut self, n: usize) {
        while let Some(output) = self
            .nodes
            .get_mut(n)
            .and_then(|node| node.machine.poll_output())
        {
            match output {
                relay::Output::Send(to, bytes) => {
                    let player = self.seats.iter().position(|seat| seat.address == to);
                    if let Some(player) = player {
                        self.relay_sends(n, player, bytes);
                    }
                }
                relay::Output::OpenFeed(name) => {
                    let mut connection = self.cdn.connect(n);
                    connection.opened(self.now);
                    let start = self.stream.start(self.stream.len());
                    let there = connection.send(&self.cdn, self.now, stream::size(&start));
                    let Some(node) = self.nodes.get_mut(n) else {
                        return;
                    };
                    node.opened += 1;
                    let opened = node.opened;
                    node.feeds.insert(name.substream, (opened, connection));
                    self.post(there, Event::RelayRecord(n, name.substream, opened, start));
                }
                relay::Output::CloseFeed(name) => {
                    if let Some(node) = self.nodes.get_mut(n) {
                        node.feeds.remove(&name.substream);
                    }
                }
            }
        }
    }

    fn relay_sends(&mut self, n: usize, to: usize, bytes: Vec<u8>) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        if node.nature.outage(now).is_some() {
            return;
        }
        let congestion = node.nature.congestion_us(now);
        let Some(left) = node.nature.send(now, bytes.len()) else {
            return;
        };
        let waits = left - now;
        let arrives = self
            .path(n, to)
            .and_then(|path| path.down(now, waits + congestion));
        if let Some(at) = arrives {
            self.post(at, Event::ToPlayer(to, n, bytes));
        }
    }
}

fn feed_name(substream: u8) -> FeedName {
    FeedName {
        stream: STREAM.into(),
        substream,
    }
}
