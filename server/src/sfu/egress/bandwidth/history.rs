//! What was sent lately, by its number.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Most packets remembered: a quarter of what 16 bits can tell apart.
pub(super) const CAPACITY: usize = 1 << 14;
/// Older packets are forgotten, reported or not.
const MAX_AGE: Duration = Duration::from_secs(10);

/// A packet that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) at: Instant,
    pub(super) bytes: u32,
    /// It has been reported as missing.
    missed: bool,
}

/// Packets without a report of their arrival, and holes where there was one.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Number of the first.
    first: u64,
    sent: VecDeque<Option<Sent>>,
}

impl History {
    /// Keeps a packet; its number, without wrap.
    pub(super) fn add(&mut self, now: Instant, bytes: u32) -> u64 {
        while let Some(front) = self.sent.front() {
            let is_due = front.is_none_or(|sent| {
                self.sent.len() >= CAPACITY || now.saturating_duration_since(sent.at) > MAX_AGE
            });
            if !is_due {
                break;
            }
            self.sent.pop_front();
            self.first += 1;
        }
        self.sent.push_back(Some(Sent {
            at: now,
            bytes,
            missed: false,
        }));
        self.first + self.sent.len() as u64 - 1
    }

    /// The place of a number on the wire.
    fn place(&self, number: u16) -> Option<(u64, usize)> {
        let next = self.first + self.sent.len() as u64;
        let back = wire(next).wrapping_sub(number);
        let index = next.checked_sub(u64::from(back)).filter(|_| back > 0)?;
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        Some((index, at))
    }

    /// The packet that has arrived, once, with its number.
    pub(super) fn take(&mut self, number: u16) -> Option<(u64, Sent)> {
        let (index, at) = self.place(number)?;
        let sent = self.sent.get_mut(at)?.take()?;
        Some((index, sent))
    }

    /// A packet is reported as missing; true when it is the first time. It may arrive yet.
    pub(super) fn miss(&mut self, number: u16) -> bool {
        let Some((_, at)) = self.place(number) else {
            return false;
        };
        match self.sent.get_mut(at) {
            Some(Some(sent)) => !std::mem::replace(&mut sent.missed, true),
            _ => false,
        }
    }
}

/// The lowest 16 bits.
pub(super) fn wire(number: u64) -> u16 {
    let [.., high, low] = number.to_be_bytes();
    u16::from_be_bytes([high, low])
}
