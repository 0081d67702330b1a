//! By how much the output lies beside its grid, so that it stays on the host's pictures. Sans-IO.
//!
//! The grid is fixed, cameras are not: their clocks run fast or slow. The output follows them by a *shift* of at most half a
//! frame either way. One that would be more is a frame less on the other side: one picture of the camera is then shown twice or
//! not at all, which no constant frame rate can avoid.
//!
//! Invariant: two output pictures are never further apart than a frame and a hundredth, nor nearer than a frame less that.

/// See the module documentation. Times in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Shift {
    frame_ns: i64,
    now_ns: i64,
    target_ns: i64,
}

impl Shift {
    /// On the grid, for frames of this length.
    #[must_use]
    pub fn new(frame_ns: i64) -> Self {
        Self {
            frame_ns: frame_ns.max(1),
            now_ns: 0,
            target_ns: 0,
        }
    }

    /// The pictures to follow lie beside the grid by this, give or take whole frames.
    pub fn aim(&mut self, beside_ns: i64) {
        let half_ns = self.frame_ns / 2;
        let within = i128::from(beside_ns) + i128::from(half_ns);
        let within = within.rem_euclid(i128::from(self.frame_ns)) - i128::from(half_ns);
        self.target_ns = i64::try_from(within).unwrap_or(0);
    }

    /// The shift of the next output picture.
    pub fn step(&mut self) -> i64 {
        let most_ns = self.frame_ns / 100;
        self.now_ns += (self.target_ns - self.now_ns).clamp(-most_ns, most_ns);
        self.now_ns
    }

    /// The shift of the newest output picture.
    #[must_use]
    pub fn now_ns(&self) -> i64 {
        self.now_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRAME_NS: i64 = 33_333_333;

    #[test]
    fn a_fast_camera_is_followed_for_hours() {
        let mut shift = Shift::new(FRAME_NS);
        let mut aside = 0;
        for n in 0..2 * 3_600 * 30i64 {
            // 200 ppm fast; told every 3 pictures.
            let beside_ns = -n * FRAME_NS / 1_000_000 * 200;
            if n % 3 == 0 {
                shift.aim(beside_ns);
            }
            let off = (shift.step() - beside_ns).rem_euclid(FRAME_NS);
            aside += usize::from(off.min(FRAME_NS - off) > 100_000);
        }
        // Only while a frame is passed over: 43 times a hundred pictures.
        assert!(aside <= 44 * 100, "{aside} pictures");
    }

    proptest! {
        #[test]
        fn pictures_stay_a_frame_apart(aims in proptest::collection::vec((any::<i64>(), 0..300usize), 0..20)) {
            let mut shift = Shift::new(FRAME_NS);
            let mut last = 0;
            for (beside_ns, pictures) in aims {
                shift.aim(beside_ns);
                for _ in 0..pictures {
                    let next = shift.step();
                    prop_assert!((next - last).abs() <= FRAME_NS / 100);
                    prop_assert!(next.abs() <= FRAME_NS / 2 + 1);
                    prop_assert_eq!(next, shift.now_ns());
                    last = next;
                }
            }
        }
    }
}
