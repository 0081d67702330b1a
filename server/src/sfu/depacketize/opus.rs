//! Opus over RTP: one packet is one payload (RFC 7587 §4.2). There is nothing to join, only to check.

use bytes::Bytes;

use super::Malformed;
use crate::sfu::packet::RtpPacket;

/// The longest packet accepted, in bytes: 120 ms at the highest rate of the format (RFC 6716 §3.2.1).
const MAX_BYTES: usize = 6 * 1_275 + 7;

/// The Opus packet in `packet`; `None` for padding, which senders use to probe for bandwidth.
///
/// # Errors
/// When it is too long or its frames are.
pub(crate) fn packet(packet: &RtpPacket) -> Result<Option<Bytes>, Malformed> {
    if packet.payload.is_empty() {
        return Ok(None);
    }
    if packet.payload.len() > MAX_BYTES {
        return Err(Malformed("an Opus packet is too long"));
    }
    media::opus::duration_samples(&packet.payload)
        .map_err(|_| Malformed("an Opus packet has a bad duration"))?;
    Ok(Some(packet.payload.clone()))
}
