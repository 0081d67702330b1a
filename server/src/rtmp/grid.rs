//! Times of AAC units on the grid of their samples. Sans-IO.
//!
//! Unit `n` of a run lies at `start + n · samples per unit`, exactly; the sender's timestamps are these times rounded to
//! milliseconds. A run ends where a timestamp is off by more than half a unit and the rounding: something is missing, or
//! was sent twice.

use media::{Rate, Timestamp};

/// What two roundings to milliseconds can make.
const ROUNDING_NS: i64 = 1_000_000;

/// The times of one track of sound.
#[derive(Debug)]
pub(super) struct Grid {
    rate: Rate,
    unit_samples: i64,
    /// RTMP time of the run's first unit.
    start_ns: i64,
    /// Units of the run so far.
    units: Option<i64>,
}

/// Where a unit lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Of the run's first unit, in nanoseconds of RTMP time.
    pub(super) start_ns: i64,
    /// Samples since.
    pub(super) samples: i64,
    /// A run begins that does not continue the one before.
    pub(super) is_break: bool,
}

impl Grid {
    pub(super) fn new(rate: Rate, unit_samples: u32) -> Self {
        Self {
            rate,
            unit_samples: i64::from(unit_samples),
            start_ns: 0,
            units: None,
        }
    }

    /// The place of the next unit, which the sender says is at `ms`.
    pub(super) fn next(&mut self, ms: i64) -> Place {
        let stamped_ns = ms.saturating_mul(1_000_000);
        let unit_ns = Timestamp::new(self.unit_samples, self.rate).as_nanos();
        let expected = self.units.map(|units| {
            let samples = Timestamp::new(units.saturating_mul(self.unit_samples), self.rate);
            self.start_ns.saturating_add(samples.as_nanos())
        });
        let off = expected.map(|expected| stamped_ns.saturating_sub(expected).saturating_abs());
        let is_break = off.is_some_and(|off| off > unit_ns / 2 + ROUNDING_NS);
        let units = match self.units {
            Some(units) if !is_break => units,
            _ => {
                self.start_ns = stamped_ns;
                0
            }
        };
        self.units = Some(units.saturating_add(1));
        Place {
            start_ns: self.start_ns,
            samples: units.saturating_mul(self.unit_samples),
            is_break,
        }
    }

    /// The next unit begins a run.
    pub(super) fn restart(&mut self) {
        self.units = None;
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(hz: u32) -> Grid {
        Grid::new(Rate::new(hz).expect("not zero"), 1_024)
    }

    #[test]
    fn rounded_timestamps_are_one_run_for_hours() {
        for hz in [44_100_u32, 48_000, 22_050] {
            for rounding in 0..2 {
                let mut grid = grid(hz);
                for n in 0..500_000_i64 {
                    let ms = (n * 1_024 * 1_000 + rounding * i64::from(hz) / 2) / i64::from(hz);
                    let place = grid.next(700 + ms);
                    assert!(!place.is_break);
                    assert_eq!((place.start_ns, place.samples), (700_000_000, n * 1_024));
                }
            }
        }
    }

    #[test]
    fn a_missing_unit_begins_a_run() {
        let mut grid = grid(48_000);
        let at = |n: i64| n * 1_024 / 48;
        (0..10).for_each(|n| assert!(!grid.next(at(n)).is_break));
        let place = grid.next(at(11));
        assert!(place.is_break);
        assert_eq!((place.start_ns, place.samples), (at(11) * 1_000_000, 0));
        assert_eq!(grid.next(at(12)).samples, 1_024);
        assert!(grid.next(at(12)).is_break, "sent twice");
    }
}
