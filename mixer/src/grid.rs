//! The grid of the output: picture `n` lies at `phase + n / frame_rate`, rounded down to nanoseconds.

use media::link::FrameRate;

const SECOND_NS: i128 = 1_000_000_000;

/// The frame grid in program time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    phase_ns: i64,
    rate: FrameRate,
}

impl Grid {
    /// A grid; `None` when a part of the frame rate is zero.
    #[must_use]
    pub fn new(phase_ns: i64, rate: FrameRate) -> Option<Self> {
        (rate.num > 0 && rate.den > 0).then_some(Self { phase_ns, rate })
    }

    /// Program time of picture `n`, in nanoseconds.
    #[must_use]
    pub fn time(&self, n: i64) -> i64 {
        let step = i128::from(n) * SECOND_NS * i128::from(self.rate.den);
        saturate(i128::from(self.phase_ns) + step.div_euclid(i128::from(self.rate.num)))
    }

    /// The first picture at or after a program time.
    #[must_use]
    pub fn at_or_after(&self, program_ns: i64) -> i64 {
        let distance = i128::from(program_ns) - i128::from(self.phase_ns);
        let unit = SECOND_NS * i128::from(self.rate.den);
        let mut n = saturate((distance * i128::from(self.rate.num)).div_euclid(unit));
        while self.time(n) < program_ns {
            n += 1;
        }
        n
    }

    /// The picture whose time is nearest.
    #[must_use]
    pub fn nearest(&self, program_ns: i64) -> i64 {
        self.at_or_after(program_ns.saturating_sub(self.frame_ns() / 2))
    }

    /// The distance of two pictures, in nanoseconds.
    #[must_use]
    pub fn frame_ns(&self) -> i64 {
        self.rate.frame_ns()
    }

    /// How many pictures begin in a span of milliseconds; at least one.
    #[must_use]
    pub fn frames_in(&self, span_ms: u32) -> u32 {
        let count =
            u64::from(span_ms) * u64::from(self.rate.num) / (1_000 * u64::from(self.rate.den));
        u32::try_from(count).unwrap_or(u32::MAX).max(1)
    }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn half_a_frame_rate_is_refused() {
        assert_eq!(Grid::new(0, FrameRate { num: 30, den: 0 }), None);
        assert_eq!(Grid::new(0, FrameRate { num: 0, den: 1 }), None);
    }

    #[test]
    fn a_second_has_its_frames() {
        let grid = Grid::new(7, FrameRate { num: 30, den: 1 }).expect("valid");
        assert_eq!(grid.time(30), 1_000_000_007);
        assert_eq!(grid.time(1), 33_333_340);
        assert_eq!(grid.time(-1), -33_333_327);
        assert_eq!(grid.frames_in(2_000), 60);
    }

    proptest! {
        #[test]
        fn indices_and_times_agree(
            phase in -1_000_000_000i64..1_000_000_000,
            n in -1_000_000i64..10_000_000,
            rate in proptest::sample::select(vec![(30, 1), (30_000, 1001), (25, 1), (60, 1), (24_000, 1001), (15, 1)]),
        ) {
            let grid = Grid::new(phase, FrameRate { num: rate.0, den: rate.1 }).expect("valid");
            let time = grid.time(n);
            prop_assert_eq!(grid.at_or_after(time), n);
            prop_assert_eq!(grid.at_or_after(time + 1), n + 1);
            prop_assert_eq!(grid.nearest(time + 1_000), n);
            prop_assert_eq!(grid.nearest(time - 1_000), n);
        }
    }
}
