//! Following the clock of a source without anybody hearing it.
//!
//! Every packet tells where it should be presented; the difference to where it would be presented is the error. It is
//! smoothed first, so that jitter of capture times does not reach the pitch. Three regimes:
//!
//! - *exact*: the error is within [`EXACT_WINDOW`]; samples are read one by one, bit-exactly;
//! - *tracking*: a proportional-integral loop bends the rate, at most by [`MAX_RATE`]; in the steady state of a constant skew
//!   the error is zero;
//! - *slip*: the error exceeds [`SLIP_SAMPLES`], which bending would take too long to repair: jump, cross-faded.

/// An error within which nothing is done, in samples (0.5 ms).
pub(crate) const EXACT_WINDOW: f64 = 24.0;
/// A smoothed error that is repaired by a jump, in samples (12 ms): the offset of sound to picture must stay within 20 ms,
/// also while it grows faster than the smoothing follows.
pub(crate) const SLIP_SAMPLES: f64 = 576.0;
/// The fastest that the rate may differ from 1: 0.1 %, or 1.7 cents of pitch.
pub(crate) const MAX_RATE: f64 = 1e-3;
/// Time constant of the smoothing of errors, in samples (1 s).
const SMOOTHING: f64 = 48_000.0;
/// Natural frequency of the loop, per sample (0.05 rad/s): critically damped.
const OMEGA: f64 = 0.05 / 48_000.0;
/// Tracking ends when the clocks agree better than this and the error is below a sample, for [`SETTLE_SAMPLES`].
const SETTLED_RATE: f64 = 1e-6;
const SETTLED_ERROR: f64 = 1.0;
/// 20 s.
const SETTLE_SAMPLES: f64 = 960_000.0;

/// The estimate of a source's clock against the program's.
#[derive(Debug, Default)]
pub(crate) struct Drift {
    /// Smoothed error in samples: positive when the sound is presented too early. Zero at first, because the first packet
    /// is the anchor.
    error: f64,
    /// Estimated (source period / program period) − 1.
    skew: f64,
    /// `skew` with the correction of the present error.
    rate: f64,
    tracking: bool,
    /// Program samples since tracking began or, in the exact regime, since the last jump.
    regime_samples: f64,
    settled_samples: f64,
}

impl Drift {
    /// A packet that would be presented `error` samples too early, `samples` after the previous one.
    pub(crate) fn update(&mut self, error: f64, samples: f64) {
        let weight = 1.0 - (-samples / SMOOTHING).exp();
        self.error += (error - self.error) * weight;
        let smoothed = self.error;
        self.regime_samples += samples;
        if !self.tracking {
            if smoothed.abs() <= EXACT_WINDOW {
                return;
            }
            // The drift since the regime began is a good first guess of the skew, but not if it came all at once.
            let guess = self.skew + smoothed / self.regime_samples.max(3.0 * SMOOTHING);
            self.skew = guess.clamp(-MAX_RATE, MAX_RATE);
            self.tracking = true;
            self.regime_samples = 0.0;
        }
        let bent = self.skew + 2.0 * OMEGA * smoothed;
        self.rate = bent.clamp(-MAX_RATE, MAX_RATE);
        if self.rate == bent {
            // The integral stands still while the rate is at its limit, or it would overshoot later.
            self.skew += OMEGA * OMEGA * smoothed * samples;
        }
        let settled = self.skew.abs() < SETTLED_RATE && smoothed.abs() < SETTLED_ERROR;
        self.settled_samples = if settled {
            self.settled_samples + samples
        } else {
            0.0
        };
    }

    /// Source samples per program sample.
    pub(crate) fn step(&self) -> f64 {
        if self.tracking {
            1.0 / (1.0 + self.rate)
        } else {
            1.0
        }
    }

    /// The clocks agree: the reader may move to a whole sample and call [`Drift::make_exact`].
    pub(crate) fn is_settled(&self) -> bool {
        self.tracking && self.settled_samples >= SETTLE_SAMPLES
    }

    /// Leaves tracking.
    pub(crate) fn make_exact(&mut self) {
        *self = Self {
            error: self.error,
            ..Self::default()
        };
    }

    /// How many samples to jump back (positive) or ahead (negative), when the error calls for it.
    pub(crate) fn slip(&self) -> Option<f64> {
        (self.error.abs() > SLIP_SAMPLES).then(|| self.error.round())
    }

    /// The reader jumped by `samples`: the error is that much smaller.
    pub(crate) fn slipped(&mut self, samples: f64) {
        self.error -= samples;
        self.regime_samples = 0.0;
    }

    /// The source's timeline starts anew; its clock is still the same one.
    pub(crate) fn restart(&mut self) {
        self.error = 0.0;
        self.regime_samples = 0.0;
        self.settled_samples = 0.0;
        self.rate = self.skew;
    }

    /// Smoothed error in samples: positive when the sound is presented too early.
    pub(crate) fn error(&self) -> f64 {
        self.error
    }

    /// The rate in use, in parts per million.
    pub(crate) fn ppm(&self) -> f64 {
        if self.tracking { self.rate * 1e6 } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the loop against a clock of `ppm` for `seconds`; returns the worst error and the drift.
    fn follow(ppm: f64, jitter: f64, seconds: u32) -> (f64, Drift) {
        let mut drift = Drift::default();
        let (mut error, mut worst) = (0.0f64, 0.0f64);
        for n in 0..seconds * 50 {
            // A clock that is slow by `ppm` stretches each packet; reading slower compensates.
            error += 960.0 * (ppm * 1e-6 - (1.0 / drift.step() - 1.0));
            worst = worst.max(error.abs());
            let noise = if n % 2 == 0 { jitter } else { -jitter };
            drift.update(error + noise, 960.0);
        }
        (worst, drift)
    }

    #[test]
    fn a_constant_skew_leaves_no_error() {
        for ppm in [-900.0, -200.0, -20.0, 20.0, 200.0, 900.0] {
            let (worst, drift) = follow(ppm, 0.0, 600);
            assert!(worst < 400.0, "{ppm} ppm: worst {worst} samples");
            assert!(drift.error().abs() < 1.0, "{ppm} ppm: {}", drift.error());
            assert!((drift.ppm() - ppm).abs() < 1.0, "{ppm}: {}", drift.ppm());
        }
    }

    #[test]
    fn equal_clocks_are_read_exactly_in_spite_of_jitter() {
        let (_, drift) = follow(0.0, 480.0, 60);
        assert_eq!(drift.step(), 1.0);
    }

    #[test]
    fn jitter_does_not_reach_the_pitch() {
        let (_, quiet) = follow(100.0, 0.0, 300);
        let (_, noisy) = follow(100.0, 240.0, 300);
        assert!((quiet.ppm() - noisy.ppm()).abs() < 10.0);
    }

    #[test]
    fn a_passing_skew_settles_to_exact() {
        let mut drift = Drift::default();
        let mut error = 100.0;
        for _ in 0..50 * 600 {
            error -= 960.0 * (1.0 / drift.step() - 1.0);
            drift.update(error, 960.0);
        }
        assert!(drift.is_settled(), "{drift:?}");
    }

    #[test]
    fn a_large_error_calls_for_a_jump() {
        let mut drift = Drift::default();
        let jump = (0..500).find_map(|_| {
            drift.update(800.0, 960.0);
            drift.slip()
        });
        let jump = jump.expect("12 ms are exceeded");
        drift.slipped(jump);
        assert_eq!(drift.slip(), None);
    }
}
