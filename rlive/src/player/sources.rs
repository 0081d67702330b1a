//! Where each substream comes from.
//!
//! A substream comes from the *origin* until a relay delivers it: the relay is asked (*trying*), and once a whole frame
//! has come from it whose place is known, the substream is the *relay's*. The origin's feed goes on until it has passed
//! that frame, so that nothing is lost in between, and little comes twice. A relay that is silent, refuses or lies is left, its substream comes from the origin
//! again, and another relay is asked after a pause that doubles; the one that failed is not asked for [`BLACKLISTED`].
//!
//! The feed has all substreams that no relay delivers, and all of them while the buffer runs low (*fallback*).

use std::time::{Duration, Instant};

use media::substream::{Entry, Split};
use rand::RngCore as _;

use super::link::{Link, Over, RelayInfo};
use super::{From, MAX_RELAYS, Output, Player};

/// Who falls back again within this time has trusted relays too early.
const RELAPSE: Duration = Duration::from_secs(60);
/// The feed is made smaller after this, so that substreams which change hands together cost one request.
const SETTLE: Duration = Duration::from_millis(150);
/// The feed is not waited for longer than this to pass the first frame of a relay.
const HANDOVER: Duration = Duration::from_secs(1);
/// A relay that has failed is not asked for so long, twice as long each time.
const BLACKLISTED: Duration = Duration::from_secs(60);
/// A relay that is full or leaving is not asked for so long.
const BUSY: Duration = Duration::from_secs(10);
/// The first pause after a relay has failed; it doubles up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// A relay that takes us on but delivers nothing for so long is left.
const TRYING: Duration = Duration::from_secs(4);
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
    Trying { link: u64, since: Instant },
    Relay(u64),
}

impl Source {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Trying { .. } => "trying",
            Self::Relay(_) => "relay",
        }
    }
}

#[derive(Debug)]
pub(super) struct Substream {
    pub(super) source: Source,
    again_at: Instant,
    failures: u32,
    /// The first frame that the relay has brought, until the feed has passed it.
    handover: Option<(Entry, Instant)>,
    pub(super) rate: Rate,
}

impl Substream {
    /// Whether the origin has to send it, but for fallback.
    fn needs_origin(&self) -> bool {
        !matches!(self.source, Source::Relay(_)) || self.handover.is_some()
    }

    pub(super) fn link(&self) -> Option<u64> {
        match self.source {
            Source::Origin => None,
            Source::Trying { link, .. } | Source::Relay(link) => Some(link),
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
            again_at: now,
            failures: 0,
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
        self.ask_relays(now);
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
        if let Some(substream) = self.substreams.get_mut(index)
            && matches!(substream.source, Source::Trying { link: tried, .. } if tried == link)
            && linked
        {
            substream.source = Source::Relay(link);
            substream.failures = 0;
            substream.again_at = now;
            substream.handover = (!known).then_some((*entry, now));
        }
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
        let pause = PAUSE * 2_u32.pow(substream.failures.min(6));
        substream.failures += 1;
        substream.again_at = now + pause.min(MAX_PAUSE);
        substream.source = Source::Origin;
        substream.handover = None;
        let Some(mut link) = link.and_then(|id| self.links.remove(&id)) else {
            return;
        };
        self.stats.lost_packets += link.lost_total;
        let busy = matches!(why, Some(Over::Told(_)) | None);
        let found = self
            .relays
            .iter_mut()
            .find(|c| c.info.address == link.relay.address);
        if let Some(candidate) = found {
            let pause = match busy {
                true => BUSY,
                false => BLACKLISTED * 2_u32.pow(candidate.failures.min(6)),
            };
            candidate.failures += u32::from(!busy);
            let id = candidate.info.id;
            if !busy && !self.failed.contains(&id) && self.failed.len() < MAX_RELAYS {
                self.failed.push(id);
            }
            candidate.not_before = now + pause;
        }
        link.leave();
        let to = link.relay.address;
        let farewell = link.take_outbox().into_iter();
        self.outputs
            .extend(farewell.map(|bytes| Output::Send(to, bytes)));
    }

    pub(super) fn drop_links(&mut self) {
        for link in self.links.values_mut() {
            link.leave();
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

    /// Everything from the origin.
    pub(super) fn fall_back(&mut self, now: Instant) {
        if self.fallback.is_none() {
            self.stats.fallbacks += 1;
            let (count, until) = self.relapses;
            self.relapses.0 = if until > now { (count + 1).min(3) } else { 0 };
        }
        self.fallback = Some(now);
    }

    fn watch_buffer(&mut self, now: Instant) {
        // Before the first frame everything comes from the origin anyway.
        if self.stats.frames == 0 || self.links.is_empty() && self.fallback.is_none() {
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
            let over = match substream.source {
                Source::Origin => None,
                Source::Trying { since, .. } if now.saturating_duration_since(since) >= TRYING => {
                    Some(Over::Silent)
                }
                Source::Trying { link, .. } | Source::Relay(link) => {
                    self.links.get(&link).map_or(Some(Over::Silent), Link::over)
                }
            };
            if let Some(over) = over {
                tracing::debug!(substream = index, ?over, "a relay is left");
                self.move_to_origin(now, index, Some(over));
            }
        }
    }

    /// Asks a relay for each substream that comes from the origin.
    fn ask_relays(&mut self, now: Instant) {
        let early = now.saturating_duration_since(self.started) < self.config.relay_after;
        if early || !self.order.chain.is_seeded() {
            return;
        }
        let age = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        for index in 0..self.split.substreams() {
            let Some(substream) = self.substreams.get(usize::from(index)) else {
                return;
            };
            if substream.source != Source::Origin || substream.again_at > now {
                continue;
            }
            let fresh = age(self.relays_known).is_some_and(|age| age < TICKET_AGE);
            let best = match fresh {
                true => self.best_candidate(now, index),
                false => None,
            };
            let Some(info) = best else {
                if age(self.relays_asked).is_none_or(|age| age >= ASK_RELAYS) {
                    self.relays_asked = Some(now);
                    let failed = std::mem::take(&mut self.failed);
                    self.outputs.push_back(Output::FetchRelays(failed));
                }
                return;
            };
            let (id, nonce) = (self.new_id(), self.random.next_u64());
            self.links.insert(id, Link::new(now, info, index, nonce));
            if let Some(substream) = self.substreams.get_mut(usize::from(index)) {
                substream.source = Source::Trying {
                    link: id,
                    since: now,
                };
            }
        }
    }

    /// A relay that is recommended for the substream, if there is one; of those the one used least, of those the first.
    fn best_candidate(&self, now: Instant, substream: u8) -> Option<RelayInfo> {
        let rank = |candidate: &&Candidate| {
            let of = |link: &&Link| link.relay.address == candidate.info.address;
            let used = self.links.values().filter(of).count();
            (candidate.info.mask & (1 << substream) == 0, used)
        };
        let free = self.relays.iter().filter(|c| c.not_before <= now);
        free.min_by_key(rank).map(|c| c.info.clone())
    }

    /// What the origin has to send.
    fn needed(&self) -> u64 {
        if self.fallback.is_some() || !self.order.chain.is_seeded() {
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
