//! How likely a request comes back in time, learned from those before.
//!
//! [`Deadlines`] is the empirical distribution of the time that frames take from the origin, [`Delivery`] the share of
//! packets that a relay sends again when asked. Both start from a prior, so that they mean something before the first
//! request, and both count failures: the paper's ratios leave them out and are undefined at first.

use std::collections::VecDeque;
use std::time::Duration;

/// Times that are remembered.
const REMEMBERED: usize = 256;
/// What the prior weighs, in observations.
const PRIOR_WEIGHT: f64 = 8.0;
/// The prior of the origin's times: the paper measured a median of 71.1 ms (§2.4); its spread is assumed.
const PRIOR_MEDIAN_MS: f64 = 71.0;
const PRIOR_SIGMA: f64 = 0.6;
/// 19 of 20 of the prior come within this: exp(1.645 σ) times the median.
const PRIOR_SLOW_MS: f64 = 190.0;
/// Answers from which it can be said how long they take.
const ENOUGH: usize = 20;

/// How long frames take from the origin.
#[derive(Clone, Debug, Default)]
pub struct Deadlines {
    /// Times in milliseconds; infinite for requests that failed.
    times_ms: VecDeque<f64>,
}

impl Deadlines {
    /// A request was answered after so long, or never.
    pub fn observe(&mut self, took: Option<Duration>) {
        if self.times_ms.len() >= REMEMBERED {
            self.times_ms.pop_front();
        }
        let ms = took.map_or(f64::INFINITY, |took| took.as_secs_f64() * 1_000.0);
        self.times_ms.push_back(ms);
    }

    /// After how long an answer is not to be expected any more: half as long again as 19 of 20 took. Until it is known how
    /// long they take: as long as 19 of 20 take by the prior.
    #[must_use]
    pub fn patience(&self) -> Duration {
        let finite = self.times_ms.iter().copied().filter(|ms| ms.is_finite());
        let mut times: Vec<f64> = finite.collect();
        times.sort_by(f64::total_cmp);
        let slow = match times.len() < ENOUGH {
            true => None,
            false => times.get(times.len() * 19 / 20).map(|ms| 1.5 * ms),
        };
        Duration::from_secs_f64(slow.unwrap_or(PRIOR_SLOW_MS) / 1_000.0)
    }

    /// Probability that a frame asked for now comes after `left`.
    #[must_use]
    pub fn late(&self, left: Duration) -> f64 {
        let left_ms = left.as_secs_f64() * 1_000.0;
        let within = self.times_ms.iter().filter(|ms| **ms <= left_ms).count();
        let within = PRIOR_WEIGHT * prior(left_ms) + count(within);
        1.0 - within / (PRIOR_WEIGHT + count(self.times_ms.len()))
    }
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

/// The log-normal distribution of the prior, its normal part by the logistic approximation (error below 0.01).
fn prior(ms: f64) -> f64 {
    if ms <= 0.0 {
        return 0.0;
    }
    let z = (ms / PRIOR_MEDIAN_MS).ln() / PRIOR_SIGMA;
    1.0 / (1.0 + (-1.702 * z).exp())
}

/// How reliably a relay sends packets again.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    succeeded: f64,
    failed: f64,
}

impl Default for Delivery {
    /// Nine of ten: the paper measured 91.44 % (§2.4).
    fn default() -> Self {
        Self {
            succeeded: 9.0,
            failed: 1.0,
        }
    }
}

impl Delivery {
    /// What was observed longer ago weighs less: half after this many observations.
    const HALF: f64 = 200.0;

    /// A packet that was asked for came, or did not in time.
    pub fn observe(&mut self, came: bool) {
        let fade = 0.5_f64.powf(1.0 / Self::HALF);
        self.succeeded = self.succeeded * fade + f64::from(u8::from(came));
        self.failed = self.failed * fade + f64::from(u8::from(!came));
    }

    /// The probability that a packet comes when it is asked for once.
    #[must_use]
    pub fn probability(&self) -> f64 {
        self.succeeded / (self.succeeded + self.failed)
    }

    /// Probability that of `packets` missing packets at least one has not come after `left`, when every one is asked for
    /// again each `retry`. Tries are whole: what does not fit before the deadline does not count.
    #[must_use]
    pub fn late(&self, left: Duration, retry: Duration, packets: usize) -> f64 {
        let tries = left.as_secs_f64() / retry.as_secs_f64().max(0.001);
        let one = 1.0 - (1.0 - self.probability()).powf(tries.floor());
        1.0 - one.powf(count(packets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_origin_is_judged_by_its_answers() {
        let mut times = Deadlines::default();
        assert!(
            (times.late(ms(71)) - 0.5).abs() < 0.01,
            "the prior's median"
        );
        assert_eq!(times.patience(), ms(190));
        assert!((times.late(ms(0)) - 1.0).abs() < f64::EPSILON);
        for _ in 0..200 {
            times.observe(Some(ms(20)));
        }
        assert!(times.late(ms(30)) < 0.05);
        assert_eq!(times.patience(), ms(30), "half as long again");
        for _ in 0..256 {
            times.observe(None);
        }
        assert!(times.late(ms(10_000)) > 0.9, "failures count");
    }

    #[test]
    fn a_relay_needs_time_for_its_tries() {
        let relay = Delivery::default();
        assert!((relay.late(ms(50), ms(80), 1) - 1.0).abs() < f64::EPSILON);
        assert!((relay.late(ms(100), ms(80), 1) - 0.1).abs() < 0.001);
        assert!(relay.late(ms(400), ms(80), 1) < 0.001);
        assert!(
            relay.late(ms(100), ms(80), 20) > 0.8,
            "all of them must come"
        );
        let mut bad = relay;
        (0..500).for_each(|_| bad.observe(false));
        assert!(bad.probability() < 0.1);
    }
}
