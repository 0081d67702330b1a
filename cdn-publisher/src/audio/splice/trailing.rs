//! *Duplicate trailing samples*: the first unit of the new encoder carries on with the sound of the old one.
//!
//! The block in which both add up holds the falling half of the old encoder's last unit. What that half lacks is the old
//! sound's own continuation, and nothing else: any other sound leaves an alias that the new encoder cannot take back. So the
//! new encoder hears the old sound for one block more, from a unit that is received and decoded but not published, and
//! goes over to the new sound only then.

use super::history::History;
use crate::audio::codec::Frame;

/// A raised-cosine transition from one line to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crossfade {
    /// The last position that is wholly the old line.
    pub(super) start: i64,
    pub(super) samples: i64,
}

impl Crossfade {
    /// All of it is the old line.
    pub(super) const NEVER: Self = Self {
        start: i64::MAX,
        samples: 0,
    };
    /// All of it is the new line.
    pub(super) const ALWAYS: Self = Self {
        start: i64::MIN,
        samples: 0,
    };

    /// The new line's share at a position.
    pub(super) fn share(self, position: i64) -> f32 {
        let into = position.saturating_sub(self.start);
        if into <= 0 {
            return 0.0;
        }
        if into >= self.samples {
            return 1.0;
        }
        let part = into as f32 / self.samples as f32;
        0.5 - 0.5 * (std::f32::consts::PI * part).cos()
    }

    /// Between two lines. A line that has nothing at the position leaves it to the other.
    pub(super) fn between(self, old: &History, new: &History, position: i64) -> Frame {
        let share = self.share(position);
        let heard = |line: &History| line.at(position);
        match (heard(old), heard(new)) {
            (None, None) => Frame::default(),
            (Some(only), None) | (None, Some(only)) => only,
            (Some(old), Some(_)) if share <= 0.0 => old,
            (Some(_), Some(new)) if share >= 1.0 => new,
            (Some([left, right]), Some([new_left, new_right])) => [
                left + (new_left - left) * share,
                right + (new_right - right) * share,
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(value: f32, from: i64, to: i64) -> History {
        let mut line = History::new(from);
        line.push(from, &vec![[value; 2]; usize::try_from(to - from).unwrap()]);
        line
    }

    #[test]
    fn the_old_line_is_whole_until_the_start_and_the_new_one_after_the_end() {
        let fade = Crossfade {
            start: 1_024,
            samples: 480,
        };
        let (old, new) = (line(100.0, 0, 4_000), line(-50.0, 0, 4_000));
        let at = |n| fade.between(&old, &new, n)[0];
        assert_eq!((at(0), at(1_024), at(1_264)), (100.0, 100.0, 25.0));
        assert_eq!((at(1_504), at(3_999)), (-50.0, -50.0));
        let steps = (1_024..1_504).map(|n| at(n) - at(n + 1));
        assert!(steps.clone().all(|step| (0.0..0.5).contains(&step)));
    }

    #[test]
    fn a_line_that_is_missing_leaves_the_place_to_the_other() {
        let fade = Crossfade {
            start: 10,
            samples: 10,
        };
        let (old, new) = (line(1.0, 5, 12), line(2.0, 0, 30));
        assert_eq!(fade.between(&old, &new, 2), [2.0; 2]);
        assert_eq!(fade.between(&old, &new, 8), [1.0; 2]);
        assert_eq!(fade.between(&old, &new, 13), [2.0; 2]);
        assert_eq!(fade.between(&old, &new, 40), [0.0; 2]);
    }
}
