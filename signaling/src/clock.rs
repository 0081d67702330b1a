//! The only place of this crate that reads clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::types::WallTime;

#[expect(
    clippy::disallowed_methods,
    reason = "the shell's clock, passed into the decisions"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the shell's wall clock, passed into the decisions"
)]
fn system_now() -> SystemTime {
    SystemTime::now()
}

pub(crate) fn unix_now_s() -> u64 {
    system_now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

pub(crate) fn wall_now() -> WallTime {
    WallTime::from_system(system_now())
}
