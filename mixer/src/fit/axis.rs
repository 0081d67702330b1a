//! How the pixels along one axis become others: each is a weighted sum of its neighbourhood.
//!
//! The weights are a triangle as wide as two pixels of the output, or of the input where that is the coarser: bilinear when a
//! picture grows, without aliases when it shrinks.

/// One, in the unit of weights.
const ONE: u16 = 256;
/// Added before the unit is divided away.
pub(super) const HALF: u16 = ONE / 2;

/// One axis of a plane.
#[derive(Debug)]
pub(super) struct Axis {
    from: usize,
    /// Weights of one output pixel; 1: pixels are copied.
    taps: usize,
    /// The first input pixel of each output pixel.
    starts: Vec<usize>,
    weights: Vec<u16>,
}

impl Axis {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "lengths of pictures; the results are checked against bounds"
    )]
    pub(super) fn new(from: usize, to: usize) -> Self {
        if from == to {
            return Self {
                from,
                taps: 1,
                starts: (0..to).collect(),
                weights: vec![ONE; to],
            };
        }
        let ratio = from as f64 / to.max(1) as f64;
        let reach = ratio.max(1.0);
        // Even, for lines of a fixed number of weights
        let taps = (((2.0 * reach).ceil() as usize + 1) & !1).min(from.max(1));
        let mut axis = Self {
            from,
            taps,
            starts: Vec::with_capacity(to),
            weights: Vec::with_capacity(to * taps),
        };
        for at in 0..to {
            let centre = (at as f64 + 0.5) * ratio - 0.5;
            let first = (centre - reach).floor() as i64 + 1;
            let last = from.saturating_sub(taps);
            let start = usize::try_from(first).unwrap_or(0).min(last);
            let mut parts = vec![0.0; taps];
            for place in first..=(centre + reach).ceil() as i64 {
                let weight = 1.0 - (place as f64 - centre).abs() / reach;
                // Beyond the edge the last pixel goes on
                let inside = usize::try_from(place)
                    .unwrap_or(0)
                    .min(from.saturating_sub(1));
                let slot = inside.saturating_sub(start).min(taps - 1);
                if let Some(part) = parts.get_mut(slot) {
                    *part += weight.max(0.0);
                }
            }
            axis.starts.push(start);
            axis.weights.extend(rounded(&parts));
        }
        axis
    }

    pub(super) fn from(&self) -> usize {
        self.from
    }

    pub(super) fn to(&self) -> usize {
        self.starts.len()
    }

    pub(super) fn is_identity(&self) -> bool {
        self.taps == 1 && self.from == self.to()
    }

    /// The first input pixel of an output pixel, and the weights from there on.
    pub(super) fn part(&self, at: usize) -> (usize, &[u16]) {
        let start = self.starts.get(at).copied().unwrap_or(0);
        let weights = self.weights.get(at * self.taps..(at + 1) * self.taps);
        (start, weights.unwrap_or_default())
    }

    /// Makes a line out of another.
    pub(super) fn spread(&self, line: &[u8], out: &mut [u8]) {
        if self.is_identity() {
            for (out, pixel) in out.iter_mut().zip(line) {
                *out = *pixel;
            }
            return;
        }
        match self.taps {
            2 => self.spread_by::<2>(line, out),
            4 => self.spread_by::<4>(line, out),
            6 => self.spread_by::<6>(line, out),
            8 => self.spread_by::<8>(line, out),
            _ => {
                let weights = self.weights.chunks_exact(self.taps.max(1));
                for ((out, start), weights) in out.iter_mut().zip(&self.starts).zip(weights) {
                    let pixels = line.get(*start..).unwrap_or_default();
                    *out = sum(pixels.iter().zip(weights));
                }
            }
        }
    }

    /// The same with a number of weights that the compiler knows.
    fn spread_by<const TAPS: usize>(&self, line: &[u8], out: &mut [u8]) {
        let (weights, _) = self.weights.as_chunks::<TAPS>();
        for ((out, start), weights) in out.iter_mut().zip(&self.starts).zip(weights) {
            let pixels = line.get(*start..).and_then(<[u8]>::first_chunk::<TAPS>);
            if let Some(pixels) = pixels {
                *out = sum(pixels.iter().zip(weights));
            }
        }
    }
}

fn sum<'a>(parts: impl Iterator<Item = (&'a u8, &'a u16)>) -> u8 {
    let sum = parts.fold(HALF, |sum, (pixel, weight)| {
        sum.wrapping_add(u16::from(*pixel).wrapping_mul(*weight))
    });
    sum.to_be_bytes()[0]
}

/// Weights in whole units that sum to one: each is the difference of two rounded sums, so that errors do not add up.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and 256"
)]
fn rounded(parts: &[f64]) -> Vec<u16> {
    let total: f64 = parts.iter().sum();
    let share = f64::from(ONE) / if total > 0.0 { total } else { 1.0 };
    let (mut sum, mut given) = (0.0, 0);
    let mut weight = |part: &f64| {
        sum += part * share;
        let before = std::mem::replace(&mut given, sum.round() as u16);
        given.saturating_sub(before)
    };
    parts.iter().map(&mut weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn half_the_size_is_a_triangle() {
        let axis = Axis::new(8, 4);
        assert_eq!(axis.part(1), (1, &[32, 96, 96, 32][..]));
    }

    #[test]
    fn twice_the_size_is_between_two() {
        let axis = Axis::new(4, 8);
        assert_eq!(axis.part(2), (0, &[64, 192][..]));
        assert_eq!(axis.part(3), (1, &[192, 64][..]));
        assert_eq!(axis.part(0).1.iter().sum::<u16>(), ONE);
    }

    proptest! {
        #[test]
        fn weights_sum_to_one_and_stay_inside(from in 1usize..400, to in 1usize..400) {
            let axis = Axis::new(from, to);
            prop_assert_eq!(axis.to(), to);
            for at in 0..to {
                let (start, weights) = axis.part(at);
                prop_assert!(start + weights.len() <= from, "{start} {weights:?}");
                prop_assert_eq!(weights.iter().map(|w| u32::from(*w)).sum::<u32>(), 256);
            }
        }
    }
}
