//! Whether everything comes on one side of its time, for how long, and by how much at least.

/// Sound that comes later than this behind its capture time is hardly heard: the program waits for 300 ms by default, and
/// encodes 64 ms ahead. In nanoseconds.
pub(crate) const LATE: i64 = 200_000_000;

/// Which side of its time something came on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Too early.
    Early,
    /// Too late.
    Late,
}

/// What is remembered of one mapping.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Astray {
    /// The side, since when, and the least delay since.
    held: Option<(Side, i64, i64)>,
}

impl Astray {
    /// Something arrived `at`, on `side` or about in time; `delay` is its arrival less its time at the source. When all has
    /// been on that side for `patience`, gives the least delay of it, and begins anew. All in nanoseconds.
    pub(crate) fn note(
        &mut self,
        at: i64,
        side: Option<Side>,
        delay: i64,
        patience: i64,
    ) -> Option<i64> {
        let Some(side) = side else {
            self.held = None;
            return None;
        };
        let held = self.held.filter(|(held, ..)| *held == side);
        let (_, since, least) = held.unwrap_or((side, at, delay));
        let least = least.min(delay);
        let is_over = at.saturating_sub(since) >= patience;
        self.held = (!is_over).then_some((side, since, least));
        is_over.then_some(least)
    }
}
