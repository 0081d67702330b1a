//! Time as integer ticks of a named rate, so that no rounding happens by accident.
//!
//! A [`Timestamp`] is compared, added and subtracted exactly; only [`Timestamp::rescale`] rounds (to nearest,
//! halves away from zero). Arithmetic is checked: overflow is `None`, never a wrap.

use std::cmp::Ordering;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// Ticks per second of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rate(NonZeroU32);

impl Rate {
    /// Milliseconds: FLV and RTMP.
    pub const MILLIS: Self = Self::of(1_000);
    /// 90 kHz: video over RTP (RFC 6184 §8.2.1), MPEG-TS and fMP4.
    pub const VIDEO: Self = Self::of(90_000);
    /// 48 kHz: Opus over RTP (RFC 7587 §4.1) and the program's audio.
    pub const AUDIO: Self = Self::of(48_000);
    /// Nanoseconds: capture times on the anchor's clock.
    pub const NANOS: Self = Self::of(1_000_000_000);

    const fn of(hz: u32) -> Self {
        match NonZeroU32::new(hz) {
            Some(hz) => Self(hz),
            None => Self(NonZeroU32::MIN),
        }
    }

    /// A rate of `hz` ticks per second; `None` when zero.
    #[must_use]
    pub fn new(hz: u32) -> Option<Self> {
        NonZeroU32::new(hz).map(Self)
    }

    /// Ticks per second.
    #[must_use]
    pub fn hz(self) -> u32 {
        self.0.get()
    }
}

/// The value that is `wrapped` modulo 2³² and nearest to `near`: how the 32-bit timestamps of RTP and RTMP go on for ever.
/// Of two that are as near, the earlier.
#[must_use]
pub fn unwrap_u32(near: Option<i64>, wrapped: u32) -> i64 {
    let Some(near) = near else {
        return i64::from(wrapped);
    };
    let [.., a, b, c, d] = near.to_be_bytes();
    let ahead = wrapped.wrapping_sub(u32::from_be_bytes([a, b, c, d]));
    near.saturating_add(i64::from(ahead.cast_signed()))
}

/// A point (or a distance) in time: `ticks / rate` seconds.
///
/// Equality and order are by value: 1 s at 1 kHz equals 1 s at 90 kHz.
#[derive(Clone, Copy, Debug)]
pub struct Timestamp {
    ticks: i64,
    rate: Rate,
}

impl Timestamp {
    /// `ticks / rate` seconds.
    #[must_use]
    pub const fn new(ticks: i64, rate: Rate) -> Self {
        Self { ticks, rate }
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self::new(nanos, Rate::NANOS)
    }

    /// Milliseconds since the origin.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self::new(millis, Rate::MILLIS)
    }

    /// The count of ticks.
    #[must_use]
    pub const fn ticks(self) -> i64 {
        self.ticks
    }

    /// Ticks per second.
    #[must_use]
    pub const fn rate(self) -> Rate {
        self.rate
    }

    /// The nearest tick of another rate, halves away from zero, saturating at the ends of `i64`.
    #[must_use]
    pub fn rescale(self, rate: Rate) -> Self {
        let (from, to) = (i128::from(self.rate.hz()), i128::from(rate.hz()));
        let scaled = i128::from(self.ticks) * to;
        let half = if scaled < 0 { -(from / 2) } else { from / 2 };
        let ticks = ((scaled + half) / from).clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        Self::new(i64::try_from(ticks).unwrap_or(i64::MAX), rate)
    }

    /// Nanoseconds, rounded to nearest.
    #[must_use]
    pub fn as_nanos(self) -> i64 {
        self.rescale(Rate::NANOS).ticks
    }

    /// Milliseconds, rounded to nearest.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.rescale(Rate::MILLIS).ticks
    }

    /// The sum at this timestamp's rate; `other` is rescaled first. `None` on overflow.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let ticks = self.ticks.checked_add(other.rescale(self.rate).ticks)?;
        Some(Self::new(ticks, self.rate))
    }

    /// The difference at this timestamp's rate; `other` is rescaled first. `None` on overflow.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        let ticks = self.ticks.checked_sub(other.rescale(self.rate).ticks)?;
        Some(Self::new(ticks, self.rate))
    }
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Timestamp {}
impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> Ordering {
        let left = i128::from(self.ticks) * i128::from(other.rate.hz());
        let right = i128::from(other.ticks) * i128::from(self.rate.hz());
        left.cmp(&right)
    }
}

/// The anchor's clock: the agreement between [`Instant`] and capture [`Timestamp`]s.
///
/// It never reads a clock; it only converts. Origin and instants come from the shell.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose timestamp zero is `origin`.
    #[must_use]
    pub const fn new(origin: Instant) -> Self {
        Self { origin }
    }

    /// Nanoseconds from the origin to `at`; negative before it.
    #[must_use]
    pub fn timestamp(&self, at: Instant) -> Timestamp {
        let nanos = match at.checked_duration_since(self.origin) {
            Some(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            None => {
                i64::try_from(self.origin.duration_since(at).as_nanos()).map_or(i64::MIN, |n| -n)
            }
        };
        Timestamp::from_nanos(nanos)
    }

    /// The instant of a timestamp. Timestamps before what the platform can express become the origin.
    #[must_use]
    pub fn instant(&self, at: Timestamp) -> Instant {
        let nanos = at.as_nanos();
        let distance = Duration::from_nanos(nanos.unsigned_abs());
        let moved = if nanos < 0 {
            self.origin.checked_sub(distance)
        } else {
            self.origin.checked_add(distance)
        };
        moved.unwrap_or(self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equality_is_by_value() {
        assert_eq!(
            Timestamp::from_millis(1_000),
            Timestamp::new(90_000, Rate::VIDEO)
        );
        assert!(Timestamp::new(90_001, Rate::VIDEO) > Timestamp::from_millis(1_000));
    }

    #[test]
    fn rescale_rounds_to_nearest_away_from_zero() {
        let aac_frame = Timestamp::new(1024, Rate::AUDIO);
        assert_eq!(aac_frame.as_millis(), 21);
        assert_eq!(Timestamp::new(3 * 1024, Rate::AUDIO).as_millis(), 64);
        assert_eq!(Timestamp::new(-45, Rate::VIDEO).as_millis(), -1);
        assert_eq!(Timestamp::new(45, Rate::VIDEO).as_millis(), 1);
    }

    #[test]
    fn overflow_is_none() {
        let end = Timestamp::from_nanos(i64::MAX);
        assert!(end.checked_add(Timestamp::from_nanos(1)).is_none());
        assert!(
            Timestamp::from_nanos(i64::MIN)
                .checked_sub(Timestamp::from_nanos(1))
                .is_none()
        );
    }

    proptest! {
        #[test]
        fn clock_round_trips(nanos in -1_000_000_000_000i64..1_000_000_000_000_000) {
            // A real instant is needed as origin; its value does not matter.
            #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
            let origin = Instant::now() + Duration::from_secs(100_000);
            let clock = Clock::new(origin);
            let at = Timestamp::from_nanos(nanos);
            prop_assert_eq!(clock.timestamp(clock.instant(at)), at);
        }

        #[test]
        fn time_that_wraps_goes_on(near in any::<i64>(), step in -(1i64 << 31)..1 << 31) {
            let next = near.saturating_add(step);
            let [.., a, b, c, d] = next.to_be_bytes();
            prop_assert_eq!(unwrap_u32(Some(near), u32::from_be_bytes([a, b, c, d])), next);
        }

        #[test]
        fn order_agrees_with_subtraction(a in any::<i32>(), b in any::<i32>()) {
            let (a, b) = (Timestamp::new(a.into(), Rate::VIDEO), Timestamp::new(b.into(), Rate::VIDEO));
            let difference = a.checked_sub(b).expect("in range").ticks();
            prop_assert_eq!(a.cmp(&b), difference.cmp(&0));
        }
    }
}
