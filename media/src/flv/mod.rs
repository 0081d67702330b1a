//! FLV: the container of the program between publisher, CDN and viewers.
//!
//! [`Tag`] is one FLV tag (also the unit of RTMP messages); [`Reader`] takes tags out of a byte stream in any
//! pieces; [`Muxer`] and [`Demuxer`] convert between access units and tags.
//! Source: Adobe Flash Video File Format Specification 10.1, annex E.

mod body;
pub mod enhanced;
mod mux;
mod reader;

use bytes::{BufMut, Bytes, BytesMut};

pub use body::{AudioBody, VideoBody};
pub use mux::{Demuxer, Muxer};
pub use reader::{Item, Reader};

/// Bytes of a tag header.
pub const TAG_HEADER_BYTES: usize = 11;
/// The largest tag body that the format can express: its size field has 24 bits.
pub const MAX_TAG_BODY_BYTES: usize = 0xff_ffff;

/// The kinds of tag, with their number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TagKind {
    /// 8
    Audio,
    /// 9
    Video,
    /// 18: `onMetaData` and the like, AMF0.
    Script,
}

impl TagKind {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Audio => 8,
            Self::Video => 9,
            Self::Script => 18,
        }
    }
}

/// One FLV tag: kind, decoding time and body. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Audio, video or script.
    pub kind: TagKind,
    /// Decoding time in milliseconds, modulo 2³².
    pub timestamp_ms: u32,
    /// The body, at most [`MAX_TAG_BODY_BYTES`].
    pub body: Bytes,
}

impl Tag {
    /// Bytes that [`Tag::write`] appends.
    #[must_use]
    pub fn written_bytes(&self) -> usize {
        TAG_HEADER_BYTES + self.body.len() + 4
    }

    /// Appends header, body and the size field that follows every tag.
    pub fn write(&self, out: &mut BytesMut) {
        let size = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
        let [_, time @ ..] = self.timestamp_ms.to_be_bytes();
        let [extended, ..] = self.timestamp_ms.to_be_bytes();
        out.reserve(self.written_bytes());
        out.put_u8(self.kind.number());
        out.put_uint(u64::from(size), 3);
        out.put_slice(&time);
        out.put_u8(extended);
        out.put_uint(0, 3);
        out.put_slice(&self.body);
        out.put_u32(size.saturating_add(11));
    }

    /// A video tag that a decoder can start from: a sequence header is not one.
    #[must_use]
    pub fn is_keyframe(&self) -> bool {
        self.kind == TagKind::Video
            && matches!(
                VideoBody::parse(&self.body),
                Ok(VideoBody::Avc { keyframe: true, .. })
            )
    }

    /// An AVC or AAC sequence header.
    #[must_use]
    pub fn is_sequence_header(&self) -> bool {
        match self.kind {
            TagKind::Video => matches!(VideoBody::parse(&self.body), Ok(VideoBody::AvcConfig(_))),
            TagKind::Audio => matches!(AudioBody::parse(&self.body), Ok(AudioBody::AacConfig(_))),
            TagKind::Script => false,
        }
    }
}

/// The file header with the empty size field that follows it (13 bytes).
#[must_use]
pub fn file_header(has_audio: bool, has_video: bool) -> Bytes {
    let flags = (u8::from(has_audio) << 2) | u8::from(has_video);
    Bytes::copy_from_slice(&[b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0])
}
