//! From RTP payloads to coded frames: H.264 (RFC 6184) and Opus (RFC 7587).
//!
//! Depacketizers take the output of the receive buffer: packets in sequence order, and a word where some are missing.
//! They are total: any bytes in, at most [`Malformed`] out. Nothing from before a loss is ever joined to what
//! follows it.

pub(crate) mod h264;
pub(crate) mod opus;
mod parameter_sets;

/// A payload that the format forbids, or that exceeds a bound. The packet is dropped as if it had been lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed payload: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);
