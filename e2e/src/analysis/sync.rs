//! The offset of sound against picture, by flashes and beeps.

use std::f64::consts::TAU;

use super::count;
use crate::clip::{BEEP_HZ, PictureSize, SAMPLE_RATE, code_square};

/// The times at which flashes begin, from luma planes and their presentation times in seconds.
#[must_use]
pub fn flashes(pictures: &[Vec<u8>], times: &[f64], size: PictureSize) -> Vec<f64> {
    let lit: Vec<bool> = pictures.iter().map(|luma| is_lit(luma, size)).collect();
    onsets(&lit, times)
}

/// Whether a picture carries the flash.
#[must_use]
pub fn is_lit(luma: &[u8], size: PictureSize) -> bool {
    let from_bottom = code_square(size.width) / 2;
    let row = (size.height - from_bottom) * size.width;
    // The left half: a small picture may lie in the right corner.
    let line = luma.get(row..row + size.width / 2).unwrap_or_default();
    line.iter().map(|sample| u64::from(*sample)).sum::<u64>() > 64 * size.width as u64
}

/// The times at which lit pictures begin.
#[must_use]
pub fn onsets(lit: &[bool], times: &[f64]) -> Vec<f64> {
    let pairs = lit.windows(2).zip(times.iter().skip(1));
    pairs
        .filter(|(pair, _)| matches!(pair, [false, true]))
        .map(|(_, time)| *time)
        .collect()
}

/// The times at which beeps begin, from the right channel of which sample 0 lies at `start` seconds: where the energy
/// at the beep's frequency over 5 ms passes half of its later level.
#[must_use]
pub fn beeps(right: &[f64], start: f64) -> Vec<f64> {
    const WINDOW: usize = 240;
    let rate = f64::from(SAMPLE_RATE);
    let (mut sine, mut cosine) = (0.0, 0.0);
    let turned: Vec<(f64, f64)> = right
        .iter()
        .enumerate()
        .map(|(n, sample)| {
            let (s, c) = (TAU * BEEP_HZ * count(n) / rate).sin_cos();
            (sample * s, sample * c)
        })
        .collect();
    let mut found = Vec::new();
    let mut sounding = true;
    for (n, (s, c)) in turned.iter().enumerate() {
        let (old_s, old_c) = n
            .checked_sub(WINDOW)
            .and_then(|n| turned.get(n))
            .copied()
            .unwrap_or_default();
        sine += s - old_s;
        cosine += c - old_c;
        // Amplitude 0.4 over a full window gives 0.2.
        let level = sine.hypot(cosine) / count(WINDOW);
        if level > 0.1 && !sounding {
            // Half the level is reached when half the window is filled.
            found.push(start + (count(n) - count(WINDOW) / 2.0) / rate);
            sounding = true;
        } else if level < 0.02 {
            sounding = false;
        }
    }
    found
}

/// For each flash, how much later its beep begins, in seconds; flashes without a beep within 0.4 s are left out.
#[must_use]
pub fn offsets(flashes: &[f64], beeps: &[f64]) -> Vec<f64> {
    let nearest = |flash: &f64| {
        beeps
            .iter()
            .map(|beep| beep - flash)
            .min_by(|a, b| a.abs().total_cmp(&b.abs()))
    };
    flashes
        .iter()
        .filter_map(nearest)
        .filter(|offset| offset.abs() < 0.4)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::channel;
    use crate::clip::{Sound, draw, samples};

    const SIZE: PictureSize = PictureSize {
        width: 640,
        height: 360,
    };

    #[test]
    fn an_offset_is_measured_to_the_millisecond() {
        let pictures: Vec<Vec<u8>> = (0..90).map(|n| draw(SIZE, 30, n)).collect();
        let times: Vec<f64> = (0..90).map(|n| f64::from(n) / 30.0).collect();
        let right = channel(&samples(Sound::ToneAndBeeps, 3), 1);
        let flashes = flashes(&pictures, &times, SIZE);
        assert_eq!(flashes, [1.0, 2.0]);
        for late in [-0.030, 0.0, 0.045] {
            let measured = offsets(&flashes, &beeps(&right, late));
            assert_eq!(measured.len(), 2);
            assert!(
                measured.iter().all(|offset| (offset - late).abs() < 0.001),
                "{late}: {measured:?}"
            );
        }
    }
}
