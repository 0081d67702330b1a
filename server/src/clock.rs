//! The one place where the server reads clocks; everything else gets times passed in.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use media::{Clock, Timestamp};

/// The monotonic clock.
#[expect(
    clippy::disallowed_methods,
    reason = "this is where shells get their `now` from"
)]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock, in milliseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "this is where shells get their wall time from"
)]
#[must_use]
pub fn wall_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Where the wall-clock time `wall_ms` lies on the anchor's clock; before the process started it is negative.
///
/// This is how a channel's epoch survives a restart: it is stored as wall-clock time.
#[must_use]
pub fn wall_to_anchor(clock: Clock, wall: u64, now: Instant, wall_now: u64) -> Timestamp {
    let ago_ms = i64::try_from(wall_now)
        .unwrap_or(i64::MAX)
        .saturating_sub(i64::try_from(wall).unwrap_or(i64::MAX));
    let at = clock.timestamp(now);
    at.checked_sub(Timestamp::from_millis(ago_ms)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_before_the_start_is_negative() {
        let start = now();
        let clock = Clock::new(start);
        let epoch = wall_to_anchor(clock, 1_000, start + Duration::from_secs(5), 61_000);
        assert_eq!(epoch.as_millis(), 5_000 - 60_000);
    }
}
