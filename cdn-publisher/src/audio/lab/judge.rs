//! Whether a joint in a sound can be heard: the criteria, shown able to fail.
//!
//! A joint is judged against the ideal sound and against encodes of it that were never spliced, because what matters
//! is what the joint adds to an encoder's own noise. All of these must hold:
//! 1. no silence where there is sound;
//! 2. no drift: after the joint the sound lies at the same sample;
//! 3. the worst 5 ms of error near the joint exceed the 99th percentile of the noisier plain encode within a second of it by at
//!    most 9 dB;
//! 4. no click: the energy above 8 kHz in 10 ms stays within 6 dB of what the ideal and the plain encodes have there;
//! 5. the signal-to-noise ratio near the joint is at most 6 dB below a plain encode's.

use std::f64::consts::TAU;
use std::ops::Range;

/// Samples on either side of a joint that are judged.
const REACH: usize = 2_048;
/// The bounds of criteria 3 to 5.
const EXCESS_DB: f64 = 9.0;
const CLICK_DB: f64 = 6.0;
const SNR_LOSS_DB: f64 = 6.0;
/// Noise in a pause is not weighed below 60 dB under the loudest 5 ms within a second.
const INAUDIBLE: f64 = 1e-6;
const SILENCE_BLOCK: usize = 64;

/// What a joint is compared with: one channel each, all on the same timeline.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'a> {
    /// Samples per second.
    pub rate_hz: u32,
    /// The sound as it should be.
    pub ideal: &'a [f64],
    /// Encodes of it without any joint.
    pub plain: &'a [Vec<f64>],
}

/// The measurements of one joint.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Verdict {
    /// Samples in silent blocks.
    pub silent_samples: usize,
    /// Where the sound after the joint lies, relative to where it should. `None` when it is not found, although the plain
    /// encodes are.
    pub drift_samples: Option<isize>,
    /// Criterion 3, in decibels above the 99th percentile of the noisier plain encode.
    pub excess_db: f64,
    /// Criterion 4, in decibels above what is there without the joint.
    pub click_db: f64,
    /// Criterion 5, in decibels below the noisier plain encode.
    pub snr_loss_db: f64,
}

impl Verdict {
    /// By how many decibels the worst criterion is missed; 0 when all hold, infinite when sound is missing or displaced.
    #[must_use]
    pub fn missed_by_db(&self) -> f64 {
        if self.silent_samples > 0 || self.drift_samples != Some(0) {
            return f64::INFINITY;
        }
        [
            self.excess_db - EXCESS_DB,
            self.click_db - CLICK_DB,
            self.snr_loss_db - SNR_LOSS_DB,
        ]
        .into_iter()
        .fold(0.0, f64::max)
    }

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
            self.excess_db <= EXCESS_DB,
            format!("error {:.1} dB over a plain encode", self.excess_db),
        );
        unless(
            self.click_db <= CLICK_DB,
            format!("click of {:.1} dB", self.click_db),
        );
        unless(
            self.snr_loss_db <= SNR_LOSS_DB,
            format!("SNR {:.1} dB below a plain encode", self.snr_loss_db),
        );
        faults
    }
}

/// Judges the joint at sample `joint` of `candidate`.
#[must_use]
pub fn judge(reference: Reference<'_>, candidate: &[f64], joint: usize) -> Verdict {
    let near = joint.saturating_sub(REACH)..(joint + REACH).min(candidate.len());
    let wide = joint.saturating_sub(4 * REACH)..(joint + 4 * REACH).min(candidate.len());
    let Reference {
        rate_hz,
        ideal,
        plain,
    } = reference;
    let error_window = milliseconds(rate_hz, 5);
    let error = |of: &[f64]| -> Vec<f64> { of.iter().zip(ideal).map(|(a, b)| a - b).collect() };
    let errors: Vec<Vec<f64>> = plain.iter().map(|encode| error(encode)).collect();
    let own = error(candidate);

    let second = milliseconds(rate_hz, 1_000);
    let around = joint.saturating_sub(second)..(joint + second).min(candidate.len());
    let allowed = errors
        .iter()
        .map(|e| percentile(windows(cut(e, &around), error_window), 0.99))
        .fold(0.0, f64::max);
    let worst = windows(cut(&own, &near), error_window)
        .into_iter()
        .fold(0.0, f64::max);
    let loudest = windows(cut(ideal, &around), error_window)
        .into_iter()
        .fold(1e-6, f64::max);
    let snr = |error: &[f64]| {
        let noise = power(cut(error, &near)).max(loudest * INAUDIBLE);
        decibels(power(cut(ideal, &near)) / noise)
    };
    let plain_snr = errors
        .iter()
        .map(|error| snr(error))
        .fold(f64::INFINITY, f64::min);
    Verdict {
        silent_samples: silence(cut(ideal, &wide), cut(candidate, &wide)),
        drift_samples: drift(reference, candidate, joint),
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

/// Looks for 100 ms of the candidate after the joint in the ideal, 50 ms around where it should be. Noise and pauses do not
/// tell where they lie, joined or not: the first piece counts that is clearly found in the plain encodes.
fn drift(reference: Reference<'_>, candidate: &[f64], joint: usize) -> Option<isize> {
    const PIECES: usize = 5;
    const CLEAR: f64 = 0.8;
    let length = milliseconds(reference.rate_hz, 100);
    let search = milliseconds(reference.rate_hz, 50);
    let lies = |of: &[f64], from: usize| {
        let piece = of.get(from..from + length)?;
        let around = from.saturating_sub(search)..from + search;
        let (lag, fit) = find(piece, reference.ideal, around)?;
        Some((lag.cast_signed() - from.cast_signed(), fit))
    };
    let clear =
        |plain: &[f64], from| lies(plain, from).is_some_and(|(lag, fit)| lag == 0 && fit > CLEAR);
    let told = (0..PIECES)
        .map(|n| joint + REACH + n * length)
        .find(|from| reference.plain.iter().all(|plain| clear(plain, *from)));
    let Some(from) = told else { return Some(0) };
    let (lag, fit) = lies(candidate, from)?;
    (fit > 0.5).then_some(lag)
}

fn click(reference: Reference<'_>, candidate: &[f64], near: &Range<usize>) -> f64 {
    let click_window = milliseconds(reference.rate_hz, 10);
    // The filter starts before the judged part, so that its own start is not judged.
    let wide = near.start.saturating_sub(click_window)..near.end;
    let lead = near.start - wide.start;
    let loudest = |samples: &[f64]| {
        let high = high_pass(reference.rate_hz, cut(samples, &wide));
        windows(high.get(lead..).unwrap_or_default(), click_window)
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
fn high_pass(rate_hz: u32, samples: &[f64]) -> Vec<f64> {
    let omega = TAU * 8_000.0 / f64::from(rate_hz);
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

/// The lag at which `piece` lies best in `whole`, searched within `search`, and the normalised correlation there.
fn find(piece: &[f64], whole: &[f64], search: Range<usize>) -> Option<(usize, f64)> {
    let own = power(piece).sqrt();
    let correlation = |lag: usize| {
        let other = whole.get(lag..lag + piece.len())?;
        let product = dot(piece, other);
        let scale = own * power(other).sqrt() * count(piece.len());
        (scale > 0.0).then(|| product / scale)
    };
    search
        .filter_map(|lag| Some((lag, correlation(lag)?)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

fn milliseconds(rate_hz: u32, ms: u32) -> usize {
    usize::try_from(rate_hz * ms / 1_000).unwrap_or_default()
}

/// Ten times the logarithm; floors at −200 dB.
fn decibels(ratio: f64) -> f64 {
    10.0 * ratio.max(1e-20).log10()
}

/// Mean of the squares.
fn power(samples: &[f64]) -> f64 {
    dot(samples, samples) / count(samples.len().max(1))
}

/// Several sums, so that the compiler can use vector registers.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

fn count(n: usize) -> f64 {
    n as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index within a list"
)]
fn whole(value: f64) -> usize {
    value.round() as usize
}
