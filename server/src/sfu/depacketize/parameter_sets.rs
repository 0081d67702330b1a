//! The H.264 parameter sets in force, gathered from the stream or from the offer's `sprop-parameter-sets`.
//!
//! A new SPS replaces the old one and, when it differs, all PPS with it; PPS are kept by their id, as a decoder does
//! (ITU-T H.264 §7.4.1.2.1). What cannot be parsed never replaces what can.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use media::h264::{self, Config};

/// Longest parameter set that is kept, in bytes.
const MAX_SET_BYTES: usize = 4_096;
/// Most PPS that are kept.
const MAX_PPS: usize = 32;

/// The parameter sets in force.
#[derive(Debug, Default)]
pub(super) struct ParameterSets {
    sps: Option<Bytes>,
    pps: BTreeMap<u32, Bytes>,
    current: Option<Arc<Config>>,
    changed: bool,
}

impl ParameterSets {
    /// Takes an SPS NAL unit.
    pub(super) fn handle_sps(&mut self, sps: &Bytes) {
        if sps.len() > MAX_SET_BYTES || self.sps.as_ref() == Some(sps) {
            return;
        }
        self.sps = Some(Bytes::copy_from_slice(sps));
        self.pps.clear();
        self.changed = true;
    }

    /// Takes a PPS NAL unit.
    pub(super) fn handle_pps(&mut self, pps: &Bytes) {
        let Some(id) = pps.get(1..).and_then(leading_unsigned) else {
            return;
        };
        let full = self.pps.len() >= MAX_PPS && !self.pps.contains_key(&id);
        if full || pps.len() > MAX_SET_BYTES || self.pps.get(&id) == Some(pps) {
            return;
        }
        self.pps.insert(id, Bytes::copy_from_slice(pps));
        self.changed = true;
    }

    /// The configuration in force; `None` until an SPS and a PPS that can be read have come.
    pub(super) fn config(&mut self) -> Option<&Arc<Config>> {
        if self.changed && !self.pps.is_empty() {
            self.changed = false;
            let sps = self.sps.clone()?;
            if let Ok(config) = Config::new(sps, self.pps.values().cloned().collect()) {
                self.current = Some(Arc::new(config));
            }
        }
        self.current.as_ref()
    }
}

/// The value of a leading ue(v) (ITU-T H.264 §9.1) of at most 15 bits.
fn leading_unsigned(data: &[u8]) -> Option<u32> {
    let word = data
        .iter()
        .chain(std::iter::repeat(&0))
        .take(4)
        .fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
    let zeros = word.leading_zeros();
    if zeros > 15 || data.is_empty() {
        return None;
    }
    Some((word << zeros >> (31 - zeros)) - 1)
}

/// NAL unit type of `nal`, for callers that sort parameter sets from an offer.
pub(super) fn sort(sets: &mut ParameterSets, nal: &Bytes) {
    match h264::nal_unit_type(nal) {
        h264::nal_type::SPS => sets.handle_sps(nal),
        h264::nal_type::PPS => sets.handle_pps(nal),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsigned_exp_golomb() {
        for (bits, value) in [
            (0x80, 0),
            (0x40, 1),
            (0x60, 2),
            (0x20, 3),
            (0x28, 4),
            (0x38, 6),
        ] {
            assert_eq!(leading_unsigned(&[bits]), Some(value));
        }
        assert_eq!(leading_unsigned(&[0, 0]), None);
        assert_eq!(leading_unsigned(&[]), None);
    }
}
