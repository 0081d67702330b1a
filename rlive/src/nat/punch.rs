//! Opening the way between two who are behind translators and know of each other.
//!
//! Both send small datagrams to where the other is, or will be, at the times of [`SCHEDULE`]. The first that arrives says
//! where its sender is; the answer to it opens the way in the other direction. To somebody whose filter shuts against who
//! comes too early, the first ones are sent with a life that ends on the way ([`Output::hops`]): they open one's own
//! translator and do not reach the other's.
//!
//! ```text
//!   sending ──a datagram of the other──► reached (from there) ──── its answer, or what is sent then ───►
//!      └──── END without ──► failed
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BufMut;
use media::ticket::Key;

use super::{Filtering, Nat};
use crate::wire::{Kind, hmac_key, open, seal};

/// When something is sent, after the beginning.
const SCHEDULE: [Duration; 8] = [
    Duration::ZERO,
    Duration::from_millis(40),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(700),
    Duration::from_millis(1_100),
    Duration::from_millis(1_600),
];
/// When it is given up.
const END: Duration = Duration::from_millis(2_200);
/// Until then, nothing reaches somebody whose filter shuts against who comes too early.
const SHY: Duration = Duration::from_millis(150);
/// The life of what shall not reach the other: it passes one's own translators.
const HOPS: u8 = 4;
/// Ports that are tried of somebody whose ports come in steps.
const GUESSES: i32 = 3;

/// Flag: it answers one of the other's.
const ANSWER: u8 = 1;

/// The other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where the server sees him; with ports in steps, the newest port that was given out.
    pub seen: SocketAddr,
    /// What is in front of him.
    pub nat: Nat,
}

impl Peer {
    /// Where he may be: the ports that come next, or where he was seen.
    #[must_use]
    pub fn guesses(&self) -> Vec<SocketAddr> {
        let Some(step) = self.nat.step() else {
            return vec![self.seen];
        };
        (1..=GUESSES)
            .filter_map(|times| {
                let port = i32::from(self.seen.port()) + times * i32::from(step);
                Some(SocketAddr::new(self.seen.ip(), u16::try_from(port).ok()?))
            })
            .filter(|guess| guess.port() >= 1_024)
            .collect()
    }
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Where to.
    pub to: SocketAddr,
    /// How many hops it may live; as many as usual.
    pub hops: Option<u8>,
    /// What.
    pub bytes: Vec<u8>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing has come yet.
    Sending,
    /// The other is here, and hears us.
    Reached(SocketAddr),
    /// In vain.
    Failed,
}

/// The state machine of one of the two.
#[derive(Debug)]
pub struct Punch {
    key: aws_lc_rs::hmac::Key,
    peer: Peer,
    started: Instant,
    sent: usize,
    state: State,
    outputs: VecDeque<Output>,
}

impl Punch {
    /// Begins now. Both have the same key, which nobody else has.
    #[must_use]
    pub fn new(now: Instant, peer: Peer, key: &Key) -> Self {
        Self {
            key: hmac_key(&key.for_purpose("punch")),
            peer,
            started: now,
            sent: 0,
            state: State::Sending,
            outputs: VecDeque::new(),
        }
    }

    /// How far it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Takes a datagram; false when it is none of this machine's.
    pub fn handle(&mut self, from: SocketAddr, datagram: &[u8]) -> bool {
        if Kind::of(datagram) != Some(Kind::Punch) {
            return false;
        }
        let Ok([_, flags, ..]) = open(&self.key, datagram) else {
            return false;
        };
        if self.state == State::Sending {
            self.state = State::Reached(from);
        }
        // Each of the other's is answered, as answers get lost too; answers are not.
        if flags & ANSWER == 0 && self.state == State::Reached(from) {
            self.send(from, None, ANSWER);
        }
        true
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.started);
        while self.state == State::Sending
            && let Some(due) = SCHEDULE.get(self.sent)
            && *due <= passed
        {
            self.sent += 1;
            let shy = self.peer.nat.filtering == Filtering::Sequential && passed < SHY;
            let hops = shy.then_some(HOPS);
            for to in self.peer.guesses() {
                self.send(to, hops, 0);
            }
        }
        if self.state == State::Sending && passed >= END {
            self.state = State::Failed;
        }
    }

    fn send(&mut self, to: SocketAddr, hops: Option<u8>, flags: u8) {
        let mut bytes = vec![Kind::Punch.byte(), flags];
        bytes.put_u16(0);
        seal(&self.key, &mut bytes);
        self.outputs.push_back(Output { to, hops, bytes });
    }

    /// What to send next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Punch::handle_timeout`] must be called; `None` when it is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.state != State::Sending {
            return None;
        }
        let next = SCHEDULE.get(self.sent).copied().unwrap_or(END);
        Some(self.started + next)
    }
}
