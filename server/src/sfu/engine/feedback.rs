//! Transport-wide feedback in our own terms.
//!
//! Invariant: no more packets come out than the feedback says it is about, whatever its runs claim, and at most
//! [`MAX_PACKETS`].

use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
};

use crate::sfu::packet::Arrivals;

/// Most packets of one feedback that are looked at; browsers report ten to twenty times a second.
const MAX_PACKETS: usize = 8_192;
/// Unit of the reference time, in microseconds.
const REFERENCE_US: i64 = 64_000;

/// When the packets arrived that the feedback is about. Those of which it says only that they arrived are left out.
pub(super) fn arrivals(feedback: &TransportLayerCc) -> Arrivals {
    let count = usize::from(feedback.packet_status_count).min(MAX_PACKETS);
    let mut packets = Vec::with_capacity(count);
    let mut deltas = feedback.recv_deltas.iter();
    let mut micros = i64::from(feedback.reference_time) * REFERENCE_US;
    let symbols = feedback.packet_chunks.iter().flat_map(|chunk| {
        let (run, list): (usize, &[SymbolTypeTcc]) = match chunk {
            PacketStatusChunk::RunLengthChunk(run) => (
                usize::from(run.run_length),
                std::slice::from_ref(&run.packet_status_symbol),
            ),
            PacketStatusChunk::StatusVectorChunk(vector) => (1, &vector.symbol_list),
        };
        std::iter::repeat_n(list, run).flatten().copied()
    });
    for (offset, symbol) in (0..=u16::MAX).zip(symbols).take(count) {
        let number = feedback.base_sequence_number.wrapping_add(offset);
        match symbol {
            SymbolTypeTcc::PacketNotReceived => packets.push((number, None)),
            SymbolTypeTcc::PacketReceivedSmallDelta | SymbolTypeTcc::PacketReceivedLargeDelta => {
                let Some(delta) = deltas.next() else { break };
                micros = micros.saturating_add(delta.delta);
                packets.push((number, Some(micros)));
            }
            SymbolTypeTcc::PacketReceivedWithoutDelta => {}
        }
    }
    Arrivals { packets }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;
    use bytes::{Bytes, BytesMut};
    use proptest::prelude::*;
    use rtc::shared::marshal::Unmarshal;

    /// A feedback packet on the wire.
    fn wire(base: u16, count: u16, reference: u32, body: &[u8]) -> Bytes {
        let mut out = BytesMut::new();
        let mut padded = body.to_vec();
        while !padded.len().is_multiple_of(4) {
            padded.push(0);
        }
        let words = u16::try_from((16 + padded.len()) / 4).expect("short");
        out.put_slice(&[0x8f, 205]);
        out.put_u16(words);
        out.put_u32(1);
        out.put_u32(2);
        out.put_u16(base);
        out.put_u16(count);
        out.put_u32(reference << 8);
        out.put_slice(&padded);
        out.freeze()
    }

    #[test]
    fn runs_and_vectors_are_read_up_to_the_count() {
        // A run of two small deltas, then a vector of two bits: lost, large, then five that the count leaves out.
        let body = [0x20, 0x02, 0b1100_1000, 0, 4, 8, 0xff, 0xf8, 0, 0];
        let mut raw = wire(65_535, 4, 3, &body);
        let feedback = TransportLayerCc::unmarshal(&mut raw).expect("valid");
        let base = 3 * REFERENCE_US;
        let expected = [
            (65_535, Some(base + 1_000)),
            (0, Some(base + 3_000)),
            (1, None),
            (2, Some(base + 1_000)),
        ];
        assert_eq!(arrivals(&feedback).packets, expected);
    }

    proptest! {
        #[test]
        fn noise_is_survived(base in any::<u16>(), count in any::<u16>(), body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut raw = wire(base, count, 1, &body);
            if let Ok(feedback) = TransportLayerCc::unmarshal(&mut raw) {
                prop_assert!(arrivals(&feedback).packets.len() <= usize::from(count));
            }
        }
    }
}
