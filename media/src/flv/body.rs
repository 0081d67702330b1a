//! Tag bodies of H.264 and AAC, read and written.

use bytes::{BufMut, Bytes, BytesMut};

use crate::Error;

/// The body of a video tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VideoBody {
    /// AVCDecoderConfigurationRecord.
    AvcConfig(Bytes),
    /// NAL units in AVCC form.
    Avc {
        /// An IDR picture.
        keyframe: bool,
        /// Presentation time − decoding time, in milliseconds (24 bits, signed).
        composition_ms: i32,
        /// The access unit.
        data: Bytes,
    },
    /// End of sequence.
    AvcEnd,
}

impl VideoBody {
    /// Reads the body of a video tag.
    ///
    /// # Errors
    /// [`Error::Truncated`]; [`Error::Unsupported`] for codecs other than H.264 and for enhanced RTMP signalling.
    pub fn parse(body: &Bytes) -> Result<Self, Error> {
        const WHAT: &str = "FLV video tag";
        let first = *body.first().ok_or(Error::Truncated { what: WHAT, at: 0 })?;
        if first & 0x80 != 0 {
            return Err(Error::Unsupported {
                what: WHAT,
                why: "enhanced RTMP codecs are not accepted; send H.264",
            });
        }
        if first & 0x0f != 7 {
            return Err(Error::Unsupported {
                what: WHAT,
                why: "only H.264 (codec id 7) is accepted",
            });
        }
        let Some(&[kind, c0, c1, c2]) = body.get(1..5) else {
            return Err(Error::Truncated {
                what: WHAT,
                at: body.len(),
            });
        };
        let data = body.slice(5..);
        match kind {
            0 => Ok(Self::AvcConfig(data)),
            1 => {
                // Sign-extend 24 bits.
                let composition_ms = i32::from_be_bytes([c0, c1, c2, 0]) >> 8;
                Ok(Self::Avc {
                    keyframe: first >> 4 == 1,
                    composition_ms,
                    data,
                })
            }
            2 => Ok(Self::AvcEnd),
            _ => Err(Error::Invalid {
                what: WHAT,
                why: "unknown AVC packet type",
            }),
        }
    }

    /// The bytes of this body.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let (first, kind, composition_ms, data): (u8, u8, i32, &[u8]) = match self {
            Self::AvcConfig(record) => (0x17, 0, 0, record),
            Self::Avc {
                keyframe,
                composition_ms,
                data,
            } => (
                if *keyframe { 0x17 } else { 0x27 },
                1,
                *composition_ms,
                data,
            ),
            Self::AvcEnd => (0x17, 2, 0, &[]),
        };
        let mut out = BytesMut::with_capacity(5 + data.len());
        out.put_u8(first);
        out.put_u8(kind);
        out.put_int(i64::from(composition_ms.clamp(-0x80_0000, 0x7f_ffff)), 3);
        out.put_slice(data);
        out.freeze()
    }
}

/// The body of an audio tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AudioBody {
    /// AudioSpecificConfig.
    AacConfig(Bytes),
    /// One raw AAC access unit.
    Aac(Bytes),
}

impl AudioBody {
    /// Reads the body of an audio tag.
    ///
    /// # Errors
    /// [`Error::Truncated`]; [`Error::Unsupported`] for codecs other than AAC.
    pub fn parse(body: &Bytes) -> Result<Self, Error> {
        const WHAT: &str = "FLV audio tag";
        let first = *body.first().ok_or(Error::Truncated { what: WHAT, at: 0 })?;
        if first >> 4 != 10 {
            return Err(Error::Unsupported {
                what: WHAT,
                why: "only AAC (sound format 10) is accepted",
            });
        }
        match body.get(1) {
            Some(0) => Ok(Self::AacConfig(body.slice(2..))),
            Some(1) => Ok(Self::Aac(body.slice(2..))),
            Some(_) => Err(Error::Invalid {
                what: WHAT,
                why: "unknown AAC packet type",
            }),
            None => Err(Error::Truncated { what: WHAT, at: 1 }),
        }
    }

    /// The bytes of this body. The flags say 44.1 kHz, 16 bits, stereo, as the format requires for AAC.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let (kind, data) = match self {
            Self::AacConfig(asc) => (0, asc),
            Self::Aac(data) => (1, data),
        };
        let mut out = BytesMut::with_capacity(2 + data.len());
        out.put_u8(0xaf);
        out.put_u8(kind);
        out.put_slice(data);
        out.freeze()
    }
}
