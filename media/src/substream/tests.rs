//! Entries, the split and feeds: round trips, damage, and what the paper's hash does to a stream.

use bytes::BytesMut;
use proptest::prelude::*;

use super::feed::{Reader, Record, Start};
use super::sign::{PublicKey, SIGNATURE_BYTES, Signature, Signer};
use super::*;

fn header(dts_ms: u32, track: u8, size: u32) -> Header {
    Header {
        dts_ms,
        composition_ms: 0,
        kind: FrameKind(track),
        size,
    }
}

fn any_header() -> impl Strategy<Value = Header> {
    (
        any::<u32>(),
        -0x80_0000..0x80_0000_i32,
        any::<u8>().prop_filter("a track", |kind| kind & 3 != 3),
        0..5_000_u32,
    )
        .prop_map(|(dts_ms, composition_ms, kind, size)| Header {
            dts_ms,
            composition_ms,
            kind: FrameKind(kind),
            size,
        })
}

fn any_record() -> impl Strategy<Value = Record> {
    let entry = || (any_header(), any::<u32>()).prop_map(|(header, crc)| Entry { header, crc });
    let prelude = proptest::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
    prop_oneof![
        entry().prop_map(Record::Header),
        entry().prop_map(|entry| {
            let size = usize::try_from(entry.header.size).expect("small");
            Record::Frame(entry, Bytes::from(vec![7; size]))
        }),
        (entry(), any::<u8>()).prop_map(|(entry, byte)| {
            let size = usize::try_from(entry.header.size).expect("small");
            let signature = Signature([byte; SIGNATURE_BYTES]);
            Record::Signed(entry, signature, Bytes::from(vec![7; size]))
        }),
        (
            any::<u16>(),
            1..=MAX_SUBSTREAMS,
            proptest::option::of(1..=255_u8),
            proptest::collection::vec(entry(), 0..=feed::MAX_PRIOR),
            prelude
        )
            .prop_map(
                |(epoch, substreams, key, prior, prelude)| Record::Start(Start {
                    epoch,
                    split: Split::new(HashVersion::Mixed, substreams).expect("in range"),
                    signer: key.map(|byte| PublicKey([byte; 32])),
                    prior,
                    prelude,
                })
            ),
    ]
}

#[test]
fn tags_are_described() {
    let tag = |kind, body: &'static [u8]| Tag {
        kind,
        timestamp_ms: 40,
        body: Bytes::from_static(body),
    };
    let key = Header::of(&tag(TagKind::Video, &[0x17, 1, 0xff, 0xff, 0xf6, 1])).expect("small");
    assert!(key.kind.is_key() && !key.kind.is_config());
    assert_eq!((key.composition_ms, key.size, key.packets()), (-10, 6, 1));
    let config = Header::of(&tag(TagKind::Audio, &[0xaf, 0, 0x11, 0x90])).expect("small");
    assert!(config.kind.is_config() && config.kind.track() == 1);
    assert_eq!(header(0, 0, 0).packets(), 1);
    assert_eq!(header(0, 0, 1_072).packets(), 1);
    assert_eq!(header(0, 0, 1_073).packets(), 2);
}

proptest! {
    #[test]
    fn entries_round_trip(header in any_header(), crc in any::<u32>()) {
        let entry = Entry { header, crc };
        let mut out = BytesMut::new();
        entry.write(&mut out);
        prop_assert_eq!(out.len(), Entry::BYTES);
        prop_assert_eq!(Entry::read(&mut out), Ok(entry));
        prop_assert_eq!(Entry::from_hex(&entry.to_hex()), Ok(entry));
    }

    #[test]
    fn feeds_round_trip_in_any_pieces(records in proptest::collection::vec(any_record(), 0..8), piece in 1..900_usize) {
        let mut wire = BytesMut::new();
        records.iter().for_each(|record| record.write(&mut wire));
        let (mut reader, mut read) = (Reader::default(), Vec::new());
        for piece in wire.chunks(piece) {
            reader.push(piece);
            while let Some(record) = reader.next_record().expect("valid") {
                read.push(record);
            }
        }
        prop_assert_eq!(read, records);
    }

    #[test]
    fn damaged_feeds_are_survived(
        records in proptest::collection::vec(any_record(), 1..4),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut wire = BytesMut::new();
        records.iter().for_each(|record| record.write(&mut wire));
        for (at, value) in damage {
            let at = at.index(wire.len());
            wire[at] = value;
        }
        let mut reader = Reader::default();
        reader.push(&wire);
        while let Ok(Some(_)) = reader.next_record() {}
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,40}") {
        let mut reader = Reader::default();
        reader.push(&bytes);
        while let Ok(Some(_)) = reader.next_record() {}
        let _ = Entry::from_hex(&text);
    }

    /// Swapping, leaving out or putting in a frame is seen in the CRC of a neighbour.
    #[test]
    fn the_order_is_in_the_crc(headers in proptest::collection::hash_set(0..1_000_000_u32, 6..20), at in 1..4_usize, how in 0..3) {
        let mut headers: Vec<_> = headers.into_iter().map(|dts| header(dts, 0, dts % 977)).collect();
        headers.sort_by_key(|header| header.dts_ms);
        let mut sequencer = Sequencer::default();
        let entries: Vec<_> = headers.into_iter().map(|header| sequencer.next(header)).collect();
        let holds = |entries: &[Entry]| entries.windows(3).all(|w| {
            chain_crc([Some(w[0].header), Some(w[1].header)], w[2].header) == w[2].crc
        });
        prop_assert!(holds(&entries));
        let mut wrong = entries.clone();
        match how {
            0 => wrong.swap(at, at + 1),
            1 => drop(wrong.remove(at)),
            _ => wrong.insert(at, Entry { header: header(5_000_000, 1, 3), crc: 9 }),
        }
        prop_assert!(!holds(&wrong));
    }
}

/// How a stream of pictures, and one with sound between them, falls into substreams: the mean and the longest run of
/// frames in a row that share one, and the largest share of one substream over its fair part.
fn runs(split: Split, fps: u32, sound: bool) -> (f64, usize, f64) {
    let frames = 20_000_u32;
    let pictures = (0..frames).map(|n| (n * 1_000 / fps, 0));
    let mut headers: Vec<(u32, u8)> = pictures.collect();
    if sound {
        // 1024 samples at 48 kHz.
        let last = frames * 1_000 / fps;
        headers.extend((0..last * 3 / 64).map(|n| (n * 64 / 3, 1)));
        headers.sort_unstable();
    }
    let ssids: Vec<u8> = headers
        .iter()
        .map(|(dts, track)| split.substream(&header(*dts, *track, 0)))
        .collect();
    let lengths: Vec<usize> = ssids.chunk_by(|a, b| a == b).map(<[u8]>::len).collect();
    let count = |n: usize| f64::from(u32::try_from(n).expect("small"));
    let shares = (0..split.substreams()).map(|k| ssids.iter().filter(|s| **s == k).count());
    let fair = count(ssids.len()) / f64::from(split.substreams());
    (
        count(ssids.len()) / count(lengths.len()),
        lengths.into_iter().max().unwrap_or_default(),
        count(shares.max().unwrap_or_default()) / fair,
    )
}

/// Why the paper's hash is not the default: bursts of one substream are as long as half a second.
#[test]
fn the_papers_hash_makes_bursts_and_ours_does_not() {
    for substreams in 2..=8_u8 {
        let ideal = f64::from(substreams) / f64::from(substreams - 1);
        for fps in [24, 25, 30, 50, 60] {
            for sound in [false, true] {
                let split = Split::new(HashVersion::Mixed, substreams).expect("in range");
                let (mean, longest, share) = runs(split, fps, sound);
                let of = format!("{substreams} substreams, {fps} fps, sound {sound}");
                assert!(mean <= 1.1 * ideal, "{of}: mean run {mean:.2}");
                assert!(longest <= 24, "{of}: longest run {longest}");
                assert!(share <= 1.08, "{of}: largest share {share:.2}");
            }
        }
    }
    // The figures of docs/rlive.md: pictures only, at 25 per second, K = 4.
    let of = |hash| {
        let split = Split::new(hash, 4).expect("in range");
        let (mean, longest, _) = runs(split, 25, false);
        (format!("{mean:.1}"), longest)
    };
    assert_eq!(of(HashVersion::Paper), ("6.4".into(), 13));
    assert_eq!(of(HashVersion::Mixed), ("1.3".into(), 7));
}

/// The partition is part of the protocol: it may not change under a version's number.
#[test]
fn known_answers_of_the_split() {
    let ssids = |hash| -> Vec<u8> {
        let split = Split::new(hash, 4).expect("in range");
        (0..12)
            .map(|n| split.substream(&header(n * 40, u8::try_from(n % 2).expect("a bit"), 0)))
            .collect()
    };
    assert_eq!(
        ssids(HashVersion::Paper),
        [1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    );
    assert_eq!(
        ssids(HashVersion::Mixed),
        [1, 2, 3, 3, 3, 3, 0, 2, 1, 3, 3, 0]
    );
}

/// A signature holds for one frame in one place of one life of one stream.
#[test]
fn what_is_signed_is_one_frame_in_its_place() {
    let signer = Signer::of_stream(b"secret", "demo", 3).expect("a key");
    let key = signer.public();
    let mut sequencer = Sequencer::default();
    let body = |n: u8, size: u32| vec![n; usize::try_from(size).expect("small")];
    for size in [0, 1, 300, 1_028, 1_029, 1_072, 1_073, 2_100, 2_144, 5_000] {
        let before: Vec<_> = (0..5)
            .map(|n| sequencer.next(header(n * 40 + size, 0, 100)))
            .collect();
        let entry = sequencer.next(header(300 + size, 0, size));
        let signed = entry.header.signed_predecessors();
        assert!((1..=CHAIN_LENGTH).contains(&signed));
        let last = body(1, size).len() - usize::from(entry.header.packets() - 1) * 1_072;
        assert!(36 + signed * 16 + 64 + last + 8 <= 1_200, "{size} bytes");
        let near = &before[before.len() - signed..];
        let signature = signer.sign(&before, &entry, &body(1, size));
        let good = |before: &[Entry], entry: &Entry, body: &[u8]| {
            key.verifies(before, entry, body, &signature)
        };
        assert!(good(near, &entry, &body(1, size)));
        assert!(!good(&near[1..], &entry, &body(1, size)), "fewer before it");
        assert!(!good(near, &near[0], &body(1, size)), "another frame");
        assert!(
            size == 0 || !good(near, &entry, &body(2, size)),
            "other bytes"
        );
        let mut forged = near.to_vec();
        forged[0].crc ^= 1;
        assert!(!good(&forged, &entry, &body(1, size)), "another past");
        for (stream, epoch) in [("demo", 4), ("other", 3)] {
            let other = Signer::of_stream(b"secret", stream, epoch).expect("a key");
            let found = other.public();
            assert!(!found.verifies(near, &entry, &body(1, size), &signature));
        }
    }
}
