//! Holds a publisher to the bit rate that its answer announced (`b=AS`, RFC 4566 §5.8). Sans-IO.
//!
//! A token bucket: it fills at the announced rate and a half, and holds [`DEPTH`] of that, so key frames, repairs, probes
//! for bandwidth and a stream that is late by seconds pass unnoticed, and so does a clumsy encoder. What empties it has
//! ignored the answer: at twice the announced rate that takes 30 s, at ten times 1.8 s. Nothing is dropped before,
//! because a picture with holes is of no use to anybody.
//!
//! Only packets that SRTP has authenticated may be counted: others are not the publisher's doing.

use std::time::{Duration, Instant};

/// What fits into the bucket, as time at the rate that fills it.
const DEPTH: Duration = Duration::from_secs(10);

/// The bucket of one session, in bits.
#[derive(Debug)]
pub(crate) struct Policer {
    bits_per_s: f64,
    depth: f64,
    tokens: f64,
    filled: Option<Instant>,
}

impl Policer {
    /// For a publisher who has been asked for at most `kbps`.
    pub(crate) fn new(kbps: u32) -> Self {
        let bits_per_s = f64::from(kbps) * 1_500.0;
        let depth = bits_per_s * DEPTH.as_secs_f64();
        Self {
            bits_per_s,
            depth,
            tokens: depth,
            filled: None,
        }
    }

    /// Takes note of `bytes` that came at `now`; false when the bucket is empty.
    pub(crate) fn allows(&mut self, now: Instant, bytes: usize) -> bool {
        let since = self
            .filled
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.filled = Some(self.filled.map_or(now, |at| at.max(now)));
        let fresh = self.bits_per_s * since.as_secs_f64();
        let bits = u32::try_from(bytes).map_or(f64::MAX, f64::from) * 8.0;
        self.tokens = (self.tokens + fresh).min(self.depth) - bits;
        self.tokens >= 0.0
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
mod tests {
    use super::*;

    /// Sends at `kbps` in packets of 1200 bytes; how long until the policer has had enough.
    fn lasts(kbps: f64, limit: Duration) -> Option<Duration> {
        let begun = Instant::now();
        let mut policer = Policer::new(8_000);
        let step = Duration::from_secs_f64(1_200.0 * 8.0 / (kbps * 1_000.0));
        let mut elapsed = Duration::ZERO;
        while elapsed < limit {
            if !policer.allows(begun + elapsed, 1_200) {
                return Some(elapsed);
            }
            elapsed += step;
        }
        None
    }

    #[test]
    fn what_was_announced_passes_for_ever() {
        let hour = Duration::from_secs(3_600);
        assert_eq!(lasts(8_000.0, hour), None);
        assert_eq!(lasts(11_900.0, hour), None);
    }

    #[test]
    fn the_worse_the_sooner() {
        let minutes = Duration::from_secs(300);
        let twice = lasts(16_000.0, minutes).expect("ends");
        assert!((29.9..30.1).contains(&twice.as_secs_f64()), "{twice:?}");
        let tenfold = lasts(80_000.0, minutes).expect("ends");
        assert!((1.7..1.9).contains(&tenfold.as_secs_f64()), "{tenfold:?}");
    }

    #[test]
    fn a_burst_passes_and_is_forgiven() {
        let begun = Instant::now();
        let mut policer = Policer::new(8_000);
        for round in 0..10 {
            // 8 s of the announced rate at once, every 10 s.
            let at = begun + Duration::from_secs(10) * round;
            assert!((0..6_667).all(|_| policer.allows(at, 1_200)), "{round}");
        }
    }

    #[test]
    fn a_clock_that_stands_still_or_steps_back_gives_nothing() {
        let now = Instant::now();
        let mut policer = Policer::new(1);
        assert!(policer.allows(now + DEPTH, 1_000));
        assert!(policer.allows(now, 800));
        assert!(!policer.allows(now + DEPTH, 100));
        assert!(!policer.allows(now, usize::MAX));
    }
}
