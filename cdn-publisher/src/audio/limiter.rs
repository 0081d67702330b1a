//! Keeps the sum of many voices within full scale, so that it is never clipped.
//!
//! A gain for both channels that falls before a peak is reached and recovers slowly. To fall in time it looks
//! [`LOOKAHEAD`] samples ahead *within the block*; a peak at the very beginning of a block is met by a steeper fall. Sound
//! that stays within [`CEILING`] passes bit-exactly: a host alone is never touched.

use super::codec::Frame;

/// The loudest sample that leaves, 0.2 dB below full scale (samples are in −32,768..32,767).
const CEILING: f32 = 32_000.0;
/// The fall: 2 ms.
const LOOKAHEAD: usize = 96;
/// The recovery per sample: 1/e in 100 ms.
const RECOVERY: f32 = 1.0 / 4_800.0;

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Limiter {
    gain: f32,
    wanted: Vec<f32>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            gain: 1.0,
            wanted: Vec::new(),
        }
    }
}

impl Limiter {
    /// Limits a block in place.
    pub(crate) fn limit(&mut self, block: &mut [Frame]) {
        let peak = |frame: &Frame| frame[0].abs().max(frame[1].abs());
        let loud = block.iter().any(|frame| peak(frame) > CEILING);
        if !loud && self.gain == 1.0 {
            return;
        }
        self.wanted.clear();
        self.wanted
            .extend(block.iter().map(|frame| CEILING / peak(frame).max(CEILING)));
        // Backwards: each gain may exceed the next one by one step of the fall only.
        let step = 1.0 / LOOKAHEAD as f32;
        let mut next = 1.0f32;
        for wanted in self.wanted.iter_mut().rev() {
            *wanted = wanted.min(next + step);
            next = *wanted;
        }
        for (frame, wanted) in block.iter_mut().zip(&self.wanted) {
            let recovered = self.gain + (1.0 - self.gain) * RECOVERY;
            self.gain = recovered.min(*wanted);
            *frame = frame.map(|sample| sample * self.gain);
        }
        if self.gain > 0.999 && !loud {
            self.gain = 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(level: f32, from: usize) -> Vec<Frame> {
        let sample = |n: usize| level * (n as f32 * 0.13).sin();
        (from..from + 1_024).map(|n| [sample(n); 2]).collect()
    }

    #[test]
    fn what_fits_is_untouched() {
        let mut limiter = Limiter::default();
        let mut block = tone(31_900.0, 0);
        limiter.limit(&mut block);
        assert_eq!(block, tone(31_900.0, 0));
    }

    #[test]
    fn nothing_leaves_above_the_ceiling_and_the_gain_comes_back() {
        let mut limiter = Limiter::default();
        let mut last = 0.0f32;
        for n in 0..40 {
            let level = if (5..10).contains(&n) {
                80_000.0
            } else {
                10_000.0
            };
            let mut block = tone(level, n * 1_024);
            limiter.limit(&mut block);
            for frame in &block {
                assert!(frame[0].abs() <= CEILING * 1.000_1, "{}", frame[0]);
                // No step that the tone itself does not have; it starts and ends at once.
                let own = if n == 5 || n == 10 {
                    40_000.0
                } else {
                    10_500.0
                };
                assert!((frame[0] - last).abs() < own, "a step in block {n}");
                last = frame[0];
            }
        }
        let mut block = tone(10_000.0, 0);
        for n in 0..60 {
            block = tone(10_000.0, n * 1_024);
            limiter.limit(&mut block);
        }
        assert_eq!(block, tone(10_000.0, 59 * 1_024));
    }
}
