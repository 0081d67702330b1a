//! Where the tiles lie. Pure: a layout, the inputs in order and a picture size in, rectangles in even pixels out.
//!
//! Invariants, tested as properties: every tile lies inside the picture and is at least 2×2; all edges are even (4:2:0);
//! tiles of grid and side-by-side do not overlap; every input that is in gets exactly one tile (custom: as many as given).

mod animate;
mod arrange;

pub use animate::{Animation, Moving};
pub use arrange::arrange;

use media::link::Fit;

/// A rectangle in output pixels; all four are even.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rect {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

impl Rect {
    /// Whether the two share a pixel.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.x < other.x + other.width
            && other.x < self.x + self.width
            && self.y < other.y + other.height
            && other.y < self.y + self.height
    }
}

/// A width and a height in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Size {
    /// Samples per line.
    pub width: u32,
    /// Lines.
    pub height: u32,
}

/// One tile; later ones lie in front of earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// The input it shows.
    pub input: u32,
    /// Where it lies.
    pub rect: Rect,
    /// How the input's picture is fitted.
    pub fit: Fit,
    /// It lies on another tile.
    pub inset: bool,
}

/// What is cut off a picture, in its own pixels; all even.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Crop {
    /// Columns at the left and at the right.
    pub sides: u32,
    /// Lines at the top and at the bottom.
    pub ends: u32,
}

/// What to cut off a picture so that it fills a tile undistorted.
#[must_use]
pub fn crop(picture: Size, tile: Size) -> Crop {
    if picture.width == 0 || picture.height == 0 || tile.width == 0 || tile.height == 0 {
        return Crop::default();
    }
    // Width and height of the visible part in the picture's pixels.
    let width = scaled(picture.height, tile.width, tile.height).min(picture.width);
    let height = scaled(picture.width, tile.height, tile.width).min(picture.height);
    // A sliver is not worth a copy of the picture.
    let margin = |whole: u32, part: u32| match even((whole - part) / 2) {
        2 if whole > 64 => 0,
        // Something even is left.
        margin => margin.min(even(whole.saturating_sub(2) / 2)),
    };
    Crop {
        sides: margin(picture.width, width),
        ends: margin(picture.height, height),
    }
}

/// A picture that is larger than its tile by no more than this part of it is cut, not scaled: nobody misses the edge, and
/// pixels stay as they were.
const CUT_PART: u32 = 24;

/// The window of a picture that fills a tile: of the tile's shape or, for a tile at rest that is hardly smaller, of its size.
/// Its edges are even.
#[must_use]
pub fn cut(picture: Size, tile: Size, rests: bool) -> Rect {
    let hardly = |whole: u32, part: u32| (part..=part + part / CUT_PART).contains(&whole);
    let whole = even(picture.width) == picture.width && even(picture.height) == picture.height;
    let close = hardly(picture.width, tile.width) && hardly(picture.height, tile.height);
    if rests && whole && close {
        return Rect {
            x: even((picture.width - tile.width) / 2),
            y: even((picture.height - tile.height) / 2),
            width: tile.width,
            height: tile.height,
        };
    }
    let Crop { sides, ends } = crop(picture, tile);
    Rect {
        x: sides,
        y: ends,
        width: even(picture.width - 2 * sides),
        height: even(picture.height - 2 * ends),
    }
}

/// The largest rectangle of the picture's shape in the middle of a tile.
#[must_use]
pub fn contain(picture: Size, tile: Rect) -> Rect {
    if picture.width == 0 || picture.height == 0 {
        return tile;
    }
    let width = even(scaled(tile.height, picture.width, picture.height)).clamp(2, tile.width);
    let height = even(scaled(tile.width, picture.height, picture.width)).clamp(2, tile.height);
    Rect {
        x: tile.x + even((tile.width - width) / 2),
        y: tile.y + even((tile.height - height) / 2),
        width,
        height,
    }
}

/// `value * num / den`, saturating; zero for a zero denominator.
fn scaled(value: u32, num: u32, den: u32) -> u32 {
    let product = u64::from(value) * u64::from(num);
    u32::try_from(product.checked_div(u64::from(den)).unwrap_or(0)).unwrap_or(u32::MAX)
}

/// The even number at or below.
fn even(value: u32) -> u32 {
    value & !1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn size(width: u32, height: u32) -> Size {
        Size { width, height }
    }

    #[test]
    fn cover_cuts_what_is_over() {
        assert_eq!(crop(size(1280, 720), size(640, 360)), Crop::default());
        let tall = crop(size(1280, 720), size(640, 720));
        assert_eq!(
            tall,
            Crop {
                sides: 320,
                ends: 0
            }
        );
        let wide = crop(size(640, 480), size(640, 360));
        assert_eq!(wide, Crop { sides: 0, ends: 60 });
    }

    #[test]
    fn what_is_hardly_larger_is_cut_to_size_once_it_rests() {
        let (picture, tile) = (size(640, 360), size(622, 350));
        let window = |x, y, width, height| Rect {
            x,
            y,
            width,
            height,
        };
        assert_eq!(cut(picture, tile, true), window(8, 4, 622, 350));
        assert_eq!(cut(picture, tile, false), window(0, 0, 640, 360));
        assert_eq!(cut(picture, size(412, 230), true), window(0, 0, 640, 360));
        assert_eq!(cut(picture, size(640, 360), true), window(0, 0, 640, 360));
        assert_eq!(cut(picture, size(660, 372), true), window(0, 0, 640, 360));
    }

    #[test]
    fn contain_leaves_bands() {
        let tile = Rect {
            x: 100,
            y: 0,
            width: 640,
            height: 720,
        };
        let inner = contain(size(1280, 720), tile);
        assert_eq!(
            inner,
            Rect {
                x: 100,
                y: 180,
                width: 640,
                height: 360
            }
        );
    }

    proptest! {
        #[test]
        fn crops_leave_a_picture_of_the_tiles_shape(w in 16u32..4000, h in 16u32..4000, tw in 8u32..2000, th in 8u32..2000) {
            let crop = crop(size(w, h), size(tw, th));
            prop_assert!(2 * crop.sides < w && 2 * crop.ends < h);
            prop_assert!(crop.sides.is_multiple_of(2) && crop.ends.is_multiple_of(2));
            prop_assert!(crop.sides == 0 || crop.ends == 0);
        }

        #[test]
        fn windows_lie_inside_and_are_even(w in 16u32..4000, h in 16u32..4000, tw in 1u32..1000, th in 1u32..1000, rests in any::<bool>()) {
            let window = cut(size(w, h), size(2 * tw, 2 * th), rests);
            prop_assert!(window.x + window.width <= w && window.y + window.height <= h);
            prop_assert!(window.width >= 2 && window.height >= 2);
            prop_assert!([window.x, window.y, window.width, window.height].iter().all(|edge| edge.is_multiple_of(2)));
        }

        #[test]
        fn contained_pictures_stay_in_the_tile(w in 1u32..4000, h in 1u32..4000, tw in 1u32..1000, th in 1u32..1000, x in 0u32..500, y in 0u32..500) {
            let tile = Rect { x: 2 * x, y: 2 * y, width: 2 * tw, height: 2 * th };
            let inner = contain(size(w, h), tile);
            prop_assert!(inner.x >= tile.x && inner.y >= tile.y);
            prop_assert!(inner.x + inner.width <= tile.x + tile.width);
            prop_assert!(inner.y + inner.height <= tile.y + tile.height);
            prop_assert!(inner.width >= 2 && inner.height >= 2);
        }
    }
}
