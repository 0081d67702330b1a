//! The minimum of what was seen in the last seconds, in constant space.

use std::collections::VecDeque;

/// Width of one bucket and length of the window, in nanoseconds. Clock skew makes the minimum lag by
/// window × skew: 4 ms at 200 ppm, the same for all tracks.
const BUCKET: i64 = 1_000_000_000;
const BUCKETS: i64 = 20;

/// A sliding minimum over [`BUCKETS`] seconds; holds one value per second at most.
#[derive(Clone, Debug, Default)]
pub(crate) struct WindowedMinimum {
    /// Bucket and value, both strictly increasing from front to back.
    candidates: VecDeque<(i64, i64)>,
}

impl WindowedMinimum {
    /// Adds a value seen at `at` (nanoseconds, not decreasing but for reordering).
    pub(crate) fn add(&mut self, at: i64, value: i64) {
        let newest = self
            .candidates
            .back()
            .map_or(i64::MIN, |(bucket, _)| *bucket);
        let bucket = at.div_euclid(BUCKET).max(newest);
        while self
            .candidates
            .back()
            .is_some_and(|(_, held)| *held >= value)
        {
            self.candidates.pop_back();
        }
        if self
            .candidates
            .back()
            .is_none_or(|(held, _)| *held < bucket)
        {
            self.candidates.push_back((bucket, value));
        }
        while self
            .candidates
            .front()
            .is_some_and(|(held, _)| *held <= bucket - BUCKETS)
        {
            self.candidates.pop_front();
        }
    }

    /// The minimum; `None` when nothing was added.
    pub(crate) fn get(&self) -> Option<i64> {
        self.candidates.front().map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_the_definition(values in proptest::collection::vec((0_i64..3_000_000_000, -1_000_i64..1_000), 1..200)) {
            let mut minimum = WindowedMinimum::default();
            let mut all = Vec::new();
            let mut at = 0;
            for (step, value) in values {
                at += step;
                minimum.add(at, value);
                all.push((at.div_euclid(BUCKET), value));
                let newest = at.div_euclid(BUCKET);
                let expected = all.iter().filter(|(bucket, _)| *bucket > newest - BUCKETS).map(|(_, value)| *value).min();
                prop_assert_eq!(minimum.get(), expected);
                prop_assert!(minimum.candidates.len() <= 21);
            }
        }
    }
}
