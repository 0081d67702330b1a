//! What a bad network does to datagrams on their way in one direction. No clock and no sockets: the same seed and the
//! same datagrams have the same fate.

use std::time::{Duration, Instant};

use crate::run::rude::Dice;

/// The properties of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Link {
    /// How many of a thousand datagrams are lost, whatever they carry.
    pub lost_per_mille: u16,
    /// How long each is on its way.
    pub delay: Duration,
    /// How many of a thousand take [`Link::LATE`] longer, and are overtaken.
    pub late_per_mille: u16,
    /// What passes at most, in bits per second; `None`: everything.
    pub rate_bps: Option<u64>,
}

impl Link {
    /// How much longer a datagram takes that is overtaken.
    pub const LATE: Duration = Duration::from_millis(8);
    /// What waits longer than this for its turn on a link with a rate is lost, as in a router's queue.
    pub const QUEUE: Duration = Duration::from_millis(200);

    /// Half of a round trip of so many milliseconds, with so many of a hundred datagrams lost, and one in a hundred late
    /// when there is loss.
    #[must_use]
    pub fn of(rtt_ms: u32, loss_percent: u16) -> Self {
        Self {
            lost_per_mille: loss_percent * 10,
            delay: Duration::from_millis(u64::from(rtt_ms)) / 2,
            late_per_mille: u16::from(loss_percent > 0) * 10,
            rate_bps: None,
        }
    }

    /// A link of this rate, in kilobits per second.
    #[must_use]
    pub fn limited(rate_kbps: u64, rtt_ms: u32) -> Self {
        Self {
            rate_bps: Some(rate_kbps * 1_000),
            ..Self::of(rtt_ms, 0)
        }
    }
}

/// One direction.
#[derive(Debug)]
pub(super) struct Way {
    link: Link,
    dice: Dice,
    /// When everything that is on a link with a rate has passed.
    free: Option<Instant>,
}

impl Way {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            link: Link::default(),
            dice: Dice::new(seed),
            free: None,
        }
    }

    pub(super) fn set(&mut self, link: Link) {
        self.link = link;
        self.free = None;
    }

    /// When a datagram of so many bytes arrives that is sent now; `None`: never.
    pub(super) fn pass(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        // Both are drawn for every datagram, so that one property does not change the fate that another deals.
        let lost = self.dice.below(1_000) < usize::from(self.link.lost_per_mille);
        let late = self.dice.below(1_000) < usize::from(self.link.late_per_mille);
        if lost {
            return None;
        }
        let mut leaves = now;
        if let Some(rate_bps) = self.link.rate_bps {
            let begins = self.free.map_or(now, |free| free.max(now));
            if begins - now > Link::QUEUE {
                return None;
            }
            let bits = u64::try_from(bytes).unwrap_or(u64::MAX) * 8;
            let takes = Duration::from_nanos(bits.saturating_mul(1_000_000_000) / rate_bps.max(1));
            leaves = begins + takes;
            self.free = Some(leaves);
        }
        let extra = if late { Link::LATE } else { Duration::ZERO };
        Some(leaves + self.link.delay + extra)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn loses_what_it_says_and_the_same_again() {
        let fates = || {
            let mut way = Way::new(7);
            way.set(Link::of(40, 5));
            let t = origin();
            (0..10_000)
                .map(|_| way.pass(t, 1_000).map(|at| at - t))
                .collect::<Vec<_>>()
        };
        let first = fates();
        assert_eq!(first, fates());
        let lost = first.iter().filter(|fate| fate.is_none()).count();
        assert!((400..600).contains(&lost), "{lost}");
        let delays = first.iter().flatten();
        let late = delays.filter(|delay| **delay > Duration::from_millis(20));
        assert!((50..150).contains(&late.count()));
    }

    #[test]
    fn a_rate_delays_and_a_full_queue_loses() {
        let mut way = Way::new(1);
        way.set(Link::limited(1_000, 0));
        let t = origin();
        // 125 bytes take a millisecond; the queue takes a fifth of a second of them.
        let arrivals: Vec<_> = (0..300).map(|_| way.pass(t, 125)).collect();
        let through: Vec<_> = arrivals.iter().flatten().collect();
        assert!((200..=202).contains(&through.len()), "{}", through.len());
        assert_eq!(*through[9] - t, Duration::from_millis(10));
        assert!(way.pass(t + Duration::from_secs(1), 125).is_some());
    }
}
