//! Frames out of their packets, in any order.
//!
//! Bounds: [`MAX_FRAMES`] unfinished frames and [`MAX_BYTES`] of memory; the one that was begun first goes. A frame's
//! buffer is taken when its first packet comes, its size having been checked by the parser.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use media::substream::sign::Signature;
use media::substream::{Entry, PACKET_PAYLOAD_BYTES};

/// Unfinished frames at one time.
const MAX_FRAMES: usize = 512;
/// What unfinished frames may take, in bytes.
const MAX_BYTES: usize = 32 << 20;

/// What a frame comes with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// Who has sent its packets; `None` when several have.
    pub(crate) sender: Option<u64>,
    /// The signature, with the predecessors that are signed too and the frame itself.
    pub(crate) proof: Option<(Vec<Entry>, Signature)>,
}

/// What a packet was good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// The frame is whole.
    Complete(Bytes, Evidence),
    /// Others are missing.
    Part,
    /// It was there.
    Duplicate,
}

#[derive(Debug)]
struct Partial {
    buffer: BytesMut,
    /// One bit for each packet.
    have: Vec<u64>,
    missing: u16,
    evidence: Evidence,
    /// Frames that were begun before.
    number: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Assembly {
    frames: HashMap<Entry, Partial>,
    bytes: usize,
    begun: u64,
}

impl Assembly {
    /// Takes the packet `index` of a frame. Its payload must have the length of its part.
    pub(crate) fn insert(
        &mut self,
        entry: &Entry,
        index: u16,
        payload: &[u8],
        evidence: Evidence,
    ) -> Inserted {
        let packets = entry.header.packets();
        if packets == 1 {
            self.remove(entry);
            return Inserted::Complete(Bytes::copy_from_slice(payload), evidence);
        }
        if !self.frames.contains_key(entry) {
            self.begin(*entry, evidence.sender);
        }
        let Some(partial) = self.frames.get_mut(entry) else {
            return Inserted::Part;
        };
        let (word, bit) = (usize::from(index / 64), 1_u64 << (index % 64));
        let Some(word) = partial.have.get_mut(word) else {
            return Inserted::Part;
        };
        if *word & bit != 0 {
            return Inserted::Duplicate;
        }
        let at = usize::from(index) * PACKET_PAYLOAD_BYTES;
        let Some(place) = partial.buffer.get_mut(at..at + payload.len()) else {
            return Inserted::Part;
        };
        place.copy_from_slice(payload);
        *word |= bit;
        if partial.evidence.sender != evidence.sender {
            partial.evidence.sender = None;
        }
        if evidence.proof.is_some() {
            partial.evidence.proof = evidence.proof;
        }
        partial.missing = partial.missing.saturating_sub(1);
        if partial.missing > 0 {
            return Inserted::Part;
        }
        let evidence = std::mem::take(&mut partial.evidence);
        let whole = self.remove(entry).unwrap_or_default();
        Inserted::Complete(whole, evidence)
    }

    /// The packets of a frame that have not come: those before `end`, or all. A frame that has not begun lacks them all.
    pub(crate) fn missing(&self, entry: &Entry) -> Vec<u16> {
        let have = |index: u16| {
            let partial = self.frames.get(entry);
            let word = partial.and_then(|partial| partial.have.get(usize::from(index / 64)));
            word.is_some_and(|word| word & (1 << (index % 64)) != 0)
        };
        (0..entry.header.packets())
            .filter(|index| !have(*index))
            .collect()
    }

    /// Bytes of an unfinished frame that have come.
    pub(crate) fn received(&self, entry: &Entry) -> usize {
        self.frames.get(entry).map_or(0, |partial| {
            let packets = partial
                .have
                .iter()
                .map(|word| word.count_ones())
                .sum::<u32>();
            let bytes = usize::try_from(packets).unwrap_or_default() * PACKET_PAYLOAD_BYTES;
            bytes.min(partial.buffer.len())
        })
    }

    /// Whether something of the frame has come.
    pub(crate) fn has_begun(&self, entry: &Entry) -> bool {
        self.frames.contains_key(entry)
    }

    /// The frame has come otherwise, or is not wanted any more.
    pub(crate) fn remove(&mut self, entry: &Entry) -> Option<Bytes> {
        let partial = self.frames.remove(entry)?;
        self.bytes = self.bytes.saturating_sub(partial.buffer.len());
        Some(partial.buffer.freeze())
    }

    pub(crate) fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }

    fn begin(&mut self, entry: Entry, sender: Option<u64>) {
        let size = usize::try_from(entry.header.size).unwrap_or_default();
        while self.frames.len() >= MAX_FRAMES || self.bytes + size > MAX_BYTES {
            let oldest = self.frames.iter().min_by_key(|(_, partial)| partial.number);
            let Some(oldest) = oldest.map(|(entry, _)| *entry) else {
                break;
            };
            self.remove(&oldest);
        }
        let packets = entry.header.packets();
        self.bytes += size;
        self.begun += 1;
        self.frames.insert(
            entry,
            Partial {
                buffer: BytesMut::zeroed(size),
                have: vec![0; usize::from(packets).div_ceil(64)],
                missing: packets,
                evidence: Evidence {
                    sender,
                    proof: None,
                },
                number: self.begun,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::data::part;

    fn entry(size: u32, crc: u32) -> Entry {
        let mut bytes = [0; 16];
        bytes[8..12].copy_from_slice(&size.to_be_bytes());
        bytes[12..].copy_from_slice(&crc.to_be_bytes());
        Entry::read(&mut &bytes[..]).expect("valid")
    }

    proptest! {
        #[test]
        fn frames_come_out_whole_whatever_the_order(
            size in 0..200_000_u32,
            order in any::<u64>(),
            twice in any::<bool>(),
        ) {
            let entry = entry(size, 1);
            let frame: Vec<u8> = (0..size).map(|n| n.to_le_bytes()[0] ^ 0x5a).collect();
            let mut indices: Vec<u16> = (0..entry.header.packets()).collect();
            if twice {
                indices.extend(indices.clone());
            }
            indices.sort_by_key(|index| u64::from(*index).wrapping_mul(order | 1) >> 7);
            let (mut assembly, mut whole) = (Assembly::default(), None);
            for index in indices {
                let inserted = assembly.insert(&entry, index, part(&frame, index), Evidence::default());
                if let Inserted::Complete(bytes, _) = inserted {
                    whole = Some(bytes);
                    break;
                }
            }
            prop_assert_eq!(whole, Some(Bytes::from(frame)));
            prop_assert_eq!(assembly.bytes, 0);
        }
    }

    #[test]
    fn what_is_missing_is_known_and_memory_is_bounded() {
        let mut assembly = Assembly::default();
        let first = entry(5_000, 1);
        assert_eq!(assembly.missing(&first), [0, 1, 2, 3, 4]);
        assembly.insert(&first, 1, &[0; 1_072], Evidence::default());
        let again = assembly.insert(&first, 1, &[0; 1_072], Evidence::default());
        assert_eq!(again, Inserted::Duplicate);
        assert_eq!(assembly.missing(&first), [0, 2, 3, 4]);
        assert!(assembly.has_begun(&first));
        let large = 1 << 20;
        for crc in 2..40 {
            assembly.insert(&entry(large, crc), 0, &[0; 1_072], Evidence::default());
        }
        assert!(!assembly.has_begun(&first) && assembly.bytes <= MAX_BYTES);
        for crc in 100..5_000 {
            assembly.insert(&entry(2_000, crc), 0, &[0; 1_072], Evidence::default());
        }
        assert!(assembly.frames.len() <= MAX_FRAMES);
    }
}
