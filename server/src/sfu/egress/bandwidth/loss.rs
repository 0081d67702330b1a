//! The limit that losses set (draft-ietf-rmcat-gcc-02 §6): where packets vanish without a queue, delay says nothing.
//!
//! Up to 10 % is repaired and not answered; above it the rate goes down by half the share lost. Few packets say little about
//! their share: of 45 that lose 5 %, every twelfth lot loses more than 10 %. So a lot must lose more than chance explains,
//! and the limit is lifted as long as losses are no reason for it: fast below 2 %, slowly up to 10 %. It is gone once it is
//! beyond what delay allows.

use std::time::{Duration, Instant};

const LOW: f64 = 0.02;
const HIGH: f64 = 0.10;
/// Fewer packets say nothing about their share.
const MIN_PACKETS: u32 = 20;
/// Standard deviations by which a lot must lose more than [`HIGH`].
const CERTAIN: f64 = 2.0;
/// Growth of the limit per second.
const FAST: f64 = 1.08;
const SLOW: f64 = 1.04;
/// The limit changes this often, plus a round trip when it sinks.
const INTERVAL: Duration = Duration::from_millis(300);

/// The limit.
#[derive(Debug, Default)]
pub(super) struct Loss {
    lost: u32,
    total: u32,
    fraction: f64,
    limit: Option<f64>,
    changed: Option<Instant>,
}

impl Loss {
    /// Takes a report of `total` packets when delay allows `held` bits per second.
    pub(super) fn update(&mut self, now: Instant, lost: u32, total: u32, held: f64, rtt: Duration) {
        self.lost += lost;
        self.total += total;
        let passed = self
            .changed
            .map_or(INTERVAL, |changed| now.saturating_duration_since(changed));
        if self.total < MIN_PACKETS || passed < INTERVAL {
            return;
        }
        let fraction = f64::from(self.lost) / f64::from(self.total);
        self.fraction = fraction;
        let total = f64::from(self.total);
        let chance = (HIGH * (1.0 - HIGH) / total).sqrt() * CERTAIN;
        if fraction > HIGH + chance {
            if self.changed.is_some() && passed < INTERVAL + rtt {
                return;
            }
            let limit = self.limit.unwrap_or(held).min(held);
            self.limit = Some((limit * (1.0 - 0.5 * fraction)).max(super::rate::MIN_BPS));
        } else if fraction <= HIGH
            && let Some(limit) = self.limit
        {
            let growth = if fraction < LOW { FAST } else { SLOW };
            let raised = limit * growth.powf(passed.as_secs_f64().min(1.0));
            self.limit = (raised < held).then_some(raised);
        }
        (self.lost, self.total) = (0, 0);
        self.changed = Some(now);
    }

    /// Bits per second; infinite when losses are no reason to slow down.
    pub(super) fn limit(&self) -> f64 {
        self.limit.unwrap_or(f64::INFINITY)
    }

    /// A probe has shown that there is room.
    pub(super) fn forget(&mut self) {
        if self.fraction < LOW {
            self.limit = None;
        }
    }

    /// The share lost lately.
    pub(super) fn fraction(&self) -> f64 {
        self.fraction
    }
}
