//! A subscriber for tests, made of the same engine. It keeps what arrives as it arrives, and says what it is told to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::BytesMut;
use rtc::interceptor::{Interceptor, Packet, Registry, Slot, StreamInfo, TaggedPacket};
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{CandidateConfig, CandidateHostConfig, RTCIceCandidate};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

use crate::sfu::packet::{Outgoing, Report};

type Feedback = Box<dyn rtc::rtcp::Packet>;

/// What has arrived.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) packets: Vec<(Instant, Outgoing)>,
    pub(crate) reports: Vec<(Instant, Report)>,
}

/// A WHEP client without HTTP and without a socket.
pub(crate) struct Viewer {
    connection: RTCPeerConnection,
    local: SocketAddr,
    ear: Arc<Mutex<Ear>>,
    pub(crate) connected: bool,
    pub(crate) closed: bool,
}

#[derive(Default)]
struct Ear {
    seen: Seen,
    says: Vec<Feedback>,
    now: Option<Instant>,
}

impl Viewer {
    /// A receiver of H.264 and Opus at `local`, and its offer.
    pub(crate) fn offer(now: Instant, local: SocketAddr) -> (Self, String) {
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().expect("codecs");
        let ear = Arc::<Mutex<Ear>>::default();
        let registry = Registry::new().with(
            Slot::from(Slot::ReceiverReport.slot()),
            Recorder(Arc::clone(&ear)),
        );
        let mut connection = RTCPeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_interceptor_registry(registry)
            .build(now)
            .expect("peer connection");
        for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                ..RTCRtpTransceiverInit::default()
            };
            connection
                .add_transceiver_from_kind(kind, Some(init))
                .expect("transceiver");
        }
        let offer = connection.create_offer(None).expect("offer");
        connection
            .set_local_description(now, offer.clone())
            .expect("own offer");
        let config = CandidateHostConfig {
            base_config: CandidateConfig {
                network: "udp".to_owned(),
                address: local.ip().to_string(),
                port: local.port(),
                component: 1,
                ..CandidateConfig::default()
            },
            ..CandidateHostConfig::default()
        };
        let candidate = config.new_candidate_host().expect("candidate");
        let candidate = RTCIceCandidate::from(&candidate).to_json().expect("json");
        connection
            .add_local_candidate(candidate)
            .expect("candidate");
        let viewer = Self {
            connection,
            local,
            ear,
            connected: false,
            closed: false,
        };
        (viewer, offer.sdp)
    }

    pub(crate) fn accept_answer(&mut self, now: Instant, answer: String) {
        let answer = RTCSessionDescription::answer(answer).expect("answer");
        self.connection
            .set_remote_description(now, answer)
            .expect("answer is taken");
    }

    pub(crate) fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let _ = self.connection.handle_read(TaggedBytesMut {
            now,
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

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.ear.lock().expect("one thread").now = Some(now);
        if self.connection.poll_timeout().is_some_and(|at| at <= now) {
            let _ = self.connection.handle_timeout(now);
        }
        self.note_events();
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<(SocketAddr, BytesMut)> {
        let out = self.connection.poll_write()?;
        Some((out.transport.peer_addr, out.message))
    }

    /// Says that packets are missing.
    pub(crate) fn nack(&mut self, ssrc: u32, sequences: &[u16]) {
        self.say(Box::new(TransportLayerNack {
            sender_ssrc: 1,
            media_ssrc: ssrc,
            nacks: nack_pairs_from_sequence_numbers(sequences),
        }));
    }

    /// Says that it needs a keyframe.
    pub(crate) fn pli(&mut self, ssrc: u32) {
        self.say(Box::new(PictureLossIndication {
            sender_ssrc: 1,
            media_ssrc: ssrc,
        }));
    }

    fn say(&mut self, packet: Feedback) {
        self.ear.lock().expect("one thread").says.push(packet);
    }

    /// What has arrived since the last call.
    pub(crate) fn take(&mut self) -> Seen {
        std::mem::take(&mut self.ear.lock().expect("one thread").seen)
    }

    fn note_events(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event {
                self.connected |= state == RTCPeerConnectionState::Connected;
                self.closed |= state == RTCPeerConnectionState::Closed;
            }
        }
        while self.connection.poll_read().is_some() {}
    }
}

struct Recorder(Arc<Mutex<Ear>>);

impl Protocol<TaggedPacket, TaggedPacket, ()> for Recorder {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        let mut ear = self.0.lock().expect("one thread");
        match &msg.message.packet {
            Packet::Rtp(rtp) => {
                assert!(rtp.header.extensions.is_empty(), "no extensions");
                let packet = Outgoing {
                    ssrc: rtp.header.ssrc,
                    payload_type: rtp.header.payload_type,
                    sequence: rtp.header.sequence_number,
                    timestamp: rtp.header.timestamp,
                    marker: rtp.header.marker,
                    payload: rtp.payload.clone(),
                };
                ear.seen.packets.push((msg.now, packet));
            }
            Packet::Rtcp(packets) => {
                let reports = packets.iter().filter_map(|p| p.as_any().downcast_ref());
                let reports = reports.map(|report: &SenderReport| Report {
                    ssrc: report.ssrc,
                    ntp: report.ntp_time,
                    rtp: report.rtp_time,
                    packets: report.packet_count,
                    octets: report.octet_count,
                });
                ear.seen
                    .reports
                    .extend(reports.map(|report| (msg.now, report)));
            }
            _ => {}
        }
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        None
    }

    fn handle_write(&mut self, _: TaggedPacket) -> Result<(), Error> {
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        let mut ear = self.0.lock().expect("one thread");
        let now = ear.now?;
        let packet = ear.says.pop()?;
        Some(TaggedPacket {
            now,
            transport: TransportContext::default(),
            message: Packet::Rtcp(vec![packet]).into(),
        })
    }

    fn handle_timeout(&mut self, _: Instant) -> Result<(), Error> {
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }
}

impl Interceptor for Recorder {
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
}
