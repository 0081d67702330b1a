//! What was sent lately, to send it again when it is missed (RFC 4585 §6.2.1).
//!
//! Invariants:
//! - At most [`CAPACITY`] packets are kept, none for longer than [`MAX_AGE`].
//! - Over time no more packets are repeated than were sent: every packet sent pays for one repetition, and at most
//!   [`MAX_CREDIT`] are saved up. A peer that asks without end costs no more than twice its stream.
//! - The same packet is not repeated within [`PATIENCE`] of a round trip: the peer has asked again before the first repetition
//!   arrived. A whole one would refuse who asks again exactly a round trip later by a measure of its own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Most packets kept.
const CAPACITY: usize = 1_024;
/// Older packets are of no use to a live decoder: several round trips of a long path have passed.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Most repetitions saved up.
const MAX_CREDIT: u32 = 512;
/// In round trips.
const PATIENCE: f64 = 0.75;
/// Shortest time between two repetitions of a packet, whatever the round trip.
const MIN_SPACING: Duration = Duration::from_millis(10);
/// The round trip while it is not known.
const DEFAULT_RTT: Duration = Duration::from_millis(50);

/// Of so many newest packets one is taken that has so many bytes, when the path is to be filled.
const RECENT: usize = 64;
const WORTH: usize = 200;

/// A packet that was sent. There are hundreds for each of hundreds of subscribers, so times are small.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) payload: Bytes,
    pub(super) timestamp: u32,
    pub(super) sequence: u16,
    pub(super) payload_type: u8,
    pub(super) marker: bool,
    /// Milliseconds since the first packet of the stream, modulo 2^32.
    at: u32,
    /// The same, of the last repetition.
    repeated: Option<u32>,
}

/// The packets of one stream.
#[derive(Debug, Default)]
pub(super) struct History {
    /// In order of sending; sequence numbers increase.
    sent: VecDeque<Sent>,
    credit: u32,
    began: Option<Instant>,
}

impl History {
    /// Keeps a packet, the newest of its stream.
    pub(super) fn add(&mut self, now: Instant, packet: &crate::sfu::packet::Outgoing) {
        let at = self.millis(now);
        let is_old = |sent: &Sent| age(at, sent.at) > MAX_AGE;
        while self.sent.len() >= CAPACITY || self.sent.front().is_some_and(is_old) {
            self.sent.pop_front();
        }
        self.credit = MAX_CREDIT.min(self.credit + 1);
        self.sent.push_back(Sent {
            payload: packet.payload.clone(),
            timestamp: packet.timestamp,
            sequence: packet.sequence,
            payload_type: packet.payload_type,
            marker: packet.marker,
            at,
            repeated: None,
        });
    }

    /// The newest packet that is large enough to be worth the headers.
    pub(super) fn newest(&self) -> Option<Sent> {
        let mut recent = self.sent.iter().rev().take(RECENT);
        recent.find(|sent| sent.payload.len() >= WORTH).cloned()
    }

    /// The packet to send again, if it is there and due.
    pub(super) fn repeat(
        &mut self,
        now: Instant,
        sequence: u16,
        rtt: Option<Duration>,
    ) -> Option<Sent> {
        let newest = self.sent.back()?.sequence;
        let back = newest.wrapping_sub(sequence);
        let at = self.millis(now);
        let found = self
            .sent
            .partition_point(|sent| newest.wrapping_sub(sent.sequence) > back);
        let sent = self.sent.get_mut(found)?;
        let spacing = rtt.unwrap_or(DEFAULT_RTT);
        let spacing = spacing.mul_f64(PATIENCE).max(MIN_SPACING);
        let is_due = sent.repeated.is_none_or(|last| age(at, last) >= spacing);
        let is_old = age(at, sent.at) > MAX_AGE;
        if sent.sequence != sequence || !is_due || is_old || self.credit == 0 {
            return None;
        }
        self.credit -= 1;
        sent.repeated = Some(at);
        Some(sent.clone())
    }

    fn millis(&mut self, now: Instant) -> u32 {
        let began = *self.began.get_or_insert(now);
        let millis = now.saturating_duration_since(began).as_millis() % (1 << 32);
        u32::try_from(millis).unwrap_or(0)
    }
}

/// How long ago `at` was at `now`; nothing when it is to come.
fn age(now: u32, at: u32) -> Duration {
    let millis = now.wrapping_sub(at).cast_signed();
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sfu::packet::Outgoing;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn packet(sequence: u16) -> Outgoing {
        Outgoing {
            ssrc: 1,
            payload_type: 96,
            sequence,
            timestamp: 0,
            marker: false,
            payload: Bytes::copy_from_slice(&sequence.to_be_bytes()),
            transport: None,
        }
    }

    #[test]
    fn what_is_missed_comes_once_per_round_trip() {
        let t = origin();
        let mut history = History::default();
        for sequence in [65_534, 65_535, 1] {
            history.add(t, &packet(sequence));
        }
        let rtt = Some(100 * MS);
        let again = history.repeat(t + MS, 65_535, rtt).expect("kept");
        assert_eq!(again.payload.as_ref(), 65_535_u16.to_be_bytes());
        assert!(history.repeat(t + 50 * MS, 65_535, rtt).is_none());
        assert!(history.repeat(t + 102 * MS, 65_535, rtt).is_some());
        assert!(history.repeat(t, 0, rtt).is_none(), "never sent");
        assert!(history.repeat(t, 2, rtt).is_none(), "not sent yet");
        assert!(history.repeat(t + 3_000 * MS, 1, rtt).is_none(), "too old");
    }

    #[test]
    fn a_greedy_peer_gets_no_more_than_its_stream_again() {
        let t = origin();
        let mut history = History::default();
        let mut repeated = 0;
        for sequence in 0..2_000_u16 {
            let now = t + MS * u32::from(sequence);
            history.add(now, &packet(sequence));
            for back in 0..100 {
                let asked = sequence.wrapping_sub(back);
                repeated += u32::from(history.repeat(now, asked, Some(MS)).is_some());
            }
        }
        assert!(repeated <= 2_000, "{repeated}");
        assert!(history.sent.len() <= CAPACITY);
    }

    proptest! {
        /// Packets over any wrap are found by their number, and only those.
        #[test]
        fn finds_what_is_there(first in any::<u16>(), steps in proptest::collection::vec(1_u16..5, 1..300), asked in any::<u16>()) {
            let t = origin();
            let mut history = History::default();
            let mut sent = Vec::new();
            let mut sequence = first;
            for step in steps {
                sequence = sequence.wrapping_add(step);
                history.add(t, &packet(sequence));
                sent.push(sequence);
            }
            let near = first.wrapping_add(asked % 1_500);
            let found = history.repeat(t, near, None).map(|sent| sent.sequence);
            prop_assert_eq!(found, sent.contains(&near).then_some(near));
        }
    }
}
