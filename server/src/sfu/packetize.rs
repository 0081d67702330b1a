//! H.264 access units as RTP payloads: packetization mode 1 (RFC 6184 §5.4–5.8).
//!
//! Every IDR is led by its parameter sets, so that a receiver can start there. NAL units that precede the slices are small
//! and share a STAP-A; NAL units above the payload limit become FU-A fragments. The inverse of `depacketize`.

use bytes::{BufMut, Bytes, BytesMut};
use media::h264::{self, nal_type, nal_unit_type};

/// Largest RTP payload, in bytes: with SRTP, UDP and IPv6 headers it stays below an MTU of 1280.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 1_180;

const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// The payloads of an access unit in AVCC form; `config` leads an IDR that brings no parameter sets itself. Delimiters and
/// filler are left out.
///
/// # Errors
/// [`media::Error`] when the NAL lengths are wrong.
pub(crate) fn h264_payloads(
    data: &Bytes,
    config: &h264::Config,
) -> Result<Vec<Bytes>, media::Error> {
    let nals: Vec<Bytes> = h264::avcc_nals(data).collect::<Result<_, _>>()?;
    let has = |wanted: u8| nals.iter().any(|nal| nal_unit_type(nal) == wanted);
    let mut out = Vec::with_capacity(data.len() / MAX_PAYLOAD_BYTES + 2);
    let mut preface: Vec<&Bytes> = Vec::new();
    if has(nal_type::IDR) && !has(nal_type::SPS) {
        preface.extend(std::iter::once(&config.sps).chain(&config.pps));
    }
    for nal in nals.iter().filter(|nal| !nal.is_empty()) {
        match nal_unit_type(nal) {
            nal_type::AUD | nal_type::FILLER => {}
            nal_type::SLICE..=nal_type::IDR => {
                together(std::mem::take(&mut preface), &mut out);
                alone(nal, &mut out);
            }
            _ => preface.push(nal),
        }
    }
    together(preface, &mut out);
    Ok(out)
}

/// The payloads of parameter sets alone.
pub(crate) fn parameter_sets(config: &h264::Config) -> Vec<Bytes> {
    let mut out = Vec::new();
    let sets = std::iter::once(&config.sps).chain(&config.pps);
    together(sets.collect(), &mut out);
    out
}

/// NAL units in as few aggregates as they fit into.
fn together(nals: Vec<&Bytes>, out: &mut Vec<Bytes>) {
    let mut group: Vec<&Bytes> = Vec::new();
    let mut size = 1;
    for nal in nals {
        let more = nal.len() + 2;
        if size + more > MAX_PAYLOAD_BYTES {
            aggregate(&std::mem::take(&mut group), size, out);
            size = 1;
        }
        group.push(nal);
        size += more;
    }
    aggregate(&group, size, out);
}

fn aggregate(nals: &[&Bytes], size: usize, out: &mut Vec<Bytes>) {
    if let [] | [_] = nals {
        nals.iter().for_each(|nal| alone(nal, out));
        return;
    }
    let headers = || nals.iter().filter_map(|nal| nal.first());
    // The importance of the most important one, and damaged when one is (RFC 6184 §5.7).
    let importance = headers().map(|header| header & 0x60).max().unwrap_or(0);
    let damaged = headers().fold(0, |held, header| held | header & 0x80);
    let mut payload = BytesMut::with_capacity(size);
    payload.put_u8(damaged | importance | STAP_A);
    for nal in nals {
        payload.put_u16(u16::try_from(nal.len()).unwrap_or(0));
        payload.put_slice(nal);
    }
    out.push(payload.freeze());
}

fn alone(nal: &Bytes, out: &mut Vec<Bytes>) {
    match nal.len() {
        0 => {}
        1..=MAX_PAYLOAD_BYTES => out.push(nal.clone()),
        _ => fragments(nal, out),
    }
}

fn fragments(nal: &Bytes, out: &mut Vec<Bytes>) {
    let Some((&header, body)) = nal.split_first() else {
        return;
    };
    let chunk = MAX_PAYLOAD_BYTES - 2;
    let last = body.len().div_ceil(chunk).saturating_sub(1);
    for (index, part) in body.chunks(chunk).enumerate() {
        let start = u8::from(index == 0) << 7;
        let end = u8::from(index == last) << 6;
        let mut payload = BytesMut::with_capacity(part.len() + 2);
        payload.put_u8(header & 0xe0 | FU_A);
        payload.put_u8(start | end | header & 0x1f);
        payload.put_slice(part);
        out.push(payload.freeze());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sfu::depacketize::h264::Depacketizer;
    use crate::sfu::packet::RtpPacket;
    use proptest::prelude::*;
    use std::time::Instant;

    const SPS: &[u8] = &[
        0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00,
        0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2e, 0x48,
    ];
    const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];

    fn config() -> h264::Config {
        let pps = vec![Bytes::from_static(PPS)];
        h264::Config::new(Bytes::from_static(SPS), pps).expect("valid")
    }

    /// What a receiver makes of the payloads of one picture.
    #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
    fn received(receiver: &mut Depacketizer, timestamp: u32, payloads: &[Bytes]) -> Vec<Vec<u8>> {
        for (at, payload) in payloads.iter().enumerate() {
            let packet = RtpPacket {
                sequence: 0,
                timestamp,
                marker: at + 1 == payloads.len(),
                payload: payload.clone(),
                arrived: Instant::now(),
                repaired: false,
            };
            receiver.handle_packet(&packet).expect("well-formed");
        }
        let picture = receiver.poll_picture().expect("complete");
        let nals = h264::avcc_nals(&picture.data);
        nals.map(|nal| nal.expect("valid").to_vec()).collect()
    }

    fn kinds(payloads: &[Bytes]) -> Vec<u8> {
        payloads.iter().map(|payload| payload[0] & 0x1f).collect()
    }

    #[test]
    fn an_idr_is_led_by_its_parameter_sets() {
        let idr: Vec<u8> = [0x65, 0x88].into_iter().chain([7; 3_000]).collect();
        let data = h264::to_avcc([&[0x09, 0xf0][..], &idr]);
        let payloads = h264_payloads(&data, &config()).expect("valid");
        assert_eq!(kinds(&payloads), [STAP_A, FU_A, FU_A, FU_A]);
        let mut receiver = Depacketizer::new(&[]);
        assert_eq!(received(&mut receiver, 1, &payloads), [idr]);
        assert_eq!(receiver.config().expect("known").sps, config().sps);
    }

    #[test]
    fn parameter_sets_in_the_stream_are_not_doubled() {
        let data = h264::to_avcc([SPS, PPS, &[0x06, 1], &[0x65, 0x88, 2]]);
        let payloads = h264_payloads(&data, &config()).expect("valid");
        assert_eq!(kinds(&payloads), [STAP_A, nal_type::IDR]);
        assert_eq!(payloads[0].len(), 1 + SPS.len() + PPS.len() + 2 + 3 * 2);
        assert_eq!(
            parameter_sets(&config()),
            [payloads[0].slice(..payloads[0].len() - 4)]
        );
    }

    #[test]
    fn what_is_too_large_for_an_aggregate_goes_alone() {
        let sei: Vec<u8> = std::iter::once(0x06).chain([9; 1_170]).collect();
        let data = h264::to_avcc([&sei[..], &sei, &[0x41, 0x9a]]);
        let payloads = h264_payloads(&data, &config()).expect("valid");
        assert_eq!(kinds(&payloads), [6, 6, 1]);
    }

    proptest! {
        /// A receiver gets back what was cut up, picture by picture.
        #[test]
        fn nal_units_survive(
            pictures in proptest::collection::vec(proptest::collection::vec((any::<bool>(), 2_usize..5_000), 0..5), 1..4),
        ) {
            let mut receiver = Depacketizer::new(&[]);
            for (timestamp, sizes) in (1..).zip(pictures) {
                let keyframe = timestamp == 1;
                let slice = if keyframe { 0x65 } else { 0x41 };
                let make = |header: u8, size: usize| {
                    let body = std::iter::once(0x88).chain((0..=250).cycle());
                    std::iter::once(header).chain(body).take(size).collect::<Vec<u8>>()
                };
                let mut nals: Vec<Vec<u8>> = sizes
                    .iter()
                    .map(|(is_slice, size)| make(if *is_slice { slice } else { 0x06 }, *size))
                    .collect();
                nals.push(make(slice, 40));
                let data = h264::to_avcc(nals.iter().map(Vec::as_slice));
                let payloads = h264_payloads(&data, &config()).expect("valid");
                prop_assert!(payloads.iter().all(|payload| payload.len() <= MAX_PAYLOAD_BYTES));
                prop_assert_eq!(received(&mut receiver, timestamp, &payloads), nals);
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = h264_payloads(&Bytes::from(bytes), &config());
        }
    }
}
