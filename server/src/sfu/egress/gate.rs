//! What a decoder needs first: lets pictures through from a keyframe on (RFC 6184 §5).
//!
//! While closed it holds the packets of the picture that is arriving; its first IDR slice opens the gate. Parameter sets
//! that the picture does not carry itself are put before it, so that what comes through can always be decoded.
//!
//! Invariant: at most [`MAX_HELD`] packets are held; a picture that needs more before its first slice is left out.

use std::sync::Arc;

use bytes::Bytes;
use media::h264::{Config, nal_type, nal_unit_type};

use crate::sfu::packet::RtpPacket;
use crate::sfu::packetize::parameter_sets;

/// Most packets before the first slice of a picture.
const MAX_HELD: usize = 32;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const FU_START: u8 = 0x80;

/// Whether pictures get through.
#[derive(Debug, Default)]
pub(super) struct Gate {
    is_open: bool,
    /// The picture that is arriving, while closed.
    timestamp: Option<u32>,
    /// It cannot open the gate: it is no keyframe, or its beginning is missing.
    is_hopeless: bool,
    held: Vec<RtpPacket>,
}

/// What a payload says about its picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    /// The first slice of an IDR picture.
    Keyframe,
    /// What precedes a slice: parameter sets, supplemental information.
    Preface,
    /// Anything else.
    Other,
}

impl Gate {
    /// Nothing passes before the next keyframe. `within` is the timestamp of a picture that has begun already.
    pub(super) fn close(&mut self, within: Option<u32>) {
        self.is_open = false;
        self.timestamp = within;
        self.is_hopeless = within.is_some();
        self.held.clear();
    }

    /// Pictures get through.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// What gets through now that `packet`, the next of its stream, is here: the payloads that were made here, which go
    /// first and have no packet of their own, then packets.
    pub(super) fn handle(
        &mut self,
        packet: RtpPacket,
        config: Option<&Arc<Config>>,
    ) -> (Vec<Bytes>, Vec<RtpPacket>) {
        if self.is_open {
            return (Vec::new(), vec![packet]);
        }
        if self.timestamp != Some(packet.timestamp) {
            self.timestamp = Some(packet.timestamp);
            self.is_hopeless = false;
            self.held.clear();
        }
        if packet.payload.is_empty() || self.is_hopeless {
            return (Vec::new(), Vec::new());
        }
        match begins(&packet.payload) {
            Begins::Preface if self.held.len() < MAX_HELD => self.held.push(packet),
            Begins::Keyframe => {
                let made = self.missing_sets(&packet, config);
                let mut through = std::mem::take(&mut self.held);
                through.push(packet);
                self.is_open = true;
                return (made, through);
            }
            Begins::Preface | Begins::Other => {
                self.is_hopeless = true;
                self.held.clear();
            }
        }
        (Vec::new(), Vec::new())
    }

    fn missing_sets(&self, first: &RtpPacket, config: Option<&Arc<Config>>) -> Vec<Bytes> {
        let carried = |wanted: u8| {
            let mut payloads = self.held.iter().chain([first]).map(|held| &held.payload);
            payloads.any(|payload| nals(payload).any(|nal| nal_unit_type(&nal) == wanted))
        };
        match config {
            Some(config) if !carried(nal_type::SPS) || !carried(nal_type::PPS) => {
                parameter_sets(config)
            }
            Some(_) | None => Vec::new(),
        }
    }
}

/// The whole NAL units of a payload; of a fragment, its header and first byte if it is the first.
fn nals(payload: &Bytes) -> impl Iterator<Item = Bytes> + '_ {
    let kind = nal_unit_type(payload);
    let mut at = 0;
    std::iter::from_fn(move || {
        let first = at == 0;
        match kind {
            STAP_A => {
                at = at.max(1);
                let &[high, low] = payload.get(at..at + 2)? else {
                    return None;
                };
                let length = usize::from(u16::from_be_bytes([high, low]));
                let (start, end) = (at + 2, at + 2 + length);
                if length == 0 || end > payload.len() {
                    return None;
                }
                at = end;
                Some(payload.slice(start..end))
            }
            FU_A if first => {
                at = payload.len();
                let &[indicator, header, slice, ..] = payload.as_ref() else {
                    return None;
                };
                let nal = indicator & 0xe0 | header & 0x1f;
                (header & FU_START != 0).then(|| Bytes::copy_from_slice(&[nal, slice]))
            }
            1..=23 if first => {
                at = payload.len().max(1);
                Some(payload.clone())
            }
            _ => None,
        }
    })
}

fn begins(payload: &Bytes) -> Begins {
    let mut found = None;
    for nal in nals(payload) {
        match nal_unit_type(&nal) {
            // The first slice begins at macroblock 0, a ue(v) of one set bit.
            nal_type::IDR if nal.get(1).is_some_and(|byte| byte & 0x80 != 0) => {
                return Begins::Keyframe;
            }
            1..=5 => return Begins::Other,
            _ => found = Some(Begins::Preface),
        }
    }
    found.unwrap_or(Begins::Other)
}

/// Whether a payload is, or goes before, the first slice of a keyframe; supplemental information goes before any picture.
pub(crate) fn may_begin_keyframe(payload: &Bytes) -> bool {
    nals(payload).any(|nal| match nal_unit_type(&nal) {
        nal_type::SPS => true,
        nal_type::IDR => nal.get(1).is_some_and(|byte| byte & 0x80 != 0),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Instant;

    const SPS: &[u8] = &[
        0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00,
        0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2e, 0x48,
    ];
    const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];
    const IDR: &[u8] = &[0x65, 0x88, 1];

    #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
    fn packet(timestamp: u32, payload: &[u8]) -> RtpPacket {
        RtpPacket {
            sequence: 0,
            timestamp,
            marker: false,
            payload: Bytes::copy_from_slice(payload),
            arrived: Instant::now(),
            repaired: false,
        }
    }

    fn config() -> Arc<Config> {
        let pps = vec![Bytes::from_static(PPS)];
        Arc::new(Config::new(Bytes::from_static(SPS), pps).expect("valid"))
    }

    /// What gets through: made payloads and packets.
    fn pass(gate: &mut Gate, timestamp: u32, payload: &[u8]) -> (usize, usize) {
        let (made, packets) = gate.handle(packet(timestamp, payload), Some(&config()));
        (made.len(), packets.len())
    }

    #[test]
    fn opens_with_a_keyframe_and_what_precedes_it() {
        let mut gate = Gate::default();
        assert_eq!(pass(&mut gate, 1, &[0x41, 0x9a]), (0, 0));
        assert_eq!(pass(&mut gate, 2, SPS), (0, 0));
        assert_eq!(pass(&mut gate, 2, PPS), (0, 0));
        assert_eq!(pass(&mut gate, 2, &[0x7c, 0x85, 0x88]), (0, 3));
        assert_eq!(pass(&mut gate, 2, &[0x7c, 0x45, 0x88]), (0, 1));
        assert!(gate.is_open());
        gate.close(Some(2));
        assert_eq!(pass(&mut gate, 2, IDR), (0, 0), "its beginning is gone");
        assert_eq!(pass(&mut gate, 3, IDR), (1, 1), "with parameter sets");
    }

    #[test]
    fn a_keyframe_without_its_beginning_does_not_open() {
        let mut gate = Gate::default();
        assert_eq!(pass(&mut gate, 1, &[0x7c, 0x05, 0x88]), (0, 0));
        assert_eq!(pass(&mut gate, 1, IDR), (0, 0));
        assert_eq!(pass(&mut gate, 2, &[0x65, 0x08]), (0, 0), "second slice");
        for _ in 0..100 {
            assert_eq!(pass(&mut gate, 3, &[0x06, 1]), (0, 0));
        }
        assert_eq!(pass(&mut gate, 3, IDR), (0, 0), "too much before it");
    }

    #[test]
    fn an_aggregate_may_hold_it_all() {
        let mut whole = vec![0x78];
        for nal in [SPS, PPS, IDR] {
            whole.extend_from_slice(&u16::try_from(nal.len()).expect("short").to_be_bytes());
            whole.extend_from_slice(nal);
        }
        let mut gate = Gate::default();
        assert_eq!(pass(&mut gate, 1, &whole), (0, 1));
    }

    proptest! {
        #[test]
        fn noise_is_survived(packets in proptest::collection::vec((0_u32..4, proptest::collection::vec(any::<u8>(), 0..40)), 0..200)) {
            let mut gate = Gate::default();
            for (timestamp, payload) in packets {
                pass(&mut gate, timestamp, &payload);
                prop_assert!(gate.held.len() <= MAX_HELD);
            }
        }
    }
}
