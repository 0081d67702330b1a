//! *Reconstruct the overlapped MDCT window*: the block of sound in which the last unit of one encoder and the first of
//! another add up comes out whole only if both used the same window for it.
//!
//! Each unit of AAC-LC spans two blocks of 1024 samples; a block is the falling half of one unit plus the rising half of the
//! next. The alias of the two halves cancels when their slopes mirror each other (ISO/IEC 14496-3 §4.6.11.3). A decoder
//! takes the rising slope's *shape* from the unit before and its *length* from the unit itself. So two encoders meet
//! without a trace where the lengths agree ([`fits`]), and where the shapes do not, our own encoder can be given the block
//! folded as the other window would fold it ([`refold`]).

use std::sync::LazyLock;

use crate::audio::codec::{Frame, UNIT_SAMPLES};
use crate::audio::resampler::bessel;

/// Rising slope of eight short windows, and where it lies in the block.
const SHORT: usize = 128;
const FLAT: usize = (UNIT_SAMPLES - SHORT) / 2;
/// Elements before the sound in a unit that are skipped; encoders write none or one.
const MAX_ELEMENTS: usize = 8;

/// `window_sequence` (Table 4.52).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sequence {
    OnlyLong,
    LongStart,
    EightShort,
    LongStop,
}

/// `window_shape`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Sine,
    /// Kaiser-Bessel derived.
    Kbd,
}

/// How a unit was windowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) sequence: Sequence,
    /// Of the falling slope, and of the next unit's rising slope.
    pub(crate) shape: Shape,
}

impl Window {
    /// Whether the rising slope is a short one.
    pub(crate) fn rises_short(self) -> bool {
        matches!(self.sequence, Sequence::EightShort | Sequence::LongStop)
    }

    /// Whether the falling slope is a short one.
    pub(crate) fn falls_short(self) -> bool {
        matches!(self.sequence, Sequence::EightShort | Sequence::LongStart)
    }
}

/// How units of two encoders meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// As if one encoder had made both.
    Whole,
    /// The slopes are equally long, of different shape.
    OtherShape,
    /// One slope is short and the other long.
    None,
}

/// Whether `next` can follow `before`, when the encoder that made `next` had made `own_before` before it.
pub(crate) fn fits(before: Window, own_before: Window, next: Window) -> Fit {
    if before.falls_short() != next.rises_short() {
        Fit::None
    } else if before.shape == own_before.shape {
        Fit::Whole
    } else {
        Fit::OtherShape
    }
}

/// Reads how the one sound element of an access unit was windowed: a single channel element, or a channel pair whose
/// channels share it. `None` for anything else, which is no fault of the unit.
pub(crate) fn peek(unit: &[u8], channels: u8) -> Option<Window> {
    let mut bits = Bits { unit, at: 0 };
    for _ in 0..MAX_ELEMENTS {
        match bits.take(3)? {
            // SCE: tag, global_gain.
            0 if channels == 1 => {
                bits.skip(4 + 8)?;
                return bits.window();
            }
            // CPE: tag, common_window.
            1 if channels == 2 => {
                bits.skip(4)?;
                return if bits.take(1)? == 1 {
                    bits.window()
                } else {
                    None
                };
            }
            // DSE: tag, data_byte_align_flag, count, esc_count.
            4 => {
                bits.skip(4)?;
                let align = bits.take(1)? == 1;
                let mut count = bits.take(8)?;
                if count == 255 {
                    count += bits.take(8)?;
                }
                if align {
                    bits.at = bits.at.next_multiple_of(8);
                }
                bits.skip(8 * count)?;
            }
            // FIL: count, esc_count.
            6 => {
                let mut count = bits.take(4)?;
                if count == 15 {
                    count = (count + bits.take(8)?).checked_sub(1)?;
                }
                bits.skip(8 * count)?;
            }
            _ => return None,
        }
    }
    None
}

struct Bits<'a> {
    unit: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<usize> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.unit.get(self.at / 8)?;
            value = (value << 1) | usize::from((byte >> (7 - self.at % 8)) & 1);
            self.at += 1;
        }
        Some(value)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count)?;
        (self.at <= self.unit.len() * 8).then_some(())
    }

    /// The start of ics_info.
    fn window(&mut self) -> Option<Window> {
        let _reserved = self.take(1)?;
        let sequence = match self.take(2)? {
            0 => Sequence::OnlyLong,
            1 => Sequence::LongStart,
            2 => Sequence::EightShort,
            _ => Sequence::LongStop,
        };
        let shape = match self.take(1)? {
            0 => Shape::Sine,
            _ => Shape::Kbd,
        };
        Some(Window { sequence, shape })
    }
}

/// A unit of silence: no bands, so no sections, scale factors or coefficients.
pub(crate) fn silence(channels: u8) -> &'static [u8] {
    // Long KBD window, max_sfb 0; global_gain 0; no pulses, noise shaping or gain control; END.
    if channels == 1 {
        &[0x00, 0x00, 0x20, 0x07]
    } else {
        &[0x21, 0x10, 0x00, 0x00, 0x00, 0x1c]
    }
}

/// What to feed an encoder that raises `sound` (one block) with a slope of shape `own`, so that its coefficients are those
/// of a slope of shape `wanted`.
///
/// Of a rising half only the odd part of the windowed block reaches the coefficients. `own` times the odd part that
/// `wanted` makes has just that odd part under `own`, because the squares of a slope and of its mirror add up to 1.
pub(crate) fn refold(sound: &mut [Frame], short: bool, own: Shape, wanted: Shape) {
    let (own, wanted) = (slope(short, own), slope(short, wanted));
    let source: Vec<Frame> = sound.to_vec();
    let mirrored = source.iter().rev().zip(wanted.iter().rev());
    let folded = source.iter().zip(wanted).zip(mirrored);
    for (out, (own, ((ahead, by), (back, by_back)))) in sound.iter_mut().zip(own.iter().zip(folded))
    {
        for (channel, out) in out.iter_mut().enumerate() {
            let [ahead, back] =
                [ahead, back].map(|frame| frame.get(channel).copied().unwrap_or_default());
            *out = own * (by * ahead - by_back * back);
        }
    }
}

/// The rising slope over a block.
pub(crate) fn slope(short: bool, shape: Shape) -> &'static [f32] {
    static SLOPES: LazyLock<[Vec<f32>; 4]> = LazyLock::new(|| {
        let padded = |slope: Vec<f32>| [vec![0.0; FLAT], slope, vec![1.0; FLAT]].concat();
        [
            sine(UNIT_SAMPLES),
            kbd(UNIT_SAMPLES, 4.0),
            padded(sine(SHORT)),
            padded(kbd(SHORT, 6.0)),
        ]
    });
    let [sine, kbd, short_sine, short_kbd] = &*SLOPES;
    match (short, shape) {
        (false, Shape::Sine) => sine,
        (false, Shape::Kbd) => kbd,
        (true, Shape::Sine) => short_sine,
        (true, Shape::Kbd) => short_kbd,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "single precision is what is computed with"
)]
fn sine(length: usize) -> Vec<f32> {
    let angle = |n: usize| std::f64::consts::PI * (n as f64 + 0.5) / (2.0 * length as f64);
    (0..length).map(|n| angle(n).sin() as f32).collect()
}

/// The square root of the running sum of a Kaiser window.
#[expect(
    clippy::cast_possible_truncation,
    reason = "single precision is what is computed with"
)]
fn kbd(length: usize, alpha: f64) -> Vec<f32> {
    let kaiser = |n: usize| {
        let x = 2.0 * n as f64 / length as f64 - 1.0;
        bessel(std::f64::consts::PI * alpha * (1.0 - x * x).max(0.0).sqrt())
    };
    let total: f64 = (0..=length).map(kaiser).sum();
    let mut sum = 0.0;
    (0..length)
        .map(|n| {
            sum += kaiser(n);
            (sum / total).sqrt() as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::codec::{AacDecoder, AacEncoder, AacSettings, Decode, Encode};
    use crate::audio::lab::sounds;
    use media::aac::Config;
    use proptest::prelude::*;
    use std::f64::consts::PI;

    const N: usize = UNIT_SAMPLES;
    const SHAPES: [Shape; 2] = [Shape::Sine, Shape::Kbd];

    #[test]
    fn slopes_and_their_mirrors_add_up_to_one_in_power() {
        for short in [false, true] {
            for shape in SHAPES {
                let slope = slope(short, shape);
                assert_eq!(slope.len(), N);
                for (up, down) in slope.iter().zip(slope.iter().rev()) {
                    assert!((up * up + down * down - 1.0).abs() < 1e-6);
                }
            }
        }
    }

    fn basis(n: usize, k: usize) -> f64 {
        (PI / N as f64 * (n as f64 + 0.5 + N as f64 / 2.0) * (k as f64 + 0.5)).cos()
    }

    /// The coefficients of two blocks under a window of these slopes.
    fn transform(blocks: [&[Frame]; 2], rise: &[f32], fall: &[f32]) -> Vec<f64> {
        let window = rise.iter().chain(fall.iter().rev());
        let windowed: Vec<f64> = blocks
            .concat()
            .iter()
            .zip(window)
            .map(|(x, w)| f64::from(x[0] * w))
            .collect();
        let at = |k| {
            windowed
                .iter()
                .enumerate()
                .map(|(n, x)| x * basis(n, k))
                .sum()
        };
        (0..N).map(at).collect()
    }

    /// What a decoder makes of them in one of the two blocks, before it adds up.
    fn half(coefficients: &[f64], slope: &[f32], second: bool) -> Vec<f64> {
        let value = |n: usize| {
            let sum: f64 = coefficients
                .iter()
                .enumerate()
                .map(|(k, x)| x * basis(n, k))
                .sum();
            sum * 2.0 / N as f64
        };
        (0..N)
            .map(|n| match second {
                false => f64::from(slope[n]) * value(n),
                true => f64::from(slope[N - 1 - n]) * value(N + n),
            })
            .collect()
    }

    #[test]
    fn a_block_between_two_shapes_comes_out_whole_once_it_is_folded() {
        let sound = sounds::music(3, 48_000, 60 * N);
        let block = |n: usize| &sound[(40 + n) * N..(41 + n) * N];
        for short in [false, true] {
            for (theirs, own) in [
                (Shape::Sine, Shape::Kbd),
                (Shape::Kbd, Shape::Sine),
                (Shape::Kbd, Shape::Kbd),
            ] {
                let fall = slope(short, theirs);
                let tail = half(
                    &transform([block(0), block(1)], slope(false, theirs), fall),
                    fall,
                    true,
                );
                let snr = |heard: &[Frame]| {
                    let rise = slope(short, own);
                    let ours = transform([heard, block(2)], rise, slope(false, own));
                    // The decoder raises it with the shape of the unit before.
                    let head = half(&ours, fall, false);
                    let (mut signal, mut noise) = (0.0, 1e-12);
                    for ((tail, head), sound) in tail.iter().zip(head).zip(block(1)) {
                        signal += f64::from(sound[0]).powi(2);
                        noise += (tail + head - f64::from(sound[0])).powi(2);
                    }
                    10.0 * (signal / noise).log10()
                };
                let as_it_is = snr(block(1));
                let mut folded = block(1).to_vec();
                refold(&mut folded, short, own, theirs);
                let folded = snr(&folded);
                println!(
                    "short {short}, {own:?} after {theirs:?}: {as_it_is:.1} dB, folded {folded:.1} dB"
                );
                assert!(folded > 100.0);
                assert_eq!(as_it_is > 100.0, own == theirs);
            }
        }
    }

    fn units(channels: u8) -> Vec<bytes::Bytes> {
        let mut encoder = AacEncoder::new(AacSettings {
            channels,
            ..AacSettings::stereo_48k(64_000 * u32::from(channels), true)
        })
        .unwrap();
        let sound = sounds::music(9, 48_000, 100 * N);
        sound
            .chunks_exact(N)
            .map(|block| encoder.encode(block).unwrap())
            .collect()
    }

    #[test]
    fn windows_of_a_real_encoder_follow_each_other() {
        for channels in [1, 2] {
            let windows: Vec<Window> = units(channels)
                .iter()
                .map(|unit| peek(unit, channels).unwrap())
                .collect();
            for pair in windows.windows(2) {
                assert_eq!(pair[0].falls_short(), pair[1].rises_short(), "{pair:?}");
                assert_eq!(fits(pair[0], pair[0], pair[1]), Fit::Whole);
            }
            assert!(
                windows
                    .iter()
                    .any(|window| window.sequence == Sequence::EightShort)
            );
            assert!(windows.iter().any(|window| window.shape == Shape::Kbd));
        }
    }

    #[test]
    fn fill_and_data_before_the_sound_are_skipped_and_strange_elements_are_not_understood() {
        // Long start, KBD, in a pair that shares its window.
        let pair = "001 0000 1 0 01 1";
        let fill = format!("110 0010 {:016b}", 7);
        let long_fill = format!("110 1111 00000010 {:0128b}", 3);
        let data = "100 0011 0 00000001 10101010";
        let aligned = "100 0011 1 00000001 10101010";
        let read = |bits: &str, channels| {
            let bits: Vec<u8> = bits
                .bytes()
                .filter(|bit| *bit != b' ')
                .map(|bit| bit - b'0')
                .collect();
            let bytes = bits
                .chunks(8)
                .map(|bits| (0..8).fold(0, |byte, at| (byte << 1) | bits.get(at).unwrap_or(&0)));
            peek(&bytes.collect::<Vec<u8>>(), channels)
        };
        let found = Some(Window {
            sequence: Sequence::LongStart,
            shape: Shape::Kbd,
        });
        assert_eq!(read(pair, 2), found);
        for before in [&fill, &long_fill, data, aligned] {
            assert_eq!(read(&format!("{before} {pair}"), 2), found, "{before}");
        }
        let single = "000 0000 11001100 0 11 0";
        assert_eq!(
            read(single, 1),
            Some(Window {
                sequence: Sequence::LongStop,
                shape: Shape::Sine
            })
        );
        let apart = "001 0000 0 11001100 0 01 1";
        for (bits, channels) in [
            (pair, 1),
            (single, 2),
            (apart, 2),
            ("101 0000", 2),
            ("111", 2),
            ("", 1),
        ] {
            assert_eq!(read(bits, channels), None, "{bits}");
        }
        let endless = "110 0000 ".repeat(MAX_ELEMENTS);
        assert_eq!(read(&format!("{endless} {pair}"), 2), None);
    }

    #[test]
    fn slopes_of_different_length_never_fit() {
        let window = |sequence, shape| Window { sequence, shape };
        let long = window(Sequence::OnlyLong, Shape::Kbd);
        let sine = window(Sequence::OnlyLong, Shape::Sine);
        let start = window(Sequence::LongStart, Shape::Kbd);
        let stop = window(Sequence::LongStop, Shape::Kbd);
        let eight = window(Sequence::EightShort, Shape::Kbd);
        for (before, next, fit) in [
            (long, long, Fit::Whole),
            (long, start, Fit::Whole),
            (stop, start, Fit::Whole),
            (start, eight, Fit::Whole),
            (eight, stop, Fit::Whole),
            (start, long, Fit::None),
            (eight, start, Fit::None),
            (long, stop, Fit::None),
            (stop, eight, Fit::None),
        ] {
            assert_eq!(fits(before, long, next), fit, "{before:?} {next:?}");
        }
        assert_eq!(fits(sine, long, long), Fit::OtherShape);
    }

    #[test]
    fn silence_is_silent_and_fits_a_long_window() {
        for channels in [1, 2] {
            let window = peek(silence(channels), channels).unwrap();
            assert_eq!(
                (window.sequence, window.shape),
                (Sequence::OnlyLong, Shape::Kbd)
            );
            let mut decoder = AacDecoder::new(&Config::lc(48_000, channels).unwrap()).unwrap();
            let mut out = Vec::new();
            for _ in 0..3 {
                decoder.decode(silence(channels), &mut out).unwrap();
            }
            assert_eq!(out, vec![[0.0; 2]; 3 * N]);
        }
    }

    proptest! {
        #[test]
        fn peeking_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..40), channels in 0u8..4) {
            let _ = peek(&bytes, channels);
        }
    }
}
