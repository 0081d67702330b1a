//! Packets of frames.
//!
//! A frame is cut into packets of [`PACKET_PAYLOAD_BYTES`]; every one carries the frame's entry and those of its
//! predecessors, so that any of them tells where the frame belongs. Of a signed frame only the last packet does, with the
//! predecessors that are signed and the signature; the others carry none, as nobody may believe them.

use bytes::{Buf, BufMut};
use media::substream::sign::Signature;
use media::substream::{CHAIN_LENGTH, Entry, PACKET_PAYLOAD_BYTES};

use super::{Direction, Error, Keys, Kind};

/// Flag: this packet has been sent before.
const RESENT: u8 = 1 << 1;
/// Flag: the last packet of a frame carries the origin's signature.
const SIGNED: u8 = 1 << 2;
/// Bytes before the chain.
const FIXED_BYTES: usize = 36;

/// What comes before the chain and the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// It has been sent before.
    pub resent: bool,
    /// The substream of the frame.
    pub substream: u8,
    /// The session.
    pub conn: u32,
    /// Counts the packets of this session and substream, those sent again too.
    pub pseq: u32,
    /// The life of the stream.
    pub epoch: u16,
    /// Which packet of the frame this is.
    pub index: u16,
    /// The frame.
    pub entry: Entry,
    /// The relay's clock in milliseconds, modulo 2¹⁶.
    pub relay_ms: u16,
    /// How long the relay has had the frame, in milliseconds.
    pub held_ms: u16,
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its head.
    pub head: Head,
    /// Up to [`CHAIN_LENGTH`] predecessors, oldest first, and the frame itself.
    pub chain: Vec<Entry>,
    /// The origin's signature, in the last packet of a signed frame.
    pub signature: Option<Signature>,
    /// Its part of the frame.
    pub payload: &'a [u8],
}

/// The part of a frame that a packet carries.
#[must_use]
pub fn part(frame: &[u8], index: u16) -> &[u8] {
    let parts = frame.chunks(PACKET_PAYLOAD_BYTES);
    parts
        .into_iter()
        .nth(usize::from(index))
        .unwrap_or_default()
}

/// Writes a sealed packet. `chain` has the predecessors of the frame, oldest first.
#[must_use]
pub fn write(head: &Head, chain: &[Entry], payload: &[u8], keys: &Keys) -> Vec<u8> {
    write_packet(head, chain, None, payload, keys)
}

/// Writes a sealed packet of a signed frame.
#[must_use]
pub fn write_signed(
    head: &Head,
    chain: &[Entry],
    signature: &Signature,
    payload: &[u8],
    keys: &Keys,
) -> Vec<u8> {
    let last = head.index + 1 >= head.entry.header.packets();
    let keep = if last {
        head.entry.header.signed_predecessors()
    } else {
        0
    };
    let chain = chain.get(chain.len().saturating_sub(keep)..);
    let signature = Some(signature).filter(|_| last);
    write_packet(head, chain.unwrap_or_default(), signature, payload, keys)
}

fn write_packet(
    head: &Head,
    chain: &[Entry],
    signature: Option<&Signature>,
    payload: &[u8],
    keys: &Keys,
) -> Vec<u8> {
    let skip = chain.len().saturating_sub(CHAIN_LENGTH);
    let chain = chain.get(skip..).unwrap_or_default();
    let mut out = Vec::with_capacity(super::MAX_DATAGRAM_BYTES);
    out.put_u8(Kind::Data.byte());
    let resent = if head.resent { RESENT } else { 0 };
    out.put_u8(resent | signature.map_or(0, |_| SIGNED));
    out.put_u8(head.substream);
    out.put_u8(u8::try_from(chain.len()).unwrap_or_default());
    out.put_u32(head.conn);
    out.put_u32(head.pseq);
    out.put_u16(head.epoch);
    out.put_u16(head.index);
    head.entry.write(&mut out);
    out.put_u16(head.relay_ms);
    out.put_u16(head.held_ms);
    chain.iter().for_each(|entry| entry.write(&mut out));
    if let Some(signature) = signature {
        out.put_slice(&signature.0);
    }
    out.put_slice(payload);
    keys.seal(Direction::Down, &mut out);
    out
}

/// The session that a packet says it belongs to; the MAC decides whether it does.
#[must_use]
pub fn conn_of(datagram: &[u8]) -> Option<u32> {
    let bytes: [u8; 4] = datagram.get(4..8)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

/// Reads a packet.
///
/// # Errors
/// [`Error`]; a packet whose payload has not the length that its frame's size implies is refused too.
pub fn read<'a>(datagram: &'a [u8], keys: &Keys) -> Result<Packet<'a>, Error> {
    let mut body = keys.open(Direction::Down, datagram)?;
    if body.len() < FIXED_BYTES {
        return Err(Error::Truncated);
    }
    body.advance(1);
    let flags = body.get_u8();
    let substream = body.get_u8();
    let count = usize::from(body.get_u8());
    let conn = body.get_u32();
    let pseq = body.get_u32();
    let epoch = body.get_u16();
    let index = body.get_u16();
    let entry = Entry::read(&mut body)?;
    let head = Head {
        resent: flags & RESENT != 0,
        substream,
        conn,
        pseq,
        epoch,
        index,
        entry,
        relay_ms: body.get_u16(),
        held_ms: body.get_u16(),
    };
    if count > CHAIN_LENGTH {
        return Err(Error::Invalid("the chain is too long"));
    }
    let mut chain = Vec::with_capacity(CHAIN_LENGTH + 1);
    for _ in 0..count {
        chain.push(Entry::read(&mut body)?);
    }
    chain.push(entry);
    let signature = match flags & SIGNED {
        0 => None,
        _ if index + 1 < entry.header.packets() => {
            return Err(Error::Invalid("only the last packet has a signature"));
        }
        _ => Some(Signature(super::take(&mut body)?)),
    };
    if part_bytes(&entry, index) != Some(body.len()) {
        return Err(Error::Invalid("the payload has not the length of its part"));
    }
    Ok(Packet {
        head,
        chain,
        signature,
        payload: body,
    })
}

/// Bytes of a part of a frame; `None` when it has no such part.
fn part_bytes(entry: &Entry, index: u16) -> Option<usize> {
    if index >= entry.header.packets() {
        return None;
    }
    let size = usize::try_from(entry.header.size).ok()?;
    let before = usize::from(index) * PACKET_PAYLOAD_BYTES;
    Some(size.checked_sub(before)?.min(PACKET_PAYLOAD_BYTES))
}
