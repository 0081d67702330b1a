//! Small pictures with transparency: drawn in RGB when something changes, laid on frames as 4:2:0.

use super::frame::{Area, Colour, Frame, Source, Window};

/// Red, green, blue.
pub(super) type Rgb = [u8; 3];

/// A drawing in RGB with straight alpha.
#[derive(Clone, Debug)]
pub(super) struct Drawing {
    width: usize,
    height: usize,
    pixels: Vec<(Rgb, u8)>,
}

/// No drawing is larger than this each way.
pub(super) const MAX_SIDE: usize = 4_096;

impl Drawing {
    /// A transparent drawing, at most [`MAX_SIDE`] large.
    pub(super) fn new(width: usize, height: usize) -> Self {
        let (width, height) = (width.min(MAX_SIDE), height.min(MAX_SIDE));
        Self {
            width,
            height,
            pixels: vec![([0; 3], 0); width * height],
        }
    }

    /// A drawing without transparency, of its pixels line by line.
    pub(super) fn opaque(width: u32, pixels: impl Iterator<Item = Rgb>) -> Self {
        let pixels: Vec<(Rgb, u8)> = pixels.map(|rgb| (rgb, u8::MAX)).collect();
        let width = usize::try_from(width).unwrap_or(0);
        Self {
            width,
            height: pixels.len().checked_div(width).unwrap_or(0),
            pixels,
        }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn height(&self) -> usize {
        self.height
    }

    fn pixel(&mut self, x: i32, y: i32) -> Option<&mut (Rgb, u8)> {
        let x = usize::try_from(x).ok().filter(|x| *x < self.width)?;
        let y = usize::try_from(y).ok().filter(|y| *y < self.height)?;
        self.pixels.get_mut(y * self.width + x)
    }

    /// Lays a colour over a pixel; outside nothing happens.
    pub(super) fn dot(&mut self, x: i32, y: i32, rgb: Rgb, alpha: u8) {
        let Some((below, opacity)) = self.pixel(x, y).filter(|_| alpha > 0) else {
            return;
        };
        let (over, under) = (u32::from(alpha) * 255, u32::from(*opacity));
        let under = under * (255 - u32::from(alpha));
        let total = (over + under).max(1);
        for (below, part) in below.iter_mut().zip(rgb) {
            let sum = u32::from(*below) * under + u32::from(part) * over;
            *below = u8::try_from((sum + total / 2) / total).unwrap_or(u8::MAX);
        }
        *opacity = u8::try_from((total + 127) / 255).unwrap_or(u8::MAX);
    }

    /// Lays another drawing over this one.
    pub(super) fn lay(&mut self, other: &Self, left: i32, top: i32) {
        for (line, row) in (top..).zip(other.pixels.chunks(other.width.max(1))) {
            for (column, (rgb, alpha)) in (left..).zip(row) {
                self.dot(column, line, *rgb, *alpha);
            }
        }
    }

    /// A filled rectangle over everything, with round corners and soft edges.
    pub(super) fn rounded(&mut self, radius: f32, rgb: Rgb, alpha: f32) {
        let half = (small(self.width) / 2.0, small(self.height) / 2.0);
        let radius = radius.min(half.0).min(half.1);
        for y in 0..self.height {
            for x in 0..self.width {
                // Distance to the edge, negative inside.
                let away = |at: usize, half: f32| (small(at) + 0.5 - half).abs() - half + radius;
                let (dx, dy) = (away(x, half.0), away(y, half.1));
                let distance = dx.max(0.0).hypot(dy.max(0.0)) + dx.max(dy).min(0.0) - radius;
                let cover = (0.5 - distance).clamp(0.0, 1.0);
                let (x, y) = (i32::try_from(x), i32::try_from(y));
                if let (Ok(x), Ok(y)) = (x, y) {
                    self.dot(x, y, rgb, to_alpha(cover * alpha));
                }
            }
        }
    }
}

/// A drawing's side or a place in it: exact, since it is small.
fn small(value: usize) -> f32 {
    f32::from(u16::try_from(value).unwrap_or(u16::MAX))
}

/// 0 to 1 as an alpha.
pub(super) fn to_alpha(cover: f32) -> u8 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to a byte"
    )]
    let alpha = (cover * 255.0).round().clamp(0.0, 255.0) as u8;
    alpha
}

/// A drawing ready to be laid on frames. Its sides are even.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sprite {
    width: i32,
    height: i32,
    luma: Vec<u8>,
    alpha: Vec<u8>,
    chroma: [Vec<u8>; 2],
    /// Of the chroma pixels.
    half_alpha: Vec<u8>,
}

impl From<&Drawing> for Sprite {
    fn from(drawing: &Drawing) -> Self {
        let (columns, lines) = (drawing.width.div_ceil(2), drawing.height.div_ceil(2));
        let (width, height) = (columns * 2, lines * 2);
        let clear = (Colour::BLACK, 0);
        let at = |x: usize, y: usize| {
            let inside = x < drawing.width;
            let pixel = drawing.pixels.get(y * drawing.width + x);
            let (rgb, alpha) = pixel.filter(|_| inside)?;
            Some((Colour::from_rgb(*rgb), *alpha))
        };
        let mut sprite = Self {
            width: i32::try_from(width).unwrap_or(0),
            height: i32::try_from(height).unwrap_or(0),
            ..Self::default()
        };
        for y in 0..height {
            for x in 0..width {
                let (Colour([luma, ..]), alpha) = at(x, y).unwrap_or(clear);
                sprite.luma.push(luma);
                sprite.alpha.push(alpha);
            }
        }
        let [cb, cr] = &mut sprite.chroma;
        for line in 0..lines {
            for column in 0..columns {
                // Weighed by alpha: the colour of what cannot be seen does not count.
                let (mut sums, mut weight) = ([0u32; 2], 0u32);
                for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                    let (Colour([_, cb, cr]), alpha) =
                        at(column * 2 + dx, line * 2 + dy).unwrap_or(clear);
                    let alpha = u32::from(alpha);
                    sums = [
                        sums[0] + u32::from(cb) * alpha,
                        sums[1] + u32::from(cr) * alpha,
                    ];
                    weight += alpha;
                }
                let [blue, red] = sums.map(|sum| {
                    let mean = (sum + weight / 2).checked_div(weight).unwrap_or(128);
                    u8::try_from(mean).unwrap_or(u8::MAX)
                });
                cb.push(blue);
                cr.push(red);
                let mean = u8::try_from((weight + 2) / 4).unwrap_or(u8::MAX);
                sprite.half_alpha.push(mean);
            }
        }
        sprite
    }
}

impl Sprite {
    /// Width in luma pixels.
    #[must_use]
    pub fn width(&self) -> i32 {
        self.width
    }

    /// Height in luma pixels.
    #[must_use]
    pub fn height(&self) -> i32 {
        self.height
    }

    /// Lays it on a frame with its corner at an even place; `opacity` of 0 to 256.
    pub fn lay_on(&self, frame: &mut Frame<'_>, at: (i32, i32), window: &Window, opacity: u32) {
        let area = Area::at(at.0 & !1, at.1 & !1, self.width, self.height);
        let full = |data| Source {
            data,
            width: self.width,
        };
        let half = |data| Source {
            data,
            width: self.width / 2,
        };
        let [cb, cr] = &self.chroma;
        let sources = [
            (full(&self.luma), full(&self.alpha)),
            (half(cb), half(&self.half_alpha)),
            (half(cr), half(&self.half_alpha)),
        ];
        frame.blend(area, window, sources, opacity);
    }
}
