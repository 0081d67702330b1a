//! The only place where this crate reads clocks; the machines get the time passed in.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[expect(
    clippy::disallowed_methods,
    reason = "the shell's clock, passed into the machines"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970, for tickets and passes.
#[expect(
    clippy::disallowed_methods,
    reason = "the wall clock for expiry, passed into the machines"
)]
pub(crate) fn wall_s() -> u32 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}
