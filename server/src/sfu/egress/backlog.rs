//! Pictures that wait for their turn, before they get numbers: what is dropped here leaves no hole that would be asked for.
//!
//! Drop policy: when the next picture has waited for [`MAX_WAIT`], or [`MAX_PACKETS`] wait, everything up to the newest
//! keyframe that waits is dropped, or everything when there is none. The picture that is being sent is sent to its end. So
//! a path that is too thin shows fewer pictures, each whole; sound is not concerned.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::gate;
use crate::sfu::packet::Relayed;
use crate::sfu::types::SessionId;

/// Most packets that wait.
const MAX_PACKETS: usize = 2_048;
/// Room for more is given back when nothing waits.
const MAX_IDLE: usize = 64;
/// The longest that a picture waits.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// What waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) from: SessionId,
    pub(super) relayed: Relayed,
    /// Packets before it were dropped; the timestamp of the newest of them.
    pub(super) dropped: Option<u32>,
    queued: Instant,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    waiting: VecDeque<Waiting>,
    /// Packets were dropped behind everything that waits.
    dropped: Option<u32>,
}

impl Backlog {
    pub(super) fn push(&mut self, now: Instant, from: SessionId, relayed: Relayed) {
        self.waiting.push_back(Waiting {
            from,
            relayed,
            dropped: self.dropped.take(),
            queued: now,
        });
    }

    pub(super) fn pop(&mut self) -> Option<Waiting> {
        let next = self.waiting.pop_front();
        // Room for a burst is not kept for the life of a session: there are many.
        if self.waiting.is_empty() && self.waiting.capacity() > MAX_IDLE {
            self.waiting = VecDeque::new();
        }
        next
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// It is time to drop, while the picture with the timestamp `sending` is being sent.
    pub(super) fn is_overdue(&self, now: Instant, sending: Option<u32>) -> bool {
        if self.waiting.len() >= MAX_PACKETS {
            return true;
        }
        let is_late = |waiting: &Waiting| now.saturating_duration_since(waiting.queued) > MAX_WAIT;
        // The front has waited longest; most often it has not waited at all.
        self.waiting.front().is_some_and(is_late)
            && self.waiting.get(self.begun(sending)).is_some_and(is_late)
    }

    /// How many packets of the picture that is being sent are at the front.
    fn begun(&self, sending: Option<u32>) -> usize {
        let is_of = |waiting: &Waiting| Some(waiting.relayed.packet.timestamp) == sending;
        self.waiting.iter().take_while(|w| is_of(w)).count()
    }

    /// Drops by the policy above; how many, and whether a keyframe is among what is left.
    pub(super) fn shed(&mut self, sending: Option<u32>) -> (u64, bool) {
        let too_many = self.waiting.len() >= MAX_PACKETS;
        let begun = if too_many { 0 } else { self.begun(sending) };
        let timestamp = |waiting: &Waiting| waiting.relayed.packet.timestamp;
        let mut later = self.waiting.iter().skip(begun);
        let keyframe = later
            .rfind(|w| gate::may_begin_keyframe(&w.relayed.packet.payload))
            .map(timestamp);
        let mut later = self.waiting.iter().skip(begun);
        let kept = keyframe
            .and_then(|keyframe| later.position(|w| timestamp(w) == keyframe))
            // One that is due already is no way out.
            .filter(|count| *count > 0);
        let count = kept.unwrap_or(self.waiting.len() - begun);
        let dropped = self.waiting.drain(begun..begun + count);
        let newest = dropped.map(|w| timestamp(&w)).last();
        match self.waiting.get_mut(begun) {
            Some(next) => next.dropped = newest.or(next.dropped),
            None => self.dropped = newest.or(self.dropped),
        }
        (count as u64, kept.is_some())
    }
}
