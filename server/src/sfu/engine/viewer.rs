//! A subscriber for tests, made of the same engine. It keeps what arrives as it arrives, and says what it is told to.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rtc::interceptor::{Interceptor, Packet, Registry, Slot, StreamInfo, TaggedPacket};
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;

use super::client::Client;
use crate::sfu::packet::{Outgoing, Report};

type Feedback = Box<dyn rtc::rtcp::Packet>;

/// What has arrived.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) packets: Vec<(Instant, Outgoing)>,
    pub(crate) reports: Vec<(Instant, Report)>,
}

/// A WHEP client.
pub(crate) struct Viewer {
    client: Client,
    ear: Arc<Mutex<Ear>>,
}

#[derive(Default)]
struct Ear {
    seen: Seen,
    says: Vec<Feedback>,
    now: Option<Instant>,
}

impl Deref for Viewer {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Viewer {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
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
        let (client, (), offer) = Client::offer(now, local, (engine, registry), |connection| {
            for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
                let init = RTCRtpTransceiverInit {
                    direction: RTCRtpTransceiverDirection::Recvonly,
                    ..RTCRtpTransceiverInit::default()
                };
                connection
                    .add_transceiver_from_kind(kind, Some(init))
                    .expect("transceiver");
            }
        });
        (Self { client, ear }, offer)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.ear.lock().expect("one thread").now = Some(now);
        self.client.handle_timeout(now);
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
                let mut extensions = rtp.header.extensions.iter();
                let transport = extensions.next().map(|extension| {
                    let number = extension.payload.as_ref().try_into().expect("two bytes");
                    (extension.id, u16::from_be_bytes(number))
                });
                assert_eq!(extensions.next(), None, "no other extensions");
                let packet = Outgoing {
                    ssrc: rtp.header.ssrc,
                    payload_type: rtp.header.payload_type,
                    sequence: rtp.header.sequence_number,
                    timestamp: rtp.header.timestamp,
                    marker: rtp.header.marker,
                    payload: rtp.payload.clone(),
                    transport,
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
