//! Whether a mapping of clocks is to be moved: not for every error, and then all the way.

/// A mapping stands still while it is off by no more than this, in nanoseconds.
pub(crate) const DEAD_BAND: i64 = 20_000_000;
/// Moving ends when it is this close.
const REACHED: i64 = 2_000_000;

/// What is remembered of one mapping.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DeadBand {
    moving: bool,
}

impl DeadBand {
    /// Whether a mapping that is off by `error` nanoseconds moves now.
    pub(crate) fn moves(&mut self, error: i64) -> bool {
        let off = error.saturating_abs();
        self.moving = off > DEAD_BAND || self.moving && off > REACHED;
        self.moving
    }
}
