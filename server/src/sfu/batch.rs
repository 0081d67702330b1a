//! Datagrams that wait to be sent, joined where the kernel can take them apart again (generic segmentation offload).
//!
//! Most of what a datagram costs is the kernel's way through its network stack; what goes to one peer as one piece goes that way
//! once. A picture is some ten packets of the same length, and the last of them is shorter: one run.
//!
//! Invariants:
//! - What goes to one peer goes in the order in which it was added.
//! - All datagrams of a run have the same length but the last, which may be shorter; together they have at most
//!   [`MAX_RUN_BYTES`].

use std::collections::HashMap;
use std::net::SocketAddr;

use bytes::BytesMut;

/// The most that the kernel takes in one piece: an IP packet's payload.
const MAX_RUN_BYTES: usize = 60_000;
/// Buffers kept for the next runs; those of a flood are given back.
const MAX_SPARES: usize = 256;

/// Datagrams for one peer, one after the other.
#[derive(Debug)]
pub(super) struct Run {
    /// Who gets them.
    pub(super) to: SocketAddr,
    /// Length of each but the last.
    pub(super) segment: usize,
    /// All of them.
    pub(super) bytes: BytesMut,
    count: usize,
    is_complete: bool,
    /// They were copied together, into a buffer of the batch's own.
    is_copied: bool,
}

impl Run {
    /// Whether it is more than one datagram.
    pub(super) fn is_joined(&self) -> bool {
        self.count > 1
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.count).unwrap_or(u64::MAX)
    }
}

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Batch {
    runs: Vec<Run>,
    /// The newest run of each peer.
    newest: HashMap<SocketAddr, usize>,
    spares: Vec<BytesMut>,
}

impl Batch {
    /// Adds a datagram; at most `max_segments` are joined.
    pub(super) fn add(&mut self, to: SocketAddr, datagram: BytesMut, max_segments: usize) {
        let newest = self.newest.get(&to).copied();
        let run = newest.and_then(|at| self.runs.get_mut(at));
        let fits = |run: &&mut Run| {
            !run.is_complete
                && run.count < max_segments
                && datagram.len() <= run.segment
                && run.bytes.len() + datagram.len() <= MAX_RUN_BYTES
        };
        if let Some(run) = run.filter(fits) {
            let follows = run.bytes.as_ptr_range().end == datagram.as_ptr();
            if run.count == 1 && !follows {
                // The first one keeps its own buffer while it is alone.
                let mut joined = self.spares.pop().unwrap_or_default();
                joined.extend_from_slice(&run.bytes);
                run.bytes = joined;
                run.is_copied = true;
            }
            run.is_complete = datagram.len() < run.segment;
            // Without copying where it follows in the same buffer, as media does.
            run.bytes.unsplit(datagram);
            run.count += 1;
            return;
        }
        self.newest.insert(to, self.runs.len());
        self.runs.push(Run {
            to,
            segment: datagram.len(),
            bytes: datagram,
            count: 1,
            is_complete: false,
            is_copied: false,
        });
    }

    /// Hands every run to `send`; nothing waits then.
    pub(super) fn drain(&mut self, mut send: impl FnMut(&Run)) {
        self.newest.clear();
        for run in self.runs.drain(..) {
            send(&run);
            if run.is_copied && self.spares.len() < MAX_SPARES {
                let mut spare = run.bytes;
                spare.clear();
                self.spares.push(spare);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn drained(batch: &mut Batch) -> Vec<(u16, Vec<Vec<u8>>)> {
        let mut out = Vec::new();
        batch.drain(|run| {
            let datagrams = run.bytes.chunks(run.segment.max(1)).map(<[u8]>::to_vec);
            out.push((run.to.port(), datagrams.collect()));
        });
        out
    }

    #[test]
    fn a_picture_to_each_of_two_peers_is_two_runs() {
        let mut batch = Batch::default();
        for size in [1_200, 1_200, 1_200, 300, 1_200] {
            for port in [1, 2] {
                batch.add(peer(port), BytesMut::zeroed(size), 64);
            }
        }
        let lengths: Vec<(u16, usize)> = drained(&mut batch)
            .iter()
            .map(|(port, datagrams)| (*port, datagrams.len()))
            .collect();
        assert_eq!(lengths, [(1, 4), (2, 4), (1, 1), (2, 1)]);
        assert!(drained(&mut batch).is_empty());
    }

    proptest! {
        /// Every peer gets what was sent to it, in order, within the kernel's bounds.
        #[test]
        fn nothing_is_lost_or_reordered(
            sent in proptest::collection::vec((0_u16..4, 1_usize..1_500), 0..300),
            max_segments in 1_usize..65,
        ) {
            let mut batch = Batch::default();
            let mut expected: HashMap<u16, Vec<Vec<u8>>> = HashMap::new();
            for (number, (port, size)) in sent.into_iter().enumerate() {
                let datagram: Vec<u8> = number.to_be_bytes().into_iter().cycle().take(size).collect();
                batch.add(peer(port), BytesMut::from(datagram.as_slice()), max_segments);
                expected.entry(port).or_default().push(datagram);
            }
            let mut got: HashMap<u16, Vec<Vec<u8>>> = HashMap::new();
            for (port, datagrams) in drained(&mut batch) {
                prop_assert!(datagrams.len() <= max_segments);
                prop_assert!(datagrams.iter().map(Vec::len).sum::<usize>() <= MAX_RUN_BYTES);
                got.entry(port).or_default().extend(datagrams);
            }
            prop_assert_eq!(got, expected);
        }
    }
}
