//! The one timeline of a stream that outlives its publishers.
//!
//! Publishers bring RTMP timestamps: 32 bits of milliseconds that start anywhere. The first publisher's timeline is
//! kept as it is. A publisher that comes back and carries on is kept too; one that starts again (or jumps) is moved
//! by one constant for both tracks, so that its A/V offset survives, to just after what viewers have seen.
//!
//! Invariant: per track, placed times strictly increase.

use std::time::Instant;

use media::time::unwrap_u32;

/// Where a restarted publisher continues after the newest tag: about one picture.
const REBASE_STEP_MS: i64 = 40;
/// A returning publisher may start this much before the newest tag of the other track and still "carry on".
const RESUME_SLACK_MS: i64 = 200;
/// A publisher may step back this far (interleaving, jitter) without being moved.
const BACKWARD_SLACK_MS: i64 = 1_000;
/// A publisher may jump ahead this far beyond the time that has passed without being moved.
const FORWARD_SLACK_MS: i64 = 10_000;

/// The tracks that have a place in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Audio,
    Video,
}

/// A time on the viewers' timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) dts_ms: i64,
    /// The publisher's timeline was moved: what follows does not continue what came before.
    pub(crate) rebased: bool,
    /// This one timestamp was moved to keep the track increasing.
    pub(crate) corrected: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Timeline {
    offset_ms: i64,
    raw_ms: Option<i64>,
    audio_ms: Option<i64>,
    video_ms: Option<i64>,
    last_at: Option<Instant>,
}

impl Timeline {
    /// The newest time of a track.
    pub(crate) fn newest(&self, lane: Lane) -> Option<i64> {
        match lane {
            Lane::Audio => self.audio_ms,
            Lane::Video => self.video_ms,
        }
    }

    /// Another publisher comes: its first timestamp decides whether it carries on.
    pub(crate) fn restart(&mut self) {
        self.raw_ms = None;
    }

    /// Places a timestamp of a track.
    pub(crate) fn place(&mut self, now: Instant, lane: Lane, timestamp_ms: u32) -> Placed {
        let newest = self.audio_ms.max(self.video_ms);
        let first = self.raw_ms.is_none();
        let near = self
            .raw_ms
            .or_else(|| newest.map(|newest| newest - self.offset_ms));
        let raw = unwrap_u32(near, timestamp_ms);
        let mut rebased = false;
        if let Some(newest) = newest {
            let ahead = raw + self.offset_ms - newest;
            let slack = if first {
                RESUME_SLACK_MS
            } else {
                BACKWARD_SLACK_MS
            };
            if ahead < -slack || ahead > self.elapsed_ms(now) + FORWARD_SLACK_MS {
                self.offset_ms = newest + REBASE_STEP_MS - raw;
                rebased = true;
            }
        }
        self.raw_ms = Some(raw);
        self.last_at = Some(now);
        let wanted = raw + self.offset_ms;
        let last = match lane {
            Lane::Audio => &mut self.audio_ms,
            Lane::Video => &mut self.video_ms,
        };
        let dts_ms = last.map_or(wanted, |last| wanted.max(last + 1));
        *last = Some(dts_ms);
        Placed {
            dts_ms,
            rebased,
            corrected: dts_ms != wanted,
        }
    }

    fn elapsed_ms(&self, now: Instant) -> i64 {
        let elapsed = self
            .last_at
            .map(|last| now.saturating_duration_since(last).as_millis());
        i64::try_from(elapsed.unwrap_or_default()).unwrap_or(i64::MAX / 4)
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests need some instant to start from"
)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_first_publisher_keeps_its_time() {
        let (now, mut timeline) = (Instant::now(), Timeline::default());
        assert_eq!(timeline.place(now, Lane::Video, 5_000).dts_ms, 5_000);
        assert_eq!(timeline.place(now, Lane::Audio, 4_990).dts_ms, 4_990);
    }

    #[test]
    fn a_publisher_that_carries_on_is_not_moved() {
        let (now, mut timeline) = (Instant::now(), Timeline::default());
        timeline.place(now, Lane::Video, 60_000);
        timeline.restart();
        let placed = timeline.place(now + ms(4_000), Lane::Video, 64_000);
        assert_eq!((placed.dts_ms, placed.rebased), (64_000, false));
    }

    #[test]
    fn a_publisher_that_starts_again_is_moved_with_its_av_offset() {
        let (now, mut timeline) = (Instant::now(), Timeline::default());
        timeline.place(now, Lane::Video, 60_000);
        timeline.place(now, Lane::Audio, 60_010);
        timeline.restart();
        let video = timeline.place(now + ms(4_000), Lane::Video, 0);
        let audio = timeline.place(now + ms(4_000), Lane::Audio, 7);
        assert_eq!((video.dts_ms, video.rebased), (60_050, true));
        assert_eq!((audio.dts_ms, audio.rebased), (60_057, false));
    }

    #[test]
    fn time_goes_on_past_32_bits_also_over_a_restart() {
        let (now, mut timeline) = (Instant::now(), Timeline::default());
        timeline.place(now, Lane::Video, u32::MAX - 10);
        assert_eq!(timeline.place(now, Lane::Video, 9).dts_ms, (1 << 32) + 9);
        timeline.restart();
        let placed = timeline.place(now + ms(1_000), Lane::Video, 1_009);
        assert_eq!((placed.dts_ms, placed.rebased), ((1 << 32) + 1_009, false));
    }

    proptest! {
        #[test]
        fn every_track_increases_whatever_comes(
            steps in proptest::collection::vec((any::<bool>(), prop_oneof![any::<u32>(), 0..5_000u32], any::<bool>()), 1..200),
        ) {
            let (mut now, mut timeline) = (Instant::now(), Timeline::default());
            for (video, timestamp_ms, restart) in steps {
                now += ms(10);
                let lane = if video { Lane::Video } else { Lane::Audio };
                if restart {
                    timeline.restart();
                }
                let before = timeline.newest(lane);
                let placed = timeline.place(now, lane, timestamp_ms);
                prop_assert!(before.is_none_or(|before| placed.dts_ms > before));
            }
        }
    }
}
