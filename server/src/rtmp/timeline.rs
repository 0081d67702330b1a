//! RTMP time on the anchor's clock. Sans-IO.
//!
//! A publisher's timestamps are milliseconds of one clock for picture and sound, modulo 2³², with any beginning.
//! `capture time = RTMP time + offset`, with **one** offset for both tracks, so that their distance is the sender's:
//!
//! - It is the minimum of (arrival − RTMP time) over the first [`SETTLE_NS`], for which units wait; but no unit was captured
//!   before its publisher was let in. So a sender that begins with a burst is *ahead*: its units come early, none is
//!   lost, and it stays so.
//! - Then it stands still. TCP delays whole bursts; they are late, and their samples are where they were.
//! - When the minimum of the last 20 s, but for that lead, has strayed by more than a [`DeadBand`] (a clock that is fast or slow, another way
//!   through the network), the offset is slewed towards it by at most [`SLEW_PPM`], which a resampler can follow.
//! - When everything has come late for [`LATE_FOR_NS`], it is set anew: nothing would be heard any more.
//! - A *break* of the sender's timeline sets it anew too: time that steps back by more than a second, that is
//!   [`MAX_LEAD_NS`] ahead of its arrival or [`MAX_LATE_NS`] behind it.

use media::time::unwrap_u32;

use crate::sfu::{Astray, DeadBand, LATE, Side, WindowedMinimum};

/// How long units wait before the first capture time is given.
pub(super) const SETTLE_NS: i64 = 150_000_000;
/// The fastest slew, in millionths.
pub(super) const SLEW_PPM: i64 = 500;
/// A step back in time beyond this is another timeline.
const MAX_STEP_BACK_MS: i64 = 1_000;
/// A burst that begins has come after so long.
const BURST_NS: i64 = 5_000_000_000;
/// A unit may be this far ahead of its arrival: some senders begin with a burst.
pub(super) const MAX_LEAD_NS: i64 = 1_500_000_000;
/// A unit may come this late: no connection is silent for longer.
pub(super) const MAX_LATE_NS: i64 = 10_000_000_000;
/// For how long everything may be late: TCP holds up whole bursts.
const LATE_FOR_NS: i64 = 3_000_000_000;
const MS: i64 = 1_000_000;

/// What a timestamp has done to the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing to speak of.
    None,
    /// The same pictures and sounds go on, elsewhere on the anchor's clock.
    Moved,
    /// What follows has nothing to do with what came before.
    Break,
}

/// The two tracks of a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// Decoding times of pictures.
    Video,
    /// Times of sound.
    Audio,
}

/// One publisher's clock.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// When the publisher was let in.
    accepted_ns: Option<i64>,
    /// The earliest timestamp while it settles.
    first_ms: Option<i64>,
    /// How far ahead of their arrivals units are by the sender's burst.
    lead_ns: i64,
    /// The newest timestamp, unwrapped, of either track and of each.
    newest_ms: Option<i64>,
    video_ms: Option<i64>,
    audio_ms: Option<i64>,
    offset_ns: Option<i64>,
    minimum: WindowedMinimum,
    /// Arrival of the first unit: the settling begins there.
    since_ns: Option<i64>,
    astray: Astray,
    dead_band: DeadBand,
    slewed_at_ms: i64,
}

impl Timeline {
    /// For a publisher who was let in at `accepted_ns` on the anchor's clock.
    pub(super) fn new(accepted_ns: i64) -> Self {
        Self {
            accepted_ns: Some(accepted_ns),
            ..Self::default()
        }
    }

    /// Takes a timestamp that arrived at `now_ns` on the anchor's clock; gives it unwrapped, and what it changes.
    pub(super) fn note(&mut self, now_ns: i64, media: Media, timestamp_ms: u32) -> (i64, Change) {
        let ms = unwrap_u32(self.newest_ms, timestamp_ms);
        self.newest_ms = Some(ms);
        let track = match media {
            Media::Video => &mut self.video_ms,
            Media::Audio => &mut self.audio_ms,
        };
        let steps_back = track.is_some_and(|last| ms < last.saturating_sub(MAX_STEP_BACK_MS));
        *track = Some(ms);
        let delay = now_ns.saturating_sub(ms.saturating_mul(MS));
        let since = *self.since_ns.get_or_insert(now_ns);
        let held = self.offset_ns.or(self.minimum.get());
        let is_far = held.is_some_and(|offset| {
            let late = delay.saturating_sub(offset);
            !(-MAX_LEAD_NS..=MAX_LATE_NS).contains(&late)
        });
        if steps_back || is_far {
            self.restart(now_ns, ms, delay);
            return (ms, Change::Break);
        }
        self.minimum.add(now_ns, delay);
        let Some(offset) = self.offset_ns else {
            self.first_ms = Some(self.first_ms.map_or(ms, |first| first.min(ms)));
            if now_ns.saturating_sub(since) >= SETTLE_NS {
                self.settle();
            }
            return (ms, Change::None);
        };
        if self.is_always_late(now_ns, delay, offset) {
            return (ms, Change::Moved);
        }
        if now_ns.saturating_sub(since) < BURST_NS {
            self.lead_ns = self.lead_ns.max(offset.saturating_sub(delay));
        }
        self.slew(ms, offset);
        (ms, Change::None)
    }

    /// Notes how late a unit is; sets the offset anew when all have been for long.
    fn is_always_late(&mut self, now_ns: i64, delay: i64, offset: i64) -> bool {
        let late = (delay.saturating_sub(offset) > LATE).then_some(Side::Late);
        let Some(least) = self.astray.note(now_ns, late, delay, LATE_FOR_NS) else {
            return false;
        };
        self.offset_ns = Some(least);
        self.minimum = WindowedMinimum::default();
        self.minimum.add(now_ns, least);
        self.lead_ns = 0;
        true
    }

    /// What is to be added to RTMP time, in nanoseconds; `None` while it settles.
    pub(super) fn offset_ns(&self) -> Option<i64> {
        self.offset_ns
    }

    /// Settles now, by what has been seen.
    pub(super) fn settle(&mut self) {
        if self.offset_ns.is_none() {
            let first = self.accepted_ns.zip(self.first_ms);
            let earliest =
                first.map(|(accepted, ms)| accepted.saturating_sub(ms.saturating_mul(MS)));
            self.offset_ns = self.minimum.get().max(earliest);
            let lead = self.offset_ns.zip(self.minimum.get());
            self.lead_ns = lead.map_or(0, |(offset, minimum)| offset.saturating_sub(minimum));
            self.slewed_at_ms = self.newest_ms.unwrap_or_default();
        }
    }

    fn restart(&mut self, now_ns: i64, ms: i64, delay: i64) {
        *self = Self {
            newest_ms: Some(ms),
            offset_ns: Some(delay),
            since_ns: Some(now_ns),
            slewed_at_ms: ms,
            ..Self::default()
        };
        self.minimum.add(now_ns, delay);
    }

    fn slew(&mut self, ms: i64, offset: i64) {
        let passed = ms.saturating_sub(self.slewed_at_ms);
        if passed <= 0 {
            return;
        }
        self.slewed_at_ms = ms;
        let Some(target) = self.minimum.get() else {
            return;
        };
        let error = target.saturating_add(self.lead_ns).saturating_sub(offset);
        if self.dead_band.moves(error) {
            // After a gap there is a long way to go, but nobody has waited for it.
            let most = passed.min(1_000).saturating_mul(SLEW_PPM);
            self.offset_ns = Some(offset.saturating_add(error.clamp(-most, most)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sfu::DEAD_BAND;

    /// A sender whose clock runs `ppm` fast, through a network with this jitter; the offsets that were used.
    fn run(seconds: i64, ppm: i64, jitter_ms: impl Fn(i64) -> i64) -> Vec<(i64, i64)> {
        let mut timeline = Timeline::default();
        let mut used = Vec::new();
        for n in 0..seconds * 50 {
            let sent = n * 20 * MS;
            let ms = 5_000 + (sent + sent / 1_000_000 * ppm) / MS;
            let now = 7_000_000_000 + sent + jitter_ms(n) * MS;
            let (ms, change) =
                timeline.note(now, Media::Audio, u32::try_from(ms).expect("in range"));
            assert_eq!(change, Change::None, "at {n}");
            used.extend(timeline.offset_ns().map(|offset| (ms, offset)));
        }
        used
    }

    #[test]
    fn it_settles_on_the_earliest_and_stands_still() {
        let used = run(60, 0, |n| if n < 3 { 40 } else { (n * 7) % 13 + 2 });
        let expected = 2_000_000_000 + 2 * MS;
        assert!(
            used.iter()
                .all(|(_, offset)| (offset - expected).abs() <= 4 * MS)
        );
        assert!(used.windows(2).all(|pair| pair[0].1 == pair[1].1));
    }

    #[test]
    fn a_burst_at_the_start_is_a_lead_that_stays() {
        // The first half second at once, as ffmpeg's -re does; on a busy machine in two pieces.
        for late_piece in [0, 400] {
            let accepted = 7_000_000_000;
            let mut timeline = Timeline::new(accepted);
            for n in 0..6_000_i64 {
                let due = (n * 20 - 500).max(if n < 10 { 0 } else { late_piece });
                let now = accepted + (3 + due) * MS;
                timeline.note(now, Media::Audio, u32::try_from(n * 20).expect("small"));
                let offset = timeline.offset_ns();
                assert!(
                    offset.is_none_or(|offset| offset == accepted),
                    "{n}: {offset:?}"
                );
            }
        }
    }

    #[test]
    fn a_slow_first_picture_is_no_lead() {
        let mut timeline = Timeline::new(0);
        for n in 0..200_i64 {
            let late = if n < 4 { 300 - n * 20 } else { 10 };
            let now = (n * 20 + late) * MS;
            timeline.note(now, Media::Audio, u32::try_from(n * 20).expect("small"));
            let offset = timeline.offset_ns();
            assert!(
                offset.is_none_or(|offset| offset == 10 * MS),
                "{n}: {offset:?}"
            );
        }
    }

    #[test]
    fn a_stall_of_the_network_moves_nothing() {
        // For two seconds nothing comes, then everything at once.
        let used = run(60, 0, |n| {
            if (1_000..1_100).contains(&n) {
                (1_100 - n) * 20
            } else {
                0
            }
        });
        assert!(used.windows(2).all(|pair| pair[0].1 == pair[1].1));
    }

    #[test]
    fn skew_is_followed_slowly() {
        for ppm in [-200, 200] {
            let used = run(1_800, ppm, |n| n % 5);
            for pair in used.windows(2) {
                let passed = pair[1].0 - pair[0].0;
                assert!((pair[1].1 - pair[0].1).abs() <= passed * SLEW_PPM);
            }
            let last = used.last().expect("offsets").1;
            // A clock that is fast by 200 ppm has gained 360 ms in 30 minutes.
            let expected = 2_000_000_000 - ppm * 1_800 * 1_000;
            assert!(
                (last - expected).abs() < DEAD_BAND + 10 * MS,
                "{ppm}: {last}"
            );
        }
    }

    #[test]
    fn what_is_always_late_is_taken_as_it_comes() {
        let mut timeline = Timeline::default();
        let mut moved = 0;
        for n in 0..1_000_i64 {
            let late = if n < 200 { 0 } else { 400 };
            let now = (n * 20 + late) * MS;
            let (_, change) =
                timeline.note(now, Media::Audio, u32::try_from(n * 20).expect("small"));
            moved += usize::from(change == Change::Moved);
            if n > 400 {
                assert_eq!(timeline.offset_ns(), Some(400 * MS));
            }
        }
        assert_eq!(moved, 1);
    }

    #[test]
    fn the_wrap_is_no_break_and_jumps_are() {
        let mut timeline = Timeline::default();
        let start = u32::MAX - 1_000;
        let mut now = 0;
        for n in 0..200_u32 {
            let (ms, change) = timeline.note(now, Media::Video, start.wrapping_add(n * 20));
            assert_eq!(change, Change::None);
            assert_eq!(ms, i64::from(start) + i64::from(n) * 20);
            now += 20 * MS;
        }
        assert_eq!(timeline.note(now, Media::Video, 0).1, Change::Break);
        assert_eq!(timeline.note(now, Media::Video, 60_000).1, Change::Break);
    }
}
