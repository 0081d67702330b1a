//! The media playlist. Source: RFC 8216 §4.3.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the playlist says about one segment.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) uri: String,
    pub(crate) init_uri: String,
    pub(crate) duration: Duration,
    pub(crate) begins_at: SystemTime,
    /// What follows does not continue what came before.
    pub(crate) discontinuity: bool,
}

/// The numbers of the playlist as a whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) target_s: u64,
    pub(crate) media_sequence: u64,
    pub(crate) discontinuity_sequence: u64,
    pub(crate) ended: bool,
}

/// The text; `suffix` (a query) is appended to every URI.
pub(crate) fn render<'a>(
    head: Head,
    items: impl Iterator<Item = &'a Item>,
    suffix: &str,
) -> String {
    let mut text = format!(
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{}\n\
         #EXT-X-DISCONTINUITY-SEQUENCE:{}\n#EXT-X-INDEPENDENT-SEGMENTS\n",
        head.target_s, head.media_sequence, head.discontinuity_sequence
    );
    let mut init: Option<&str> = None;
    for item in items {
        if item.discontinuity {
            text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        // Writing to a string cannot fail.
        if init != Some(item.init_uri.as_str()) {
            let _ = writeln!(text, "#EXT-X-MAP:URI=\"{}{suffix}\"", item.init_uri);
            init = Some(&item.init_uri);
        }
        let _ = write!(
            text,
            "#EXT-X-PROGRAM-DATE-TIME:{}\n#EXTINF:{:.3},\n{}{suffix}\n",
            rfc3339(item.begins_at),
            item.duration.as_secs_f64(),
            item.uri
        );
    }
    if head.ended {
        text.push_str("#EXT-X-ENDLIST\n");
    }
    text
}

/// A UTC time with milliseconds, RFC 3339.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let of_day = seconds % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        of_day / 3_600,
        of_day / 60 % 60,
        of_day % 60,
        since.subsec_millis()
    )
}

/// Year, month and day of a count of days since 1970-01-01, by counting in 400-year eras that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, ms: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(ms)
    }

    #[test]
    fn dates() {
        assert_eq!(rfc3339(at(0, 0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(at(951_782_400, 7)), "2000-02-29T00:00:00.007Z");
        assert_eq!(rfc3339(at(1_798_761_599, 999)), "2026-12-31T23:59:59.999Z");
    }

    #[test]
    fn a_discontinuity_brings_its_map() {
        let item = |uri: &str, init: &str, discontinuity| Item {
            uri: uri.to_owned(),
            init_uri: init.to_owned(),
            duration: Duration::from_millis(2_000),
            begins_at: at(0, 0),
            discontinuity,
        };
        let items = [item("1.m4s", "a.mp4", false), item("2.m4s", "b.mp4", true)];
        let head = Head {
            target_s: 2,
            media_sequence: 1,
            discontinuity_sequence: 0,
            ended: true,
        };
        let text = render(head, items.iter(), "?token=x");
        let lines: Vec<&str> = text.lines().skip(6).collect();
        let date = "#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:00.000Z";
        assert_eq!(
            lines,
            [
                "#EXT-X-MAP:URI=\"a.mp4?token=x\"",
                date,
                "#EXTINF:2.000,",
                "1.m4s?token=x",
                "#EXT-X-DISCONTINUITY",
                "#EXT-X-MAP:URI=\"b.mp4?token=x\"",
                date,
                "#EXTINF:2.000,",
                "2.m4s?token=x",
                "#EXT-X-ENDLIST"
            ]
        );
    }
}
