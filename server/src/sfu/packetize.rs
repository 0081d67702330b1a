//! H.264 access units as RTP payloads: packetization mode 1 (RFC 6184 §5.4–5.8).
//!
//! Every IDR is led by its parameter sets in one STAP-A, so that a receiver can start there; NAL units above the
//! payload limit become FU-A fragments. Done once per clip, not per publisher.

use bytes::{BufMut, Bytes, BytesMut};
use media::h264::{self, nal_type, nal_unit_type};

/// Largest RTP payload, in bytes: with SRTP, UDP and IPv6 headers it stays below an MTU of 1280.
pub(super) const MAX_PAYLOAD_BYTES: usize = 1_180;

const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// The payloads of an access unit in AVCC form. Delimiters and filler are left out.
///
/// # Errors
/// [`media::Error`] when the NAL lengths are wrong.
pub(super) fn h264_payloads(
    data: &Bytes,
    config: &h264::Config,
) -> Result<Vec<Bytes>, media::Error> {
    let nals: Vec<Bytes> = h264::avcc_nals(data).collect::<Result<_, _>>()?;
    let has = |wanted: u8| nals.iter().any(|nal| nal_unit_type(nal) == wanted);
    let mut out = Vec::with_capacity(data.len() / MAX_PAYLOAD_BYTES + 2);
    if has(nal_type::IDR) && !has(nal_type::SPS) {
        parameter_sets(config, &mut out);
    }
    for nal in &nals {
        match nal_unit_type(nal) {
            nal_type::AUD | nal_type::FILLER => {}
            _ if nal.len() <= MAX_PAYLOAD_BYTES => out.push(nal.clone()),
            _ => fragments(nal, &mut out),
        }
    }
    out.retain(|payload| !payload.is_empty());
    Ok(out)
}

/// SPS and PPS in one aggregation packet, or singly if they are too large for one.
fn parameter_sets(config: &h264::Config, out: &mut Vec<Bytes>) {
    let sets = || std::iter::once(&config.sps).chain(&config.pps);
    let size: usize = 1 + sets().map(|set| set.len() + 2).sum::<usize>();
    if size > MAX_PAYLOAD_BYTES {
        sets().for_each(|set| match set.len() {
            0..=MAX_PAYLOAD_BYTES => out.push(set.clone()),
            _ => fragments(set, out),
        });
        return;
    }
    let mut payload = BytesMut::with_capacity(size);
    payload.put_u8(0x60 | STAP_A); // nal_ref_idc of parameter sets
    for set in sets() {
        payload.put_u16(u16::try_from(set.len()).unwrap_or(0));
        payload.put_slice(set);
    }
    out.push(payload.freeze());
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
    use super::super::clip::tests::config;
    use super::*;
    use proptest::prelude::*;

    /// What a receiver makes of the payloads: the NAL units, parameter sets included.
    fn reassemble(payloads: &[Bytes]) -> Vec<Vec<u8>> {
        let mut nals: Vec<Vec<u8>> = Vec::new();
        for payload in payloads {
            match payload[0] & 0x1f {
                STAP_A => {
                    let mut rest = &payload[1..];
                    while let [a, b, tail @ ..] = rest {
                        let (nal, next) = tail.split_at(usize::from(u16::from_be_bytes([*a, *b])));
                        nals.push(nal.to_vec());
                        rest = next;
                    }
                }
                FU_A => {
                    if payload[1] & 0x80 != 0 {
                        nals.push(vec![payload[0] & 0xe0 | payload[1] & 0x1f]);
                    }
                    nals.last_mut()
                        .expect("started")
                        .extend_from_slice(&payload[2..]);
                }
                _ => nals.push(payload.to_vec()),
            }
        }
        nals
    }

    #[test]
    fn an_idr_is_led_by_its_parameter_sets() {
        let idr = vec![0x65; 3_000];
        let data = h264::to_avcc([&[0x09, 0xf0][..], &idr]);
        let payloads = h264_payloads(&data, &config()).expect("valid");
        assert_eq!(payloads[0][0] & 0x1f, STAP_A);
        let nals = reassemble(&payloads);
        assert_eq!(nals, [config().sps.to_vec(), config().pps[0].to_vec(), idr]);
    }

    #[test]
    fn parameter_sets_in_the_stream_are_not_doubled() {
        let sps = config().sps;
        let data = h264::to_avcc([&sps[..], &config().pps[0], &[0x65, 1, 2]]);
        let payloads = h264_payloads(&data, &config()).expect("valid");
        assert_eq!(payloads.len(), 3);
    }

    proptest! {
        #[test]
        fn nal_units_survive(sizes in proptest::collection::vec(1_usize..5_000, 1..5)) {
            let nal = |size: &usize| std::iter::once(0x41).chain((0..=250).cycle()).take(*size).collect();
            let nals: Vec<Vec<u8>> = sizes.iter().map(nal).collect();
            let data = h264::to_avcc(nals.iter().map(Vec::as_slice));
            let payloads = h264_payloads(&data, &config()).expect("valid");
            prop_assert!(payloads.iter().all(|payload| payload.len() <= MAX_PAYLOAD_BYTES));
            prop_assert_eq!(reassemble(&payloads), nals);
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = h264_payloads(&Bytes::from(bytes), &config());
        }
    }
}
