//! The batches of a stream that viewers may still need: the newest group of pictures and the lag window.
//!
//! Tags are serialised once, into batches that all viewers share. A viewer is a [`Cursor`]; reading moves it.
//!
//! Invariants: a new or skipping cursor starts at the newest start point, with its prelude (metadata and sequence
//! headers); batches that precede their start point in time are passed over by cursors that start there. Bounds:
//! [`Limits`]; when exceeded, old batches go and cursors on them skip to the newest start point.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// How much is kept for whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) gop_ms: i64,
    pub(crate) gop_bytes: u64,
    pub(crate) lag: Duration,
    pub(crate) lag_bytes: u64,
}

#[derive(Debug)]
struct Batch {
    bytes: Bytes,
    /// Bytes of the stream before this batch.
    offset: u64,
    at: Instant,
    /// Sound from before the keyframe of this start point that came after it.
    lead_of: Option<u64>,
}

/// Where a viewer can start.
#[derive(Debug, Clone)]
struct Start {
    seq: u64,
    dts_ms: i64,
    prelude: Bytes,
}

/// A viewer's position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    at: Option<Position>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    next: u64,
    /// The start point this viewer came in at.
    start: u64,
}

/// What a viewer gets next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Bytes to send.
    Data(Bytes),
    /// The viewer was too slow and continues at the newest keyframe with these bytes.
    Skipped(Bytes),
    /// Nothing yet.
    Pending,
}

#[derive(Debug)]
pub(crate) struct Ring {
    limits: Limits,
    batches: VecDeque<Batch>,
    /// Number of the first batch held.
    base: u64,
    /// Bytes of the stream so far.
    written: u64,
    start: Option<Start>,
}

impl Ring {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            batches: VecDeque::new(),
            base: 0,
            written: 0,
            start: None,
        }
    }

    /// Batches held.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.batches.len()
    }

    /// Number that the next batch will have.
    pub(crate) fn next_seq(&self) -> u64 {
        self.base + u64::try_from(self.batches.len()).unwrap_or(u64::MAX)
    }

    pub(crate) fn can_start(&self) -> bool {
        self.start.is_some()
    }

    /// Viewers start at batch `seq` from now on.
    pub(crate) fn set_start(&mut self, seq: u64, dts_ms: i64, prelude: Bytes) {
        self.start = Some(Start {
            seq,
            dts_ms,
            prelude,
        });
    }

    /// Appends a batch that ends at `dts_ms` and lets go of what nobody may need.
    pub(crate) fn push(&mut self, now: Instant, bytes: Bytes, dts_ms: i64, lead_of: Option<u64>) {
        let offset = self.written;
        self.written += u64::try_from(bytes.len()).unwrap_or_default();
        self.batches.push_back(Batch {
            bytes,
            offset,
            at: now,
            lead_of,
        });
        if let Some(start) = &self.start {
            let gop_bytes = self.written - self.offset_of(start.seq);
            let too_long = dts_ms.saturating_sub(start.dts_ms) > self.limits.gop_ms;
            if too_long || gop_bytes > self.limits.gop_bytes {
                self.start = None;
            }
        }
        self.trim(now);
    }

    fn trim(&mut self, now: Instant) {
        let keep_from = self.start.as_ref().map_or(u64::MAX, |start| start.seq);
        while let Some(first) = self.batches.front() {
            let recent = now.saturating_duration_since(first.at) <= self.limits.lag
                && self.written - first.offset <= self.limits.lag_bytes;
            if self.base >= keep_from || recent {
                break;
            }
            self.batches.pop_front();
            self.base += 1;
        }
    }

    fn offset_of(&self, seq: u64) -> u64 {
        self.get(seq).map_or(self.written, |batch| batch.offset)
    }

    fn get(&self, seq: u64) -> Option<&Batch> {
        let index = usize::try_from(seq.checked_sub(self.base)?).ok()?;
        self.batches.get(index)
    }

    /// The next bytes of a viewer.
    pub(crate) fn read(&self, now: Instant, cursor: &mut Cursor) -> Read {
        let Some(position) = cursor.at else {
            return self.enter(cursor).map_or(Read::Pending, Read::Data);
        };
        if self.is_late(now, position.next) {
            let skipped = self.enter(cursor).map(Read::Skipped);
            return skipped.unwrap_or_else(|| {
                cursor.at = None;
                Read::Pending
            });
        }
        let mut next = position.next;
        while let Some(batch) = self.get(next) {
            next += 1;
            // Sound from before the start point is not for those who came in there.
            if batch.lead_of == Some(position.start) {
                continue;
            }
            cursor.at = Some(Position { next, ..position });
            return Read::Data(batch.bytes.clone());
        }
        cursor.at = Some(Position { next, ..position });
        Read::Pending
    }

    fn is_late(&self, now: Instant, next: u64) -> bool {
        if next < self.base {
            return true;
        }
        let newer_start = self.start.as_ref().is_some_and(|start| start.seq > next);
        newer_start
            && self.get(next).is_some_and(|batch| {
                now.saturating_duration_since(batch.at) > self.limits.lag
                    || self.written - batch.offset > self.limits.lag_bytes
            })
    }

    fn enter(&self, cursor: &mut Cursor) -> Option<Bytes> {
        let start = self.start.as_ref()?;
        cursor.at = Some(Position {
            next: start.seq,
            start: start.seq,
        });
        Some(start.prelude.clone())
    }
}
