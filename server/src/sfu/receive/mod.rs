//! The receive buffer of one RTP stream: put packets in order, drop copies, ask for what is missing, give up in time.
//!
//! Packets go in as they arrive and come out in sequence order, each at most once. A hole holds back what follows it
//! until the missing packet arrives or is given up; then [`Output::Lost`] comes out in its place. A stream with
//! negative acknowledgements (RFC 4585 §6.2.1) asks for a missing packet 10 ms after the gap showed (reordering is
//! not loss), then again after the measured round trip with a growing distance, at most ten times.
//!
//! Invariants:
//! - Outputs are in strictly increasing sequence order; between two packets either nothing is missing or there is a `Lost`.
//! - At most [`WINDOW`] sequence numbers and [`MAX_HELD_BYTES`] are held; over it the oldest hole is given up.
//! - Nothing is held longer than [`Policy::hold`] behind a hole.
//!
//! It sits behind the engine's arrival recorders (transport-wide feedback, receiver reports), which must see the path
//! as it is, and behind the unwrapping of retransmissions, without which repairs would look like another stream.

mod missing;
mod sequence;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use self::missing::Missing;
use self::sequence::{Extend, Extended};
use super::packet::RtpPacket;

/// How far apart the oldest and the newest packet may be, in sequence numbers.
pub(crate) const WINDOW: i64 = 2_048;
/// The most that is held behind a hole, in payload bytes.
pub(crate) const MAX_HELD_BYTES: usize = 4 << 20;
/// A hole of more packets than this is not worth repairing: a keyframe is cheaper.
const MAX_HOLE: i64 = 512;

/// What a stream may do about missing packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// The sender repairs on negative acknowledgement.
    pub(crate) nack: bool,
    /// The longest that a hole may hold back what follows it.
    pub(crate) hold: Duration,
}

impl Policy {
    /// Video whose sender repairs.
    pub(crate) const REPAIRED: Self = Self {
        nack: true,
        hold: Duration::from_millis(1_000),
    };
    /// Streams that are not repaired: only reordering is waited for.
    pub(crate) const UNREPAIRED: Self = Self {
        nack: false,
        hold: Duration::from_millis(60),
    };
}

/// What comes out of the buffer, in sequence order.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// The next packet.
    Packet(RtpPacket),
    /// Packets before the next one never came.
    Lost,
}

/// Totals since the stream began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Packets accepted, padding included.
    pub(crate) packets: u64,
    /// Packets that came again, or after they were given up.
    pub(crate) duplicates: u64,
    /// Packets given up.
    pub(crate) lost: u64,
    /// Sequence numbers asked for.
    pub(crate) nacks: u64,
    /// Holes filled after asking.
    pub(crate) recovered: u64,
    /// Jumps of the sequence that could only be followed by starting over.
    pub(crate) restarts: u64,
}

/// The receive buffer of one stream.
#[derive(Debug)]
pub(crate) struct Receiver {
    policy: Policy,
    extend: Extend,
    /// The sequence number that comes out next; none before the first packet.
    next: Option<i64>,
    held: BTreeMap<i64, RtpPacket>,
    held_bytes: usize,
    missing: Missing,
    outputs: VecDeque<Output>,
    counters: Counters,
}

impl Receiver {
    /// An empty buffer.
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy,
            extend: Extend::default(),
            next: None,
            held: BTreeMap::new(),
            held_bytes: 0,
            missing: Missing::default(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Takes a packet of this stream; false when it has been here before, or should have been.
    pub(crate) fn handle_packet(&mut self, now: Instant, packet: RtpPacket) -> bool {
        let sequence = match self.extend.place(packet.sequence) {
            Extended::At(sequence) => sequence,
            Extended::Unlikely => {
                self.counters.duplicates += 1;
                return false;
            }
            Extended::Restart(sequence) => {
                self.start_over();
                sequence
            }
        };
        let next = *self.next.get_or_insert(sequence);
        if sequence < next || self.held.contains_key(&sequence) {
            self.counters.duplicates += 1;
            return false;
        }
        self.counters.packets += 1;
        if let Some(asked) = self.missing.arrived(now, sequence) {
            self.counters.recovered += u64::from(asked);
        }
        self.note_hole(now, next, sequence);
        self.held_bytes += packet.payload.len();
        self.held.insert(sequence, packet);
        self.release();
        self.enforce_bounds();
        true
    }

    /// Does what is due: gives up holes that have waited long enough.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(next) = self.next {
            let hopeless = self
                .missing
                .is_hopeless(now, next, self.policy.hold, self.policy.nack);
            if !hopeless {
                break;
            }
            self.give_up_first_hole();
        }
    }

    /// The sequence numbers to ask for now.
    pub(crate) fn poll_nacks(&mut self, now: Instant) -> Vec<u16> {
        if !self.policy.nack {
            return Vec::new();
        }
        let due = self.missing.due(now);
        self.counters.nacks += due.len() as u64;
        due
    }

    /// The next packet or loss, in order.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] and [`Self::poll_nacks`] want to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.missing
            .next_deadline(self.policy.hold, self.policy.nack)
    }

    /// Totals.
    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    /// The round trip as repairs show it; none before the first repair.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.missing.rtt()
    }

    fn note_hole(&mut self, now: Instant, next: i64, sequence: i64) {
        let newest = self.held.last_key_value().map_or(next - 1, |(at, _)| *at);
        if sequence <= newest + 1 {
            return;
        }
        if sequence - newest > MAX_HOLE {
            // Release what is held; the hole itself is given up as a whole by the bounds below.
            self.missing.clear();
            while self.held.first_key_value().is_some() {
                self.give_up_first_hole();
            }
            self.skip_to(sequence);
            return;
        }
        for lost in newest + 1..sequence {
            self.missing.add(now, lost);
        }
    }

    /// Moves everything that is contiguous from the held packets to the outputs.
    fn release(&mut self) {
        while let Some(next) = self.next {
            let Some(packet) = self.held.remove(&next) else {
                return;
            };
            self.held_bytes = self.held_bytes.saturating_sub(packet.payload.len());
            self.next = Some(next + 1);
            self.outputs.push_back(Output::Packet(packet));
        }
    }

    /// Declares everything before the first held packet lost.
    fn give_up_first_hole(&mut self) {
        match self.held.first_key_value().map(|(at, _)| *at) {
            Some(first) => self.skip_to(first),
            None => self.missing.clear(),
        }
        self.release();
    }

    fn skip_to(&mut self, sequence: i64) {
        let Some(next) = self.next else { return };
        let lost = u64::try_from(sequence - next).unwrap_or(0);
        if lost > 0 {
            self.counters.lost += lost;
            self.outputs.push_back(Output::Lost);
        }
        self.missing.forget_before(sequence);
        self.next = Some(sequence);
    }

    fn enforce_bounds(&mut self) {
        let too_wide = |held: &BTreeMap<i64, RtpPacket>, next: i64| {
            held.last_key_value()
                .is_some_and(|(at, _)| at - next >= WINDOW)
        };
        while let Some(next) = self.next {
            let over = self.held_bytes > MAX_HELD_BYTES || too_wide(&self.held, next);
            if !over || self.held.is_empty() {
                return;
            }
            self.give_up_first_hole();
        }
    }

    fn start_over(&mut self) {
        while !self.held.is_empty() {
            self.give_up_first_hole();
        }
        self.missing.clear();
        self.next = None;
        self.counters.restarts += 1;
        self.outputs.push_back(Output::Lost);
    }
}

#[cfg(test)]
mod tests;
