//! Learns the anchor's clock from its pings.
//!
//! A ping says what program time it was when it left. It arrives later than that, never earlier, so the smallest
//! difference of (own clock − program time) in a window is nearest to the truth; both clocks may drift against each other,
//! so the window moves. The estimate is followed by bending the rate of the mixer's idea of program time, at most
//! by [`MAX_SLEW_PPM`]; only an error above [`JUMP_NS`] is taken at once, since composing waits on this clock.

use std::collections::VecDeque;

/// How many pings are looked back on: ten seconds of them.
const WINDOW: usize = 100;

/// An error that is jumped over rather than slewed.
const JUMP_NS: i64 = 50_000_000;

/// An error that is left alone: it costs latency, not accuracy.
const TOLERANCE_NS: i64 = 200_000;

/// The largest deviation from the own clock's rate, in parts per million.
pub const MAX_SLEW_PPM: i64 = 5_000;

/// Program time as a line over the mixer's own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calibration {
    /// A moment on the own clock, in nanoseconds.
    pub mixer_ns: i64,
    /// Program time at that moment.
    pub program_ns: i64,
    /// How much faster program time runs than the own clock, in parts per million.
    pub slew_ppm: i64,
}

impl Calibration {
    /// Program time at a moment of the own clock.
    #[must_use]
    pub fn program(&self, mixer_ns: i64) -> i64 {
        let elapsed = i128::from(mixer_ns) - i128::from(self.mixer_ns);
        let moved = elapsed + elapsed * i128::from(self.slew_ppm) / 1_000_000;
        i64::try_from(i128::from(self.program_ns) + moved).unwrap_or(i64::MAX)
    }
}

/// The estimate of the anchor's clock.
#[derive(Debug, Default)]
pub struct Clock {
    /// (own clock − program time) of the newest pings.
    offsets: VecDeque<i64>,
    current: Option<Calibration>,
}

impl Clock {
    /// Takes a ping that said `program_ns` and arrived at `mixer_ns`. Gives the new calibration when it changed.
    pub fn ping(&mut self, program_ns: i64, mixer_ns: i64) -> Option<Calibration> {
        self.offsets.push_back(mixer_ns.saturating_sub(program_ns));
        if self.offsets.len() > WINDOW {
            self.offsets.pop_front();
        }
        let offset = self.offsets.iter().copied().min()?;
        let truth = mixer_ns.saturating_sub(offset);
        let next = match self.current {
            None => at(mixer_ns, truth),
            Some(current) => {
                let now = current.program(mixer_ns);
                let error = truth.saturating_sub(now);
                if error.abs() > JUMP_NS {
                    self.offsets.clear();
                    self.offsets.push_back(mixer_ns.saturating_sub(program_ns));
                    at(mixer_ns, program_ns)
                } else if error.abs() > TOLERANCE_NS {
                    // Gone in a second, or as fast as the bound allows.
                    let slew_ppm = (error / 1_000).clamp(-MAX_SLEW_PPM, MAX_SLEW_PPM);
                    Calibration {
                        slew_ppm,
                        ..at(mixer_ns, now)
                    }
                } else if current.slew_ppm != 0 {
                    at(mixer_ns, now)
                } else {
                    return None;
                }
            }
        };
        self.current = Some(next);
        Some(next)
    }

    /// The newest calibration; `None` before the first ping.
    #[must_use]
    pub fn calibration(&self) -> Option<Calibration> {
        self.current
    }
}

fn at(mixer_ns: i64, program_ns: i64) -> Calibration {
    Calibration {
        mixer_ns,
        program_ns,
        slew_ppm: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    #[test]
    fn the_fastest_ping_counts() {
        let mut clock = Clock::default();
        clock.ping(0, 1_000 * MS + 3 * MS);
        for n in 1..20 {
            let way = if n == 4 { MS } else { 9 * MS };
            clock.ping(n * 100 * MS, 1_000 * MS + n * 100 * MS + way);
        }
        let program = clock
            .calibration()
            .expect("known")
            .program(1_000 * MS + 2_000 * MS);
        assert!((program - (2_000 * MS - MS)).abs() < MS / 2, "{program}");
    }

    #[test]
    fn a_clock_that_was_set_is_followed_at_once() {
        let mut clock = Clock::default();
        clock.ping(0, 0);
        clock.ping(10_000 * MS, 100 * MS);
        let program = clock.calibration().expect("known").program(100 * MS);
        assert_eq!(program, 10_000 * MS);
    }

    proptest! {
        /// Over ten minutes with a skewed clock and a jittery way, program time never steps back and stays near.
        #[test]
        fn program_time_is_monotonic_and_near(ppm in -100i64..100, jitter in proptest::collection::vec(0i64..5 * MS, 1..50)) {
            let mut clock = Clock::default();
            let mut last = i64::MIN;
            for n in 0..6_000i64 {
                let program = n * 100 * MS;
                let way = MS / 10 + jitter[usize::try_from(n).expect("small") % jitter.len()];
                let mixer = program + program * ppm / 1_000_000 + way;
                clock.ping(program, mixer);
                let estimate = clock.calibration().expect("known").program(mixer);
                prop_assert!(estimate >= last, "stepped back at {n}");
                last = estimate;
                prop_assert!((estimate - (program + way)).abs() < 8 * MS, "{} off at {n}", estimate - program - way);
            }
        }
    }
}
