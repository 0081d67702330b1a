//! How long packets wait on the way: the newest delays, over the least of the last 20 s. Where the delay grows because the path
//! has become longer, that counts as waiting for so long.

use std::time::Instant;

use crate::sfu::WindowedMinimum;

/// Share of a packet in the smoothed delay.
const WEIGHT: i64 = 16;
/// A jump of the receiver's clock.
const MAX_JUMP_US: i64 = 3_000_000;

/// The delays of one path.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// A moment by both clocks.
    origin: Option<(Instant, i64)>,
    least: WindowedMinimum,
    smoothed_us: Option<i64>,
}

impl Queue {
    /// A packet was sent, and has arrived by the receiver's clock.
    pub(super) fn add(&mut self, sent: Instant, arrived_us: i64) {
        let (begun, zero_us) = *self.origin.get_or_insert((sent, arrived_us));
        let passed = sent.saturating_duration_since(begun).as_micros();
        let passed_us = i64::try_from(passed).unwrap_or(i64::MAX);
        let delay_us = arrived_us.saturating_sub(zero_us).saturating_sub(passed_us);
        let smoothed_us = self.smoothed_us.unwrap_or(delay_us);
        if (delay_us - smoothed_us).abs() > MAX_JUMP_US {
            *self = Self::default();
            return;
        }
        self.smoothed_us = Some(smoothed_us + (delay_us - smoothed_us) / WEIGHT);
        self.least.add(passed_us.saturating_mul(1_000), delay_us);
    }

    /// Milliseconds.
    pub(super) fn ms(&self) -> i64 {
        let waiting = self.smoothed_us.zip(self.least.get());
        waiting.map_or(0, |(smoothed, least)| (smoothed - least) / 1_000)
    }
}
