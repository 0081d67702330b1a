//! The order of all frames, put together from pieces.
//!
//! Every packet brings its frame's entry and those of the frames before it: a *local chain*. A local chain that contains
//! the end of the *global chain* extends it, entry by entry, as long as each CRC proves that its frame follows the two
//! before. Others wait ([`MAX_PARKED`]) until the end has come so far. This is Algorithm 1 of the RLIVE paper, repaired:
//!
//! - A local chain that brings nothing new is [`Outcome::Stale`] and dropped, one that does not meet the end waits, one
//!   that contradicts its CRC is [`Outcome::Corrupt`] and counts against who sent it; the paper has one `False` for all.
//! - Entries carry whole headers, so the order is known before the data is there: a frame that is lost can be named and
//!   asked for. In the paper it blocks everything behind it.
//! - What was linked before a failure stays linked.
//! - When more frames in a row are lost than a chain is long, the end cannot be met any more: [`Chain::stuck_since`] tells,
//!   and headers from elsewhere ([`Chain::offer`] takes them like any chain) close the gap.
//!
//! Invariants: what comes out of [`Chain::poll_linked`] is a contiguous piece of the origin's order, without gaps, and
//! nothing comes twice. Memory is bounded by [`WINDOW`] and [`MAX_PARKED`].

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use media::substream::{Entry, Header, chain_crc};

/// Linked entries that are remembered, to tell old chains from new ones.
const WINDOW: usize = 1_024;
/// Local chains that wait; the oldest goes.
const MAX_PARKED: usize = 512;
/// A local chain waits at most this long.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of a local chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It, and chains that had waited for it, brought this many new entries.
    Linked(usize),
    /// Everything in it was known.
    Stale,
    /// It does not meet the end of the global chain; it waits.
    Parked,
    /// This entry does not follow from those before: the chain is forged or damaged.
    Corrupt(Entry),
}

/// The global chain.
#[derive(Debug, Default)]
pub struct Chain {
    /// Whether it is known where the order begins.
    seeded: bool,
    linked: VecDeque<Entry>,
    /// What is in `linked`.
    known: HashSet<Entry>,
    fresh: VecDeque<Entry>,
    parked: VecDeque<(Instant, Vec<Entry>)>,
}

impl Chain {
    /// Begins after these frames, oldest first, as the origin says they were; after none at the beginning of a stream.
    /// What waits is tried again.
    pub fn seed(&mut self, prior: &[Entry]) {
        self.seeded = true;
        self.linked.clear();
        self.known.clear();
        self.fresh.clear();
        for entry in prior {
            self.linked.push_back(*entry);
            self.known.insert(*entry);
        }
        self.try_parked();
    }

    /// The end of the global chain.
    #[must_use]
    pub fn tail(&self) -> Option<Entry> {
        self.linked.back().copied()
    }

    /// Whether a frame is among the newest of the global chain.
    #[must_use]
    pub fn contains(&self, entry: &Entry) -> bool {
        self.known.contains(entry)
    }

    /// Whether it is known where the order begins.
    #[must_use]
    pub fn is_seeded(&self) -> bool {
        self.seeded
    }

    /// Takes a local chain, oldest entry first.
    pub fn offer(&mut self, now: Instant, local: &[Entry]) -> Outcome {
        let outcome = self.extend(local);
        match outcome {
            Outcome::Linked(count) => Outcome::Linked(count + self.try_parked()),
            Outcome::Parked => {
                self.park(now, local);
                Outcome::Parked
            }
            Outcome::Stale | Outcome::Corrupt(_) => outcome,
        }
    }

    /// The next entry in order that has not been taken yet.
    pub fn poll_linked(&mut self) -> Option<Entry> {
        self.fresh.pop_front()
    }

    /// Since when a local chain waits for what is between the end and itself.
    #[must_use]
    pub fn stuck_since(&self) -> Option<Instant> {
        self.parked.front().map(|(since, _)| *since)
    }

    /// Lets go of chains that have waited too long.
    pub fn forget(&mut self, now: Instant) {
        while let Some((since, _)) = self.parked.front()
            && now.saturating_duration_since(*since) >= PATIENCE
        {
            self.parked.pop_front();
        }
    }

    fn extend(&mut self, local: &[Entry]) -> Outcome {
        let new = match self.tail() {
            Some(tail) => {
                let Some(at) = local.iter().rposition(|entry| *entry == tail) else {
                    return self.judge(local);
                };
                local.get(at + 1..).unwrap_or_default()
            }
            None if self.seeded => local,
            None => return Outcome::Parked,
        };
        let mut count = 0;
        for entry in new {
            if chain_crc(self.last_two(), entry.header) != entry.crc {
                return match (count, self.linked.is_empty()) {
                    (0, true) => Outcome::Parked,
                    (0, false) => Outcome::Corrupt(*entry),
                    (count, _) => Outcome::Linked(count),
                };
            }
            self.link(*entry);
            count += 1;
        }
        match count {
            0 => Outcome::Stale,
            count => Outcome::Linked(count),
        }
    }

    /// A local chain without the end in it: old, in conflict, or ahead.
    fn judge(&self, local: &[Entry]) -> Outcome {
        let known = |entry: &Entry| self.known.contains(entry);
        let Some(last) = local.last() else {
            return Outcome::Stale;
        };
        let oldest = self.linked.front().map(|entry| entry.header.dts_ms);
        let before = oldest.is_some_and(|oldest| is_before(last.header.dts_ms, oldest));
        if known(last) || (before && self.linked.len() >= WINDOW) {
            return Outcome::Stale;
        }
        // It leaves our order before the end and does not come back to it.
        match local.iter().rposition(known) {
            Some(at) => local
                .get(at + 1)
                .map_or(Outcome::Stale, |entry| Outcome::Corrupt(*entry)),
            None => Outcome::Parked,
        }
    }

    fn last_two(&self) -> [Option<Header>; 2] {
        let mut back = self.linked.iter().rev().map(|entry| entry.header);
        let last = back.next();
        [back.next(), last]
    }

    fn link(&mut self, entry: Entry) {
        self.linked.push_back(entry);
        self.known.insert(entry);
        self.fresh.push_back(entry);
        if self.linked.len() > WINDOW
            && let Some(old) = self.linked.pop_front()
        {
            self.known.remove(&old);
        }
    }

    fn park(&mut self, now: Instant, local: &[Entry]) {
        if self.parked.len() >= MAX_PARKED {
            self.parked.pop_front();
        }
        self.parked.push_back((now, local.to_vec()));
    }

    /// Tries what waits until nothing fits any more; gives the number of new entries.
    fn try_parked(&mut self) -> usize {
        let mut total = 0;
        let mut fits = true;
        while fits {
            fits = false;
            let mut waiting = std::mem::take(&mut self.parked);
            waiting.retain(|(_, local)| match self.extend(local) {
                Outcome::Linked(count) => {
                    total += count;
                    fits = true;
                    false
                }
                Outcome::Parked => true,
                Outcome::Stale | Outcome::Corrupt(_) => false,
            });
            self.parked = waiting;
        }
        total
    }
}

/// Serial comparison of times modulo 2³² (as of numbers in RFC 1982).
#[must_use]
pub fn is_before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

#[cfg(test)]
mod paper;
#[cfg(test)]
mod tests;
