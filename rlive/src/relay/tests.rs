//! A relay against players that are late, greedy, silent or not who they say.

use bytes::BytesMut;
use media::substream::feed::Start;
use media::substream::{Header, Sequencer, Split};
use proptest::prelude::*;

use super::*;
use crate::wire::control::Accept;
use crate::wire::data;

const WALL_S: u32 = 1_700_000_000;

fn player(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

fn key() -> Key {
    Key::of_relay(b"secret", 1)
}

fn sealed(max_kbps: u32) -> Vec<u8> {
    Ticket {
        stream: "demo".into(),
        expires_s: WALL_S + 60,
        max_kbps,
        nonce: 1,
    }
    .seal(&key())
}

fn feed() -> FeedName {
    FeedName {
        stream: "demo".into(),
        substream: 2,
    }
}

struct Bench {
    now: Instant,
    relay: Relay,
    sequencer: Sequencer,
    dts_ms: u32,
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "any instant will do in a test")]
    fn new(config: Config) -> Self {
        let now = Instant::now();
        Self {
            now,
            relay: Relay::new(now, config, key(), [7; 32]),
            sequencer: Sequencer::default(),
            dts_ms: 0,
        }
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.relay.poll_output()).collect()
    }

    /// Datagrams that are sent.
    fn sent(&mut self) -> Vec<Vec<u8>> {
        let sent = self
            .outputs()
            .into_iter()
            .filter_map(|output| match output {
                Output::Send(_, bytes) => Some(bytes),
                Output::OpenFeed(_) | Output::CloseFeed(_) => None,
            });
        sent.collect()
    }

    fn datagram(&mut self, from: SocketAddr, bytes: &[u8]) {
        let wall_s = WALL_S;
        let input = Input::Datagram {
            from,
            bytes,
            wall_s,
        };
        self.relay.handle(self.now, input);
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.relay.poll_timeout() <= end {
            self.now = self.relay.poll_timeout();
            self.relay.handle_timeout(self.now);
        }
        self.now = end;
    }

    /// The handshake; the session's number.
    fn subscribe(&mut self, from: SocketAddr, ticket: &[u8]) -> Option<u32> {
        let keys = Keys::new(&key().of_session(ticket));
        let mut asked = Subscribe {
            nonce: u64::from(from.port()),
            mask: 1 << 2,
            cookie: Cookie::default(),
            ticket: ticket.to_vec(),
        };
        self.datagram(from, &asked.write(&keys));
        let challenge = self.sent().pop()?;
        asked.cookie = control::read_challenge(&challenge).ok()?.1;
        self.datagram(from, &asked.write(&keys));
        let answer = self.sent().pop()?;
        Accept::read(&answer, &keys).ok().map(|accept| accept.conn)
    }

    fn frame(&mut self, size: usize) -> Entry {
        self.dts_ms += 40;
        let mut bytes = BytesMut::zeroed(16);
        bytes[..4].copy_from_slice(&self.dts_ms.to_be_bytes());
        bytes[8..12].copy_from_slice(&u32::try_from(size).expect("small").to_be_bytes());
        let header: Header = Entry::read(&mut bytes).expect("valid").header;
        let entry = self.sequencer.next(header);
        let record = Record::Frame(entry, Bytes::from(vec![1; size]));
        self.relay.handle(self.now, Input::Record(&feed(), record));
        entry
    }
}

fn keys(ticket: &[u8]) -> Keys {
    Keys::new(&key().of_session(ticket))
}

#[test]
fn a_player_gets_every_frame_at_once_and_again_when_it_asks() {
    let mut bench = Bench::new(Config::default());
    let ticket = sealed(20_000);
    let keys = keys(&ticket);
    let conn = bench.subscribe(player(1), &ticket).expect("accepted");
    let start = Start {
        signer: None,
        epoch: 9,
        split: Split::default(),
        prior: Vec::new(),
        prelude: Bytes::new(),
    };
    let start = Record::Start(start);
    bench.relay.handle(bench.now, Input::Record(&feed(), start));
    bench.frame(100);
    let entry = bench.frame(5_000);
    let sent = bench.sent();
    assert_eq!(sent.len(), 1 + 5);
    let packets: Vec<_> = sent
        .iter()
        .map(|bytes| data::read(bytes, &keys).expect("sealed"))
        .collect();
    assert_eq!(packets[5].chain.len(), 2);
    assert_eq!((packets[5].head.pseq, packets[5].head.epoch), (5, 9));
    let missing = Missing {
        dts_ms: entry.header.dts_ms,
        crc: entry.crc,
        base: 1,
        mask: 0b101,
    };
    let nack = Message::Nack(vec![missing]).write(conn, 1, &keys);
    bench.datagram(player(1), &nack);
    let again = bench.sent();
    let indices: Vec<u16> = again
        .iter()
        .map(|bytes| data::read(bytes, &keys).expect("sealed").head.index)
        .collect();
    assert_eq!(indices, [1, 3]);
    // The same message again is not heard, nor is one from elsewhere.
    bench.datagram(player(1), &nack);
    let other = Message::Nack(vec![missing]).write(conn, 2, &keys);
    bench.datagram(player(9), &other);
    assert!(bench.sent().is_empty());
    assert_eq!(bench.relay.counters.bad_datagrams, 2);
}

/// However often it is asked for, a packet is sent again twice; and the memory of that is bounded.
#[test]
fn a_packet_is_sent_again_twice_at_most() {
    let mut bench = Bench::new(Config::default());
    let ticket = sealed(200_000);
    let conn = bench.subscribe(player(1), &ticket).expect("accepted");
    let entry = bench.frame(3_000);
    bench.sent();
    let mut answers = Vec::new();
    for seq in 0..30 {
        let missing = Missing {
            dts_ms: entry.header.dts_ms,
            crc: entry.crc,
            base: 0,
            // The first is asked for each time, the second from the fifth time on.
            mask: if seq < 5 { 0b1 } else { 0b11 },
        };
        let nack = Message::Nack(vec![missing; 4]).write(conn, seq, &keys(&ticket));
        bench.datagram(player(1), &nack);
        answers.extend(bench.sent());
        bench.wait(Duration::from_millis(100));
    }
    let index = |bytes: &Vec<u8>| {
        data::read(bytes, &keys(&ticket))
            .expect("sealed")
            .head
            .index
    };
    let indices: Vec<u16> = answers.iter().map(index).collect();
    assert_eq!(indices, [0, 0, 1, 1]);
}

#[test]
fn a_host_that_subscribes_too_often_is_not_heard() {
    let config = Config {
        max_sessions_per_ip: 10_000,
        ..Config::default()
    };
    let mut bench = Bench::new(config);
    let ticket = sealed(20_000);
    let opened = (0..200).filter(|port| bench.subscribe(player(*port), &ticket).is_some());
    assert_eq!(opened.count(), 50);
    assert_eq!(bench.relay.counters.limited, 150);
    bench.wait(Duration::from_secs(1));
    assert!(bench.subscribe(player(500), &ticket).is_some());
}

#[test]
fn without_a_proof_of_address_little_is_sent_and_nothing_kept() {
    let mut bench = Bench::new(Config::default());
    let ticket = sealed(20_000);
    let asked = Subscribe {
        nonce: 1,
        mask: 4,
        cookie: [9; 24],
        ticket: ticket.clone(),
    };
    let bytes = asked.write(&keys(&ticket));
    for port in 0..100 {
        bench.datagram(player(port), &bytes);
    }
    let sent: usize = bench.sent().iter().map(Vec::len).sum();
    assert!(sent * 3 <= bytes.len() * 100, "{sent} bytes");
    assert!(bench.relay.sessions.is_empty() && bench.relay.feeds.is_empty());

    // A cookie is good for its address, for ten seconds.
    bench.datagram(player(5), &bytes);
    let challenge = bench.sent().pop().expect("a challenge");
    let (_, cookie) = control::read_challenge(&challenge).expect("valid");
    let proven = Subscribe { cookie, ..asked };
    let bytes = proven.write(&keys(&ticket));
    bench.datagram(player(6), &bytes);
    assert!(bench.relay.sessions.is_empty(), "another address");
    bench.wait(Duration::from_secs(11));
    bench.datagram(player(5), &bytes);
    assert!(bench.relay.sessions.is_empty(), "too late");
}

#[test]
fn a_stolen_or_forged_ticket_opens_nothing() {
    let mut bench = Bench::new(Config::default());
    let ticket = sealed(20_000);
    let thief = Keys::new(&key());
    let mut asked = Subscribe {
        nonce: 5,
        mask: 4,
        cookie: Cookie::default(),
        ticket,
    };
    bench.datagram(player(1), &asked.write(&thief));
    let challenge = bench.sent().pop().expect("a challenge");
    asked.cookie = control::read_challenge(&challenge).expect("valid").1;
    bench.datagram(player(1), &asked.write(&thief));
    assert!(bench.sent().is_empty(), "without its key");
    assert_eq!(bench.relay.counters.bad_datagrams, 1);
    asked.ticket[5] ^= 1;
    bench.datagram(player(1), &asked.write(&thief));
    let answer = bench.sent().pop().expect("an answer");
    assert_eq!(control::read_refuse(&answer), Ok((5, Reason::Ticket)));
    assert!(bench.relay.sessions.is_empty());
}

#[test]
fn silent_players_and_unused_feeds_go() {
    let mut bench = Bench::new(Config::default());
    let ticket = sealed(20_000);
    let conn = bench.subscribe(player(1), &ticket).expect("accepted");
    bench.wait(LEASE - HOUSEKEEPING);
    let report = Message::Report {
        player_ms: 77,
        buffer_ms: 900,
        fares: Vec::new(),
    };
    bench.datagram(player(1), &report.write(conn, 1, &keys(&ticket)));
    let pong = bench.sent().pop().expect("a pong");
    assert_eq!(control::read_pong(&pong, &keys(&ticket)), Ok(77));
    bench.wait(LEASE - HOUSEKEEPING);
    assert_eq!(bench.relay.sessions(), 1, "it has reported");
    bench.wait(HOUSEKEEPING * 2);
    assert_eq!(bench.relay.sessions(), 0);
    let bye = bench.sent().pop().expect("a farewell");
    assert_eq!(control::read_bye(&bye, &keys(&ticket)), Ok(Reason::Silence));
    bench.wait(LINGER + HOUSEKEEPING);
    assert_eq!(bench.outputs(), [Output::CloseFeed(feed())]);
    assert!(bench.relay.feeds.is_empty());
}

#[test]
fn bounds_hold() {
    let config = Config {
        max_sessions_per_ip: 2,
        ..Config::default()
    };
    let mut bench = Bench::new(config);
    let ticket = sealed(800);
    assert!(bench.subscribe(player(1), &ticket).is_some());
    assert!(bench.subscribe(player(2), &ticket).is_some());
    assert!(bench.subscribe(player(3), &ticket).is_none(), "a third");
    // 800 kb/s: a second of it at once, then no more.
    for _ in 0..30 {
        bench.frame(10_000);
    }
    let sent: usize = bench.sent().iter().map(Vec::len).sum();
    assert!(sent < 2 * 130_000, "{sent} bytes to two players");
    assert!(bench.relay.counters.skipped_frames > 0);
    bench.relay.handle(bench.now, Input::Leave);
    assert_eq!(bench.sent().len(), 2, "both are told");
    assert!(bench.subscribe(player(4), &ticket).is_none());
}

#[test]
fn a_feed_that_fails_is_tried_again_and_given_up() {
    let mut bench = Bench::new(Config::default());
    let ticket = sealed(20_000);
    let conn = bench.subscribe(player(1), &ticket).expect("accepted");
    let (mut asked, mut told) = (1, false);
    bench.relay.handle(bench.now, Input::FeedEnded(&feed()));
    for seq in 0..40 {
        let report = Message::Report {
            player_ms: 0,
            buffer_ms: 0,
            fares: Vec::new(),
        };
        bench.datagram(player(1), &report.write(conn, seq, &keys(&ticket)));
        bench.wait(Duration::from_millis(100));
        for output in bench.outputs() {
            match output {
                Output::OpenFeed(name) => {
                    asked += 1;
                    bench.relay.handle(bench.now, Input::FeedEnded(&name));
                }
                Output::Send(_, bytes) => {
                    let reason = control::read_bye(&bytes, &keys(&ticket));
                    told |= Kind::of(&bytes) == Some(Kind::Bye) && reason == Ok(Reason::NoStream);
                }
                Output::CloseFeed(_) => {}
            }
        }
    }
    assert_eq!((asked, bench.relay.sessions()), (TRIES, 0));
    assert!(told);
}

proptest! {
    #[test]
    fn any_datagrams_are_survived(
        datagrams in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..60), 0..20_u8, any::<bool>()), 0..40),
    ) {
        let mut bench = Bench::new(Config::default());
        let ticket = sealed(20_000);
        let conn = bench.subscribe(player(1), &ticket).expect("accepted");
        let keys = keys(&ticket);
        for (mut bytes, kind, sealed) in datagrams {
            if let Some(first) = bytes.first_mut() {
                *first = 0x10 | kind;
            }
            if bytes.len() >= 8 {
                bytes[4..8].copy_from_slice(&conn.to_be_bytes());
            }
            if sealed {
                keys.seal(Direction::Up, &mut bytes);
            }
            bench.datagram(player(1), &bytes);
        }
        prop_assert!(bench.relay.sessions() <= 1);
    }
}
