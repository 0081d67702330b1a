//! Tags out of an FLV byte stream that arrives in any pieces.
//!
//! Memory is bounded: a tag is refused by its size field before its body is collected.

use bytes::{Buf, Bytes, BytesMut};

use super::{MAX_TAG_BODY_BYTES, TAG_HEADER_BYTES, Tag, TagKind};
use crate::Error;

/// What a stream consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The file header.
    Header {
        /// The audio flag.
        has_audio: bool,
        /// The video flag.
        has_video: bool,
    },
    /// A tag.
    Tag(Tag),
}

/// An incremental FLV reader: [`Reader::push`] bytes, then [`Reader::next_item`] until `None`.
#[derive(Debug)]
pub struct Reader {
    buffer: BytesMut,
    header_seen: bool,
    limit: usize,
}

impl Default for Reader {
    fn default() -> Self {
        Self::with_limit(MAX_TAG_BODY_BYTES)
    }
}

impl Reader {
    /// A reader that refuses tags with a body of more than `limit` bytes.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            header_seen: false,
            limit,
        }
    }

    /// Appends bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next header or tag; `None` until more bytes are pushed. Tags of unknown kinds are passed over.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the stream is not FLV, [`Error::TooLarge`] for an oversized tag. The reader is of no
    /// use after an error.
    pub fn next_item(&mut self) -> Result<Option<Item>, Error> {
        if !self.header_seen {
            return self.header();
        }
        loop {
            let Some(&[kind, s0, s1, s2, t0, t1, t2, t3, ..]) = self.buffer.get(..TAG_HEADER_BYTES)
            else {
                return Ok(None);
            };
            let size = usize::try_from(u32::from_be_bytes([0, s0, s1, s2])).unwrap_or(usize::MAX);
            if size > self.limit {
                return Err(Error::TooLarge {
                    what: "FLV tag",
                    size,
                    limit: self.limit,
                });
            }
            if self.buffer.len() < TAG_HEADER_BYTES + size + 4 {
                return Ok(None);
            }
            self.buffer.advance(TAG_HEADER_BYTES);
            let body: Bytes = self.buffer.split_to(size).freeze();
            self.buffer.advance(4);
            let kind = match kind & 0x1f {
                8 => TagKind::Audio,
                9 => TagKind::Video,
                18 => TagKind::Script,
                _ => continue,
            };
            return Ok(Some(Item::Tag(Tag {
                kind,
                timestamp_ms: u32::from_be_bytes([t3, t0, t1, t2]),
                body,
            })));
        }
    }

    fn header(&mut self) -> Result<Option<Item>, Error> {
        const WHAT: &str = "FLV header";
        let Some(&[f, l, v, version, flags, o0, o1, o2, o3]) = self.buffer.get(..9) else {
            return Ok(None);
        };
        if [f, l, v, version] != [b'F', b'L', b'V', 1] {
            return Err(Error::Invalid {
                what: WHAT,
                why: "it does not start with FLV, version 1",
            });
        }
        if u32::from_be_bytes([o0, o1, o2, o3]) != 9 {
            return Err(Error::Invalid {
                what: WHAT,
                why: "its data offset is not 9",
            });
        }
        if self.buffer.len() < 13 {
            return Ok(None);
        }
        self.buffer.advance(13);
        self.header_seen = true;
        Ok(Some(Item::Header {
            has_audio: flags & 4 != 0,
            has_video: flags & 1 != 0,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Demuxer, file_header};
    use super::*;
    use proptest::prelude::*;

    fn kind() -> impl Strategy<Value = TagKind> {
        prop_oneof![
            Just(TagKind::Audio),
            Just(TagKind::Video),
            Just(TagKind::Script)
        ]
    }

    proptest! {
        #[test]
        fn tags_round_trip_in_any_pieces(
            tags in proptest::collection::vec((kind(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..50)), 0..10),
            piece in 1usize..40,
        ) {
            let tags: Vec<Tag> = tags
                .into_iter()
                .map(|(kind, timestamp_ms, body)| Tag { kind, timestamp_ms, body: Bytes::from(body) })
                .collect();
            let mut stream = BytesMut::from(file_header(true, false).as_ref());
            for tag in &tags {
                tag.write(&mut stream);
            }
            let mut reader = Reader::default();
            let mut read = Vec::new();
            for piece in stream.chunks(piece) {
                reader.push(piece);
                while let Some(item) = reader.next_item().expect("valid") {
                    read.push(item);
                }
            }
            let mut expected = vec![Item::Header { has_audio: true, has_video: false }];
            expected.extend(tags.into_iter().map(Item::Tag));
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn reader_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..200), valid_header in any::<bool>()) {
            let mut reader = Reader::with_limit(1 << 16);
            if valid_header {
                reader.push(&file_header(true, true));
            }
            reader.push(&bytes);
            while let Ok(Some(_)) = reader.next_item() {}
        }
    }

    /// A recording: sequence headers, two pictures, sound.
    fn recording() -> Vec<u8> {
        const AVCC: &[u8] = &[
            1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 25, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f,
            0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f,
            0x16, 0x2e, 0x48, 1, 0, 5, 0x68, 0xcb, 0x83, 0xcb, 0x20,
        ];
        let video =
            |kind: u8, rest: &[u8]| [&[kind, u8::from(rest != AVCC), 0, 0, 0], rest].concat();
        let bodies = [
            (TagKind::Video, video(0x17, AVCC)),
            (TagKind::Audio, vec![0xaf, 0, 0x11, 0x90]),
            (TagKind::Video, video(0x17, &[0, 0, 0, 3, 0x65, 0x88, 1])),
            (TagKind::Audio, vec![0xaf, 1, 2, 3, 4]),
            (TagKind::Video, video(0x27, &[0, 0, 0, 3, 0x41, 0x9a, 1])),
        ];
        let mut stream = BytesMut::from(file_header(true, true).as_ref());
        for (timestamp_ms, (kind, body)) in (0..).zip(bodies) {
            let tag = Tag {
                kind,
                timestamp_ms: timestamp_ms * 20,
                body: Bytes::from(body),
            };
            tag.write(&mut stream);
        }
        stream.to_vec()
    }

    /// Reads and takes apart whatever can be; gives the number of access units.
    fn units(bytes: &[u8]) -> usize {
        let (mut reader, mut demuxer) = (Reader::with_limit(1 << 16), Demuxer::default());
        reader.push(bytes);
        let mut units = 0;
        while let Ok(Some(item)) = reader.next_item() {
            if let Item::Tag(tag) = item
                && let Ok(Some(unit)) = demuxer.push(&tag)
            {
                units += 1;
                let _ = crate::h264::avcc_nals(&unit.data).count();
            }
        }
        units
    }

    #[test]
    fn the_undamaged_recording_is_read() {
        assert_eq!(units(&recording()), 3);
    }

    proptest! {
        #[test]
        fn damaged_recordings_are_survived(
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), 0_u8..5, any::<u8>()), 1..8),
        ) {
            let mut bytes = recording();
            for (at, what, value) in damage {
                let at = at.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
                let end = (at + usize::from(value)).min(bytes.len());
                match what {
                    0 => bytes[at] = value,
                    1 => bytes[at] ^= 1 << (value % 8),
                    2 => bytes[at] = 0xff,
                    3 if end - at < bytes.len() => drop(bytes.drain(at..end)),
                    _ => {
                        let copy = bytes[at..end].to_vec();
                        bytes.splice(at..at, copy);
                    }
                }
            }
            units(&bytes);
        }
    }

    #[test]
    fn oversized_tag_is_refused_before_its_body() {
        let mut reader = Reader::with_limit(100);
        reader.push(&file_header(true, true));
        reader.push(&[9, 0, 0, 101, 0, 0, 0, 0, 0, 0, 0]);
        assert!(reader.next_item().is_ok());
        assert_eq!(
            reader.next_item(),
            Err(Error::TooLarge {
                what: "FLV tag",
                size: 101,
                limit: 100
            })
        );
    }
}
