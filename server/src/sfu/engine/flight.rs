//! Flights of the DTLS handshake that get lost.
//!
//! `rtc-dtls` 0.21 stops its timer at every handshake message that comes, also at one that brings nothing new. When our flight
//! is lost, the peer repeats its own, that stops our timer, and nobody says anything any more: one lost datagram is enough.
//! So a peer who repeats itself is answered from here with what we said last (RFC 6347 §4.2.4).
//!
//! Peers may be made of the same engine, with the same timer of a second: what the engine repeats waits for [`HOLD`], so that
//! the peer's timer comes first and is not stopped by ours.
//!
//! Invariant: what is repeated is byte for byte what the engine made, so a peer who has it already sees a duplicate.
//! Bounds: [`MAX_DATAGRAMS`] per flight, [`MAX_ANSWERS`] answers no closer than [`SPACING`]; all of it ends with the handshake.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;

/// What the engine repeats leaves so much later.
const HOLD: Duration = Duration::from_millis(150);
/// The datagrams of one flight of the peer are answered once.
const SPACING: Duration = Duration::from_millis(40);
/// A peer that repeats itself more often wants something else.
const MAX_ANSWERS: u32 = 20;
/// Three certificates fit.
const MAX_DATAGRAMS: usize = 8;

type Datagram = (SocketAddr, BytesMut);

/// A handshake message by its number and the offset of its fragment; later ones are greater.
type Mark = (u16, u32);

/// What was said and heard so far.
#[derive(Debug, Default)]
pub(super) struct Flights {
    heard: Option<Mark>,
    said: Option<Mark>,
    /// Our latest flight, and when the engine made it.
    latest: Vec<Datagram>,
    made: Option<Instant>,
    /// The engine repeats itself at the moment.
    is_repeating: bool,
    answered: Option<Instant>,
    answers: u32,
    held: VecDeque<(Instant, Datagram)>,
    ready: VecDeque<Datagram>,
}

impl Flights {
    /// The peer has sent a datagram.
    pub(super) fn hear(&mut self, now: Instant, datagram: &[u8]) {
        let Some(mark) = mark(datagram) else { return };
        let is_new = self.heard.is_none_or(|heard| mark > heard);
        self.held.clear();
        if is_new {
            self.heard = Some(mark);
            return;
        }
        let is_early = self
            .answered
            .max(self.made)
            .is_some_and(|at| now.saturating_duration_since(at) < SPACING);
        if !is_early && self.answers < MAX_ANSWERS {
            self.answers += 1;
            self.answered = Some(now);
            self.ready.extend(self.latest.iter().cloned());
        }
    }

    /// The engine has made a datagram: it is to be sent now, or waits.
    pub(super) fn say(&mut self, now: Instant, datagram: Datagram) -> Option<Datagram> {
        if !is_dtls(&datagram.1) {
            return Some(datagram);
        }
        let is_same_batch = self.made == Some(now);
        match mark(&datagram.1) {
            Some(mark) => {
                self.is_repeating = self.said.is_some_and(|said| mark <= said);
                self.said = self.said.max(Some(mark));
            }
            // What follows a handshake message belongs to it.
            None => self.is_repeating &= is_same_batch,
        }
        if !is_same_batch {
            self.latest.clear();
        }
        self.made = Some(now);
        if self.latest.len() < MAX_DATAGRAMS {
            self.latest.push(datagram.clone());
        }
        if !self.is_repeating || self.held.len() >= MAX_DATAGRAMS {
            return Some(datagram);
        }
        self.held.push_back((now + HOLD, datagram));
        None
    }

    /// What is to be sent now.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Datagram> {
        let is_due = self.held.front().is_some_and(|(at, _)| *at <= now);
        if is_due {
            return self.held.pop_front().map(|(_, datagram)| datagram);
        }
        self.ready.pop_front()
    }

    /// When [`Self::poll`] has something that waits.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.held.front().map(|(at, _)| *at)
    }
}

/// RFC 7983 §7.
fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(20..=63))
}

/// The first handshake message of a datagram, if it begins with one that is not encrypted: the record's header (RFC 6347
/// §4.1) has the type, 22, and the epoch, 0; that of the message (§4.2.2) its number and the fragment's offset.
fn mark(datagram: &[u8]) -> Option<Mark> {
    let (record, message) = datagram.split_first_chunk::<13>()?;
    let [kind, _, _, epoch_high, epoch_low, ..] = *record;
    let [_, _, _, _, seq_high, seq_low, a, b, c, ..] = *message.first_chunk::<12>()?;
    let is_plain = kind == 22 && (epoch_high, epoch_low) == (0, 0);
    let number = u16::from_be_bytes([seq_high, seq_low]);
    is_plain.then(|| (number, u32::from_be_bytes([0, a, b, c])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn handshake(number: u8) -> BytesMut {
        let mut datagram = [0; 25];
        datagram[0] = 22;
        datagram[18] = number;
        BytesMut::from(&datagram[..])
    }

    fn datagram(number: u8) -> Datagram {
        (SocketAddr::from(([127, 0, 0, 1], 9)), handshake(number))
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do in a test")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn who_repeats_himself_gets_the_latest_flight_again() {
        let (now, mut flights) = (start(), Flights::default());
        assert_eq!(flights.say(now, datagram(1)), Some(datagram(1)));
        flights.hear(now + 20 * MS, &handshake(1));
        let (_, end) = datagram(2);
        assert!(flights.say(now + 20 * MS, datagram(2)).is_some());
        let finished = (datagram(2).0, BytesMut::from(&[20_u8, 1, 2][..]));
        assert!(flights.say(now + 20 * MS, finished.clone()).is_some());
        assert_eq!(flights.poll(now + 999 * MS), None);
        // Its flight has two datagrams.
        flights.hear(now + 1_000 * MS, &handshake(1));
        flights.hear(now + 1_001 * MS, &handshake(1));
        assert_eq!(
            flights.poll(now + 1_001 * MS).map(|(_, bytes)| bytes),
            Some(end)
        );
        assert_eq!(flights.poll(now + 1_001 * MS), Some(finished));
        assert_eq!(flights.poll(now + 1_001 * MS), None);
    }

    #[test]
    fn what_the_engine_repeats_waits_for_the_peer() {
        let (now, mut flights) = (start(), Flights::default());
        assert!(flights.say(now, datagram(1)).is_some());
        let later = now + 1_000 * MS;
        assert_eq!(flights.say(later, datagram(1)), None);
        assert_eq!(flights.poll_timeout(), Some(later + HOLD));
        assert_eq!(flights.poll(later + HOLD), Some(datagram(1)));
        let later = now + 2_000 * MS;
        assert_eq!(flights.say(later, datagram(1)), None);
        flights.hear(later + MS, &handshake(1));
        assert_eq!(
            (flights.poll_timeout(), flights.poll(later + HOLD)),
            (None, None)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_will_do(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let (now, mut flights) = (start(), Flights::default());
            for n in 0..100 {
                flights.hear(now + n * SPACING, &bytes);
                flights.say(now, (datagram(1).0, BytesMut::from(&bytes[..])));
            }
            prop_assert!(flights.ready.len() <= 20 * MAX_DATAGRAMS && flights.held.len() <= MAX_DATAGRAMS);
        }
    }
}
