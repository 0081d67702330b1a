//! What is missing from a stream, when to ask for it again, and when to stop asking.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a gap may be reordering before it is taken for loss.
const REORDER: Duration = Duration::from_millis(10);
/// How often one packet is asked for.
pub(crate) const MAX_TRIES: u8 = 10;
/// The shortest and longest distance between two requests for one packet.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_millis(400);
/// Assumed before the first repair.
const INITIAL_RTT: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
struct Gap {
    noticed: Instant,
    first_asked: Option<Instant>,
    ask_at: Instant,
    tries: u8,
}

/// Missing sequence numbers of one stream.
#[derive(Debug, Default)]
pub(super) struct Missing {
    gaps: BTreeMap<i64, Gap>,
    rtt: Option<Duration>,
}

impl Missing {
    /// A gap showed at `sequence`.
    pub(super) fn add(&mut self, now: Instant, sequence: i64) {
        self.gaps.insert(
            sequence,
            Gap {
                noticed: now,
                first_asked: None,
                ask_at: now + REORDER,
                tries: 0,
            },
        );
    }

    /// `sequence` arrived: whether it had been asked for; `None` when it was not missing.
    pub(super) fn arrived(&mut self, now: Instant, sequence: i64) -> Option<bool> {
        let gap = self.gaps.remove(&sequence)?;
        if let Some(asked) = gap.first_asked {
            self.learn(now.saturating_duration_since(asked), gap.tries);
        }
        Some(gap.tries > 0)
    }

    /// A packet asked for once tells the round trip; one asked for again, an upper bound (Karn). The bound counts too: after
    /// the round trip has grown, everything is asked for again before it can come, and nothing else would tell. Where it is
    /// too high, because a request or a repair was lost, the next packets bring it down.
    fn learn(&mut self, sample: Duration, tries: u8) {
        let sample = sample.min(RETRY_MAX);
        let weight = if tries == 1 { 0.125 } else { 0.25 };
        self.rtt = Some(match self.rtt {
            None => sample,
            Some(rtt) => rtt.mul_f64(1.0 - weight) + sample.mul_f64(weight),
        });
    }

    /// The sequence numbers (modulo 2^16) to ask for now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<u16> {
        let retry = self.retry();
        let mut due = Vec::new();
        for (sequence, gap) in &mut self.gaps {
            if gap.tries >= MAX_TRIES || now < gap.ask_at {
                continue;
            }
            gap.tries += 1;
            gap.first_asked.get_or_insert(now);
            gap.ask_at = now + back_off(retry, gap.tries);
            let [.., high, low] = sequence.to_be_bytes();
            due.push(u16::from_be_bytes([high, low]));
        }
        due
    }

    /// The hole at `next` will not be filled any more: asked for in vain, or held for `hold`.
    pub(super) fn is_hopeless(&self, now: Instant, next: i64, hold: Duration, nack: bool) -> bool {
        self.gaps.get(&next).is_some_and(|gap| {
            let exhausted = nack && gap.tries >= MAX_TRIES && now >= gap.ask_at;
            exhausted || now >= gap.noticed + hold
        })
    }

    /// The earliest time at which something is due.
    pub(super) fn next_deadline(&self, hold: Duration, nack: bool) -> Option<Instant> {
        let first = self
            .gaps
            .first_key_value()
            .map(|(_, gap)| gap.noticed + hold);
        let ask = self
            .gaps
            .values()
            .filter(|_| nack)
            .map(|gap| gap.ask_at)
            .min();
        [first, ask].into_iter().flatten().min()
    }

    /// Everything before `sequence` is settled.
    pub(super) fn forget_before(&mut self, sequence: i64) {
        self.gaps = self.gaps.split_off(&sequence);
    }

    /// Nothing is missing any more.
    pub(super) fn clear(&mut self) {
        self.gaps.clear();
    }

    /// The smoothed round trip.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    fn retry(&self) -> Duration {
        let rtt = self.rtt.unwrap_or(INITIAL_RTT);
        (rtt.mul_f64(1.25) + REORDER).clamp(RETRY_MIN, RETRY_MAX)
    }
}

/// The distance to the next request after `tries` requests: × 1.5 each time.
fn back_off(retry: Duration, tries: u8) -> Duration {
    retry
        .mul_f64(1.5_f64.powi(i32::from(tries.saturating_sub(1))))
        .min(RETRY_MAX)
}
