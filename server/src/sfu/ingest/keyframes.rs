//! When to ask the publisher for a keyframe: on a schedule, when one is needed, never too often.

use std::time::{Duration, Instant};

/// The schedule of one publisher.
#[derive(Debug)]
pub(super) struct Keyframes {
    /// Longest time without a keyframe; zero turns the schedule off.
    interval: Duration,
    /// Shortest time between two requests.
    spacing: Duration,
    is_scheduled: bool,
    wanted: bool,
    /// The first media came then; nothing is asked for before.
    began: Option<Instant>,
    asked: Option<Instant>,
    seen: Option<Instant>,
    requests: u64,
}

impl Keyframes {
    pub(super) fn new(interval: Duration, spacing: Duration) -> Self {
        Self {
            interval,
            spacing,
            is_scheduled: true,
            wanted: true,
            began: None,
            asked: None,
            seen: None,
            requests: 0,
        }
    }

    /// Whether it keeps to the schedule; else keyframes are asked for only when they are needed.
    pub(super) fn set_scheduled(&mut self, is_scheduled: bool) {
        self.is_scheduled = is_scheduled;
    }

    /// Media has come.
    pub(super) fn begin(&mut self, now: Instant) {
        self.began.get_or_insert(now);
    }

    /// A keyframe is needed; asked for until one comes.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// A keyframe came.
    pub(super) fn handle_keyframe(&mut self, now: Instant) {
        self.seen = Some(now);
        self.wanted = false;
    }

    /// Whether to ask now; counts as asked.
    pub(super) fn poll_request(&mut self, now: Instant) -> bool {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return false;
        }
        self.asked = Some(now);
        self.requests += 1;
        true
    }

    /// When the next request is due; in the past when it is due now.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let began = self.began?;
        let spaced = self.asked.map_or(began, |asked| asked + self.spacing);
        if self.wanted {
            return Some(spaced);
        }
        let scheduled = self
            .seen
            .filter(|_| self.is_scheduled && !self.interval.is_zero())
            .map(|seen| seen + self.interval)?;
        Some(scheduled.max(spaced))
    }

    /// How often it was asked.
    pub(super) fn requests(&self) -> u64 {
        self.requests
    }
}
