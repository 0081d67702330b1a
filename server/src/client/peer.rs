//! One WebRTC connection that sends a picture and a sound track: the only file here that knows the WebRTC crate.
//!
//! Packets and reports of the async `webrtc` crate are types of its core `rtc`, which it does not re-export; so both are
//! named here. NACKs are answered by the crate from its send buffer of 1024 packets. A PLI cannot be answered: a file
//! has its keyframes where it has them, so clips should have one every second or two.
//!
//! Sender reports are our own: the crate pairs the RTP timestamp of the last frame with the time it happened to be
//! written, which carries the scheduler's jitter into the receiver's A/V sync. A file knows the exact line.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use media::Kind;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_H264, MIME_TYPE_OPUS};
use rtc::peer_connection::transport::RTCDtlsTransportState;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtp;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RtpCodecKind,
};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
    RTCIceGatheringState, RTCPeerConnectionState, RTCSessionDescription, RTCStatsReportEntry,
    Registry, SettingEngineBuilder, StatsSelector, configure_nack,
};
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};

use super::clip::{AUDIO_RATE, VIDEO_RATE};

const VIDEO_PAYLOAD_TYPE: u8 = 102;
const AUDIO_PAYLOAD_TYPE: u8 = 111;
/// How long collecting local addresses may take.
const GATHERING_TIMEOUT: Duration = Duration::from_secs(3);
/// Silence of the peer after which the connection counts as disturbed, and as lost.
const ICE_TIMEOUTS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(10)];
const ICE_KEEPALIVE: Duration = Duration::from_secs(2);
/// How often it is looked whether the server has ended DTLS: the crate keeps that to itself.
const FAREWELL_INTERVAL: Duration = Duration::from_millis(250);

/// How far the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// ICE and DTLS are under way.
    Connecting,
    /// Media flows.
    Connected,
    /// Over, by timeout or by the peer's will.
    Closed,
}

/// A connection.
pub(super) struct Peer {
    connection: Arc<dyn PeerConnection>,
    video: Line,
    audio: Line,
    state: watch::Receiver<State>,
    says: watch::Sender<State>,
    farewell: Option<AbortOnDropHandle<()>>,
}

/// One RTP stream.
struct Line {
    track: Arc<TrackLocalStaticRTP>,
    ssrc: u32,
    payload_type: u8,
    sequence: u16,
    /// RTP timestamp of media time zero.
    first_timestamp: u32,
    packets: u32,
    octets: u32,
}

struct Events {
    gathered: watch::Sender<bool>,
    state: watch::Sender<State>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Events {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.gathered
            .send_replace(state == RTCIceGatheringState::Complete);
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        tracing::debug!(%state, "connection");
        let state = if state == RTCPeerConnectionState::Connected {
            State::Connected
        } else if matches!(
            state,
            RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed
        ) {
            State::Closed
        } else {
            return; // under way, or silent for a while and perhaps back soon
        };
        self.state.send_replace(state);
    }
}

impl Peer {
    /// A connection and its offer, complete with candidates. `local` is the address to send from; unspecified: all
    /// interfaces. `profile` is profile_idc, constraints and level_idc of the video.
    ///
    /// # Errors
    /// When no socket can be opened or the crate refuses.
    pub(super) async fn offer(local: IpAddr, profile: [u8; 3]) -> anyhow::Result<(Self, String)> {
        let (video_codec, audio_codec) = codecs(profile);
        let mut engine = MediaEngine::default();
        engine.register_codec(video_codec.clone(), RtpCodecKind::Video)?;
        engine.register_codec(audio_codec.clone(), RtpCodecKind::Audio)?;
        let registry = configure_nack(Registry::new(), &mut engine);
        let [disturbed, lost] = ICE_TIMEOUTS;
        let settings = SettingEngineBuilder::new()
            .with_include_loopback_candidate(true)
            .with_ice_timeouts(Some(disturbed), Some(lost), Some(ICE_KEEPALIVE))
            .build();
        let (gathered, mut has_gathered) = watch::channel(false);
        let (state, state_of) = watch::channel(State::Connecting);
        let connection: Arc<dyn PeerConnection> = Arc::new(
            PeerConnectionBuilder::new()
                .with_media_engine(engine)
                .with_setting_engine(settings)
                .with_interceptor_registry(registry)
                .with_handler(Arc::new(Events {
                    gathered,
                    state: state.clone(),
                }))
                .with_udp_addrs(vec![SocketAddr::new(local, 0)])
                .build()
                .await?,
        );
        let stream = uuid::Uuid::new_v4().to_string();
        let video = Line::add(&*connection, &stream, Kind::Video, video_codec).await?;
        let audio = Line::add(&*connection, &stream, Kind::Audio, audio_codec).await?;
        let offer = connection.create_offer(None).await?;
        connection.set_local_description(offer).await?;
        let complete = has_gathered.wait_for(|complete| *complete);
        let timed_out = tokio::time::timeout(GATHERING_TIMEOUT, complete)
            .await
            .is_err();
        if timed_out {
            tracing::warn!(
                "not all local addresses answered in time; going on with those that did"
            );
        }
        let offer = connection.local_description().await;
        let sdp = offer
            .context("the connection closed while it was set up")?
            .sdp;
        let peer = Self {
            connection,
            video,
            audio,
            state: state_of,
            says: state,
            farewell: None,
        };
        Ok((peer, sdp))
    }

    /// Takes the answer and waits until media can flow.
    ///
    /// # Errors
    /// When the answer is unusable or the connection does not come up in `timeout`.
    pub(super) async fn connect(
        &mut self,
        answer: String,
        timeout: Duration,
    ) -> anyhow::Result<()> {
        let answer = RTCSessionDescription::answer(answer).context("the answer is not SDP")?;
        self.connection
            .set_remote_description(answer)
            .await
            .context("the answer does not fit the offer")?;
        let decided = self.state.wait_for(|state| *state != State::Connecting);
        let state = tokio::time::timeout(timeout, decided).await;
        let state = state.context("no connection: is UDP to the server's WebRTC port blocked?")?;
        let state = *state?;
        anyhow::ensure!(
            state == State::Connected,
            "the connection failed during its set-up"
        );
        let watched = farewell(Arc::clone(&self.connection), self.says.clone());
        self.farewell = Some(AbortOnDropHandle::new(tokio::spawn(watched)));
        Ok(())
    }

    /// Resolves once the connection is over.
    pub(super) async fn closed(&self) {
        let mut state = self.state.clone();
        let _ = state.wait_for(|state| *state == State::Closed).await;
    }

    /// Sends one packet; `ticks` counts the RTP clock from media time zero.
    ///
    /// # Errors
    /// When the connection is over.
    pub(super) async fn send(
        &mut self,
        kind: Kind,
        payload: Bytes,
        ticks: u32,
        marker: bool,
    ) -> anyhow::Result<()> {
        let line = self.line(kind);
        line.packets = line.packets.wrapping_add(1);
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        line.octets = line.octets.wrapping_add(length);
        line.sequence = line.sequence.wrapping_add(1);
        let packet = rtp::Packet {
            header: rtp::Header {
                version: 2,
                marker,
                payload_type: line.payload_type,
                sequence_number: line.sequence,
                timestamp: line.first_timestamp.wrapping_add(ticks),
                ssrc: line.ssrc,
                ..Default::default()
            },
            payload,
        };
        Ok(line.track.write_rtp(packet).await?)
    }

    /// Sends a sender report: at `ntp_time`, the track's RTP clock stood at `ticks` from media time zero.
    ///
    /// # Errors
    /// When the connection is over.
    pub(super) async fn report(
        &mut self,
        kind: Kind,
        ntp_time: u64,
        ticks: u32,
    ) -> anyhow::Result<()> {
        let line = self.line(kind);
        let report = SenderReport {
            ssrc: line.ssrc,
            ntp_time,
            rtp_time: line.first_timestamp.wrapping_add(ticks),
            packet_count: line.packets,
            octet_count: line.octets,
            ..Default::default()
        };
        Ok(line.track.write_rtcp(vec![Box::new(report)]).await?)
    }

    /// Round trip of the connection's checks, and the fraction of packets the receiver last reported lost.
    pub(super) async fn quality(&self, now: Instant) -> (Option<Duration>, f64) {
        let stats = self.connection.get_stats(now, StatsSelector::None).await;
        let trips = stats
            .candidate_pairs()
            .map(|pair| pair.current_round_trip_time);
        let trip = trips
            .filter(|trip| *trip > 0.0)
            .fold(None, |best: Option<f64>, trip| {
                Some(best.map_or(trip, |best| best.min(trip)))
            });
        let lost = stats.iter().filter_map(|entry| {
            if let RTCStatsReportEntry::RemoteInboundRtp(remote) = entry {
                Some(remote.fraction_lost)
            } else {
                None
            }
        });
        let trip = trip.and_then(|trip| Duration::try_from_secs_f64(trip).ok());
        (trip, lost.fold(0.0, f64::max))
    }

    /// Closes the connection.
    pub(super) async fn close(self) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "closing");
        }
    }

    fn line(&mut self, kind: Kind) -> &mut Line {
        match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        }
    }
}

/// Says that the connection is over once the server has closed DTLS.
async fn farewell(connection: Arc<dyn PeerConnection>, state: watch::Sender<State>) {
    let senders = connection.get_senders().await;
    let Some(sender) = senders.first() else {
        return;
    };
    let Ok(Some(transport)) = sender.transport().await else {
        return;
    };
    while !matches!(
        transport.state().await,
        Ok(RTCDtlsTransportState::Closed | RTCDtlsTransportState::Failed) | Err(_)
    ) {
        tokio::time::sleep(FAREWELL_INTERVAL).await;
    }
    state.send_replace(State::Closed);
}

impl Line {
    async fn add(
        connection: &dyn PeerConnection,
        stream: &str,
        kind: Kind,
        codec: RTCRtpCodecParameters,
    ) -> anyhow::Result<Self> {
        let (name, codec_kind) = match kind {
            Kind::Video => ("video", RtpCodecKind::Video),
            Kind::Audio => ("audio", RtpCodecKind::Audio),
        };
        let ssrc = rand::random();
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(ssrc),
                ..Default::default()
            },
            active: true,
            codec: codec.rtp_codec,
            ..Default::default()
        };
        let track = MediaStreamTrack::new(
            stream.to_owned(),
            format!("{stream}-{name}"),
            name.to_owned(),
            codec_kind,
            vec![encoding.clone()],
        );
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Sendonly,
            streams: vec![stream.to_owned()],
            send_encodings: vec![encoding],
        };
        let local = Arc::clone(&track) as Arc<dyn TrackLocal>;
        connection
            .add_transceiver_from_track(local, Some(init))
            .await?;
        Ok(Self {
            track,
            ssrc,
            payload_type: codec.payload_type,
            sequence: rand::random::<u16>() >> 1,
            first_timestamp: rand::random(),
            packets: 0,
            octets: 0,
        })
    }
}

fn codecs(profile: [u8; 3]) -> (RTCRtpCodecParameters, RTCRtpCodecParameters) {
    let profile = match profile {
        // baseline with constraint_set1 is constrained baseline: offered in the form every receiver knows
        [0x42, constraints, level] if constraints & 0x40 != 0 => [0x42, 0xe0, level],
        other => other,
    };
    let [idc, constraints, level] = profile;
    let video = RTCRtpCodec {
        mime_type: MIME_TYPE_H264.to_owned(),
        clock_rate: u32::try_from(VIDEO_RATE).unwrap_or_default(),
        channels: 0,
        sdp_fmtp_line: format!(
            "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={idc:02x}{constraints:02x}{level:02x}"
        ),
        rtcp_feedback: Vec::new(),
    };
    let audio = RTCRtpCodec {
        mime_type: MIME_TYPE_OPUS.to_owned(),
        clock_rate: u32::try_from(AUDIO_RATE).unwrap_or_default(),
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1".to_owned(),
        rtcp_feedback: Vec::new(),
    };
    let with_type = |rtp_codec, payload_type| RTCRtpCodecParameters {
        rtp_codec,
        payload_type,
    };
    (
        with_type(video, VIDEO_PAYLOAD_TYPE),
        with_type(audio, AUDIO_PAYLOAD_TYPE),
    )
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
