//! Takes a byte stream apart into messages.

use std::marker::PhantomData;

use bytes::{Buf, BytesMut};

use super::MAX_FRAME_BYTES;
use super::wire::{Message, check_size};
use crate::Error;

/// Reads messages of one direction out of chunks of any size.
///
/// After each chunk call [`next_message`](Self::next_message) until it gives `None`, so that the buffer stays below one
/// frame. The payload of a picture is not copied. An error is final.
#[derive(Debug)]
pub struct Decoder<M> {
    buffer: BytesMut,
    failed: Option<Error>,
    direction: PhantomData<fn() -> M>,
}

impl<M> Default for Decoder<M> {
    fn default() -> Self {
        Self {
            buffer: BytesMut::new(),
            failed: None,
            direction: PhantomData,
        }
    }
}

impl<M: Message> Decoder<M> {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends bytes from the stream.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// Where a reader may append bytes itself, in place of [`feed`](Self::feed).
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next complete message; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the stream breaks the contract; from then on always the same error.
    pub fn next_message(&mut self) -> Result<Option<M>, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.read().inspect_err(|error| {
            self.failed = Some(error.clone());
            self.buffer = BytesMut::new();
        })
    }

    fn read(&mut self) -> Result<Option<M>, Error> {
        let Some(&[a, b, c, d]) = self.buffer.get(..4) else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        check_size("link frame", length, MAX_FRAME_BYTES)?;
        if self.buffer.len() - 4 < length {
            // Growing once to the frame's size is cheaper than growing with each chunk.
            self.buffer.reserve(4 + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(4);
        M::from_body(self.buffer.split_to(length).freeze()).map(Some)
    }
}
