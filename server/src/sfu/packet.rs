//! RTP and RTCP as everything behind the engine sees them: decrypted, unwrapped from retransmission, without extensions.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use media::h264;

use super::ingress_clock::Media;

/// Media of one stream. An empty payload is padding: it occupies its sequence number and nothing else.
#[derive(Clone, Debug)]
pub(crate) struct RtpPacket {
    /// Position in the stream, modulo 2^16.
    pub(crate) sequence: u16,
    /// Media time in ticks of the payload's clock, modulo 2^32.
    pub(crate) timestamp: u32,
    /// Video: the last packet of a picture.
    pub(crate) marker: bool,
    /// What it carries, without padding.
    pub(crate) payload: Bytes,
    /// When the socket received it.
    pub(crate) arrived: Instant,
    /// It came as a retransmission (RFC 4588).
    pub(crate) repaired: bool,
}

/// A publisher's packet on its way to subscribers.
#[derive(Clone, Debug)]
pub(crate) struct Relayed {
    /// Picture or sound.
    pub(crate) media: Media,
    /// The publisher's stream.
    pub(crate) ssrc: u32,
    /// Its place among the layers of the picture; 0 when there is one, and for sound.
    pub(crate) layer: u8,
    /// How many layers there are.
    pub(crate) layers: u8,
    /// The packet: pictures in order and repaired, sound as it came, each once.
    pub(crate) packet: RtpPacket,
    /// An RTP time of the stream and when that was captured, in nanoseconds on the anchor's clock; the newest known.
    pub(crate) captured: Option<(u32, i64)>,
    /// Pictures: the parameter sets in force.
    pub(crate) config: Option<Arc<h264::Config>>,
}

/// An RTP packet to send, before encryption. Its only header extension is its number in the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// Our stream.
    pub(crate) ssrc: u32,
    /// Its number in the subscriber's offer.
    pub(crate) payload_type: u8,
    /// Position in our stream, modulo 2^16.
    pub(crate) sequence: u16,
    /// Media time in our stream, modulo 2^32.
    pub(crate) timestamp: u32,
    /// As it came.
    pub(crate) marker: bool,
    /// As it came, or after the original sequence number when it is a retransmission (RFC 4588 §4).
    pub(crate) payload: Bytes,
    /// Its number among all packets of the session, for transport-wide feedback, and the id of the extension that has it.
    pub(crate) transport: Option<(u8, u16)>,
}

/// When packets arrived, by their numbers in the session (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrivals {
    /// Numbers in order; microseconds on the receiver's clock, none for what is missing.
    pub(crate) packets: Vec<(u16, Option<i64>)>,
}

impl Arrivals {
    /// Numbers in order, with their times.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, Option<i64>)> + '_ {
        self.packets.iter().copied()
    }
}

/// A sender report (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Of this stream.
    pub(crate) ssrc: u32,
    /// 32.32 fixed point seconds on the anchor's clock.
    pub(crate) ntp: u64,
    /// The same moment in RTP time.
    pub(crate) rtp: u32,
    /// Packets sent so far, modulo 2^32.
    pub(crate) packets: u32,
    /// Payload bytes sent so far, modulo 2^32.
    pub(crate) octets: u32,
}

/// What a subscriber says about our streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Feedback {
    /// Packets are missing (RFC 4585 §6.2.1).
    Nack {
        /// Of this stream.
        ssrc: u32,
        /// These.
        sequences: Vec<u16>,
    },
    /// A keyframe is needed (RFC 4585 §6.3.1, RFC 5104 §4.3.1).
    Keyframe {
        /// Of this stream.
        ssrc: u32,
    },
    /// When packets of the session arrived.
    Arrivals(Arrivals),
    /// How a stream arrives (RFC 3550 §6.4.1).
    Reception {
        /// This one.
        ssrc: u32,
        /// The middle 32 bits of the NTP time of the last sender report; 0 when none has come.
        last_report: u32,
        /// How long ago it came, in units of 2^-16 s.
        delay: u32,
    },
}
