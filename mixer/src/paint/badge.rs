//! What names become: a caption at the foot of a tile, and a disc with initials where there is no picture.

use super::sprite::{Drawing, Rgb, Sprite};
use super::text::{MIDDLE, Style, Typesetter, initials, pixels};
use crate::layout::Size;

/// White, as bright as pictures are.
const INK: Rgb = [245, 246, 248];

/// The bar behind a caption, and how much of the picture it hides.
const BAR: Rgb = [14, 17, 22];
const BAR_ALPHA: f32 = 0.62;

/// Colours of discs; a name has always the same.
const DISCS: [Rgb; 8] = [
    [63, 94, 151],
    [46, 112, 104],
    [129, 78, 138],
    [157, 84, 62],
    [84, 107, 54],
    [150, 66, 90],
    [88, 84, 160],
    [122, 95, 46],
];

/// How large the caption of a tile is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CaptionSize {
    /// The size of the font in pixels.
    pub(super) font_px: u32,
    /// The widest bar.
    pub(super) width_px: u32,
    /// From the tile's edges.
    pub(super) margin_px: u32,
}

/// The caption of a tile of a size, in a picture of a size; `None` where there is no room for one.
pub(super) fn caption_size(tile: Size, picture: Size) -> Option<CaptionSize> {
    // Not below what can be read, and not above what would be loud.
    let least = (picture.height / 48).max(11);
    let most = (picture.height / 30).max(least);
    let font_px = (tile.height / 16).clamp(least, most);
    let margin_px = (font_px / 2) & !1;
    let width_px = tile.width.checked_sub(2 * margin_px)?;
    let room = width_px >= 4 * font_px && tile.height >= 5 * font_px;
    room.then_some(CaptionSize {
        font_px,
        width_px,
        margin_px,
    })
}

/// A name on a translucent bar, at most `width_px` wide.
pub(super) fn caption(
    typesetter: &mut Typesetter,
    name: &str,
    font_px: u32,
    width_px: u32,
) -> Sprite {
    let (size_px, width_px) = (real(font_px), real(width_px));
    let padding = size_px * 0.55;
    let style = Style {
        size_px,
        width_px: (width_px - 2.0 * padding).max(0.0),
        lines: 1,
        ink: INK,
    };
    let text = typesetter.set(name, style);
    let height = pixels(size_px * 1.7) & !1;
    let width = (text.drawing.width() + 2 * pixels(padding)) & !1;
    let mut drawing = Drawing::new(width, height);
    drawing.rounded(size_px * 0.4, BAR, BAR_ALPHA);
    let top = place(height, 0.5) + signed(size_px * MIDDLE - text.baseline_px);
    drawing.lay(&text.drawing, signed(padding), top);
    Sprite::from(&drawing)
}

/// A disc with the initials of a name.
pub(super) fn disc(typesetter: &mut Typesetter, name: &str, diameter_px: u32) -> Sprite {
    let diameter = real(diameter_px);
    let style = Style {
        size_px: (diameter * 0.4).max(4.0),
        width_px: diameter * 0.9,
        lines: 1,
        ink: INK,
    };
    let text = typesetter.set(&initials(name), style);
    let side = pixels(diameter) & !1;
    let mut drawing = Drawing::new(side, side);
    // FNV-1a: all that matters is that it spreads and stays.
    let hash = name.bytes().fold(0x811c_9dc5u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let at = usize::try_from(hash >> 8).unwrap_or(0) % DISCS.len();
    let colour = DISCS.get(at).copied().unwrap_or(BAR);
    drawing.rounded(diameter / 2.0, colour, 1.0);
    let left = place(side.saturating_sub(text.drawing.width()), 0.5);
    let top = place(side, 0.5) + signed(style.size_px * MIDDLE - text.baseline_px);
    drawing.lay(&text.drawing, left, top);
    Sprite::from(&drawing)
}

/// How large the disc of a tile is, and how much higher than the middle it stands to keep clear of the caption.
pub(super) fn disc_size(tile: Size, caption: Option<CaptionSize>) -> (u32, u32) {
    let foot = caption.map_or(0, |caption| caption.font_px * 2 + caption.margin_px);
    let free = tile.height.saturating_sub(foot);
    let diameter = (tile.width.min(tile.height) * 2 / 5).min(free * 4 / 5) & !1;
    let overlap = (tile.height + diameter) / 2;
    (diameter, (overlap.saturating_sub(free) & !1).min(foot / 2))
}

fn real(value: u32) -> f32 {
    f32::from(u16::try_from(value).unwrap_or(u16::MAX))
}

fn signed(value: f32) -> i32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates; a place in a drawing"
    )]
    let value = value.round() as i32;
    value
}

fn place(length: usize, part: f32) -> i32 {
    signed(real(u32::try_from(length).unwrap_or(0)) * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_grow_with_their_tile_within_bounds() {
        let picture = Size {
            width: 1280,
            height: 720,
        };
        let font = |width, height| {
            caption_size(Size { width, height }, picture).map(|caption| caption.font_px)
        };
        assert_eq!(font(1280, 720), Some(24));
        assert_eq!(font(632, 356), Some(22));
        assert_eq!(font(312, 174), Some(15));
        assert_eq!(font(40, 174), None);
        assert_eq!(font(0, 0), None);
    }

    #[test]
    fn captions_are_as_wide_as_their_name_up_to_a_limit() {
        let mut typesetter = Typesetter::default();
        let short = caption(&mut typesetter, "Ada", 20, 300);
        let long = caption(&mut typesetter, &"Ada Lovelace ".repeat(9), 20, 300);
        assert!(short.width() < 100, "{}", short.width());
        assert!((240..=300).contains(&long.width()), "{}", long.width());
        assert_eq!(short.height(), long.height());
        assert_eq!(caption(&mut typesetter, "x", 20, 0).height(), 34);
    }

    #[test]
    fn discs_differ_by_name() {
        let mut typesetter = Typesetter::default();
        let ada = disc(&mut typesetter, "Ada Lovelace", 100);
        assert_eq!((ada.width(), ada.height()), (100, 100));
        assert_eq!(ada, disc(&mut typesetter, "Ada Lovelace", 100));
        assert_ne!(ada, disc(&mut typesetter, "Grace Hopper", 100));
        disc(&mut typesetter, "", 2);
    }
}
