//! The layouts.

use media::link::{Fit, Layout, LayoutName};

use super::{Rect, Size, Tile, even};

/// Distance between tiles, as a part of the picture's width: 10 pixels of 1280. In flat pictures, of twice the height,
/// so that a column of them leaves room for the tiles.
const GAP: u32 = 128;

/// Tiles for the inputs in `order`. `speaker` is large in the speaker layout; the first input stands in for it.
#[must_use]
pub fn arrange(layout: &Layout, order: &[u32], speaker: Option<u32>, picture: Size) -> Vec<Tile> {
    let picture = Size {
        width: even(picture.width).max(16),
        height: even(picture.height).max(16),
    };
    match layout.name {
        LayoutName::Grid => cover(order, grid(order.len(), picture)),
        LayoutName::SideBySide => cover(order, columns(order.len(), picture)),
        LayoutName::Speaker => with_speaker(order, speaker, picture),
        LayoutName::Pip => pip(order, picture),
        LayoutName::Custom => custom(layout, order, picture),
    }
}

fn whole(picture: Size) -> Rect {
    Rect {
        x: 0,
        y: 0,
        width: picture.width,
        height: picture.height,
    }
}

fn gap(picture: Size) -> u32 {
    even(picture.width.min(picture.height.saturating_mul(2)) / GAP)
}

fn cover(order: &[u32], rects: impl IntoIterator<Item = Rect>) -> Vec<Tile> {
    let tile = |(input, rect): (&u32, Rect)| Tile {
        input: *input,
        rect,
        fit: Fit::Cover,
        inset: false,
    };
    order.iter().zip(rects).map(tile).collect()
}

/// Tiles of one size and of the picture's shape, in as few columns as hold them, with the same distance from each other
/// and from the edges; the last row is centred. One alone fills the picture.
fn grid(count: usize, picture: Size) -> Vec<Rect> {
    let count = u32::try_from(count).unwrap_or(u32::MAX).min(10_000);
    if count <= 1 {
        return (0..count).map(|_| whole(picture)).collect();
    }
    let columns = (1..=count).find(|n| n * n >= count).unwrap_or(count);
    let gap = gap(picture);
    let inner = Rect {
        x: gap,
        y: gap,
        width: picture.width - 2 * gap,
        height: picture.height - 2 * gap,
    };
    rows(count, columns, inner, gap, picture)
}

/// Rows of tiles of one size and of a shape, as large as they fit into an area, in its middle; the last row is centred.
fn rows(count: u32, columns: u32, area: Rect, gap: u32, shape: Size) -> Vec<Rect> {
    let rows = count.div_ceil(columns);
    let share =
        |whole: u32, parts: u32| even(whole.saturating_sub(gap * (parts - 1)) / parts).max(2);
    // Of the pictures' shape, so that they are not cut.
    let width = share(area.width, columns);
    let height =
        even(super::scaled(width, shape.height, shape.width)).clamp(2, share(area.height, rows));
    let width = width.min(even(super::scaled(height, shape.width, shape.height)).max(2));
    let centre = |whole: u32, parts: u32, part: u32| {
        even(whole.saturating_sub(parts * part + gap * (parts - 1)) / 2)
    };
    let top = centre(area.height, rows, height);
    let place = |n: u32| {
        let (row, column) = (n / columns, n % columns);
        let in_row = if row + 1 == rows {
            count - row * columns
        } else {
            columns
        };
        Rect {
            x: area.x + centre(area.width, in_row, width) + column * (width + gap),
            y: area.y + top + row * (height + gap),
            width,
            height,
        }
    };
    (0..count).map(place).collect()
}

/// Columns of full height.
fn columns(count: usize, picture: Size) -> Vec<Rect> {
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    let edge = |n: u32| even(super::scaled(picture.width, n, count));
    let column = |n: u32| Rect {
        x: edge(n),
        y: 0,
        width: (edge(n + 1) - edge(n)).max(2),
        height: picture.height,
    };
    (0..count).map(column).collect()
}

/// The speaker fills the left; the others stand in a column at the right.
fn with_speaker(order: &[u32], speaker: Option<u32>, picture: Size) -> Vec<Tile> {
    let Some(speaker) = speaker
        .filter(|s| order.contains(s))
        .or(order.first().copied())
    else {
        return Vec::new();
    };
    let others: Vec<u32> = order
        .iter()
        .copied()
        .filter(|input| *input != speaker)
        .collect();
    if others.is_empty() {
        return cover(&[speaker], [whole(picture)]);
    }
    let gap = gap(picture);
    let count = u32::try_from(others.len()).unwrap_or(u32::MAX);
    // As many columns as keep the small ones in shape, and their part of the width in percent.
    let (columns, percent) = match count {
        ..=4 => (1, 20),
        5..=10 => (2, 30),
        _ => (3, 36),
    };
    let width = even(super::scaled(picture.width, percent, 100));
    let height = picture.height - 2 * gap;
    let strip = Rect {
        x: picture.width - gap - width,
        y: gap,
        width,
        height,
    };
    let main = Rect {
        x: gap,
        y: gap,
        width: strip.x - 2 * gap,
        height,
    };
    // Of the picture's shape: the speaker is cut as little as the space allows.
    let inner = super::contain(picture, main);
    let mut tiles = cover(&[speaker], [inner]);
    tiles.extend(cover(&others, rows(count, columns, strip, gap, picture)));
    tiles
}

/// The first input fills the picture; the others lie small in its lower right corner, many of them in several rows.
fn pip(order: &[u32], picture: Size) -> Vec<Tile> {
    let Some((first, others)) = order.split_first() else {
        return Vec::new();
    };
    let mut tiles = cover(&[*first], [whole(picture)]);
    let margin = gap(picture) * 2;
    // How many in a row, and their width as a part of the picture's: the corner at the left stays free for a name.
    let (columns, part) = match others.len() {
        ..=3 => (3, 4),
        4 => (4, 6),
        _ => (6, 8),
    };
    let width = picture.width.saturating_sub(margin * (columns + 1)) / columns;
    let width = even(width.min(picture.width / part)).max(2);
    let height = even(super::scaled(width, picture.height, picture.width)).max(2);
    let small = |n: u32| Rect {
        // The second participant is rightmost, at the bottom.
        x: picture
            .width
            .saturating_sub((n % columns + 1) * (width + margin)),
        y: picture
            .height
            .saturating_sub((n / columns + 1) * (height + margin)),
        width,
        height,
    };
    let small = cover(others, (0..).map(small));
    tiles.extend(small.into_iter().map(|tile| Tile {
        inset: true,
        ..tile
    }));
    tiles
}

/// Tiles as given, brought inside the picture; those of inputs that are not in are left out.
fn custom(layout: &Layout, order: &[u32], picture: Size) -> Vec<Tile> {
    let tile = |tile: &media::link::Tile| {
        let x = pixels(tile.x, picture.width).min(picture.width - 2);
        let y = pixels(tile.y, picture.height).min(picture.height - 2);
        Tile {
            input: tile.input,
            rect: Rect {
                x,
                y,
                width: pixels(tile.width, picture.width).clamp(2, picture.width - x),
                height: pixels(tile.height, picture.height).clamp(2, picture.height - y),
            },
            fit: tile.fit,
            inset: false,
        }
    };
    let is_in = |tile: &&media::link::Tile| order.contains(&tile.input);
    let mut tiles: Vec<Tile> = layout.tiles.iter().filter(is_in).map(tile).collect();
    let mut below: Vec<Rect> = Vec::new();
    for tile in &mut tiles {
        tile.inset = below.iter().any(|rect| rect.overlaps(tile.rect));
        below.push(tile.rect);
    }
    tiles
}

/// A fraction of a length in even pixels; what is no number is nothing.
fn pixels(fraction: f32, whole: u32) -> u32 {
    let value = f64::from(fraction).clamp(0.0, 1.0) * f64::from(whole);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and a u32; a cast of NaN is 0"
    )]
    let value = (value / 2.0).round() as u32;
    value * 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HD: Size = Size {
        width: 1280,
        height: 720,
    };

    fn named(name: LayoutName) -> Layout {
        Layout {
            name,
            tiles: Vec::new(),
        }
    }

    fn rects(name: LayoutName, order: &[u32]) -> Vec<(u32, [u32; 4])> {
        let flat = |t: Tile| (t.input, [t.rect.x, t.rect.y, t.rect.width, t.rect.height]);
        arrange(&named(name), order, None, HD)
            .into_iter()
            .map(flat)
            .collect()
    }

    #[test]
    fn grids() {
        assert_eq!(rects(LayoutName::Grid, &[5]), [(5, [0, 0, 1280, 720])]);
        assert_eq!(
            rects(LayoutName::Grid, &[1, 2]),
            [(1, [12, 184, 622, 350]), (2, [644, 184, 622, 350])]
        );
        let three = rects(LayoutName::Grid, &[1, 2, 3]);
        assert_eq!(three[2].1[0], ((1280 - three[2].1[2]) / 2) & !1, "centred");
    }

    #[test]
    fn halves() {
        assert_eq!(
            rects(LayoutName::SideBySide, &[1, 2]),
            [(1, [0, 0, 640, 720]), (2, [640, 0, 640, 720])]
        );
    }

    #[test]
    fn the_speaker_is_large() {
        let tiles = arrange(&named(LayoutName::Speaker), &[1, 2, 3], Some(2), HD);
        let large = tiles
            .iter()
            .max_by_key(|tile| tile.rect.width)
            .expect("tiles");
        assert_eq!(large.input, 2);
        let gone = arrange(&named(LayoutName::Speaker), &[1, 3], Some(2), HD);
        assert_eq!(gone[0].input, 1, "the first stands in");
    }

    #[test]
    fn small_tiles_of_many_keep_their_shape() {
        for name in [LayoutName::Speaker, LayoutName::Pip, LayoutName::Grid] {
            for count in 1..=16 {
                let order: Vec<u32> = (0..count).collect();
                for (input, [.., width, height]) in rects(name, &order) {
                    let shape = f64::from(width) / f64::from(height);
                    assert!(
                        (1.6..2.0).contains(&shape),
                        "{name:?} {count}: {input} {shape}"
                    );
                }
            }
        }
    }

    #[test]
    fn small_tiles_leave_the_host_its_name() {
        for count in 2..=16 {
            let order: Vec<u32> = (0..count).collect();
            for (_, [x, y, ..]) in rects(LayoutName::Pip, &order).into_iter().skip(1) {
                assert!(x > 100 && y > 300, "{count}: {x} {y}");
            }
        }
    }

    #[test]
    fn custom_tiles_on_others_are_insets() {
        let tile = |input, x, y| media::link::Tile {
            input,
            x,
            y,
            width: 0.5,
            height: 0.5,
            fit: Fit::Cover,
        };
        let layout = Layout {
            name: LayoutName::Custom,
            tiles: vec![tile(1, 0.0, 0.0), tile(2, 0.5, 0.5), tile(3, 0.2, 0.2)],
        };
        let tiles = arrange(&layout, &[1, 2, 3], None, HD);
        let insets: Vec<bool> = tiles.iter().map(|tile| tile.inset).collect();
        assert_eq!(insets, [false, false, true]);
    }

    #[test]
    fn custom_tiles_are_brought_inside() {
        let wild = media::link::Tile {
            input: 1,
            x: 2.0,
            y: f32::NAN,
            width: -1.0,
            height: f32::INFINITY,
            fit: Fit::Contain,
        };
        let other = media::link::Tile { input: 9, ..wild };
        let layout = Layout {
            name: LayoutName::Custom,
            tiles: vec![wild, other],
        };
        let tiles = arrange(&layout, &[1], None, HD);
        assert_eq!(tiles.len(), 1);
        assert_eq!(
            tiles[0].rect,
            Rect {
                x: 1278,
                y: 0,
                width: 2,
                height: 720
            }
        );
    }

    proptest! {
        #[test]
        fn tiles_are_inside_and_everybody_has_one(
            name in proptest::sample::select(vec![LayoutName::Grid, LayoutName::SideBySide, LayoutName::Speaker, LayoutName::Pip]),
            count in 0u32..=16,
            speaker in proptest::option::of(0u32..20),
            width in 80u32..2000,
            height in 80u32..1200,
        ) {
            let order: Vec<u32> = (0..count).collect();
            let picture = Size { width: width * 2, height: height * 2 };
            let tiles = arrange(&named(name), &order, speaker, picture);
            let mut inputs: Vec<u32> = tiles.iter().map(|tile| tile.input).collect();
            inputs.sort_unstable();
            prop_assert_eq!(inputs, order);
            for Tile { rect, .. } in &tiles {
                prop_assert!(rect.x + rect.width <= picture.width && rect.y + rect.height <= picture.height, "{rect:?}");
                prop_assert!(rect.width >= 2 && rect.height >= 2, "{rect:?}");
                prop_assert!([rect.x, rect.y, rect.width, rect.height].iter().all(|edge| edge.is_multiple_of(2)), "{rect:?}");
            }
            if name != LayoutName::Pip {
                for (at, a) in tiles.iter().enumerate() {
                    for b in &tiles[at + 1..] {
                        prop_assert!(!a.rect.overlaps(b.rect), "{a:?} {b:?}");
                    }
                }
            }
        }

        #[test]
        fn custom_tiles_stay_inside(x in any::<f32>(), y in any::<f32>(), width in any::<f32>(), height in any::<f32>()) {
            let tile = media::link::Tile { input: 1, x, y, width, height, fit: Fit::Cover };
            let layout = Layout { name: LayoutName::Custom, tiles: vec![tile] };
            let rect = arrange(&layout, &[1], None, HD)[0].rect;
            prop_assert!(rect.x + rect.width <= 1280 && rect.y + rect.height <= 720);
            prop_assert!(rect.width >= 2 && rect.height >= 2);
        }
    }
}
