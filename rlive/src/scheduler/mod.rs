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
mod shell;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use media::substream::MAX_SUBSTREAMS;
use media::ticket::Key;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::wire::advice::{Advice, Others};
use crate::wire::heartbeat::{Heartbeat, MAX_SERVED, stream_tag};
use index::{Index, Place};

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

#[derive(Debug)]
struct Relay {
    address: SocketAddr,
    region: u32,
    heard: Instant,
    stamp: (u32, u32),
    load: f32,
    sessions: u16,
    used_kbps: u32,
    capacity_kbps: u32,
    expansion: u8,
    /// What one more session adds to the load.
    session: f32,
    /// Sessions promised since the last heartbeat.
    promised: f32,
    leaving: bool,
    served: Vec<(Instant, (u32, u8))>,
    failures: f32,
    failed_at: Option<Instant>,
    reporters: Vec<(Instant, u64)>,
    blocks: u32,
    blocked_until: Option<Instant>,
}

impl Relay {
    fn load(&self) -> f32 {
        self.load + self.promised * self.session
    }

    fn has_room(&self) -> bool {
        !self.leaving && self.load() < 1.0
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        let served = self.served.iter().map(|(_, served)| *served);
        Place::of(served, network_of(self.address.ip()), self.region)
    }

    fn serves(&self, what: (u32, u8)) -> bool {
        self.served.iter().any(|(_, served)| *served == what)
    }

    /// Failures that still count.
    fn failures(&self, now: Instant) -> f32 {
        let age = self
            .failed_at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.failures * 0.5_f32.powf(age.as_secs_f32() / FORGIVEN.as_secs_f32())
    }
}

/// The state machine of a scheduler.
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    secret: Vec<u8>,
    revoked: HashSet<u64>,
    random: StdRng,
    relays: HashMap<u64, Relay>,
    index: Index,
    /// When each relay is looked at next: one entry for each.
    watch: BinaryHeap<Reverse<(Instant, u64)>>,
    /// The answer to the newest heartbeat, if it has asked.
    advice: Option<Vec<u8>>,
    counters: Counters,
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
            relays: HashMap::new(),
            index: Index::default(),
            watch: BinaryHeap::new(),
            advice: None,
            counters: Counters::default(),
        }
    }

    /// Takes a datagram; `wall_s` is the time in seconds since 1970.
    pub fn handle(&mut self, now: Instant, wall_s: u32, datagram: &[u8]) {
        let Some(heartbeat) = self.read(wall_s, datagram) else {
            self.counters.bad_heartbeats += 1;
            return;
        };
        let known = self.relays.contains_key(&heartbeat.relay);
        if !known && (self.relays.len() >= self.config.max_relays || heartbeat.leaving) {
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
        let others = heartbeat.served.iter().map(|served| {
            let [_, _, place, ..] = Place::levels((served.stream, served.substream), 0, 0);
            let members = self.index.members(&place);
            let from = match members.len() {
                0 => 0,
                many => self.random.random_range(0..many),
            };
            let sample = members.iter().cycle().skip(from).take(members.len());
            let loads = sample.filter(|id| **id != heartbeat.relay).take(SAMPLE);
            let loads: Vec<f32> = loads
                .filter_map(|id| Some(self.relays.get(id)?.load()))
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
        while let Some(Reverse((at, id))) = self.watch.peek().copied()
            && at <= now
        {
            self.watch.pop();
            let Some(relay) = self.relays.get(&id) else {
                continue;
            };
            let until = relay.heard + LIFETIME;
            if until > now {
                self.watch.push(Reverse((until, id)));
            } else {
                self.delist(id);
                self.relays.remove(&id);
            }
        }
    }

    /// When [`Scheduler::handle_timeout`] must be called, if ever.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.watch.peek().map(|Reverse((at, _))| *at)
    }

    /// What has happened, and how many there are.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            relays: self.relays.len(),
            ..self.counters
        }
    }

    /// The busiest relays, at most so many.
    #[must_use]
    pub fn overview(&self, now: Instant, count: usize) -> Vec<Shown> {
        let mut busiest: Vec<(u16, u64)> = self
            .relays
            .iter()
            .map(|(id, relay)| (relay.sessions, *id))
            .collect();
        let order = |one: &(u16, u64)| (Reverse(one.0), one.1);
        if busiest.len() > count && count > 0 {
            busiest.select_nth_unstable_by_key(count - 1, order);
        }
        busiest.truncate(count);
        busiest.sort_unstable_by_key(order);
        let shown = |(_, id): (u16, u64)| {
            let relay = self.relays.get(&id)?;
            Some(Shown {
                relay: id,
                address: relay.address,
                region: relay.region,
                load: relay.load(),
                sessions: relay.sessions,
                used_kbps: relay.used_kbps,
                capacity_kbps: relay.capacity_kbps,
                expansion: relay.expansion,
                leaving: relay.leaving,
                blocked: relay.blocked_until.is_some_and(|until| until > now),
                silent: now.saturating_duration_since(relay.heard),
                served: relay.served.iter().map(|(_, what)| *what).collect(),
            })
        };
        busiest.into_iter().filter_map(shown).collect()
    }

    /// Relays for each substream of a stream, best first. Fewer than asked for when there are not enough.
    pub fn recommend(&mut self, now: Instant, request: &Request<'_>) -> Vec<Vec<Recommended>> {
        self.counters.requests += 1;
        let failed = request.failed.get(..MAX_FAILED).unwrap_or(request.failed);
        let reporter = network_of(request.address);
        failed.iter().for_each(|id| self.failed(now, *id, reporter));
        let excluded: HashSet<u64> = failed.iter().copied().collect();
        let count = request.count.clamp(1, MAX_COUNT);
        // How often relays are first for a substream already: others fail on their own.
        let mut first: HashMap<u64, u8> = HashMap::new();
        let mut all = Vec::new();
        for substream in 0..request.substreams.min(MAX_SUBSTREAMS) {
            let serves = (stream_tag(request.stream), substream);
            let mut pool = self.pool(now, serves, request, &excluded);
            let taken = |id: &u64| f32::from(first.get(id).copied().unwrap_or_default());
            let score = |id: &u64| self.score(now, *id, serves, request) / (1.0 + taken(id));
            pool.sort_by(|a, b| score(b).total_cmp(&score(a)));
            pool.truncate(count);
            self.explore(now, &mut pool, &excluded);
            if let Some(best) = pool.first() {
                *first.entry(*best).or_default() += 1;
                if let Some(relay) = self.relays.get_mut(best) {
                    relay.promised += 1.0;
                }
            }
            all.push(
                pool.iter()
                    .filter_map(|id| self.named(*id, serves))
                    .collect(),
            );
        }
        all
    }

    fn read(&self, wall_s: u32, datagram: &[u8]) -> Option<Heartbeat> {
        let id = Heartbeat::relay_of(datagram)?;
        let key = Heartbeat::key(&Key::of_relay(&self.secret, id));
        let heartbeat = Heartbeat::read(datagram, &key).ok()?;
        let fresh = heartbeat.wall_s.abs_diff(wall_s) <= CLOCK_S;
        let stamp = (heartbeat.wall_s, heartbeat.seq);
        let new = self.relays.get(&id).is_none_or(|known| known.stamp < stamp);
        (fresh && new && !self.revoked.contains(&id)).then_some(heartbeat)
    }

    fn update(&mut self, now: Instant, heartbeat: &Heartbeat) {
        let id = heartbeat.relay;
        self.delist(id);
        let watch = &mut self.watch;
        let relay = self.relays.entry(id).or_insert_with(|| {
            watch.push(Reverse((now + LIFETIME, id)));
            Relay {
                address: heartbeat.address,
                region: 0,
                heard: now,
                stamp: (0, 0),
                load: 0.0,
                sessions: 0,
                used_kbps: 0,
                capacity_kbps: 0,
                expansion: 0,
                session: 0.0,
                promised: 0.0,
                leaving: false,
                served: Vec::new(),
                failures: 0.0,
                failed_at: None,
                reporters: Vec::new(),
                blocks: 0,
                blocked_until: None,
            }
        });
        relay.address = heartbeat.address;
        relay.region = heartbeat.region;
        relay.heard = now;
        relay.stamp = (heartbeat.wall_s, heartbeat.seq);
        relay.load = heartbeat.load();
        relay.sessions = heartbeat.sessions;
        relay.used_kbps = heartbeat.used_kbps;
        relay.capacity_kbps = heartbeat.capacity_kbps;
        relay.expansion = heartbeat.expansion;
        relay.session = 1.0 / f32::from(heartbeat.max_sessions.max(1));
        relay.promised = 0.0;
        relay.leaving = heartbeat.leaving;
        // One that names fewer than it could has named all.
        let in_turns = heartbeat.served.len() >= MAX_SERVED;
        let named = |what: (u32, u8)| {
            heartbeat
                .served
                .iter()
                .any(|s| (s.stream, s.substream) == what)
        };
        relay.served.retain(|(at, what)| {
            in_turns && now.saturating_duration_since(*at) < TURNS && !named(*what)
        });
        for served in &heartbeat.served {
            let what = (served.stream, served.substream);
            if !relay.serves(what) {
                relay.served.push((now, what));
            }
        }
        let surplus = relay.served.len().saturating_sub(MAX_KNOWN);
        relay.served.drain(..surplus);
        if relay.has_room() {
            for place in relay.places() {
                self.index.insert(place, id);
            }
        }
    }

    fn delist(&mut self, id: u64) {
        if let Some(relay) = self.relays.get(&id) {
            for place in relay.places() {
                self.index.remove(place, id);
            }
        }
    }

    fn is_usable(&self, now: Instant, id: u64) -> bool {
        self.relays.get(&id).is_some_and(|relay| {
            relay.has_room() && relay.blocked_until.is_none_or(|until| until <= now)
        })
    }

    /// Relays to choose from: those of the narrowest sets that together have enough.
    fn pool(
        &mut self,
        now: Instant,
        serves: (u32, u8),
        request: &Request<'_>,
        excluded: &HashSet<u64>,
    ) -> Vec<u64> {
        let enough = (2 * request.count.min(MAX_COUNT)).clamp(4, POOL);
        let mut pool = Vec::with_capacity(POOL);
        for place in Place::levels(serves, network_of(request.address), request.region) {
            // Many draws may be in vain, when most are excluded or in the pool.
            let tries = (4 * self.index.members(&place).len()).min(2 * POOL);
            for _ in 0..tries {
                if pool.len() >= enough {
                    return pool;
                }
                match self.draw(now, &place, excluded, &pool) {
                    Draw::Found(id) => pool.push(id),
                    Draw::InVain => {}
                    Draw::Empty => break,
                }
            }
        }
        pool
    }

    /// Draws two relays of a set, and takes the one that is less loaded.
    fn draw(&mut self, now: Instant, place: &Place, excluded: &HashSet<u64>, pool: &[u64]) -> Draw {
        let members = self.index.members(place);
        if members.is_empty() {
            return Draw::Empty;
        }
        let mut drawn = [None, None];
        for one in &mut drawn {
            let at = self.random.random_range(0..members.len());
            *one = members.get(at).copied();
        }
        let good =
            |id: &u64| !excluded.contains(id) && !pool.contains(id) && self.is_usable(now, *id);
        let load = |id: &u64| self.relays.get(id).map_or(1.0, Relay::load);
        let best = drawn.into_iter().flatten().filter(good);
        match best.min_by(|a, b| load(a).total_cmp(&load(b))) {
            Some(id) => Draw::Found(id),
            None => Draw::InVain,
        }
    }

    /// Gives places but the first to relays at random now and then.
    fn explore(&mut self, now: Instant, pool: &mut [u64], excluded: &HashSet<u64>) {
        for at in 1..pool.len() {
            if !self.random.random_bool(self.config.explore) {
                continue;
            }
            if let Draw::Found(id) = self.draw(now, &Place::default(), excluded, pool)
                && let Some(place) = pool.get_mut(at)
            {
                *place = id;
            }
        }
    }

    /// What a relay is worth to a player, for its price.
    fn score(&self, now: Instant, id: u64, serves: (u32, u8), request: &Request<'_>) -> f32 {
        let Some(relay) = self.relays.get(&id) else {
            return 0.0;
        };
        let weights = &self.config.weights;
        let when = |is: bool, weight: f32| if is { weight } else { 0.0 };
        let near = network_of(relay.address.ip()) == network_of(request.address);
        let around = request.region != 0 && relay.region == request.region;
        // As if nine had been served before.
        let success = 9.0 / (9.0 + relay.failures(now));
        let worth = when(near, weights.network)
            + when(around, weights.region)
            + weights.success * success
            + weights.room * (1.0 - relay.load());
        worth / (weights.price + when(!relay.serves(serves), weights.price_of_origin))
    }

    fn named(&self, id: u64, serves: (u32, u8)) -> Option<Recommended> {
        let relay = self.relays.get(&id)?;
        Some(Recommended {
            relay: id,
            address: relay.address,
            serves: relay.serves(serves),
        })
    }

    /// A player could not use a relay.
    fn failed(&mut self, now: Instant, id: u64, reporter: u64) {
        let Some(relay) = self.relays.get_mut(&id) else {
            return;
        };
        self.counters.reported += 1;
        relay.reporters.retain(|(at, other)| {
            now.saturating_duration_since(*at) < REPORTS && *other != reporter
        });
        relay.reporters.push((now, reporter));
        relay.failures = relay.failures(now) + 1.0;
        relay.failed_at = Some(now);
        if relay.reporters.len() >= REPORTERS {
            relay.blocked_until = Some(now + BLOCKED * 2_u32.pow(relay.blocks.min(6)));
            relay.blocks += 1;
            relay.reporters.clear();
            self.counters.blocked += 1;
        }
    }
}

enum Draw {
    Found(u64),
    /// What was drawn is not to be had.
    InVain,
    /// There is nothing to draw from.
    Empty,
}

/// The network that an address is in: its first 16 bits, or 32 of IPv6. A stand-in for the prefix that is announced by
/// BGP, which a scheduler would need a table for.
fn network_of(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(ip) => u64::from(ip.to_bits() >> 16),
        IpAddr::V6(ip) => {
            let high = u64::try_from(ip.to_bits() >> 96).unwrap_or_default();
            high | (1 << 32)
        }
    }
}

#[cfg(test)]
mod tests;
