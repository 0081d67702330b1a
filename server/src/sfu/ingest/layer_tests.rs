//! A picture in three layers over a lossy way, on virtual time: every layer is repaired, and the units are of the largest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::{AccessUnit, Clock, Config, Kind};

use super::{Ingest, Output};
use crate::sfu::ingress_clock::{Media, Which};
use crate::sfu::packet::RtpPacket;
use crate::sfu::sdp::{Direction, Offer};
use crate::sfu::types::SessionStats;

const MS: Duration = Duration::from_millis(1);
const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];
/// 320x180, 640x360 and 1280x720, of an encoder that is often met.
const SIZES: [u32; 3] = [320, 640, 1_280];

/// Chromium's offer with layers that are told apart by name.
pub(crate) fn offer() -> String {
    const CHROMIUM: &str = include_str!("../sdp/offers/chromium.sdp");
    let rids = "a=rid:l send\r\na=rid:m send\r\na=rid:h send\r\na=simulcast:send l;m;h\r\n";
    let at = CHROMIUM.find("a=rtpmap:96").expect("video first");
    let (head, tail) = CHROMIUM.split_at(at);
    format!("{head}{rids}{tail}")
}

fn sps(width: u32) -> Bytes {
    let config = crate::sfu::egress::test_config(width, width / 16 * 9 / 16 * 16);
    config.sps.clone()
}

struct Layer {
    sequence: u16,
    sent: BTreeMap<u16, RtpPacket>,
    lost: u32,
    again: u32,
    wants_keyframe: bool,
    is_on: bool,
    /// Sequence numbers that came out.
    came: BTreeSet<u16>,
}

struct World {
    start: Instant,
    ms: u32,
    ingest: Ingest,
    layers: Vec<Layer>,
    units: Vec<AccessUnit>,
    wire: BTreeMap<(u32, u32), (usize, RtpPacket)>,
    back: Vec<(u32, Output)>,
    count: u32,
    random: u64,
    loss_percent: u64,
    delay_ms: u32,
    plis: u32,
}

impl World {
    fn new(loss_percent: u64, delay_ms: u32) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
        let start = Instant::now();
        let offer = Offer::parse(&offer(), Direction::Publish).expect("accepted");
        let mut ingest = Ingest::new(&offer, Clock::new(start), 2_000 * MS, 500 * MS);
        ingest.set_relayed(true);
        let layer = |n: u16| Layer {
            sequence: 65_000 + n * 100,
            sent: BTreeMap::new(),
            lost: 0,
            again: 0,
            wants_keyframe: true,
            is_on: true,
            came: BTreeSet::new(),
        };
        Self {
            start,
            ms: 0,
            ingest,
            layers: (0..3).map(layer).collect(),
            units: Vec::new(),
            wire: BTreeMap::new(),
            back: Vec::new(),
            count: 0,
            random: 0x2545_f491_4f6c_dd1d,
            loss_percent,
            delay_ms,
            plis: 0,
        }
    }

    fn chance(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 100
    }

    fn send(&mut self, at: usize, mut packet: RtpPacket) {
        if self.chance() < self.loss_percent {
            self.layers[at].lost += 1;
            return;
        }
        let arrives = self.ms + self.delay_ms;
        packet.arrived = self.start + MS * arrives;
        self.count += 1;
        self.wire.insert((arrives, self.count), (at, packet));
    }

    /// A picture of every layer, of one packet in the first, four in the second and twelve in the third.
    fn publish(&mut self) {
        for at in 0..3 {
            let layer = &mut self.layers[at];
            if !layer.is_on {
                continue;
            }
            let idr = std::mem::take(&mut layer.wants_keyframe);
            let kind = if idr { 5 } else { 1 };
            let mut payloads: Vec<Vec<u8>> = Vec::new();
            if idr {
                payloads.extend([sps(SIZES[at]).to_vec(), PPS.to_vec()]);
            }
            let fragments = [2, 4, 12][at];
            for n in 0..fragments {
                let flags = match n {
                    0 => 0x80,
                    n if n + 1 == fragments => 0x40,
                    _ => 0,
                };
                payloads.push(vec![0x7c, kind | flags, 0x88, 1, 2, 3]);
            }
            let last = payloads.len() - 1;
            for (n, payload) in payloads.into_iter().enumerate() {
                let layer = &mut self.layers[at];
                layer.sequence = layer.sequence.wrapping_add(1);
                let packet = RtpPacket {
                    sequence: layer.sequence,
                    timestamp: (self.ms * 90).wrapping_add(u32::try_from(at).expect("few") << 30),
                    marker: n == last,
                    payload: Bytes::from(payload),
                    arrived: self.start,
                    repaired: false,
                };
                layer.sent.insert(packet.sequence, packet.clone());
                self.send(at, packet);
            }
        }
    }

    fn step(&mut self) {
        self.ms += 1;
        if self.ms.is_multiple_of(40) {
            self.publish();
        }
        let now = self.start + MS * self.ms;
        while let Some(entry) = self.wire.first_entry().filter(|e| e.key().0 <= self.ms) {
            let (layer, packet) = entry.remove();
            let which = Which {
                media: Media::Video,
                layer,
            };
            let ssrc = 100 + u32::try_from(layer).expect("few");
            self.ingest.handle_packet(now, which, ssrc, packet);
        }
        self.ingest.handle_timeout(now);
        while let Some(output) = self.ingest.poll_output() {
            match output {
                Output::Unit(unit) => self.units.push(unit),
                Output::Relay(relayed) => {
                    let layer = &mut self.layers[usize::from(relayed.layer)];
                    assert_eq!(relayed.layers, 3);
                    assert!(layer.came.insert(relayed.packet.sequence), "once");
                }
                said @ (Output::Nack { .. } | Output::Pli { .. }) => {
                    self.back.push((self.ms + self.delay_ms, said));
                }
            }
        }
        let back = std::mem::take(&mut self.back);
        for (at, said) in back {
            if at > self.ms {
                self.back.push((at, said));
                continue;
            }
            match said {
                Output::Nack { ssrc, sequences } => {
                    let at = usize::try_from(ssrc - 100).expect("a layer");
                    for sequence in sequences {
                        let mut packet = self.layers[at].sent[&sequence].clone();
                        packet.repaired = true;
                        self.layers[at].again += 1;
                        self.send(at, packet);
                    }
                }
                Output::Pli { ssrc } => {
                    let at = usize::try_from(ssrc - 100).expect("a layer");
                    self.layers[at].wants_keyframe = true;
                    self.plis += 1;
                }
                Output::Unit(_) | Output::Relay(_) => {}
            }
        }
    }

    fn run(&mut self, seconds: u32) {
        for _ in 0..seconds * 1_000 {
            self.step();
        }
    }

    fn widths(&self) -> Vec<u32> {
        let width = |unit: &AccessUnit| match &unit.track.config {
            Config::H264(config) => config.width,
            other @ (Config::Aac(_) | Config::Opus(_)) => panic!("{other:?}"),
        };
        self.units.iter().map(width).collect()
    }
}

#[test]
fn every_layer_is_repaired_up_to_five_percent() {
    for (loss_percent, delay_ms) in [(1, 10), (3, 25), (5, 25), (5, 75)] {
        let mut world = World::new(loss_percent, delay_ms);
        world.run(20);
        for (at, layer) in world.layers.iter().enumerate() {
            // The last half second may be under repair.
            let settled = layer.sent.len() - layer.sent.len() / 40;
            let missing = layer.sent.len() - layer.came.len();
            assert!(layer.came.len() >= settled, "layer {at}: {missing} missing");
            let (lost, again) = (layer.lost, layer.again);
            let said = format!("layer {at}, {loss_percent} %: {again} for {lost}");
            assert!(again * 2 <= lost * 3, "{said}");
        }
        let now = world.start + MS * world.ms;
        let mut stats = SessionStats::default();
        world.ingest.stats(now, &mut stats);
        assert_eq!(stats.layers.len(), 3);
        for layer in &stats.layers {
            assert_eq!(layer.stream.lost, 0, "{layer:?}");
            assert!(layer.active && layer.stream.recovered > 0, "{layer:?}");
        }
        let video = stats.video.expect("seen");
        assert_eq!(video.width, 1_280);
        assert_eq!(stats.layers.iter().filter(|l| l.on_program).count(), 1);
    }
}

#[test]
fn units_are_of_the_largest_layer_and_another_takes_over_with_a_keyframe() {
    let mut world = World::new(0, 20);
    world.run(4);
    let widths = world.widths();
    assert!(widths.len() >= 90, "{}", widths.len());
    assert!(
        widths[5..].iter().all(|width| *width == 1_280),
        "{widths:?}"
    );
    let before = world.units.len();
    world.layers[2].is_on = false;
    world.run(4);
    let widths = world.widths();
    let fallback = widths[before..].iter().filter(|width| **width == 640);
    assert!(fallback.count() >= 80, "{:?}", &widths[before..]);
    world.layers[2].is_on = true;
    world.layers[2].wants_keyframe = true;
    world.run(4);
    assert_eq!(world.widths().last(), Some(&1_280));
    for pair in world.units.windows(2) {
        assert_eq!(pair[1].kind(), Kind::Video);
        assert!(pair[1].pts.as_nanos() > pair[0].pts.as_nanos());
        let is_same = pair[0].track.config == pair[1].track.config;
        assert!(is_same || pair[1].keyframe && pair[1].discontinuity);
    }
    assert!(world.plis < 30, "{} keyframes asked for", world.plis);
}

#[test]
fn units_are_as_large_as_they_are_shown() {
    let mut world = World::new(0, 20);
    world.run(3);
    for (height, width) in [
        (Some(370), 640),
        (Some(120), 320),
        (Some(4_000), 1_280),
        (None, 1_280),
    ] {
        world.ingest.set_height(height);
        world.run(2);
        assert_eq!(world.widths().last(), Some(&width), "{height:?}");
    }
    assert!(world.units.windows(2).all(|pair| {
        let is_same = pair[0].track.config == pair[1].track.config;
        is_same || pair[1].keyframe && pair[1].discontinuity
    }));
}
