//! RTMP's chunk stream, read. Source: Adobe RTMP specification 1.0, §5.3–5.4.
//!
//! Its own reader rather than the RTMP crate's, because that one mixes up messages of interleaved chunk streams and
//! panics on lengths and timestamps that do not fit together. This one is total.
//!
//! Bounds: [`MAX_CHUNK_STREAMS`] chunk streams per connection; a message is refused by its length field before its
//! body is collected; unfinished messages of all chunk streams together hold at most twice the message limit.

use std::collections::HashMap;

use bytes::{Buf, Bytes, BytesMut};

/// Chunk streams of one connection. Encoders use fewer than ten.
const MAX_CHUNK_STREAMS: usize = 64;
/// The chunk size before the peer sets another.
const DEFAULT_CHUNK_BYTES: usize = 128;
/// A timestamp field with this value is followed by 32 bits with the real one.
const EXTENDED: u32 = 0xff_ffff;
/// Memory reserved for a message by its length field alone.
const FIRST_RESERVE_BYTES: usize = 64 << 10;

/// Message types (§5.4, §7.1).
pub(crate) mod kind {
    pub(crate) const SET_CHUNK_SIZE: u8 = 1;
    pub(crate) const ABORT: u8 = 2;
    pub(crate) const WINDOW_ACK_SIZE: u8 = 5;
    pub(crate) const AUDIO: u8 = 8;
    pub(crate) const VIDEO: u8 = 9;
    pub(crate) const DATA_AMF3: u8 = 15;
    pub(crate) const COMMAND_AMF3: u8 = 17;
    pub(crate) const DATA: u8 = 18;
    pub(crate) const COMMAND: u8 = 20;
    pub(crate) const AGGREGATE: u8 = 22;
}

/// A complete message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) timestamp_ms: u32,
    pub(crate) body: Bytes,
}

/// Why the chunk stream cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("a message of {size} bytes exceeds the limit of {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("more than {MAX_CHUNK_STREAMS} chunk streams")]
    TooManyStreams,
    #[error("unfinished messages hold more than {0} bytes")]
    TooMuchUnfinished(usize),
    #[error("chunk stream {0} begins without a full header")]
    NoHeader(u32),
    #[error("chunk stream {0} changes its header in the middle of a message")]
    HeaderInMessage(u32),
    #[error("the chunk size {0} is not allowed")]
    ChunkSize(u32),
}

#[derive(Debug, Default)]
struct ChunkStream {
    timestamp_ms: u32,
    /// The timestamp field of the last header: a time or a difference.
    field: u32,
    extended: bool,
    length: usize,
    kind: u8,
    stream: u32,
    body: BytesMut,
    /// In the middle of a message.
    open: bool,
}

/// Bytes in any pieces in, messages out.
#[derive(Debug)]
pub(crate) struct Reader {
    buffer: BytesMut,
    chunk_bytes: usize,
    limit: usize,
    streams: HashMap<u32, ChunkStream>,
    /// The chunk being read and how much of it is missing.
    current: Option<(u32, usize)>,
    unfinished: usize,
}

/// A parsed chunk header that has not been applied yet.
struct Header {
    id: u32,
    format: u8,
    field: Option<u32>,
    length: Option<usize>,
    kind: Option<u8>,
    stream: Option<u32>,
    extended: bool,
    bytes: usize,
}

impl Reader {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            chunk_bytes: DEFAULT_CHUNK_BYTES,
            limit,
            streams: HashMap::new(),
            current: None,
            unfinished: 0,
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message; `None` until more bytes are pushed. Of no use after an error.
    pub(crate) fn next_message(&mut self) -> Result<Option<Message>, Error> {
        loop {
            let message = match self.current {
                None => {
                    let Some(header) = self.header()? else {
                        return Ok(None);
                    };
                    self.begin(&header)?
                }
                Some((_, missing)) if self.buffer.len() < missing.min(1) => return Ok(None),
                Some((id, missing)) => self.collect(id, missing),
            };
            match message {
                Some(message) if message.kind == kind::SET_CHUNK_SIZE => {
                    self.set_chunk_size(&message.body)?;
                }
                Some(message) if message.kind == kind::ABORT => self.abort(&message.body),
                Some(message) => return Ok(Some(message)),
                None if self.current.is_some() && self.buffer.is_empty() => return Ok(None),
                None => {}
            }
        }
    }

    fn header(&self) -> Result<Option<Header>, Error> {
        let mut input = self.buffer.as_ref();
        let whole = input.len();
        let Some((id, format)) = basic_header(&mut input) else {
            return Ok(None);
        };
        let mut header = Header {
            id,
            format,
            field: None,
            length: None,
            kind: None,
            stream: None,
            extended: false,
            bytes: 0,
        };
        let size = [11, 7, 3, 0].get(usize::from(format)).copied();
        let size = size.unwrap_or_default();
        if input.len() < size {
            return Ok(None);
        }
        if format <= 2 {
            header.field = u32::try_from(input.get_uint(3)).ok();
        }
        if format <= 1 {
            header.length = usize::try_from(input.get_uint(3)).ok();
            header.kind = Some(input.get_u8());
        }
        if format == 0 {
            header.stream = Some(input.get_u32_le());
        }
        let known = self.streams.get(&id);
        if format != 0 && known.is_none() {
            return Err(Error::NoHeader(id));
        }
        let extended = match header.field {
            Some(field) => field == EXTENDED,
            None => known.is_some_and(|known| known.extended),
        };
        if extended {
            let Some(&[a, b, c, d]) = input.get(..4) else {
                return Ok(None);
            };
            let value = u32::from_be_bytes([a, b, c, d]);
            // Some senders leave the field out in the chunks that continue a message.
            let repeated = format != 3
                || known.is_some_and(|known| {
                    !known.open || value == known.field || value == known.timestamp_ms
                });
            if repeated {
                input.advance(4);
                header.field = header.field.map(|_| value);
            }
            header.extended = true;
        }
        header.bytes = whole - input.len();
        Ok(Some(header))
    }

    /// Applies a header; the message is complete at once when it is empty.
    fn begin(&mut self, header: &Header) -> Result<Option<Message>, Error> {
        if !self.streams.contains_key(&header.id) && self.streams.len() >= MAX_CHUNK_STREAMS {
            return Err(Error::TooManyStreams);
        }
        self.buffer.advance(header.bytes);
        let stream = self.streams.entry(header.id).or_default();
        if stream.open && header.format != 3 {
            return Err(Error::HeaderInMessage(header.id));
        }
        if !stream.open {
            stream.field = header.field.unwrap_or(stream.field);
            stream.extended = header.extended;
            stream.timestamp_ms = match header.format {
                0 => stream.field,
                _ => stream.timestamp_ms.wrapping_add(stream.field),
            };
            stream.length = header.length.unwrap_or(stream.length);
            stream.kind = header.kind.unwrap_or(stream.kind);
            stream.stream = header.stream.unwrap_or(stream.stream);
            if stream.length > self.limit {
                return Err(Error::TooLarge {
                    size: stream.length,
                    limit: self.limit,
                });
            }
            stream.open = true;
            stream.body.reserve(stream.length.min(FIRST_RESERVE_BYTES));
        }
        let missing = (stream.length - stream.body.len()).min(self.chunk_bytes);
        self.current = Some((header.id, missing));
        if self.unfinished > self.limit.saturating_mul(2) {
            return Err(Error::TooMuchUnfinished(self.limit.saturating_mul(2)));
        }
        Ok(match missing {
            0 => self.collect(header.id, 0),
            _ => None,
        })
    }

    fn collect(&mut self, id: u32, missing: usize) -> Option<Message> {
        let take = missing.min(self.buffer.len());
        let stream = self.streams.get_mut(&id)?;
        if let Some(bytes) = self.buffer.get(..take) {
            stream.body.extend_from_slice(bytes);
        }
        self.buffer.advance(take);
        self.unfinished += take;
        self.current = (take < missing).then_some((id, missing - take));
        if self.current.is_some() || stream.body.len() < stream.length {
            return None;
        }
        stream.open = false;
        self.unfinished = self.unfinished.saturating_sub(stream.length);
        Some(Message {
            kind: stream.kind,
            stream: stream.stream,
            timestamp_ms: stream.timestamp_ms,
            body: std::mem::take(&mut stream.body).freeze(),
        })
    }

    fn set_chunk_size(&mut self, body: &Bytes) -> Result<(), Error> {
        let size = be32(body).unwrap_or_default();
        if size == 0 || size > i32::MAX.cast_unsigned() {
            return Err(Error::ChunkSize(size));
        }
        self.chunk_bytes = usize::try_from(size).unwrap_or(usize::MAX);
        Ok(())
    }

    fn abort(&mut self, body: &Bytes) {
        if let Some(stream) = be32(body).and_then(|id| self.streams.get_mut(&id)) {
            self.unfinished = self.unfinished.saturating_sub(stream.body.len());
            stream.body.clear();
            stream.open = false;
        }
    }
}

/// The first four bytes as a number.
pub(crate) fn be32(body: &[u8]) -> Option<u32> {
    let bytes: &[u8; 4] = body.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

/// Chunk stream id and header format; `None` when it has not all arrived.
fn basic_header(input: &mut &[u8]) -> Option<(u32, u8)> {
    let first = *input.first()?;
    let (id, bytes) = match first & 0x3f {
        0 => (64 + u32::from(*input.get(1)?), 2),
        1 => (
            64 + u32::from(*input.get(1)?) + 256 * u32::from(*input.get(2)?),
            3,
        ),
        id => (u32::from(id), 1),
    };
    input.advance(bytes);
    Some((id, first >> 6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rml_rtmp::chunk_io::ChunkSerializer;
    use rml_rtmp::messages::MessagePayload;
    use rml_rtmp::time::RtmpTimestamp;

    fn read_all(bytes: &[u8], piece: usize, limit: usize) -> Result<Vec<Message>, Error> {
        let (mut reader, mut messages) = (Reader::new(limit), Vec::new());
        for piece in bytes.chunks(piece) {
            reader.push(piece);
            while let Some(message) = reader.next_message()? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    proptest! {
        #[test]
        fn reads_what_another_implementation_writes(
            input in proptest::collection::vec((prop_oneof![Just(8u8), Just(9), Just(20)], 0..0x2_000_000u32, proptest::collection::vec(any::<u8>(), 1..500)), 0..12),
            chunk in prop_oneof![Just(1u32), 50..300u32],
            piece in 1usize..90,
        ) {
            let mut writer = ChunkSerializer::new();
            let mut bytes = writer.set_max_chunk_size(chunk, RtmpTimestamp::new(0)).expect("size").bytes;
            let mut sorted = input.clone();
            sorted.sort_by_key(|(_, time, _)| *time);
            for (type_id, time, body) in &sorted {
                let payload = MessagePayload { timestamp: RtmpTimestamp::new(*time), type_id: *type_id, message_stream_id: 1, data: Bytes::from(body.clone()) };
                bytes.extend(writer.serialize(&payload, false, false).expect("message").bytes);
            }
            let read = read_all(&bytes, piece, 1_000).expect("valid");
            let read: Vec<_> = read.into_iter().map(|m| (m.kind, m.timestamp_ms, m.body.to_vec())).collect();
            prop_assert_eq!(read, sorted);
        }

        #[test]
        fn reader_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..600), piece in 1usize..50) {
            let _ = read_all(&bytes, piece, 4_096);
        }

        #[test]
        fn reader_is_total_behind_a_valid_beginning(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0u8), Just(3), Just(0xc3), Just(0xff)], 0..600)) {
            let mut all = vec![3, 0, 0, 0, 0, 0, 200, 9, 1, 0, 0, 0];
            all.extend(bytes);
            let _ = read_all(&all, 7, 4_096);
        }
    }

    #[test]
    fn interleaved_chunk_streams_keep_apart() {
        let header =
            |id: u8, kind: u8, length: u8| vec![id, 0, 0, 5, 0, 0, length, kind, 1, 0, 0, 0];
        let mut bytes = header(4, 9, 200);
        bytes.extend([1; 128]);
        bytes.extend(header(5, 8, 3));
        bytes.extend([7; 3]);
        bytes.push(0xc4);
        bytes.extend([2; 72]);
        let messages = read_all(&bytes, 11, 1_000).expect("valid");
        let sizes: Vec<_> = messages.iter().map(|m| (m.kind, m.body.len())).collect();
        assert_eq!(sizes, [(8, 3), (9, 200)]);
    }

    #[test]
    fn a_message_is_refused_by_its_length_field() {
        let bytes = [3, 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0];
        let error = read_all(&bytes, 100, 1_000).expect_err("too large");
        assert_eq!(
            error,
            Error::TooLarge {
                size: 0xff_ffff,
                limit: 1_000
            }
        );
    }
}
