//! One subscriber behind a simulated link: a rate, a queue, a delay and seeded losses, on virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::{Clock, h264};
use uuid::Uuid;

use super::{Egress, Limits, OVERHEAD, Output, Seed};
use crate::sfu::ingress_clock::Media;
use crate::sfu::packet::{Arrivals, Feedback, Outgoing, Relayed, RtpPacket};
use crate::sfu::sdp::{Direction, Offer};
use crate::sfu::types::SessionId;

const MS: Duration = Duration::from_millis(1);
const CHROMIUM: &str = include_str!("../sdp/offers/chromium.sdp");
const VIDEO: u32 = 100;
const RTX: u32 = 101;
const AUDIO: u32 = 102;
const PAYLOAD: usize = 1_100;

/// A link and the subscriber behind it.
pub(super) struct Link {
    pub(super) bps: f64,
    /// What waits before it is dropped.
    pub(super) queue_ms: f64,
    pub(super) delay_ms: u32,
    pub(super) loss_percent: u64,
    pub(super) reports: bool,
    pub(super) max_height: Option<u32>,
}

/// A layer that is published.
pub(super) struct Layer {
    pub(super) kilobits: u32,
    config: Option<Arc<h264::Config>>,
    sequence: u16,
    pub(super) is_on: bool,
    wants_keyframe: bool,
}

impl Layer {
    pub(super) fn new(kilobits: u32, size: Option<(u32, u32)>) -> Self {
        Self {
            kilobits,
            config: size.map(|(width, height)| config(width, height)),
            sequence: 0,
            is_on: true,
            wants_keyframe: true,
        }
    }
}

/// Parameter sets for a picture of this size, in multiples of 16.
pub(crate) fn config(width: u32, height: u32) -> Arc<h264::Config> {
    // Baseline, level 3.1: ids and counts as Exp-Golomb codes (ITU-T H.264 §7.3.2.1.1), no cropping, no VUI.
    let mut bits = String::new();
    let mut golomb = |value: u32| {
        let code = format!("{:b}", value + 1);
        bits += &"0".repeat(code.len() - 1);
        bits += &code;
    };
    for value in [0, 0, 2, 1] {
        golomb(value);
    }
    let mut fields = String::new();
    for value in [width / 16 - 1, height / 16 - 1] {
        let code = format!("{:b}", value + 1);
        fields += &"0".repeat(code.len() - 1);
        fields += &code;
    }
    let mut bits = format!("{bits}0{fields}11001");
    while !bits.len().is_multiple_of(8) {
        bits.push('0');
    }
    let mut sps = vec![0x67, 0x42, 0xc0, 0x1f];
    for at in (0..bits.len()).step_by(8) {
        sps.push(u8::from_str_radix(&bits[at..at + 8], 2).expect("bits"));
    }
    let pps = vec![Bytes::from_static(&[0x68, 0xcb, 0x83, 0xcb, 0x20])];
    let config = h264::Config::new(Bytes::from(sps), pps).expect("valid");
    assert_eq!((config.width, config.height), (width, height));
    Arc::new(config)
}

impl Default for Link {
    fn default() -> Self {
        Self {
            bps: f64::INFINITY,
            queue_ms: 300.0,
            delay_ms: 25,
            loss_percent: 0,
            reports: true,
            max_height: None,
        }
    }
}

/// A picture as the subscriber has it.
#[derive(Default)]
pub(super) struct Picture {
    pub(super) layer: u8,
    pub(super) first: Option<u16>,
    pub(super) last: Option<u16>,
    pub(super) packets: BTreeSet<u16>,
    pub(super) idr: bool,
    /// When the last packet came, and when it was made.
    at_ms: u32,
    pub(super) made_ms: u32,
}

pub(super) struct World {
    start: Instant,
    pub(super) ms: u32,
    pub(super) link: Link,
    pub(super) egress: Egress,
    /// When the link has sent everything that waits, in ms.
    busy: f64,
    wire: BTreeMap<(u32, u64), (u32, Outgoing)>,
    count: u64,
    random: u64,
    sound_sequence: u16,
    numbers: BTreeMap<u16, Option<i64>>,
    next_number: u16,
    newest: Option<u16>,
    got: BTreeSet<u16>,
    asked: BTreeMap<u16, u32>,
    pub(super) pictures: BTreeMap<u32, Picture>,
    pub(super) sound_delays: Vec<u32>,
    sounds: u32,
    lost: u32,
    wishes: u32,
    most_per_ms: usize,
    feedback: Vec<(u32, Feedback)>,
    pub(super) layers: Vec<Layer>,
}

impl World {
    pub(super) fn new(link: Link) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
        let start = Instant::now();
        let offer = CHROMIUM.replace("a=sendonly", "a=recvonly");
        let offer = Offer::parse(&offer, Direction::Play).expect("accepted");
        let seed = |ssrc| Seed {
            ssrc,
            rtx_ssrc: ssrc + 1,
            sequence: 65_000,
            timestamp: 0,
        };
        let clock = Clock::new(start);
        let limits = Limits {
            start_bps: 2.5e6,
            max_height: link.max_height,
        };
        Self {
            start,
            ms: 0,
            link,
            egress: Egress::new(&offer, clock, seed(VIDEO), seed(AUDIO), limits),
            busy: 0.0,
            wire: BTreeMap::new(),
            count: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            sound_sequence: 0,
            numbers: BTreeMap::new(),
            next_number: 0,
            newest: None,
            got: BTreeSet::new(),
            asked: BTreeMap::new(),
            pictures: BTreeMap::new(),
            sound_delays: Vec::new(),
            sounds: 0,
            lost: 0,
            wishes: 0,
            most_per_ms: 0,
            feedback: Vec::new(),
            layers: vec![Layer::new(2_500, None)],
        }
    }

    fn now(&self) -> Instant {
        self.start + MS * self.ms
    }

    fn sound(&mut self, payload: Vec<u8>) {
        self.sound_sequence = self.sound_sequence.wrapping_add(1);
        let packet = RtpPacket {
            sequence: self.sound_sequence,
            timestamp: self.ms * 48,
            marker: false,
            payload: Bytes::from(payload),
            arrived: self.now(),
            repaired: false,
        };
        self.relay(Relayed {
            media: Media::Audio,
            ssrc: 7,
            layer: 0,
            layers: 1,
            packet,
            captured: None,
            config: None,
        });
    }

    fn relay(&mut self, relayed: Relayed) {
        let from = SessionId(Uuid::from_u128(1));
        let now = self.now();
        self.egress.handle_packets(now, from, &[relayed]);
    }

    fn picture(&mut self, at: usize, marker: bool, payload: Vec<u8>) {
        let (now, ms) = (self.now(), self.ms);
        let layers = u8::try_from(self.layers.len()).expect("few");
        let layer = u8::try_from(at).expect("few");
        let held = &mut self.layers[at];
        held.sequence = held.sequence.wrapping_add(1);
        let packet = RtpPacket {
            sequence: held.sequence.wrapping_add(u16::from(layer) * 9_000),
            timestamp: (ms * 90).wrapping_add(u32::from(layer) * 1_000_000_000),
            marker,
            payload: Bytes::from(payload),
            arrived: now,
            repaired: false,
        };
        let config = held.config.clone();
        self.relay(Relayed {
            media: Media::Video,
            ssrc: 8 + u32::from(layer),
            layer,
            layers,
            packet,
            captured: None,
            config,
        });
    }

    /// 25 pictures and 50 sounds a second, a keyframe of the last layer every two seconds and of any on request; the time
    /// they were made is in the payload. Layers are sent a few milliseconds apart and mixed with each other.
    fn publish(&mut self) {
        let made = self.ms.to_be_bytes();
        if self.ms.is_multiple_of(20) {
            let mut sound = made.to_vec();
            sound.resize(160, 0);
            self.sound(sound);
        }
        if !self.ms.is_multiple_of(40) {
            return;
        }
        let mut waiting = Vec::new();
        for at in 0..self.layers.len() {
            let is_last = at + 1 == self.layers.len();
            let layer = &mut self.layers[at];
            if !layer.is_on {
                continue;
            }
            let idr = is_last && self.ms % 2_000 == 40 || layer.wants_keyframe;
            layer.wants_keyframe = false;
            let ordinary = layer.kilobits * 1_000 / 8 / 25;
            let bytes = ordinary * if idr { 5 } else { 1 };
            let count = (bytes as usize).div_ceil(PAYLOAD).max(2);
            let kind = if idr { 5 } else { 1 };
            for n in 0..count {
                let flags = match n {
                    0 => 0x80,
                    n if n + 1 == count => 0x40,
                    _ => 0,
                };
                let mut payload = vec![0x7c, kind | flags, 0x88];
                payload.extend(made);
                payload.push(u8::try_from(at).expect("few"));
                payload.resize((bytes as usize / count).max(100), 0);
                waiting.push((n, at, n + 1 == count, payload));
            }
        }
        waiting.sort_by_key(|(n, at, ..)| (*n, *at));
        for (_, at, marker, payload) in waiting {
            self.picture(at, marker, payload);
        }
    }

    fn chance(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 100
    }

    /// What the egress gives goes onto the link.
    fn transmit(&mut self) {
        let mut sent = 0;
        while let Some(output) = self.egress.poll_output() {
            let packet = match output {
                Output::Send(packet) => packet,
                Output::WantKeyframe(layer) => {
                    let at = layer.map_or(self.layers.len() - 1, usize::from);
                    // With one layer nobody answers: the schedule has to do.
                    let is_answered = self.layers.len() > 1;
                    self.layers[at].wants_keyframe |= is_answered;
                    self.wishes += 1;
                    continue;
                }
                Output::Report(_) => continue,
            };
            sent += usize::from(packet.ssrc != AUDIO);
            let at = f64::from(self.ms);
            let bits =
                f64::from(u32::try_from((packet.payload.len() + OVERHEAD) * 8).expect("small"));
            let is_full = self.busy - at > self.link.queue_ms;
            if is_full || self.chance() < self.link.loss_percent {
                self.lost += u32::from(packet.ssrc != AUDIO);
                continue;
            }
            self.busy = self.busy.max(at) + bits * 1_000.0 / self.link.bps;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a test"
            )]
            let arrives = self.busy.ceil() as u32 + self.link.delay_ms;
            self.count += 1;
            self.wire.insert((arrives, self.count), (self.ms, packet));
        }
        self.most_per_ms = self.most_per_ms.max(sent);
    }

    fn receive(&mut self) {
        while let Some(entry) = self.wire.first_entry().filter(|e| e.key().0 <= self.ms) {
            let (_, packet) = entry.remove();
            let (_, number) = packet.transport.expect("numbered");
            self.numbers
                .insert(number, Some(i64::from(self.ms) * 1_000));
            let (sequence, body) = match packet.ssrc {
                AUDIO => {
                    let made = packet.payload[..4].try_into().expect("four");
                    self.sound_delays.push(self.ms - u32::from_be_bytes(made));
                    self.sounds += 1;
                    continue;
                }
                RTX => {
                    let original = packet.payload[..2].try_into().expect("two");
                    (u16::from_be_bytes(original), packet.payload.slice(2..))
                }
                _ => (packet.sequence, packet.payload.clone()),
            };
            if !self.got.insert(sequence) {
                continue;
            }
            self.note_holes(sequence);
            if body[0] != 0x7c {
                continue; // a parameter set
            }
            let picture = self.pictures.entry(packet.timestamp).or_default();
            picture.packets.insert(sequence);
            picture.at_ms = self.ms;
            picture.made_ms = u32::from_be_bytes(body[3..7].try_into().expect("four"));
            picture.idr |= body[1] & 0x1f == 5;
            picture.layer = body[7];
            if body[1] & 0x80 != 0 {
                picture.first = Some(sequence);
            }
            if packet.marker {
                picture.last = Some(sequence);
            }
        }
    }

    fn note_holes(&mut self, sequence: u16) {
        let newest = *self.newest.get_or_insert(sequence);
        let ahead = sequence.wrapping_sub(newest).cast_signed();
        for n in 1..ahead.max(1) {
            let missing = newest.wrapping_add(n.cast_unsigned());
            self.asked.insert(missing, self.ms + 10);
        }
        if ahead > 0 {
            self.newest = Some(sequence);
        }
        self.asked.remove(&sequence);
    }

    /// Feedback every 100 ms, requests for repetition every 10 ms.
    fn report(&mut self) {
        if self.ms.is_multiple_of(10) {
            let due = self.asked.iter_mut().filter(|(_, at)| **at <= self.ms);
            let mut sequences = Vec::new();
            for (sequence, at) in due {
                *at = self.ms + 80;
                sequences.push(*sequence);
            }
            if !sequences.is_empty() {
                let nack = Feedback::Nack {
                    ssrc: VIDEO,
                    sequences,
                };
                self.feedback.push((self.ms + self.link.delay_ms, nack));
            }
        }
        if self.link.reports && self.ms.is_multiple_of(100) && !self.numbers.is_empty() {
            let first = self.next_number;
            let ahead = |number: &u16| number.wrapping_sub(first).cast_signed();
            let last = *self.numbers.keys().max_by_key(|n| ahead(n)).expect("some");
            let mut packets = Vec::new();
            if ahead(&last) >= 0 {
                for n in 0..=last.wrapping_sub(first) {
                    let number = first.wrapping_add(n);
                    packets.push((number, self.numbers.get(&number).copied().flatten()));
                }
                self.next_number = last.wrapping_add(1);
            }
            self.numbers.clear();
            let arrivals = Feedback::Arrivals(Arrivals { packets });
            self.feedback.push((self.ms + self.link.delay_ms, arrivals));
        }
        let (due, later) = std::mem::take(&mut self.feedback)
            .into_iter()
            .partition(|(at, _)| *at <= self.ms);
        self.feedback = later;
        let due: Vec<(u32, Feedback)> = due;
        for (_, feedback) in due {
            self.egress.handle_feedback(self.now(), feedback);
        }
    }

    pub(super) fn run(&mut self, seconds: u32) {
        for _ in 0..seconds * 1_000 {
            self.ms += 1;
            self.publish();
            let now = self.now();
            if self.egress.poll_timeout().is_some_and(|at| at <= now) {
                self.egress.handle_timeout(now);
            }
            self.transmit();
            self.receive();
            self.report();
        }
    }

    pub(super) fn estimate_kbps(&self) -> f64 {
        let now = self.now();
        self.egress.bandwidth.estimate_bps(now).expect("known") / 1_000.0
    }

    /// Pictures made from `from` on that came whole and can be decoded: times of making and of arrival, in ms.
    pub(super) fn shown(&self, from: u32) -> Vec<(u32, u32)> {
        let mut next = None;
        let mut shown = Vec::new();
        for picture in self.pictures.values() {
            let (Some(first), Some(last)) = (picture.first, picture.last) else {
                next = None;
                continue;
            };
            let count = usize::from(last.wrapping_sub(first)) + 1;
            let is_whole = picture.packets.len() == count;
            if is_whole && (picture.idr || next == Some(first)) {
                next = Some(last.wrapping_add(1));
                if picture.made_ms >= from {
                    shown.push((picture.made_ms, picture.at_ms));
                }
            } else {
                next = None;
            }
        }
        shown
    }

    pub(super) fn sound_p95(&mut self) -> u32 {
        self.sound_delays.sort_unstable();
        self.sound_delays[self.sound_delays.len() * 95 / 100]
    }
}

#[test]
fn a_wide_path_gets_everything_and_keyframes_are_spread() {
    let mut world = World::new(Link {
        bps: 50e6,
        ..Link::default()
    });
    world.run(20);
    let shown = world.shown(1_000);
    assert!(shown.len() >= 19 * 25 - 3, "{}", shown.len());
    let latest = shown
        .iter()
        .map(|(made, at)| at - made)
        .max()
        .expect("some");
    assert!(latest < 25 + 150, "{latest} ms");
    let totals = world.egress.totals();
    assert_eq!((totals.repeated, totals.shed), (0, 0));
    // A keyframe has 57 packets.
    assert!(world.most_per_ms < 35, "{} at once", world.most_per_ms);
    assert!(world.estimate_kbps() > 2_500.0);
}

#[test]
fn without_reports_nobody_is_slowed_down() {
    let mut world = World::new(Link {
        bps: 20e6,
        reports: false,
        ..Link::default()
    });
    world.layers = vec![Layer::new(8_000, None)];
    world.run(10);
    assert_eq!(world.egress.bandwidth.estimate_bps(world.now()), None);
    let shown = world.shown(0);
    assert!(shown.len() >= 9 * 25, "{}", shown.len());
    assert_eq!(world.egress.totals().shed, 0);
}

#[test]
fn losses_are_repaired_and_not_taken_for_congestion() {
    for (loss_percent, delay_ms) in [(1, 10), (3, 25), (5, 25), (5, 75)] {
        let mut world = World::new(Link {
            bps: 20e6,
            loss_percent,
            delay_ms,
            ..Link::default()
        });
        world.run(20);
        let shown = world.shown(1_000);
        let (lost, repeats) = (world.lost, world.egress.totals().repeated);
        assert!(shown.len() >= 19 * 25 - 12, "{} shown", shown.len());
        assert!(
            repeats * 2 <= u64::from(lost) * 3,
            "{repeats} for {lost} at {loss_percent} %"
        );
        assert_eq!(world.egress.totals().shed, 0);
        assert!(world.estimate_kbps() > 2_500.0);
    }
}

#[test]
fn a_path_that_is_too_thin_keeps_its_sound_and_shows_whole_pictures() {
    for bps in [1e6, 5e5] {
        let mut world = World::new(Link {
            bps,
            ..Link::default()
        });
        world.run(5);
        world.sound_delays.clear();
        let before = world.sounds;
        world.run(40);
        let shown = world.shown(5_000);
        let sounds = world.sounds - before;
        let latest = shown.iter().map(|(made, at)| at - made).max().unwrap_or(0);
        let p95 = world.sound_p95();
        assert!(sounds >= 40 * 50 * 98 / 100, "{sounds}");
        assert!(p95 < 350, "{p95} ms");
        // Every keyframe, or nearly.
        assert!(shown.len() >= 16, "{}", shown.len());
        assert!(latest < 3_000, "{latest} ms");
        let share = world.estimate_kbps() * 1_000.0 / bps;
        assert!((0.4..1.3).contains(&share), "{share}");
        assert!(world.wishes <= 14, "{} keyframes asked for", world.wishes);
    }
}

#[test]
fn a_path_that_recovers_is_used_again() {
    let mut world = World::new(Link::default());
    world.link.bps = 10e6;
    world.run(10);
    world.link.bps = 8e5;
    world.run(15);
    let thin = world.estimate_kbps();
    world.link.bps = 10e6;
    world.run(25);
    let wide = world.estimate_kbps();
    assert!(thin < 1_100.0, "{thin}");
    assert!(wide > 2_500.0, "{wide}");
    let shown = world.shown(40_000);
    assert!(
        shown.len() >= 10 * 25 - 5,
        "{} of the last 10 s",
        shown.len()
    );
}

#[test]
fn a_small_stream_that_loses_much_is_not_thinned() {
    let mut world = World::new(Link {
        bps: 20e6,
        loss_percent: 5,
        delay_ms: 75,
        ..Link::default()
    });
    world.layers = vec![Layer::new(1_000, None)];
    world.run(60);
    let shown = world.shown(1_000);
    let kbps = world.estimate_kbps();
    assert!(
        shown.len() >= 59 * 25 - 30,
        "{} shown, {kbps:.0} kb/s",
        shown.len()
    );
    assert_eq!(world.egress.totals().shed, 0, "{kbps:.0} kb/s");
    assert!(kbps > 1_000.0, "{kbps}");
}
