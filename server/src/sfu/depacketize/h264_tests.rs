//! The H.264 depacketizer against hand-made packets, real shapes of senders, and mutation.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use std::time::Instant;

use super::{Depacketizer, Picture};
use crate::sfu::packet::RtpPacket;

const SPS: &[u8] = &[
    0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01,
    0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2e, 0x48,
];
const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];
const MTU: usize = 40;

#[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
fn now() -> Instant {
    Instant::now()
}

fn packet(timestamp: u32, marker: bool, payload: &[u8]) -> RtpPacket {
    RtpPacket {
        sequence: 0,
        timestamp,
        marker,
        payload: Bytes::copy_from_slice(payload),
        arrived: now(),
        repaired: false,
    }
}

/// A slice NAL unit: `first` when it begins the picture.
fn slice(kind: u8, first: bool, length: usize, fill: u8) -> Vec<u8> {
    let mut nal = vec![0x60 | kind, if first { 0x88 } else { 0x48 }];
    nal.resize(length.max(2), fill);
    nal
}

fn stap_a(nals: &[&[u8]]) -> Vec<u8> {
    let mut out = BytesMut::from(&[0x78][..]);
    for nal in nals {
        out.put_u16(u16::try_from(nal.len()).expect("short"));
        out.put_slice(nal);
    }
    out.to_vec()
}

fn fu_a(nal: &[u8]) -> Vec<Vec<u8>> {
    let chunks: Vec<&[u8]> = nal[1..].chunks(MTU).collect();
    let last = chunks.len() - 1;
    chunks
        .iter()
        .enumerate()
        .map(|(index, chunk)| {
            let flags = if index == 0 { 0x80 } else { 0 } | if index == last { 0x40 } else { 0 };
            let mut out = vec![nal[0] & 0xe0 | 28, nal[0] & 0x1f | flags];
            out.extend_from_slice(chunk);
            out
        })
        .collect()
}

/// Packets of one picture, as a sender in packetization mode 1 makes them.
fn picture(timestamp: u32, nals: &[Vec<u8>]) -> Vec<RtpPacket> {
    let mut payloads = Vec::new();
    for nal in nals {
        if nal.len() > MTU + 1 {
            payloads.extend(fu_a(nal));
        } else {
            payloads.push(nal.clone());
        }
    }
    let last = payloads.len() - 1;
    payloads
        .iter()
        .enumerate()
        .map(|(index, payload)| packet(timestamp, index == last, payload))
        .collect()
}

fn avcc(nals: &[Vec<u8>]) -> Bytes {
    media::h264::to_avcc(nals.iter().map(Vec::as_slice))
}

fn feed(depacketizer: &mut Depacketizer, packets: &[RtpPacket]) -> Vec<Picture> {
    for packet in packets {
        let _ = depacketizer.handle_packet(packet);
    }
    std::iter::from_fn(|| depacketizer.poll_picture()).collect()
}

fn started() -> Depacketizer {
    let mut depacketizer = Depacketizer::new(&[]);
    let mut packets = vec![packet(0, false, &stap_a(&[SPS, PPS]))];
    packets.extend(picture(0, &[slice(5, true, 100, 1)]));
    assert_eq!(feed(&mut depacketizer, &packets).len(), 1);
    depacketizer
}

#[test]
fn parameter_sets_in_packets_of_their_own_and_several_slices() {
    let mut depacketizer = Depacketizer::new(&[]);
    let slices = vec![
        slice(5, true, 100, 1),
        slice(5, false, 20, 2),
        slice(5, false, 90, 3),
    ];
    let mut packets = vec![
        packet(9, false, &[0x09, 0xf0]),
        packet(9, false, SPS),
        packet(9, false, PPS),
    ];
    packets.extend(picture(9, &slices));
    let pictures = feed(&mut depacketizer, &packets);
    assert_eq!(pictures.len(), 1);
    assert!(pictures[0].keyframe && !pictures[0].discontinuity);
    assert_eq!(
        (pictures[0].config.width, pictures[0].config.height),
        (640, 360)
    );
    assert_eq!(pictures[0].data, avcc(&slices), "no parameter sets inside");
}

#[test]
fn parameter_sets_may_come_as_a_picture_of_their_own() {
    let mut depacketizer = Depacketizer::new(&[]);
    let mut packets = vec![packet(1, true, SPS), packet(2, true, PPS)];
    packets.extend(picture(3, &[slice(5, true, 10, 1)]));
    assert_eq!(feed(&mut depacketizer, &packets).len(), 1);
}

#[test]
fn parameter_sets_of_the_offer_are_enough() {
    let mut depacketizer = Depacketizer::new(&[Bytes::from_static(SPS), Bytes::from_static(PPS)]);
    assert_eq!(
        feed(&mut depacketizer, &picture(3, &[slice(5, true, 10, 1)])).len(),
        1
    );
}

#[test]
fn nothing_comes_out_before_an_idr_picture() {
    let mut depacketizer = Depacketizer::new(&[]);
    let mut packets = vec![packet(1, false, &stap_a(&[SPS, PPS]))];
    packets.extend(picture(1, &[slice(1, true, 100, 1)]));
    assert!(feed(&mut depacketizer, &packets).is_empty());
    assert!(depacketizer.is_awaiting_idr());
    assert_eq!(depacketizer.undecodable(), 1);
}

#[test]
fn a_timestamp_change_ends_a_picture_without_marker() {
    let mut depacketizer = started();
    let mut packets = picture(3_000, &[slice(1, true, 100, 1)]);
    packets.iter_mut().for_each(|packet| packet.marker = false);
    assert!(feed(&mut depacketizer, &packets).is_empty());
    let pictures = feed(&mut depacketizer, &picture(6_000, &[slice(1, true, 10, 2)]));
    assert_eq!(
        pictures.iter().map(|p| p.timestamp).collect::<Vec<_>>(),
        [3_000, 6_000]
    );
}

#[test]
fn fragments_are_never_joined_over_a_loss() {
    let mut depacketizer = started();
    let first = picture(3_000, &[slice(1, true, 200, 0xaa)]);
    let second = picture(6_000, &[slice(1, true, 200, 0xbb)]);
    feed(&mut depacketizer, &first[..2]);
    depacketizer.handle_loss();
    // The rest of the second picture, its start lost too: nothing may come out.
    assert!(feed(&mut depacketizer, &second[1..]).is_empty());
    assert!(feed(&mut depacketizer, &picture(9_000, &[slice(1, true, 50, 1)])).is_empty());
    let idr = picture(12_000, &[slice(5, true, 50, 1)]);
    let pictures = feed(&mut depacketizer, &idr);
    assert_eq!(pictures.len(), 1);
    assert!(pictures[0].discontinuity);
}

#[test]
fn an_idr_picture_whose_first_slice_is_lost_is_dropped() {
    let mut depacketizer = started();
    depacketizer.handle_loss();
    assert!(
        feed(
            &mut depacketizer,
            &picture(3_000, &[slice(5, false, 50, 1)])
        )
        .is_empty()
    );
    assert_eq!(
        feed(&mut depacketizer, &picture(6_000, &[slice(5, true, 50, 1)])).len(),
        1
    );
}

#[test]
fn a_new_fragment_start_without_an_end_is_malformed() {
    let mut depacketizer = started();
    let first = picture(3_000, &[slice(1, true, 200, 0xaa)]);
    feed(&mut depacketizer, &first[..2]);
    assert!(depacketizer.handle_packet(&first[0]).is_err());
    assert!(depacketizer.is_awaiting_idr());
}

#[test]
fn bad_aggregates_are_errors() {
    for payload in [
        &[0x78, 0][..],
        &[0x78, 0, 0],
        &[0x78, 0, 9, 1],
        &[0x78, 0, 2, 0x67, 0x42, 0],
    ] {
        let mut depacketizer = started();
        assert!(
            depacketizer
                .handle_packet(&packet(3_000, true, payload))
                .is_err(),
            "{payload:?}"
        );
    }
}

#[test]
fn a_change_of_parameter_sets_shows_in_the_config() {
    let mut depacketizer = started();
    let before = feed(&mut depacketizer, &picture(3_000, &[slice(5, true, 10, 1)]));
    let mut changed = PPS.to_vec();
    changed[3] ^= 1;
    let mut packets = vec![packet(6_000, false, &changed)];
    packets.extend(picture(6_000, &[slice(5, true, 10, 1)]));
    let after = feed(&mut depacketizer, &packets);
    assert_ne!(before[0].config, after[0].config);
}

proptest! {
    /// Packets of real shape with random losses: every picture that comes out is one that went in, unchanged.
    #[test]
    fn pictures_come_out_whole_or_not_at_all(
        lengths in proptest::collection::vec((proptest::collection::vec(2_usize..300, 1..4), any::<bool>()), 1..30),
        losses in proptest::collection::vec(0_u8..10, 400),
    ) {
        let mut depacketizer = Depacketizer::new(&[]);
        let mut originals = std::collections::BTreeMap::new();
        let mut losses = losses.into_iter();
        let mut out = Vec::new();
        for (index, (slices, idr)) in lengths.into_iter().enumerate() {
            let timestamp = u32::try_from(index).expect("few") * 3_000;
            let fill = u8::try_from(index).expect("few");
            let kind = if idr { 5 } else { 1 };
            let nals: Vec<Vec<u8>> = slices
                .iter()
                .enumerate()
                .map(|(at, length)| slice(kind, at == 0, *length, fill))
                .collect();
            let mut packets = vec![packet(timestamp, false, &stap_a(&[SPS, PPS]))];
            packets.extend(picture(timestamp, &nals));
            originals.insert(timestamp, (avcc(&nals), idr));
            for packet in packets {
                if losses.next() == Some(0) {
                    depacketizer.handle_loss();
                } else {
                    prop_assert!(depacketizer.handle_packet(&packet).is_ok() || depacketizer.is_awaiting_idr());
                }
            }
            out.extend(std::iter::from_fn(|| depacketizer.poll_picture()));
        }
        let mut last = None;
        for picture in out {
            let (data, idr) = &originals[&picture.timestamp];
            prop_assert_eq!(&picture.data, data);
            prop_assert_eq!(picture.keyframe, *idr);
            // Without a word about it, nothing is missing between two pictures.
            if let Some(last) = last && !picture.discontinuity {
                prop_assert_eq!(picture.timestamp, last + 3_000);
            }
            if picture.discontinuity {
                prop_assert!(picture.keyframe);
            }
            last = Some(picture.timestamp);
        }
    }

    /// Mutated packets: no panic, and what comes out is well-formed AVCC.
    #[test]
    fn mutation_is_survived(
        flips in proptest::collection::vec((0_usize..40, 0_usize..60, any::<u8>()), 0..40),
        cuts in proptest::collection::vec((0_usize..40, 0_usize..60), 0..6),
    ) {
        let mut packets = vec![packet(0, false, &stap_a(&[SPS, PPS]))];
        for index in 0..6_u32 {
            let kind = if index % 3 == 0 { 5 } else { 1 };
            packets.extend(picture(index * 3_000, &[slice(kind, true, 150, 7), slice(kind, false, 20, 8)]));
        }
        for (at, offset, value) in flips {
            let Some(packet) = packets.get_mut(at) else { continue };
            let mut bytes = packet.payload.to_vec();
            if let Some(byte) = bytes.get_mut(offset) {
                *byte = value;
            }
            packet.payload = Bytes::from(bytes);
        }
        for (at, length) in cuts {
            if let Some(packet) = packets.get_mut(at) {
                packet.payload.truncate(length);
            }
        }
        let mut depacketizer = Depacketizer::new(&[]);
        for picture in feed(&mut depacketizer, &packets) {
            let nals: Result<Vec<Bytes>, _> = media::h264::avcc_nals(&picture.data).collect();
            prop_assert!(nals.is_ok_and(|nals| !nals.is_empty()));
        }
    }

    /// Any bytes at all.
    #[test]
    fn noise_is_survived(packets in proptest::collection::vec((any::<u32>(), any::<bool>(), proptest::collection::vec(any::<u8>(), 0..80)), 0..60)) {
        let mut depacketizer = Depacketizer::new(&[]);
        let packets: Vec<RtpPacket> = packets.iter().map(|(time, marker, payload)| packet(time % 3, *marker, payload)).collect();
        let _ = feed(&mut depacketizer, &packets);
    }
}
