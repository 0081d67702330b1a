//! RTMP ingest against a client of another implementation and against nonsense.
#![allow(
    clippy::disallowed_methods,
    reason = "tests open sockets and read the clock"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is a failed test"
)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::{Server, Viewer, ffmpeg_publish};
use media::flv::{AudioBody, VideoBody};
use origin::{Access, Config, Denied, StreamState};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult, PublishRequestType,
};
use rml_rtmp::time::RtmpTimestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const AVCC: &[u8] = &[
    1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 25, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9,
    0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2e, 0x48,
    1, 0, 5, 0x68, 0xcb, 0x83, 0xcb, 0x20,
];

/// A publisher made of the RTMP crate's client session.
struct Publisher {
    socket: TcpStream,
    session: ClientSession,
    /// What was sent, for tests that send it again damaged.
    sent: Vec<u8>,
}

impl Publisher {
    async fn connect(address: SocketAddr, app: &str) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let mut handshake = Handshake::new(PeerType::Client);
        let hello = handshake.generate_outbound_p0_and_p1().unwrap();
        socket.write_all(&hello).await.unwrap();
        let mut sent = hello;
        let mut buffer = [0; 8_192];
        let rest = loop {
            let count = socket.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "closed in the handshake");
            match handshake.process_bytes(&buffer[..count]).unwrap() {
                HandshakeProcessResult::InProgress { response_bytes } => {
                    socket.write_all(&response_bytes).await.unwrap();
                    sent.extend(response_bytes);
                }
                HandshakeProcessResult::Completed {
                    response_bytes,
                    remaining_bytes,
                } => {
                    socket.write_all(&response_bytes).await.unwrap();
                    sent.extend(response_bytes);
                    break remaining_bytes;
                }
            }
        };
        let (session, results) = ClientSession::new(ClientSessionConfig::new()).unwrap();
        let mut publisher = Self {
            socket,
            session,
            sent,
        };
        publisher.send(results).await;
        let results = publisher.session.handle_input(&rest).unwrap();
        publisher.send(results).await;
        let request = publisher
            .session
            .request_connection(app.to_owned())
            .unwrap();
        publisher.send(vec![request]).await;
        publisher
            .until(|event| *event == ClientSessionEvent::ConnectionRequestAccepted)
            .await;
        publisher
    }

    /// Asks to publish; the status code when refused.
    async fn publish(&mut self, name: &str) -> Result<(), String> {
        let request = self
            .session
            .request_publishing(name.to_owned(), PublishRequestType::Live)
            .unwrap();
        self.send(vec![request]).await;
        let event = self
            .until(|event| {
                matches!(
                    event,
                    ClientSessionEvent::PublishRequestAccepted
                        | ClientSessionEvent::UnhandleableOnStatusCode { .. }
                )
            })
            .await;
        if let ClientSessionEvent::UnhandleableOnStatusCode { code } = event {
            return Err(code);
        }
        Ok(())
    }

    /// Sends what is to be sent; the events that were raised.
    async fn send(&mut self, results: Vec<ClientSessionResult>) -> Vec<ClientSessionEvent> {
        let mut events = Vec::new();
        for result in results {
            match result {
                ClientSessionResult::OutboundResponse(packet) => {
                    // Once the server has closed the connection this fails; the test looks at what was received.
                    let _ = self.socket.write_all(&packet.bytes).await;
                    self.sent.extend(packet.bytes);
                }
                ClientSessionResult::RaisedEvent(event) => events.push(event),
                ClientSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
        events
    }

    async fn until(&mut self, wanted: impl Fn(&ClientSessionEvent) -> bool) -> ClientSessionEvent {
        let mut buffer = [0; 8_192];
        loop {
            let read = tokio::time::timeout(Duration::from_secs(10), self.socket.read(&mut buffer));
            let count = read.await.expect("an answer in time").unwrap();
            assert_ne!(count, 0, "closed instead of answered");
            let results = self.session.handle_input(&buffer[..count]).unwrap();
            for event in self.send(results).await {
                if wanted(&event) {
                    return event;
                }
            }
        }
    }

    async fn video(&mut self, body: Bytes, timestamp_ms: u32) {
        let time = RtmpTimestamp::new(timestamp_ms);
        let result = self.session.publish_video_data(body, time, false).unwrap();
        self.send(vec![result]).await;
    }

    async fn audio(&mut self, body: Bytes, timestamp_ms: u32) {
        let time = RtmpTimestamp::new(timestamp_ms);
        let result = self.session.publish_audio_data(body, time, false).unwrap();
        self.send(vec![result]).await;
    }

    async fn headers(&mut self) {
        self.video(VideoBody::AvcConfig(Bytes::from_static(AVCC)).to_bytes(), 0)
            .await;
        self.audio(
            AudioBody::AacConfig(Bytes::from_static(&[0x11, 0x90])).to_bytes(),
            0,
        )
        .await;
    }

    async fn picture(&mut self, timestamp_ms: u32, keyframe: bool, bytes: usize) {
        let body = VideoBody::Avc {
            keyframe,
            composition_ms: 0,
            data: vec![9; bytes].into(),
        };
        self.video(body.to_bytes(), timestamp_ms).await;
    }

    /// True when the server closes the connection.
    async fn is_closed(&mut self) -> bool {
        let mut buffer = [0; 4_096];
        loop {
            let read = tokio::time::timeout(Duration::from_secs(5), self.socket.read(&mut buffer));
            match read.await {
                Ok(Ok(0) | Err(_)) => return true,
                Ok(Ok(_)) => {}
                Err(_) => return false,
            }
        }
    }
}

struct Keys;

impl Access for Keys {
    fn may_publish(&self, _: &str, key: Option<&str>) -> Result<(), Denied> {
        match key {
            Some("s3cret/+") => Ok(()),
            Some(_) => Err(Denied::Forbidden("this key does not fit".to_owned())),
            None => Err(Denied::Unauthorized),
        }
    }

    fn may_view(&self, stream: &str, token: Option<&str>) -> Result<(), Denied> {
        match token {
            Some("viewer") => Ok(()),
            Some(_) => Err(Denied::Forbidden(format!("not for {stream}"))),
            None => Err(Denied::Unauthorized),
        }
    }

    fn expects(&self, stream: &str) -> bool {
        stream == "soon"
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_names_are_checked() {
    let server = Server::with_access(Config::default(), Arc::new(Keys)).await;
    for (app, name, code) in [
        ("live", "show", "NetStream.Publish.Unauthorized"),
        ("live", "show?key=wrong", "NetStream.Publish.Denied"),
        ("live", "a/b?key=s3cret%2F%2B", "NetStream.Publish.BadName"),
        (
            "other",
            "show?key=s3cret%2F%2B",
            "NetStream.Publish.BadName",
        ),
    ] {
        let mut publisher = Publisher::connect(server.rtmp, app).await;
        assert_eq!(
            publisher.publish(name).await,
            Err(code.to_owned()),
            "{app}/{name}"
        );
        assert!(publisher.is_closed().await);
    }
    let mut publisher = Publisher::connect(server.rtmp, "live").await;
    assert_eq!(
        publisher.publish("show?x=1&token=s3cret%2F%2B").await,
        Ok(())
    );
    let mut in_app = Publisher::connect(server.rtmp, "live?key=s3cret/+").await;
    assert_eq!(in_app.publish("other").await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_publisher_is_refused_and_replaces_a_silent_one() {
    let config = Config {
        publisher_timeout_ms: 300,
        ..Config::default()
    };
    let server = Server::start(config).await;
    let mut first = Publisher::connect(server.rtmp, "live").await;
    first.publish("show").await.unwrap();
    first.headers().await;
    let mut second = Publisher::connect(server.rtmp, "live").await;
    assert_eq!(
        second.publish("show").await,
        Err("NetStream.Publish.BadName".to_owned())
    );
    tokio::time::sleep(Duration::from_millis(350)).await;
    let mut third = Publisher::connect(server.rtmp, "live").await;
    assert_eq!(third.publish("show").await, Ok(()));
    // The first one learns it with its next message.
    first.picture(40, true, 100).await;
    assert!(first.is_closed().await);
    assert_eq!(
        server.origin.stream("show").unwrap().state,
        StreamState::Live
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_who_comes_before_the_publisher_waits() {
    let server = Server::with_access(Config::default(), Arc::new(Keys)).await;
    let early = tokio::spawn({
        let url = server.url("soon.flv?token=viewer");
        async move {
            let mut viewer = Viewer::connect(&url).await;
            let header = viewer.next().await;
            (header.is_some(), viewer)
        }
    });
    let (has_header, mut viewer) = early.await.unwrap();
    assert!(has_header, "the FLV header comes at once");
    assert_eq!(
        server.origin.stream("soon").unwrap().state,
        StreamState::Waiting
    );
    let mut publisher = Publisher::connect(server.rtmp, "live").await;
    publisher.publish("soon?key=s3cret/%2B").await.unwrap();
    publisher.headers().await;
    publisher.picture(0, true, 2_000).await;
    let got = tokio::time::timeout(Duration::from_millis(500), async {
        while !viewer.next_tag().await.unwrap().is_keyframe() {}
    });
    got.await.expect("the first picture within half a second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_need_a_token_where_one_is_asked_for() {
    let server = Server::with_access(Config::default(), Arc::new(Keys)).await;
    let mut publisher = Publisher::connect(server.rtmp, "live").await;
    publisher.publish("show?key=s3cret/+").await.unwrap();
    let client = reqwest::Client::new();
    for path in ["show.flv", "show/index.m3u8"] {
        let status = |query: &str, header: Option<&str>| {
            let mut request = client.head(server.url(&format!("{path}{query}")));
            if let Some(header) = header {
                request = request.header("authorization", header);
            }
            async move { request.send().await.unwrap().status().as_u16() }
        };
        assert_eq!(status("", None).await, 401);
        assert_eq!(status("?token=other", None).await, 403);
        if path == "show.flv" {
            assert_eq!(status("?token=viewer", None).await, 200);
            assert_eq!(status("", Some("Bearer viewer")).await, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hevc_is_refused() {
    let server = Server::start(Config::default()).await;
    let mut publisher = Publisher::connect(server.rtmp, "live").await;
    publisher.publish("show").await.unwrap();
    publisher
        .video(Bytes::from_static(b"\x90hvc1\x01\x02"), 0)
        .await;
    let event = publisher
        .until(|event| matches!(event, ClientSessionEvent::UnhandleableOnStatusCode { .. }))
        .await;
    let code = "NetStream.Publish.Rejected".to_owned();
    assert_eq!(event, ClientSessionEvent::UnhandleableOnStatusCode { code });
    assert!(publisher.is_closed().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_stops_reading_is_cut_off_and_harms_nobody() {
    let config = Config {
        viewer_disconnect_ms: 1_500,
        viewer_max_lag_ms: 500,
        ..Config::default()
    };
    let server = Server::start(config).await;
    let mut publisher = Publisher::connect(server.rtmp, "live").await;
    publisher.publish("show").await.unwrap();
    publisher.headers().await;
    publisher.picture(0, true, 2_000).await;

    let mut stuck = TcpStream::connect(server.http).await.unwrap();
    stuck
        .write_all(b"GET /live/show.flv HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut good = Viewer::connect(&server.url("show.flv")).await;
    server.until("show", |stats| stats.viewers.flv == 2).await;

    let mut seen = 0;
    for n in 1..120u32 {
        // 100 kB every 20 ms: more than any socket buffer holds within the test.
        publisher.picture(n * 20, n % 10 == 0, 100_000).await;
        let sent = tokio::time::Instant::now();
        while good.next_tag().await.unwrap().timestamp_ms < n * 20 {}
        assert!(
            sent.elapsed() < Duration::from_millis(500),
            "the good viewer is held up"
        );
        seen += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
        if server.origin.stream("show").unwrap().viewer_disconnects > 0 {
            break;
        }
    }
    server
        .until("show", |stats| {
            stats.viewer_disconnects == 1 && stats.viewers.flv == 1
        })
        .await;
    assert!(seen > 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn web_socket_viewers_get_the_same_bytes() {
    let server = Server::start(Config::default()).await;
    let mut publisher = Publisher::connect(server.rtmp, "live").await;
    publisher.publish("show").await.unwrap();
    publisher.headers().await;
    publisher.picture(0, true, 2_000).await;
    server
        .until("show", |stats| stats.video_dts_ms == Some(0))
        .await;

    let mut socket = TcpStream::connect(server.http).await.unwrap();
    let request = "GET /live/show.flv HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let mut buffer = [0; 4_096];
    let wanted: &[&[u8]] = &[b"101 Switching", b"FLV\x01\x05", b"onMetaData", AVCC];
    while !wanted
        .iter()
        .all(|part| bytes.windows(part.len()).any(|window| window == *part))
    {
        let read = tokio::time::timeout(Duration::from_secs(5), socket.read(&mut buffer));
        let count = read.await.expect("bytes in time").unwrap();
        bytes.extend_from_slice(&buffer[..count]);
    }
    assert_eq!(server.origin.stream("show").unwrap().viewers.ws, 1);
    // A masked close frame ends the viewer's place.
    socket.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap();
    server.until("show", |stats| stats.viewers.ws == 0).await;

    // Who only looks after the show takes part without being counted.
    let mut socket = TcpStream::connect(server.http).await.unwrap();
    let request = request.replace("show.flv", "show.flv?preview=1");
    socket.write_all(request.as_bytes()).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(5), socket.read(&mut buffer));
    assert!(read.await.expect("bytes in time").unwrap() > 0);
    assert_eq!(server.origin.stream("show").unwrap().viewers.ws, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_ends_everything_cleanly() {
    let server = Server::start(Config::default()).await;
    let mut publisher = Publisher::connect(server.rtmp, "live").await;
    publisher.publish("show").await.unwrap();
    publisher.headers().await;
    publisher.picture(0, true, 2_000).await;
    let mut viewer = Viewer::connect(&server.url("show.flv")).await;
    server.origin.shutdown().await;
    while viewer.next().await.is_some() {}
    publisher.picture(40, false, 100).await;
    assert!(publisher.is_closed().await);
    let mut late = Publisher::connect(server.rtmp, "live").await;
    assert_eq!(
        late.publish("show").await,
        Err("NetStream.Publish.Failed".to_owned())
    );
}

/// A valid session's bytes, to be damaged.
async fn valid_bytes(server: &Server) -> Vec<u8> {
    let mut publisher = Publisher::connect(server.rtmp, "live").await;
    publisher.publish("victim").await.unwrap();
    publisher.headers().await;
    for n in 0..5 {
        publisher.picture(n * 40, n == 0, 300).await;
    }
    publisher.sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_and_damaged_bytes_harm_nobody() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        print(info);
    }));
    let server = Server::start(Config::default()).await;
    let _publisher = ffmpeg_publish(&server.rtmp_url("show"), &[]);
    server
        .until("show", |stats| stats.video_dts_ms > Some(300))
        .await;
    let mut viewer = Viewer::connect(&server.url("show.flv")).await;
    let valid = valid_bytes(&server).await;

    let mut runner = TestRunner::deterministic();
    let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20);
    let noise = proptest::collection::vec(any::<u8>(), 0..6_000);
    for round in 0..150 {
        let bytes = match round % 3 {
            0 => noise.new_tree(&mut runner).unwrap().current(),
            1 => {
                let mut bytes = valid.clone();
                for (index, byte) in damage.new_tree(&mut runner).unwrap().current() {
                    // Behind the handshake, which would only hide the rest.
                    let at = 3_073 + index.index(bytes.len() - 3_073);
                    bytes[at] = byte;
                }
                bytes
            }
            _ => {
                let mut bytes = valid[..3_073].to_vec();
                bytes.extend(noise.new_tree(&mut runner).unwrap().current());
                bytes
            }
        };
        let address = if round % 5 == 4 {
            server.http
        } else {
            server.rtmp
        };
        let mut socket = TcpStream::connect(address).await.unwrap();
        // The server may close at any moment.
        let _ = socket.write_all(&bytes).await;
        let _ = socket.shutdown().await;
    }
    let tags = viewer.watch_ms(1_000).await;
    assert!(tags.len() > 50);
    let mut again = Publisher::connect(server.rtmp, "live").await;
    assert_eq!(again.publish("fresh").await, Ok(()));
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_are_closed_and_slow_ones_time_out() {
    let config = Config {
        rtmp_max_connections: 20,
        rtmp_handshake_timeout_ms: 300,
        ..Config::default()
    };
    let server = Server::start(config).await;
    let mut sockets = Vec::new();
    for _ in 0..60 {
        sockets.push(TcpStream::connect(server.rtmp).await.unwrap());
    }
    for mut socket in sockets {
        let mut buffer = [0; 16];
        let read = tokio::time::timeout(Duration::from_secs(5), socket.read(&mut buffer));
        assert!(matches!(read.await, Ok(Ok(0) | Err(_))), "closed");
    }
    let mut publisher = Publisher::connect(server.rtmp, "live").await;
    assert_eq!(publisher.publish("show").await, Ok(()));
}
