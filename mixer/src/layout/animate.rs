//! The way from one arrangement to the next: tiles travel, newcomers fade in, those who leave fade out.

use super::{Rect, Tile, even};

/// A tile on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moving {
    /// The tile where it is now.
    pub tile: Tile,
    /// 0 is invisible, 1 is opaque.
    pub opacity: f64,
    /// Where it is going; for a tile that leaves, where it was.
    pub settled: Rect,
}

/// A transition in program time. Its end is its target.
#[derive(Clone, Debug, Default)]
pub struct Animation {
    from: Vec<Moving>,
    to: Vec<Tile>,
    start_ns: i64,
    duration_ns: i64,
}

impl Animation {
    /// Heads for `to` from wherever the tiles are at `now_ns`. The first arrangement is there at once.
    pub fn head_for(&mut self, to: Vec<Tile>, now_ns: i64, duration_ns: i64) {
        if to == self.to {
            return;
        }
        let first = self.from.is_empty() && self.to.is_empty();
        self.from = self.at(now_ns);
        self.to = to;
        self.start_ns = now_ns;
        self.duration_ns = if first { 0 } else { duration_ns };
    }

    /// Takes an input out at once: it has no picture any more.
    pub fn forget(&mut self, input: u32) {
        self.from.retain(|moving| moving.tile.input != input);
        self.to.retain(|tile| tile.input != input);
    }

    /// The tiles at a moment, in drawing order.
    #[must_use]
    pub fn at(&self, now_ns: i64) -> Vec<Moving> {
        let elapsed = now_ns.saturating_sub(self.start_ns);
        if elapsed >= self.duration_ns {
            let rest = |tile: &Tile| Moving {
                tile: *tile,
                opacity: 1.0,
                settled: tile.rect,
            };
            return self.to.iter().map(rest).collect();
        }
        let progress = ease(fraction(elapsed.max(0), self.duration_ns));
        let leaving = self.from.iter().filter(|moving| {
            let input = moving.tile.input;
            self.to.iter().all(|tile| tile.input != input)
        });
        let leaving = leaving.map(|moving| Moving {
            opacity: moving.opacity * (1.0 - progress),
            ..*moving
        });
        let staying = self.to.iter().map(|tile| {
            let before = self
                .from
                .iter()
                .find(|moving| moving.tile.input == tile.input);
            before.map_or(
                Moving {
                    tile: *tile,
                    opacity: progress,
                    settled: tile.rect,
                },
                |before| Moving {
                    tile: Tile {
                        rect: between(before.tile.rect, tile.rect, progress),
                        ..*tile
                    },
                    opacity: before.opacity + (1.0 - before.opacity) * progress,
                    settled: tile.rect,
                },
            )
        });
        leaving.chain(staying).collect()
    }
}

fn fraction(part: i64, whole: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share of a transition")]
    let share = part as f64 / whole.max(1) as f64;
    share.clamp(0.0, 1.0)
}

/// Slow, fast, slow.
fn ease(t: f64) -> f64 {
    t * t * (3.0 - 2.0 * t)
}

fn between(from: Rect, to: Rect, progress: f64) -> Rect {
    // The edges travel, so that a tile that lies inside the picture at both ends does so on the way.
    let (left, right) = (
        blend(from.x, to.x, progress),
        blend(from.x + from.width, to.x + to.width, progress),
    );
    let (top, bottom) = (
        blend(from.y, to.y, progress),
        blend(from.y + from.height, to.y + to.height, progress),
    );
    Rect {
        x: left,
        y: top,
        width: right.saturating_sub(left).max(2),
        height: bottom.saturating_sub(top).max(2),
    }
}

fn blend(from: u32, to: u32, progress: f64) -> u32 {
    let value = f64::from(from) + (f64::from(to) - f64::from(from)) * progress;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between two u32"
    )]
    even(value.round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use media::link::Fit;
    use proptest::prelude::*;

    fn tile(input: u32, x: u32, width: u32) -> Tile {
        let rect = Rect {
            x,
            y: 0,
            width,
            height: 360,
        };
        Tile {
            input,
            rect,
            fit: Fit::Cover,
            inset: false,
        }
    }

    #[test]
    fn the_first_arrangement_is_there_at_once() {
        let mut animation = Animation::default();
        animation.head_for(vec![tile(1, 0, 640)], 100, 300);
        assert_eq!(animation.at(100)[0].opacity, 1.0);
    }

    #[test]
    fn tiles_travel_and_fade() {
        let mut animation = Animation::default();
        animation.head_for(vec![tile(1, 0, 640), tile(2, 640, 640)], 0, 300);
        animation.head_for(vec![tile(1, 640, 320), tile(3, 0, 320)], 1_000, 300);
        let middle = animation.at(1_150);
        let of = |input| {
            middle
                .iter()
                .find(|m| m.tile.input == input)
                .expect("there")
        };
        assert_eq!(of(1).tile.rect.x, 320);
        assert_eq!(of(1).tile.rect.width, 480);
        assert_eq!((of(2).opacity, of(3).opacity), (0.5, 0.5));
        let end: Vec<u32> = animation.at(1_300).iter().map(|m| m.tile.input).collect();
        assert_eq!(end, [1, 3]);
    }

    #[test]
    fn a_change_on_the_way_starts_from_there() {
        let mut animation = Animation::default();
        animation.head_for(vec![tile(1, 0, 640)], 0, 300);
        animation.head_for(vec![tile(1, 640, 640)], 0, 300);
        let x = animation.at(150)[0].tile.rect.x;
        animation.head_for(vec![tile(1, 0, 640)], 150, 300);
        assert_eq!(animation.at(150)[0].tile.rect.x, x);
    }

    proptest! {
        #[test]
        fn tiles_stay_inside_and_even(a in (0u32..320, 1u32..320), b in (0u32..320, 1u32..320), t in 0i64..400) {
            let mut animation = Animation::default();
            animation.head_for(vec![tile(1, a.0 * 2, a.1 * 2)], 0, 0);
            animation.head_for(vec![tile(1, b.0 * 2, b.1 * 2)], 0, 300);
            let rect = animation.at(t)[0].tile.rect;
            prop_assert!(rect.x.is_multiple_of(2) && rect.width.is_multiple_of(2) && rect.width >= 2);
            prop_assert!(rect.x + rect.width <= 1282);
        }
    }
}
