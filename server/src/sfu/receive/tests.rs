//! The receive buffer on virtual time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::missing::MAX_TRIES;
use super::{Output, Policy, Receiver, WINDOW};
use crate::sfu::packet::RtpPacket;

#[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
fn origin() -> Instant {
    Instant::now()
}

fn packet(sequence: u16, arrived: Instant) -> RtpPacket {
    RtpPacket {
        sequence,
        timestamp: u32::from(sequence),
        marker: false,
        payload: Bytes::from_static(b"x"),
        arrived,
        repaired: false,
    }
}

fn drain(receiver: &mut Receiver) -> Vec<Result<u16, ()>> {
    std::iter::from_fn(|| receiver.poll_output())
        .map(|output| match output {
            Output::Packet(packet) => Ok(packet.sequence),
            Output::Lost => Err(()),
        })
        .collect()
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn reordering_is_undone_without_asking() {
    let t = origin();
    let mut receiver = Receiver::new(Policy::REPAIRED);
    for (ms, sequence) in [(0, 65_535), (1, 1), (5, 0), (6, 2)] {
        receiver.handle_packet(t + ms * MS, packet(sequence, t));
    }
    assert_eq!(receiver.poll_nacks(t + 8 * MS), Vec::<u16>::new());
    assert_eq!(drain(&mut receiver), [Ok(65_535), Ok(0), Ok(1), Ok(2)]);
    assert_eq!(receiver.poll_timeout(), None);
}

#[test]
fn a_missing_packet_is_asked_for_with_growing_distance_and_then_given_up() {
    let t = origin();
    let mut receiver = Receiver::new(Policy {
        hold: Duration::from_secs(60),
        ..Policy::REPAIRED
    });
    receiver.handle_packet(t, packet(10, t));
    receiver.handle_packet(t, packet(12, t));
    let mut asked = Vec::new();
    let mut outputs = Vec::new();
    while let Some(at) = receiver.poll_timeout() {
        receiver.handle_timeout(at);
        for sequence in receiver.poll_nacks(at) {
            assert_eq!(sequence, 11);
            asked.push(at);
        }
        outputs.extend(drain(&mut receiver));
        assert!(asked.len() <= usize::from(MAX_TRIES));
    }
    assert_eq!(asked.len(), usize::from(MAX_TRIES));
    assert_eq!(asked[0], t + 10 * MS, "reordering gets 10 ms");
    let distances: Vec<Duration> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        distances.windows(2).all(|pair| pair[0] <= pair[1]),
        "{distances:?}"
    );
    assert!(distances[0] >= 100 * MS, "one round trip at least");
    assert_eq!(outputs, [Ok(10), Err(()), Ok(12)]);
    assert_eq!(receiver.counters().lost, 1);
}

#[test]
fn a_repair_fills_the_hole_and_teaches_the_round_trip() {
    let t = origin();
    let mut receiver = Receiver::new(Policy::REPAIRED);
    receiver.handle_packet(t, packet(10, t));
    receiver.handle_packet(t, packet(12, t));
    assert_eq!(receiver.poll_nacks(t + 10 * MS), [11]);
    receiver.handle_packet(t + 60 * MS, packet(11, t));
    assert_eq!(drain(&mut receiver), [Ok(10), Ok(11), Ok(12)]);
    assert_eq!(receiver.rtt(), Some(50 * MS));
    assert_eq!(receiver.counters().recovered, 1);
    assert_eq!(receiver.poll_timeout(), None);
}

/// A client that changes from a near network to a far one: every packet would be asked for again before it can come.
#[test]
fn a_round_trip_that_grows_is_learnt() {
    let t = origin();
    let mut receiver = Receiver::new(Policy::REPAIRED);
    let mut now = t;
    let mut sequence = 0_u16;
    let mut asked = Vec::new();
    for round in 0..40_u32 {
        let rtt = if round < 20 { 20 * MS } else { 120 * MS };
        receiver.handle_packet(now, packet(sequence, now));
        receiver.handle_packet(now, packet(sequence + 2, now));
        let missing = sequence + 1;
        let repaired_at = now + 10 * MS + rtt;
        let mut requests = 0;
        while let Some(at) = receiver.poll_timeout().filter(|at| *at < repaired_at) {
            requests += receiver.poll_nacks(at).len();
        }
        receiver.handle_packet(repaired_at, packet(missing, repaired_at));
        asked.push(requests);
        now = repaired_at + 100 * MS;
        sequence += 3;
    }
    let wasted: usize = asked.iter().skip(20).map(|requests| requests - 1).sum();
    assert!(wasted <= 8, "{asked:?}");
    assert_eq!(asked[30..], [1; 10], "{asked:?}");
}

#[test]
fn without_repair_only_reordering_is_waited_for() {
    let t = origin();
    let mut receiver = Receiver::new(Policy::UNREPAIRED);
    receiver.handle_packet(t, packet(1, t));
    receiver.handle_packet(t, packet(3, t));
    assert_eq!(receiver.poll_timeout(), Some(t + 60 * MS));
    receiver.handle_timeout(t + 60 * MS);
    assert!(receiver.poll_nacks(t + 60 * MS).is_empty());
    assert_eq!(drain(&mut receiver), [Ok(1), Err(()), Ok(3)]);
}

#[test]
fn a_large_hole_is_given_up_at_once() {
    let t = origin();
    let mut receiver = Receiver::new(Policy::REPAIRED);
    receiver.handle_packet(t, packet(1, t));
    receiver.handle_packet(t, packet(1_001, t));
    assert_eq!(drain(&mut receiver), [Ok(1), Err(()), Ok(1_001)]);
    assert!(receiver.poll_nacks(t + 20 * MS).is_empty());
}

#[test]
fn a_restarted_sequence_is_followed() {
    let t = origin();
    let mut receiver = Receiver::new(Policy::REPAIRED);
    for sequence in [1, 2, 30_000, 30_001, 30_002] {
        receiver.handle_packet(t, packet(sequence, t));
    }
    assert_eq!(
        drain(&mut receiver),
        [Ok(1), Ok(2), Err(()), Ok(30_001), Ok(30_002)]
    );
    for sequence in [5, 6, 7] {
        receiver.handle_packet(t, packet(sequence, t));
    }
    assert_eq!(drain(&mut receiver), [Err(()), Ok(6), Ok(7)]);
}

proptest! {
    /// Whatever order, loss and duplication: in order, once each, nothing held for ever, bounded.
    #[test]
    fn output_is_ordered_and_complete(
        start in any::<u16>(),
        steps in proptest::collection::vec((0_u16..60, 0_u32..30), 1..400),
        nack in any::<bool>(),
    ) {
        let t = origin();
        let mut receiver = Receiver::new(if nack { Policy::REPAIRED } else { Policy::UNREPAIRED });
        let mut now = t;
        let mut outputs = Vec::new();
        let mut sent = BTreeSet::new();
        for (index, (offset, wait)) in steps.into_iter().enumerate() {
            let sequence = start.wrapping_add(u16::try_from(index).expect("few")).wrapping_add(offset);
            now += wait * MS;
            receiver.handle_packet(now, packet(sequence, now));
            receiver.handle_timeout(now);
            let _ = receiver.poll_nacks(now);
            sent.insert(sequence);
            outputs.extend(drain(&mut receiver));
            prop_assert!(receiver.held.len() <= usize::try_from(WINDOW).expect("small"));
        }
        for _ in 0..10_000 {
            let Some(at) = receiver.poll_timeout() else { break };
            now = now.max(at);
            receiver.handle_timeout(now);
            let _ = receiver.poll_nacks(now);
        }
        outputs.extend(drain(&mut receiver));
        prop_assert_eq!(receiver.poll_timeout(), None);
        prop_assert!(receiver.held.is_empty());
        let mut expected: Option<u16> = None;
        let mut seen = BTreeSet::new();
        for output in outputs {
            match output {
                Ok(sequence) => {
                    if let Some(expected) = expected {
                        prop_assert_eq!(sequence, expected);
                    }
                    prop_assert!(sent.contains(&sequence) && seen.insert(sequence));
                    expected = Some(sequence.wrapping_add(1));
                }
                Err(()) => expected = None,
            }
        }
    }

    /// Any sequence numbers at all: no panic, bounded, drains.
    #[test]
    fn hostile_sequences_are_survived(sequences in proptest::collection::vec(any::<u16>(), 0..600)) {
        let t = origin();
        let mut receiver = Receiver::new(Policy::REPAIRED);
        for sequence in sequences {
            receiver.handle_packet(t, packet(sequence, t));
            prop_assert!(receiver.held.len() <= usize::try_from(WINDOW).expect("small"));
        }
        receiver.handle_timeout(t + Duration::from_secs(5));
        let _ = drain(&mut receiver);
        prop_assert!(receiver.held.is_empty());
    }
}
