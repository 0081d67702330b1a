//! Whether a layer of a picture is sent at the moment: publishers stop layers that their uplink has no room for, and say
//! nothing.
//!
//! A layer that is silent is not sent when other layers go on. Where all are silent, or pictures are few, nothing follows
//! from silence.

use std::time::{Duration, Instant};

/// How long a layer is silent before it counts.
const SILENCE: Duration = Duration::from_millis(500);
/// And how many pictures of other layers come meanwhile; each may be of the same moment.
const MISSED: u32 = 8;

/// What is known of one layer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Activity {
    /// When its newest packet came.
    heard: Option<Instant>,
    /// Pictures of other layers that came since.
    missed: u32,
}

impl Activity {
    /// A packet of the layer came.
    pub(super) fn heard(&mut self, now: Instant) {
        (self.heard, self.missed) = (Some(now), 0);
    }

    /// A picture of another layer came.
    pub(super) fn missed(&mut self) {
        self.missed = self.missed.saturating_add(1);
    }

    /// It is sent at the moment.
    pub(super) fn is_active(&self, now: Instant) -> bool {
        self.heard.is_some_and(|heard| {
            now.saturating_duration_since(heard) < SILENCE || self.missed < MISSED
        })
    }
}
