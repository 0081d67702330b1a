//! Whole sessions on virtual time: a publisher made of the same engine, a network that loses, rebinds and lies.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::{AccessUnit, Clock, Kind};
use proptest::prelude::*;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Table;
use crate::sfu::config::Config;
use crate::sfu::delivery::Delivery;
use crate::sfu::engine::Identity;
use crate::sfu::engine::peer::Peer;
use crate::sfu::ingress_clock::Media;
use crate::sfu::sdp::answer::{Local, render};
use crate::sfu::sdp::fragment::Fragment;
use crate::sfu::sdp::{Credentials, Direction, Offer, candidate};
use crate::sfu::session::Session;
use crate::sfu::types::{CloseReason, Ingress, PatchError, SessionId};

const MS: Duration = Duration::from_millis(1);
const SPS: &[u8] = &[
    0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01,
    0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2e, 0x48,
];
const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// What the network does to a datagram of the publisher.
enum Fate {
    Deliver,
    Lose,
}

/// A publisher, the table, and the network between them with a latency of 20 ms.
struct World {
    now: Instant,
    clock: Clock,
    table: Table,
    id: SessionId,
    peer: Peer,
    /// Where the publisher's datagrams come from, as the table sees it.
    nat: SocketAddr,
    server: SocketAddr,
    wire: BTreeMap<(Instant, u64), (bool, Vec<u8>)>,
    sent: u64,
    /// Media packets sent so far.
    packets: u64,
    source: mpsc::Receiver<(SessionId, Ingress)>,
    events: Vec<Ingress>,
    units: Vec<AccessUnit>,
    began: Option<Instant>,
    last_target: Option<SocketAddr>,
    /// How many of a hundred datagrams are lost both ways, and what decides which.
    loss_percent: u64,
    random: u64,
    /// DTLS datagrams so far, and which of them is lost.
    handshakes: u64,
    lose_handshake: Option<u64>,
}

impl World {
    fn new() -> Self {
        Self::with_setup("actpass")
    }

    /// The offer has this `a=setup`: who begins the handshake.
    fn with_setup(setup: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
        let now = Instant::now();
        let (server, nat) = (address(8_189), address(40_000));
        let config = Config::default();
        let identity = Identity::generate().expect("identity");
        let (mut peer, offer) = Peer::offer(now, nat);
        let offer = offer.replace("a=setup:actpass", &format!("a=setup:{setup}"));
        let offer = Offer::parse(&offer, Direction::Publish).expect("accepted");
        let clock = Clock::new(now);
        let session = Session::publish(now, clock, offer, &identity, &config).expect("accepted");
        let answer = render(
            session.offer(),
            &Local {
                credentials: session.credentials(),
                fingerprint: identity.fingerprint(),
                candidates: &candidate::all(&[server], false),
                session: 1,
                start_bitrate_kbps: 2_500,
                max_bitrate_kbps: 8_000,
                streams: None,
            },
        );
        peer.accept_answer(now, answer);
        let (sink, source) = mpsc::channel(10_000);
        let id = SessionId(Uuid::from_u128(7));
        let mut table = Table::new(&config, candidate::all(&[server], false));
        table
            .open_publisher(now, id, session, Delivery::new(id, sink), None)
            .expect("room");
        Self {
            now,
            clock,
            table,
            id,
            peer,
            nat,
            server,
            wire: BTreeMap::new(),
            sent: 0,
            packets: 0,
            source,
            events: Vec::new(),
            units: Vec::new(),
            began: None,
            last_target: None,
            loss_percent: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            handshakes: 0,
            lose_handshake: None,
        }
    }

    /// Lets a millisecond pass; `fate` decides about each datagram of the publisher.
    fn step(&mut self, fate: &mut impl FnMut(&[u8]) -> Fate) {
        self.now += MS;
        while let Some(entry) = self
            .wire
            .first_entry()
            .filter(|entry| entry.key().0 <= self.now)
        {
            let (to_server, datagram) = entry.remove();
            if to_server {
                self.table.handle_datagram(self.now, self.nat, &datagram);
            } else {
                self.peer.handle_datagram(self.now, self.server, &datagram);
            }
        }
        self.peer.handle_timeout(self.now);
        self.table.handle_timeout(self.now);
        while let Some((_, datagram)) = self.peer.poll_transmit() {
            if matches!(fate(&datagram), Fate::Deliver) {
                self.put(true, datagram.to_vec());
            }
        }
        while let Some((to, datagram)) = self.table.poll_transmit() {
            self.last_target = Some(to);
            if to == self.nat {
                self.put(false, datagram.to_vec());
            }
        }
        while let Ok((_, ingress)) = self.source.try_recv() {
            match ingress {
                Ingress::Unit(unit) => self.units.push(unit),
                event @ (Ingress::Connected | Ingress::Closed(_)) => self.events.push(event),
            }
        }
    }

    fn put(&mut self, to_server: bool, datagram: Vec<u8>) {
        if matches!(datagram.first(), Some(20..=63)) {
            self.handshakes += 1;
            if self.lose_handshake == Some(self.handshakes) {
                return;
            }
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        if self.random % 100 < self.loss_percent {
            return;
        }
        self.sent += 1;
        let key = (self.now + 20 * MS, self.sent);
        self.wire.insert(key, (to_server, datagram));
    }

    fn connect(&mut self) {
        for _ in 0..5_000 {
            self.step(&mut |_| Fate::Deliver);
            if self.peer.connected && self.events == [Ingress::Connected] {
                return;
            }
        }
        panic!("not connected: {:?}", self.events);
    }

    /// Publishes for `ms`: 25 pictures of 3 packets and 50 sounds per second, an IDR each second.
    fn publish(&mut self, ms: u32, fate: &mut impl FnMut(&[u8]) -> Fate) {
        let began = *self.began.get_or_insert(self.now);
        let start = u32::try_from((self.now - began).as_millis()).expect("short");
        for at in start..start + ms {
            if at % 40 == 0 {
                self.picture(at);
            }
            if at % 20 == 0 {
                let sound = Bytes::from(vec![0xfc; 40]);
                self.peer
                    .send(self.now, Media::Audio, at * 48, false, sound);
                self.packets += 1;
            }
            if at % 1_000 == 500 {
                self.report(at);
            }
            self.step(fate);
        }
    }

    /// Sender reports: the publisher's clock began at 1 000 s.
    fn report(&mut self, at: u32) {
        let ntp = (1_000_000 + u64::from(at)) * (1 << 32) / 1_000;
        for (media, hz) in [(Media::Video, 90), (Media::Audio, 48)] {
            self.peer.report(self.now, media, ntp, at * hz);
        }
    }

    fn picture(&mut self, at: u32) {
        let idr = at.is_multiple_of(1_000);
        let kind = if idr { 5 } else { 1 };
        let mut payloads = Vec::new();
        if idr {
            payloads.extend([SPS.to_vec(), PPS.to_vec()]);
        }
        let fill = u8::try_from(at / 40 % 200).expect("small");
        for (flags, first) in [(0x80, 0x88), (0, fill), (0x40, fill)] {
            let mut fragment = vec![0x7c, kind | flags, first];
            fragment.resize(400, fill);
            payloads.push(fragment);
        }
        let last = payloads.len() - 1;
        for (index, payload) in payloads.into_iter().enumerate() {
            let payload = Bytes::from(payload);
            self.peer
                .send(self.now, Media::Video, at * 90, index == last, payload);
            self.packets += 1;
        }
    }

    fn times(&self, kind: Kind) -> Vec<i64> {
        let units = self.units.iter().filter(|unit| unit.kind() == kind);
        units.map(|unit| unit.pts.as_nanos()).collect()
    }

    /// Everything published so far has come out, in time and whole.
    fn assert_complete(&self, ms: u32) {
        let began = self.clock.timestamp(self.began.expect("began")).as_nanos();
        for (kind, period) in [(Kind::Video, 40), (Kind::Audio, 20)] {
            let times = self.times(kind);
            assert_eq!(
                times.len(),
                usize::try_from(ms / period).expect("small"),
                "{kind:?}"
            );
            for (index, time) in times.iter().enumerate() {
                let sent =
                    began + i64::try_from(index).expect("few") * i64::from(period) * 1_000_000;
                let late = (time - sent) / 1_000_000;
                assert!(
                    (20..=22).contains(&late),
                    "{kind:?} {index} is {late} ms after its sending"
                );
            }
        }
        assert!(self.units.iter().all(|unit| !unit.discontinuity));
    }
}

fn deliver() -> impl FnMut(&[u8]) -> Fate {
    |_| Fate::Deliver
}

fn is_media(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, second, ..] if !(192..=223).contains(second))
}

#[test]
fn three_seconds_come_out_whole_and_in_time() {
    let mut world = World::new();
    world.connect();
    world.publish(3_000, &mut deliver());
    world.publish(0, &mut deliver());
    for _ in 0..60 {
        world.step(&mut deliver());
    }
    world.assert_complete(3_000);
    let unit = world
        .units
        .iter()
        .find(|unit| unit.kind() == Kind::Video)
        .expect("video");
    assert!(unit.keyframe);
    // One NAL unit of header, the first byte and the rest: no parameter sets, nothing lost.
    assert_eq!(unit.data.len(), 4 + 1 + 398 * 3);
    let stats = world.table.stats(world.now, world.id).expect("lives");
    let (video, audio) = (stats.video.expect("video"), stats.audio.expect("audio"));
    assert_eq!((video.lost, video.duplicates, video.nacks), (0, 0, 0));
    assert_eq!(
        (video.width, video.height, video.codec.as_str()),
        (640, 360, "H264 42c01e")
    );
    assert_eq!(video.packets + audio.packets, world.packets);
    assert_eq!(stats.remote_address, Some(world.nat));
}

#[test]
fn lost_packets_are_repaired() {
    let mut world = World::new();
    world.connect();
    let mut count = 0_u32;
    // Every 13th media packet of the picture; sound is not repaired, so it is left alone.
    let mut fate = |datagram: &[u8]| {
        let is_video = is_media(datagram) && datagram.len() > 200;
        count += u32::from(is_video);
        if is_video && count % 13 == 7 {
            Fate::Lose
        } else {
            Fate::Deliver
        }
    };
    world.publish(4_000, &mut fate);
    for _ in 0..900 {
        world.step(&mut deliver());
    }
    world.assert_complete(4_000);
    let video = world
        .table
        .stats(world.now, world.id)
        .expect("lives")
        .video
        .expect("video");
    assert!(video.recovered > 10, "{video:?}");
    assert_eq!(video.lost, 0);
    assert!(video.nacks < video.recovered * 2, "no storm: {video:?}");
    let deadlines = world.table.deadlines_len();
    assert!(deadlines < 100, "{deadlines} deadlines for one session");
}

#[test]
fn a_nat_that_rebinds_loses_nothing() {
    let mut world = World::new();
    world.connect();
    world.publish(1_000, &mut deliver());
    world.nat = address(40_001);
    world.publish(6_000, &mut deliver());
    for _ in 0..60 {
        world.step(&mut deliver());
    }
    world.assert_complete(7_000);
    assert_eq!(world.last_target, Some(world.nat), "feedback follows");
    let stats = world.table.stats(world.now, world.id).expect("lives");
    assert_eq!(stats.remote_address, Some(world.nat));
}

#[test]
fn a_farewell_and_a_silence_end_the_session() {
    let mut world = World::new();
    world.connect();
    world.publish(500, &mut deliver());
    world.peer.close();
    for _ in 0..100 {
        world.step(&mut deliver());
    }
    assert_eq!(
        world.events.last(),
        Some(&Ingress::Closed(CloseReason::PeerClosed))
    );

    let mut world = World::new();
    world.connect();
    world.publish(500, &mut deliver());
    for _ in 0..11_000 {
        world.step(&mut |_| Fate::Lose);
    }
    let expected = [Ingress::Connected, Ingress::Closed(CloseReason::Timeout)];
    assert_eq!(world.events, expected);
    assert_eq!((world.table.len(), world.table.routes_len()), (0, 0));
}

#[test]
fn media_alone_keeps_a_session_alive() {
    let mut world = World::new();
    world.connect();
    world.publish(15_000, &mut |datagram| {
        if is_media(datagram) {
            Fate::Deliver
        } else {
            Fate::Lose
        }
    });
    for _ in 0..60 {
        world.step(&mut deliver());
    }
    assert_eq!(world.events, [Ingress::Connected]);
    assert_eq!(world.times(Kind::Audio).len(), 750);
}

#[test]
fn patches_follow_their_preconditions() {
    let mut world = World::new();
    let fresh = |n: u32| Credentials {
        ufrag: format!("fresh{n}"),
        pwd: "0123456789abcdef0123456789abcdef".to_owned(),
    };
    let restart = "a=ice-ufrag:theirs\r\na=ice-pwd:abcdefabcdefabcdefabcdef\r\n";
    let restart = Fragment::parse(restart).expect("valid");
    let trickle = Fragment::parse("a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n").expect("valid");
    let mut patch = |tag: Option<&str>, fragment: &Fragment, n| {
        world.table.patch(world.id, tag, fragment, fresh(n))
    };
    assert_eq!(
        patch(None, &trickle, 1),
        Err(PatchError::PreconditionRequired)
    );
    assert_eq!(
        patch(Some("\"other\""), &trickle, 1),
        Err(PatchError::PreconditionFailed)
    );
    assert_eq!(patch(Some("*"), &trickle, 1), Ok(None));
    let first = patch(Some("*"), &restart, 1)
        .expect("taken")
        .expect("restarted");
    assert!(first.fragment.contains("a=ice-ufrag:fresh1\r\n"));
    assert_eq!(
        patch(Some(&first.etag), &restart, 2),
        Ok(None),
        "the same credentials again"
    );
    let again = "a=ice-ufrag:others\r\na=ice-pwd:abcdefabcdefabcdefabcdef\r\n";
    let again = Fragment::parse(again).expect("valid");
    let second = patch(Some(&first.etag), &again, 3)
        .expect("taken")
        .expect("restarted");
    assert_ne!(first.etag, second.etag);
    assert_eq!(
        patch(Some(&first.etag), &trickle, 4),
        Err(PatchError::PreconditionFailed)
    );
    assert_eq!(
        world.table.routes_len(),
        2,
        "the engine's user fragment and the newest"
    );
}

#[test]
fn who_sends_far_more_than_was_announced_is_sent_away() {
    let mut world = World::new();
    world.connect();
    let begun = world.now;
    let mut timestamp = 0_u32;
    // 16 Mb/s where 8 are announced: two packets of 1000 bytes each millisecond.
    while world.events.len() == 1 && world.now < begun + 60_000 * MS {
        for _ in 0..2 {
            let filler = Bytes::from(vec![0x0c; 1_000]);
            world
                .peer
                .send(world.now, Media::Video, timestamp, false, filler);
        }
        timestamp += 90;
        world.step(&mut deliver());
    }
    assert_eq!(
        world.events,
        [
            Ingress::Connected,
            Ingress::Closed(CloseReason::OverBitrate)
        ]
    );
    let lasted = world.now - begun;
    assert!(
        (24_000 * MS..31_000 * MS).contains(&lasted),
        "after {lasted:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Noise and mutated copies of real datagrams, from the publisher's own address and others: the live session does not
    /// notice.
    #[test]
    fn a_live_session_survives_noise(seed in any::<u64>()) {
        let mut world = World::new();
        world.connect();
        let mut state = seed | 1;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut copies: Vec<Vec<u8>> = Vec::new();
        for _ in 0..40 {
            world.publish(40, &mut |datagram| {
                if copies.len() < 400 {
                    copies.push(datagram.to_vec());
                }
                Fate::Deliver
            });
            for _ in 0..20 {
                let mut datagram: Vec<u8> = if random(4) == 0 {
                    (0..random(200)).map(|_| u8::try_from(random(256)).expect("a byte")).collect()
                } else {
                    let at = usize::try_from(random(copies.len() as u64)).expect("in range");
                    copies[at].clone()
                };
                for _ in 0..random(4) {
                    if !datagram.is_empty() {
                        let at = usize::try_from(random(datagram.len() as u64)).expect("in range");
                        datagram[at] = u8::try_from(random(256)).expect("a byte");
                    }
                }
                if random(5) == 0 {
                    let length = usize::try_from(random(60)).expect("small");
                    datagram.truncate(length);
                }
                let from = if random(2) == 0 { world.nat } else { address(50_000) };
                world.table.handle_datagram(world.now, from, &datagram);
            }
        }
        for _ in 0..60 {
            world.step(&mut |_| Fate::Deliver);
        }
        prop_assert_eq!(world.times(Kind::Audio).len(), 80);
        prop_assert_eq!(world.times(Kind::Video).len(), 40);
        prop_assert_eq!(&world.events, &[Ingress::Connected]);
    }
}

/// How long it takes to connect, in ms.
fn connects_within(world: &mut World, ms: u32) -> Option<u32> {
    (0..ms).find(|_| {
        world.step(&mut |_| Fate::Deliver);
        world.peer.connected && world.events == [Ingress::Connected]
    })
}

#[test]
fn a_handshake_survives_the_loss_of_any_datagram() {
    for setup in ["actpass", "active"] {
        for lost in 1..=8 {
            let mut world = World::with_setup(setup);
            world.lose_handshake = Some(lost);
            let ms = connects_within(&mut world, 3_000);
            assert!(ms.is_some(), "{setup}, datagram {lost}");
        }
    }
}

#[test]
fn handshakes_survive_losses_all_over() {
    let mut lost = 0;
    for seed in 1..=300_u64 {
        let mut world = World::new();
        world.loss_percent = 10;
        world.random = world.random.wrapping_mul(seed);
        lost += u32::from(connects_within(&mut world, 10_000).is_none());
    }
    // The peer's engine has no such help, and stands still when it loses the same flight twice.
    assert!(lost <= 15, "{lost} of 300");
}
