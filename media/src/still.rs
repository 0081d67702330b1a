//! Still pictures that somebody uploads: what a file says that it is, before anybody decodes it.
//!
//! Only the first bytes of a file are read: the signature and the size. That is enough to refuse what is no picture and what would need
//! absurd memory; whether the rest is sound is seen by who decodes it. Total: any bytes give an answer.

use crate::Error;

const WHAT: &str = "picture file";

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StillFormat {
    /// ISO/IEC 15948.
    Png,
    /// ITU-T T.81.
    Jpeg,
}

impl StillFormat {
    /// Its media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
        }
    }
}

/// The head of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StillHead {
    /// What it is.
    pub format: StillFormat,
    /// Width in pixels, above 0.
    pub width: u32,
    /// Height in pixels, above 0.
    pub height: u32,
}

impl StillHead {
    /// Reads the head of a PNG or a JPEG.
    ///
    /// # Errors
    /// When it is neither, or ends before it says its size.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let (format, size) = if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            (StillFormat::Png, png_size(bytes))
        } else if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
            (StillFormat::Jpeg, jpeg_size(bytes))
        } else {
            return Err(Error::Unsupported {
                what: WHAT,
                why: "it is neither a PNG nor a JPEG",
            });
        };
        match size {
            None => Err(Error::Truncated {
                what: WHAT,
                at: bytes.len(),
            }),
            Some((0, _) | (_, 0)) => Err(Error::Invalid {
                what: WHAT,
                why: "it has no pixels",
            }),
            Some((width, height)) => Ok(Self {
                format,
                width,
                height,
            }),
        }
    }
}

/// The size in the first chunk, which must be IHDR (ISO/IEC 15948 §11.2.2).
fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let chunk = bytes.get(8..24)?;
    let (kind, size) = (chunk.get(4..8)?, chunk.get(8..)?);
    let side = |at: usize| {
        size.get(at..at + 4)?
            .try_into()
            .ok()
            .map(u32::from_be_bytes)
    };
    (kind == b"IHDR").then_some((side(0)?, side(4)?))
}

/// The size in the first frame header (T.81 §B.2.2): markers are skipped by their lengths until it comes.
fn jpeg_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let short = |at: usize| {
        bytes
            .get(at..at + 2)?
            .try_into()
            .ok()
            .map(u16::from_be_bytes)
    };
    let mut at = 2;
    loop {
        // Any marker may be preceded by fill bytes
        while bytes.get(at..at + 2)? == [0xff, 0xff] {
            at += 1;
        }
        let [0xff, marker] = *bytes.get(at..at + 2)? else {
            return None;
        };
        match marker {
            // SOF0 to SOF15 without DHT, JPG and DAC, which lie among them
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let (height, width) = (short(at + 5)?, short(at + 7)?);
                return Some((width.into(), height.into()));
            }
            // The scan, or the end, without a frame header before it
            0xda | 0xd9 => return None,
            // TEM and the restart markers stand alone
            0x01 | 0xd0..=0xd7 => at += 2,
            _ => at += 2 + usize::from(short(at + 2)?.max(2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes.extend([8, 6, 0, 0, 0]);
        bytes
    }

    /// An APP0 segment, a quantisation table, fill bytes and a frame header.
    fn jpeg(width: u16, height: u16, frame: u8) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xd8, 0xff, 0xe0, 0, 4, 9, 9, 0xff, 0xdb, 0, 3, 0xc0];
        bytes.extend([0xff, 0xff, 0xff, frame, 0, 11, 8]);
        bytes.extend(height.to_be_bytes());
        bytes.extend(width.to_be_bytes());
        bytes
    }

    #[test]
    fn sizes_are_read() {
        let head = StillHead::read(&png(640, 360)).unwrap();
        assert_eq!(
            (head.format, head.width, head.height),
            (StillFormat::Png, 640, 360)
        );
        for frame in [0xc0, 0xc2] {
            let head = StillHead::read(&jpeg(1920, 1080, frame)).unwrap();
            assert_eq!(
                (head.format, head.width, head.height),
                (StillFormat::Jpeg, 1920, 1080)
            );
        }
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        for bytes in [&b"GIF89a"[..], b"", b"<svg/>", b"\xff\xd8"] {
            assert!(matches!(
                StillHead::read(bytes),
                Err(Error::Unsupported { .. })
            ));
        }
        assert!(matches!(
            StillHead::read(&png(0, 9)),
            Err(Error::Invalid { .. })
        ));
        assert!(matches!(
            StillHead::read(&png(9, 9)[..20]),
            Err(Error::Truncated { .. })
        ));
        // A scan without a frame
        assert!(StillHead::read(&[0xff, 0xd8, 0xff, 0xda, 0, 2]).is_err());
        // A segment whose length is a lie does not stop the reader
        assert!(StillHead::read(&[0xff, 0xd8, 0xff, 0xe0, 0, 0, 0xff, 0xe0, 0, 0]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..3) {
            let start = match kind {
                0 => png(5, 7),
                1 => jpeg(5, 7, 0xc4),
                _ => Vec::new(),
            };
            bytes.splice(0..0, start);
            let _ = StillHead::read(&bytes);
        }

        #[test]
        fn damaged_heads_have_an_answer(at in 0usize..32, value in any::<u8>(), cut in 0usize..32) {
            for mut bytes in [png(640, 360), jpeg(640, 360, 0xc1)] {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
                bytes.truncate(bytes.len().saturating_sub(cut));
                let _ = StillHead::read(&bytes);
            }
        }
    }
}
