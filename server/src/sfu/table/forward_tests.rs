//! Publishers and subscribers on virtual time, all with real engines: what one sends, the others get.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::Clock;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Table;
use crate::sfu::Sink;
use crate::sfu::config::Config;
use crate::sfu::delivery::Delivery;
use crate::sfu::egress::Seed;
use crate::sfu::engine::Identity;
use crate::sfu::engine::peer::Peer;
use crate::sfu::engine::viewer::{Seen, Viewer};
use crate::sfu::ingress_clock::Media;
use crate::sfu::packet::Outgoing;
use crate::sfu::program::ProgramLink;
use crate::sfu::sdp::answer::{Local, Streams, render};
use crate::sfu::sdp::{Direction, Offer, candidate};
use crate::sfu::session::Session;
use crate::sfu::types::{CloseReason, Ingress, OfferError, SessionId, StreamKey};

const MS: Duration = Duration::from_millis(1);
pub(super) const SPS: &[u8] = &[
    0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01,
    0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2e, 0x48,
];
pub(super) const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];
const STREAMS: Streams = Streams {
    video: Seed {
        ssrc: 100,
        rtx_ssrc: 101,
        sequence: 65_500,
        timestamp: u32::MAX - 1_000,
    },
    audio: Seed {
        ssrc: 102,
        rtx_ssrc: 103,
        sequence: 7,
        timestamp: 1_000,
    },
};

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

pub(super) fn key() -> StreamKey {
    StreamKey {
        channel: "demo".into(),
        participant: Some("ann".into()),
    }
}

/// A publisher of 25 pictures of 3 packets and 50 sounds per second, IDR on request and at the start.
struct Publisher {
    id: SessionId,
    peer: Peer,
    address: SocketAddr,
    began: Option<Instant>,
    /// It publishes.
    live: bool,
    /// Drawn into its payloads.
    mark: u8,
    pictures: u32,
}

pub(super) struct Subscriber {
    peer: Viewer,
    address: SocketAddr,
    pub(super) seen: Seen,
    /// Reads and answers.
    pub(super) alive: bool,
}

pub(super) struct World {
    pub(super) now: Instant,
    clock: Clock,
    config: Config,
    identity: Identity,
    pub(super) table: Table,
    sink: Sink,
    source: mpsc::Receiver<(SessionId, Ingress)>,
    closed: Vec<(SessionId, CloseReason)>,
    publishers: Vec<Publisher>,
    pub(super) subscribers: Vec<Subscriber>,
    wire: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    sent: u64,
    sessions: u16,
}

const SERVER: u16 = 8_189;

impl World {
    pub(super) fn new(config: Config) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
        let now = Instant::now();
        let (sink, source) = mpsc::channel(100_000);
        Self {
            now,
            clock: Clock::new(now),
            table: Table::new(&config, candidate::all(&[address(SERVER)], false)),
            config,
            identity: Identity::generate().expect("identity"),
            sink,
            source,
            closed: Vec::new(),
            publishers: Vec::new(),
            subscribers: Vec::new(),
            wire: BTreeMap::new(),
            sent: 0,
            sessions: 0,
        }
    }

    fn next(&mut self) -> (SessionId, SocketAddr) {
        self.sessions += 1;
        let id = SessionId(Uuid::from_u128(u128::from(self.sessions)));
        (id, address(40_000 + self.sessions))
    }

    fn answer(&self, session: &Session, streams: Option<Streams>) -> String {
        let local = Local {
            credentials: session.credentials(),
            fingerprint: self.identity.fingerprint(),
            candidates: &candidate::all(&[address(SERVER)], false),
            session: 1,
            start_bitrate_kbps: 2_500,
            max_bitrate_kbps: 8_000,
            streams,
        };
        render(session.offer(), &local)
    }

    /// Lets a publisher in; its index.
    pub(super) fn publish(&mut self) -> usize {
        let (id, address) = self.next();
        let (mut peer, offer) = Peer::offer(self.now, address);
        let offer = Offer::parse(&offer, Direction::Publish).expect("accepted");
        let session = Session::publish(self.now, self.clock, offer, &self.identity, &self.config)
            .expect("accepted");
        peer.accept_answer(self.now, self.answer(&session, None));
        let delivery = Delivery::new(id, self.sink.clone());
        self.table
            .open_publisher(self.now, id, session, delivery, Some(key()))
            .expect("room");
        self.publishers.push(Publisher {
            id,
            peer,
            address,
            began: None,
            live: true,
            mark: u8::try_from(self.publishers.len() + 1).expect("few"),
            pictures: 0,
        });
        self.publishers.len() - 1
    }

    pub(super) fn subscribe(&mut self) -> Result<usize, OfferError> {
        self.play(|table, now, id, session| table.open_subscriber(now, id, session, key()))
    }

    /// Lets a viewer of a program in.
    pub(super) fn watch(&mut self, link: &ProgramLink) -> Result<usize, OfferError> {
        let link = link.clone();
        self.play(|table, now, id, session| table.open_viewer(now, id, session, link))
    }

    fn play(
        &mut self,
        open: impl FnOnce(&mut Table, Instant, SessionId, Session) -> Result<(), OfferError>,
    ) -> Result<usize, OfferError> {
        let (id, address) = self.next();
        let (mut peer, offer) = Viewer::offer(self.now, address);
        let offer = Offer::parse(&offer, Direction::Play)?;
        let session = Session::play(
            self.now,
            self.clock,
            offer,
            (STREAMS, None),
            &self.identity,
            &self.config,
        )
        .expect("accepted");
        peer.accept_answer(self.now, self.answer(&session, Some(STREAMS)));
        open(&mut self.table, self.now, id, session)?;
        self.subscribers.push(Subscriber {
            peer,
            address,
            seen: Seen::default(),
            alive: true,
        });
        Ok(self.subscribers.len() - 1)
    }

    /// Lets `ms` pass; `lose` decides about datagrams by source and destination.
    pub(super) fn run(
        &mut self,
        ms: u32,
        lose: &mut impl FnMut(SocketAddr, SocketAddr, &[u8]) -> bool,
    ) {
        for _ in 0..ms {
            self.step(lose);
        }
    }

    pub(super) fn step(&mut self, lose: &mut impl FnMut(SocketAddr, SocketAddr, &[u8]) -> bool) {
        self.now += MS;
        let now = self.now;
        while let Some(entry) = self.wire.first_entry().filter(|e| e.key().0 <= now) {
            let (from, to, datagram) = entry.remove();
            if to == address(SERVER) {
                self.table.handle_datagram(now, from, &datagram);
            }
            for publisher in self.publishers.iter_mut().filter(|p| p.address == to) {
                publisher.peer.handle_datagram(now, from, &datagram);
            }
            let mut subscribers = self.subscribers.iter_mut();
            if let Some(subscriber) = subscribers.find(|s| s.address == to && s.alive) {
                subscriber.peer.handle_datagram(now, from, &datagram);
            }
        }
        self.table.handle_timeout(now);
        let mut out = Vec::new();
        for publisher in &mut self.publishers {
            publisher.step(now);
            while let Some((to, datagram)) = publisher.peer.poll_transmit() {
                out.push((publisher.address, to, datagram.to_vec()));
            }
        }
        for subscriber in self.subscribers.iter_mut().filter(|s| s.alive) {
            subscriber.peer.handle_timeout(now);
            while let Some((to, datagram)) = subscriber.peer.poll_transmit() {
                out.push((subscriber.address, to, datagram.to_vec()));
            }
            let seen = subscriber.peer.take();
            subscriber.seen.packets.extend(seen.packets);
            subscriber.seen.reports.extend(seen.reports);
        }
        while let Some((to, datagram)) = self.table.poll_transmit() {
            out.push((address(SERVER), to, datagram.to_vec()));
        }
        for (from, to, datagram) in out {
            if !lose(from, to, &datagram) {
                self.sent += 1;
                self.wire
                    .insert((now + 10 * MS, self.sent), (from, to, datagram));
            }
        }
        while let Ok((id, ingress)) = self.source.try_recv() {
            if let Ingress::Closed(reason) = ingress {
                self.closed.push((id, reason));
            }
        }
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        for _ in 0..10_000 {
            if done(self) {
                return;
            }
            self.step(&mut |_, _, _| false);
        }
        panic!("never: {what}");
    }

    pub(super) fn media(&self, subscriber: usize, ssrc: u32) -> Vec<&Outgoing> {
        let packets = self.subscribers[subscriber].seen.packets.iter();
        packets
            .map(|(_, packet)| packet)
            .filter(|packet| packet.ssrc == ssrc)
            .collect()
    }
}

impl Publisher {
    fn step(&mut self, now: Instant) {
        self.peer.handle_timeout(now);
        if !self.peer.connected || !self.live {
            return;
        }
        let began = *self.began.get_or_insert(now);
        let at = u32::try_from((now - began).as_millis()).expect("short");
        if at.is_multiple_of(40) {
            // A keyframe every two seconds, as the server asks for.
            let idr = at.is_multiple_of(2_000);
            let kind = if idr { 5 } else { 1 };
            let mut payloads = Vec::new();
            if idr {
                payloads.extend([SPS.to_vec(), PPS.to_vec()]);
            }
            for (flags, first) in [(0x80, 0x88), (0, self.mark), (0x40, self.mark)] {
                let mut fragment = vec![0x7c, kind | flags, first];
                fragment.resize(400, self.mark);
                payloads.push(fragment);
            }
            let last = payloads.len() - 1;
            for (index, payload) in payloads.into_iter().enumerate() {
                let payload = Bytes::from(payload);
                self.peer
                    .send(now, Media::Video, at * 90, index == last, payload);
            }
            self.pictures += 1;
        }
        if at.is_multiple_of(20) {
            let sound = Bytes::from(vec![self.mark; 40]);
            self.peer.send(now, Media::Audio, at * 48, false, sound);
        }
        if at % 1_000 == 500 {
            // Its clock began at 1 000 s, that of its successor elsewhere.
            let base = 1_000_000 * u64::from(self.mark);
            let ntp = (base + u64::from(at)) * (1 << 32) / 1_000;
            for (media, hz) in [(Media::Video, 90), (Media::Audio, 48)] {
                self.peer.report(now, media, ntp, at * hz);
            }
        }
    }
}

pub(super) fn lossless() -> impl FnMut(SocketAddr, SocketAddr, &[u8]) -> bool {
    |_, _, _| false
}

/// Numbers without a hole, timestamps that never go back.
pub(super) fn assert_continuous(packets: &[&Outgoing]) {
    for pair in packets.windows(2) {
        assert_eq!(pair[0].sequence.wrapping_add(1), pair[1].sequence);
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert!(step.cast_signed() >= 0, "{pair:?}");
    }
}

#[test]
fn what_is_published_arrives_untouched_from_a_keyframe_on() {
    let mut world = World::new(Config::default());
    let publisher = world.publish();
    world.until("connected", |w| w.publishers[publisher].pictures > 20);
    // In the middle of the keyframe interval.
    let subscriber = world.subscribe().expect("known");
    world.until("picture", |w| w.media(subscriber, 100).len() > 60);
    let video = world.media(subscriber, 100);
    assert_eq!(video[0].sequence, STREAMS.video.sequence);
    assert_eq!(video[0].timestamp, STREAMS.video.timestamp);
    assert_eq!(video[0].payload.as_ref(), SPS);
    assert_eq!(video[1].payload.as_ref(), PPS);
    assert_eq!(video[2].payload[..3], [0x7c, 0x85, 0x88]);
    assert_continuous(&video);
    let audio = world.media(subscriber, 102);
    assert!(audio.len() > 20 && audio.iter().all(|p| p.payload.as_ref() == [1; 40]));
    assert_continuous(&audio);
    let step = audio[9].timestamp.wrapping_sub(audio[8].timestamp);
    assert_eq!(step, 960);
}

#[test]
fn who_comes_late_sees_the_present_picture_at_once() {
    let mut world = World::new(Config::default());
    world.publish();
    world.until("connected", |w| w.publishers[0].pictures > 5);
    let first = world.subscribe().expect("known");
    // Less than half a second after a keyframe; the next one comes two seconds after it.
    world.until("picture", |w| w.media(first, 100).len() > 30);
    let second = world.subscribe().expect("known");
    world.run(600, &mut lossless());
    let video = world.media(second, 100);
    assert!(video.len() > 40, "{} packets", video.len());
    assert_eq!(video[0].payload.as_ref(), SPS);
    assert_continuous(&video);
}

#[test]
fn reports_put_picture_and_sound_on_one_clock() {
    let mut world = World::new(Config::default());
    world.publish();
    world.until("connected", |w| w.publishers[0].pictures > 20);
    let subscriber = world.subscribe().expect("known");
    world.run(4_000, &mut lossless());
    let seen = &world.subscribers[subscriber].seen;
    let when = |ssrc: u32, hz: f64, first: &Outgoing| {
        let mut reports = seen.reports.iter().map(|(_, report)| report);
        let report = reports
            .rfind(|report| report.ssrc == ssrc)
            .expect("reported");
        let ticks = first.timestamp.wrapping_sub(report.rtp).cast_signed();
        #[expect(clippy::cast_precision_loss, reason = "seconds in a test")]
        let ntp = report.ntp as f64 / f64::from(u32::MAX);
        ntp + f64::from(ticks) / hz
    };
    // Pictures at multiples of 40 ms and sounds at multiples of 20 ms of the same publisher: on its grid.
    let picture = when(100, 90_000.0, world.media(subscriber, 100)[0]);
    let sound = when(102, 48_000.0, world.media(subscriber, 102)[0]);
    let off = (picture - sound).rem_euclid(0.02);
    assert!(!(0.001..=0.019).contains(&off), "{off} s off the grid");
}

#[test]
fn a_publisher_who_comes_back_continues_the_picture() {
    let mut world = World::new(Config::default());
    world.publish();
    world.until("connected", |w| w.publishers[0].pictures > 5);
    let subscriber = world.subscribe().expect("known");
    world.until("picture", |w| w.media(subscriber, 100).len() > 90);
    // The second session replaces the first as the channel does it: once it is connected.
    world.publish();
    world.until("second connected", |w| w.publishers[1].pictures > 0);
    let first = world.publishers[0].id;
    world.table.close(world.now, first, CloseReason::Requested);
    world.publishers[0].live = false;
    let before = world.media(subscriber, 100).len();
    world.until("picture of the second", |w| {
        w.media(subscriber, 100).len() > before + 90
    });
    let video = world.media(subscriber, 100);
    assert_continuous(&video[before.saturating_sub(30)..before]);
    let fragments = |p: &&&Outgoing| p.payload.len() == 400;
    let marks: Vec<u8> = video
        .iter()
        .filter(fragments)
        .map(|p| p.payload[399])
        .collect();
    let change = marks.iter().position(|mark| *mark == 2).expect("continues");
    assert!(marks[change..].iter().all(|mark| *mark == 2), "never back");
    // The first packet of the second session is a parameter set of its keyframe, in sequence (with a gap of one at
    // most, where a picture was broken off) and later in time, by no more than the pause.
    let at = video
        .iter()
        .rposition(|p| p.payload.as_ref() == SPS)
        .expect("an IDR");
    let (last, next) = (video[at - 1], video[at]);
    assert!((1..=2).contains(&next.sequence.wrapping_sub(last.sequence)));
    let pause = next.timestamp.wrapping_sub(last.timestamp);
    assert!((1..90 * 1_000).contains(&pause), "{pause} ticks");
    assert_continuous(&video[at..]);
    let audio = world.media(subscriber, 102);
    assert_continuous(&audio);
    assert!(world.subscribers[subscriber].seen.packets.len() > 100);
}

#[test]
fn a_participant_who_leaves_takes_subscribers_along() {
    let mut world = World::new(Config::default());
    world.publish();
    world.until("connected", |w| w.publishers[0].pictures > 5);
    let subscriber = world.subscribe().expect("known");
    world.until("picture", |w| w.media(subscriber, 100).len() > 3);
    let id = world.publishers[0].id;
    world.table.close(world.now, id, CloseReason::Requested);
    assert_eq!((world.table.len(), world.table.routes_len()), (0, 0));
    assert_eq!(world.subscribe(), Err(OfferError::UnknownStream));
}

#[test]
fn a_participant_who_vanishes_is_waited_for() {
    let mut world = World::new(Config::default());
    world.publish();
    world.until("connected", |w| w.publishers[0].pictures > 5);
    let subscriber = world.subscribe().expect("known");
    world.until("picture", |w| w.media(subscriber, 100).len() > 3);
    let gone = world.publishers[0].address;
    world.run(12_000, &mut |from, to, _| from == gone || to == gone);
    let ended = (world.publishers[0].id, CloseReason::Timeout);
    assert_eq!(world.closed, [ended]);
    assert_eq!(world.table.len(), 1, "the subscriber waits");
    let before = world.media(subscriber, 100).len();
    world.publish();
    world.until("picture again", |w| {
        w.media(subscriber, 100).len() > before + 30
    });
    let second = world.publishers[1].address;
    world.run(25_000, &mut |from, to, _| from == second || to == second);
    assert_eq!(world.table.len(), 0, "long enough");
}

#[test]
fn what_a_subscriber_misses_is_repeated() {
    let mut world = World::new(Config::default());
    world.publish();
    world.until("connected", |w| w.publishers[0].pictures > 5);
    let subscriber = world.subscribe().expect("known");
    world.until("picture", |w| w.media(subscriber, 100).len() > 60);
    let missed: Vec<u16> = world.media(subscriber, 100)[50..53]
        .iter()
        .map(|packet| packet.sequence)
        .collect();
    let expected: Vec<Bytes> = world.media(subscriber, 100)[50..53]
        .iter()
        .map(|packet| packet.payload.clone())
        .collect();
    world.subscribers[subscriber].peer.nack(100, &missed);
    world.until("repairs", |w| w.media(subscriber, 101).len() == 3);
    for ((repair, sequence), payload) in world
        .media(subscriber, 101)
        .iter()
        .zip(&missed)
        .zip(&expected)
    {
        assert_eq!(repair.payload[..2], sequence.to_be_bytes());
        assert_eq!(repair.payload[2..], payload[..]);
    }
}

#[test]
fn a_subscriber_may_ask_for_keyframes_but_not_too_often() {
    let mut world = World::new(Config::default());
    world.publish();
    world.until("connected", |w| w.publishers[0].pictures > 5);
    let subscriber = world.subscribe().expect("known");
    world.until("picture", |w| w.media(subscriber, 100).len() > 10);
    let plis = |world: &World| {
        let stats = world.table.stats(world.now, world.publishers[0].id);
        stats.expect("lives").plis
    };
    let before = plis(&world);
    for _ in 0..100 {
        world.subscribers[subscriber].peer.pli(100);
        world.run(10, &mut lossless());
    }
    let asked = plis(&world) - before;
    assert!((1..=4).contains(&asked), "{asked} requests in a second");
}

#[test]
fn an_absent_subscriber_disturbs_nobody() {
    let mut world = World::new(Config::default());
    world.publish();
    world.until("connected", |w| w.publishers[0].pictures > 5);
    let (absent, present) = (
        world.subscribe().expect("known"),
        world.subscribe().expect("known"),
    );
    world.until("pictures", |w| {
        w.media(absent, 100).len() > 3 && w.media(present, 100).len() > 3
    });
    world.subscribers[absent].alive = false;
    let before = world.media(present, 100).len();
    world.run(12_000, &mut lossless());
    let got = world.media(present, 100).len() - before;
    assert!(got >= 12 * 25 * 3, "{got} packets");
    assert_eq!(world.table.len(), 2, "it has been given up");
    assert!(world.closed.is_empty());
}

#[test]
fn subscribers_of_a_channel_are_limited() {
    let mut world = World::new(Config {
        max_subscribers_per_channel: 2,
        ..Config::default()
    });
    assert_eq!(world.subscribe(), Err(OfferError::UnknownStream));
    world.publish();
    world.subscribe().expect("room");
    world.subscribe().expect("room");
    assert_eq!(world.subscribe(), Err(OfferError::ChannelFull { limit: 2 }));
}

#[test]
fn five_percent_loss_on_both_ways_is_repaired() {
    let mut world = World::new(Config::default());
    world.publish();
    world.until("connected", |w| w.publishers[0].pictures > 5);
    let subscriber = world.subscribe().expect("known");
    world.until("picture", |w| w.media(subscriber, 100).len() > 10);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut lose = move |_: SocketAddr, _: SocketAddr, datagram: &[u8]| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Pictures only: sound is not repaired.
        datagram.len() > 200 && state % 100 < 5
    };
    let from = world.media(subscriber, 100).last().expect("some").sequence;
    for _ in 0..50 {
        world.run(100, &mut lose);
        // What a receiver does: asks for the holes that it sees.
        let got: Vec<u16> = delivered(&world, subscriber);
        let newest = world.media(subscriber, 100).last().expect("some").sequence;
        let span = newest.wrapping_sub(from);
        let holes: Vec<u16> = (1..span)
            .map(|n| from.wrapping_add(n))
            .filter(|sequence| !got.contains(sequence))
            .collect();
        world.subscribers[subscriber].peer.nack(100, &holes);
    }
    world.run(200, &mut lossless());
    let got = delivered(&world, subscriber);
    let newest = world.media(subscriber, 100).last().expect("some").sequence;
    // The last tenth of a second has not been asked for yet.
    let settled = newest.wrapping_sub(from).saturating_sub(40);
    let missing = (1..settled)
        .filter(|n| !got.contains(&from.wrapping_add(*n)))
        .count();
    assert!(settled > 300, "{settled}");
    assert_eq!(missing, 0);
}

/// Sequence numbers that have arrived, first or by repetition.
fn delivered(world: &World, subscriber: usize) -> Vec<u16> {
    let repaired = world.media(subscriber, 101).into_iter();
    let repaired = repaired.map(|p| u16::from_be_bytes([p.payload[0], p.payload[1]]));
    let direct = world.media(subscriber, 100).into_iter();
    direct.map(|p| p.sequence).chain(repaired).collect()
}
