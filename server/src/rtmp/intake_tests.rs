//! Whole streams on virtual time, with and without damage.

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::timeline::{MAX_LATE_NS, MAX_LEAD_NS, SETTLE_NS};
use super::*;

const MS: i64 = 1_000_000;
const AVCC: &[u8] = &[
    1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 25, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9,
    0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2e, 0x48,
    1, 0, 5, 0x68, 0xcb, 0x83, 0xcb, 0x20,
];

fn tag(kind: TagKind, at: u32, body: Bytes) -> Tag {
    Tag {
        kind,
        timestamp_ms: at,
        body,
    }
}

fn headers(at: u32) -> [Tag; 2] {
    let record = VideoBody::AvcConfig(Bytes::from_static(AVCC));
    let asc = AudioBody::AacConfig(Bytes::from_static(&[0x11, 0x90]));
    [
        tag(TagKind::Video, at, record.to_bytes()),
        tag(TagKind::Audio, at, asc.to_bytes()),
    ]
}

fn picture(at: u32, composition_ms: i32, header: u8) -> Tag {
    let body = VideoBody::Avc {
        keyframe: header == 0x65,
        composition_ms,
        data: h264::to_avcc([&[header, 0x88, 7][..]]),
    };
    tag(TagKind::Video, at, body.to_bytes())
}

fn sound(at: u32) -> Tag {
    let body = AudioBody::Aac(Bytes::from_static(&[0x21, 1, 2]));
    tag(TagKind::Audio, at, body.to_bytes())
}

/// A stream from RTMP time `start` on: 25 pictures per second with two B-frames in a row, AAC at 48 kHz; with arrivals.
fn stream(start: u32, seconds: i64) -> Vec<(i64, Tag)> {
    let mut tags: Vec<(i64, Tag)> = Vec::new();
    for n in 0..seconds * 25 {
        let (composition, header) = match n % 3 {
            _ if n % 24 == 0 => (80, 0x65),
            0 => (80 + 80, 0x41),
            1 => (0, 0x01),
            _ => (0, 0x01),
        };
        let at = n * 40;
        tags.push((
            at,
            picture(start.wrapping_add(cast(at)), composition, header),
        ));
    }
    for n in 0..seconds * 48_000 / 1_024 {
        let at = n * 1_024 / 48;
        tags.push((at, sound(start.wrapping_add(cast(at)))));
    }
    tags.sort_by_key(|(at, _)| *at);
    let headers = headers(start).into_iter().map(|tag| (0, tag));
    let arrivals = tags.into_iter().map(|(at, tag)| (1_000 + at, tag));
    headers
        .chain(arrivals)
        .map(|(at, tag)| (at * MS, tag))
        .collect()
}

fn cast(ms: i64) -> u32 {
    u32::try_from(ms).expect("small")
}

fn run(tags: &[(i64, Tag)]) -> Vec<(i64, AccessUnit)> {
    let mut intake = Intake::default();
    let mut units = Vec::new();
    for (at, tag) in tags {
        if intake.handle(*at, tag).is_err() {
            break;
        }
        assert!(intake.held.len() < MAX_HELD);
        while let Some(unit) = intake.poll_output() {
            units.push((*at, unit));
        }
    }
    units
}

#[test]
fn both_tracks_get_one_offset_and_sound_its_grid() {
    // The 32 bits end in the middle.
    for start in [0, 77_777, u32::MAX - 5_000] {
        let units = run(&stream(start, 20));
        let (video, audio): (Vec<_>, Vec<_>) = units
            .iter()
            .map(|(_, unit)| unit)
            .partition(|unit| unit.track.id == VIDEO);
        assert_eq!((video.len(), audio.len()), (500, 937));
        for (n, unit) in (0..).zip(&audio) {
            assert_eq!(unit.pts, Timestamp::new(48_000 + n * 1_024, Rate::AUDIO));
            assert!(!unit.discontinuity);
        }
        for (n, unit) in (0..).zip(&video) {
            assert_eq!(unit.dts, Timestamp::from_millis(1_000 + n * 40));
            let reorder = unit.pts.as_millis() - unit.dts.as_millis();
            assert_eq!(unit.keyframe, n % 24 == 0);
            assert!([0, 80, 160].contains(&reorder));
            assert!(!unit.discontinuity);
        }
    }
}

#[test]
fn units_wait_for_the_timeline_to_settle_and_no_longer() {
    let units = run(&stream(0, 2));
    let (first, _) = units.first().expect("units");
    assert!((1_000 * MS + SETTLE_NS..1_050 * MS + SETTLE_NS).contains(first));
    // A burst does not wait for the clock.
    let burst: Vec<_> = stream(0, 3).into_iter().map(|(_, tag)| (5, tag)).collect();
    assert!(run(&burst).len() > 100);
}

#[test]
fn a_restarted_encoder_is_another_timeline() {
    let mut tags = stream(500_000, 5);
    tags.extend(
        stream(0, 5)
            .into_iter()
            .map(|(at, tag)| (at + 7_000 * MS, tag)),
    );
    let units = run(&tags);
    let breaks: Vec<_> = units
        .iter()
        .filter(|(_, unit)| unit.discontinuity)
        .collect();
    assert_eq!(breaks.len(), 2, "one of each track");
    assert!(breaks.iter().all(|(at, _)| *at >= 8_000 * MS));
    let last = units.last().expect("units");
    assert!((last.0 - last.1.dts.as_nanos()).abs() < 50 * MS);
}

#[test]
fn a_gap_of_sound_is_said() {
    let mut tags = stream(0, 4);
    let mut sounds = 0;
    tags.retain(|(_, tag)| {
        sounds += usize::from(tag.kind == TagKind::Audio);
        tag.kind == TagKind::Video || !(50..60).contains(&sounds)
    });
    let units = run(&tags);
    let breaks: Vec<_> = units
        .iter()
        .filter(|(_, unit)| unit.discontinuity)
        .collect();
    assert_eq!(breaks.len(), 1);
    // Where the sender says, to the millisecond.
    let at = breaks[0].1.pts.as_nanos() - 1_000 * MS;
    assert!((at - 58 * 1_024_000 / 48 * 1_000).abs() <= MS, "{at}");
}

#[test]
fn other_codecs_are_refused_with_the_remedy() {
    let mut intake = Intake::default();
    let hevc = Bytes::from_static(b"\x90hvc1\x01");
    let error = intake.handle(0, &tag(TagKind::Video, 0, hevc));
    assert!(error.expect_err("refused").to_string().contains("HEVC"));
    let speex = Bytes::from_static(&[0xb2, 0, 0]);
    let error = intake.handle(0, &tag(TagKind::Audio, 0, speex));
    assert!(error.expect_err("refused").to_string().contains("AAC"));
    let broken = VideoBody::Avc {
        keyframe: true,
        composition_ms: 0,
        data: Bytes::from_static(&[0, 0, 0, 9, 0x65]),
    };
    for tag in headers(0) {
        intake.handle(0, &tag).expect("accepted");
    }
    let error = intake.handle(0, &tag(TagKind::Video, 0, broken.to_bytes()));
    assert_eq!(error, Err(Error::NotAvcc));
}

proptest! {
    /// Whatever the timestamps do, capture times are near the arrivals and increase.
    #[test]
    fn wild_timestamps_are_tamed(
        damage in proptest::collection::vec((any::<Index>(), any::<u32>(), 1_usize..40), 0..8),
        stalls in proptest::collection::vec((any::<Index>(), 0_i64..20_000), 0..4),
    ) {
        let mut tags = stream(1_000_000, 12);
        for (at, shift, count) in damage {
            let at = at.index(tags.len());
            for (_, tag) in tags.iter_mut().skip(at).take(count) {
                tag.timestamp_ms = tag.timestamp_ms.wrapping_add(shift);
            }
        }
        for (at, ms) in stalls {
            let at = at.index(tags.len());
            let until = tags[at].0 + ms * MS;
            tags.iter_mut().skip(at).for_each(|(at, _)| *at = (*at).max(until));
        }
        let units = run(&tags);
        let mut last: [Option<Timestamp>; 2] = [None, None];
        for (arrived, unit) in &units {
            let last = &mut last[usize::from(unit.track.id == AUDIO)];
            prop_assert!(last.is_none_or(|last| last < unit.dts));
            prop_assert!(unit.pts >= unit.dts);
            *last = Some(unit.dts);
            let early = unit.dts.as_nanos() - arrived;
            // A unit behind another that was ahead is moved behind that.
            prop_assert!(early <= MAX_LEAD_NS + 1_000 * MS, "{early}");
            prop_assert!(early >= -(MAX_LATE_NS + 1_000 * MS), "{early}");
        }
    }

    #[test]
    fn damaged_tags_are_survived(
        damage in proptest::collection::vec((any::<Index>(), any::<Index>(), any::<u8>(), 0_u8..3), 1..10),
    ) {
        let mut tags = stream(0, 2);
        for (at, byte, value, what) in damage {
            let at = at.index(tags.len());
            let mut body = BytesMut::from(tags[at].1.body.as_ref());
            match what {
                0 if !body.is_empty() => {
                    let byte = byte.index(body.len());
                    body[byte] = value;
                }
                1 => body.truncate(usize::from(value)),
                _ => body.put_u8(value),
            }
            tags[at].1.body = body.freeze();
        }
        let _ = run(&tags);
    }
}
