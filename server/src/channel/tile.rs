//! How large a participant is shown in the mix: enough to choose among the sizes that a picture is published in. Pure.
//!
//! The mixer lays out to the pixel; here gaps are left out, so a picture is never taken smaller than its tile.

use media::link::{LayoutName, Scene};

/// Small pictures of picture in picture are at most this part of the whole.
const INSET: u32 = 4;

/// Lines of the tile that shows `input` in a mix of `picture` lines; none when it is not shown.
pub(super) fn height(scene: &Scene, input: u32, picture: u32) -> Option<u32> {
    let at = scene.order.iter().position(|held| *held == input)?;
    let count = u32::try_from(scene.order.len()).unwrap_or(u32::MAX);
    match scene.layout.name {
        LayoutName::Grid => {
            let columns = (1..count).find(|n| n.saturating_mul(*n) >= count);
            Some(picture / columns.unwrap_or(count).max(1))
        }
        LayoutName::Pip if at > 0 => Some(picture / INSET),
        // Columns are as high as the picture, and everybody may become the speaker.
        LayoutName::SideBySide | LayoutName::Speaker | LayoutName::Pip => Some(picture),
        LayoutName::Custom => {
            let tile = scene.layout.tiles.iter().find(|tile| tile.input == input)?;
            // A tile of another shape is filled.
            Some(part(tile.width.max(tile.height), picture))
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a picture's lines; a cast of NaN is 0"
)]
fn part(share: f32, picture: u32) -> u32 {
    (share.clamp(0.0, 1.0) * picture as f32).ceil() as u32
}

#[cfg(test)]
mod tests {
    use media::link::{Fit, Layout, Tile};

    use super::*;

    fn shown(name: LayoutName, order: &[u32], input: u32) -> Option<u32> {
        let tile = |input, width, height| Tile {
            input,
            x: 0.0,
            y: 0.0,
            width,
            height,
            fit: Fit::Cover,
        };
        let scene = Scene {
            layout: Layout {
                name,
                tiles: vec![tile(1, 0.5, 0.25), tile(2, f32::NAN, 2.0)],
            },
            order: order.to_vec(),
            ..Scene::default()
        };
        height(&scene, input, 720)
    }

    #[test]
    fn tiles_are_as_high_as_the_layout_makes_them() {
        let grid = |count: u32| shown(LayoutName::Grid, &(1..=count).collect::<Vec<_>>(), 1);
        assert_eq!([grid(1), grid(2), grid(4)], [720, 360, 360].map(Some));
        assert_eq!([grid(5), grid(9), grid(10)], [240, 240, 180].map(Some));
        assert_eq!(shown(LayoutName::Pip, &[1, 2], 1), Some(720));
        assert_eq!(shown(LayoutName::Pip, &[1, 2], 2), Some(180));
        assert_eq!(shown(LayoutName::Speaker, &[1, 2, 3], 3), Some(720));
        assert_eq!(shown(LayoutName::Custom, &[1, 2], 1), Some(360));
        assert_eq!(shown(LayoutName::Custom, &[1, 2, 3], 3), None);
        assert_eq!(shown(LayoutName::Grid, &[1, 2], 3), None);
        shown(LayoutName::Custom, &[1, 2], 2);
    }
}
