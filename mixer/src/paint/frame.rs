//! Raw 4:2:0 pictures to draw on, and what part of them is open to drawing.
//!
//! Invariant: nothing here writes outside the picture or outside the [`Window`], whatever rectangles it is given.

use crate::layout::{Rect, Size};

/// A colour as it is stored: Y, Cb, Cr of BT.709, limited range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Colour(pub [u8; 3]);

impl Colour {
    /// Black.
    pub const BLACK: Self = Self([16, 128, 128]);

    /// The colour of red, green and blue (ITU-R BT.709-6, items 3.2 to 3.4).
    #[must_use]
    pub fn from_rgb(rgb: [u8; 3]) -> Self {
        let [red, green, blue] = rgb.map(|part| f32::from(part) / 255.0);
        let luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
        Self([
            byte(16.0 + 219.0 * luma),
            byte(128.0 + 224.0 * (blue - luma) / 1.8556),
            byte(128.0 + 224.0 * (red - luma) / 1.5748),
        ])
    }

    /// Reads `#rrggbb`.
    #[must_use]
    pub fn parse_rgb(text: &str) -> Option<[u8; 3]> {
        let digits = text.strip_prefix('#')?;
        if digits.len() != 6 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let [_, red, green, blue] = u32::from_str_radix(digits, 16).ok()?.to_be_bytes();
        Some([red, green, blue])
    }
}

fn byte(value: f32) -> u8 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to a byte"
    )]
    let value = value.round().clamp(0.0, 255.0) as u8;
    value
}

/// `under` with `over` on it; an alpha of 255 hides what is under.
pub(super) fn mix(under: u8, over: u8, alpha: u8) -> u8 {
    let (under, over, alpha) = (u32::from(under), u32::from(over), u32::from(alpha));
    u8::try_from((under * (255 - alpha) + over * alpha + 127) / 255).unwrap_or(u8::MAX)
}

/// A share of an alpha; `opacity` of 0 to 256.
pub(super) fn share(alpha: u8, opacity: u32) -> u8 {
    u8::try_from((u32::from(alpha) * opacity) >> 8).unwrap_or(u8::MAX)
}

/// A rectangle that may lie anywhere; in luma pixels its edges are even.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Area {
    /// Left edge.
    pub left: i32,
    /// Top edge.
    pub top: i32,
    /// Right edge, outside.
    pub right: i32,
    /// Bottom edge, outside.
    pub bottom: i32,
}

impl Area {
    /// A rectangle by its corner and size.
    #[must_use]
    pub fn at(left: i32, top: i32, width: i32, height: i32) -> Self {
        Self {
            left,
            top,
            right: left.saturating_add(width),
            bottom: top.saturating_add(height),
        }
    }

    /// What two have in common.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self {
            left: self.left.max(other.left),
            top: self.top.max(other.top),
            right: self.right.min(other.right),
            bottom: self.bottom.min(other.bottom),
        }
    }

    /// Width; zero when inside out.
    #[must_use]
    pub fn width(self) -> i32 {
        self.right.saturating_sub(self.left).max(0)
    }

    /// Height; zero when inside out.
    #[must_use]
    pub fn height(self) -> i32 {
        self.bottom.saturating_sub(self.top).max(0)
    }

    /// In the pixels of a plane with `1 << shift` times fewer.
    fn scaled(self, shift: u32) -> Self {
        Self {
            left: self.left >> shift,
            top: self.top >> shift,
            right: self.right >> shift,
            bottom: self.bottom >> shift,
        }
    }
}

impl From<Rect> for Area {
    fn from(rect: Rect) -> Self {
        let signed = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
        Self::at(
            signed(rect.x),
            signed(rect.y),
            signed(rect.width),
            signed(rect.height),
        )
    }
}

/// Where drawing shows: inside an area and outside everything that lies in front of it.
#[derive(Clone, Debug, Default)]
pub struct Window {
    area: Area,
    holes: Vec<Area>,
}

impl Window {
    /// An area with holes.
    #[must_use]
    pub fn new(area: Area, holes: impl IntoIterator<Item = Area>) -> Self {
        let mut holes: Vec<Area> = holes.into_iter().collect();
        holes.sort_by_key(|hole| hole.left);
        Self { area, holes }
    }
}

/// One plane to draw on.
#[derive(Debug)]
struct Plane<'a> {
    data: &'a mut [u8],
    stride: usize,
    width: usize,
    height: usize,
    /// 1 for chroma, which has half the pixels each way.
    shift: u32,
}

impl Plane<'_> {
    fn bounds(&self) -> Area {
        let signed = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
        Area::at(0, 0, signed(self.width), signed(self.height))
    }

    /// Calls `draw` with each open stretch of each line of an area (of this plane's pixels): column, line and pixels.
    fn stretches(
        &mut self,
        area: Area,
        window: &Window,
        mut draw: impl FnMut(i32, i32, &mut [u8]),
    ) {
        let shift = self.shift;
        let open = area.common(window.area.scaled(shift)).common(self.bounds());
        if open.width() == 0 {
            return;
        }
        for line in open.top..open.bottom {
            let mut from = open.left;
            for hole in window.holes.iter().map(|hole| hole.scaled(shift)) {
                if hole.width() == 0 || !(hole.top..hole.bottom).contains(&line) {
                    continue;
                }
                if let Some(pixels) = self.pixels(line, from, hole.left.min(open.right)) {
                    draw(from, line, pixels);
                }
                from = from.max(hole.right);
            }
            if let Some(pixels) = self.pixels(line, from, open.right) {
                draw(from, line, pixels);
            }
        }
    }

    fn pixels(&mut self, line: i32, from: i32, to: i32) -> Option<&mut [u8]> {
        if from >= to {
            return None;
        }
        let start = usize::try_from(line).ok()?.checked_mul(self.stride)?;
        let row = self.data.get_mut(start..start.checked_add(self.width)?)?;
        row.get_mut(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
    }

    fn pixel(&self, column: i32, line: i32) -> Option<u8> {
        let column = usize::try_from(column).ok().filter(|at| *at < self.width)?;
        let line = usize::try_from(line).ok().filter(|at| *at < self.height)?;
        self.data.get(line * self.stride + column).copied()
    }
}

/// A picture to draw on, wherever its bytes are.
#[derive(Debug)]
pub struct Frame<'a> {
    planes: [Plane<'a>; 3],
}

/// One plane of a sprite or a picture: values or alphas, line by line without gaps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) data: &'a [u8],
    pub(super) width: i32,
}

impl Source<'_> {
    fn from(&self, column: i32, line: i32, count: usize) -> Option<&[u8]> {
        let start = line.checked_mul(self.width)?.checked_add(column)?;
        let start = usize::try_from(start).ok()?;
        self.data.get(start..start.checked_add(count)?)
    }
}

impl<'a> Frame<'a> {
    /// A picture of even size whose planes (Y, Cb, Cr) have the given distances between lines; `None` when they are too
    /// small for it.
    #[must_use]
    pub fn new(size: Size, planes: [(&'a mut [u8], usize); 3]) -> Option<Self> {
        let full = (
            usize::try_from(size.width).ok()?,
            usize::try_from(size.height).ok()?,
        );
        let mut shift = 0;
        let planes = planes.map(|(data, stride)| {
            let plane = Plane {
                data,
                stride,
                width: full.0 >> shift,
                height: full.1 >> shift,
                shift,
            };
            shift = 1;
            plane
        });
        let fits = |plane: &Plane<'_>| {
            let lines = plane.height.checked_sub(1)?.checked_mul(plane.stride)?;
            let needed = lines.checked_add(plane.width)?;
            (plane.stride >= plane.width && plane.data.len() >= needed).then_some(())
        };
        planes.iter().try_for_each(fits)?;
        Some(Self { planes })
    }

    /// Fills an area; `opacity` of 0 to 256.
    pub(super) fn fill(&mut self, area: Area, window: &Window, colour: Colour, opacity: u32) {
        for (plane, value) in self.planes.iter_mut().zip(colour.0) {
            plane.stretches(area.scaled(plane.shift), window, |_, _, pixels| {
                if opacity >= 256 {
                    pixels.fill(value);
                    return;
                }
                let alpha = share(255, opacity);
                pixels
                    .iter_mut()
                    .for_each(|pixel| *pixel = mix(*pixel, value, alpha));
            });
        }
    }

    /// Lays values on an area through their alphas. Per plane: values, alphas; their lines begin at the area's corner.
    pub(super) fn blend(
        &mut self,
        area: Area,
        window: &Window,
        sources: [(Source<'_>, Source<'_>); 3],
        opacity: u32,
    ) {
        for (plane, (values, alphas)) in self.planes.iter_mut().zip(sources) {
            let area = area.scaled(plane.shift);
            plane.stretches(area, window, |column, line, pixels| {
                let (x, y) = (column - area.left, line - area.top);
                let values = values.from(x, y, pixels.len());
                let alphas = alphas.from(x, y, pixels.len());
                let (Some(values), Some(alphas)) = (values, alphas) else {
                    return;
                };
                for ((pixel, value), alpha) in pixels.iter_mut().zip(values).zip(alphas) {
                    *pixel = mix(*pixel, *value, share(*alpha, opacity));
                }
            });
        }
    }

    /// Copies a whole picture of this size.
    pub(super) fn copy(&mut self, picture: &Picture) {
        for (plane, source) in self.planes.iter_mut().zip(&picture.planes) {
            let width = plane.width.max(1);
            let rows = plane.data.chunks_mut(plane.stride.max(1));
            for (row, from) in rows.zip(source.chunks(width)) {
                if let Some(row) = row.get_mut(..from.len()) {
                    row.copy_from_slice(from);
                }
            }
        }
    }

    /// The values of one plane around the corner of an area: just outside it, from its outer corner on. First along the
    /// vertical edge, then along the horizontal edge; `None` where that lies outside the picture.
    pub(super) fn beside(
        &self,
        plane: usize,
        corner: Area,
        outer: (bool, bool),
    ) -> (Vec<Option<u8>>, Vec<Option<u8>>) {
        let Some(plane) = self.planes.get(plane) else {
            return Default::default();
        };
        let area = corner.scaled(plane.shift);
        let column = if outer.0 { area.right } else { area.left - 1 };
        let line = if outer.1 { area.bottom } else { area.top - 1 };
        (
            (area.top..area.bottom)
                .map(|line| plane.pixel(column, line))
                .collect(),
            (area.left..area.right)
                .map(|column| plane.pixel(column, line))
                .collect(),
        )
    }
}

/// A picture of its own, without gaps between lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    size: Size,
    planes: [Vec<u8>; 3],
}

impl Picture {
    /// A picture of one colour.
    #[must_use]
    pub fn plain(size: Size, colour: Colour) -> Self {
        let size = Size {
            width: size.width & !1,
            height: size.height & !1,
        };
        let luma = usize::try_from(u64::from(size.width) * u64::from(size.height)).unwrap_or(0);
        let [y, cb, cr] = colour.0;
        Self {
            size,
            planes: [vec![y; luma], vec![cb; luma / 4], vec![cr; luma / 4]],
        }
    }

    /// Its size.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// To draw on.
    pub fn frame(&mut self) -> Option<Frame<'_>> {
        let width = usize::try_from(self.size.width).ok()?;
        let [y, cb, cr] = &mut self.planes;
        Frame::new(self.size, [(y, width), (cb, width / 2), (cr, width / 2)])
    }

    /// The planes: Y, Cb, Cr.
    #[must_use]
    pub fn planes(&self) -> [&[u8]; 3] {
        let [y, cb, cr] = &self.planes;
        [y, cb, cr]
    }

    /// The values of one plane at an area of luma pixels, line by line; `None` where that lies outside.
    pub(super) fn values(&self, plane: usize, area: Area) -> Vec<Option<u8>> {
        let shift = u32::from(plane > 0);
        let area = area.scaled(shift);
        let width = i32::try_from(self.size.width >> shift).unwrap_or(0);
        let value = |column: i32, line: i32| {
            if !(0..width).contains(&column) {
                return None;
            }
            let at = line.checked_mul(width)?.checked_add(column)?;
            self.planes
                .get(plane)?
                .get(usize::try_from(at).ok()?)
                .copied()
        };
        (area.top..area.bottom)
            .flat_map(|line| (area.left..area.right).map(move |column| (column, line)))
            .map(|(column, line)| value(column, line))
            .collect()
    }
}
