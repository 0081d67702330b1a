//! The link between an anchor and a mixer: framed messages over a byte stream. `docs/link.md` is its contract.
//!
//! The anchor sends coded pictures of the participants and commands ([`ToMixer`]); the mixer answers with one coded
//! picture per frame of its grid ([`FromMixer`]). Both ends feed what they read to a [`Decoder`] and write what
//! [`Message::encode`] gives them. Pure: bytes in, messages out.
//!
//! Invariants:
//! - Every time on the link is program time: nanoseconds since the channel's epoch on the anchor's clock.
//! - A frame is never larger than [`MAX_FRAME_BYTES`], in either direction; a decoder holds at most one frame and
//!   what the reader has put behind it.
//! - The first error is final: a byte stream that lost its framing cannot be trusted again.

mod control;
mod decoder;
mod scene;
#[cfg(test)]
mod tests;
mod wire;

pub use control::{
    Configure, FrameRate, FromMixer, InputState, InputStats, Level, Picture, Profile, Stats,
    ToMixer,
};
pub use decoder::Decoder;
pub use scene::{Fit, ImageRef, Layout, LayoutName, Scene, Slate, Tile};
pub use wire::Message;

use crate::h264::MAX_ACCESS_UNIT_BYTES;

/// The version of this protocol. Ends of different versions do not talk.
pub const VERSION: u16 = 3;

/// The largest JSON control message, in bytes.
pub const MAX_CONTROL_BYTES: usize = 256 << 10;

/// The largest body of a frame behind its length field: kind, header of a picture, access unit.
pub const MAX_FRAME_BYTES: usize = wire::PICTURE_HEADER_BYTES + MAX_ACCESS_UNIT_BYTES;

/// The largest image file that is sent, in bytes.
pub const MAX_IMAGE_BYTES: usize = 4 << 20;

/// The most images that a mixer keeps: backdrop and slate, before and after a change.
pub const MAX_IMAGES: usize = 4;

/// How often the anchor sends [`ToMixer::Ping`], in milliseconds.
pub const PING_INTERVAL_MS: u64 = 100;

/// A mixer that says nothing for this long, in milliseconds, counts as stalled: the anchor leaves the mix.
pub const STALLED_AFTER_MS: u64 = 500;

/// An anchor that says nothing for this long, in milliseconds, counts as gone: the mixer ends.
pub const ABANDONED_AFTER_MS: u64 = 5_000;

/// The most inputs that one mixer takes.
pub const MAX_INPUTS: usize = 16;
