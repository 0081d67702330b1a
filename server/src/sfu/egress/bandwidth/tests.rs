//! The pieces of the estimator on virtual time; how it does on a link is told by the tests of the egress.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::history::History;
use super::trend::{Trend, Usage};
use super::*;

const MS: Duration = Duration::from_millis(1);

#[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
fn origin() -> Instant {
    Instant::now()
}

/// Packets of 1000 bytes every 10 ms, each arriving `growth_us` later after its sending than the one before.
fn usage(growth_us: i64, jitter_us: i64, count: u32) -> Usage {
    let t = origin();
    let mut trend = Trend::default();
    let mut state = 1_u64;
    for n in 0..count {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let jitter = i64::try_from(state >> 40).expect("small") % jitter_us.max(1);
        let arrived = i64::from(n) * (10_000 + growth_us) + jitter;
        trend.add(t + 10 * MS * n, arrived, 1_000);
    }
    trend.usage()
}

#[test]
fn a_queue_that_grows_is_noticed_and_jitter_is_not() {
    assert_eq!(usage(0, 0, 200), Usage::Normal);
    assert_eq!(usage(0, 5_000, 400), Usage::Normal);
    assert_eq!(usage(2_000, 0, 60), Usage::Over);
    assert_eq!(usage(2_000, 3_000, 100), Usage::Over);
    assert_eq!(usage(-2_000, 0, 60), Usage::Under);
}

#[test]
fn losses_slow_down_only_when_they_are_many() {
    let t = origin();
    let run = |lost: u32| {
        let mut loss = Loss::default();
        for n in 0..50 {
            loss.update(t + 100 * MS * n, lost, 100, 1e6, 50 * MS);
        }
        loss.limit()
    };
    assert_eq!(run(1), f64::INFINITY);
    assert_eq!(run(8), f64::INFINITY);
    assert!(run(30) < 3e5, "{}", run(30));
}

#[test]
fn few_packets_that_lose_five_percent_do_not_slow_anybody_down() {
    let t = origin();
    let mut loss = Loss::default();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut lowest = f64::INFINITY;
    // A stream of 1 Mb/s: fifteen packets in a report.
    for n in 0..3_000 {
        let lost = (0..15).filter(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % 100 < 5
        });
        let lost = u32::try_from(lost.count()).expect("few");
        loss.update(t + 100 * MS * n, lost, 15, 1.5e6, 150 * MS);
        lowest = lowest.min(loss.limit());
    }
    assert!(lowest > 1.2e6, "{lowest}");
}

#[test]
fn who_does_not_report_has_no_estimate() {
    let t = origin();
    let mut bandwidth = Bandwidth::new(1e6);
    let mut now = t;
    for n in 0..100_u16 {
        now = t + 10 * MS * u32::from(n);
        let number = bandwidth.sent(now, 1_000, false);
        assert_eq!(number, n);
        if n < 20 {
            assert_eq!(bandwidth.estimate_bps(now), None, "too early");
        }
        let packets = vec![(number, Some(i64::from(n) * 10_000))];
        bandwidth.handle_arrivals(now + 20 * MS, &Arrivals { packets });
    }
    assert!(bandwidth.estimate_bps(now + 20 * MS).is_some());
    assert!(bandwidth.rtt() < Some(60 * MS), "{:?}", bandwidth.rtt());
    assert_eq!(bandwidth.estimate_bps(now + 4_000 * MS), None, "silent");
}

proptest! {
    /// Numbers over any wrap: each is taken once, and only if it was sent.
    #[test]
    fn numbers_are_found_once(count in 0_usize..40_000, asked in proptest::collection::vec(any::<u16>(), 0..200)) {
        let t = origin();
        let mut history = History::default();
        for n in 0..count {
            prop_assert_eq!(history.add(t, 1), n as u64);
        }
        let oldest = count.saturating_sub(history::CAPACITY) as u64;
        let mut taken = Vec::new();
        for number in asked {
            if let Some((index, _)) = history.take(number) {
                prop_assert!(index >= oldest && index < count as u64);
                prop_assert_eq!(history::wire(index), number);
                prop_assert!(!taken.contains(&index));
                taken.push(index);
            }
        }
    }

    /// Whatever a subscriber reports: no panic, and an estimate within its bounds.
    #[test]
    fn nonsense_is_survived(reports in proptest::collection::vec((any::<u16>(), proptest::option::of(any::<i64>()), 0_u32..200), 1..300)) {
        let mut now = origin();
        let mut bandwidth = Bandwidth::new(1e6);
        for (number, time, passed) in reports {
            now += MS * passed;
            bandwidth.sent(now, 1_200, passed % 3 == 0);
            let time = time.map(|time| time / 1_000);
            bandwidth.handle_arrivals(now, &Arrivals { packets: vec![(number % 400, time)] });
            if let Some(bps) = bandwidth.estimate_bps(now) {
                prop_assert!((rate::MIN_BPS..=1e8).contains(&bps), "{}", bps);
            }
        }
    }
}
