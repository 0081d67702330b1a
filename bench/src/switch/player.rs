//! A viewer's player, computed from when each tag arrived. Pure.
//!
//! It plays once [`START_MS`] are buffered, in real time, and stalls when it has played all there is; then it waits for
//! [`RESUME_MS`]. What is buffered reaches as far as the shorter of picture and sound. When the stream moves to another
//! ingest, the player plays what it has of the one, and goes on with the other's first keyframe without a pause: a
//! player, and a CDN, that cannot be done better.

use std::time::{Duration, Instant};

use crate::viewer::Unit;

/// Buffered before it begins.
const START_MS: f64 = 1_000.0;
/// Buffered before it goes on after a stall.
const RESUME_MS: f64 = 500.0;
/// How long a picture and a frame of sound last.
const PICTURE_MS: f64 = 1_000.0 / 30.0;
const SOUND_MS: f64 = 1_024.0 / 48.0;
/// A distance beyond the end of a picture at which the next one is missing: half a picture.
const HOLE_MS: f64 = PICTURE_MS / 2.0;

/// A tag, and when its last byte was there.
pub(crate) type Arrival = (Instant, Unit);

/// What happened within some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Trouble {
    /// Stalls that began.
    pub(crate) stalls: u32,
    /// How long the player stood still.
    pub(crate) stalled_ms: f64,
    /// How long pictures were missing from what it played.
    pub(crate) missing_ms: f64,
}

/// How a viewing went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Viewing {
    /// When the first picture was shown.
    pub(crate) begun: Option<Instant>,
    stalls: Vec<(Instant, Instant)>,
    missing: Vec<(Instant, f64)>,
}

impl Viewing {
    /// What happened in a stretch of time.
    pub(crate) fn trouble(&self, from: Instant, length: Duration) -> Trouble {
        let until = from + length;
        let mut trouble = Trouble::default();
        for (begin, end) in &self.stalls {
            trouble.stalls += u32::from((from..until).contains(begin));
            trouble.stalled_ms += ms((*end).min(until), (*begin).max(from));
        }
        let missing = self.missing.iter();
        let missing = missing.filter(|(at, _)| (from..until).contains(at));
        trouble.missing_ms = missing.fold(0.0, |sum, (_, length)| sum + length);
        trouble
    }
}

/// Plays the streams one after the other, until `end`. Each is what arrived of it; [`from`] takes parts.
pub(crate) fn play(streams: &[Vec<Arrival>], end: Instant) -> Viewing {
    let mut viewing = Viewing::default();
    let mut growth: Vec<(Instant, f64)> = Vec::new();
    for stream in streams {
        let (more, missing) = buffered(stream);
        growth.extend(more);
        viewing.missing.extend(missing);
    }
    growth.sort_by_key(|(at, _)| *at);
    let mut total = 0.0;
    let mut played = 0.0;
    // since when it plays, or stands still; at the start it does neither
    let (mut playing, mut stalled): (Option<Instant>, Option<Instant>) = (None, None);
    for (at, more) in growth.into_iter().chain([(end, 0.0)]) {
        if at > end {
            continue;
        }
        if let Some(since) = playing {
            let dry = since + Duration::from_secs_f64(f64::max(total - played, 0.0) / 1_000.0);
            if at > dry {
                (playing, stalled, played) = (None, Some(dry), total);
            }
        }
        total += more;
        let wanted = if stalled.is_some() {
            RESUME_MS
        } else {
            START_MS
        };
        if playing.is_none() && total - played >= wanted {
            viewing
                .stalls
                .extend(stalled.take().map(|since| (since, at)));
            viewing.begun.get_or_insert(at);
            playing = Some(at);
        }
    }
    viewing.stalls.extend(stalled.map(|since| (since, end)));
    viewing
}

/// The part of a stream from the first keyframe at or after a time of its own on.
pub(crate) fn from(stream: &[Arrival], earliest_ms: f64) -> Vec<Arrival> {
    let at = |timestamp_ms: u32| f64::from(timestamp_ms) >= earliest_ms - 2.0;
    let first = stream.iter().find_map(|(_, unit)| match unit {
        Unit::Picture(picture) => {
            Some(picture.timestamp_ms).filter(|timestamp_ms| picture.keyframe && at(*timestamp_ms))
        }
        Unit::Sound { .. } => None,
    });
    let Some(first) = first else {
        return Vec::new();
    };
    let keep = |(_, unit): &&Arrival| timestamp_ms(unit) >= first;
    stream.iter().filter(keep).copied().collect()
}

/// The steps by which the playable part of a stream grows, in milliseconds, and the holes between its pictures.
#[expect(clippy::type_complexity, reason = "two lists of the same kind")]
fn buffered(stream: &[Arrival]) -> (Vec<(Instant, f64)>, Vec<(Instant, f64)>) {
    let (mut steps, mut holes) = (Vec::new(), Vec::new());
    let mut begin = None;
    let (mut picture_end, mut sound_end, mut known) = (0.0, 0.0, 0.0);
    for (at, unit) in stream {
        let time = f64::from(timestamp_ms(unit));
        match unit {
            Unit::Picture(picture) => {
                if begin.is_none() && !picture.keyframe {
                    continue;
                }
                let begin = *begin.get_or_insert(time);
                let hole = time - begin - picture_end;
                if hole > HOLE_MS {
                    holes.push((*at, hole));
                }
                picture_end = f64::max(picture_end, time - begin + PICTURE_MS);
            }
            Unit::Sound { .. } => {
                if let Some(begin) = begin {
                    sound_end = f64::max(sound_end, time - begin + SOUND_MS);
                }
            }
        }
        let playable = f64::min(picture_end, sound_end);
        if playable > known {
            steps.push((*at, playable - known));
            known = playable;
        }
    }
    (steps, holes)
}

fn timestamp_ms(unit: &Unit) -> u32 {
    match unit {
        Unit::Picture(picture) => picture.timestamp_ms,
        Unit::Sound { timestamp_ms } => *timestamp_ms,
    }
}

fn ms(later: Instant, earlier: Instant) -> f64 {
    later.saturating_duration_since(earlier).as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::viewer::Picture;

    /// Thirty pictures and fifty sounds a second, captured `from_ms..to_ms`, each `late_ms` later at the viewer.
    fn stream(zero: Instant, from_ms: u32, to_ms: u32, late_ms: u64) -> Vec<Arrival> {
        let mut units = Vec::new();
        for time in from_ms..to_ms {
            let at = zero + Duration::from_millis(u64::from(time) + late_ms);
            if time % 20 == 0 {
                units.push((at, Unit::Sound { timestamp_ms: time }));
            }
            if (time - from_ms).is_multiple_of(33) {
                let picture = Picture {
                    timestamp_ms: time,
                    keyframe: (time - from_ms).is_multiple_of(990),
                    number: 0,
                };
                units.push((at, Unit::Picture(picture)));
            }
        }
        units
    }

    fn trouble(streams: &[Vec<Arrival>], zero: Instant) -> Trouble {
        let viewing = play(streams, zero + Duration::from_secs(20));
        viewing.trouble(zero + Duration::from_secs(5), Duration::from_secs(10))
    }

    #[test]
    fn a_steady_stream_plays_after_a_second_and_never_stalls() {
        let zero = Instant::now();
        let viewing = play(
            &[stream(zero, 0, 20_000, 100)],
            zero + Duration::from_secs(20),
        );
        let begun = viewing.begun.expect("it plays") - zero;
        assert!(begun.as_millis().abs_diff(1_100) < 50, "{begun:?}");
        assert!(viewing.stalls.is_empty());
    }

    #[test]
    fn a_pause_longer_than_the_buffer_is_a_stall_until_half_a_second_is_there() {
        let zero = Instant::now();
        // the second stream begins 1.5 s later than the first ends: 1 s is in the buffer, and 0.5 s must come again
        let streams = [
            stream(zero, 0, 6_000, 100),
            stream(zero, 7_500, 20_000, 100),
        ];
        let found = trouble(&streams, zero);
        assert_eq!(found.stalls, 1);
        assert!((found.stalled_ms - 1_000.0).abs() < 60.0, "{found:?}");
        assert_eq!(found.missing_ms, 0.0);
        // and nothing when it is half as long
        let streams = [
            stream(zero, 0, 6_000, 100),
            stream(zero, 6_700, 20_000, 100),
        ];
        assert_eq!(trouble(&streams, zero), Trouble::default());
    }

    #[test]
    fn what_never_comes_back_is_a_stall_up_to_the_end_of_the_window() {
        let zero = Instant::now();
        let found = trouble(&[stream(zero, 0, 6_000, 100)], zero);
        assert_eq!(found.stalls, 1);
        assert!((found.stalled_ms - 7_900.0).abs() < 60.0, "{found:?}");
    }

    #[test]
    fn missing_pictures_are_no_stall_but_are_told() {
        let zero = Instant::now();
        let mut whole = stream(zero, 0, 20_000, 100);
        whole.retain(|(_, unit)| match unit {
            Unit::Picture(picture) => !(8_000..8_500).contains(&picture.timestamp_ms),
            Unit::Sound { .. } => true,
        });
        let found = trouble(&[whole], zero);
        assert_eq!(found.stalls, 0);
        assert!((found.missing_ms - 500.0).abs() < 40.0, "{found:?}");
    }

    #[test]
    fn a_part_begins_at_a_keyframe() {
        let zero = Instant::now();
        let part = from(&stream(zero, 0, 5_000, 0), 1_200.0);
        assert!(part.iter().all(|(_, unit)| timestamp_ms(unit) >= 1_980));
        assert!(
            matches!(part.iter().find(|(_, unit)| matches!(unit, Unit::Picture(_))),
            Some((_, Unit::Picture(picture))) if picture.keyframe && picture.timestamp_ms == 1_980)
        );
        assert!(from(&stream(zero, 0, 5_000, 0), 6_000.0).is_empty());
    }
}
