//! A scheduler: knows relays by their heartbeats, and recommends some to each player.
//!
//! [`Scheduler`] decides (sans-IO); [`run`] is its shell: heartbeats by UDP, recommendations by HTTP. For each substream a
//! few relays are drawn from the narrowest set that has enough ([`index`]), of two at a time the less loaded one; the best
//! by [`Weights`] are given, and now and then one at random, so that relays that nobody knows get known.
//!
//! Invariants:
//! - Who is full, leaving, silent for [`LIFETIME`] or blocked is not recommended. What has been promised since a relay's
//!   last heartbeat counts as load, so that players who come at once do not all go to the same.
//! - Nothing is kept over a restart: heartbeats bring everything back within [`crate::relay::HEARTBEAT_IDLE`].
//! - A heartbeat counts only with the MAC of the relay it names, once, and when its clock is right within a minute.
//! - A relay is blocked when players in [`REPORTERS`] networks could not use it within a minute; no single one can do that.
//!
//! Bounds: [`Config::max_relays`]; a relay serves at most [`MAX_KNOWN`] substreams that are known of.

mod index;
mod nodes;
mod shell;

use std::cmp::Reverse;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use media::substream::MAX_SUBSTREAMS;
use media::ticket::Key;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::wire::advice::{Advice, Others};
use crate::wire::heartbeat::{Heartbeat, MAX_SERVED, stream_tag};
use index::{Index, Level, Wanted, network_of};
use nodes::{Known, Node, Nodes, Slot, Trouble};

pub use shell::{
    ALL_RELAYS, Answer, Options, Overview, Question, Recommendation, RelayView, ServedView, run,
};

/// A relay is forgotten after this much silence: one heartbeat of an idle one may be lost, and be late.
pub const LIFETIME: Duration = Duration::from_secs(25);
/// Relays recommended for a substream at most.
pub const MAX_COUNT: usize = 10;
/// Relays that one request can say did not work.
pub const MAX_FAILED: usize = 16;
/// How far a relay's clock may be off, in seconds.
const CLOCK_S: u32 = 60;
/// Substreams of one relay that are remembered.
const MAX_KNOWN: usize = 64;
/// A relay that names its substreams in turns has named them all within this time.
const TURNS: Duration = Duration::from_secs(30);
/// A relay is blocked when players in so many networks could not use it within [`REPORTS`].
const REPORTERS: usize = 3;
const REPORTS: Duration = Duration::from_secs(60);
/// How long, the first time; it doubles each time, six times at most.
const BLOCKED: Duration = Duration::from_secs(60);
/// A failure counts half after this.
const FORGIVEN: Duration = Duration::from_secs(600);
/// Relays that are compared for one substream.
const POOL: usize = 24;
/// Relays whose load is averaged for one that asks.
const SAMPLE: usize = 32;

/// What makes a relay good for a player: the paper's S = α₁N + α₂G + α₃R + α₄B (§4.2); it does not give the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// It is in the player's network.
    pub network: f32,
    /// It is in the player's region.
    pub region: f32,
    /// Players could use it.
    pub success: f32,
    /// It has room.
    pub room: f32,
    /// What a relay costs that has the substream; the origin costs 1.
    pub price: f32,
    /// What it costs in addition when it must ask the origin for the substream first.
    pub price_of_origin: f32,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            network: 0.3,
            region: 0.25,
            success: 0.25,
            room: 0.2,
            price: 0.7,
            price_of_origin: 1.0,
        }
    }
}

/// How a scheduler behaves.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Relays known at one time; more are not taken.
    pub max_relays: usize,
    /// How often a place but the first in a recommendation goes to a relay at random.
    pub explore: f64,
    /// What makes a relay good.
    pub weights: Weights,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_relays: 1_000_000,
            explore: 0.1,
            weights: Weights::default(),
        }
    }
}

/// What a player asks.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The stream.
    pub stream: &'a str,
    /// How many substreams it has.
    pub substreams: u8,
    /// Where the player is.
    pub address: IpAddr,
    /// Its region, as [`crate::wire::heartbeat::region_tag`] gives it.
    pub region: u32,
    /// Relays wanted for each substream; [`MAX_COUNT`] at most.
    pub count: usize,
    /// Relays that did not work; the first [`MAX_FAILED`] count.
    pub failed: &'a [u64],
}

/// A relay that is recommended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recommended {
    /// Which one.
    pub relay: u64,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it has the substream already.
    pub serves: bool,
}

/// Counters since the start, and how many there are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Relays known now.
    pub relays: usize,
    /// Heartbeats taken.
    pub heartbeats: u64,
    /// Heartbeats that were malformed, forged, played again, or from a clock that is wrong.
    pub bad_heartbeats: u64,
    /// Heartbeats of relays for which there was no room.
    pub refused: u64,
    /// Requests answered.
    pub requests: u64,
    /// Times that a player said that a relay which is known did not work.
    pub reported: u64,
    /// Times that a relay was blocked.
    pub blocked: u64,
}

/// A relay as its last heartbeat describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Which one.
    pub relay: u64,
    /// Where players reach it.
    pub address: SocketAddr,
    /// Its region's tag.
    pub region: u32,
    /// How full it is, 0 to 1.
    pub load: f32,
    /// Sessions now.
    pub sessions: u16,
    /// What it sends, in kilobits per second.
    pub used_kbps: u32,
    /// What it can send; 0: unknown.
    pub capacity_kbps: u32,
    /// Bytes that it sends for one that it gets, in tenths.
    pub expansion: u8,
    /// It takes nobody any more.
    pub leaving: bool,
    /// Players could not use it; it is not recommended now.
    pub blocked: bool,
    /// How long ago it was heard.
    pub silent: Duration,
    /// Stream's tag and substream, of all that it has.
    pub served: Vec<(u32, u8)>,
}

/// The state machine of a scheduler.
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    secret: Vec<u8>,
    revoked: HashSet<u64>,
    random: StdRng,
    nodes: Nodes,
    index: Index,
    /// When the clock of the nodes was zero.
    began: Option<Instant>,
    /// When something happened last.
    latest: Option<Instant>,
    /// The answer to the newest heartbeat, if it has asked.
    advice: Option<Vec<u8>>,
    counters: Counters,
    /// Members of a set that had to be looked for.
    found: Vec<Slot>,
}

impl Scheduler {
    /// A scheduler that knows nobody. Keys of relays follow from the origin's secret; those that are revoked do not count.
    #[must_use]
    pub fn new(config: Config, secret: Vec<u8>, revoked: HashSet<u64>, seed: [u8; 32]) -> Self {
        Self {
            config,
            secret,
            revoked,
            random: StdRng::from_seed(seed),
            nodes: Nodes::default(),
            index: Index::default(),
            began: None,
            latest: None,
            advice: None,
            counters: Counters::default(),
            found: Vec::new(),
        }
    }

    /// Takes a datagram; `wall_s` is the time in seconds since 1970.
    pub fn handle(&mut self, now: Instant, wall_s: u32, datagram: &[u8]) {
        let Some(heartbeat) = self.read(wall_s, datagram) else {
            self.counters.bad_heartbeats += 1;
            return;
        };
        let known = self.nodes.find(heartbeat.relay).is_some();
        if !known && (self.nodes.len() >= self.config.max_relays || heartbeat.leaving) {
            self.counters.refused += 1;
            return;
        }
        self.counters.heartbeats += 1;
        self.update(now, &heartbeat);
        self.advice = heartbeat.asks.then(|| self.advise(&heartbeat));
    }

    /// The datagram with which the heartbeat that was taken last is to be answered; most are not.
    pub fn take_advice(&mut self) -> Option<Vec<u8>> {
        self.advice.take()
    }

    /// How full others are that have what a relay has.
    fn advise(&mut self, heartbeat: &Heartbeat) -> Vec<u8> {
        let own = self.nodes.find(heartbeat.relay);
        let others = heartbeat.served.iter().map(|served| {
            let members = self.index.serving((served.stream, served.substream));
            let from = match members.len() {
                0 => 0,
                many => self.random.random_range(0..many),
            };
            let sample = members.iter().cycle().skip(from).take(members.len());
            let loads = sample.filter(|slot| Some(**slot) != own).take(SAMPLE);
            let loads: Vec<f32> = loads
                .filter_map(|slot| Some(self.nodes.get(*slot)?.load()))
                .collect();
            let count = u16::try_from(loads.len()).unwrap_or(u16::MAX).max(1);
            Others {
                stream: served.stream,
                substream: served.substream,
                relays: u8::try_from(loads.len()).unwrap_or(u8::MAX),
                load: loads.iter().sum::<f32>() / f32::from(count),
            }
        });
        let advice = Advice {
            relay: heartbeat.relay,
            seq: heartbeat.seq,
            others: others.collect(),
        };
        advice.write(&Heartbeat::key(&Key::of_relay(
            &self.secret,
            heartbeat.relay,
        )))
    }

    /// Lets time pass: forgets who is silent.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now_ms = self.clock_ms(now);
        self.latest = Some(now);
        while let Some(slot) = self.nodes.oldest()
            && let Some(node) = self.nodes.get(slot)
            && silent(node, now_ms) >= LIFETIME
        {
            self.index.delist(slot, &mut self.nodes);
            self.nodes.remove(slot);
        }
    }

    /// When [`Scheduler::handle_timeout`] must be called, if ever.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let node = self.nodes.get(self.nodes.oldest()?)?;
        let silent = silent(node, self.clock_ms(self.latest?));
        Some(self.latest? + LIFETIME.saturating_sub(silent))
    }

    /// What has happened, and how many there are.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            relays: self.nodes.len(),
            ..self.counters
        }
    }

    /// The busiest relays, at most so many.
    #[must_use]
    pub fn overview(&self, now: Instant, count: usize) -> Vec<Shown> {
        let mut busiest: Vec<&Node> = self.nodes.iter().collect();
        let order = |one: &&Node| (Reverse(one.sessions), one.id);
        if busiest.len() > count && count > 0 {
            busiest.select_nth_unstable_by_key(count - 1, order);
        }
        busiest.truncate(count);
        busiest.sort_unstable_by_key(order);
        let now_ms = self.clock_ms(now);
        let shown = |node: &Node| Shown {
            relay: node.id,
            address: node.address(),
            region: node.region,
            load: node.load(),
            sessions: node.sessions,
            used_kbps: node.used_kbps,
            capacity_kbps: node.capacity_kbps,
            expansion: node.expansion,
            leaving: node.leaving,
            blocked: node.is_blocked(now),
            silent: silent(node, now_ms),
            served: node.served.iter().map(Known::what).collect(),
        };
        busiest.into_iter().map(shown).collect()
    }

    /// Relays for each substream of a stream, best first. Fewer than asked for when there are not enough.
    pub fn recommend(&mut self, now: Instant, request: &Request<'_>) -> Vec<Vec<Recommended>> {
        self.counters.requests += 1;
        let failed = request.failed.get(..MAX_FAILED).unwrap_or(request.failed);
        let reporter = network_of(request.address);
        failed.iter().for_each(|id| self.failed(now, *id, reporter));
        let excluded: Vec<Slot> = failed
            .iter()
            .filter_map(|id| self.nodes.find(*id))
            .collect();
        let count = request.count.clamp(1, MAX_COUNT);
        // Who is first for a substream already: others fail on their own.
        let mut first: Vec<Slot> = Vec::new();
        let mut all = Vec::new();
        for substream in 0..request.substreams.min(MAX_SUBSTREAMS) {
            let wanted = Wanted {
                what: (stream_tag(request.stream), substream),
                network: reporter,
                region: request.region,
            };
            let pool = self.pool(now, &wanted, count, &excluded);
            let taken = |slot| first.iter().filter(|other| **other == slot).count();
            let times = |slot| f32::from(u8::try_from(taken(slot)).unwrap_or(u8::MAX));
            let mut scored: Vec<(f32, Slot)> = pool
                .into_iter()
                .map(|slot| (self.score(now, slot, &wanted) / (1.0 + times(slot)), slot))
                .collect();
            scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
            scored.truncate(count);
            let mut pool: Vec<Slot> = scored.into_iter().map(|(_, slot)| slot).collect();
            self.explore(now, &mut pool, &excluded);
            if let Some(best) = pool.first() {
                first.push(*best);
                if let Some(node) = self.nodes.get_mut(*best) {
                    node.promised = node.promised.saturating_add(1);
                }
            }
            all.push(
                pool.iter()
                    .filter_map(|slot| self.named(*slot, wanted.what))
                    .collect(),
            );
        }
        all
    }

    /// Milliseconds since the first heartbeat, modulo 2³².
    fn clock_ms(&self, now: Instant) -> u32 {
        let passed = self.began.map(|began| now.saturating_duration_since(began));
        let passed = passed.unwrap_or_default().as_millis() & 0xffff_ffff;
        u32::try_from(passed).unwrap_or_default()
    }

    fn read(&self, wall_s: u32, datagram: &[u8]) -> Option<Heartbeat> {
        let id = Heartbeat::relay_of(datagram)?;
        let key = Heartbeat::key(&Key::of_relay(&self.secret, id));
        let heartbeat = Heartbeat::read(datagram, &key).ok()?;
        let fresh = heartbeat.wall_s.abs_diff(wall_s) <= CLOCK_S;
        let stamp = (heartbeat.wall_s, heartbeat.seq);
        let known = self.nodes.find(id).and_then(|slot| self.nodes.get(slot));
        let new = known.is_none_or(|known| known.stamp < stamp);
        (fresh && new && !self.revoked.contains(&id)).then_some(heartbeat)
    }

    fn update(&mut self, now: Instant, heartbeat: &Heartbeat) {
        self.began.get_or_insert(now);
        self.latest = Some(now);
        let now_ms = self.clock_ms(now);
        let found = self.nodes.find(heartbeat.relay);
        let slot = found.unwrap_or_else(|| {
            let node = Node::new(heartbeat.relay, heartbeat.address);
            self.nodes.insert(node)
        });
        self.nodes.touch(slot);
        let Some(node) = self.nodes.get(slot) else {
            return;
        };
        let served = named_now(node, now_ms, heartbeat);
        let moved = node.region != heartbeat.region || node.address() != heartbeat.address;
        if moved {
            self.index.delist(slot, &mut self.nodes);
        }
        let Some(node) = self.nodes.get_mut(slot) else {
            return;
        };
        node.set_address(heartbeat.address);
        node.region = heartbeat.region;
        node.heard_ms = now_ms;
        node.stamp = (heartbeat.wall_s, heartbeat.seq);
        node.load = heartbeat.load();
        node.sessions = heartbeat.sessions;
        node.used_kbps = heartbeat.used_kbps;
        node.capacity_kbps = heartbeat.capacity_kbps;
        node.expansion = heartbeat.expansion;
        node.max_sessions = heartbeat.max_sessions.max(1);
        node.promised = 0;
        node.leaving = heartbeat.leaving;
        let before = match node.served.len() == served.len() {
            // Most say what they have said before: no memory is asked for.
            true => {
                let before: Vec<Known> = node.served.to_vec();
                node.served.copy_from_slice(&served);
                before
            }
            false => std::mem::replace(&mut node.served, served.into()).into(),
        };
        let (listed, room) = (node.listed, node.has_room());
        match (listed, room) {
            (false, true) => self.index.list(slot, &mut self.nodes),
            (true, true) => self.serves_now(slot, &before),
            (true, false) => {
                self.serves_now(slot, &before);
                self.index.delist(slot, &mut self.nodes);
            }
            (false, false) => {}
        }
    }

    /// The sets of a listed relay follow what it serves.
    fn serves_now(&mut self, slot: Slot, before: &[Known]) {
        let Some(node) = self.nodes.get(slot) else {
            return;
        };
        let had = |what| before.iter().any(|known| known.what() == what);
        let gone = before.iter().map(Known::what);
        let gone: Vec<(u32, u8)> = gone.filter(|what| !node.serves(*what)).collect();
        let new = node.served.iter().map(Known::what);
        let new: Vec<(u32, u8)> = new.filter(|what| !had(*what)).collect();
        for what in gone {
            self.index.serve_not(slot, what, &self.nodes);
        }
        for what in new {
            self.index.serve(slot, what, &self.nodes);
        }
    }

    /// Relays to choose from: those of the narrowest sets that together have enough.
    fn pool(
        &mut self,
        now: Instant,
        wanted: &Wanted,
        count: usize,
        excluded: &[Slot],
    ) -> Vec<Slot> {
        let enough = (2 * count).clamp(4, POOL);
        let mut pool = Vec::with_capacity(POOL);
        for level in Level::ALL {
            let Self {
                index,
                nodes,
                random,
                found,
                ..
            } = self;
            let members = index.members(level, wanted, nodes, found);
            // Many draws may be in vain, when most are excluded or in the pool.
            let tries = (4 * members.len()).min(2 * POOL);
            for _ in 0..tries {
                if pool.len() >= enough {
                    return pool;
                }
                match draw(now, random, nodes, members, (excluded, &pool)) {
                    Draw::Found(slot) => pool.push(slot),
                    Draw::InVain => {}
                    Draw::Empty => break,
                }
            }
        }
        pool
    }

    /// Gives places but the first to relays at random now and then.
    fn explore(&mut self, now: Instant, pool: &mut [Slot], excluded: &[Slot]) {
        let wanted = Wanted {
            what: (0, 0),
            network: 0,
            region: 0,
        };
        for at in 1..pool.len() {
            if !self.random.random_bool(self.config.explore) {
                continue;
            }
            let Self {
                index,
                nodes,
                random,
                found,
                ..
            } = self;
            let members = index.members(Level::Any, &wanted, nodes, found);
            if let Draw::Found(slot) = draw(now, random, nodes, members, (excluded, pool))
                && let Some(place) = pool.get_mut(at)
            {
                *place = slot;
            }
        }
    }

    /// What a relay is worth to a player, for its price.
    fn score(&self, now: Instant, slot: Slot, wanted: &Wanted) -> f32 {
        let Some(node) = self.nodes.get(slot) else {
            return 0.0;
        };
        let weights = &self.config.weights;
        let when = |is: bool, weight: f32| if is { weight } else { 0.0 };
        let near = network_of(node.ip()) == wanted.network;
        let around = wanted.region != 0 && node.region == wanted.region;
        // As if nine had been served before.
        let success = 9.0 / (9.0 + node.failures(now, FORGIVEN));
        let worth = when(near, weights.network)
            + when(around, weights.region)
            + weights.success * success
            + weights.room * (1.0 - node.load());
        worth / (weights.price + when(!node.serves(wanted.what), weights.price_of_origin))
    }

    fn named(&self, slot: Slot, what: (u32, u8)) -> Option<Recommended> {
        let node = self.nodes.get(slot)?;
        Some(Recommended {
            relay: node.id,
            address: node.address(),
            serves: node.serves(what),
        })
    }

    /// A player could not use a relay.
    fn failed(&mut self, now: Instant, id: u64, reporter: u64) {
        let found = self.nodes.find(id);
        let Some(node) = found.and_then(|slot| self.nodes.get_mut(slot)) else {
            return;
        };
        self.counters.reported += 1;
        let failures = node.failures(now, FORGIVEN);
        let trouble = node.trouble.get_or_insert_with(Box::<Trouble>::default);
        trouble.reporters.retain(|(at, other)| {
            now.saturating_duration_since(*at) < REPORTS && *other != reporter
        });
        trouble.reporters.push((now, reporter));
        trouble.failures = failures + 1.0;
        trouble.failed_at = Some(now);
        if trouble.reporters.len() >= REPORTERS {
            trouble.blocked_until = Some(now + BLOCKED * 2_u32.pow(trouble.blocks.min(6)));
            trouble.blocks += 1;
            trouble.reporters.clear();
            self.counters.blocked += 1;
        }
    }
}

/// For how long nothing has been heard of a relay.
fn silent(node: &Node, now_ms: u32) -> Duration {
    Duration::from_millis(u64::from(now_ms.wrapping_sub(node.heard_ms)))
}

/// What a relay serves by what it says now, and said before if it names its substreams in turns.
fn named_now(node: &Node, now_ms: u32, heartbeat: &Heartbeat) -> Vec<Known> {
    // One that names fewer than it could has named all.
    let in_turns = heartbeat.served.len() >= MAX_SERVED;
    let named = |known: &Known| {
        let mut served = heartbeat.served.iter();
        served.any(|s| (s.stream, s.substream) == known.what())
    };
    let before = node.served.iter().filter(|known| {
        let age = now_ms.wrapping_sub(known.named_ms);
        in_turns && Duration::from_millis(age.into()) < TURNS && !named(known)
    });
    let mut all: Vec<Known> = before.copied().collect();
    for served in &heartbeat.served {
        let what = (served.stream, served.substream);
        if !all.iter().any(|known| known.what() == what) {
            all.push(Known {
                named_ms: now_ms,
                stream: served.stream,
                substream: served.substream,
            });
        }
    }
    let surplus = all.len().saturating_sub(MAX_KNOWN);
    all.drain(..surplus);
    all
}

/// Draws two relays of a set, and takes the one that is less loaded; none of those that are excluded or in the pool.
fn draw(
    now: Instant,
    random: &mut StdRng,
    nodes: &Nodes,
    members: &[Slot],
    (excluded, pool): (&[Slot], &[Slot]),
) -> Draw {
    if members.is_empty() {
        return Draw::Empty;
    }
    let mut best: Option<(f32, Slot)> = None;
    for _ in 0..2 {
        let at = random.random_range(0..members.len());
        let Some(slot) = members.get(at).copied() else {
            continue;
        };
        if excluded.contains(&slot) || pool.contains(&slot) {
            continue;
        }
        let node = nodes.get(slot);
        let Some(node) = node.filter(|node| node.has_room() && !node.is_blocked(now)) else {
            continue;
        };
        if best.is_none_or(|(least, _)| node.load() < least) {
            best = Some((node.load(), slot));
        }
    }
    best.map_or(Draw::InVain, |(_, slot)| Draw::Found(slot))
}

enum Draw {
    Found(Slot),
    /// What was drawn is not to be had.
    InVain,
    /// There is nothing to draw from.
    Empty,
}

#[cfg(test)]
mod tests;
