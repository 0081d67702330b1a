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
    use super::super::file_header;
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
