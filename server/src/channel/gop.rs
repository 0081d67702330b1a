//! The newest pictures of a participant, from an IDR on: what a mixer needs to show them at once.
//!
//! Some hosts are ahead of their time (a burst at their start): their newest IDR may be captured later than anything that
//! a mixer is to compose now. So the first picture kept is the newest IDR that is at least [`KEEP_NS`] old.
//!
//! Bounds: [`MAX_PICTURES`] and [`MAX_BYTES`]; beyond them everything is forgotten until the next IDR. Pictures share
//! their bytes with the rest of the house.

use std::collections::VecDeque;

use media::AccessUnit;
use media::link::FrameRate;

/// Ten seconds at 60 pictures per second.
pub const MAX_PICTURES: usize = 600;
/// Most bytes kept.
pub const MAX_BYTES: usize = 16 << 20;
/// A mixer composes pictures that are at most this old, in nanoseconds.
pub const KEEP_NS: i64 = 1_000_000_000;
/// Pictures over which the rate is measured.
const RATE_PICTURES: usize = 60;
/// Pictures by which the grid is found.
const GRID_PICTURES: usize = 15;

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Gop {
    pictures: VecDeque<AccessUnit>,
    bytes: usize,
    /// DTS of the newest pictures, in nanoseconds.
    times_ns: VecDeque<i64>,
}

impl Gop {
    /// Takes a picture in; `now_ns` is the present on the clock of capture times.
    pub fn push(&mut self, now_ns: i64, picture: &AccessUnit) {
        let full = self.pictures.len() >= MAX_PICTURES
            || self.bytes.saturating_add(picture.data.len()) > MAX_BYTES;
        let follows = !self.pictures.is_empty() && !picture.discontinuity;
        if full || !(picture.keyframe || follows) {
            self.pictures.clear();
            self.bytes = 0;
        }
        if picture.keyframe || !self.pictures.is_empty() {
            self.bytes += picture.data.len();
            self.pictures.push_back(picture.clone());
        }
        self.forget_before(now_ns.saturating_sub(KEEP_NS));
        self.times_ns.push_back(picture.dts.as_nanos());
        if self.times_ns.len() > RATE_PICTURES {
            self.times_ns.pop_front();
        }
    }

    /// Forgets what comes before the newest IDR that is older than `at_ns`.
    fn forget_before(&mut self, at_ns: i64) {
        let old = |p: &AccessUnit| p.keyframe && p.dts.as_nanos() <= at_ns;
        let Some(first) = self.pictures.iter().rposition(old) else {
            return;
        };
        for picture in self.pictures.drain(..first) {
            self.bytes -= picture.data.len();
        }
    }

    /// The pictures, of which the first is an IDR; none when something is missing.
    pub fn pictures(&self) -> impl Iterator<Item = &AccessUnit> {
        self.pictures.iter()
    }

    /// The pictures from the newest IDR on that is not later than `at_ns`: what is needed to show that moment.
    pub fn pictures_at(&self, at_ns: i64) -> impl Iterator<Item = &AccessUnit> {
        let enters = |p: &AccessUnit| p.keyframe && p.dts.as_nanos() <= at_ns;
        let first = self.pictures.iter().rposition(enters).unwrap_or(0);
        self.pictures.iter().skip(first)
    }

    /// A point of the grid on which the newest pictures lie, near the newest of them, in nanoseconds of the anchor's clock.
    /// Cameras jitter: it is the median of where each of them puts that point.
    #[must_use]
    pub fn grid_ns(&self, rate: FrameRate) -> Option<i64> {
        let newest_ns = *self.times_ns.back()?;
        let frame_ns = rate.frame_ns().max(1);
        let half_ns = frame_ns / 2;
        let newest = self.times_ns.iter().rev().take(GRID_PICTURES);
        let mut off_ns: Vec<i64> = newest
            .map(|time_ns| (time_ns - newest_ns + half_ns).rem_euclid(frame_ns) - half_ns)
            .collect();
        off_ns.sort_unstable();
        Some(newest_ns + off_ns.get(off_ns.len() / 2)?)
    }

    /// The usual frame rate that is nearest to the measured one; 30 before there is enough to measure.
    #[must_use]
    pub fn frame_rate(&self) -> FrameRate {
        const USUAL: [u32; 8] = [10, 15, 20, 24, 25, 30, 50, 60];
        let steps = self.times_ns.len().saturating_sub(1);
        let (Some(first), Some(last)) = (self.times_ns.front(), self.times_ns.back()) else {
            return FrameRate::default();
        };
        let span_ns = last.saturating_sub(*first);
        if steps < 8 || span_ns <= 0 {
            return FrameRate::default();
        }
        let measured = steps as f64 * 1e9 / span_ns as f64;
        let distance = |rate: &u32| (f64::from(*rate) / measured).ln().abs();
        let nearest = USUAL
            .iter()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)));
        FrameRate {
            num: nearest.copied().unwrap_or(30),
            den: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use media::{Config, Rate, Timestamp, Track, TrackId, opus};

    use super::*;

    fn picture(at_ms: i64, keyframe: bool) -> AccessUnit {
        let at = Timestamp::from_millis(at_ms);
        AccessUnit {
            track: Arc::new(Track {
                id: TrackId(0),
                config: Config::Opus(opus::Config { channels: 2 }),
                rate: Rate::NANOS,
            }),
            pts: at,
            dts: at,
            keyframe,
            discontinuity: false,
            data: Bytes::from(vec![0; 1_000]),
        }
    }

    const SECOND: i64 = 1_000_000_000;

    fn held(gop: &Gop) -> Vec<i64> {
        gop.pictures().map(|p| p.dts.as_millis()).collect()
    }

    #[test]
    fn it_holds_what_can_be_decoded() {
        let mut gop = Gop::default();
        gop.push(0, &picture(0, false));
        assert!(held(&gop).is_empty());
        for n in 1..=5 {
            gop.push(0, &picture(n * 33, n == 1));
        }
        assert_eq!(held(&gop).len(), 5);
        let mut lost = picture(233, false);
        lost.discontinuity = true;
        gop.push(0, &lost);
        gop.push(0, &picture(266, false));
        assert!(held(&gop).is_empty());
    }

    #[test]
    fn it_begins_with_an_idr_that_is_old_enough() {
        // An IDR each 500 ms, pictures 800 ms ahead of their time.
        let mut gop = Gop::default();
        for n in 0..100i64 {
            let at_ms = n * 33;
            gop.push((at_ms - 800) * 1_000_000, &picture(at_ms, n % 15 == 0));
        }
        let held = held(&gop);
        let now_ms = 99 * 33 - 800;
        assert!(
            held[0] <= now_ms - 1_000 && held[0] > now_ms - 1_600,
            "{held:?}"
        );
        assert_eq!(held[0] % (15 * 33), 0);
    }

    #[test]
    fn a_moment_needs_no_more_than_its_group() {
        let mut gop = Gop::default();
        for n in 0..40i64 {
            gop.push(n * 33_000_000, &picture(n * 33, n % 10 == 0));
        }
        let from = |at_ms: i64| {
            let mut needed = gop.pictures_at(at_ms * 1_000_000);
            needed.next().map(|p| p.dts.as_millis())
        };
        assert_eq!(from(40 * 33), Some(30 * 33));
        assert_eq!(from(29 * 33), Some(20 * 33));
        assert_eq!(from(-1), held(&gop).first().copied());
    }

    #[test]
    fn it_is_bounded() {
        let mut gop = Gop::default();
        gop.push(0, &picture(0, true));
        for n in 1..5_000 {
            gop.push(100 * SECOND, &picture(n * 33, false));
            assert!(gop.pictures.len() <= MAX_PICTURES);
        }
    }

    #[test]
    fn the_grid_is_found_under_jitter() {
        let mut gop = Gop::default();
        let rate = FrameRate { num: 30, den: 1 };
        assert_eq!(gop.grid_ns(rate), None);
        for n in 0..40i64 {
            // The newest is late by 12 ms, others by up to 4.
            let jitter_us = if n == 39 { 12_000 } else { n * 7919 % 4_000 };
            let mut late = picture(0, n == 0);
            late.dts = Timestamp::from_nanos((n * 100_000 / 3 + jitter_us) * 1_000);
            gop.push(0, &late);
        }
        let newest_ns = 39 * 100_000_000 / 3;
        let off_ns = gop.grid_ns(rate).expect("pictures") - newest_ns;
        assert!((0..4_000_000).contains(&off_ns), "{off_ns}");
    }

    #[test]
    fn the_frame_rate_is_measured() {
        for (step_us, rate) in [
            (33_333, 30),
            (40_000, 25),
            (41_700, 24),
            (16_667, 60),
            (66_900, 15),
        ] {
            let mut gop = Gop::default();
            for n in 0..40i64 {
                let jitter = (n * 7919) % 3;
                gop.push(0, &picture(n * step_us / 1_000 + jitter, n == 0));
            }
            assert_eq!(gop.frame_rate().num, rate);
        }
        assert_eq!(Gop::default().frame_rate().num, 30);
    }
}
