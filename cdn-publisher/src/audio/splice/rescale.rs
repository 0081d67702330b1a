//! *Rescale unaligned trailing samples*: a host's units begin somewhere between two slots of the program, and can only be
//! published again when they begin on one.
//!
//! While the sound goes through the bus the host is read a little faster or slower until its units lie on the grid. The
//! speed follows a raised cosine: it starts and ends at 1, never jumps, and deviates by at most [`MAX_DEVIATION`] (a sixth of
//! a semitone). The sum of the steps is exact, because each is the difference of two places on one curve.

use media::aac::FRAME_SAMPLES;

/// Largest deviation of the speed from 1.
pub(crate) const MAX_DEVIATION: f64 = 0.01;
/// Shortest duration: 0.1 s at 48 kHz.
const MIN_SAMPLES: f64 = 4_800.0;

/// Takes up an offset between a source and the grid, output sample by output sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rescale {
    offset: f64,
    samples: u32,
    done: u32,
}

impl Rescale {
    /// Plans to read `offset_samples` further by the end than at speed 1 (less far when negative).
    pub(crate) fn new(offset_samples: f64) -> Self {
        let bound = f64::from(FRAME_SAMPLES);
        let offset = if offset_samples.is_finite() {
            offset_samples.clamp(-bound, bound)
        } else {
            0.0
        };
        // The speed peaks at twice its mean.
        let samples = (2.0 * offset.abs() / MAX_DEVIATION).max(MIN_SAMPLES).ceil();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between MIN_SAMPLES and 204800"
        )]
        let samples = samples as u32;
        Self {
            offset,
            samples: if offset == 0.0 { 0 } else { samples },
            done: 0,
        }
    }

    /// By how much a source whose units begin at `start` (in samples of the output) must be read further, so that they
    /// begin on the grid: the shortest way, in −512..512.
    pub(crate) fn to_grid(start: f64) -> f64 {
        let unit = f64::from(FRAME_SAMPLES);
        let half = unit / 2.0;
        (start + half).rem_euclid(unit) - half
    }

    /// How far the next output sample advances in the source; 1 when there is nothing left to take up.
    pub(crate) fn step(&mut self) -> f64 {
        if self.is_done() {
            return 1.0;
        }
        let before = self.taken_up();
        self.done += 1;
        1.0 + self.taken_up() - before
    }

    /// The part of the offset that has been taken up, in samples.
    pub(crate) fn taken_up(&self) -> f64 {
        if self.is_done() {
            return self.offset;
        }
        let x = f64::from(self.done) / f64::from(self.samples);
        let turn = std::f64::consts::TAU * x;
        self.offset * (x - turn.sin() / std::f64::consts::TAU)
    }

    /// Whether all of it has been.
    pub(crate) fn is_done(&self) -> bool {
        self.done >= self.samples
    }

    /// Output samples until then.
    pub(crate) fn samples_left(&self) -> u32 {
        self.samples - self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_grid_is_reached_by_the_shortest_way() {
        for (start, offset) in [
            (0.0, 0.0),
            (1.0, 1.0),
            (511.5, 511.5),
            (512.0, -512.0),
            (1_023.0, -1.0),
            (-0.25, -0.25),
            (-10_240.0 - 3.0, -3.0),
        ] {
            assert_eq!(Rescale::to_grid(start), offset, "{start}");
        }
    }

    #[test]
    fn nothing_to_do_is_done() {
        let mut rescale = Rescale::new(0.0);
        assert!(rescale.is_done());
        assert_eq!(rescale.step(), 1.0);
        assert!(Rescale::new(f64::NAN).is_done());
    }

    proptest! {
        #[test]
        fn smooth_and_exact(offset in -512.0f64..512.0) {
            let mut rescale = Rescale::new(offset);
            let planned = rescale.samples_left();
            let (mut steps, mut extra, mut speed) = (0, 0.0, 1.0);
            while !rescale.is_done() {
                let step = rescale.step();
                prop_assert!((step - 1.0).abs() <= MAX_DEVIATION + 1e-9, "{}", step);
                prop_assert!((step - speed).abs() < 2e-5, "{} after {}", step, speed);
                prop_assert!((step - 1.0) * offset >= -1e-9, "it goes one way");
                (steps, extra, speed) = (steps + 1, extra + (step - 1.0), step);
            }
            prop_assert_eq!(steps, planned);
            prop_assert!(steps <= 102_400);
            prop_assert!((extra - offset).abs() < 1e-9, "{} of {}", extra, offset);
            prop_assert_eq!(rescale.taken_up(), offset);
        }
    }
}
