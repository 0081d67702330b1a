//! Frames in order: what is linked, what has come, and what can leave.
//!
//! Order and presence are two things: a frame may be linked before its data is there (then it is missing, and its name is
//! known), and its data may be there before it is linked (then it waits in the pool).
//!
//! Invariants: frames leave in the order of the chain, each once, beginning with a keyframe; sound from before that
//! keyframe's time does not leave, as for any viewer of the origin. The pool is bounded by [`MAX_BYTES`] and
//! [`MAX_FRAMES`]; what came first goes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use media::flv::TagKind;
use media::substream::Entry;

use super::playout::distance_ms;
use crate::chain::{Chain, Outcome};

const MAX_BYTES: usize = 64 << 20;
const MAX_FRAMES: usize = 8_192;

/// A frame whose place is known and that has not left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) entry: Entry,
    pub(super) linked_at: Instant,
}

/// What may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// A keyframe later than this; any frame when there is no time.
    Keyframe { after: Option<u32> },
    /// All but sound from before the time of the first picture.
    Open { start_ms: u32 },
}

#[derive(Debug)]
pub(super) struct Order {
    pub(super) chain: Chain,
    pool: HashMap<Entry, Bytes>,
    /// The pool's frames as they came, and some that have gone.
    arrivals: VecDeque<Entry>,
    pool_bytes: usize,
    waiting: VecDeque<Waiting>,
    waiting_names: HashSet<Entry>,
    gate: Gate,
    pub(super) last: Option<Entry>,
    has_video: bool,
}

impl Order {
    /// An order that begins with what comes first.
    pub(super) fn new() -> Self {
        Self::after(None, false)
    }

    /// An order that begins with the next keyframe after a time that has left.
    fn after(after: Option<u32>, has_video: bool) -> Self {
        Self {
            chain: Chain::default(),
            pool: HashMap::new(),
            arrivals: VecDeque::new(),
            pool_bytes: 0,
            waiting: VecDeque::new(),
            waiting_names: HashSet::new(),
            gate: Gate::Keyframe { after },
            last: None,
            has_video,
        }
    }

    /// Gives up what is missing: goes on with the next keyframe.
    pub(super) fn skip(&mut self) {
        let after = self.last.map(|entry| entry.header.dts_ms);
        *self = Self::after(after, self.has_video);
    }

    /// Takes a local chain.
    pub(super) fn link(&mut self, now: Instant, local: &[Entry]) -> Outcome {
        let outcome = self.chain.offer(now, local);
        self.linked(now);
        outcome
    }

    /// Begins after these frames.
    pub(super) fn seed(&mut self, now: Instant, prior: &[Entry]) {
        self.chain.seed(prior);
        self.linked(now);
    }

    fn linked(&mut self, now: Instant) {
        while let Some(entry) = self.chain.poll_linked() {
            self.waiting.push_back(Waiting {
                entry,
                linked_at: now,
            });
            self.waiting_names.insert(entry);
        }
    }

    /// Takes a frame; false when it is not needed.
    pub(super) fn insert(&mut self, entry: Entry, body: Bytes) -> bool {
        if self.has_left(&entry) || self.pool.contains_key(&entry) {
            return false;
        }
        self.pool_bytes += body.len();
        self.pool.insert(entry, body);
        self.arrivals.push_back(entry);
        while self.pool_bytes > MAX_BYTES || self.arrivals.len() > MAX_FRAMES {
            let Some(oldest) = self.arrivals.pop_front() else {
                break;
            };
            self.take(&oldest);
        }
        true
    }

    pub(super) fn has(&self, entry: &Entry) -> bool {
        self.pool.contains_key(entry)
    }

    /// Whether a frame has been here and has left.
    pub(super) fn has_left(&self, entry: &Entry) -> bool {
        self.is_linked(entry) && !self.waiting_names.contains(entry)
    }

    pub(super) fn is_linked(&self, entry: &Entry) -> bool {
        self.chain.contains(entry)
    }

    /// Frames that have a place and have not left, in order.
    pub(super) fn waiting(&self) -> impl DoubleEndedIterator<Item = &Waiting> {
        self.waiting.iter()
    }

    /// The last frame before the first that is missing; `None` when nothing is there.
    pub(super) fn anchor(&self) -> Option<Entry> {
        let there = |waiting: &&Waiting| self.has(&waiting.entry);
        let last = self.waiting.iter().take_while(there).last();
        last.map(|waiting| waiting.entry)
            .or(self.last)
            .or_else(|| match self.waiting.is_empty() {
                true => self.chain.tail(),
                false => None,
            })
    }

    /// The next frame that leaves.
    pub(super) fn release(&mut self) -> Option<(Entry, Bytes)> {
        loop {
            let entry = self.waiting.front()?.entry;
            let body = self.take(&entry)?;
            self.waiting.pop_front();
            self.waiting_names.remove(&entry);
            if self.passes(&entry) {
                self.last = Some(entry);
                return Some((entry, body));
            }
            // What does not leave has its place in the order all the same.
            if self.last.is_none() {
                self.last = Some(entry);
            }
        }
    }

    fn passes(&mut self, entry: &Entry) -> bool {
        let (kind, dts_ms) = (entry.header.kind, entry.header.dts_ms);
        let video = kind.tag() == TagKind::Video;
        self.has_video |= video;
        match self.gate {
            Gate::Keyframe { after } => {
                let starts = match after {
                    None => true,
                    Some(after) => {
                        let later = distance_ms(dts_ms, after) > 0;
                        later && (kind.is_key() || !(self.has_video || kind.is_config()))
                    }
                };
                if starts {
                    self.gate = Gate::Open { start_ms: dts_ms };
                }
                starts
            }
            Gate::Open { start_ms } => video || distance_ms(dts_ms, start_ms) >= 0,
        }
    }

    fn take(&mut self, entry: &Entry) -> Option<Bytes> {
        let body = self.pool.remove(entry)?;
        self.pool_bytes = self.pool_bytes.saturating_sub(body.len());
        // Most leave in the order in which they came.
        while self
            .arrivals
            .front()
            .is_some_and(|oldest| !self.pool.contains_key(oldest))
        {
            self.arrivals.pop_front();
        }
        Some(body)
    }
}
