//! Brings an input's picture to the size and the colours of its tile. Pure: planes in, planes out.
//!
//! GStreamer's compositor can do both, but slowly: it scales a line with one gather per pixel, and a picture whose colour
//! matrix is not the output's takes a way through 32 bits per pixel that costs as much again. Here a picture is read once:
//! lines first (which vectorises), then columns, then the matrix on what is left.
//!
//! Invariants:
//! - Nothing is allocated while sizes stay as they are.
//! - Weights are positive and sum to 256, so that 16 bits hold any sum.
//! - Planes that are shorter than their size says leave pixels as they are; nothing panics.

mod axis;
mod matrix;

pub use matrix::Matrix;

use crate::layout::{Rect, Size};
use axis::Axis;

/// A plane to read: bytes, and from one line to the next.
pub type Source<'a> = (&'a [u8], usize);
/// A plane to write: bytes, and from one line to the next.
pub type Target<'a> = (&'a mut [u8], usize);

/// Makes pictures of one size from a window of pictures of another.
#[derive(Debug)]
pub struct Fitter {
    luma: Plane,
    chroma: Plane,
    matrix: Option<Matrix>,
    work: Work,
}

/// The way of one plane.
#[derive(Debug)]
struct Plane {
    /// The first column and line that are read.
    left: usize,
    top: usize,
    columns: Axis,
    lines: Axis,
}

/// What is kept from line to line.
#[derive(Debug, Default)]
struct Work {
    sums: Vec<u16>,
    line: Vec<u8>,
}

impl Fitter {
    /// For a window of the input, whose edges are even, a size, and a change of colours if there is one.
    #[must_use]
    pub fn new(window: Rect, size: Size, matrix: Option<Matrix>) -> Self {
        let plane = |part: u32| Plane {
            left: length(window.x / part),
            top: length(window.y / part),
            columns: Axis::new(length(window.width / part), length(size.width / part)),
            lines: Axis::new(length(window.height / part), length(size.height / part)),
        };
        Self {
            luma: plane(1),
            chroma: plane(2),
            matrix,
            work: Work::default(),
        }
    }

    /// Makes a picture: luma, Cb, Cr.
    pub fn fit(&mut self, from: [Source<'_>; 3], to: [Target<'_>; 3]) {
        let [y, cb, cr] = from;
        let [(to_y, y_step), (to_cb, cb_step), (to_cr, cr_step)] = to;
        self.luma.fit(y, (&mut *to_y, y_step), &mut self.work);
        self.chroma.fit(cb, (&mut *to_cb, cb_step), &mut self.work);
        self.chroma.fit(cr, (&mut *to_cr, cr_step), &mut self.work);
        if let Some(matrix) = &self.matrix {
            let width = self.chroma.columns.to();
            matrix.apply(width, (to_y, y_step), (to_cb, cb_step), (to_cr, cr_step));
        }
    }
}

fn length(pixels: u32) -> usize {
    usize::try_from(pixels).unwrap_or(0)
}

impl Plane {
    fn fit(&self, (from, from_step): Source<'_>, (to, to_step): Target<'_>, work: &mut Work) {
        let (from_width, width) = (self.columns.from(), self.columns.to());
        // The line of the source with this number in the window
        let line = |number: usize| {
            let start = (self.top + number) * from_step + self.left;
            from.get(start..start + from_width).unwrap_or_default()
        };
        work.line.resize(from_width, 0);
        for (at, target) in to
            .chunks_mut(to_step.max(1))
            .take(self.lines.to())
            .enumerate()
        {
            let Some(target) = target.get_mut(..width) else {
                return;
            };
            let (first, weights) = self.lines.part(at);
            if let [_] = weights {
                self.columns.spread(line(first), target);
                continue;
            }
            work.sums.clear();
            work.sums.resize(from_width, axis::HALF);
            // Two lines at a time: half the way of the sums to memory and back
            let (pairs, odd) = weights.as_chunks::<2>();
            for (number, [one, other]) in (first..).step_by(2).zip(pairs) {
                let both = line(number).iter().zip(line(number + 1));
                for (sum, (pixel, next)) in work.sums.iter_mut().zip(both) {
                    let part = u16::from(*pixel).wrapping_mul(*one);
                    let next = u16::from(*next).wrapping_mul(*other);
                    *sum = sum.wrapping_add(part).wrapping_add(next);
                }
            }
            if let [weight] = odd {
                for (sum, pixel) in work.sums.iter_mut().zip(line(first + weights.len() - 1)) {
                    *sum = sum.wrapping_add(u16::from(*pixel).wrapping_mul(*weight));
                }
            }
            let whole = |sum: &u16| sum.to_be_bytes()[0];
            if self.columns.is_identity() {
                for (pixel, sum) in target.iter_mut().zip(&work.sums) {
                    *pixel = whole(sum);
                }
                continue;
            }
            for (pixel, sum) in work.line.iter_mut().zip(&work.sums) {
                *pixel = whole(sum);
            }
            self.columns.spread(&work.line, target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(size: Size) -> Rect {
        Rect {
            x: 0,
            y: 0,
            width: size.width,
            height: size.height,
        }
    }

    /// A picture without padding, by the value of each pixel of each plane.
    fn picture(size: Size, value: impl Fn(usize, usize, usize) -> u8) -> [Vec<u8>; 3] {
        [0, 1, 2].map(|plane| {
            let part = if plane == 0 { 1 } else { 2 };
            let (width, height) = (length(size.width / part), length(size.height / part));
            (0..width * height)
                .map(|at| value(plane, at % width, at / width))
                .collect()
        })
    }

    fn fitted(fitter: &mut Fitter, from: &[Vec<u8>; 3], size: Size, to: Size) -> [Vec<u8>; 3] {
        let mut out = picture(to, |_, _, _| 77);
        let step = |size: Size, plane: usize| length(size.width) / if plane == 0 { 1 } else { 2 };
        let [y, cb, cr] = &mut out;
        fitter.fit(
            [0, 1, 2].map(|plane| (from[plane].as_slice(), step(size, plane))),
            [(y, step(to, 0)), (cb, step(to, 1)), (cr, step(to, 2))],
        );
        out
    }

    #[test]
    fn what_fits_is_copied() {
        let size = Size {
            width: 32,
            height: 16,
        };
        let from = picture(size, |plane, x, y| {
            u8::try_from(plane * 80 + x * 2 + y).unwrap()
        });
        let mut fitter = Fitter::new(whole(size), size, None);
        assert_eq!(fitted(&mut fitter, &from, size, size), from);
        // A window of it
        let window = Rect {
            x: 8,
            y: 4,
            width: 16,
            height: 8,
        };
        let inner = Size {
            width: 16,
            height: 8,
        };
        let cut = fitted(&mut Fitter::new(window, inner, None), &from, size, inner);
        assert_eq!(cut[0][..16], from[0][4 * 32 + 8..4 * 32 + 24]);
        assert_eq!(cut[2][..8], from[2][2 * 16 + 4..2 * 16 + 12]);
    }

    #[test]
    fn a_slope_stays_a_slope() {
        let size = Size {
            width: 128,
            height: 64,
        };
        let from = picture(size, |_, x, y| u8::try_from(x + y).unwrap());
        for to in [
            Size {
                width: 62,
                height: 34,
            },
            Size {
                width: 128,
                height: 30,
            },
            Size {
                width: 200,
                height: 100,
            },
        ] {
            let out = fitted(&mut Fitter::new(whole(size), to, None), &from, size, to);
            let (width, height) = (length(to.width), length(to.height));
            for y in 4..height - 4 {
                for x in 4..width - 4 {
                    let scale = |at: usize, from: u32, to: u32| {
                        (at as f64 + 0.5) * f64::from(from) / f64::from(to) - 0.5
                    };
                    let wanted = scale(x, 128, to.width) + scale(y, 64, to.height);
                    let found = f64::from(out[0][y * width + x]);
                    assert!(
                        (found - wanted).abs() < 1.6,
                        "{to:?} {x} {y}: {found} for {wanted}"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn one_colour_stays_that_colour(
            from in (2u32..80, 2u32..80), to in (1u32..80, 1u32..80), colour in any::<[u8; 3]>(),
        ) {
            let size = Size { width: from.0 * 2, height: from.1 * 2 };
            let to = Size { width: to.0 * 2, height: to.1 * 2 };
            let pixels = picture(size, |plane, _, _| colour[plane]);
            let out = fitted(&mut Fitter::new(whole(size), to, None), &pixels, size, to);
            prop_assert_eq!(out, picture(to, |plane, _, _| colour[plane]));
        }

        #[test]
        fn short_planes_and_wild_windows_do_no_harm(
            x in 0u32..60, y in 0u32..60, width in 0u32..60, height in 0u32..60, length in 0usize..400, step in 0usize..60,
        ) {
            let window = Rect { x, y, width, height };
            let size = Size { width: 20, height: 20 };
            let mut fitter = Fitter::new(window, size, Some(Matrix::bt601_to_bt709()));
            let bytes = vec![9; length];
            let mut planes = [vec![0; length], vec![0; length / 3], Vec::new()];
            let [a, b, c] = &mut planes;
            fitter.fit([(&bytes, step); 3], [(a, step), (b, step), (c, step)]);
        }
    }
}
