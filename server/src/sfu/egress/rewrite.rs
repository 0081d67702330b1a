//! One stream of our own, made of the streams of publishers that feed it one after the other.
//!
//! Sequence numbers and timestamps are shifted, so gaps stay gaps and reordering stays reordering. The shift changes
//! only where one source ends and another begins; there the numbers go on as if nothing had happened: sequence numbers
//! without a hole, timestamps by the time that has passed.
//!
//! Invariants:
//! - Within a source, differences of sequence numbers and of timestamps are those of the source.
//! - The first packet after a change of the source has a sequence number and a timestamp that were not used before.

use std::time::{Duration, Instant};

/// A jump of the source beyond this many sequence numbers is a new beginning.
const MAX_JUMP: u16 = 1_000;
/// A jump of the source's timestamps beyond this is a new beginning.
const MAX_TIME_JUMP: Duration = Duration::from_secs(10);

/// Shifts of one stream.
#[derive(Debug)]
pub(super) struct Rewrite {
    hz: u32,
    /// Added to the source's sequence numbers; none where a source begins.
    sequence_shift: Option<u16>,
    /// Added to the source's timestamps; none where a source begins.
    timestamp_shift: Option<u32>,
    /// Newest numbers of the source.
    newest_in: (u16, u32),
    /// Newest numbers of ours.
    newest_out: (u16, u32),
    /// When the newest packet arrived.
    newest_at: Option<Instant>,
}

impl Rewrite {
    /// A stream at `hz` whose first packet has these numbers.
    pub(super) fn new(hz: u32, sequence: u16, timestamp: u32) -> Self {
        Self {
            hz,
            sequence_shift: None,
            timestamp_shift: None,
            newest_in: (0, 0),
            newest_out: (sequence.wrapping_sub(1), timestamp),
            newest_at: None,
        }
    }

    /// Another source begins with the next packet.
    pub(super) fn change_source(&mut self) {
        self.sequence_shift = None;
        self.timestamp_shift = None;
    }

    /// Packets of the source are left out: the next one follows the last one, with `gap` numbers between them.
    pub(super) fn skip(&mut self, gap: u16) {
        if self.sequence_shift.take().is_some() {
            self.newest_out.0 = self.newest_out.0.wrapping_add(gap);
        }
    }

    /// The packet at `sequence`, the newest one, is left out without a trace.
    pub(super) fn collapse(&mut self, sequence: u16) {
        if let Some(shift) = &mut self.sequence_shift {
            *shift = shift.wrapping_sub(1);
            self.newest_in.0 = sequence;
        }
    }

    /// Our numbers for the packet with these numbers of the source.
    pub(super) fn map(&mut self, arrived: Instant, sequence: u16, timestamp: u32) -> (u16, u32) {
        let jump = sequence.wrapping_sub(self.newest_in.0).cast_signed();
        if self.sequence_shift.is_some() && jump.unsigned_abs() > MAX_JUMP {
            self.sequence_shift = None;
        }
        let time_jump = timestamp.wrapping_sub(self.newest_in.1).cast_signed();
        if self.timestamp_shift.is_some()
            && u64::from(time_jump.unsigned_abs()) > MAX_TIME_JUMP.as_secs() * u64::from(self.hz)
        {
            self.timestamp_shift = None;
        }
        let (last_sequence, last_timestamp) = self.newest_out;
        let is_new = self.sequence_shift.is_none() || jump > 0;
        let sequence_shift = *self
            .sequence_shift
            .get_or_insert_with(|| last_sequence.wrapping_add(1).wrapping_sub(sequence));
        let timestamp_shift = match self.timestamp_shift {
            Some(shift) => shift,
            None => {
                let passed = self.passed(arrived);
                last_timestamp.wrapping_add(passed).wrapping_sub(timestamp)
            }
        };
        self.timestamp_shift = Some(timestamp_shift);
        let out = (
            sequence.wrapping_add(sequence_shift),
            timestamp.wrapping_add(timestamp_shift),
        );
        if is_new {
            self.newest_in = (sequence, timestamp);
            self.newest_out = out;
            self.newest_at = Some(arrived);
        }
        out
    }

    /// Our timestamp for a timestamp of the present source; none before its first packet.
    pub(super) fn timestamp(&self, timestamp: u32) -> Option<u32> {
        self.timestamp_shift
            .map(|shift| timestamp.wrapping_add(shift))
    }

    /// Ticks since the newest packet, at least one; none before the first packet.
    fn passed(&self, arrived: Instant) -> u32 {
        let Some(newest) = self.newest_at else {
            return 0;
        };
        let millis = arrived.saturating_duration_since(newest).as_millis();
        let ticks = millis.saturating_mul(u128::from(self.hz)) / 1_000;
        // Modulo 2^32, as timestamps are.
        u32::try_from(ticks.max(1) & u128::from(u32::MAX)).unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_source_goes_on_where_the_last_one_stopped() {
        let t = origin();
        let mut rewrite = Rewrite::new(90_000, 65_535, 100);
        assert_eq!(rewrite.map(t, 7, 5_000), (65_535, 100));
        assert_eq!(rewrite.map(t, 9, 8_000), (1, 3_100), "the gap stays");
        assert_eq!(rewrite.map(t, 8, 8_000), (0, 3_100), "late, in its place");
        rewrite.change_source();
        let (sequence, timestamp) = rewrite.map(t + 40 * MS, 40_000, 77);
        assert_eq!((sequence, timestamp), (2, 3_100 + 3_600));
        assert_eq!(rewrite.timestamp(77 + 90), Some(3_100 + 3_690));
    }

    #[test]
    fn left_out_packets_leave_the_gap_that_is_asked_for() {
        let t = origin();
        let mut rewrite = Rewrite::new(90_000, 10, 0);
        rewrite.map(t, 100, 0);
        rewrite.skip(0);
        assert_eq!(rewrite.map(t, 150, 0).0, 11);
        rewrite.collapse(151);
        assert_eq!(rewrite.map(t, 152, 0).0, 12);
        rewrite.skip(1);
        assert_eq!(rewrite.map(t, 500, 0).0, 14);
    }

    #[test]
    fn a_restart_of_the_source_is_followed() {
        let t = origin();
        let mut rewrite = Rewrite::new(48_000, 10, 0);
        rewrite.map(t, 100, 0);
        let (sequence, timestamp) = rewrite.map(t + 20 * MS, 30_000, 4_000_000_000);
        assert_eq!((sequence, timestamp), (11, 960));
    }

    proptest! {
        /// Whatever the sources do: in order, numbers strictly increase modulo their wrap.
        #[test]
        fn numbers_increase_over_changes_of_the_source(
            steps in proptest::collection::vec((0_u8..8, any::<u16>(), any::<u32>(), 1_u16..20), 1..200),
        ) {
            let mut now = origin();
            let mut rewrite = Rewrite::new(90_000, 0, 0);
            let (mut sequence, mut timestamp) = (0_u16, 0_u32);
            let mut last: Option<(u16, u32)> = None;
            for (what, fresh, fresh_timestamp, step) in steps {
                now += 10 * MS;
                match what {
                    0 => {
                        rewrite.change_source();
                        (sequence, timestamp) = (fresh, fresh_timestamp);
                    }
                    1 => rewrite.skip(step % 2),
                    _ => {
                        sequence = sequence.wrapping_add(step);
                        timestamp = timestamp.wrapping_add(900);
                    }
                }
                let out = rewrite.map(now, sequence, timestamp);
                if let Some((last_sequence, last_timestamp)) = last {
                    if what > 1 || what == 0 {
                        prop_assert!(out.0.wrapping_sub(last_sequence).cast_signed() > 0);
                    }
                    prop_assert!(out.1.wrapping_sub(last_timestamp).cast_signed() >= 0);
                }
                last = Some(out);
            }
        }
    }
}
