//! Where each substream comes from.
//!
//! A substream comes from the *origin* until a relay delivers it: a few are asked ([`super::attempt`]), and once a whole
//! frame has come from one whose place is known, the substream is that *relay's*. The origin's feed goes on until it has
//! passed that frame, so that nothing is lost in between, and little comes twice. A relay that is silent, refuses or lies is
//! left, its substream comes from the origin again, and others are asked after a pause that doubles; the one that failed is
//! not asked for [`BLACKLISTED`].
//!
//! A relay that works is kept for [`DWELL`]. Then, when it is far, others are measured, and the substream goes to one that
//! is nearer by [`CHANGE`], or not farther by it when the relay suggests to go, without a gap: the old one is left when the new one has delivered.
//!
//! The feed has all substreams that no relay delivers, and all of them while the buffer runs low (*fallback*).

use std::time::{Duration, Instant};

use media::substream::{Entry, Split};
use rand::RngCore as _;

use super::attempt::{Attempt, CHANGE, Purpose, Step};
use super::link::{Link, Over, RelayInfo};
use super::{From, MAX_RELAYS, Output, Player};
use crate::wire::control::Advised;

/// Who falls back again within this time has trusted relays too early.
const RELAPSE: Duration = Duration::from_secs(60);
/// The feed is made smaller after this, so that substreams which change hands together cost one request.
const SETTLE: Duration = Duration::from_millis(150);
/// The feed is not waited for longer than this to pass the first frame of a relay.
const HANDOVER: Duration = Duration::from_secs(1);
/// A relay that has failed is not asked for so long, twice as long each time.
const BLACKLISTED: Duration = Duration::from_secs(60);
/// A relay that has sent what is not the origin's is not asked for so long.
const FORGER: Duration = Duration::from_secs(3_600);
/// A relay that is full or leaving is not asked for so long.
const BUSY: Duration = Duration::from_secs(10);
/// The first pause after a relay has failed; it doubles up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// A relay that takes us on but delivers nothing for so long is left.
const TRYING: Duration = Duration::from_secs(4);
/// A substream stays with a relay that works for so long.
const DWELL: Duration = Duration::from_secs(10);
/// Nobody is looked for who is nearer than a relay that is nearer than this.
const FAR: Duration = Duration::from_millis(60);
/// The origin is asked for nearer relays this often at most; and what was measured is believed for so long.
const MEASURED: Duration = Duration::from_secs(60);
/// Tickets are used when they are younger than this; they are good for a minute.
const TICKET_AGE: Duration = Duration::from_secs(30);
/// The origin is asked for relays this often at most.
const ASK_RELAYS: Duration = Duration::from_secs(2);
/// A feed that has ended is opened again after this.
const FEED_AGAIN: Duration = Duration::from_millis(250);

/// Where a substream comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Origin,
    Relay(u64),
}

#[derive(Debug)]
pub(super) struct Substream {
    pub(super) source: Source,
    /// Relays that are asked for it.
    attempt: Option<Attempt>,
    again_at: Instant,
    failures: u32,
    /// When its relay may be left for a nearer one.
    settled_at: Instant,
    /// The first frame that the relay has brought, until the feed has passed it.
    handover: Option<(Entry, Instant)>,
    pub(super) rate: Rate,
}

impl Substream {
    /// `origin`, `trying` (from the origin, relays are asked) or `relay`.
    pub(super) fn source_name(&self) -> &'static str {
        match (self.source, &self.attempt) {
            (Source::Origin, None) => "origin",
            (Source::Origin, Some(_)) => "trying",
            (Source::Relay(_), _) => "relay",
        }
    }

    /// Whether the origin has to send it, but for fallback.
    fn needs_origin(&self) -> bool {
        self.source == Source::Origin || self.handover.is_some()
    }

    /// Relays are asked again after a pause, which doubles.
    fn pause(&mut self, now: Instant) {
        let pause = PAUSE * 2_u32.pow(self.failures.min(6));
        self.failures += 1;
        self.again_at = now + pause.min(MAX_PAUSE);
    }

    /// The link that relays it, or the one that is to.
    pub(super) fn shown_link(&self) -> Option<u64> {
        self.link()
            .or_else(|| self.attempt.as_ref()?.links().next())
    }

    /// The relay that it comes from.
    pub(super) fn link(&self) -> Option<u64> {
        match self.source {
            Source::Origin => None,
            Source::Relay(link) => Some(link),
        }
    }
}

/// Bytes and frames per second, and what share of the frames had to be asked for.
#[derive(Debug, Default)]
pub(super) struct Rate {
    bytes: f64,
    frames: f64,
    lost: f64,
    /// Of the seconds before.
    pub(super) bytes_per_s: f64,
    pub(super) frames_per_s: f64,
    pub(super) lost_per_s: f64,
    since: Option<Instant>,
}

impl Rate {
    pub(super) fn count(&mut self, bytes: usize) {
        self.bytes += f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.frames += 1.0;
    }

    pub(super) fn count_lost(&mut self) {
        self.lost += 1.0;
    }

    /// Twice a second: half of the old value and half of what was counted.
    fn advance(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since).as_secs_f64();
        if passed < 0.5 {
            return;
        }
        let mix = |old: f64, counted: f64| 0.5 * old + 0.5 * counted / passed;
        *self = Self {
            bytes_per_s: mix(self.bytes_per_s, self.bytes),
            frames_per_s: mix(self.frames_per_s, self.frames),
            lost_per_s: mix(self.lost_per_s, self.lost),
            since: Some(now),
            ..Self::default()
        };
    }
}

/// A relay that may be asked.
#[derive(Debug)]
pub(super) struct Candidate {
    info: RelayInfo,
    failures: u32,
    not_before: Instant,
    /// The round trip to it, and when that was measured.
    rtt: Option<(Instant, Duration)>,
}

/// The origin's feed.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) id: u64,
    pub(super) mask: u64,
    /// Its first record has come.
    pub(super) started: bool,
    /// Since when it brings more than is needed.
    surplus_since: Option<Instant>,
}

/// All substreams of a split, from the origin.
pub(super) fn all(now: Instant, split: Split) -> Vec<Substream> {
    (0..split.substreams())
        .map(|_| Substream {
            source: Source::Origin,
            attempt: None,
            again_at: now,
            failures: 0,
            settled_at: now,
            handover: None,
            rate: Rate::default(),
        })
        .collect()
}

impl Player {
    pub(super) fn choose_sources(&mut self, now: Instant) {
        for substream in &mut self.substreams {
            substream.rate.advance(now);
            let passed = |(_, since): (Entry, Instant)| now.saturating_duration_since(since);
            if self.feed.is_none() || substream.handover.map(passed) >= Some(HANDOVER) {
                substream.handover = None;
            }
        }
        self.watch_buffer(now);
        self.leave_dead_relays(now);
        self.follow_attempts(now);
        self.ask_relays(now);
        if self.has_forgers {
            // Others are to be warned, as soon as it may be asked again.
            self.fetch_relays(now);
        }
        self.look_for_nearer(now);
        self.keep_feed(now);
    }

    /// The origin recommends relays.
    pub(super) fn recommended(&mut self, now: Instant, relays: Vec<RelayInfo>) {
        if relays.is_empty() {
            return;
        }
        self.relays_known = Some(now);
        let before = std::mem::take(&mut self.relays);
        self.relays = relays
            .into_iter()
            .take(MAX_RELAYS)
            .map(|info| {
                let known = before.iter().find(|c| c.info.address == info.address);
                Candidate {
                    failures: known.map_or(0, |known| known.failures),
                    not_before: known.map_or(now, |known| known.not_before),
                    rtt: known.and_then(|known| known.rtt),
                    info,
                }
            })
            .collect();
        // What failed is remembered, although the origin does not recommend it now.
        let gone = before.into_iter().filter(|c| c.not_before > now);
        for candidate in gone {
            let again = self
                .relays
                .iter()
                .any(|c| c.info.address == candidate.info.address);
            if !again && self.relays.len() < MAX_RELAYS {
                self.relays.push(candidate);
            }
        }
    }

    /// A whole frame has come over a link; `known`: it was there already.
    pub(super) fn delivered(&mut self, now: Instant, link: u64, entry: &Entry, known: bool) {
        let index = usize::from(self.split.substream(&entry.header));
        let linked = self.order.is_linked(entry);
        let Some(substream) = self.substreams.get_mut(index) else {
            return;
        };
        let Some(attempt) = substream.attempt.take_if(|tried| linked && tried.has(link)) else {
            return;
        };
        let before = std::mem::replace(&mut substream.source, Source::Relay(link));
        substream.failures = 0;
        substream.again_at = now;
        substream.settled_at = now + DWELL;
        match before {
            Source::Origin => substream.handover = (!known).then_some((*entry, now)),
            Source::Relay(old) => {
                self.stats.switches += 1;
                self.leave(now, old);
            }
        }
        for other in attempt.links().filter(|other| *other != link) {
            self.leave(now, other);
        }
        self.send_all();
    }

    /// The feed has come to this frame.
    pub(super) fn feed_passed(&mut self, entry: &Entry) {
        for substream in &mut self.substreams {
            substream.handover.take_if(|(first, _)| first == entry);
        }
    }

    /// From now on a substream comes from the origin.
    pub(super) fn move_to_origin(&mut self, now: Instant, index: u8, why: Option<Over>) {
        let Some(substream) = self.substreams.get_mut(usize::from(index)) else {
            return;
        };
        let link = substream.link();
        substream.pause(now);
        substream.source = Source::Origin;
        substream.handover = None;
        if let Some(link) = link {
            self.blame(now, link, why);
            self.leave(now, link);
            self.send_all();
        }
    }

    /// A relay has failed, or is not wanted any more: it is not asked for a while.
    fn blame(&mut self, now: Instant, link: u64, why: Option<Over>) {
        let Some(address) = self.links.get(&link).map(|link| link.relay.address) else {
            return;
        };
        let busy = matches!(why, Some(Over::Told(_)) | None);
        let mut relays = self.relays.iter_mut();
        let Some(candidate) = relays.find(|c| c.info.address == address) else {
            return;
        };
        let pause = match busy {
            true => BUSY,
            false if why == Some(Over::Corrupt) => FORGER,
            false => BLACKLISTED * 2_u32.pow(candidate.failures.min(6)),
        };
        candidate.failures += u32::from(!busy);
        candidate.not_before = now + pause;
        let id = candidate.info.id;
        if !busy && !self.failed.contains(&id) && self.failed.len() < MAX_RELAYS {
            self.failed.push(id);
        }
    }

    /// Ends the session of a link, if it has one.
    fn leave(&mut self, now: Instant, link: u64) {
        if let Some(link) = self.links.get_mut(&link) {
            link.leave(now);
        }
    }

    /// Forgets links that are over and that no substream uses.
    pub(super) fn forget_links(&mut self) {
        let used = |id: u64| {
            let mut substreams = self.substreams.iter();
            substreams
                .any(|s| s.link() == Some(id) || s.attempt.as_ref().is_some_and(|a| a.has(id)))
        };
        let gone = self.links.iter().filter(|(_, link)| link.over().is_some());
        let gone: Vec<u64> = gone.map(|(id, _)| *id).filter(|id| !used(*id)).collect();
        for id in gone {
            if let Some(link) = self.links.remove(&id) {
                self.stats.lost_packets += link.lost_total;
            }
        }
    }

    pub(super) fn drop_links(&mut self, now: Instant) {
        for link in self.links.values_mut() {
            link.leave(now);
        }
        self.send_all();
        self.links.clear();
    }

    pub(super) fn close_feed(&mut self) {
        if let Some(feed) = self.feed.take() {
            self.outputs.push_back(Output::CloseFeed(feed.id));
        }
    }

    pub(super) fn feed_ended(&mut self, now: Instant, id: u64, gone: bool) {
        if self.feed.as_ref().is_none_or(|feed| feed.id != id) {
            return;
        }
        self.feed = None;
        self.feed_again = now + FEED_AGAIN;
        if gone && self.order.chain.is_seeded() {
            self.skip(now);
            self.feed_again = now + FEED_AGAIN;
        }
    }

    /// The origin takes over: the substreams in which something is missing, or all when nothing is known to be. Relays that
    /// had them are left, so that nothing comes twice; the others go on.
    pub(super) fn fall_back(&mut self, now: Instant) {
        if self.fallback.is_none() {
            self.stats.fallbacks += 1;
            let (count, until) = self.relapses;
            self.relapses.0 = if until > now { (count + 1).min(3) } else { 0 };
        }
        self.fallback = Some(now);
        if self.config.literal {
            return;
        }
        let missing = self.missing();
        let moved = match missing {
            0 => self.split.all(),
            _ => missing,
        };
        for index in (0..self.split.substreams()).filter(|index| moved & (1 << index) != 0) {
            let substream = self.substreams.get(usize::from(index));
            if substream.is_some_and(|s| matches!(s.source, Source::Relay(_))) {
                self.move_to_origin(now, index, None);
            }
        }
    }

    /// The substreams in which frames are missing whose place is known, one bit each.
    fn missing(&self) -> u64 {
        let missing = self.order.waiting().filter(|w| !self.order.has(&w.entry));
        let substreams = missing.map(|w| 1 << self.split.substream(&w.entry.header));
        substreams.fold(0, |all, one: u64| all | one)
    }

    fn watch_buffer(&mut self, now: Instant) {
        // Before the first frame everything comes from the origin anyway.
        let relayed = self.substreams.iter().any(|s| s.link().is_some());
        if self.stats.frames == 0 || !relayed && self.fallback.is_none() {
            return;
        }
        let buffered = self.playout.buffered_ms(now);
        let below = |limit: Duration| i128::from(buffered) < limit.as_millis().cast_signed();
        let ran = self.playout.is_running() || self.playout.stalls > 0;
        if ran && below(self.config.fallback) {
            self.fall_back(now);
        } else if let Some(since) = self.fallback {
            if below(self.config.back) {
                self.fallback = Some(now);
            } else if now.saturating_duration_since(since)
                >= self.config.stable * (1 << self.relapses.0)
            {
                self.fallback = None;
                self.relapses.1 = now + RELAPSE;
            }
        }
    }

    fn leave_dead_relays(&mut self, now: Instant) {
        for index in 0..self.split.substreams() {
            let Some(substream) = self.substreams.get(usize::from(index)) else {
                return;
            };
            let Some(id) = substream.link() else {
                continue;
            };
            if let Some(over) = self.links.get(&id).map_or(Some(Over::Silent), Link::over) {
                tracing::debug!(substream = index, ?over, "a relay is left");
                self.move_to_origin(now, index, Some(over));
                self.has_forgers |= over == Over::Corrupt;
            }
        }
    }

    /// Does what the attempts to find relays come to.
    fn follow_attempts(&mut self, now: Instant) {
        for index in 0..self.substreams.len() {
            let Some(substream) = self.substreams.get_mut(index) else {
                return;
            };
            let Some(mut attempt) = substream.attempt.take() else {
                continue;
            };
            for id in attempt.links().collect::<Vec<_>>() {
                self.follow_probe(now, &mut attempt, id);
            }
            let failed = match attempt.step(now) {
                Step::Wait => false,
                Step::Choose(id) => {
                    if let Some(link) = self.links.get_mut(&id) {
                        link.proceed(now);
                    }
                    false
                }
                Step::Failed => true,
            };
            let Some(substream) = self.substreams.get_mut(index) else {
                return;
            };
            if failed {
                substream.settled_at = now + DWELL;
                if substream.source == Source::Origin {
                    substream.pause(now);
                }
                for id in attempt.links().collect::<Vec<_>>() {
                    self.leave(now, id);
                }
            } else {
                substream.attempt = Some(attempt);
            }
        }
        self.send_all();
    }

    fn follow_probe(&mut self, now: Instant, attempt: &mut Attempt, id: u64) {
        let link = self.links.get(&id);
        let over = match link {
            None => Some(Over::Silent),
            Some(link) if link.is_open_since(now) >= Some(TRYING) => Some(Over::Silent),
            Some(link) => link.over(),
        };
        if let Some(over) = over {
            self.blame(now, id, Some(over));
            self.leave(now, id);
            attempt.out(id);
        } else if let Some((rtt, address)) = link.and_then(|l| Some((l.answer()?, l.relay.address)))
        {
            attempt.answered(now, id, rtt);
            attempt.set_in_use(id, self.is_in_use(id));
            let mut relays = self.relays.iter_mut();
            if let Some(candidate) = relays.find(|c| c.info.address == address) {
                candidate.rtt = Some((now, rtt));
            }
        }
    }

    /// Asks relays for each substream that comes from the origin.
    fn ask_relays(&mut self, now: Instant) {
        let early = now.saturating_duration_since(self.started) < self.config.relay_after;
        let low = self.fallback.is_some() && !self.config.literal;
        if early || low || !self.order.chain.is_seeded() {
            return;
        }
        for index in 0..self.split.substreams() {
            let Some(substream) = self.substreams.get(usize::from(index)) else {
                return;
            };
            let busy = substream.attempt.is_some() || substream.again_at > now;
            if substream.source != Source::Origin || busy {
                continue;
            }
            if !self.attempt(now, index, Purpose::Any, None) {
                self.fetch_relays(now);
                return;
            }
        }
    }

    fn fetch_relays(&mut self, now: Instant) {
        let asked = self.relays_asked;
        if asked.is_none_or(|at| now.saturating_duration_since(at) >= ASK_RELAYS) {
            self.relays_asked = Some(now);
            self.has_forgers = false;
            let failed = std::mem::take(&mut self.failed);
            self.outputs.push_back(Output::FetchRelays(failed));
        }
    }

    /// Measures relays that may be nearer than one that is far, or that suggests to go elsewhere.
    fn look_for_nearer(&mut self, now: Instant) {
        if self.fallback.is_some() {
            return;
        }
        for index in 0..self.split.substreams() {
            let Some(substream) = self.substreams.get(usize::from(index)) else {
                return;
            };
            let settled = substream.settled_at <= now;
            let Some(id) = substream.link().filter(|_| substream.attempt.is_none()) else {
                continue;
            };
            let Some(link) = self.links.get(&id) else {
                continue;
            };
            let (rtt, address) = (link.rtt().unwrap_or_default(), link.relay.address);
            let asked = self.relays_asked;
            let lately = asked.is_some_and(|at| now.saturating_duration_since(at) < MEASURED);
            let (purpose, asks) = match link.advised {
                Some(Advised::Leaving) => (Purpose::Any, true),
                _ if !settled => continue,
                Some(Advised::Cost | Advised::Quality) => (Purpose::NotFarther(rtt), true),
                None if rtt > FAR => (Purpose::Nearer(rtt), !lately),
                None => continue,
            };
            if !self.are_relays_fresh(now) {
                if asks {
                    self.fetch_relays(now);
                }
                continue;
            }
            let asked = self.attempt(now, index, purpose, Some(address));
            if let Some(link) = self.links.get_mut(&id)
                && link.advised.take().is_some()
            {
                self.stats.suggestions += 1;
            }
            if !asked && let Some(substream) = self.substreams.get_mut(usize::from(index)) {
                substream.settled_at = now + DWELL;
            }
        }
    }

    fn are_relays_fresh(&self, now: Instant) -> bool {
        let known = self.relays_known;
        known.is_some_and(|at| now.saturating_duration_since(at) < TICKET_AGE)
    }

    /// Asks a few relays at once, but not `current`; false when there is none to ask.
    fn attempt(
        &mut self,
        now: Instant,
        index: u8,
        purpose: Purpose,
        current: Option<std::net::SocketAddr>,
    ) -> bool {
        let candidates = self.candidates(now, index, purpose, current);
        if candidates.is_empty() {
            return false;
        }
        let mut links = Vec::with_capacity(candidates.len());
        for info in candidates {
            let (id, nonce) = (self.new_id(), self.random.next_u64());
            self.links.insert(id, Link::new(now, info, index, nonce));
            links.push(id);
            self.stats.probes += 1;
        }
        if let Some(substream) = self.substreams.get_mut(usize::from(index)) {
            substream.attempt = Some(Attempt::new(now, purpose, links));
        }
        true
    }

    /// For how many substreams a relay is used or asked.
    fn uses(&self, info: &RelayInfo) -> usize {
        let of = |link: &&Link| link.relay.address == info.address && !link.is_leaving();
        self.links.values().filter(of).count()
    }

    /// Whether the relay of a link is used, or chosen, for another substream.
    fn is_in_use(&self, id: u64) -> bool {
        let Some(address) = self.links.get(&id).map(|link| link.relay.address) else {
            return false;
        };
        let mut others = self.links.iter().filter(|(other, _)| **other != id);
        others.any(|(_, link)| link.relay.address == address && link.is_wanted())
    }

    /// Relays to ask for a substream: those that are recommended for it, or any when none is; of those the ones used least,
    /// of those the first. Known to be too far: left out.
    fn candidates(
        &self,
        now: Instant,
        substream: u8,
        purpose: Purpose,
        current: Option<std::net::SocketAddr>,
    ) -> Vec<RelayInfo> {
        if !self.are_relays_fresh(now) {
            return Vec::new();
        }
        let near = |c: &Candidate| match (purpose, c.rtt) {
            (Purpose::Nearer(than), Some((at, rtt))) => {
                now.saturating_duration_since(at) >= MEASURED || rtt + CHANGE < than
            }
            _ => true,
        };
        let usable =
            |c: &&Candidate| c.not_before <= now && Some(c.info.address) != current && near(c);
        let meant = |c: &&Candidate| c.info.mask & (1 << substream) != 0;
        let mut found: Vec<&Candidate> = self.relays.iter().filter(usable).collect();
        if found.iter().any(meant) {
            found.retain(meant);
        }
        found.sort_by_key(|c| self.uses(&c.info));
        let found = found.into_iter().take(self.config.probes);
        found.map(|c| c.info.clone()).collect()
    }

    /// What the origin has to send.
    fn needed(&self) -> u64 {
        let everything = self.fallback.is_some() && self.config.literal;
        if everything || !self.order.chain.is_seeded() {
            return self.split.all();
        }
        (0_u8..)
            .zip(&self.substreams)
            .filter(|(_, substream)| substream.needs_origin())
            .map(|(index, _)| 1 << index)
            .sum()
    }

    fn keep_feed(&mut self, now: Instant) {
        let needed = self.needed();
        match &mut self.feed {
            None => {
                if needed != 0 && self.feed_again <= now {
                    self.open_feed(needed);
                }
            }
            Some(feed) if needed & !feed.mask != 0 => {
                self.close_feed();
                self.open_feed(needed);
            }
            Some(feed) if needed == feed.mask => feed.surplus_since = None,
            Some(feed) => {
                let since = *feed.surplus_since.get_or_insert(now);
                if now.saturating_duration_since(since) >= SETTLE {
                    self.close_feed();
                    if needed != 0 {
                        self.open_feed(needed);
                    }
                }
            }
        }
    }

    fn open_feed(&mut self, mask: u64) {
        let id = self.new_id();
        // Before the split is known: everything.
        let mask = if self.epoch.is_some() { mask } else { u64::MAX };
        let anchor = self.order.anchor().filter(|_| self.order.chain.is_seeded());
        self.feed = Some(Feed {
            id,
            mask,
            started: false,
            surplus_since: None,
        });
        self.outputs.push_back(Output::OpenFeed {
            feed: id,
            mask,
            from: anchor.map_or(From::Gop, From::After),
        });
    }
}
