//! Where media leaves the engine: the last interceptor of its chain, around the recorders of arrivals.
//!
//! The recorders (transport-wide feedback, receiver reports) see every packet first and as it came, padding and
//! retransmissions included, so that the sender's bandwidth estimate is right. Then retransmissions are unwrapped
//! (RFC 4588 §4) and everything is handed to [`Shared`]; nothing goes on to the engine's own track lookup. Streams are
//! told apart by [`Streams`], which works whether or not the offer declares SSRCs; the recorders are told of a stream
//! at its first packet.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rtc::interceptor::{
    AttributedPacket, Interceptor, Packet, RTCPFeedback, RTPHeaderExtension, ReceiverReportBuilder,
    Registry, Slot, StreamInfo, TaggedPacket, TwccReceiverBuilder,
};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;

use super::streams::Streams;
use super::{Event, offer};
use crate::sfu::ingress_clock::Media;
use crate::sfu::packet::RtpPacket;
use crate::sfu::sdp::{Codec, Extension, Offer};

/// Most events that wait; the session drains them after every datagram.
pub(super) const MAX_EVENTS: usize = 4_096;
/// Most different SSRCs of one session that the recorders are told of.
const MAX_SSRCS: usize = 16;
/// Any number: we send no media.
const OUR_SSRC: u32 = 1;

type Feedback = Box<dyn rtc::rtcp::Packet>;

/// What the tap and the engine's owner share. Uncontended: one thread drives both.
#[derive(Default)]
pub(super) struct Shared {
    queues: Mutex<Queues>,
}

#[derive(Default)]
struct Queues {
    events: VecDeque<Event>,
    /// SRTP has let something through, of whatever stream, since this was last asked.
    authentic: bool,
    feedback: VecDeque<Feedback>,
    /// Of subscribers, who get nothing else.
    media: VecDeque<(Instant, Packet)>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self) -> Option<Event> {
        self.lock().events.pop_front()
    }

    pub(super) fn take_authentic(&self) -> bool {
        std::mem::take(&mut self.lock().authentic)
    }

    pub(super) fn put(&self, event: Event) {
        let mut queues = self.lock();
        if queues.events.len() < MAX_EVENTS {
            queues.events.push_back(event);
        }
    }

    /// The egress bounds what it gives, and every packet is taken out before the next datagram is looked at.
    pub(super) fn queue_media(&self, now: Instant, packet: Packet) {
        self.lock().media.push_back((now, packet));
    }

    pub(super) fn take_media(&self) -> Option<(Instant, Packet)> {
        self.lock().media.pop_front()
    }

    pub(super) fn queue_nack(&self, ssrc: u32, sequences: &[u16]) {
        self.lock().feedback.push_back(Box::new(TransportLayerNack {
            sender_ssrc: OUR_SSRC,
            media_ssrc: ssrc,
            nacks: nack_pairs_from_sequence_numbers(sequences),
        }));
    }

    pub(super) fn queue_pli(&self, ssrc: u32) {
        self.lock()
            .feedback
            .push_back(Box::new(PictureLossIndication {
                sender_ssrc: OUR_SSRC,
                media_ssrc: ssrc,
            }));
    }
}

/// What a payload type means.
#[derive(Clone, Debug)]
struct Payload {
    media: Media,
    is_rtx: bool,
    /// Description for the recorders, without SSRC.
    info: StreamInfo,
}

/// The interceptor.
pub(super) struct Tap {
    recorders: Box<dyn Interceptor>,
    /// By number on the wire.
    payloads: Vec<(u8, Arc<Payload>)>,
    known: Vec<u32>,
    streams: Streams,
    shared: Arc<Shared>,
    writes: VecDeque<TaggedPacket>,
    now: Option<Instant>,
}

impl Tap {
    pub(super) fn new(offer: &Offer, shared: Arc<Shared>) -> Self {
        let recorders = Registry::new()
            .with(Slot::TwccReceiver, TwccReceiverBuilder::new().build())
            .with(Slot::ReceiverReport, ReceiverReportBuilder::new().build())
            .build();
        Self {
            recorders: Box::new(recorders),
            payloads: payloads(offer),
            known: Vec::new(),
            streams: Streams::new(offer),
            shared,
            writes: VecDeque::new(),
            now: None,
        }
    }

    /// Tells the recorders of a stream at its first packet.
    fn introduce(&mut self, ssrc: u32, payload: &Payload) {
        if self.known.contains(&ssrc) || self.known.len() >= MAX_SSRCS {
            return;
        }
        self.known.push(ssrc);
        self.recorders.bind_remote_stream(&StreamInfo {
            ssrc,
            ..payload.info.clone()
        });
    }

    fn hand_over(&mut self, now: Instant, rtp: &rtc::rtp::Packet, payload: &Payload) {
        let header = &rtp.header;
        let place = self
            .streams
            .place(now, payload.media, payload.is_rtx, header);
        let Some((which, ssrc)) = place else { return };
        let (sequence, body) = if payload.is_rtx {
            let Some((&[high, low], _)) = rtp.payload.split_first_chunk::<2>() else {
                return; // padding, sent to probe for bandwidth
            };
            (u16::from_be_bytes([high, low]), rtp.payload.slice(2..))
        } else {
            (header.sequence_number, rtp.payload.clone())
        };
        self.shared.put(Event::Rtp {
            which,
            ssrc,
            packet: RtpPacket {
                sequence,
                timestamp: header.timestamp,
                marker: header.marker,
                payload: body,
                arrived: now,
                repaired: payload.is_rtx,
            },
        });
    }

    fn note_reports(&mut self, now: Instant, packets: &[Feedback]) {
        for packet in packets {
            let Some(report) = packet.as_any().downcast_ref::<SenderReport>() else {
                continue;
            };
            for which in self.streams.of(report.ssrc) {
                self.shared.put(Event::SenderReport {
                    which,
                    ntp: report.ntp_time,
                    rtp: report.rtp_time,
                    arrived: now,
                });
            }
        }
    }
}

/// Every number that the answer allows, with what it means.
fn payloads(offer: &Offer) -> Vec<(u8, Arc<Payload>)> {
    let mut payloads = Vec::new();
    for taken in offer.sections.iter().filter_map(|s| s.taken.as_ref()) {
        let (mime, clock_rate, channels) = offer::mime(taken.media);
        let extensions: Vec<RTPHeaderExtension> = taken
            .extensions
            .iter()
            .filter(|(_, extension)| *extension == Extension::TransportSequence)
            .map(|(id, extension)| RTPHeaderExtension {
                uri: extension.uri().to_owned(),
                id: u16::from(*id),
            })
            .collect();
        for codec in &taken.codecs {
            let numbers = std::iter::once(codec.payload_type).chain(codec.rtx);
            for number in numbers {
                let payload = Payload {
                    media: taken.media,
                    is_rtx: number != codec.payload_type,
                    info: StreamInfo {
                        payload_type: number,
                        mime_type: mime.to_owned(),
                        clock_rate,
                        channels,
                        rtp_header_extensions: extensions.clone(),
                        rtcp_feedback: feedback(codec),
                        ..StreamInfo::default()
                    },
                };
                payloads.push((number, Arc::new(payload)));
            }
        }
    }
    payloads
}

fn feedback(codec: &Codec) -> Vec<RTCPFeedback> {
    codec
        .feedback
        .iter()
        .map(|feedback| {
            let (kind, parameter) = feedback.split_once(' ').unwrap_or((feedback, ""));
            RTCPFeedback {
                typ: kind.to_owned(),
                parameter: parameter.to_owned(),
            }
        })
        .collect()
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Tap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        let now = msg.now;
        self.now = Some(now);
        self.shared.lock().authentic = true;
        match &msg.message.packet {
            Packet::Rtp(rtp) => {
                let number = rtp.header.payload_type;
                let found = self.payloads.iter().find(|(held, _)| *held == number);
                let Some(payload) = found.map(|(_, payload)| Arc::clone(payload)) else {
                    return Ok(());
                };
                self.introduce(rtp.header.ssrc, &payload);
                self.hand_over(now, rtp, &payload);
            }
            Packet::Rtcp(packets) => self.note_reports(now, packets),
            _ => {}
        }
        self.recorders.handle_read(msg)?;
        while self.recorders.poll_read().is_some() {}
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        None
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        self.writes.push_back(msg);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        if let Some(out) = self.writes.pop_front() {
            return Some(out);
        }
        if let Some(now) = self.now
            && let Some(feedback) = self.shared.lock().feedback.pop_front()
        {
            return Some(TaggedPacket {
                now,
                transport: TransportContext::default(),
                message: AttributedPacket::new(Packet::Rtcp(vec![feedback])),
            });
        }
        self.recorders.poll_write()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.now = Some(now);
        self.recorders.handle_timeout(now)
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.recorders.poll_timeout()
    }
}

/// Streams are introduced by their first packet, whether or not the engine knows of them.
impl Interceptor for Tap {
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
}
