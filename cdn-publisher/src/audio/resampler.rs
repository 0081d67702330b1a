//! Reading sound between its samples: a windowed sinc, as a table of phases.
//!
//! The program follows the clocks of its sources by reading their sound a little faster or slower than it was written.
//! At a whole position the sample itself comes out, bit for bit; elsewhere a filter of [`TAPS`] samples is used, flat
//! to 19 kHz with images below −80 dB. General resamplers hide their position; here it *is* the interface, because a sample's
//! place on the program's timeline must be known exactly.

use std::sync::LazyLock;

use media::Rate;

use super::codec::Frame;

/// Samples that one output sample depends on.
pub(crate) const TAPS: usize = 32;
/// Samples needed after the position that is read; one less is needed before it.
pub(crate) const HALF: i64 = TAPS as i64 / 2;
/// Steps between two samples in the table; coefficients in between are interpolated linearly.
const PHASES: usize = 512;
/// Kaiser window: −80 dB.
const BETA: f64 = 8.0;

/// One coefficient per value of a window, so that the two channels of a frame are computed side by side.
type Phase = [f32; 2 * TAPS];

static TABLE: LazyLock<Vec<Phase>> = LazyLock::new(|| (0..=PHASES).map(phase).collect());

/// The coefficients for a position `index / PHASES` after a sample, which is tap `HALF - 1`.
fn phase(index: usize) -> Phase {
    let fraction = index as f64 / PHASES as f64;
    let mut taps = [0.0; 2 * TAPS];
    for (at, value) in taps.iter_mut().enumerate() {
        let x = (at / 2) as f64 - (HALF - 1) as f64 - fraction;
        *value = sinc(x) * kaiser(x / HALF as f64);
    }
    let sum: f64 = taps.iter().sum::<f64>() / 2.0;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "single precision is what is computed with"
    )]
    taps.map(|tap| (tap / sum) as f32)
}

fn sinc(x: f64) -> f64 {
    if x.abs() < 1e-9 {
        1.0
    } else if x.fract() == 0.0 {
        0.0
    } else {
        let angle = std::f64::consts::PI * x;
        angle.sin() / angle
    }
}

fn kaiser(x: f64) -> f64 {
    let inside = 1.0 - x * x;
    if inside <= 0.0 {
        return 0.0;
    }
    bessel(BETA * inside.sqrt()) / bessel(BETA)
}

/// The modified Bessel function of the first kind, order 0.
pub(crate) fn bessel(x: f64) -> f64 {
    let (mut sum, mut term, mut n) = (1.0, 1.0, 1.0);
    while term > sum * 1e-15 {
        term *= (x / (2.0 * n)).powi(2);
        sum += term;
        n += 1.0;
    }
    sum
}

/// The sound `fraction` (0 ≤ fraction < 1) after tap `HALF - 1` of these [`TAPS`] samples.
pub(crate) fn interpolate(samples: &[Frame; TAPS], fraction: f64) -> Frame {
    let scaled = fraction * PHASES as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and PHASES; `as` saturates"
    )]
    let index = scaled as usize;
    #[expect(clippy::cast_possible_truncation, reason = "between 0 and 1")]
    let between = (scaled - index as f64) as f32;
    let (Some(low), Some(high)) = (TABLE.get(index), TABLE.get(index + 1)) else {
        return samples.get(TAPS / 2).copied().unwrap_or_default();
    };
    // Eight independent sums, so that the compiler can use vector registers.
    let mut sums = [0.0f32; 8];
    let (low, _) = low.as_chunks::<8>();
    let (high, _) = high.as_chunks::<8>();
    let (samples, _) = samples.as_flattened().as_chunks::<8>();
    for ((low, high), samples) in low.iter().zip(high).zip(samples) {
        for lane in 0..8 {
            let coefficient = low[lane] + (high[lane] - low[lane]) * between;
            sums[lane] += coefficient * samples[lane];
        }
    }
    let [l0, r0, l1, r1, l2, r2, l3, r3] = sums;
    [(l0 + l1) + (l2 + l3), (r0 + r1) + (r2 + r3)]
}

/// A contiguous sound at another rate, block by block.
#[derive(Debug)]
pub(crate) struct Converter {
    /// Samples of the input per sample of the output.
    ratio: f64,
    /// Input that is still needed, and the position in it of the next output sample.
    input: Vec<Frame>,
    at: f64,
}

impl Converter {
    /// The first sample that comes out is the first that goes in.
    pub(crate) fn new(from: Rate, to: Rate) -> Self {
        Self {
            ratio: f64::from(from.hz()) / f64::from(to.hz()),
            input: vec![Frame::default(); TAPS / 2 - 1],
            at: 0.0,
        }
    }

    /// Takes a block and appends what can be known of the output: all but the last [`HALF`] samples.
    pub(crate) fn push(&mut self, block: &[Frame], out: &mut Vec<Frame>) {
        self.input.extend_from_slice(block);
        loop {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a position within the input"
            )]
            let first = self.at as usize;
            let window = self.input.get(first..).and_then(<[Frame]>::first_chunk);
            let Some(window) = window else {
                let past = first.min(self.input.len());
                self.input.drain(..past);
                self.at -= past as f64;
                return;
            };
            out.push(interpolate(window, self.at.fract()));
            self.at += self.ratio;
        }
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests {
    use super::*;

    fn tone(frequency_hz: f64, at: f64) -> f64 {
        10_000.0 * (std::f64::consts::TAU * frequency_hz * at / 48_000.0).sin()
    }

    /// Signal to error ratio in dB of a tone read at an odd rate.
    fn snr(frequency_hz: f64) -> f64 {
        let samples: Vec<Frame> = (0..6_000)
            .map(|n| [tone(frequency_hz, f64::from(n)) as f32; 2])
            .collect();
        let (mut signal, mut noise) = (0.0, 0.0);
        for n in 0..4_000 {
            let position = 100.0 + f64::from(n) * 1.000_217;
            let first = position.floor() as usize + 1 - HALF as usize;
            let window = samples[first..first + TAPS].try_into().unwrap();
            let expected = tone(frequency_hz, position);
            let error = f64::from(interpolate(window, position.fract())[1]) - expected;
            signal += expected * expected;
            noise += error * error;
        }
        10.0 * (signal / noise).log10()
    }

    #[test]
    fn transparent_over_the_audible_band() {
        for frequency_hz in [100.0, 1_000.0, 5_000.0, 10_000.0, 15_000.0] {
            let snr = snr(frequency_hz);
            assert!(snr > 80.0, "{frequency_hz} Hz: {snr:.1} dB");
        }
        assert!(snr(19_000.0) > 60.0, "19 kHz: {:.1} dB", snr(19_000.0));
    }

    #[test]
    fn a_converted_tone_is_the_same_tone() {
        let hz = |rate| Rate::new(rate).unwrap();
        let mut converter = Converter::new(hz(44_100), hz(48_000));
        let tone = |at: f64| (10_000.0 * (std::f64::consts::TAU * 997.0 * at).sin()) as f32;
        let input: Vec<Frame> = (0..44_100)
            .map(|n| [tone(f64::from(n) / 44_100.0); 2])
            .collect();
        let mut out = Vec::new();
        for block in input.chunks(1_024) {
            converter.push(block, &mut out);
        }
        assert!(out.len() > 47_900 && out.len() <= 48_000, "{}", out.len());
        for (n, frame) in out.iter().enumerate().skip(100) {
            let error = frame[0] - tone(n as f64 / 48_000.0);
            assert!(error.abs() < 3.0, "sample {n} is {error} off");
        }
    }

    #[test]
    fn whole_positions_give_the_sample_itself() {
        let samples: [Frame; TAPS] =
            std::array::from_fn(|n| [n as f32 * 991.0 - 7_000.0, n as f32]);
        assert_eq!(interpolate(&samples, 0.0), samples[TAPS / 2 - 1]);
    }
}
