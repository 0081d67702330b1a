//! The only place where the origin reads clocks; the machines get the time passed in.

use std::time::{Instant, SystemTime};

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
