//! Collects tags into batches and says when a batch must leave.
//!
//! A picture leaves at once unless the last write was less than the coalescing time ago. Sound rides along with the
//! next picture for at most [`RIDE`]; a stream without pictures is written every coalescing time.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use media::flv::Tag;

/// How long sound waits for a picture: just over one picture at 20 per second.
const RIDE: Duration = Duration::from_millis(55);
/// Pictures count as coming while the last one is at most this old.
const PICTURES_COMING: Duration = Duration::from_millis(250);
/// A batch does not grow beyond this, whatever the coalescing time.
const MAX_BATCH_BYTES: usize = 512 << 10;

#[derive(Debug)]
pub(crate) struct Batcher {
    coalescing: Duration,
    buffer: BytesMut,
    /// Which start point the buffered sound precedes in time.
    pub(crate) lead_of: Option<u64>,
    deadline: Option<Instant>,
    flushed_at: Option<Instant>,
    picture_at: Option<Instant>,
}

impl Batcher {
    pub(crate) fn new(coalescing: Duration) -> Self {
        Self {
            coalescing,
            buffer: BytesMut::new(),
            lead_of: None,
            deadline: None,
            flushed_at: None,
            picture_at: None,
        }
    }

    /// Appends a tag. [`Batcher::deadline`] says when it must leave.
    pub(crate) fn push(&mut self, now: Instant, tag: &Tag, picture: bool) {
        tag.write(&mut self.buffer);
        if picture {
            self.picture_at = Some(now);
        }
        let ride = !picture
            && self
                .picture_at
                .is_some_and(|at| now.saturating_duration_since(at) < PICTURES_COMING);
        let due = if self.coalescing.is_zero() || self.buffer.len() >= MAX_BATCH_BYTES {
            now
        } else if ride {
            now + self.coalescing.max(RIDE)
        } else {
            self.flushed_at.map_or(now, |last| last + self.coalescing)
        };
        self.deadline = Some(self.deadline.map_or(due, |deadline| deadline.min(due)));
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Ends the batch being built without saying that it leaves; `None` when there is nothing in it.
    pub(crate) fn cut(&mut self) -> Option<Bytes> {
        (!self.buffer.is_empty()).then(|| self.buffer.split().freeze())
    }

    /// Everything leaves now.
    pub(crate) fn flushed(&mut self, now: Instant) {
        self.flushed_at = Some(now);
        self.deadline = None;
    }
}
