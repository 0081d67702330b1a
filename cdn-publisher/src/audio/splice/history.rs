//! The last sound of one line, by its place on the output timeline.
//!
//! Bound: [`MAX_SAMPLES`]; what is oldest goes first.

use std::collections::VecDeque;

use crate::audio::codec::Frame;

/// Two seconds at 48 kHz and more than priming looks back.
pub(super) const MAX_SAMPLES: usize = 96_000;

/// A contiguous stretch of sound.
#[derive(Debug)]
pub(super) struct History {
    frames: VecDeque<Frame>,
    /// Position behind the last frame.
    end: i64,
}

impl History {
    pub(super) fn new(end: i64) -> Self {
        Self {
            frames: VecDeque::new(),
            end,
        }
    }

    pub(super) fn start(&self) -> i64 {
        self.end - i64::try_from(self.frames.len()).unwrap_or_default()
    }

    pub(super) fn end(&self) -> i64 {
        self.end
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether all of `from..to` is there.
    pub(super) fn covers(&self, from: i64, to: i64) -> bool {
        self.start() <= from && to <= self.end
    }

    /// Appends sound at position `at`. A gap before it ends the stretch that was there.
    pub(super) fn push(&mut self, at: i64, frames: &[Frame]) {
        if frames.is_empty() {
            return;
        }
        if at != self.end {
            self.frames.clear();
            self.end = at;
        }
        self.frames.extend(frames);
        self.end += i64::try_from(frames.len()).unwrap_or_default();
        let excess = self.frames.len().saturating_sub(MAX_SAMPLES);
        self.frames.drain(..excess);
    }

    /// Forgets what lies before `position`.
    pub(super) fn forget_before(&mut self, position: i64) {
        let gone = usize::try_from(position - self.start()).unwrap_or_default();
        self.frames.drain(..gone.min(self.frames.len()));
    }

    pub(super) fn at(&self, position: i64) -> Option<Frame> {
        let index = usize::try_from(position - self.start()).ok()?;
        self.frames.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_gap_starts_anew() {
        let mut history = History::new(100);
        history.push(100, &[[1.0; 2]; 10]);
        assert!(history.covers(100, 110));
        history.push(120, &[[2.0; 2]; 5]);
        assert!(history.covers(120, 125) && !history.covers(119, 125));
        assert_eq!((history.at(119), history.at(120)), (None, Some([2.0; 2])));
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_every_frame_keeps_its_place(pieces in proptest::collection::vec((0i64..3, 0usize..20_000), 1..40)) {
            let mut history = History::new(0);
            let mut at = 0;
            for (gap, length) in pieces {
                at += gap;
                let frames: Vec<Frame> = (0..length).map(|n| [(at + n as i64) as f32; 2]).collect();
                history.push(at, &frames);
                at += length as i64;
                prop_assert!(history.end() - history.start() <= MAX_SAMPLES as i64);
                if length > 0 {
                    prop_assert_eq!(history.at(at - 1), Some([(at - 1) as f32; 2]));
                    prop_assert_eq!(history.at(history.start()), Some([history.start() as f32; 2]));
                }
                history.forget_before(at - 30_000);
            }
        }
    }
}
