//! The playhead: how much is buffered, and when each frame is due.
//!
//! What leaves the player is shown by somebody else, so the playhead is a reckoning: it starts when the target is buffered,
//! runs at the speed of time, and stops when it has reached the newest frame that has left; that is a stall.

use std::time::{Duration, Instant};

/// How whoever shows the stream comes back to its target when it has fallen behind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CatchUp {
    /// The fastest that it plays; 1: it never catches up.
    pub fastest: f64,
    /// What a stall adds to its target: the buffer was too small for this network.
    pub per_stall: Duration,
}

impl CatchUp {
    /// Who plays at the speed of time, like ffplay.
    pub const NEVER: Self = Self {
        fastest: 1.0,
        per_stall: Duration::ZERO,
    };
}

/// The playhead.
#[derive(Debug)]
pub(crate) struct Playout {
    target: Duration,
    catch_up: CatchUp,
    state: State,
    /// First and newest decoding time that has left.
    span: Option<(u32, u32)>,
    pub(crate) stalls: u64,
    pub(crate) stalled: Duration,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// The playhead stands at a time; since when, once it has run.
    Standing { at_ms: u32, since: Option<Instant> },
    /// It was at a time at an instant, and goes on at a speed.
    Running {
        at_ms: u32,
        when: Instant,
        speed: f64,
    },
}

/// Stalls do not make the target larger than this.
const MAX_TARGET: Duration = Duration::from_secs(4);
/// The speed is looked at this often.
const PACE: Duration = Duration::from_millis(100);

/// The distance from `b` to `a` in milliseconds, over the wrap of 32 bits.
pub(crate) fn distance_ms(a: u32, b: u32) -> i64 {
    i64::from(a.wrapping_sub(b).cast_signed())
}

impl Playout {
    pub(crate) fn new(target: Duration, catch_up: CatchUp) -> Self {
        Self {
            target,
            catch_up,
            state: State::Standing {
                at_ms: 0,
                since: None,
            },
            span: None,
            stalls: 0,
            stalled: Duration::ZERO,
        }
    }

    /// A frame has left.
    pub(crate) fn released(&mut self, now: Instant, dts_ms: u32) {
        match &mut self.span {
            None => {
                self.span = Some((dts_ms, dts_ms));
                self.state = State::Standing {
                    at_ms: dts_ms,
                    since: None,
                };
            }
            Some((_, newest)) if distance_ms(dts_ms, *newest) > 0 => *newest = dts_ms,
            Some(_) => {}
        }
        self.advance(now);
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, now: Instant) {
        let Some((_, newest)) = self.span else {
            return;
        };
        match self.state {
            State::Standing { at_ms, since } => {
                if distance_ms(newest, at_ms) >= millis(self.target) {
                    self.stalled +=
                        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
                    self.state = State::Running {
                        at_ms,
                        when: now,
                        speed: 1.0,
                    };
                }
            }
            State::Running { when, speed, .. } => {
                let wanted = self.speed(now);
                // Not more often than anybody would notice.
                if (wanted - speed).abs() > f64::EPSILON
                    && now.saturating_duration_since(when) >= PACE
                {
                    self.state = State::Running {
                        at_ms: self.head_ms(now),
                        when: now,
                        speed: wanted,
                    };
                }
                if self.buffered_ms(now) <= 0 {
                    self.stalls += 1;
                    let more = self.target + self.catch_up.per_stall;
                    self.target = more.min(MAX_TARGET.max(self.target));
                    self.state = State::Standing {
                        at_ms: newest,
                        since: Some(now),
                    };
                }
            }
        }
    }

    /// In proportion to what there is too much, in steps: a hundredth for each tenth of a second.
    fn speed(&self, now: Instant) -> f64 {
        let surplus_ms = self.buffered_ms(now) - millis(self.target);
        let steps = i32::try_from(surplus_ms / 100).unwrap_or(i32::MAX).max(0);
        (1.0 + f64::from(steps) / 100.0).min(self.catch_up.fastest)
    }

    /// The stream begins anew.
    pub(crate) fn reset(&mut self) {
        self.span = None;
    }

    /// What has left and is not shown yet, in milliseconds.
    pub(crate) fn buffered_ms(&self, now: Instant) -> i64 {
        let head = self.head_ms(now);
        self.span.map_or(0, |(_, newest)| distance_ms(newest, head))
    }

    /// Whether the playhead runs.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// Time until a frame is due; none when it is overdue.
    pub(crate) fn left(&self, now: Instant, dts_ms: u32) -> Duration {
        let left = distance_ms(dts_ms, self.head_ms(now));
        Duration::from_millis(u64::try_from(left).unwrap_or_default())
    }

    fn head_ms(&self, now: Instant) -> u32 {
        match self.state {
            State::Standing { at_ms, .. } => at_ms,
            State::Running { at_ms, when, speed } => {
                let passed = now.saturating_duration_since(when).mul_f64(speed);
                let passed = passed.as_millis() & 0xffff_ffff;
                at_ms.wrapping_add(u32::try_from(passed).unwrap_or_default())
            }
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do in a test")]
mod tests {
    use super::*;

    #[test]
    fn it_starts_with_the_target_stalls_when_empty_and_starts_again() {
        let ms = Duration::from_millis;
        let (start, mut playout) = (Instant::now(), Playout::new(ms(1_000), CatchUp::NEVER));
        let base = u32::MAX - 200;
        for n in 0..=25 {
            playout.released(start, base.wrapping_add(n * 40));
        }
        assert!(playout.is_running());
        assert_eq!(playout.buffered_ms(start + ms(300)), 700);
        let due = playout.left(start + ms(300), base.wrapping_add(2_000));
        assert_eq!(due, ms(1_700));
        playout.advance(start + ms(1_000));
        assert!(!playout.is_running() && playout.stalls == 1);
        playout.released(start + ms(1_200), base.wrapping_add(1_500));
        assert!(!playout.is_running());
        playout.released(start + ms(1_400), base.wrapping_add(2_000));
        assert!(playout.is_running());
        assert_eq!(playout.stalled, ms(400));
    }

    #[test]
    fn who_catches_up_comes_back_to_a_target_that_stalls_make_larger() {
        let ms = Duration::from_millis;
        let catch_up = CatchUp {
            fastest: 1.06,
            per_stall: ms(500),
        };
        let (start, mut playout) = (Instant::now(), Playout::new(ms(1_000), catch_up));
        playout.released(start, 0);
        playout.released(start, 2_000);
        let mut newest = 2_000;
        for n in 1..=1_000 {
            newest += 20;
            playout.released(start + ms(20 * n), newest);
        }
        let buffered = playout.buffered_ms(start + ms(20_000));
        assert!((1_000..1_200).contains(&buffered), "{buffered}");
        let later = start + ms(22_000);
        playout.advance(later);
        assert_eq!((playout.stalls, playout.is_running()), (1, false));
        playout.released(later, newest + 1_000);
        assert!(!playout.is_running(), "more is wanted than before");
        playout.released(later, newest + 1_500);
        assert!(playout.is_running());
    }
}
