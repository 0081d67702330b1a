//! One subscriber on virtual time: sources that change, a queue that is full, everything in between.

use std::time::{Duration, Instant};

use bytes::Bytes;
use media::Clock;
use proptest::prelude::*;
use uuid::Uuid;

use super::{Egress, Limits, MAX_QUEUED, Output, Seed};
use crate::sfu::ingress_clock::Media;
use crate::sfu::packet::{Feedback, Outgoing, Relayed, RtpPacket};
use crate::sfu::sdp::{Direction, Offer};
use crate::sfu::types::SessionId;

const MS: Duration = Duration::from_millis(1);
const CHROMIUM: &str = include_str!("../sdp/offers/chromium.sdp");
const VIDEO: u32 = 100;
const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1e];
const PPS: &[u8] = &[0x68, 0xcb];

fn seed(ssrc: u32) -> Seed {
    Seed {
        ssrc,
        rtx_ssrc: ssrc + 1,
        sequence: 65_530,
        timestamp: u32::MAX - 9_000,
    }
}

fn limits() -> Limits {
    Limits {
        start_bps: 2.5e6,
        max_height: None,
    }
}

/// A participant's session: pictures of four packets at 25 per second.
struct Source {
    id: SessionId,
    sequence: u16,
    timestamp: u32,
}

struct World {
    now: Instant,
    egress: Egress,
    sent: Vec<Outgoing>,
    wishes: usize,
}

impl World {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
        let now = Instant::now();
        let offer = CHROMIUM.replace("a=sendonly", "a=recvonly");
        let offer = Offer::parse(&offer, Direction::Play).expect("accepted");
        Self {
            now,
            egress: Egress::new(
                &offer,
                Clock::new(now),
                seed(VIDEO),
                seed(VIDEO + 2),
                limits(),
            ),
            sent: Vec::new(),
            wishes: 0,
        }
    }

    fn packet(&mut self, source: &mut Source, marker: bool, payload: &[u8]) {
        source.sequence = source.sequence.wrapping_add(1);
        let packet = RtpPacket {
            sequence: source.sequence,
            timestamp: source.timestamp,
            marker,
            payload: Bytes::copy_from_slice(payload),
            arrived: self.now,
            repaired: false,
        };
        let relayed = Relayed {
            media: Media::Video,
            ssrc: 7,
            layer: 0,
            layers: 1,
            packet,
            captured: None,
            config: None,
        };
        self.egress.handle_packets(self.now, source.id, &[relayed]);
    }

    /// One picture; what is sent is taken at once unless the queue is `stuck`.
    fn picture(&mut self, source: &mut Source, idr: bool, stuck: bool) {
        self.now += 40 * MS;
        source.timestamp = source.timestamp.wrapping_add(3_600);
        let kind = if idr { 5 } else { 1 };
        if idr {
            self.packet(source, false, SPS);
            self.packet(source, false, PPS);
        }
        self.packet(source, false, &[0x7c, 0x80 | kind, 0x88]);
        self.packet(source, false, &[0x7c, kind, 1]);
        self.packet(source, true, &[0x7c, 0x40 | kind, 2]);
        assert!(self.egress.outputs.len() <= MAX_QUEUED + 8, "bounded");
        if !stuck {
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.egress.poll_output() {
            match output {
                Output::Send(packet) => self.sent.push(packet),
                Output::WantKeyframe(_) => self.wishes += 1,
                Output::Report(report) => panic!("nothing is known to report: {report:?}"),
            }
        }
    }
}

fn source(n: u128, sequence: u16, timestamp: u32) -> Source {
    Source {
        id: SessionId(Uuid::from_u128(n)),
        sequence,
        timestamp,
    }
}

#[test]
fn the_payload_type_is_the_one_that_promises_the_profile() {
    let mut world = World::new();
    let line = world.egress.video.as_mut().expect("offered");
    for (profile_level, expected) in [
        ([0x42, 0xc0, 0x1e], 108),
        ([0x42, 0xe0, 0x1f], 108),
        ([0x42, 0x00, 0x1f], 102),
        ([0x4d, 0x00, 0x1f], 116),
        ([0x64, 0x00, 0x1f], 102),
    ] {
        line.choose(profile_level);
        let packet = RtpPacket {
            sequence: 1,
            timestamp: 1,
            marker: true,
            payload: Bytes::from_static(&[0x41]),
            arrived: world.now,
            repaired: false,
        };
        assert_eq!(
            line.forward(packet).payload_type,
            expected,
            "{profile_level:x?}"
        );
    }
}

#[test]
fn padding_leaves_no_trace_and_loss_leaves_a_gap() {
    let mut world = World::new();
    let mut ann = source(1, 10, 0);
    world.picture(&mut ann, true, false);
    let newest = |world: &World| world.sent.last().expect("sent").sequence;
    let before = newest(&world);
    world.packet(&mut ann, false, &[]);
    world.picture(&mut ann, false, false);
    assert_eq!(newest(&world), before.wrapping_add(3));
    ann.sequence = ann.sequence.wrapping_add(1);
    world.picture(&mut ann, false, false);
    assert_eq!(newest(&world), before.wrapping_add(7));
}

#[test]
fn a_full_queue_drops_up_to_the_next_keyframe() {
    let mut world = World::new();
    let mut ann = source(1, 10, 0);
    world.picture(&mut ann, true, false);
    assert_eq!(world.wishes, 0, "it begins with one");
    for _ in 0..400 {
        world.picture(&mut ann, false, true);
    }
    assert!(world.egress.totals().dropped > 0);
    world.drain();
    // Sixteen seconds, and one every four.
    assert!((1..=5).contains(&world.wishes), "{}", world.wishes);
    // The picture that had begun is sent to its end.
    world.now += 10 * MS;
    world.egress.handle_timeout(world.now);
    world.drain();
    let stuck = world.sent.len();
    assert_eq!(world.sent[stuck - 1].payload.as_ref(), [0x7c, 0x41, 2]);
    world.picture(&mut ann, false, false);
    assert_eq!(world.sent.len(), stuck, "not decodable");
    world.picture(&mut ann, true, false);
    assert_eq!(world.sent[stuck].payload.as_ref(), SPS);
    let step = world.sent[stuck]
        .sequence
        .wrapping_sub(world.sent[stuck - 1].sequence);
    assert!((1..=2).contains(&step), "{step}");
}

#[test]
fn requests_are_passed_on_once_a_second() {
    let mut world = World::new();
    let mut ann = source(1, 10, 0);
    world.picture(&mut ann, true, false);
    let before = world.wishes;
    for _ in 0..100 {
        world.now += 10 * MS;
        let now = world.now;
        world
            .egress
            .handle_feedback(now, Feedback::Keyframe { ssrc: VIDEO });
        world
            .egress
            .handle_feedback(now, Feedback::Keyframe { ssrc: 5 });
        world.drain();
    }
    assert_eq!(world.wishes - before, 1);
}

proptest! {
    /// Whatever happens: sequence numbers go on with gaps of one at most, timestamps never go back, and what follows a
    /// gap or a change of the source begins with a keyframe.
    #[test]
    fn a_decoder_is_never_surprised(steps in proptest::collection::vec((0_u8..12, any::<u16>(), any::<u32>()), 1..150)) {
        let mut world = World::new();
        let mut current = source(1, 0, 0);
        let mut number = 1;
        for (what, sequence, timestamp) in steps {
            match what {
                0 => {
                    number += 1;
                    current = source(number, sequence, timestamp);
                }
                1 => world.picture(&mut current, true, false),
                2 => for _ in 0..180 {
                    world.picture(&mut current, false, true);
                },
                _ => world.picture(&mut current, false, false),
            }
        }
        world.drain();
        for pair in world.sent.windows(2) {
            let step = pair[1].sequence.wrapping_sub(pair[0].sequence);
            prop_assert!((1..=2).contains(&step), "{:?}", pair);
            prop_assert!(step == 1 || pair[1].payload.as_ref() == SPS, "{:?}", pair);
            let passed = pair[1].timestamp.wrapping_sub(pair[0].timestamp).cast_signed();
            prop_assert!(passed >= 0, "{:?}", pair);
        }
        if let Some(first) = world.sent.first() {
            prop_assert_eq!(first.payload.as_ref(), SPS);
        }
    }
}
