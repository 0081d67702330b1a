//! H.264 over RTP: single NAL units, STAP-A and FU-A, packetization modes 0 and 1 (RFC 6184 §5).
//!
//! A picture ends at the marker bit or where the timestamp changes. Parameter sets go into [`Picture::config`], access
//! unit delimiters and filler are dropped, every other NAL unit is kept as it came, in AVCC form.
//!
//! Loss: a picture with a missing packet is dropped as a whole, and so are all pictures after it up to the next IDR
//! picture, since they refer to it; a decoder would show garbage. Streams that refresh without IDR pictures
//! (intra refresh) therefore stay dark after a loss until the sender makes an IDR, which is asked for.
//!
//! Invariants:
//! - A NAL unit is only joined from a start fragment, all fragments after it, and an end fragment (§5.8).
//! - After a loss, a picture counts only if its first slice is there (first_mb_in_slice = 0).
//! - A picture holds at most [`MAX_ACCESS_UNIT_BYTES`] and [`MAX_NALS`].

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use media::h264::{Config, MAX_ACCESS_UNIT_BYTES, nal_type, nal_unit_type};

use super::Malformed;
use super::parameter_sets::{ParameterSets, sort};
use crate::sfu::packet::RtpPacket;

/// Most NAL units in one picture.
const MAX_NALS: usize = 1_024;
/// Room that a picture gets at once, in bytes.
const INITIAL_BYTES: usize = 16 << 10;

const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;

/// One complete picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    /// RTP time.
    pub(crate) timestamp: u32,
    /// An IDR picture.
    pub(crate) keyframe: bool,
    /// Pictures are missing before it.
    pub(crate) discontinuity: bool,
    /// The parameter sets in force.
    pub(crate) config: Arc<Config>,
    /// NAL units in AVCC form, at least one slice.
    pub(crate) data: Bytes,
}

/// The picture being put together.
#[derive(Debug, Default)]
struct Assembly {
    timestamp: u32,
    nals: usize,
    slices: usize,
    idr: bool,
    /// Its first slice is known to be there.
    whole_start: bool,
    data: BytesMut,
    /// Offset of the fragmented NAL unit under way: where its length field lies.
    fragment: Option<usize>,
}

/// Puts the pictures of one stream together.
#[derive(Debug)]
pub(crate) struct Depacketizer {
    sets: ParameterSets,
    assembly: Option<Assembly>,
    /// Timestamp of a picture that is dropped because part of it is missing.
    spoiled: Option<u32>,
    /// The packet before the next one came, and a picture ended there.
    at_boundary: bool,
    /// The packet before the next one is missing.
    after_loss: bool,
    awaiting_idr: bool,
    /// Something was dropped since the last picture came out.
    discontinuity: bool,
    undecodable: u64,
    pictures: VecDeque<Picture>,
}

impl Depacketizer {
    /// A depacketizer that knows `parameter_sets` (NAL units) from the offer.
    pub(crate) fn new(parameter_sets: &[Bytes]) -> Self {
        let mut sets = ParameterSets::default();
        for set in parameter_sets {
            sort(&mut sets, set);
        }
        Self {
            sets,
            assembly: None,
            spoiled: None,
            at_boundary: false,
            after_loss: false,
            awaiting_idr: true,
            discontinuity: false,
            undecodable: 0,
            pictures: VecDeque::new(),
        }
    }

    /// Takes the next packet of the stream.
    ///
    /// # Errors
    /// [`Malformed`]: the picture it belongs to is dropped, as after a loss.
    pub(crate) fn handle_packet(&mut self, packet: &RtpPacket) -> Result<(), Malformed> {
        if packet.payload.is_empty() {
            return Ok(());
        }
        let contiguous = !std::mem::take(&mut self.after_loss);
        if self
            .assembly
            .as_ref()
            .is_some_and(|picture| picture.timestamp != packet.timestamp)
        {
            self.finish();
            self.at_boundary = true;
        }
        if self
            .spoiled
            .is_some_and(|spoiled| spoiled != packet.timestamp)
        {
            self.spoiled = None;
            self.at_boundary = contiguous;
        }
        let result = if self.spoiled.is_some() {
            self.note_parameter_sets(&packet.payload);
            Ok(())
        } else {
            self.append(packet)
        };
        if result.is_err() {
            self.spoil(packet.timestamp);
        }
        if packet.marker {
            self.finish();
            self.spoiled = None;
            self.at_boundary = true;
        }
        result
    }

    /// Packets are missing before the next one.
    pub(crate) fn handle_loss(&mut self) {
        if let Some(picture) = self.assembly.take() {
            self.spoiled = Some(picture.timestamp);
            self.undecodable += 1;
        }
        self.at_boundary = false;
        self.after_loss = true;
        self.awaiting_idr = true;
        self.discontinuity = true;
    }

    /// The parameter sets in force, those of the picture that is arriving included.
    pub(crate) fn config(&mut self) -> Option<&Arc<Config>> {
        self.sets.config()
    }

    /// The next complete picture.
    pub(crate) fn poll_picture(&mut self) -> Option<Picture> {
        self.pictures.pop_front()
    }

    /// No picture can come out before the sender makes an IDR picture.
    pub(crate) fn is_awaiting_idr(&self) -> bool {
        self.awaiting_idr
    }

    /// Pictures that arrived, in whole or part, and were dropped.
    pub(crate) fn undecodable(&self) -> u64 {
        self.undecodable
    }

    fn spoil(&mut self, timestamp: u32) {
        self.handle_loss();
        self.after_loss = false;
        self.spoiled = Some(timestamp);
    }

    fn append(&mut self, packet: &RtpPacket) -> Result<(), Malformed> {
        let at_boundary = std::mem::take(&mut self.at_boundary);
        let picture = self.assembly.get_or_insert_with(|| Assembly {
            timestamp: packet.timestamp,
            whole_start: at_boundary,
            ..Assembly::default()
        });
        let payload = &packet.payload;
        match nal_unit_type(payload) {
            1..=23 => picture.append_nal(&mut self.sets, payload),
            STAP_A => picture.append_aggregate(&mut self.sets, payload),
            FU_A => picture.append_fragment(payload),
            _ => Err(Malformed("a payload type that modes 0 and 1 do not have")),
        }
    }

    /// A spoiled picture may still carry parameter sets that later pictures need.
    fn note_parameter_sets(&mut self, payload: &Bytes) {
        sort(&mut self.sets, payload);
        if nal_unit_type(payload) == STAP_A {
            for nal in aggregate(payload).map_while(Result::ok) {
                sort(&mut self.sets, &nal);
            }
        }
    }

    fn finish(&mut self) {
        let Some(picture) = self.assembly.take() else {
            return;
        };
        if picture.fragment.is_some() {
            self.undecodable += 1;
            self.awaiting_idr = true;
            self.discontinuity = true;
            return;
        }
        if picture.slices == 0 {
            return;
        }
        let decodable = picture.whole_start && (picture.idr || !self.awaiting_idr);
        match self.sets.config() {
            Some(config) if decodable => {
                self.awaiting_idr = false;
                self.pictures.push_back(Picture {
                    timestamp: picture.timestamp,
                    keyframe: picture.idr,
                    discontinuity: std::mem::take(&mut self.discontinuity),
                    config: Arc::clone(config),
                    data: picture.data.freeze(),
                });
            }
            _ => {
                self.undecodable += 1;
                self.awaiting_idr = true;
                self.discontinuity = true;
            }
        }
    }
}

impl Assembly {
    fn append_nal(&mut self, sets: &mut ParameterSets, nal: &Bytes) -> Result<(), Malformed> {
        if self.fragment.is_some() {
            return Err(Malformed("a NAL unit inside a fragmented one"));
        }
        match nal_unit_type(nal) {
            nal_type::SPS | nal_type::PPS => {
                sort(sets, nal);
                // Parameter sets stand before the first slice of their picture (ITU-T H.264 §7.4.1.2.3).
                self.whole_start |= self.slices == 0;
                Ok(())
            }
            nal_type::AUD => {
                self.whole_start |= self.slices == 0;
                Ok(())
            }
            nal_type::FILLER | 10 | 11 | 13..=23 => Ok(()),
            _ => {
                self.note_slice(nal);
                self.put(nal)
            }
        }
    }

    fn append_aggregate(
        &mut self,
        sets: &mut ParameterSets,
        payload: &Bytes,
    ) -> Result<(), Malformed> {
        for nal in aggregate(payload) {
            self.append_nal(sets, &nal?)?;
        }
        Ok(())
    }

    fn append_fragment(&mut self, payload: &Bytes) -> Result<(), Malformed> {
        let &[indicator, header, ref rest @ ..] = payload.as_ref() else {
            return Err(Malformed("a fragment without its header"));
        };
        let start = header & FU_START != 0;
        let end = header & FU_END != 0;
        if start && end || rest.is_empty() {
            return Err(Malformed("a fragment that is both start and end, or empty"));
        }
        if start {
            if self.fragment.is_some() {
                return Err(Malformed("a fragmented NAL unit inside another"));
            }
            let nal_header = indicator & 0xe0 | header & 0x1f;
            if !matches!(header & 0x1f, 1..=6) {
                return Err(Malformed(
                    "a fragmented NAL unit of a type that is never fragmented",
                ));
            }
            self.note_slice(&[nal_header, rest.first().copied().unwrap_or(0)]);
            self.fragment = Some(self.data.len());
            self.put(&[nal_header])?;
        } else if self.fragment.is_none() {
            return Err(Malformed("a fragment without its start"));
        }
        self.reserve(rest.len())?;
        self.data.put_slice(rest);
        if end {
            self.close_fragment();
        }
        Ok(())
    }

    /// Writes the length of the fragmented NAL unit that is now complete.
    fn close_fragment(&mut self) {
        let Some(at) = self.fragment.take() else {
            return;
        };
        let length = self.data.len().saturating_sub(at + 4);
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(field) = self.data.get_mut(at..at + 4) {
            field.copy_from_slice(&length);
        }
    }

    /// Counts slices; the first slice of a picture begins at macroblock 0, a ue(v) of one set bit.
    fn note_slice(&mut self, nal: &[u8]) {
        let kind = nal_unit_type(nal);
        if !matches!(kind, 1..=5) {
            return;
        }
        let first = nal.get(1).is_some_and(|byte| byte & 0x80 != 0);
        self.whole_start |= first && self.slices == 0;
        self.slices += 1;
        self.idr |= kind == nal_type::IDR;
    }

    fn put(&mut self, nal: &[u8]) -> Result<(), Malformed> {
        self.nals += 1;
        if self.nals > MAX_NALS {
            return Err(Malformed("too many NAL units in a picture"));
        }
        self.reserve(nal.len() + 4)?;
        self.data
            .put_u32(u32::try_from(nal.len()).unwrap_or(u32::MAX));
        self.data.put_slice(nal);
        Ok(())
    }

    fn reserve(&mut self, more: usize) -> Result<(), Malformed> {
        if self.data.len() + more > MAX_ACCESS_UNIT_BYTES {
            return Err(Malformed("a picture is too large"));
        }
        if self.data.capacity() == 0 {
            self.data.reserve(INITIAL_BYTES.max(more));
        }
        Ok(())
    }
}

/// The NAL units of a STAP-A (RFC 6184 §5.7.1). A bad length is the last item.
fn aggregate(payload: &Bytes) -> impl Iterator<Item = Result<Bytes, Malformed>> + '_ {
    let mut at = 1;
    std::iter::from_fn(move || {
        if at >= payload.len() {
            return None;
        }
        let length = match payload.get(at..at + 2) {
            Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
            _ => 0,
        };
        let (start, end) = (at + 2, at + 2 + length);
        if length == 0 || end > payload.len() {
            at = payload.len();
            return Some(Err(Malformed("an aggregate with a bad length")));
        }
        at = end;
        Some(Ok(payload.slice(start..end)))
    })
}

#[cfg(test)]
#[path = "h264_tests.rs"]
mod tests;
