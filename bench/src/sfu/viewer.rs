//! A WebRTC receiver that costs next to nothing: ICE, DTLS and keep-alives are the engine's, but media is counted by its
//! headers and not decrypted, so that hundreds of them leave the machine to the server.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::BytesMut;
use rtc::interceptor::Registry;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{CandidateConfig, CandidateHostConfig, RTCIceCandidate};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use tokio::net::UdpSocket;
use tokio::sync::watch;

/// What a round asks of viewers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Join and receive.
    Joining,
    /// Count.
    Counting,
    /// Leave.
    Over,
}

/// What a viewer has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// From asking to the last packet of the first picture.
    pub(crate) first: Option<Duration>,
    /// Media packets while counting.
    pub(crate) packets: u64,
    /// Sequence numbers that were left out between them.
    pub(crate) lost: u64,
}

/// Sequence numbers of a stream since counting began.
#[derive(Clone, Copy, Debug)]
struct Line {
    first: i64,
    highest: i64,
    packets: i64,
}

impl Line {
    fn count(&mut self, number: u16) {
        let ahead = number.wrapping_sub(low(self.highest));
        // Less than half the range ahead is ahead; the rest is late.
        if ahead < 0x8000 {
            self.highest += i64::from(ahead);
        }
        self.packets += 1;
    }
}

fn low(number: i64) -> u16 {
    u16::try_from(number & 0xffff).unwrap_or(0)
}

/// A receiver and its socket.
pub(crate) struct Viewer {
    connection: RTCPeerConnection,
    socket: UdpSocket,
    local: SocketAddr,
    connected: bool,
    video: HashSet<u8>,
    asked: Instant,
    seen: Seen,
    lines: HashMap<u32, Line>,
    counting: bool,
}

impl Viewer {
    async fn open(ip: IpAddr) -> anyhow::Result<Self> {
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().context("codecs")?;
        let socket = UdpSocket::bind((ip, 0)).await?;
        let now = Instant::now();
        let connection = RTCPeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_interceptor_registry(Registry::new())
            .build(now)?;
        Ok(Self {
            local: socket.local_addr()?,
            connection,
            socket,
            connected: false,
            video: HashSet::new(),
            asked: now,
            seen: Seen::default(),
            lines: HashMap::new(),
            counting: false,
        })
    }

    /// One that offers to receive pictures and sound, and its offer.
    pub(crate) async fn offer() -> anyhow::Result<(Self, String)> {
        let mut viewer = Self::open(Ipv4Addr::LOCALHOST.into()).await?;
        for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                ..RTCRtpTransceiverInit::default()
            };
            viewer
                .connection
                .add_transceiver_from_kind(kind, Some(init))?;
        }
        let offer = viewer.connection.create_offer(None)?;
        viewer
            .connection
            .set_local_description(Instant::now(), offer.clone())?;
        viewer.add_candidate()?;
        Ok((viewer, offer.sdp))
    }

    /// The server's answer to an offer.
    pub(crate) fn accept(&mut self, answer: String) -> anyhow::Result<()> {
        self.video = video_types(&answer);
        let answer = RTCSessionDescription::answer(answer)?;
        self.connection
            .set_remote_description(Instant::now(), answer)?;
        Ok(())
    }

    /// One that answers an offer of the server, and its answer with its candidate.
    pub(crate) async fn answer(offer: String) -> anyhow::Result<(Self, String)> {
        // Servers that gather candidates leave loopback out: this side is where theirs are.
        let mut candidates = offer
            .lines()
            .filter_map(|line| line.strip_prefix("a=candidate:"));
        let ip = candidates
            .find_map(|line| line.split(' ').nth(4)?.parse::<Ipv4Addr>().ok())
            .context("the offer has no candidate")?;
        let mut viewer = Self::open(ip.into()).await?;
        viewer.video = video_types(&offer);
        let now = Instant::now();
        let offer = RTCSessionDescription::offer(offer)?;
        viewer.connection.set_remote_description(now, offer)?;
        let answer = viewer.connection.create_answer(None)?;
        viewer
            .connection
            .set_local_description(now, answer.clone())?;
        viewer.add_candidate()?;
        let (ip, port) = (viewer.local.ip(), viewer.local.port());
        let line = format!("a=candidate:1 1 udp 2130706431 {ip} {port} typ host\r\n");
        Ok((viewer, format!("{}{line}", answer.sdp)))
    }

    fn add_candidate(&mut self) -> anyhow::Result<()> {
        let config = CandidateHostConfig {
            base_config: CandidateConfig {
                network: "udp".to_owned(),
                address: self.local.ip().to_string(),
                port: self.local.port(),
                component: 1,
                ..CandidateConfig::default()
            },
            ..CandidateHostConfig::default()
        };
        let candidate = config.new_candidate_host()?;
        let candidate = RTCIceCandidate::from(&candidate).to_json()?;
        self.connection.add_local_candidate(candidate)?;
        Ok(())
    }

    /// Receives until the round is over. The time to the first picture counts from `asked`.
    pub(crate) async fn run(
        mut self,
        asked: Instant,
        mut phase: watch::Receiver<Phase>,
    ) -> anyhow::Result<Seen> {
        self.asked = asked;
        let mut buffer = vec![0; 2_048];
        loop {
            while let Some(out) = self.connection.poll_write() {
                let _ = self
                    .socket
                    .try_send_to(&out.message, out.transport.peer_addr);
            }
            let due = self.connection.poll_timeout();
            tokio::select! {
                ready = self.socket.readable() => {
                    ready?;
                    self.receive(&mut buffer);
                }
                () = sleep_until(due) => {
                    let _ = self.connection.handle_timeout(Instant::now());
                    self.note_events();
                }
                changed = phase.changed() => {
                    changed?;
                    match *phase.borrow() {
                        Phase::Joining => {}
                        Phase::Counting => self.counting = true,
                        Phase::Over => break,
                    }
                }
            }
        }
        let _ = self.connection.close();
        while let Some(out) = self.connection.poll_write() {
            let _ = self
                .socket
                .try_send_to(&out.message, out.transport.peer_addr);
        }
        for line in self.lines.values() {
            let missing = line.highest - line.first + 1 - line.packets;
            self.seen.lost += u64::try_from(missing).unwrap_or(0);
            self.seen.packets += u64::try_from(line.packets).unwrap_or(0);
        }
        Ok(self.seen)
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        loop {
            let (length, from) = match self.socket.try_recv_from(buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => continue,
            };
            let datagram = buffer.get(..length).unwrap_or_default();
            if !self.connected || !self.count(datagram) {
                self.hand_over(from, datagram);
            }
        }
    }

    /// Counts a packet of media; false when it is something else.
    fn count(&mut self, datagram: &[u8]) -> bool {
        let Some((&[first, second, a, b, _, _, _, _, s0, s1, s2, s3], _)) =
            datagram.split_first_chunk::<12>()
        else {
            return false;
        };
        if first >> 6 != 2 || (192..=223).contains(&second) {
            return false;
        }
        let is_last = second & 0x80 != 0;
        if self.seen.first.is_none() && is_last && self.video.contains(&(second & 0x7f)) {
            self.seen.first = Some(self.asked.elapsed());
        }
        if self.counting {
            let number = u16::from_be_bytes([a, b]);
            let new = Line {
                first: i64::from(number),
                highest: i64::from(number),
                packets: 0,
            };
            let ssrc = u32::from_be_bytes([s0, s1, s2, s3]);
            self.lines.entry(ssrc).or_insert(new).count(number);
        }
        true
    }

    fn hand_over(&mut self, from: SocketAddr, datagram: &[u8]) {
        let _ = self.connection.handle_read(TaggedBytesMut {
            now: Instant::now(),
            transport: TransportContext {
                local_addr: self.local,
                peer_addr: from,
                ecn: None,
                transport_protocol: TransportProtocol::UDP,
            },
            message: BytesMut::from(datagram),
        });
        self.note_events();
    }

    fn note_events(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event {
                self.connected |= state == RTCPeerConnectionState::Connected;
            }
        }
        while self.connection.poll_read().is_some() {}
    }
}

/// The payload types of pictures in an SDP.
fn video_types(sdp: &str) -> HashSet<u8> {
    let line = sdp.lines().find(|line| line.starts_with("m=video "));
    let types = line.map(|line| line.split_ascii_whitespace().skip(3));
    types
        .into_iter()
        .flatten()
        .filter_map(|number| number.parse().ok())
        .collect()
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
