//! The playhead: how much is buffered, and when each frame is due.
//!
//! What leaves the player is shown by somebody else, so the playhead is a reckoning: it starts when the target is buffered,
//! runs at the speed of time, and stops when it has reached the newest frame that has left; that is a stall.

use std::time::{Duration, Instant};

/// The playhead.
#[derive(Debug)]
pub(crate) struct Playout {
    target: Duration,
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
    /// It was at a time at an instant.
    Running { at_ms: u32, when: Instant },
}

/// The distance from `b` to `a` in milliseconds, over the wrap of 32 bits.
pub(crate) fn distance_ms(a: u32, b: u32) -> i64 {
    i64::from(a.wrapping_sub(b).cast_signed())
}

impl Playout {
    pub(crate) fn new(target: Duration) -> Self {
        Self {
            target,
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
                    self.state = State::Running { at_ms, when: now };
                }
            }
            State::Running { .. } => {
                if self.buffered_ms(now) <= 0 {
                    self.stalls += 1;
                    self.state = State::Standing {
                        at_ms: newest,
                        since: Some(now),
                    };
                }
            }
        }
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
            State::Running { at_ms, when } => {
                let passed = now.saturating_duration_since(when).as_millis() & 0xffff_ffff;
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
        let (start, mut playout) = (Instant::now(), Playout::new(ms(1_000)));
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
}
