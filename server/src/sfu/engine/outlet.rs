//! Where forwarded media enters the engine: the interceptor nearest to its tracks, in the place of the tap.
//!
//! Packets go in complete with header and leave encrypted; the engine's tracks, histories and report generators, which
//! would need to know the streams, are not involved. What the subscriber says comes out as [`Feedback`]; media that it
//! sends is dropped.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rtc::interceptor::{AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::source_description::{
    SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem,
};
use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;

use super::tap::Shared;
use super::{Event, feedback};
use crate::sfu::packet::{Feedback, Outgoing, Report};
use crate::sfu::sdp::answer::CNAME;

/// Most sequence numbers of one acknowledgement that are looked at.
const MAX_MISSING: usize = 256;
/// Most entries of one RTCP packet that are looked at.
const MAX_ENTRIES: usize = 8;

/// The interceptor.
pub(super) struct Outlet {
    shared: Arc<Shared>,
}

impl Outlet {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn hear(&self, packet: &dyn rtc::rtcp::Packet) {
        let any = packet.as_any();
        let say = |feedback| self.shared.put(Event::Feedback(feedback));
        if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
            let sequences = nack.nacks.iter().flat_map(|pair| pair.into_iter());
            say(Feedback::Nack {
                ssrc: nack.media_ssrc,
                sequences: sequences.take(MAX_MISSING).collect(),
            });
        } else if let Some(pli) = any.downcast_ref::<PictureLossIndication>() {
            say(Feedback::Keyframe {
                ssrc: pli.media_ssrc,
            });
        } else if let Some(fir) = any.downcast_ref::<FullIntraRequest>() {
            for entry in fir.fir.iter().take(MAX_ENTRIES) {
                say(Feedback::Keyframe { ssrc: entry.ssrc });
            }
        } else if let Some(arrivals) = any.downcast_ref::<TransportLayerCc>() {
            say(Feedback::Arrivals(feedback::arrivals(arrivals)));
        } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
            self.hear_reception(&report.reports);
        } else if let Some(report) = any.downcast_ref::<SenderReport>() {
            self.hear_reception(&report.reports);
        }
    }

    fn hear_reception(&self, blocks: &[ReceptionReport]) {
        // A report without blocks still shows that the subscriber is there.
        let empty = blocks.is_empty().then(ReceptionReport::default);
        for block in blocks.iter().chain(&empty).take(MAX_ENTRIES) {
            self.shared.put(Event::Feedback(Feedback::Reception {
                ssrc: block.ssrc,
                last_report: block.last_sender_report,
                delay: block.delay,
            }));
        }
    }
}

/// A packet in the engine's terms.
pub(super) fn rtp(packet: Outgoing) -> Packet {
    let mut header = rtc::rtp::Header {
        version: 2,
        marker: packet.marker,
        payload_type: packet.payload_type,
        sequence_number: packet.sequence,
        timestamp: packet.timestamp,
        ssrc: packet.ssrc,
        ..rtc::rtp::Header::default()
    };
    if let Some((id, number)) = packet.transport {
        // The id has been checked with the offer; without the number the packet would be of use still.
        let _ = header.set_extension(id, Bytes::copy_from_slice(&number.to_be_bytes()));
    }
    Packet::Rtp(rtc::rtp::Packet {
        header,
        payload: packet.payload,
    })
}

/// A report in the engine's terms, with the canonical name that RFC 3550 §6.1 wants beside it.
pub(super) fn rtcp(report: Report) -> Packet {
    let name = SourceDescription {
        chunks: vec![SourceDescriptionChunk {
            source: report.ssrc,
            items: vec![SourceDescriptionItem {
                sdes_type: SdesType::SdesCname,
                text: Bytes::from_static(CNAME.as_bytes()),
            }],
        }],
    };
    let report = SenderReport {
        ssrc: report.ssrc,
        ntp_time: report.ntp,
        rtp_time: report.rtp,
        packet_count: report.packets,
        octet_count: report.octets,
        ..SenderReport::default()
    };
    Packet::Rtcp(vec![Box::new(report), Box::new(name)])
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Outlet {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &msg.message.packet {
            for packet in packets {
                self.hear(packet.as_ref());
            }
        }
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        None
    }

    /// The engine's own generators have nothing to say about streams they do not know.
    fn handle_write(&mut self, _: TaggedPacket) -> Result<(), Error> {
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        let (now, packet) = self.shared.take_media()?;
        Some(TaggedPacket {
            now,
            transport: TransportContext::default(),
            message: AttributedPacket::new(packet),
        })
    }

    fn handle_timeout(&mut self, _: Instant) -> Result<(), Error> {
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }
}

/// The engine knows of no stream of ours.
impl Interceptor for Outlet {
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
}
