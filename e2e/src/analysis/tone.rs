//! Clicks and gaps in a continuous tone.
//!
//! A pure tone `x` obeys `x[n] = 2·cos(ω)·x[n−1] − x[n−2]`: what is left of that relation (the residual) is noise,
//! about 0.0001 after a clean AAC encode, and far above 0.02 where a sample is missing, doubled or wrong.

use std::f64::consts::TAU;

use super::count;
use crate::clip::{SAMPLE_RATE, TONE_HZ};

/// Residual above which something has happened to the tone. Full scale is 1.
pub const CLICK_THRESHOLD: f64 = 0.02;
/// A sample below this is silent.
const SILENT: f64 = 1e-3;
/// Silent samples that make a gap: 2 ms. A tone at 1 kHz crosses zero for far less.
const GAP_SAMPLES: usize = 96;
/// One click is counted once within this many samples.
const CLICK_HOLD_SAMPLES: usize = 2_400;

/// What is wrong with a tone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Defects {
    /// Times of clicks in seconds.
    pub clicks: Vec<f64>,
    /// Times and lengths of gaps, both in seconds.
    pub gaps: Vec<(f64, f64)>,
    /// The largest residual.
    pub worst_residual: f64,
}

impl Defects {
    /// Nothing is wrong.
    #[must_use]
    pub fn none(&self) -> bool {
        self.clicks.is_empty() && self.gaps.is_empty()
    }
}

/// Listens to a 1 kHz tone from sample `from` on; the beginning of a recording holds the encoder's start.
#[must_use]
pub fn listen(samples: &[f64], from: usize) -> Defects {
    let rate = f64::from(SAMPLE_RATE);
    let coefficient = 2.0 * (TAU * TONE_HZ / rate).cos();
    let mut defects = Defects::default();
    let mut last_click = None;
    let mut silent = 0;
    for (index, window) in samples.windows(3).enumerate().skip(from) {
        let [before, last, now] = window else {
            continue;
        };
        let residual = (now - coefficient * last + before).abs();
        defects.worst_residual = defects.worst_residual.max(residual);
        if residual > CLICK_THRESHOLD
            && last_click.is_none_or(|last| index - last > CLICK_HOLD_SAMPLES)
        {
            defects.clicks.push(count(index) / rate);
            last_click = Some(index);
        }
        if now.abs() < SILENT {
            silent += 1;
            continue;
        }
        if silent > GAP_SAMPLES {
            defects
                .gaps
                .push((count(index - silent) / rate, count(silent) / rate));
        }
        silent = 0;
    }
    if silent > GAP_SAMPLES {
        defects
            .gaps
            .push((count(samples.len() - silent) / rate, count(silent) / rate));
    }
    defects
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::channel;
    use crate::clip::{Sound, samples};

    fn tone() -> Vec<f64> {
        channel(&samples(Sound::ToneAndBeeps, 2), 0)
    }

    #[test]
    fn a_clean_tone_has_no_defects() {
        let defects = listen(&tone(), 0);
        assert!(defects.none(), "{defects:?}");
        assert!(defects.worst_residual < 1e-5, "{defects:?}");
    }

    #[test]
    fn a_hole_of_ten_milliseconds_is_a_gap() {
        let mut hole = tone();
        hole[48_000..48_480].fill(0.0);
        let defects = listen(&hole, 0);
        assert_eq!(defects.gaps.len(), 1);
        assert!((defects.gaps[0].1 - 0.01).abs() < 0.001);
    }

    #[test]
    fn twelve_missing_samples_and_one_wrong_sample_click() {
        let mut dropped = tone();
        dropped.drain(48_000..48_012);
        assert_eq!(listen(&dropped, 0).clicks.len(), 1);
        let mut wrong = tone();
        wrong[48_000] += 0.1;
        assert_eq!(listen(&wrong, 0).clicks.len(), 1);
    }
}
