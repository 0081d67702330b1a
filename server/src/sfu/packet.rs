//! An RTP packet as everything behind the engine sees it: decrypted, unwrapped from retransmission, without extensions.

use std::time::Instant;

use bytes::Bytes;

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
