//! Where one recording lies in another, to the sample.

use super::{count, power};

/// The lag at which `piece` lies best in `whole`, searched within `search` (the sample of `whole` where `piece[0]`
/// lies), and the normalised correlation there (1 is identity). `None` when nothing fits.
///
/// Use it on sound that resembles itself at one lag only: not on a tone.
#[must_use]
pub fn find(piece: &[f64], whole: &[f64], search: std::ops::Range<usize>) -> Option<(usize, f64)> {
    let own = power(piece).sqrt();
    let correlation = |lag: usize| {
        let other = whole.get(lag..lag + piece.len())?;
        let product: f64 = piece.iter().zip(other).map(|(a, b)| a * b).sum();
        let scale = own * power(other).sqrt() * count(piece.len());
        (scale > 0.0).then(|| product / scale)
    };
    search
        .filter_map(|lag| Some((lag, correlation(lag)?)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

/// Where one sample of a source lies in a recording, to a fraction of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Anchor {
    /// The sample of the recording.
    pub at: f64,
    /// By how many samples the source lies later in the recording; negative when earlier.
    pub lag: f64,
}

/// Follows `source` through `recording` in steps of `step` samples from sample `from` of the recording on, beginning
/// near `lag`. A clock that is followed by resampling shows as a slope, a lost sample as a step.
///
/// # Errors
/// With the first place where the two do not fit.
pub fn follow(
    source: &[f64],
    recording: &[f64],
    from: usize,
    step: usize,
    lag: isize,
) -> anyhow::Result<Vec<Anchor>> {
    const PIECE: usize = 9_600;
    let (mut lag, mut reach) = (lag, 4_800);
    let mut anchors = Vec::new();
    let mut at = from;
    while at + PIECE + reach < recording.len() {
        let start = at.saturating_add_signed(-lag);
        let Some(piece) = source.get(start..start + PIECE) else {
            break;
        };
        let near = at.saturating_sub(reach)..at + reach;
        let found = find(piece, recording, near).filter(|(_, fit)| *fit > 0.95);
        let Some((lies, _)) = found else {
            anyhow::bail!("the sound at sample {at} is not the source's near lag {lag}");
        };
        lag = lies.cast_signed() - start.cast_signed();
        let fraction = fraction(piece, recording, lies);
        anchors.push(Anchor {
            at: count(lies + PIECE / 2),
            lag: signed(lag) + fraction,
        });
        (at, reach) = (lies + step, 48);
    }
    Ok(anchors)
}

/// By how much the best fit lies off `lag`, by a parabola through the correlations around it.
fn fraction(piece: &[f64], whole: &[f64], lag: usize) -> f64 {
    let product = |lag: usize| -> f64 {
        let other = whole.get(lag..lag + piece.len()).unwrap_or_default();
        piece.iter().zip(other).map(|(a, b)| a * b).sum()
    };
    let (left, middle, right) = (
        product(lag.saturating_sub(1)),
        product(lag),
        product(lag + 1),
    );
    let curvature = left - 2.0 * middle + right;
    if curvature < 0.0 {
        ((left - right) / (2.0 * curvature)).clamp(-1.0, 1.0)
    } else {
        0.0
    }
}

/// `source` moved onto the timeline of the recording that `anchors` were found in: samples `range` of that timeline.
#[must_use]
pub fn on_timeline(source: &[f64], anchors: &[Anchor], range: std::ops::Range<usize>) -> Vec<f64> {
    range
        .map(|n| sample_at(source, count(n) - lag_at(anchors, count(n))))
        .collect()
}

fn lag_at(anchors: &[Anchor], at: f64) -> f64 {
    let after = anchors
        .partition_point(|anchor| anchor.at <= at)
        .clamp(1, anchors.len().saturating_sub(1).max(1));
    match (anchors.get(after - 1), anchors.get(after)) {
        (Some(a), Some(b)) => a.lag + (b.lag - a.lag) * (at - a.at) / (b.at - a.at),
        (Some(only), None) => only.lag,
        (None, _) => 0.0,
    }
}

/// The value between samples, by a windowed sine cardinal of 64 taps.
fn sample_at(samples: &[f64], at: f64) -> f64 {
    const TAPS: isize = 32;
    let base = at.floor();
    let rest = at - base;
    let base = super::whole(base).cast_signed();
    let tap = |k: isize| {
        let x = signed(k) - rest;
        let value = base
            .checked_add(k)
            .and_then(|n| usize::try_from(n).ok())
            .and_then(|n| samples.get(n));
        let window = 0.5 + 0.5 * (std::f64::consts::PI * x / signed(TAPS)).cos();
        let pi_x = std::f64::consts::PI * x;
        let sinc = if pi_x.abs() < 1e-9 {
            1.0
        } else {
            pi_x.sin() / pi_x
        };
        value.copied().unwrap_or_default() * sinc * window
    };
    (1 - TAPS..=TAPS).map(tap).sum()
}

/// A small whole number as `f64`.
#[expect(
    clippy::cast_precision_loss,
    reason = "sample positions stay far below 2^52"
)]
fn signed(n: isize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::channel;
    use crate::clip::{Sound, samples};

    #[test]
    fn a_piece_is_found_to_the_sample() {
        let whole = channel(&samples(Sound::Music, 2), 0);
        let (lag, fit) = find(&whole[30_011..34_107], &whole, 29_000..31_000).unwrap();
        assert_eq!(lag, 30_011);
        assert!(fit > 0.999_999);
    }

    #[test]
    fn a_clock_that_runs_fast_is_followed_and_undone() {
        let source = channel(&samples(Sound::Music, 4), 0);
        let fast = 1.0 + 200e-6;
        let recording: Vec<f64> = (0..180_000)
            .map(|n| sample_at(&source, count(n) * fast - 700.5))
            .collect();
        let anchors = follow(&source, &recording, 48_000, 12_000, 650).unwrap();
        assert!(anchors.len() > 8);
        let range = 60_000..150_000;
        let undone = on_timeline(&source, &anchors, range.clone());
        let errors: Vec<f64> = undone
            .iter()
            .zip(&recording[range.clone()])
            .map(|(a, b)| a - b)
            .collect();
        let noise = power(&errors) / power(&recording[range]);
        // What is left is the hiss near the band's end, which no short filter interpolates.
        assert!(noise < 1e-3, "{noise}");
    }

    #[test]
    fn a_lost_block_is_a_step() {
        let source = channel(&samples(Sound::Music, 4), 0);
        let recording = [&source[..96_000], &source[96_480..]].concat();
        let lost = follow(&source, &recording, 48_000, 12_000, 0);
        assert!(lost.is_err(), "{lost:?}");
    }
}
