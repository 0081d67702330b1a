//! What is missing is got from where it pays.
//!
//! A frame is *lost* when its place is known, it is not there, and either something of its substream has come that was
//! sent after it, or it is overdue. Every [`super::TICK`] the lost frames that nobody has been asked for, or whose answer
//! is overdue, go through [`crate::recovery::decide`].

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use media::flv::TagKind;
use media::substream::feed::Record;
use media::substream::{Entry, PACKET_PAYLOAD_BYTES};

use super::sources::Source;
use super::{HOLE, Output, Player};
use crate::recovery::{self, Action, Lost, Moving};
use crate::wire::control::{MAX_NACKS, Missing};

/// Requests for frames at one time.
pub(super) const MAX_REQUESTS: usize = 16;
/// Lost frames that are looked at in one go.
const MAX_LOST: usize = 256;
/// Frames in one request to the origin.
const MAX_FRAMES: usize = 64;
/// Packets that have overtaken others on the way come within this time.
const REORDERING: Duration = Duration::from_millis(10);
/// A frame whose relay has sent nothing since is overdue after this, or after two retransmission times.
const OVERDUE: Duration = Duration::from_millis(120);
/// How long the origin may take with frames at most before they are asked for again.
const ORIGIN_TIMEOUT: Duration = Duration::from_millis(1_000);
/// And at least: who is near asks not twice for a hiccup.
const ORIGIN_PATIENCE: Duration = Duration::from_millis(100);
/// Packets are asked of a relay this often; then the origin is. A relay answers twice ([`crate::relay::MAX_ANSWERS`]); the
/// third time is for a question that was lost.
const MAX_TRIES: u32 = 3;
/// A frame that is overdue for the playhead is waited for all the same: it is judged as if there were this much time.
const GRACE: Duration = Duration::from_millis(300);
/// A frame that is late, but not known to be lost, is waited for until this much time is left at least: enough for two
/// requests to the origin, before the buffer is so low that its substream is moved.
const LEAST_LEFT: Duration = Duration::from_millis(500);
const MOST_LEFT: Duration = Duration::from_millis(800);
/// For how long moving a substream is paid.
const HORIZON_S: f64 = 5.0;
/// The least time between two requests for headers.
const HEADERS_AGAIN: Duration = Duration::from_millis(300);

/// What is lost with a frame, in frames: a picture that others are made from, a keyframe, sound.
const RISK_PICTURE: f64 = 1.0;
const RISK_KEYFRAME: f64 = 8.0;
const RISK_SOUND: f64 = 2.0;

/// A frame that has been missed.
#[derive(Debug)]
pub(super) struct Want {
    suspect_since: Instant,
    /// When it may be asked for again.
    until: Option<Instant>,
    /// Packets that were asked of the relay last.
    packets: usize,
    tries: u32,
    /// It counts among the losses of its substream.
    counted: bool,
}

/// A request for frames.
#[derive(Debug)]
pub(super) struct Request {
    at: Instant,
    frames: HashSet<Entry>,
}

impl Player {
    pub(super) fn repair(&mut self, now: Instant) {
        let late =
            |request: &Request| now.saturating_duration_since(request.at) >= 2 * ORIGIN_TIMEOUT;
        self.requests.retain(|_, request| !late(request));
        let frames = self.lost(now);
        if frames.is_empty() {
            return;
        }
        let lost = frames
            .iter()
            .map(|(f, passed)| self.describe(now, f, *passed));
        let lost: Vec<Lost> = lost.collect();
        let frames: Vec<Entry> = frames.into_iter().map(|(entry, _)| entry).collect();
        let plan = recovery::decide(&lost, &self.moving(), &self.config.prices);
        self.carry_out(now, &frames, &plan.actions);
    }

    /// Lost frames that nobody has been asked for, or in vain; whether something has come that was sent after each.
    fn lost(&mut self, now: Instant) -> Vec<(Entry, bool)> {
        let mut passed = vec![false; self.substreams.len()];
        let mut suspects = Vec::new();
        // From the newest on: what has come of a substream was sent after all that stands before it.
        for waiting in self.order.waiting().rev() {
            let entry = waiting.entry;
            let index = usize::from(self.split.substream(&entry.header));
            let Some(passed) = passed.get_mut(index) else {
                continue;
            };
            if self.order.has(&entry) {
                *passed = true;
                continue;
            }
            suspects.push((waiting.linked_at, entry, *passed));
            *passed |= self.assembly.has_begun(&entry);
        }
        let waits_until = self.waits_until();
        let mut lost = Vec::new();
        for (linked_at, entry, passed) in suspects.into_iter().rev() {
            if lost.len() >= MAX_LOST {
                break;
            }
            let left = self.playout.left(now, entry.header.dts_ms);
            let may_come = !passed && left > waits_until;
            if self.is_lost(now, linked_at, &entry, passed, may_come) {
                lost.push((entry, passed));
            }
        }
        lost
    }

    /// Late frames of relays are waited for as long as there is more time left than this.
    fn waits_until(&self) -> Duration {
        match self.playout.is_running() && !self.config.literal {
            true => (2 * self.deadlines.patience()).clamp(LEAST_LEFT, MOST_LEFT),
            false => Duration::MAX,
        }
    }

    /// `passed`: something has come that was sent after the frame. `may_come`: it is too early to worry.
    fn is_lost(
        &mut self,
        now: Instant,
        linked_at: Instant,
        entry: &Entry,
        passed: bool,
        may_come: bool,
    ) -> bool {
        let index = self.split.substream(&entry.header);
        let Some(substream) = self.substreams.get_mut(usize::from(index)) else {
            return false;
        };
        let link = substream.link().and_then(|id| self.links.get_mut(&id));
        let rto = link.as_ref().map_or(OVERDUE, |link| link.rto());
        let age = now.saturating_duration_since(linked_at);
        let fed = self
            .feed
            .as_ref()
            .is_some_and(|feed| feed.mask & (1 << index) != 0);
        let overdue = match fed {
            // It is on its way, and TCP sees to it.
            true => age >= 2 * ORIGIN_TIMEOUT,
            false => age >= OVERDUE.max(2 * rto) && !(may_come && link.is_some()),
        };
        let known = self.wants.get_mut(entry);
        if !(overdue || passed && !fed) && known.is_none() {
            return false;
        }
        let want = match known {
            Some(want) => want,
            None => self.wants.entry(*entry).or_insert(Want {
                suspect_since: now,
                until: None,
                packets: 0,
                tries: 0,
                counted: false,
            }),
        };
        let lost = match want.until {
            Some(until) => until <= now,
            None => overdue || now.saturating_duration_since(want.suspect_since) >= REORDERING,
        };
        if lost {
            // Asked in vain.
            let failed = std::mem::take(&mut want.packets);
            if let Some(link) = link {
                (0..failed).for_each(|_| link.delivery.observe(false));
            }
            if !std::mem::replace(&mut want.counted, true) {
                substream.rate.count_lost();
            }
        }
        lost
    }

    fn describe(&self, now: Instant, entry: &Entry, passed: bool) -> Lost {
        let substream = self.split.substream(&entry.header);
        let left = self.playout.left(now, entry.header.dts_ms);
        let bytes = f64::from(entry.header.size);
        let missing = self.assembly.missing(entry).len();
        let tries = self.wants.get(entry).map_or(0, |want| want.tries);
        let link = self
            .substreams
            .get(usize::from(substream))
            .filter(|substream| matches!(substream.source, Source::Relay(_)))
            .and_then(|substream| self.links.get(&substream.link()?))
            .filter(|link| link.is_open() && tries < MAX_TRIES)
            // What a relay sends again would not overtake what it has not sent yet.
            .filter(|_| passed || self.config.literal);
        let part = f64::from(u32::try_from(PACKET_PAYLOAD_BYTES).unwrap_or_default());
        let packets = f64::from(u32::try_from(missing).unwrap_or_default());
        let kind = entry.header.kind;
        Lost {
            substream,
            risk: match kind.tag() {
                TagKind::Video if kind.is_key() || kind.is_config() => RISK_KEYFRAME,
                TagKind::Video => RISK_PICTURE,
                TagKind::Audio | TagKind::Script => RISK_SOUND,
            },
            late_from_relay: link.map(|link| {
                link.delivery.late(
                    left,
                    link.answers.patience(&self.answers, link.rto()),
                    missing,
                )
            }),
            late_from_origin: self.deadlines.late(left.max(GRACE)),
            missing_bytes: (packets * part).min(bytes),
            bytes,
        }
    }

    /// What moving costs beyond staying: the difference of the prices of its bytes over the horizon, less what its losses
    /// would cost if they went on.
    fn moving(&self) -> Moving {
        let prices = &self.config.prices;
        let mut stream = prices.request;
        let substreams = self
            .substreams
            .iter()
            .map(|substream| match substream.source {
                // It comes from there already.
                Source::Origin => f64::INFINITY,
                Source::Relay(_) => {
                    let rate = &substream.rate;
                    let share = rate.lost_per_s / rate.frames_per_s.max(rate.lost_per_s).max(1.0);
                    let dearer = rate.bytes_per_s * (1.0 - prices.relay_byte);
                    let losses = rate.lost_per_s * prices.request + share * rate.bytes_per_s;
                    let price = (HORIZON_S * (dearer - losses)).max(prices.request);
                    stream += price;
                    price
                }
            })
            .collect();
        Moving { substreams, stream }
    }

    fn carry_out(&mut self, now: Instant, frames: &[Entry], actions: &[Action]) {
        let mut fetch = Vec::new();
        let mut moved = BTreeSet::new();
        let mut nacks = Vec::new();
        for (entry, action) in frames.iter().zip(actions) {
            let substream = self.split.substream(&entry.header);
            match action {
                Action::GiveUp => {}
                Action::Packets => nacks.push((substream, *entry)),
                Action::Frame => fetch.push(*entry),
                Action::Substream => drop(moved.insert(substream)),
                Action::Stream if self.config.literal => self.fall_back(now),
                // What has lost nothing may stay where it is.
                Action::Stream => drop(moved.insert(substream)),
            }
        }
        for (substream, entry) in nacks {
            self.ask_relay(now, substream, &entry);
        }
        for substream in moved {
            self.stats.moved_substreams += 1;
            self.move_to_origin(now, substream, None);
        }
        for frames in fetch.chunks(MAX_FRAMES) {
            self.ask_origin(now, frames);
        }
    }

    fn ask_relay(&mut self, now: Instant, substream: u8, entry: &Entry) {
        let missing = self.assembly.missing(entry);
        let left = self.playout.left(now, entry.header.dts_ms);
        let link = self
            .substreams
            .get(usize::from(substream))
            .and_then(|substream| self.links.get_mut(&substream.link()?));
        let (Some(link), Some(want)) = (link, self.wants.get_mut(entry)) else {
            return;
        };
        let asked = nacks(entry, &missing);
        want.packets = missing.len();
        want.tries += 1;
        let patience = link.answers.patience(&self.answers, link.rto());
        let longer = 1.5_f64.powi(want.tries.cast_signed() - 1);
        // The origin must be asked while there is time for it.
        let left = left.saturating_sub(LEAST_LEFT).max(link.rto());
        want.until = Some(now + patience.mul_f64(longer).min(left));
        self.stats.nacked_packets += super::length(missing.len());
        link.answers.ask(now, entry);
        for part in asked.chunks(MAX_NACKS) {
            link.nack(part.to_vec());
        }
    }

    fn ask_origin(&mut self, now: Instant, frames: &[Entry]) {
        if self.requests.len() >= MAX_REQUESTS {
            return;
        }
        let id = self.new_id();
        let patience = self.deadlines.patience();
        let until = now + patience.clamp(ORIGIN_PATIENCE, ORIGIN_TIMEOUT);
        for entry in frames {
            if let Some(want) = self.wants.get_mut(entry) {
                want.until = Some(until);
                want.packets = 0;
            }
        }
        let names = frames.iter().map(|e| (e.header.dts_ms, e.crc)).collect();
        let request = Request {
            at: now,
            frames: frames.iter().copied().collect(),
        };
        self.requests.insert(id, request);
        self.stats.fetched_frames += super::length(frames.len());
        self.outputs.push_back(Output::FetchFrames(id, names));
    }

    /// The origin has answered a request for frames.
    pub(super) fn fetched(&mut self, now: Instant, id: u64, records: Option<Vec<Record>>) {
        let Some(request) = self.requests.remove(&id) else {
            return;
        };
        let took = now.saturating_duration_since(request.at);
        self.deadlines.observe(records.is_some().then_some(took));
        // What is not in the answer may be asked for again now.
        for entry in &request.frames {
            if let Some(want) = self.wants.get_mut(entry) {
                want.until = Some(now + REORDERING);
            }
        }
        for record in records.into_iter().flatten() {
            let Record::Frame(entry, body) = record else {
                continue;
            };
            if request.frames.contains(&entry) {
                self.stats.origin_bytes += super::length(body.len());
                self.arrived(entry, body);
            }
        }
    }

    /// Asks the origin for the names of frames when the relays do not tell them.
    pub(super) fn close_holes(&mut self, now: Instant) {
        let passed = |at: Instant| now.saturating_duration_since(at);
        let stuck = self
            .order
            .chain
            .stuck_since()
            .is_some_and(|at| passed(at) >= HOLE);
        let fed = self.feed.as_ref().is_some_and(|feed| feed.started);
        let asked = self
            .headers_asked
            .is_some_and(|at| passed(at) < HEADERS_AGAIN);
        if !stuck || fed || asked || !self.order.chain.is_seeded() {
            return;
        }
        if let Some(tail) = self.order.chain.tail() {
            self.headers_asked = Some(now);
            self.stats.header_requests += 1;
            self.outputs.push_back(Output::FetchHeaders(tail));
        }
    }

    /// The origin has answered a request for headers.
    pub(super) fn headers(&mut self, now: Instant, records: Option<Vec<Record>>) {
        let (Some(records), Some(tail)) = (records, self.order.chain.tail()) else {
            return;
        };
        let entries = records.into_iter().filter_map(|record| match record {
            Record::Header(entry) | Record::Frame(entry, _) | Record::Signed(entry, ..) => {
                Some(entry)
            }
            Record::Start(_) => None,
        });
        // The end may have moved on since it was asked for; then it is among the headers.
        let mut local: Vec<Entry> = entries.collect();
        if !local.contains(&tail) {
            local.insert(0, tail);
        }
        self.order.link(now, &local);
    }
}

/// Names packets of a frame, 32 at a time.
fn nacks(entry: &Entry, missing: &[u16]) -> Vec<Missing> {
    let mut nacks: Vec<Missing> = Vec::new();
    for index in missing {
        let bit = |nack: &Missing| index.checked_sub(nack.base).filter(|bit| *bit < 32);
        match nacks.last_mut().and_then(|nack| Some((bit(nack)?, nack))) {
            Some((bit, nack)) => nack.mask |= 1 << bit,
            None => nacks.push(Missing {
                dts_ms: entry.header.dts_ms,
                crc: entry.crc,
                base: *index,
                mask: 1,
            }),
        }
    }
    nacks
}
