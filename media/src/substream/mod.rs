//! The program in parts: what a frame is called, in what order frames come, and which substream each belongs to.
//!
//! A *frame* is one FLV tag as viewers get it. Its [`Header`] says everything but the bytes; its [`Entry`] adds a CRC over
//! the headers of the frame and its two predecessors, so that entries name frames uniquely *and* prove their order to
//! whoever holds three neighbours. The origin computes entries once ([`Sequencer`]); everybody else carries them: a relay
//! that lacked a header would compute a CRC that is wrong in the same way for all its clients.
//!
//! [`Split`] assigns frames to substreams; [`feed`] is how the origin hands them out; [`sign`] is how players know its
//! frames when relays bring them. docs/rlive.md has the diagrams.
//!
//! Invariants: identity is the whole entry, never the decoding time alone (sound and pictures share times); order is the
//! order of the chain, never that of decoding times.

mod crc;
pub mod feed;
pub mod sign;
mod split;

use bytes::{Buf, BufMut, Bytes};

use crate::Error;
use crate::flv::{AudioBody, Tag, TagKind, VideoBody};
use crate::h264::MAX_ACCESS_UNIT_BYTES;

pub use split::{HashVersion, MAX_SUBSTREAMS, Split};

/// Payload bytes of every packet of a frame but the last. A constant of the protocol, so that everybody counts the
/// packets of a frame alike.
pub const PACKET_PAYLOAD_BYTES: usize = 1_072;
/// The largest frame: that of an access unit, with the head of its tag.
pub const MAX_FRAME_BYTES: usize = MAX_ACCESS_UNIT_BYTES + 16;
/// Predecessors that a packet names: the paper's δ.
pub const CHAIN_LENGTH: usize = 4;

const WHAT: &str = "frame header";

/// What a frame is, in one byte on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameKind(u8);

impl FrameKind {
    const KEY: u8 = 1 << 2;
    const CONFIG: u8 = 1 << 4;

    fn of(tag: &Tag) -> Self {
        let (track, flags) = match tag.kind {
            TagKind::Video => match VideoBody::parse(&tag.body) {
                Ok(VideoBody::AvcConfig(_)) => (0, Self::CONFIG),
                Ok(VideoBody::Avc { keyframe: true, .. }) => (0, Self::KEY),
                Ok(VideoBody::Avc { .. } | VideoBody::AvcEnd) | Err(_) => (0, 0),
            },
            TagKind::Audio => match AudioBody::parse(&tag.body) {
                Ok(AudioBody::AacConfig(_)) => (1, Self::CONFIG),
                Ok(AudioBody::Aac(_)) | Err(_) => (1, 0),
            },
            TagKind::Script => (2, 0),
        };
        Self(track | flags)
    }

    fn read(byte: u8) -> Result<Self, Error> {
        if byte & 3 == 3 {
            return Err(Error::Invalid {
                what: WHAT,
                why: "there is no fourth kind of track",
            });
        }
        Ok(Self(byte))
    }

    /// The kind of tag that the frame becomes again.
    #[must_use]
    pub fn tag(self) -> TagKind {
        match self.0 & 3 {
            0 => TagKind::Video,
            1 => TagKind::Audio,
            _ => TagKind::Script,
        }
    }

    /// The number of the track: 0 video, 1 audio, 2 data.
    #[must_use]
    pub fn track(self) -> u8 {
        self.0 & 3
    }

    /// A picture that a decoder can start from.
    #[must_use]
    pub fn is_key(self) -> bool {
        self.0 & Self::KEY != 0
    }

    /// A sequence header.
    #[must_use]
    pub fn is_config(self) -> bool {
        self.0 & Self::CONFIG != 0
    }
}

/// All about a frame except its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Decoding time in milliseconds, modulo 2³².
    pub dts_ms: u32,
    /// Presentation time − decoding time in milliseconds (24 bits, signed).
    pub composition_ms: i32,
    /// Track and flags.
    pub kind: FrameKind,
    /// Bytes of the frame: the body of its tag.
    pub size: u32,
}

impl Header {
    /// Bytes on the wire.
    pub const BYTES: usize = 12;

    /// The header of a tag.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond [`MAX_FRAME_BYTES`].
    pub fn of(tag: &Tag) -> Result<Self, Error> {
        let composition_ms = match tag.kind {
            TagKind::Video => match VideoBody::parse(&tag.body) {
                Ok(VideoBody::Avc { composition_ms, .. }) => composition_ms,
                Ok(VideoBody::AvcConfig(_) | VideoBody::AvcEnd) | Err(_) => 0,
            },
            TagKind::Audio | TagKind::Script => 0,
        };
        let size = u32::try_from(tag.body.len()).unwrap_or(u32::MAX);
        check_size(size)?;
        Ok(Self {
            dts_ms: tag.timestamp_ms,
            composition_ms,
            kind: FrameKind::of(tag),
            size,
        })
    }

    /// The 12 bytes that are sent and that the CRC covers.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let [d0, d1, d2, d3] = self.dts_ms.to_be_bytes();
        let [_, c0, c1, c2] = self.composition_ms.to_be_bytes();
        let [s0, s1, s2, s3] = self.size.to_be_bytes();
        [d0, d1, d2, d3, c0, c1, c2, self.kind.0, s0, s1, s2, s3]
    }

    /// Packets that the frame is sent in: one at least.
    #[must_use]
    pub fn packets(self) -> u16 {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        u16::try_from(size.div_ceil(PACKET_PAYLOAD_BYTES).max(1)).unwrap_or(u16::MAX)
    }
}

fn check_size(size: u32) -> Result<(), Error> {
    let bytes = usize::try_from(size).unwrap_or(usize::MAX);
    if bytes > MAX_FRAME_BYTES {
        return Err(Error::TooLarge {
            what: "frame",
            size: bytes,
            limit: MAX_FRAME_BYTES,
        });
    }
    Ok(())
}

/// A frame's name: its header, and the CRC that ties it to its two predecessors. The paper's footprint is
/// (`dts_ms`, `crc`, [`Header::packets`]); carrying the whole header lets the order be checked before the frame is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The frame's header.
    pub header: Header,
    /// CRC-32C over the headers of the two frames before and of this one; zeros stand for frames before the first.
    pub crc: u32,
}

impl Entry {
    /// Bytes on the wire.
    pub const BYTES: usize = 16;

    /// Appends the entry.
    pub fn write(&self, out: &mut impl BufMut) {
        out.put_slice(&self.header.to_bytes());
        out.put_u32(self.crc);
    }

    /// Takes an entry off the front of `bytes`.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Invalid`], [`Error::TooLarge`].
    pub fn read(bytes: &mut impl Buf) -> Result<Self, Error> {
        if bytes.remaining() < Self::BYTES {
            return Err(Error::Truncated {
                what: WHAT,
                at: bytes.remaining(),
            });
        }
        let dts_ms = bytes.get_u32();
        let mixed = bytes.get_u32();
        let [.., kind] = mixed.to_be_bytes();
        let size = bytes.get_u32();
        let kind = FrameKind::read(kind)?;
        check_size(size)?;
        Ok(Self {
            header: Header {
                dts_ms,
                composition_ms: mixed.cast_signed() >> 8,
                kind,
                size,
            },
            crc: bytes.get_u32(),
        })
    }

    /// As text in URLs: 32 hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        self.write(&mut bytes);
        crate::ticket::to_hex(&bytes)
    }

    /// Reads [`Entry::to_hex`].
    ///
    /// # Errors
    /// [`Error::Invalid`] and as [`Entry::read`].
    pub fn from_hex(text: &str) -> Result<Self, Error> {
        let bytes = crate::ticket::from_hex(text).ok_or(Error::Invalid {
            what: WHAT,
            why: "it is not written in hexadecimal digits",
        })?;
        let mut bytes = Bytes::from(bytes);
        let entry = Self::read(&mut bytes)?;
        if bytes.has_remaining() {
            return Err(Error::Invalid {
                what: WHAT,
                why: "it is too long",
            });
        }
        Ok(entry)
    }

    /// The tag that a frame of these bytes is.
    #[must_use]
    pub fn to_tag(&self, body: Bytes) -> Tag {
        Tag {
            kind: self.header.kind.tag(),
            timestamp_ms: self.header.dts_ms,
            body,
        }
    }
}

/// Headers as the CRC sees them; `None` stands for a frame before the first one.
#[must_use]
pub fn chain_crc(before: [Option<Header>; 2], header: Header) -> u32 {
    let bytes = |header: Option<Header>| header.map_or([0; Header::BYTES], Header::to_bytes);
    let [first, second] = before.map(bytes);
    crc::crc32c(&[&first, &second, &header.to_bytes()])
}

/// Gives the frames of a stream their entries, at the origin.
#[derive(Debug, Default)]
pub struct Sequencer {
    before: [Option<Header>; 2],
}

impl Sequencer {
    /// The entry of the next frame.
    pub fn next(&mut self, header: Header) -> Entry {
        let crc = chain_crc(self.before, header);
        let [_, last] = self.before;
        self.before = [last, Some(header)];
        Entry { header, crc }
    }
}

#[cfg(test)]
mod tests;
