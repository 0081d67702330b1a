//! Chunks (Adobe RTMP 1.0 §5.3): messages of several streams, cut into pieces and interleaved.
//!
//! Reading is total. Bounds: [`MAX_STREAMS`] chunk streams, [`MAX_MESSAGE_BYTES`] per message: a server has no media for a
//! publisher. Writing uses full headers only: 7 bytes more per message, and no state that peers could disagree about.

use std::collections::HashMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::Error;

/// Most chunk streams that a server may use.
const MAX_STREAMS: usize = 32;
/// The longest message accepted.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// Until the peer says otherwise (§5.4.1).
const DEFAULT_CHUNK_BYTES: usize = 128;
/// Timestamps from here on do not fit into 24 bits (§5.3.1.3).
const EXTENDED: u32 = 0xff_ffff;

/// A message as the chunk layer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) timestamp_ms: u32,
    pub(crate) payload: Bytes,
}

#[derive(Clone, Debug, Default)]
struct Header {
    timestamp_ms: u32,
    /// What the last header said: a time or a difference.
    field: u32,
    length: usize,
    kind: u8,
    stream: u32,
    partial: BytesMut,
}

/// Takes messages out of a byte stream in any pieces.
#[derive(Debug)]
pub(crate) struct Reader {
    buffer: BytesMut,
    chunk_bytes: usize,
    streams: HashMap<u32, Header>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            buffer: BytesMut::new(),
            chunk_bytes: DEFAULT_CHUNK_BYTES,
            streams: HashMap::new(),
        }
    }
}

impl Reader {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The peer announced a new chunk size.
    pub(crate) fn set_chunk_bytes(&mut self, bytes: u32) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.chunk_bytes = bytes.clamp(1, 0xff_ffff);
    }

    /// The next whole message.
    ///
    /// # Errors
    /// [`Error::Protocol`]; the reader is of no use afterwards.
    pub(crate) fn next_message(&mut self) -> Result<Option<Message>, Error> {
        while let Some(done) = self.next_chunk()? {
            if done.is_some() {
                return Ok(done);
            }
        }
        Ok(None)
    }

    /// Consumes one chunk. `None`: it is not all here yet.
    fn next_chunk(&mut self) -> Result<Option<Option<Message>>, Error> {
        let mut at = self.buffer.as_ref();
        let Some((format, id)) = basic_header(&mut at) else {
            return Ok(None);
        };
        let known = self.streams.get(&id);
        if known.is_none() && (format != 0 || self.streams.len() >= MAX_STREAMS) {
            return Err(protocol("a chunk refers to an unknown chunk stream"));
        }
        let starts = known.is_none_or(|header| header.partial.is_empty());
        let mut header = known.map_or_else(Header::default, |known| Header {
            partial: BytesMut::new(),
            ..*known
        });
        if !starts && format != 3 {
            return Err(protocol("a message is cut short by another one"));
        }
        if !message_header(&mut at, format, starts, &mut header) {
            return Ok(None);
        }
        if header.length > MAX_MESSAGE_BYTES {
            return Err(protocol("a message is too long"));
        }
        let have = known.map_or(0, |known| known.partial.len());
        let length = (header.length - have.min(header.length)).min(self.chunk_bytes);
        if at.len() < length {
            return Ok(None);
        }
        let consumed = self.buffer.len() - at.len();
        self.buffer.advance(consumed);
        let entry = self.streams.entry(id).or_default();
        header.partial = std::mem::take(&mut entry.partial);
        header.partial.put(self.buffer.split_to(length));
        let message = (header.partial.len() >= header.length).then(|| Message {
            kind: header.kind,
            stream: header.stream,
            timestamp_ms: header.timestamp_ms,
            payload: header.partial.split().freeze(),
        });
        *entry = header;
        Ok(Some(message))
    }
}

/// Format and chunk stream id (§5.3.1.1).
fn basic_header(at: &mut &[u8]) -> Option<(u8, u32)> {
    let first = at.try_get_u8().ok()?;
    let id = match first & 0x3f {
        0 => 64 + u32::from(at.try_get_u8().ok()?),
        1 => 64 + u32::from(at.try_get_u16_le().ok()?),
        id => u32::from(id),
    };
    Some((first >> 6, id))
}

/// Reads what this format has (§5.3.1.2). `false`: it is not all here yet.
fn message_header(at: &mut &[u8], format: u8, starts: bool, header: &mut Header) -> bool {
    let sizes = [11, 7, 3, 0];
    let size = sizes.get(usize::from(format)).copied().unwrap_or_default();
    if at.len() < size {
        return false;
    }
    if format < 3 {
        header.field = take_u24(at);
    }
    if format < 2 {
        header.length = usize::try_from(take_u24(at)).unwrap_or(usize::MAX);
        header.kind = at.try_get_u8().unwrap_or_default();
    }
    if format == 0 {
        header.stream = at.try_get_u32_le().unwrap_or_default();
    }
    let mut field = header.field;
    if field == EXTENDED {
        match at.try_get_u32() {
            Ok(extended) => field = extended,
            Err(_) => return false,
        }
    }
    if starts {
        header.timestamp_ms = if format == 0 {
            field
        } else {
            header.timestamp_ms.wrapping_add(field)
        };
    }
    true
}

fn take_u24(at: &mut &[u8]) -> u32 {
    let value = at.try_get_uint(3).unwrap_or_default();
    u32::try_from(value).unwrap_or_default()
}

fn protocol(what: &str) -> Error {
    Error::Protocol(what.to_owned())
}

/// Appends a message in chunks of `chunk_bytes`, on chunk stream `id` (2 to 63).
pub(crate) fn write(out: &mut BytesMut, id: u8, chunk_bytes: usize, message: &Message) {
    let extended = message.timestamp_ms >= EXTENDED;
    let pieces = message.payload.len() / chunk_bytes.max(1) + 1;
    out.reserve(message.payload.len() + 16 + 5 * pieces);
    out.put_u8(id & 0x3f);
    out.put_uint(message.timestamp_ms.min(EXTENDED).into(), 3);
    out.put_uint(message.payload.len() as u64, 3);
    out.put_u8(message.kind);
    out.put_u32_le(message.stream);
    for (index, piece) in message.payload.chunks(chunk_bytes.max(1)).enumerate() {
        if index > 0 {
            out.put_u8(0xc0 | (id & 0x3f));
        }
        if extended {
            out.put_u32(message.timestamp_ms);
        }
        out.put_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(timestamp_ms: u32, payload: Vec<u8>) -> Message {
        Message {
            kind: 9,
            stream: 1,
            timestamp_ms,
            payload: Bytes::from(payload),
        }
    }

    #[test]
    fn interleaved_streams_and_short_headers() {
        let mut reader = Reader::default();
        reader.set_chunk_bytes(4);
        // Stream 3: six bytes at time 1000 in two chunks, with a message of stream 4 between them.
        reader.push(&[3, 0, 3, 232, 0, 0, 6, 20, 0, 0, 0, 0, 1, 2, 3, 4]);
        reader.push(&[4, 0, 0, 7, 0, 0, 1, 8, 1, 0, 0, 0, 99]);
        reader.push(&[0xc3, 5, 6]);
        // Stream 4 again, 5 ms later, then once more with no header at all.
        reader.push(&[0x84, 0, 0, 5, 98, 0xc4, 97]);
        let mut read = Vec::new();
        while let Some(message) = reader.next_message().unwrap() {
            read.push((message.kind, message.timestamp_ms, message.payload.to_vec()));
        }
        let expected = [
            (8, 7, vec![99]),
            (20, 1_000, vec![1, 2, 3, 4, 5, 6]),
            (8, 12, vec![98]),
            (8, 17, vec![97]),
        ];
        assert_eq!(read, expected);
    }

    proptest! {
        #[test]
        fn round_trip_in_any_pieces(
            messages in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 1..600)), 1..8),
            chunk in 1usize..300, piece in 1usize..100,
        ) {
            let messages: Vec<Message> = messages.into_iter().map(|(at, data)| message(at, data)).collect();
            let mut stream = BytesMut::new();
            for message in &messages {
                write(&mut stream, 6, chunk, message);
            }
            let mut reader = Reader::default();
            reader.set_chunk_bytes(u32::try_from(chunk).unwrap());
            let mut read = Vec::new();
            for piece in stream.chunks(piece) {
                reader.push(piece);
                while let Some(message) = reader.next_message().unwrap() {
                    read.push(message);
                }
            }
            prop_assert_eq!(read, messages);
        }

        #[test]
        fn reader_is_total(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..20)) {
            let mut reader = Reader::default();
            for piece in pieces {
                reader.push(&piece);
                while let Ok(Some(_)) = reader.next_message() {}
            }
        }
    }
}
