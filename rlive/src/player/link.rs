//! A player's session with one relay, for one substream.
//!
//! Life: *subscribing* → *open* → *over*, or *leaving* before that. A handshake goes as far as the challenge, and on when
//! [`Link::proceed`] says so. It is repeated every [`REPEAT`]; a relay that does not answer [`ATTEMPTS`] times, or is silent
//! for [`SILENCE`] once open, is given up. Challenges and the answers to reports, which go out every [`REPORT`], measure the
//! round trip (RFC 6298's estimator). What a relay that is left had sent before it knew is taken for a while.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use media::substream::Entry;
use media::ticket::Key;

use super::answers::Answers;
use crate::recovery::Delivery;
use crate::wire::control::{
    self, Accept, Advised, Cookie, Fare, Message, Missing, Reason, Subscribe,
};
use crate::wire::{Keys, Kind};

/// How often the handshake is repeated.
const REPEAT: Duration = Duration::from_millis(200);
/// Handshakes without an answer before the relay is given up.
const ATTEMPTS: u32 = 5;
/// How often the player reports; the relay's lease is ten times as long.
const REPORT: Duration = Duration::from_millis(500);
/// An open session that is silent for so long is over: three reports without an answer.
const SILENCE: Duration = Duration::from_millis(1_500);
/// The least time before a packet is asked for again.
const MIN_RTO: Duration = Duration::from_millis(30);
/// What a relay that is left has sent is taken for as long as its packets may be on their way, within these bounds.
const LEAVING: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];
/// The round trip that is assumed before the first measurement.
const FIRST_RTO: Duration = Duration::from_millis(150);

/// A relay as the origin names it.
#[derive(Clone, Debug)]
pub struct RelayInfo {
    /// Which one.
    pub id: u64,
    /// Where it listens.
    pub address: SocketAddr,
    /// The substreams that it is recommended for, one bit each.
    pub mask: u64,
    /// The sealed ticket for it.
    pub ticket: Vec<u8>,
    /// The key of the session that the ticket opens.
    pub key: Key,
}

#[derive(Debug)]
enum State {
    Subscribing {
        /// The relay's, once it has answered.
        cookie: Option<Cookie>,
        /// Whether a session is wanted, or only an answer.
        wanted: bool,
        attempts: u32,
        repeat_at: Instant,
    },
    Open {
        conn: u32,
        seq: u32,
        report_at: Instant,
    },
    Leaving {
        conn: u32,
        until: Instant,
    },
    Over(Over),
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// The relay does not answer (any more).
    Silent,
    /// It has said so.
    Told(Reason),
    /// It sends what cannot be.
    Corrupt,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) relay: RelayInfo,
    pub(crate) substream: u8,
    pub(crate) keys: Keys,
    nonce: u64,
    state: State,
    started: Instant,
    opened: Option<Instant>,
    heard: Instant,
    srtt: Option<Duration>,
    rttvar: Duration,
    pub(crate) delivery: Delivery,
    /// How long it takes with packets that are asked of it again.
    pub(crate) answers: Answers,
    next_pseq: Option<u32>,
    lost: u16,
    pub(crate) lost_total: u64,
    pub(crate) packets: u64,
    corrupt: u32,
    /// The relay suggests to go elsewhere.
    pub(crate) advised: Option<Advised>,
    /// The frame of the newest packet, and how many packets of it have come in a row.
    newest: Option<(Entry, u16)>,
    outbox: Vec<Vec<u8>>,
}

impl Link {
    pub(crate) fn new(now: Instant, relay: RelayInfo, substream: u8, nonce: u64) -> Self {
        let keys = Keys::new(&relay.key);
        Self {
            relay,
            substream,
            keys,
            nonce,
            state: State::Subscribing {
                cookie: None,
                wanted: false,
                attempts: 0,
                repeat_at: now,
            },
            started: now,
            opened: None,
            heard: now,
            srtt: None,
            rttvar: Duration::ZERO,
            delivery: Delivery::default(),
            answers: Answers::default(),
            next_pseq: None,
            lost: 0,
            lost_total: 0,
            packets: 0,
            corrupt: 0,
            advised: None,
            newest: None,
            outbox: Vec::new(),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// For how long the session has been open.
    pub(crate) fn is_open_since(&self, now: Instant) -> Option<Duration> {
        let opened = self.opened.filter(|_| self.is_open())?;
        Some(now.saturating_duration_since(opened))
    }

    /// Whether it has been left.
    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.state, State::Leaving { .. } | State::Over(_))
    }

    /// Whether there is a session, or is to be one.
    pub(crate) fn is_wanted(&self) -> bool {
        matches!(
            self.state,
            State::Open { .. } | State::Subscribing { wanted: true, .. }
        )
    }

    pub(crate) fn over(&self) -> Option<Over> {
        match self.state {
            State::Over(over) => Some(over),
            State::Subscribing { .. } | State::Open { .. } | State::Leaving { .. } => None,
        }
    }

    /// Whether the relay has answered the first step of the handshake; with the round trip.
    pub(crate) fn answer(&self) -> Option<Duration> {
        match self.state {
            State::Subscribing {
                cookie: Some(_), ..
            } => self.srtt,
            State::Subscribing { .. }
            | State::Open { .. }
            | State::Leaving { .. }
            | State::Over(_) => None,
        }
    }

    /// Opens a session with a relay that has answered.
    pub(crate) fn proceed(&mut self, now: Instant) {
        if let State::Subscribing {
            cookie: Some(cookie),
            wanted,
            attempts,
            repeat_at,
        } = &mut self.state
        {
            *wanted = true;
            *attempts = 1;
            *repeat_at = now + REPEAT;
            let cookie = *cookie;
            self.subscribe(cookie);
        }
    }

    /// Whether a datagram from the relay's address is for this session.
    pub(crate) fn is_mine(&self, datagram: &[u8]) -> bool {
        let named = |range: std::ops::Range<usize>, name: &[u8]| datagram.get(range) == Some(name);
        match (Kind::of(datagram), &self.state) {
            (
                Some(Kind::Data | Kind::Pong | Kind::Suggest | Kind::Bye),
                State::Open { conn, .. },
            )
            | (Some(Kind::Data), State::Leaving { conn, .. }) => named(4..8, &conn.to_be_bytes()),
            (Some(Kind::Challenge | Kind::Refuse | Kind::Accept), State::Subscribing { .. }) => {
                named(4..12, &self.nonce.to_be_bytes())
            }
            _ => false,
        }
    }

    /// Takes what is not a packet of a frame.
    pub(crate) fn control(&mut self, now: Instant, datagram: &[u8]) {
        match (Kind::of(datagram), &mut self.state) {
            (Some(Kind::Challenge), State::Subscribing { cookie, wanted, .. }) => {
                if let Ok((_, challenge)) = control::read_challenge(datagram) {
                    let first = cookie.replace(challenge).is_none();
                    // A cookie that the relay does not take any more is exchanged.
                    if *wanted {
                        self.subscribe(challenge);
                    }
                    if first {
                        self.measured(now.saturating_duration_since(self.started));
                    }
                }
            }
            (Some(Kind::Accept), State::Subscribing { .. }) => {
                if let Ok(accept) = Accept::read(datagram, &self.keys) {
                    self.heard = now;
                    self.opened = Some(now);
                    self.state = State::Open {
                        conn: accept.conn,
                        seq: 0,
                        report_at: now,
                    };
                }
            }
            (Some(Kind::Refuse), State::Subscribing { .. }) => {
                if let Ok((_, reason)) = control::read_refuse(datagram) {
                    self.state = State::Over(Over::Told(reason));
                }
            }
            (Some(Kind::Pong), State::Open { .. }) => {
                if let Ok(sent_ms) = control::read_pong(datagram, &self.keys) {
                    self.heard = now;
                    let trip = self.clock_ms(now).wrapping_sub(sent_ms);
                    self.measured(Duration::from_millis(u64::from(trip)));
                }
            }
            (Some(Kind::Suggest), State::Open { .. }) => {
                if let Ok(advised) = control::read_suggest(datagram, &self.keys) {
                    self.heard = now;
                    self.advised = Some(advised);
                }
            }
            (Some(Kind::Bye), State::Open { .. }) => {
                if let Ok(reason) = control::read_bye(datagram, &self.keys) {
                    self.state = State::Over(Over::Told(reason));
                }
            }
            _ => {}
        }
    }

    /// A good packet has come.
    pub(crate) fn packet(&mut self, now: Instant, pseq: u32) {
        self.heard = now;
        self.packets += 1;
        let next = self.next_pseq.unwrap_or(pseq);
        let ahead = pseq.wrapping_sub(next);
        if ahead < 1 << 31 {
            self.lost = self
                .lost
                .saturating_add(u16::try_from(ahead).unwrap_or(u16::MAX));
            self.lost_total += u64::from(ahead);
            self.next_pseq = Some(pseq.wrapping_add(1));
        } else {
            // It was only overtaken.
            self.lost = self.lost.saturating_sub(1);
            self.lost_total = self.lost_total.saturating_sub(1);
        }
    }

    /// Counts a packet of a frame: whether with it the whole frame has come over this link, in a row. That holds for frames
    /// too that had come from elsewhere before: a relay is not worse for being a little slower than the origin.
    pub(crate) fn is_whole(&mut self, entry: &Entry) -> bool {
        let before = self.newest.filter(|(newest, _)| newest == entry);
        let count = before.map_or(1, |(_, count)| count.saturating_add(1));
        self.newest = Some((*entry, count));
        count >= entry.header.packets()
    }

    /// Its chain contradicts itself.
    pub(crate) fn corrupt(&mut self) {
        self.corrupt += 1;
        if self.corrupt >= 3 {
            self.forged();
        }
    }

    /// It has sent what the origin has not signed.
    pub(crate) fn forged(&mut self) {
        self.say(&Message::Bye);
        self.state = State::Over(Over::Corrupt);
    }

    /// Lets time pass.
    pub(crate) fn handle_timeout(&mut self, now: Instant, buffer_ms: u16) {
        match &mut self.state {
            // Who has answered need not do so again.
            State::Subscribing {
                cookie: Some(_),
                wanted: false,
                ..
            } => {}
            State::Subscribing {
                cookie,
                attempts,
                repeat_at,
                ..
            } => {
                if *repeat_at > now {
                    return;
                }
                if *attempts >= ATTEMPTS {
                    self.state = State::Over(Over::Silent);
                    return;
                }
                *attempts += 1;
                *repeat_at = now + REPEAT;
                let cookie = cookie.unwrap_or_default();
                self.subscribe(cookie);
            }
            State::Leaving { until, .. } if *until <= now => {
                self.state = State::Over(Over::Silent);
            }
            State::Leaving { .. } => {}
            State::Open { report_at, .. } => {
                if now.saturating_duration_since(self.heard) >= SILENCE {
                    self.state = State::Over(Over::Silent);
                } else if *report_at <= now {
                    *report_at = now + REPORT;
                    let fare = Fare {
                        substream: self.substream,
                        pseq: self.next_pseq.unwrap_or_default().wrapping_sub(1),
                        lost: std::mem::take(&mut self.lost),
                    };
                    let report = Message::Report {
                        player_ms: self.clock_ms(now),
                        buffer_ms,
                        fares: vec![fare],
                    };
                    self.say(&report);
                }
            }
            State::Over(_) => {}
        }
    }

    /// Asks for packets again.
    pub(crate) fn nack(&mut self, missing: Vec<Missing>) {
        self.say(&Message::Nack(missing));
    }

    /// Ends the session; what is on its way is taken yet. Without a session it is over.
    pub(crate) fn leave(&mut self, now: Instant) {
        self.say(&Message::Bye);
        let [least, most] = LEAVING;
        self.state = match self.state {
            State::Open { conn, .. } => State::Leaving {
                conn,
                until: now + self.rto().clamp(least, most),
            },
            State::Subscribing { .. } | State::Leaving { .. } | State::Over(_) => {
                State::Over(Over::Silent)
            }
        };
    }

    /// Datagrams to send to the relay.
    pub(crate) fn take_outbox(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.outbox)
    }

    /// How long to wait for a packet that was asked for.
    pub(crate) fn rto(&self) -> Duration {
        self.srtt
            .map_or(FIRST_RTO, |srtt| (srtt + 4 * self.rttvar).max(MIN_RTO))
    }

    /// The smoothed round trip.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.srtt
    }

    /// RFC 6298 §2.
    fn measured(&mut self, trip: Duration) {
        match self.srtt {
            None => {
                self.srtt = Some(trip);
                self.rttvar = trip / 2;
            }
            Some(srtt) => {
                self.rttvar = (self.rttvar * 3 + srtt.abs_diff(trip)) / 4;
                self.srtt = Some((srtt * 7 + trip) / 8);
            }
        }
    }

    fn subscribe(&mut self, cookie: Cookie) {
        let subscribe = Subscribe {
            nonce: self.nonce,
            mask: 1 << self.substream,
            cookie,
            ticket: self.relay.ticket.clone(),
        };
        self.outbox.push(subscribe.write(&self.keys));
    }

    fn say(&mut self, message: &Message) {
        if let State::Open { conn, seq, .. } = &mut self.state {
            self.outbox.push(message.write(*conn, *seq, &self.keys));
            *seq = seq.wrapping_add(1);
        }
    }

    fn clock_ms(&self, now: Instant) -> u16 {
        let passed = now.saturating_duration_since(self.started).as_millis();
        u16::try_from(passed & 0xffff).unwrap_or_default()
    }
}
