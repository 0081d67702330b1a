//! How the origin hands substreams out: a sequence of records, over HTTP.
//!
//! A feed begins with [`Record::Start`]; then every frame of the stream follows in order, whole when its substream was
//! asked for and as a bare header otherwise. So whoever reads one substream knows the place of its frames among all.
//! Relays get whole frames with the origin's signature ([`super::sign`]).
//! Requests for single frames and for headers are answered with the same records, without a start.
//!
//! [`Reader`] is total and bounded: sizes are checked before anything is collected.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::sign::{PUBLIC_KEY_BYTES, PublicKey, SIGNATURE_BYTES, Signature};
use super::{Entry, HashVersion, Split};
use crate::Error;

/// Predecessors of its first frame that a feed names at most.
pub const MAX_PRIOR: usize = 8;
/// Metadata and sequence headers together are not larger than this.
const MAX_PRELUDE_BYTES: usize = 1 << 20;

const START: u8 = 0;
const HEADER: u8 = 1;
const FRAME: u8 = 2;
const SIGNED: u8 = 3;

/// The beginning of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Which life of the stream this is; frames of different epochs have nothing to do with each other.
    pub epoch: u16,
    /// How the stream is split.
    pub split: Split,
    /// What frames that come by relays are checked with; `None` when they are not signed.
    pub signer: Option<PublicKey>,
    /// The frames before the first, oldest first; empty at the beginning of the stream.
    pub prior: Vec<Entry>,
    /// FLV tags that a player needs before the first frame: metadata and sequence headers.
    pub prelude: Bytes,
}

/// One piece of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The first record of a feed.
    Start(Start),
    /// A frame of a substream that was not asked for.
    Header(Entry),
    /// A frame.
    Frame(Entry, Bytes),
    /// A frame with the origin's signature.
    Signed(Entry, Signature, Bytes),
}

impl Record {
    /// Appends the record.
    pub fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Start(start) => {
                out.put_u8(START);
                out.put_u16(start.epoch);
                out.put_u8(start.split.hash().number());
                out.put_u8(start.split.substreams());
                let prior = start.prior.get(..MAX_PRIOR).unwrap_or(&start.prior);
                out.put_u8(u8::try_from(prior.len()).unwrap_or_default());
                out.put_u32(u32::try_from(start.prelude.len()).unwrap_or(u32::MAX));
                // No point of the curve is written as zeros that verifies anything of ours.
                out.put_slice(&start.signer.map_or([0; PUBLIC_KEY_BYTES], |key| key.0));
                prior.iter().for_each(|entry| entry.write(out));
                out.put_slice(&start.prelude);
            }
            Self::Header(entry) => {
                out.put_u8(HEADER);
                entry.write(out);
            }
            Self::Frame(entry, body) => {
                out.put_u8(FRAME);
                entry.write(out);
                out.put_slice(body);
            }
            Self::Signed(entry, signature, body) => {
                out.put_u8(SIGNED);
                entry.write(out);
                out.put_slice(&signature.0);
                out.put_slice(body);
            }
        }
    }
}

/// Takes records out of a byte stream that arrives in any pieces.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: BytesMut,
}

impl Reader {
    /// Appends bytes of the feed.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next record; `None` until more bytes are pushed.
    ///
    /// # Errors
    /// When the bytes are not a feed. The reader is of no use after that.
    pub fn next_record(&mut self) -> Result<Option<Record>, Error> {
        match self.buffer.first() {
            None => Ok(None),
            Some(&START) => self.start(),
            Some(&HEADER) => self.header(),
            Some(&FRAME) => self.frame(0),
            Some(&SIGNED) => self.frame(SIGNATURE_BYTES),
            Some(_) => Err(Error::Invalid {
                what: "feed",
                why: "there is no such record",
            }),
        }
    }

    fn start(&mut self) -> Result<Option<Record>, Error> {
        const WHAT: &str = "start of a feed";
        const FIXED: usize = 10 + PUBLIC_KEY_BYTES;
        let Some(mut fixed) = self.buffer.get(1..FIXED) else {
            return Ok(None);
        };
        let epoch = fixed.get_u16();
        let (hash, substreams, count) = (fixed.get_u8(), fixed.get_u8(), fixed.get_u8());
        let prelude_bytes = usize::try_from(fixed.get_u32()).unwrap_or(usize::MAX);
        let mut key = [0; PUBLIC_KEY_BYTES];
        fixed.copy_to_slice(&mut key);
        let hash = HashVersion::from_number(hash).ok_or(Error::Unsupported {
            what: WHAT,
            why: "the version of the hash is unknown",
        })?;
        let split = Split::new(hash, substreams)?;
        let count = usize::from(count);
        if count > MAX_PRIOR || prelude_bytes > MAX_PRELUDE_BYTES {
            return Err(Error::TooLarge {
                what: WHAT,
                size: count.max(prelude_bytes),
                limit: MAX_PRELUDE_BYTES,
            });
        }
        let total = FIXED + count * Entry::BYTES + prelude_bytes;
        if self.buffer.len() < total {
            return Ok(None);
        }
        let mut whole = self.buffer.split_to(total).freeze();
        whole.advance(FIXED);
        let prior = (0..count)
            .map(|_| Entry::read(&mut whole))
            .collect::<Result<_, _>>()?;
        Ok(Some(Record::Start(Start {
            epoch,
            split,
            signer: (key != [0; PUBLIC_KEY_BYTES]).then_some(PublicKey(key)),
            prior,
            prelude: whole,
        })))
    }

    fn header(&mut self) -> Result<Option<Record>, Error> {
        const FIXED: usize = 1 + Entry::BYTES;
        let Some(mut fixed) = self.buffer.get(1..FIXED) else {
            return Ok(None);
        };
        let entry = Entry::read(&mut fixed)?;
        self.buffer.advance(FIXED);
        Ok(Some(Record::Header(entry)))
    }

    /// A frame behind a signature of so many bytes, or none.
    fn frame(&mut self, signature_bytes: usize) -> Result<Option<Record>, Error> {
        const FIXED: usize = 1 + Entry::BYTES;
        let Some(mut fixed) = self.buffer.get(1..FIXED) else {
            return Ok(None);
        };
        let entry = Entry::read(&mut fixed)?;
        let size = usize::try_from(entry.header.size).unwrap_or(usize::MAX);
        if self.buffer.len() < FIXED + signature_bytes + size {
            return Ok(None);
        }
        self.buffer.advance(FIXED);
        let signature = self.buffer.split_to(signature_bytes);
        let body = self.buffer.split_to(size).freeze();
        Ok(Some(match signature.as_ref().try_into() {
            Ok(signature) => Record::Signed(entry, Signature(signature), body),
            Err(_) => Record::Frame(entry, body),
        }))
    }
}
