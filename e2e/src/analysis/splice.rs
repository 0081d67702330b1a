//! Whether a joint in a sound can be heard: the criteria, shown able to fail.
//!
//! A joint is judged against the ideal sound and against encodes of it that were never spliced, because what matters
//! is what the joint adds to an encoder's own noise. All of these must hold:
//! 1. no silence where there is sound;
//! 2. no drift: after the joint the sound lies at the same sample;
//! 3. the worst 5 ms of error near the joint exceed the noisier plain encode's 99th percentile by at most 9 dB;
//! 4. no click: the energy above 8 kHz in 10 ms stays within 6 dB of what the ideal and the plain encodes have there;
//! 5. the signal-to-noise ratio near the joint is at most 6 dB below a plain encode's.

use std::f64::consts::TAU;
use std::ops::Range;

use super::{align, count, decibels, power, whole};
use crate::clip::SAMPLE_RATE;

/// Samples on either side of a joint that are judged.
const REACH: usize = 2_048;
/// 5 ms.
const ERROR_WINDOW: usize = 240;
/// 10 ms.
const CLICK_WINDOW: usize = 480;
const SILENCE_BLOCK: usize = 64;

/// What a joint is compared with: one channel each, all on the same timeline.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'a> {
    /// The sound as it should be.
    pub ideal: &'a [f64],
    /// Encodes of it without any joint.
    pub plain: &'a [Vec<f64>],
}

/// The measurements of one joint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Samples in silent blocks.
    pub silent_samples: usize,
    /// Where the sound after the joint lies, relative to where it should. `None` when it is not found at all.
    pub drift_samples: Option<isize>,
    /// Criterion 3, in decibels above the 99th percentile of the noisier plain encode.
    pub excess_db: f64,
    /// Criterion 4, in decibels above what is there without the joint.
    pub click_db: f64,
    /// Criterion 5, in decibels below the noisier plain encode.
    pub snr_loss_db: f64,
}

impl Verdict {
    /// The criteria that do not hold, in words; empty when the joint cannot be heard.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut unless = |holds: bool, fault: String| {
            if !holds {
                faults.push(fault);
            }
        };
        unless(
            self.silent_samples == 0,
            format!("{} silent samples", self.silent_samples),
        );
        unless(
            self.drift_samples == Some(0),
            format!("drift {:?}", self.drift_samples),
        );
        unless(
            self.excess_db <= 9.0,
            format!("error {:.1} dB over a plain encode", self.excess_db),
        );
        unless(
            self.click_db <= 6.0,
            format!("click of {:.1} dB", self.click_db),
        );
        unless(
            self.snr_loss_db <= 6.0,
            format!("SNR {:.1} dB below a plain encode", self.snr_loss_db),
        );
        faults
    }
}

/// Judges the joint at sample `joint` of `candidate`.
#[must_use]
pub fn judge(reference: Reference<'_>, candidate: &[f64], joint: usize) -> Verdict {
    let near = joint.saturating_sub(REACH)..(joint + REACH).min(candidate.len());
    let Reference { ideal, plain } = reference;
    let error = |of: &[f64]| -> Vec<f64> { of.iter().zip(ideal).map(|(a, b)| a - b).collect() };
    let errors: Vec<Vec<f64>> = plain.iter().map(|encode| error(encode)).collect();
    let own = error(candidate);

    let allowed = errors
        .iter()
        .map(|e| percentile(windows(e, ERROR_WINDOW), 0.99))
        .fold(0.0, f64::max);
    let worst = windows(cut(&own, &near), ERROR_WINDOW)
        .into_iter()
        .fold(0.0, f64::max);
    let snr =
        |error: &[f64]| decibels(power(cut(ideal, &near)) / power(cut(error, &near)).max(1e-12));
    let plain_snr = errors
        .iter()
        .map(|error| snr(error))
        .fold(f64::INFINITY, f64::min);
    Verdict {
        silent_samples: silence(ideal, candidate),
        drift_samples: drift(ideal, candidate, joint),
        excess_db: decibels(worst / allowed.max(1e-12)),
        click_db: click(reference, candidate, &near),
        snr_loss_db: plain_snr - snr(&own),
    }
}

fn cut<'a>(samples: &'a [f64], range: &Range<usize>) -> &'a [f64] {
    samples
        .get(range.start..range.end.min(samples.len()))
        .unwrap_or_default()
}

/// Mean power of each window, half overlapping.
fn windows(samples: &[f64], length: usize) -> Vec<f64> {
    samples
        .windows(length)
        .step_by(length / 2)
        .map(power)
        .collect()
}

fn percentile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values
        .get(whole(count(values.len().saturating_sub(1)) * part))
        .copied()
        .unwrap_or_default()
}

fn silence(ideal: &[f64], candidate: &[f64]) -> usize {
    let blocks = ideal
        .chunks_exact(SILENCE_BLOCK)
        .zip(candidate.chunks_exact(SILENCE_BLOCK));
    let silent = blocks.filter(|(ideal, own)| {
        let expected = power(ideal).sqrt();
        expected > 0.01 && power(own).sqrt() < 0.03 * expected
    });
    silent.count() * SILENCE_BLOCK
}

/// Looks for 100 ms of the candidate after the joint in the ideal, 50 ms around where it should be.
fn drift(ideal: &[f64], candidate: &[f64], joint: usize) -> Option<isize> {
    const PIECE: usize = 4_800;
    const SEARCH: usize = 2_400;
    let from = joint + REACH;
    let piece = candidate.get(from..from + PIECE)?;
    let (lag, fit) = align::find(piece, ideal, from.saturating_sub(SEARCH)..from + SEARCH)?;
    (fit > 0.5).then(|| lag.cast_signed() - from.cast_signed())
}

fn click(reference: Reference<'_>, candidate: &[f64], near: &Range<usize>) -> f64 {
    // The filter starts before the judged part, so that its own start is not judged.
    let wide = near.start.saturating_sub(CLICK_WINDOW)..near.end;
    let lead = near.start - wide.start;
    let loudest = |samples: &[f64]| {
        let high = high_pass(cut(samples, &wide));
        windows(high.get(lead..).unwrap_or_default(), CLICK_WINDOW)
            .into_iter()
            .fold(0.0, f64::max)
    };
    let expected = reference
        .plain
        .iter()
        .map(|encode| loudest(encode))
        .fold(loudest(reference.ideal), f64::max);
    decibels(loudest(candidate) / expected.max(1e-10))
}

/// Butterworth high-pass of fourth order at 8 kHz: two biquads (bilinear transform).
fn high_pass(samples: &[f64]) -> Vec<f64> {
    let omega = TAU * 8_000.0 / f64::from(SAMPLE_RATE);
    let mut out = samples.to_vec();
    for quality in [0.541_196_1, 1.306_562_96] {
        let (sine, cosine) = omega.sin_cos();
        let alpha = sine / (2.0 * quality);
        let scale = 1.0 / (1.0 + alpha);
        let (b0, b1) = (f64::midpoint(1.0, cosine) * scale, -(1.0 + cosine) * scale);
        let (a1, a2) = (-2.0 * cosine * scale, (1.0 - alpha) * scale);
        let (mut x1, mut x2, mut y1, mut y2) = (0.0, 0.0, 0.0, 0.0);
        for sample in &mut out {
            let x = *sample;
            let y = b0 * (x + x2) + b1 * x1 - a1 * y1 - a2 * y2;
            (x2, x1, y2, y1) = (x1, x, y1, y);
            *sample = y;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::channel;
    use crate::analysis::codec::{ENCODER_DELAY, FRAME, decode_adts, encode, round_trip};
    use crate::clip::{Sound, samples};

    const SECONDS: u32 = 4;
    const KBPS: u32 = 128;

    struct Case {
        sound: Vec<[f32; 2]>,
        ideal: Vec<f64>,
        plain: Vec<Vec<f64>>,
    }

    impl Case {
        fn new() -> Self {
            let sound = samples(Sound::Music, SECONDS);
            let ideal = channel(&sound, 0);
            let plain = [KBPS, KBPS - 16]
                .map(|kbps| channel(&round_trip(&sound, kbps).unwrap(), 0))
                .to_vec();
            Self {
                sound,
                ideal,
                plain,
            }
        }

        fn judge(&self, candidate: &[f64], joint: usize) -> Verdict {
            let reference = Reference {
                ideal: &self.ideal,
                plain: &self.plain,
            };
            judge(reference, candidate, joint)
        }

        /// Output frame `k` of an encoder begins at this sample of the sound.
        fn joint(frame: usize) -> usize {
            frame * FRAME - ENCODER_DELAY
        }
    }

    /// Joins frames `..at` of one encode with `second`, and decodes.
    fn spliced(first: &[Vec<u8>], at: usize, second: &[Vec<u8>]) -> Vec<f64> {
        let frames = [&first[..at], second].concat();
        channel(&decode_adts(&frames).unwrap()[ENCODER_DELAY..], 0)
    }

    const JOINTS: [usize; 4] = [50, 71, 88, 103];

    #[test]
    fn plain_encodes_pass_everywhere() {
        let case = Case::new();
        for frame in JOINTS {
            for encode in &case.plain {
                let verdict = case.judge(encode, Case::joint(frame));
                assert!(verdict.faults().is_empty(), "frame {frame}: {verdict:?}");
            }
        }
    }

    #[test]
    fn a_cold_second_encoder_fails_everywhere() {
        let case = Case::new();
        let first = encode(&case.sound, KBPS).unwrap();
        for frame in JOINTS {
            let second = encode(&case.sound[Case::joint(frame)..], KBPS).unwrap();
            let verdict = case.judge(&spliced(&first, frame, &second), Case::joint(frame));
            assert!(!verdict.faults().is_empty(), "frame {frame}: {verdict:?}");
        }
    }

    #[test]
    fn one_sample_of_misalignment_fails_everywhere() {
        let case = Case::new();
        let first = encode(&case.sound, KBPS).unwrap();
        let shifted = encode(&case.sound[1..], KBPS).unwrap();
        for frame in JOINTS {
            let candidate = spliced(&first, frame, &shifted[frame..]);
            let verdict = case.judge(&candidate, Case::joint(frame));
            assert_ne!(verdict.drift_samples, Some(0), "frame {frame}: {verdict:?}");
        }
    }

    #[test]
    fn a_click_of_one_sample_fails() {
        let case = Case::new();
        let mut candidate = case.plain[0].clone();
        // Between two notes: the onset of a note is a click of its own.
        candidate[100_000] += 0.5;
        let verdict = case.judge(&candidate, 100_000);
        assert!(!verdict.faults().is_empty(), "{verdict:?}");
    }
}
