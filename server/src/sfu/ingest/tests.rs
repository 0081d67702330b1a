//! One publisher's media on virtual time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use media::{AccessUnit, Clock, Kind};

use super::{Ingest, Output};
use crate::sfu::ingress_clock::Media;
use crate::sfu::packet::RtpPacket;
use crate::sfu::sdp::{Direction, Offer};
use crate::sfu::types::SessionStats;

const CHROMIUM: &str = include_str!("../sdp/offers/chromium.sdp");
const SPS: &[u8] = &[
    0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01,
    0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2e, 0x48,
];
const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];
const MS: Duration = Duration::from_millis(1);
const VIDEO: u32 = 7;
const AUDIO: u32 = 8;

#[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
fn origin() -> Instant {
    Instant::now()
}

struct Publisher {
    start: Instant,
    ingest: Ingest,
    sequence: u16,
    units: Vec<AccessUnit>,
    nacks: Vec<u16>,
    plis: Vec<Instant>,
}

impl Publisher {
    fn new() -> Self {
        let start = origin();
        let offer = Offer::parse(CHROMIUM, Direction::Publish).expect("accepted");
        Self {
            start,
            ingest: Ingest::new(&offer, Clock::new(start), 2_000 * MS, 500 * MS),
            sequence: 0,
            units: Vec::new(),
            nacks: Vec::new(),
            plis: Vec::new(),
        }
    }

    fn picture(&self, ms: u32, idr: bool) -> RtpPacket {
        let slice = [if idr { 0x65 } else { 0x61 }, 0x88, 1, 2];
        let nals: &[&[u8]] = if idr { &[SPS, PPS, &slice] } else { &[&slice] };
        let mut payload = vec![0x78];
        for nal in nals {
            payload.extend_from_slice(&u16::try_from(nal.len()).expect("short").to_be_bytes());
            payload.extend_from_slice(nal);
        }
        RtpPacket {
            sequence: self.sequence,
            timestamp: ms * 90,
            marker: true,
            payload: Bytes::from(payload),
            arrived: self.start + ms * MS,
            repaired: false,
        }
    }

    fn feed(&mut self, media: Media, packet: RtpPacket) {
        let now = packet.arrived;
        let ssrc = match media {
            Media::Video => VIDEO,
            Media::Audio => AUDIO,
        };
        self.ingest.handle_packet(now, media.into(), ssrc, packet);
        self.drain(now);
    }

    /// Lets time pass to `ms`, serving deadlines.
    fn idle(&mut self, ms: u32) {
        let until = self.start + ms * MS;
        let mut now = self.start;
        while let Some(due) = self.ingest.poll_timeout().filter(|due| *due <= until) {
            now = now.max(due);
            self.ingest.handle_timeout(now);
            self.drain(now);
        }
    }

    fn drain(&mut self, now: Instant) {
        while let Some(output) = self.ingest.poll_output() {
            match output {
                Output::Unit(unit) => self.units.push(unit),
                Output::Relay(relayed) => panic!("nobody asked for {relayed:?}"),
                Output::Nack { sequences, ssrc } => {
                    assert_eq!(ssrc, VIDEO);
                    self.nacks.extend(sequences);
                }
                Output::Pli { ssrc } => {
                    assert_eq!(ssrc, VIDEO);
                    self.plis.push(now);
                }
            }
        }
    }

    /// Sends pictures at 25 per second from `from` to `to`, IDR where `idr` says so, losing where `lose` does.
    fn video(&mut self, from: u32, to: u32, idr: impl Fn(u32) -> bool, lose: impl Fn(u32) -> bool) {
        for ms in (from..to).step_by(40) {
            self.idle(ms);
            let packet = self.picture(ms, idr(ms));
            self.sequence += 1;
            if !lose(ms) {
                self.feed(Media::Video, packet);
            }
        }
    }
}

#[test]
fn units_carry_capture_times_and_stats_tell_the_codec() {
    let mut publisher = Publisher::new();
    publisher.video(0, 2_000, |ms| ms == 0, |_| false);
    assert_eq!(publisher.units.len(), 50);
    for (index, unit) in publisher.units.iter().enumerate() {
        assert_eq!(
            unit.pts.as_nanos(),
            i64::try_from(index).expect("few") * 40_000_000
        );
        assert_eq!((unit.keyframe, unit.discontinuity), (index == 0, false));
        assert_eq!(unit.kind(), Kind::Video);
    }
    let mut stats = SessionStats::default();
    publisher
        .ingest
        .stats(publisher.start + 2_000 * MS, &mut stats);
    let video = stats.video.expect("seen");
    assert_eq!(
        (video.codec.as_str(), video.width, video.height),
        ("H264 42c01e", 640, 360)
    );
    assert!((video.fps - 25.0).abs() < 1.5, "{}", video.fps);
}

#[test]
fn keyframes_are_asked_for_until_one_comes_and_then_on_schedule() {
    let mut publisher = Publisher::new();
    publisher.video(0, 1_200, |_| false, |_| false);
    assert!(publisher.units.is_empty());
    assert_eq!(publisher.plis.len(), 3, "at once and every 500 ms");
    publisher.plis.clear();
    publisher.video(1_200, 5_000, |ms| ms == 1_200, |_| false);
    let first = publisher
        .plis
        .first()
        .expect("asked")
        .duration_since(publisher.start);
    assert_eq!(first, 3_200 * MS, "2 s after the keyframe");
}

#[test]
fn a_picture_that_is_given_up_costs_up_to_the_next_idr() {
    let mut publisher = Publisher::new();
    publisher.video(0, 4_000, |ms| ms == 0 || ms == 3_000, |ms| ms == 400);
    assert!(publisher.nacks.iter().all(|sequence| *sequence == 10));
    assert!((2..=10).contains(&publisher.nacks.len()));
    let times: Vec<i64> = publisher
        .units
        .iter()
        .map(|unit| unit.pts.as_millis())
        .collect();
    assert_eq!(times[..10], (0..10).map(|n| n * 40).collect::<Vec<i64>>());
    assert_eq!(times[10], 3_000, "nothing undecodable in between");
    assert!(publisher.units[10].keyframe && publisher.units[10].discontinuity);
    let asked = publisher
        .plis
        .first()
        .expect("asked")
        .duration_since(publisher.start);
    assert!(
        asked >= 1_400 * MS && asked < 1_600 * MS,
        "when repair was given up: {asked:?}"
    );
}

#[test]
fn another_ssrc_starts_over_in_the_same_timeline() {
    let mut publisher = Publisher::new();
    publisher.video(0, 1_000, |ms| ms == 0, |_| false);
    let mut packet = publisher.picture(1_000, true);
    packet.timestamp = 5;
    packet.sequence = 40_000;
    let now = packet.arrived;
    publisher
        .ingest
        .handle_packet(now, Media::Video.into(), 99, packet);
    publisher.drain(now);
    let unit = publisher.units.last().expect("some");
    assert!(unit.discontinuity && unit.keyframe);
    assert_eq!(unit.pts.as_millis(), 1_000);
}

#[test]
fn lost_audio_shows_on_the_next_unit() {
    let mut publisher = Publisher::new();
    for (index, ms) in (0..1_000).step_by(20).enumerate() {
        publisher.idle(ms);
        let packet = RtpPacket {
            sequence: u16::try_from(index).expect("few"),
            timestamp: ms * 48,
            marker: false,
            payload: Bytes::from_static(&[0xfc, 0, 0]),
            arrived: publisher.start + ms * MS,
            repaired: false,
        };
        if index != 20 {
            publisher.feed(Media::Audio, packet);
        }
    }
    assert!(publisher.nacks.is_empty(), "Opus has its own concealment");
    assert_eq!(publisher.units.len(), 49);
    let marked: Vec<i64> = publisher
        .units
        .iter()
        .filter(|unit| unit.discontinuity)
        .map(|unit| unit.pts.as_millis())
        .collect();
    assert_eq!(marked, [420]);
}
