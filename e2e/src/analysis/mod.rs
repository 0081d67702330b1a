//! Judging recorded media. Functions here measure; tests set the bounds.

pub mod align;
pub mod codec;
pub mod decode;
pub mod pictures;
pub mod rtp;
pub mod splice;
pub mod sync;
pub mod tone;
pub mod tracks;

/// Samples as `f64`, one channel of a stereo recording.
#[must_use]
pub fn channel(samples: &[[f32; 2]], index: usize) -> Vec<f64> {
    samples
        .iter()
        .map(|both| f64::from(both.get(index).copied().unwrap_or_default()))
        .collect()
}

/// Mean of the squares.
pub(crate) fn power(samples: &[f64]) -> f64 {
    if samples.is_empty() {
        return 0.0;
    }
    samples.iter().map(|sample| sample * sample).sum::<f64>() / count(samples.len())
}

/// A count as a number to calculate with.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of samples stay far below 2^52"
)]
pub(crate) fn count(n: usize) -> f64 {
    n as f64
}

/// The nearest whole number, clamped to `usize`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped by `as`, by definition"
)]
pub(crate) fn whole(value: f64) -> usize {
    value.round() as usize
}
