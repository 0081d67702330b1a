//! The only place where the origin reads clocks; the machines get the time passed in.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[expect(
    clippy::disallowed_methods,
    reason = "the shell's clock, passed into the machines"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the wall clock for EXT-X-PROGRAM-DATE-TIME, passed into the machines"
)]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// Seconds since 1970, for tickets.
pub(crate) fn wall_s() -> u32 {
    let since = wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}
