//! How loud a source is on the bus: a gain that moves linearly over 10 ms, so that nobody hears a click.

use super::codec::Frame;

/// Samples of a full change: 10 ms.
pub(crate) const RAMP_SAMPLES: u16 = 480;

/// A gain on its way to its target.
#[derive(Debug)]
pub(crate) struct Gain {
    now: f32,
    target: f32,
    /// Change per sample, and how many are left.
    step: f32,
    left: u16,
}

impl Gain {
    /// A gain that starts where it is.
    pub(crate) fn new(gain: f32) -> Self {
        let gain = sane(gain);
        Self {
            now: gain,
            target: gain,
            step: 0.0,
            left: 0,
        }
    }

    /// Moves to `gain` from the next sample on. What is not a finite number ≥ 0 is silence.
    pub(crate) fn set(&mut self, gain: f32) {
        let gain = sane(gain);
        if gain != self.target {
            self.target = gain;
            self.left = RAMP_SAMPLES;
            self.step = (gain - self.now) / f32::from(RAMP_SAMPLES);
        }
    }

    /// Nothing is heard, and nothing is about to be.
    pub(crate) fn is_silent(&self) -> bool {
        self.now == 0.0 && self.target == 0.0
    }

    /// Nothing is heard once the change is over.
    pub(crate) fn ends_silent(&self) -> bool {
        self.target == 0.0
    }

    /// Sound passes unchanged, or is about to.
    pub(crate) fn is_unity(&self) -> bool {
        self.target == 1.0
    }

    /// Adds `sound` to `out`. Returns false when the gain made it silence.
    pub(crate) fn mix(&mut self, sound: &[Frame], out: &mut [Frame]) -> bool {
        if self.is_silent() {
            return false;
        }
        for (sum, sound) in out.iter_mut().zip(sound) {
            if self.left > 0 {
                self.left -= 1;
                self.now = if self.left == 0 {
                    self.target
                } else {
                    self.now + self.step
                };
            }
            for (sum, sound) in sum.iter_mut().zip(sound) {
                *sum += sound * self.now;
            }
        }
        true
    }
}

fn sane(gain: f32) -> f32 {
    if gain.is_finite() { gain.max(0.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unchanged_sound_is_exact_and_changes_take_ten_milliseconds() {
        let sound = [[1234.5, -7.25]; 1_024];
        let mut out = [[0.0; 2]; 1_024];
        let mut gain = Gain::new(1.0);
        assert!(gain.mix(&sound, &mut out));
        assert_eq!(out, sound);

        gain.set(0.0);
        out = [[0.0; 2]; 1_024];
        gain.mix(&sound, &mut out);
        assert!(out.windows(2).all(|pair| pair[1][0] <= pair[0][0]));
        assert!(out[479] == [0.0; 2] && out[478][0] > 0.0);
        assert!(gain.is_silent());
        assert!(!gain.mix(&sound, &mut out));
    }

    #[test]
    fn nonsense_is_silence() {
        for gain in [f32::NAN, f32::INFINITY, -1.0] {
            assert!(Gain::new(gain).is_silent());
        }
    }
}
