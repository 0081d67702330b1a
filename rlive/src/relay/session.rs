//! One player at a relay.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use media::substream::{Entry, MAX_SUBSTREAMS};
use media::ticket::Ticket;

use super::cache::{Cached, LIFE};
use super::{FeedName, LEASE, MAX_ANSWERS};
use crate::wire::control::{Accept, Replay, Subscribe};
use crate::wire::{Keys, data};

/// How far ahead of its rate a session may be: one second, so that a keyframe fits.
const BURST_S: f64 = 1.0;
/// Packets whose answers are counted; beyond it nothing is sent again until the oldest have left the cache.
const MAX_COUNTED: usize = 4_096;

/// How often each packet has been sent again, for as long as it can be asked for.
#[derive(Debug, Default)]
struct Answers {
    counts: HashMap<(u32, u32, u16), u8>,
    begun: VecDeque<(Instant, (u32, u32, u16))>,
}

impl Answers {
    /// Whether a packet may be sent again; it counts.
    fn take(&mut self, now: Instant, packet: (u32, u32, u16)) -> bool {
        while let Some((at, old)) = self.begun.front().copied()
            && now.saturating_duration_since(at) > LIFE
        {
            self.begun.pop_front();
            self.counts.remove(&old);
        }
        if let Some(count) = self.counts.get_mut(&packet) {
            *count = count.saturating_add(1);
            return *count <= MAX_ANSWERS;
        }
        let room = self.counts.len() < MAX_COUNTED;
        if room {
            self.counts.insert(packet, 1);
            self.begun.push_back((now, packet));
        }
        room
    }
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) address: SocketAddr,
    pub(super) keys: Keys,
    pub(super) nonce: u64,
    pub(super) wanted: Vec<FeedName>,
    pub(super) replay: Replay,
    pub(super) heard: Instant,
    pub(super) sent_bytes: u64,
    pub(super) resent_bytes: u64,
    /// The newest packet that the player has reported.
    pub(super) reported: Option<u32>,
    conn: u32,
    started: Instant,
    answers: Answers,
    /// The next number of each substream's packets.
    pseq: [u32; MAX_SUBSTREAMS as usize],
    /// What the ticket allows, in bytes per second, and what is left of it.
    rate: f64,
    left: f64,
    left_at: Instant,
}

impl Session {
    pub(super) fn new(
        now: Instant,
        address: SocketAddr,
        keys: Keys,
        conn: u32,
        asked: &Subscribe,
        ticket: &Ticket,
        wanted: Vec<FeedName>,
    ) -> Self {
        let rate = f64::from(ticket.max_kbps) * 125.0;
        Self {
            address,
            keys,
            nonce: asked.nonce,
            wanted,
            replay: Replay::default(),
            heard: now,
            sent_bytes: 0,
            resent_bytes: 0,
            reported: None,
            conn,
            started: now,
            answers: Answers::default(),
            pseq: [0; MAX_SUBSTREAMS as usize],
            rate,
            left: rate * BURST_S,
            left_at: now,
        }
    }

    /// The answer that opens the session.
    pub(super) fn accept(&self) -> Vec<u8> {
        Accept {
            nonce: self.nonce,
            conn: self.conn,
            mask: self.wanted.iter().map(|name| 1 << name.substream).sum(),
            lease_ms: u16::try_from(LEASE.as_millis()).unwrap_or(u16::MAX),
        }
        .write(&self.keys)
    }

    /// Whether a frame is within what the ticket allows; it counts.
    pub(super) fn may_send(&mut self, now: Instant, bytes: u32) -> bool {
        let passed = now.saturating_duration_since(self.left_at).as_secs_f64();
        self.left = (self.left + passed * self.rate).min(self.rate * BURST_S);
        self.left_at = now;
        let allowed = self.left > 0.0;
        if allowed {
            self.left -= f64::from(bytes);
        }
        allowed
    }

    /// Whether a packet may be sent again; it counts.
    pub(super) fn may_answer(&mut self, now: Instant, entry: &Entry, index: u16) -> bool {
        let packet = (entry.header.dts_ms, entry.crc, index);
        self.answers.take(now, packet)
    }

    pub(super) fn packet(
        &mut self,
        now: Instant,
        substream: u8,
        epoch: u16,
        frame: &Cached,
        index: u16,
        resent: bool,
    ) -> Vec<u8> {
        let mut pseq = 0;
        if let Some(next) = self.pseq.get_mut(usize::from(substream)) {
            pseq = *next;
            *next = next.wrapping_add(1);
        }
        let head = data::Head {
            resent,
            substream,
            conn: self.conn,
            pseq,
            epoch,
            index,
            entry: frame.entry,
            relay_ms: ms(now, self.started),
            held_ms: ms(now, frame.at),
        };
        let (chain, part) = (&frame.chain, data::part(&frame.body, index));
        match &frame.signature {
            Some(signature) => data::write_signed(&head, chain, signature, part, &self.keys),
            None => data::write(&head, chain, part, &self.keys),
        }
    }
}

/// Milliseconds since `since`, modulo 2¹⁶.
fn ms(now: Instant, since: Instant) -> u16 {
    let passed = now.saturating_duration_since(since).as_millis();
    u16::try_from(passed & 0xffff).unwrap_or_default()
}
