//! Wall-clock instants of the API, as RFC 3339 text in UTC with milliseconds.
//!
//! Media time never appears here; this is for people and plots. The clock is read by the caller.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Invalid;

const MS_PER_DAY: u64 = 86_400_000;
/// The first instant with a five-digit year, which RFC 3339 cannot write.
const END_MS: u64 = 253_402_300_800_000;

/// Milliseconds since 1970-01-01T00:00:00Z, written as RFC 3339.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.000Z")]
pub struct WallTime(u64);

impl WallTime {
    /// From milliseconds since the Unix epoch; instants after the year 9999 saturate.
    pub fn from_unix_ms(ms: u64) -> Self {
        Self(ms.min(END_MS - 1))
    }

    /// From a system time; instants before 1970 become 1970.
    pub fn from_system(at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_ms(self) -> u64 {
        self.0
    }
}

/// Days since 1970-01-01 to (year, month, day) in the proleptic Gregorian calendar.
///
/// Years are counted from 1 March so that the leap day is the last of the year; an era is 400 years.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// The inverse of [`civil`]; `None` before 1970.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 {
        year.checked_sub(1)?
    } else {
        year
    };
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let (era, year_of_era) = (year / 400, year % 400);
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    (era * 146_097 + of_era).checked_sub(719_468)
}

impl std::fmt::Display for WallTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month, day) = civil(self.0 / MS_PER_DAY);
        let ms = self.0 % MS_PER_DAY;
        let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z",
            ms % 1_000
        )
    }
}

impl From<WallTime> for String {
    fn from(at: WallTime) -> String {
        at.to_string()
    }
}

impl TryFrom<String> for WallTime {
    type Error = Invalid;

    /// Reads what this type writes, and nothing else: UTC with three digits of milliseconds.
    fn try_from(text: String) -> Result<Self, Invalid> {
        let field = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
        let read = || {
            let day = days(
                field(0..4)?,
                field(5..7)?.clamp(1, 12),
                field(8..10)?.clamp(1, 31),
            )?;
            let ms = (field(11..13)? * 60 + field(14..16)?) * 60_000 + field(17..19)? * 1_000;
            Some(Self::from_unix_ms(day * MS_PER_DAY + ms + field(20..23)?))
        };
        read()
            .filter(|at| at.to_string() == text)
            .ok_or_else(|| Invalid::new("time", "must look like 2026-01-31T12:00:00.000Z"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_795_224_144_001, "2026-11-21T01:22:24.001Z"),
            (END_MS - 1, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(WallTime::from_unix_ms(ms).to_string(), text);
        }
        assert_eq!(WallTime::from_unix_ms(u64::MAX).unix_ms(), END_MS - 1);
        assert!(WallTime::try_from("2026-02-30T00:00:00.000Z".to_owned()).is_err());
    }

    proptest! {
        #[test]
        fn text_round_trips(ms in 0..END_MS) {
            let at = WallTime::from_unix_ms(ms);
            prop_assert_eq!(WallTime::try_from(at.to_string()).unwrap(), at);
        }

        #[test]
        fn reading_is_total(text in ".{0,30}") {
            let _ = WallTime::try_from(text);
        }
    }
}
