//! The relays that have reported themselves, and what a player is given for each.
//!
//! A relay says every few seconds where it listens and how full it is; one that is silent for [`LIFETIME`] is forgotten.
//! Nothing here is kept over a restart: relays come back by themselves. Bounded by [`MAX_RELAYS`]: more are refused.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Deserialize;

/// A relay is forgotten after this much silence: three reports.
const LIFETIME: Duration = Duration::from_secs(6);
/// Relays known at one time.
const MAX_RELAYS: usize = 1_000;
/// Relays that a player is told of.
const MAX_CANDIDATES: usize = 8;

/// What a relay says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    /// Where players reach it, by UDP.
    pub(crate) address: SocketAddr,
    /// How full it is, 0 to 1; a full one is not handed out.
    #[serde(default)]
    pub(crate) load: f32,
}

#[derive(Debug, Default)]
pub(crate) struct Relays {
    known: HashMap<u64, (Instant, Report)>,
    turn: u64,
}

impl Relays {
    /// Takes a report; false when there is no more room.
    pub(crate) fn report(&mut self, now: Instant, relay: u64, report: Report) -> bool {
        if self.known.len() >= MAX_RELAYS {
            self.forget(now);
        }
        let room = self.known.len() < MAX_RELAYS || self.known.contains_key(&relay);
        if room {
            self.known.insert(relay, (now, report));
        }
        room
    }

    /// Relays for one player, best first. Those least loaded, in turns, so that not all players get the same.
    pub(crate) fn candidates(&mut self, now: Instant) -> Vec<(u64, SocketAddr)> {
        self.forget(now);
        let mut free: Vec<_> = self
            .known
            .iter()
            .filter(|(_, (_, report))| report.load < 1.0)
            .collect();
        free.sort_unstable_by_key(|(id, _)| **id);
        if let Some(by) = self
            .turn
            .checked_rem(u64::try_from(free.len()).unwrap_or(1))
        {
            free.rotate_left(usize::try_from(by).unwrap_or_default());
        }
        self.turn = self.turn.wrapping_add(1);
        // Stable: those of equal load keep their turn. Loads differ when they differ by a tenth.
        free.sort_by(|(_, (_, a)), (_, (_, b))| {
            let tenths = |load: f32| (load * 10.0).round();
            tenths(a.load).total_cmp(&tenths(b.load))
        });
        free.into_iter()
            .take(MAX_CANDIDATES)
            .map(|(id, (_, report))| (*id, report.address))
            .collect()
    }

    fn forget(&mut self, now: Instant) {
        self.known
            .retain(|_, (seen, _)| now.saturating_duration_since(*seen) < LIFETIME);
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests need some instant to start from"
)]
mod tests {
    use super::*;

    fn report(port: u16, load: f32) -> Report {
        Report {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            load,
        }
    }

    #[test]
    fn players_get_those_that_live_and_have_room_in_turns() {
        let (now, mut relays) = (Instant::now(), Relays::default());
        assert!(relays.candidates(now).is_empty());
        for (id, load) in [(1, 0.0), (2, 0.0), (3, 1.0), (4, 0.5)] {
            assert!(relays.report(now, id, report(4_000, load)));
        }
        let ids = |found: Vec<(u64, SocketAddr)>| -> Vec<u64> {
            found.into_iter().map(|(id, _)| id).collect()
        };
        let first = ids(relays.candidates(now));
        let second = ids(relays.candidates(now));
        assert_eq!((first.len(), first[2]), (3, 4), "the full one is left out");
        assert_ne!(first, second, "in turns");
        relays.report(now + LIFETIME / 2, 2, report(4_000, 0.0));
        assert_eq!(ids(relays.candidates(now + LIFETIME)), [2]);
    }

    #[test]
    fn there_is_a_bound() {
        let (now, mut relays) = (Instant::now(), Relays::default());
        for id in 0..1_000 {
            assert!(relays.report(now, id, report(1, 0.0)));
        }
        assert!(!relays.report(now, 5_000, report(1, 0.0)));
        assert!(relays.report(now, 5, report(1, 0.0)));
        assert!(relays.report(now + LIFETIME, 5_000, report(1, 0.0)));
    }
}
