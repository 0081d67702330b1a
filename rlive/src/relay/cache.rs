//! The newest frames of a substream, to send them again.
//!
//! Bounded by [`LIFE`] and [`MAX_BYTES`]; the oldest go.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::substream::Entry;
use media::substream::sign::Signature;

/// How long a frame can be asked for: longer than any player's buffer.
pub(super) const LIFE: Duration = Duration::from_secs(5);
/// What is kept of one substream, in bytes: 5 s of 12 Mb/s.
const MAX_BYTES: usize = 8 << 20;

#[derive(Debug)]
pub(super) struct Cached {
    pub(super) entry: Entry,
    /// Its predecessors, oldest first.
    pub(super) chain: Vec<Entry>,
    /// The origin's.
    pub(super) signature: Option<Signature>,
    pub(super) body: Bytes,
    pub(super) at: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    frames: VecDeque<Cached>,
    bytes: usize,
}

impl Cache {
    pub(super) fn push(
        &mut self,
        now: Instant,
        entry: Entry,
        chain: Vec<Entry>,
        (signature, body): (Option<Signature>, Bytes),
    ) -> Option<&Cached> {
        self.bytes += body.len();
        while self.bytes > MAX_BYTES && self.drop_oldest() {}
        self.frames.push_back(Cached {
            entry,
            chain,
            signature,
            body,
            at: now,
        });
        self.frames.back()
    }

    pub(super) fn find(&self, dts_ms: u32, crc: u32) -> Option<&Cached> {
        let named = |frame: &&Cached| frame.entry.crc == crc && frame.entry.header.dts_ms == dts_ms;
        self.frames.iter().rev().find(named)
    }

    pub(super) fn trim(&mut self, now: Instant) {
        while self
            .frames
            .front()
            .is_some_and(|frame| now.saturating_duration_since(frame.at) > LIFE)
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) -> bool {
        let oldest = self.frames.pop_front();
        if let Some(oldest) = &oldest {
            self.bytes = self.bytes.saturating_sub(oldest.body.len());
        }
        oldest.is_some()
    }
}
