//! Rates over the last seconds, without a clock of its own.

use std::time::{Duration, Instant};

/// How long one measurement lasts.
const WINDOW: Duration = Duration::from_secs(2);

/// Counts units and bytes and turns them into rates.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    since: Option<Instant>,
    units: u32,
    bytes: u32,
    rates: Rates,
}

/// Units and bits per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) units_per_s: f64,
    pub(crate) kbps: f64,
}

impl Meter {
    pub(crate) fn count(&mut self, now: Instant, bytes: usize) {
        self.roll(now);
        self.units = self.units.saturating_add(1);
        self.bytes = self
            .bytes
            .saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// The rates of the last full window.
    pub(crate) fn rates(&mut self, now: Instant) -> Rates {
        self.roll(now);
        self.rates
    }

    fn roll(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= WINDOW {
            let seconds = elapsed.as_secs_f64();
            self.rates = Rates {
                units_per_s: f64::from(self.units) / seconds,
                kbps: f64::from(self.bytes) * 8.0 / 1_000.0 / seconds,
            };
            self.since = Some(now);
            self.units = 0;
            self.bytes = 0;
        }
    }
}
