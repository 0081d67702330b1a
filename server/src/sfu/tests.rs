//! The whole ingest over a real socket on loopback.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ::media::{Clock, Kind};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;

use super::engine::peer::Peer;
use super::ingress_clock::Media;
use super::{CloseReason, Config, Ingress, OfferError, SessionId, Sfu};

const SPS: &[u8] = &[
    0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01,
    0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2e, 0x48,
];
const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];

#[expect(clippy::disallowed_methods, reason = "this test runs in real time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a test publisher's socket")]
async fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.expect("loopback")
}

fn config() -> Config {
    Config {
        bind: "127.0.0.1:0".parse().expect("address"),
        ..Config::default()
    }
}

#[expect(clippy::disallowed_methods, reason = "a test publisher's connection")]
async fn connect(sfu: &Sfu) -> TcpStream {
    let connected = TcpStream::connect(sfu.local_address()).await;
    connected.expect("loopback")
}

/// A publisher's way to the server.
enum Way {
    Udp(UdpSocket),
    /// With what has been read of it.
    Tcp(TcpStream, Vec<u8>),
}

impl Way {
    async fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        match self {
            Self::Udp(socket) => {
                socket.send_to(datagram, to).await.expect("sent");
            }
            Self::Tcp(stream, _) => {
                let length = u16::try_from(datagram.len()).expect("short");
                let frame = [&length.to_be_bytes(), datagram].concat();
                stream.write_all(&frame).await.expect("sent");
            }
        }
    }

    /// The next datagram; nothing is lost when this is cancelled.
    async fn receive(&mut self) -> (SocketAddr, Vec<u8>) {
        match self {
            Self::Udp(socket) => {
                let mut buffer = vec![0; 2_048];
                let (length, from) = socket.recv_from(&mut buffer).await.expect("received");
                buffer.truncate(length);
                (from, buffer)
            }
            Self::Tcp(stream, read) => loop {
                if let Some((&[high, low], rest)) = read.split_first_chunk::<2>()
                    && let Some(datagram) = rest.get(..usize::from(u16::from_be_bytes([high, low])))
                {
                    let datagram = datagram.to_vec();
                    read.drain(..2 + datagram.len());
                    return (stream.peer_addr().expect("connected"), datagram);
                }
                let length = stream.read_buf(read).await.expect("received");
                assert!(length > 0, "the server has hung up");
            },
        }
    }
}

/// A publisher on its own socket.
struct Publisher {
    peer: Peer,
    way: Way,
}

impl Publisher {
    /// Moves datagrams both ways for one tick.
    async fn pump(&mut self, tick: &mut tokio::time::Interval) {
        while let Some((to, datagram)) = self.peer.poll_transmit() {
            self.way.send(to, &datagram).await;
        }
        tokio::select! {
            (from, datagram) = self.way.receive() => {
                self.peer.handle_datagram(now(), from, &datagram);
            }
            _ = tick.tick() => self.peer.handle_timeout(now()),
        }
    }

    /// Publishes 25 pictures and 50 sounds per second for `seconds`, on time.
    async fn publish(&mut self, seconds: u32) {
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        let began = now();
        let mut sent = 0;
        while sent < seconds * 50 {
            self.pump(&mut tick).await;
            let due = began + Duration::from_millis(20) * sent;
            if now() < due {
                continue;
            }
            let sound = Bytes::from_static(&[0xfc; 40]);
            self.peer
                .send(now(), Media::Audio, sent * 960, false, sound);
            if sent.is_multiple_of(2) {
                let idr = sent.is_multiple_of(50);
                if idr {
                    for set in [SPS, PPS] {
                        let set = Bytes::from_static(set);
                        self.peer
                            .send(now(), Media::Video, sent * 1_800, false, set);
                    }
                }
                let slice = Bytes::from_static(if idr {
                    &[0x65, 0x88, 1]
                } else {
                    &[0x61, 0x88, 1]
                });
                self.peer
                    .send(now(), Media::Video, sent * 1_800, true, slice);
            }
            sent += 1;
        }
        // What is still in the engine's queues.
        for _ in 0..20 {
            self.pump(&mut tick).await;
        }
    }
}

async fn publisher(sfu: &Sfu, sink: mpsc::Sender<(SessionId, Ingress)>) -> (Publisher, SessionId) {
    publisher_by(sfu, Way::Udp(socket().await), sink).await
}

async fn publisher_by(
    sfu: &Sfu,
    way: Way,
    sink: mpsc::Sender<(SessionId, Ingress)>,
) -> (Publisher, SessionId) {
    let local = match &way {
        Way::Udp(socket) => socket.local_addr(),
        Way::Tcp(stream, _) => stream.local_addr(),
    };
    let (mut peer, offer) = Peer::offer(now(), local.expect("bound"));
    let answer = sfu.publish(offer, sink, None).await.expect("accepted");
    assert!(answer.etag.starts_with('"') && answer.etag.ends_with('"'));
    peer.accept_answer(now(), answer.sdp);
    (Publisher { peer, way }, answer.session)
}

#[tokio::test]
async fn three_seconds_over_loopback() {
    let sfu = Sfu::start(config(), Clock::new(now())).expect("started");
    let way = Way::Udp(socket().await);
    three_seconds(sfu, way).await;
}

#[tokio::test]
async fn three_seconds_over_tcp() {
    let sfu = Sfu::start(config(), Clock::new(now())).expect("started");
    let way = Way::Tcp(connect(&sfu).await, Vec::new());
    three_seconds(sfu, way).await;
}

async fn three_seconds(sfu: Sfu, way: Way) {
    let clock = sfu.shared.clock;
    let peer = match &way {
        Way::Udp(socket) => socket.local_addr().ok(),
        Way::Tcp(stream, _) => stream.local_addr().ok(),
    };
    let (sink, mut source) = mpsc::channel(2_000);
    let (mut publisher, session) = publisher_by(&sfu, way, sink).await;
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    let connect = async {
        loop {
            publisher.pump(&mut tick).await;
            if let Ok(first) = source.try_recv() {
                return first;
            }
        }
    };
    let limit = Duration::from_secs(10);
    let first = tokio::time::timeout(limit, connect)
        .await
        .expect("connects");
    assert_eq!(first, (session, Ingress::Connected));
    publisher.publish(3).await;
    let end = clock.timestamp(now()).as_nanos();
    let stats = sfu.stats(session).await.expect("lives");
    assert_eq!(stats.audio.expect("audio").lost, 0);
    assert_eq!(stats.remote_address, peer);
    sfu.close(session).await;
    let (mut video, mut audio) = (Vec::new(), Vec::new());
    let last = loop {
        match source.recv().await.expect("told").1 {
            Ingress::Unit(unit) if unit.kind() == Kind::Video => video.push(unit.pts.as_nanos()),
            Ingress::Unit(unit) => audio.push(unit.pts.as_nanos()),
            other @ (Ingress::Connected | Ingress::Closed(_)) => break other,
        }
    };
    assert_eq!(last, Ingress::Closed(CloseReason::Requested));
    assert_eq!((video.len(), audio.len()), (75, 150));
    for (times, period) in [(&video, 40_000_000), (&audio, 20_000_000_i64)] {
        for pair in times.windows(2) {
            let off = (pair[1] - pair[0] - period).abs();
            assert!(off < 1_000_000, "{off} ns off the period");
        }
        let last = times.last().expect("some");
        let age = (end - last) / 1_000_000;
        assert!(
            (-500..3_000).contains(&age),
            "the last unit is {age} ms old"
        );
    }
    assert!(sfu.stats(session).await.is_none());
    sfu.shutdown().await;
    let refused = sfu
        .publish("v=0".to_owned(), mpsc::channel(1).0, None)
        .await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn plain_stun_is_answered() {
    let sfu = Sfu::start(config(), Clock::new(now())).expect("started");
    let socket = socket().await;
    socket
        .send_to(&PLAIN_STUN, sfu.local_address())
        .await
        .expect("sent");
    let mut answer = [0; 64];
    let received = socket.recv(&mut answer);
    let length = tokio::time::timeout(Duration::from_secs(5), received)
        .await
        .expect("in time")
        .expect("answered");
    assert_eq!(length, 32);
    assert_eq!(answer[..2], [1, 1]);
    assert_eq!(sfu.advertised(), [sfu.local_address()]);
    sfu.shutdown().await;
}

/// A STUN binding request that names nobody.
const PLAIN_STUN: [u8; 20] = [
    0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9,
];

#[tokio::test]
async fn tcp_is_answered_and_what_is_no_framing_is_hung_up_on() {
    let sfu = Sfu::start(config(), Clock::new(now())).expect("started");
    let limit = Duration::from_secs(5);
    let stream = connect(&sfu).await;
    let local = stream.local_addr().expect("connected");
    let mut way = Way::Tcp(stream, Vec::new());
    // An empty frame keeps connections alive and means nothing.
    way.send(local, &[]).await;
    way.send(local, &PLAIN_STUN).await;
    let answered = tokio::time::timeout(limit, way.receive()).await;
    let (_, answer) = answered.expect("in time");
    // XOR-MAPPED-ADDRESS of 12 bytes, IPv4: over TCP the peer is who it is, too.
    assert_eq!(
        (answer.len(), &answer[..2], answer[25]),
        (32, &[1, 1][..], 1)
    );
    let port = u16::from_be_bytes([answer[26], answer[27]]) ^ 0x2112;
    assert_eq!(port, local.port());

    let mut rude = connect(&sfu).await;
    rude.write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("sent");
    let mut rest = Vec::new();
    let hung_up = tokio::time::timeout(limit, rude.read_to_end(&mut rest)).await;
    assert!(hung_up.is_ok() && rest.is_empty());
    sfu.shutdown().await;

    let off = Config {
        tcp: false,
        ..config()
    };
    let sfu = Sfu::start(off, Clock::new(now())).expect("started");
    #[expect(clippy::disallowed_methods, reason = "a test that is refused")]
    let refused = TcpStream::connect(sfu.local_address()).await;
    assert!(refused.is_err());
    sfu.shutdown().await;
}

#[tokio::test]
async fn limits_are_kept() {
    let limits = Config {
        max_sessions: 2,
        max_half_open: 1,
        max_sdp_bytes: 10_000,
        ..config()
    };
    let sfu = Sfu::start(limits, Clock::new(now())).expect("started");
    let (sink, mut source) = mpsc::channel(10);
    let large = "v=0\r\n".repeat(2_001);
    let refused = sfu.publish(large, sink.clone(), None).await;
    assert_eq!(refused.map_err(|error| error.status()), Err(413));
    let (_first, id) = publisher(&sfu, sink.clone()).await;
    let (_second, _) = publisher(&sfu, sink.clone()).await;
    let closed = source.recv().await.expect("told");
    assert_eq!(closed, (id, Ingress::Closed(CloseReason::NeverConnected)));
    sfu.shutdown().await;
    let none = Config {
        max_sessions: 0,
        ..config()
    };
    let sfu = Sfu::start(none, Clock::new(now())).expect("started");
    let (_, offer) = Peer::offer(now(), "127.0.0.1:9".parse().expect("address"));
    let refused = sfu.publish(offer, sink, None).await;
    assert_eq!(refused, Err(OfferError::Full { limit: 0 }));
    sfu.shutdown().await;
}
