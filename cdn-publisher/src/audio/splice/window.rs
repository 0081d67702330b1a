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
