//! Round corners and thin borders of tiles, painted over tiles that were composed square.
//!
//! Over the background, a corner gets the background's pixels. A tile that lies on another has hidden what belongs there;
//! its corners are filled in from the pixels just outside them, which a few pixels of picture do not betray.

use super::frame::{Area, Colour, Frame, Picture, Source, Window};
use super::sprite::to_alpha;

/// Width of the border of a tile that lies on another.
const BORDER_PX: i32 = 2;

/// The border's colour and opacity.
const BORDER: Colour = Colour([200, 128, 128]);
const BORDER_ALPHA: u8 = 170;

/// Alphas of a corner: of luma and of chroma pixels.
#[derive(Clone, Debug, Default)]
struct Mask {
    luma: Vec<u8>,
    chroma: Vec<u8>,
}

/// One of four corners.
#[derive(Clone, Debug)]
struct Corner {
    /// It is at the right, at the bottom.
    at: (bool, bool),
    /// What lies outside the arc.
    outside: Mask,
    /// The border along the arc.
    ring: Mask,
}

/// The corners of every tile.
#[derive(Clone, Debug)]
pub(super) struct Corners {
    radius: i32,
    corners: Vec<Corner>,
}

impl Corners {
    /// Corners of an even radius; 0 is square.
    pub(super) fn new(radius_px: u32) -> Self {
        let radius = u16::try_from(radius_px & !1).unwrap_or(u16::MAX - 1);
        let corner = |at| Corner {
            at,
            outside: mask(radius, at, |distance| distance - f32::from(radius) + 0.5),
            ring: mask(radius, at, |distance| {
                let inner = distance - f32::from(radius) + border() + 0.5;
                inner.min(f32::from(radius) - distance + 0.5)
            }),
        };
        let all = [(false, false), (true, false), (false, true), (true, true)];
        let count = if radius == 0 { 0 } else { all.len() };
        Self {
            radius: i32::from(radius),
            corners: all.into_iter().take(count).map(corner).collect(),
        }
    }

    /// Rounds a tile whose corners show the background.
    pub(super) fn on_background(
        &self,
        frame: &mut Frame<'_>,
        tile: Area,
        window: &Window,
        background: &Picture,
    ) {
        for (corner, area) in self.fitting(tile) {
            let values = [0, 1, 2].map(|plane| background.values(plane, area));
            self.cut(frame, corner, area, window, &values);
        }
    }

    /// Rounds a tile that lies on another, and gives it a border.
    pub(super) fn on_picture(
        &self,
        frame: &mut Frame<'_>,
        tile: Area,
        window: &Window,
        opacity: u32,
    ) {
        for (corner, area) in self.fitting(tile) {
            let values = [0, 1, 2].map(|plane| around(frame, plane, area, corner.at));
            self.cut(frame, corner, area, window, &values);
            let mask = &corner.ring;
            self.lay(frame, area, window, BORDER.0.map(Some), mask, opacity);
        }
        let inset = if self.fitting(tile).next().is_some() {
            self.radius
        } else {
            0
        };
        let (across, down) = (tile.width() - 2 * inset, tile.height() - 2 * inset);
        let between = (tile.height() - 2 * BORDER_PX).min(down).max(0);
        let side_top = tile.top + inset.max(BORDER_PX);
        let lines = [
            Area::at(tile.left + inset, tile.top, across, BORDER_PX),
            Area::at(
                tile.left + inset,
                tile.bottom - BORDER_PX,
                across,
                BORDER_PX,
            ),
            Area::at(tile.left, side_top, BORDER_PX, between),
            Area::at(tile.right - BORDER_PX, side_top, BORDER_PX, between),
        ];
        for line in lines {
            let opacity = opacity * u32::from(BORDER_ALPHA) / 255;
            frame.fill(line.common(tile), window, BORDER, opacity);
        }
    }

    /// The corners and their places; none in a tile that is too small for them.
    fn fitting(&self, tile: Area) -> impl Iterator<Item = (&Corner, Area)> {
        let radius = self.radius;
        let fits = tile.width() >= 2 * radius && tile.height() >= 2 * radius;
        self.corners
            .iter()
            .filter(move |_| fits)
            .map(move |corner| {
                let left = if corner.at.0 {
                    tile.right - radius
                } else {
                    tile.left
                };
                let top = if corner.at.1 {
                    tile.bottom - radius
                } else {
                    tile.top
                };
                (corner, Area::at(left, top, radius, radius))
            })
    }

    fn cut(
        &self,
        frame: &mut Frame<'_>,
        corner: &Corner,
        area: Area,
        window: &Window,
        values: &[Vec<Option<u8>>; 3],
    ) {
        let plane = |values: &[Option<u8>], mask: &[u8]| -> (Vec<u8>, Vec<u8>) {
            let pairs = values.iter().zip(mask);
            pairs
                .map(|(value, alpha)| value.map_or((0, 0), |value| (value, *alpha)))
                .unzip()
        };
        let [y, cb, cr] = values;
        let planes = [
            plane(y, &corner.outside.luma),
            plane(cb, &corner.outside.chroma),
            plane(cr, &corner.outside.chroma),
        ];
        self.blend(frame, area, window, &planes, 256);
    }

    fn lay(
        &self,
        frame: &mut Frame<'_>,
        area: Area,
        window: &Window,
        colour: [Option<u8>; 3],
        mask: &Mask,
        opacity: u32,
    ) {
        let masks = [&mask.luma, &mask.chroma, &mask.chroma];
        let mut parts = colour.into_iter().zip(masks);
        let planes = [(); 3].map(|()| {
            let (value, mask) = parts.next().unzip();
            let alphas: Vec<u8> = mask.cloned().unwrap_or_default();
            (
                vec![value.flatten().unwrap_or_default(); alphas.len()],
                alphas,
            )
        });
        let opacity = opacity * u32::from(BORDER_ALPHA) / 255;
        self.blend(frame, area, window, &planes, opacity);
    }

    fn blend(
        &self,
        frame: &mut Frame<'_>,
        area: Area,
        window: &Window,
        planes: &[(Vec<u8>, Vec<u8>); 3],
        opacity: u32,
    ) {
        let [y, cb, cr] = planes;
        let sources = [
            (y, self.radius),
            (cb, self.radius / 2),
            (cr, self.radius / 2),
        ];
        let sources = sources.map(|((values, alphas), width)| {
            let source = |data| Source { data, width };
            (source(values.as_slice()), source(alphas.as_slice()))
        });
        frame.blend(area, window, sources, opacity);
    }
}

fn border() -> f32 {
    f32::from(u16::try_from(BORDER_PX).unwrap_or(0))
}

/// The alphas of a corner; `cover` says from the distance to the arc's middle how much of a pixel is meant.
fn mask(radius: u16, at: (bool, bool), cover: impl Fn(f32) -> f32) -> Mask {
    let alpha = |x: u16, y: u16| {
        let away = |place: u16, far: bool| {
            let place = if far { place } else { radius - 1 - place };
            f32::from(place) + 0.5
        };
        let distance = away(x, at.0).hypot(away(y, at.1));
        u32::from(to_alpha(cover(distance).clamp(0.0, 1.0)))
    };
    let byte = |sum: u32, count: u32| u8::try_from((sum + count / 2) / count).unwrap_or(u8::MAX);
    let mut mask = Mask::default();
    for y in 0..radius {
        for x in 0..radius {
            mask.luma.push(byte(alpha(x, y), 1));
        }
    }
    for y in (0..radius).step_by(2) {
        for x in (0..radius).step_by(2) {
            let four = alpha(x, y) + alpha(x + 1, y) + alpha(x, y + 1) + alpha(x + 1, y + 1);
            mask.chroma.push(byte(four, 4));
        }
    }
    mask
}

/// What a corner probably hides: between the pixels beside it and those above or below it, the nearer the stronger.
fn around(frame: &Frame<'_>, plane: usize, corner: Area, at: (bool, bool)) -> Vec<Option<u8>> {
    let (beside, above) = frame.beside(plane, corner, at);
    let distance = |place: usize, length: usize, far: bool| {
        let steps = if far { length - place } else { place + 1 };
        u32::try_from(steps).unwrap_or(u32::MAX)
    };
    let mut values = Vec::with_capacity(beside.len() * above.len());
    for (y, left) in beside.iter().enumerate() {
        for (x, top) in above.iter().enumerate() {
            let (dx, dy) = (
                distance(x, above.len(), at.0),
                distance(y, beside.len(), at.1),
            );
            values.push(match (*left, *top) {
                (Some(left), Some(top)) => {
                    let sum = u32::from(left) * dy + u32::from(top) * dx;
                    u8::try_from(sum / (dx + dy)).ok()
                }
                (one, other) => one.or(other),
            });
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Size;

    const SIZE: Size = Size {
        width: 64,
        height: 48,
    };
    const TILE: Area = Area {
        left: 8,
        top: 8,
        right: 40,
        bottom: 40,
    };

    fn luma(picture: &Picture, x: usize, y: usize) -> u8 {
        picture.planes()[0][y * 64 + x]
    }

    fn painted(paint: impl Fn(&mut Frame<'_>, &Window)) -> Picture {
        let mut picture = Picture::plain(SIZE, Colour([50, 60, 70]));
        let all = Window::new(Area::at(0, 0, 64, 48), []);
        let mut frame = picture.frame().expect("a frame");
        frame.fill(TILE, &all, Colour([150, 160, 170]), 256);
        paint(&mut frame, &Window::new(TILE, []));
        picture
    }

    #[test]
    fn corners_show_the_background_and_the_rest_stays() {
        let background = Picture::plain(SIZE, Colour([20, 30, 40]));
        let round = painted(|frame, window| {
            Corners::new(8).on_background(frame, TILE, window, &background);
        });
        for (x, y) in [(8, 8), (39, 8), (8, 39), (39, 39)] {
            assert_eq!(luma(&round, x, y), 20, "{x} {y}");
        }
        for (x, y) in [(16, 8), (8, 16), (24, 24), (11, 11), (31, 39)] {
            assert_eq!(luma(&round, x, y), 150, "{x} {y}");
        }
        assert_eq!(luma(&round, 7, 7), 50, "outside");
        let chroma = |x: usize, y: usize| round.planes()[1][y / 2 * 32 + x / 2];
        assert_eq!((chroma(8, 8), chroma(24, 24)), (30, 160));
    }

    #[test]
    fn no_radius_is_square() {
        let background = Picture::plain(SIZE, Colour::BLACK);
        let square = painted(|frame, window| {
            Corners::new(1).on_background(frame, TILE, window, &background);
        });
        assert_eq!(square, painted(|_, _| {}));
    }

    #[test]
    fn a_tile_on_a_picture_has_a_border_and_lets_the_picture_through_its_corners() {
        let framed = painted(|frame, window| Corners::new(8).on_picture(frame, TILE, window, 256));
        assert_eq!(luma(&framed, 8, 8), 50, "what is around");
        for (x, y) in [(24, 8), (24, 39), (8, 24), (39, 24)] {
            assert!(luma(&framed, x, y) > 170, "border at {x} {y}");
        }
        assert_eq!(luma(&framed, 24, 24), 150);
        assert_eq!(luma(&framed, 24, 10), 150, "the border is thin");
        let square = painted(|frame, window| Corners::new(0).on_picture(frame, TILE, window, 256));
        assert!(luma(&square, 8, 8) > 170);
        assert_eq!(luma(&square, 10, 10), 150);
    }

    #[test]
    fn small_tiles_stay_square() {
        let background = Picture::plain(SIZE, Colour::BLACK);
        let round = painted(|frame, window| {
            Corners::new(20).on_background(frame, TILE, window, &background);
        });
        assert_eq!(round, painted(|_, _| {}));
    }
}
