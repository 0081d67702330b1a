//! Which kind of translator is in the way.
//!
//! The server has two addresses with two ports each: A1, A2, B1, B2. Questions go out one after another; each is asked
//! [`TRIES`] times.
//!
//! | question | answer | says |
//! |---|---|---|
//! | A1: who am I | p₁ | public address; none when it is one's own |
//! | A1: let B2 answer | comes | filter: independent |
//! | A1: let A2 answer | comes | filter: by address; else by address and port |
//! | B1: who am I | p₂ = p₁ | mapping: independent |
//! | A2: who am I | p₃ = p₁ | else: by address; else by address and port |
//! | B2: who am I | p₄ | |
//!
//! A2 and B2 have sent something before they were sent something. If p₂ = p₁ and yet one of their answers is missing or
//! names another port, the filter is sequential. If each p is another, equal differences are the step.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut};

use super::{Filtering, Mapping, Nat, address, octets};
use crate::wire::Kind;

/// How often a question is asked.
const TRIES: u32 = 3;
/// And after how long again.
const AGAIN: Duration = Duration::from_millis(250);
/// Ports that are further apart are not given out in steps.
const MAX_STEP: i32 = 16;
/// Bytes of a question: more than the answer has.
const QUESTION_BYTES: usize = 40;

/// Who shall answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Who is asked.
    Plain,
    /// The other port of the same address.
    OtherPort,
    /// The other port of the other address.
    OtherAddress,
}

/// The four sockets of a server: the first of each pair is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Servers {
    /// Two ports of one address.
    pub a: [SocketAddr; 2],
    /// The same of another.
    pub b: [SocketAddr; 2],
}

/// A question.
#[must_use]
pub fn write_question(how: How, nonce: u64) -> Vec<u8> {
    let mut out = vec![Kind::Where.byte(), how_number(how), 0, 0];
    out.put_u64(nonce);
    out.resize(QUESTION_BYTES, 0);
    out
}

/// Reads a question.
#[must_use]
pub fn read_question(datagram: &[u8]) -> Option<(How, u64)> {
    if Kind::of(datagram) != Some(Kind::Where) || datagram.len() != QUESTION_BYTES {
        return None;
    }
    let mut body = datagram.get(1..)?;
    let how = match body.get_u8() {
        0 => How::Plain,
        1 => How::OtherPort,
        2 => How::OtherAddress,
        _ => return None,
    };
    body.advance(2);
    Some((how, body.get_u64()))
}

fn how_number(how: How) -> u8 {
    match how {
        How::Plain => 0,
        How::OtherPort => 1,
        How::OtherAddress => 2,
    }
}

/// The answer: from where the question came, masked with its nonce, as there are translators that rewrite addresses in
/// what they pass on (RFC 8489 §14.2).
#[must_use]
pub fn write_answer(nonce: u64, seen: SocketAddr) -> Vec<u8> {
    let mut out = vec![Kind::Seen.byte(), 0];
    out.put_u16(seen.port());
    out.put_u64(nonce);
    out.put_slice(&octets(seen.ip()));
    mask(nonce, &mut out);
    out
}

/// Reads an answer.
#[must_use]
pub fn read_answer(datagram: &[u8]) -> Option<(u64, SocketAddr)> {
    if Kind::of(datagram) != Some(Kind::Seen) || datagram.len() != 28 {
        return None;
    }
    let nonce = datagram.get(4..)?.try_get_u64().ok()?;
    let mut clear = datagram.to_vec();
    mask(nonce, &mut clear);
    let mut body = clear.get(2..)?;
    let port = body.get_u16();
    body.advance(8);
    let ip: [u8; 16] = body.try_into().ok()?;
    Some((nonce, address(ip, port)))
}

/// Masks port and address.
fn mask(nonce: u64, answer: &mut [u8]) {
    let nonce = nonce.to_be_bytes();
    let fields = [2..4, 12..20, 20..28];
    for field in fields {
        let bytes = answer.get_mut(field).into_iter().flatten();
        bytes
            .zip(nonce)
            .for_each(|(byte, mask)| *byte ^= mask ^ 0x55);
    }
}

/// What was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The kind.
    pub nat: Nat,
    /// Where the server sees us.
    pub public: SocketAddr,
    /// The newest port that was given out.
    pub newest_port: u16,
}

const QUESTIONS: usize = 6;

/// The state machine of who asks.
#[derive(Debug)]
pub struct Classifier {
    servers: Servers,
    local: SocketAddr,
    nonce: u64,
    /// The question that is open.
    at: usize,
    tries: u32,
    due: Instant,
    answers: [Option<SocketAddr>; QUESTIONS],
    outputs: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl Classifier {
    /// Begins now. `local` is the address of the socket as its machine knows it, `nonce` is random.
    #[must_use]
    pub fn new(now: Instant, servers: Servers, local: SocketAddr, nonce: u64) -> Self {
        Self {
            servers,
            local,
            nonce,
            at: 0,
            tries: 0,
            due: now,
            answers: [None; QUESTIONS],
            outputs: VecDeque::new(),
        }
    }

    fn question(&self, at: usize) -> Option<(SocketAddr, How)> {
        let Servers {
            a: [a1, a2],
            b: [b1, b2],
        } = self.servers;
        [
            (a1, How::Plain),
            (a1, How::OtherAddress),
            (a1, How::OtherPort),
            (b1, How::Plain),
            (a2, How::Plain),
            (b2, How::Plain),
        ]
        .get(at)
        .copied()
    }

    fn nonce(&self, at: usize) -> u64 {
        let at = u64::try_from(at).unwrap_or_default();
        self.nonce.wrapping_add(at)
    }

    /// Takes a datagram; false when it is none of this machine's.
    pub fn handle(&mut self, now: Instant, datagram: &[u8]) -> bool {
        let Some((nonce, seen)) = read_answer(datagram) else {
            return false;
        };
        let found = (0..QUESTIONS).find(|at| self.nonce(*at) == nonce);
        let Some(slot) = found.and_then(|at| self.answers.get_mut(at)) else {
            return false;
        };
        slot.get_or_insert(seen);
        if found == Some(self.at) {
            self.next(now);
        }
        true
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.due > now || self.at >= QUESTIONS {
            return;
        }
        if self.tries >= TRIES {
            self.next(now);
            return self.handle_timeout(now);
        }
        let Some((to, how)) = self.question(self.at) else {
            return;
        };
        self.tries += 1;
        self.due = now + AGAIN;
        let question = write_question(how, self.nonce(self.at));
        self.outputs.push_back((to, question));
    }

    fn next(&mut self, now: Instant) {
        // Without an answer to the first there is no use in others, and nobody lets the other port in whom he lets the
        // other address.
        self.at = match (self.at, self.answers) {
            (0, [None, ..]) => QUESTIONS,
            (1, [_, Some(_), ..]) => 3,
            (at, _) => at + 1,
        };
        self.tries = 0;
        self.due = now;
    }

    /// What to send next.
    pub fn poll_output(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.outputs.pop_front()
    }

    /// When [`Classifier::handle_timeout`] must be called; `None` when it is done.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.at < QUESTIONS).then_some(self.due)
    }

    /// What was found out, when all is done; `None` also when the server cannot be reached.
    #[must_use]
    pub fn found(&self) -> Option<Found> {
        if self.at < QUESTIONS {
            return None;
        }
        let [first, by_address, by_port, b1, a2, b2] = self.answers;
        let public = first?;
        let filtering = match (by_address, by_port) {
            (Some(_), _) => Filtering::Independent,
            (None, Some(_)) => Filtering::Address,
            (None, None) => Filtering::AddressAndPort,
        };
        let newest = [b2, a2, b1].into_iter().flatten().next();
        let newest_port = newest.unwrap_or(public).port();
        let nat = if public == self.local {
            Nat {
                mapping: Mapping::None,
                filtering,
            }
        } else if b1 == Some(public) {
            let shut = a2 != Some(public) || b2 != Some(public);
            let sequential = shut && filtering == Filtering::AddressAndPort;
            Nat {
                mapping: Mapping::Independent,
                filtering: if sequential {
                    Filtering::Sequential
                } else {
                    filtering
                },
            }
        } else {
            let by_address = a2 == Some(public);
            let given = match by_address {
                true => [first, b1, None, None],
                false => [first, b1, a2, b2],
            };
            let step = step(&given.map(|seen| seen.map(|seen| seen.port())));
            Nat {
                mapping: match by_address {
                    true => Mapping::Address { step },
                    false => Mapping::AddressAndPort { step },
                },
                filtering,
            }
        };
        Some(Found {
            nat,
            public,
            newest_port,
        })
    }
}

/// The step in which ports were given out: the difference that most neighbours have, when it is small; else 0.
fn step(ports: &[Option<u16>]) -> i8 {
    let known: Vec<i32> = ports
        .iter()
        .flatten()
        .map(|port| i32::from(*port))
        .collect();
    let gaps: Vec<i32> = known
        .windows(2)
        .map(|pair| match pair {
            [before, after] => after - before,
            _ => 0,
        })
        .collect();
    let common = gaps.iter().max_by_key(|gap| {
        let same = gaps.iter().filter(|other| other == gap).count();
        (same, std::cmp::Reverse(gap.abs()))
    });
    let Some(step) = common.copied().filter(|step| step.abs() <= MAX_STEP) else {
        return 0;
    };
    let same = gaps.iter().filter(|gap| **gap == step).count();
    match 2 * same > gaps.len() {
        true => i8::try_from(step).unwrap_or_default(),
        false => 0,
    }
}
