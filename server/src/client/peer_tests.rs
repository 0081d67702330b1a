//! The publisher against a WHIP server made of the same WebRTC crate: what arrives on the wire, and when.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::routing::{delete, post};
use axum::{Router, response::IntoResponse};
use rtc::interceptor::{Interceptor, Packet, Slot, StreamInfo, TaggedPacket};
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::sansio::Protocol;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use webrtc::error::Error;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
    RTCSessionDescription, Registry, SettingEngineBuilder,
};

use super::codecs;
use crate::client::{PublishArgs, publish_until};

/// What the server saw.
#[derive(Clone, Debug)]
enum Seen {
    Rtp {
        payload_type: u8,
        timestamp: u32,
        sequence: u16,
        marker: bool,
        payload: Vec<u8>,
    },
    Report {
        ssrc: u32,
        ntp: u64,
        timestamp: u32,
    },
}

/// An interceptor that notes every packet that arrives.
struct Tap {
    seen: mpsc::UnboundedSender<Seen>,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Tap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Result<(), Error> {
        let packet = &message.message.packet;
        if let Packet::Rtp(packet) = packet {
            let _ = self.seen.send(Seen::Rtp {
                payload_type: packet.header.payload_type,
                timestamp: packet.header.timestamp,
                sequence: packet.header.sequence_number,
                marker: packet.header.marker,
                payload: packet.payload.to_vec(),
            });
        }
        if let Packet::Rtcp(packets) = packet {
            let reports = packets
                .iter()
                .filter_map(|packet| packet.as_any().downcast_ref());
            for report in reports {
                let SenderReport {
                    ssrc,
                    ntp_time,
                    rtp_time,
                    ..
                } = report;
                let (ssrc, ntp, timestamp) = (*ssrc, *ntp_time, *rtp_time);
                let _ = self.seen.send(Seen::Report {
                    ssrc,
                    ntp,
                    timestamp,
                });
            }
        }
        self.read.push_back(message);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Result<(), Error> {
        self.write.push_back(message);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }
}

impl Interceptor for Tap {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

struct Silent;

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Silent {}

/// A WHIP server for one session at a time.
struct Server {
    url: String,
    seen: mpsc::UnboundedReceiver<Seen>,
    deleted: Arc<AtomicUsize>,
}

async fn answer(
    offer: String,
    seen: mpsc::UnboundedSender<Seen>,
) -> (Arc<dyn PeerConnection>, String) {
    let (video, audio) = codecs([0x42, 0xe0, 0x1f]);
    let mut engine = MediaEngine::default();
    engine
        .register_codec(video, RtpCodecKind::Video)
        .expect("registers");
    engine
        .register_codec(audio, RtpCodecKind::Audio)
        .expect("registers");
    let tap = Tap {
        seen,
        read: VecDeque::new(),
        write: VecDeque::new(),
    };
    let connection = PeerConnectionBuilder::new()
        .with_media_engine(engine)
        .with_setting_engine(
            SettingEngineBuilder::new()
                .with_include_loopback_candidate(true)
                .build(),
        )
        .with_interceptor_registry(Registry::new().with(Slot::NackGenerator, tap))
        .with_handler(Arc::new(Silent))
        .with_udp_addrs(vec!["127.0.0.1:0"])
        .build()
        .await
        .expect("builds");
    let offer = RTCSessionDescription::offer(offer).expect("SDP");
    connection
        .set_remote_description(offer)
        .await
        .expect("fits");
    let answer = connection.create_answer(None).await.expect("answers");
    connection
        .set_local_description(answer)
        .await
        .expect("fits");
    tokio::time::sleep(Duration::from_millis(100)).await; // for the one loopback candidate
    let sdp = connection.local_description().await.expect("set").sdp;
    (Arc::new(connection), sdp)
}

#[expect(clippy::disallowed_methods, reason = "the server under the test")]
async fn serve() -> Server {
    let (seen_in, seen) = mpsc::unbounded_channel();
    let deleted = Arc::new(AtomicUsize::new(0));
    let sessions: Arc<tokio::sync::Mutex<Vec<Arc<dyn PeerConnection>>>> = Arc::default();
    let counter = Arc::clone(&deleted);
    let whip = post(move |offer: String| async move {
        let (connection, sdp) = answer(offer, seen_in).await;
        sessions.lock().await.push(connection);
        (StatusCode::CREATED, [(LOCATION, "/session/1")], sdp).into_response()
    });
    let goodbye = delete(move || async move {
        counter.fetch_add(1, SeqCst);
        StatusCode::OK
    });
    let router = Router::new()
        .route("/whip/demo", whip)
        .route("/session/1", goodbye);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("binds");
    let url = format!("http://{}/whip/demo", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Server { url, seen, deleted }
}

fn args(url: &str) -> PublishArgs {
    PublishArgs {
        source: "test".into(),
        whip: url.into(),
        count: 1,
        duration: None,
        token: None,
        participant: None,
        role: None,
        bind: None,
        clock_ahead: Duration::ZERO,
        no_loop: false,
        no_retry: true,
        quiet: true,
        json: false,
    }
}

/// Seconds of an NTP timestamp after another.
fn ntp_diff_s(later: u64, earlier: u64) -> f64 {
    (later.wrapping_sub(earlier).cast_signed() as f64) / f64::from(u32::MAX)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_arrives_without_a_seam() {
    let mut server = serve().await;
    let stop = CancellationToken::new();
    let publishing = tokio::spawn(publish_until(args(&server.url), stop.clone()));
    let (mut pictures, mut sounds, mut reports) = (Vec::new(), Vec::new(), Vec::new());
    let mut sequences: Vec<u16> = Vec::new();
    let mut picture = Vec::new();
    // the clip lasts 240 pictures: read well past the joint
    while pictures.len() < 275 {
        let seen = tokio::time::timeout(Duration::from_secs(20), server.seen.recv()).await;
        match seen.expect("media keeps coming").expect("the server lives") {
            Seen::Rtp {
                payload_type: super::AUDIO_PAYLOAD_TYPE,
                timestamp,
                ..
            } => sounds.push(timestamp),
            Seen::Rtp {
                timestamp,
                sequence,
                marker,
                payload,
                ..
            } => {
                sequences.push(sequence);
                picture.push(payload);
                if marker {
                    pictures.push((timestamp, std::mem::take(&mut picture)));
                }
            }
            Seen::Report {
                ssrc,
                ntp,
                timestamp,
            } => reports.push((ssrc, ntp, timestamp)),
        }
    }
    stop.cancel();
    publishing.await.expect("no panic").expect("stops cleanly");
    assert_eq!(server.deleted.load(SeqCst), 1, "the session is deleted");

    assert!(
        sequences
            .windows(2)
            .all(|pair| pair[1] == pair[0].wrapping_add(1))
    );
    assert!(
        pictures
            .windows(2)
            .all(|pair| pair[1].0.wrapping_sub(pair[0].0) == 3_000)
    );
    assert!(
        sounds
            .windows(2)
            .all(|pair| pair[1].wrapping_sub(pair[0]) == 960)
    );
    for n in [0, 30, 240] {
        // alone or in an aggregation packet
        let is_set = matches!(pictures[n].1[0][0] & 0x1f, 7 | 24);
        assert!(is_set, "picture {n} is led by its parameter sets");
    }
    assert_eq!(
        pictures[3].1, pictures[243].1,
        "the second pass repeats the first"
    );

    reports_lie_on_one_line(&reports, pictures[0].0, sounds[0]);
}

/// Every report of a track tells the same wall-clock time for its first packet, and both tracks agree on it.
fn reports_lie_on_one_line(reports: &[(u32, u64, u32)], first_picture: u32, first_sound: u32) {
    let (video, audio) = (reports[0], reports[1]);
    assert_ne!(video.0, audio.0);
    let media_time = |report: (u32, u64, u32), first: u32, rate: f64| {
        f64::from(report.2.wrapping_sub(first).cast_signed()) / rate
    };
    let mut offsets = Vec::new();
    for report in reports {
        let at = if report.0 == video.0 {
            media_time(*report, first_picture, 90_000.0)
        } else {
            media_time(*report, first_sound, 48_000.0)
        };
        offsets.push(ntp_diff_s(report.1, video.1) - at);
    }
    let spread = offsets.iter().fold(f64::MIN, |a, b| a.max(*b))
        - offsets.iter().fold(f64::MAX, |a, b| a.min(*b));
    assert!(
        offsets.len() >= 16,
        "{} reports in nine seconds",
        offsets.len()
    );
    assert!(
        spread < 50e-6,
        "sender reports disagree by {:.0} us",
        spread * 1e6
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_reported_in_the_servers_words() {
    let listener = bind().await;
    let url = format!("http://{}/whip/x", listener.local_addr().expect("bound"));
    let refuse = post(|| async { (StatusCode::UNAUTHORIZED, r#"{"detail":"no token"}"#) });
    let router = Router::new().route("/whip/x", refuse);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut args = args(&url);
    args.no_retry = false; // it is final all the same
    let error = publish_until(args, CancellationToken::new())
        .await
        .expect_err("refused");
    assert!(
        format!("{error:#}").contains("401 Unauthorized: no token"),
        "{error:#}"
    );
}

#[expect(clippy::disallowed_methods, reason = "the server under the test")]
async fn bind() -> tokio::net::TcpListener {
    tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("binds")
}
