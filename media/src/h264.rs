//! H.264 as far as a server looks into it: NAL units, their two packagings, and the decoder configuration.
//!
//! Sources: ITU-T H.264 §7.3–7.4 (NAL units, SPS), Annex B (byte stream); ISO/IEC 14496-15 §5.3 (AVCC, avcC record).

use bytes::{BufMut, Bytes, BytesMut};
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::rbsp::{BitReader, decode_nal};

use crate::Error;

/// NAL unit types that matter to a server (ITU-T H.264 table 7-1).
pub mod nal_type {
    /// Coded slice of a non-IDR picture.
    pub const SLICE: u8 = 1;
    /// Coded slice of an IDR picture.
    pub const IDR: u8 = 5;
    /// Supplemental enhancement information.
    pub const SEI: u8 = 6;
    /// Sequence parameter set.
    pub const SPS: u8 = 7;
    /// Picture parameter set.
    pub const PPS: u8 = 8;
    /// Access unit delimiter.
    pub const AUD: u8 = 9;
    /// Filler data.
    pub const FILLER: u8 = 12;
}

/// The largest access unit accepted anywhere, in bytes.
pub const MAX_ACCESS_UNIT_BYTES: usize = 8 << 20;

/// Type of a NAL unit by its first byte; 0 (unspecified) when empty.
#[must_use]
pub fn nal_unit_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |header| header & 0x1f)
}

/// What a decoder needs before the first picture: one SPS, one or more PPS, and what the SPS says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// The sequence parameter set, a NAL unit without start code.
    pub sps: Bytes,
    /// Picture parameter sets, NAL units without start code, in order of arrival.
    pub pps: Vec<Bytes>,
    /// Width after cropping, in luma samples.
    pub width: u32,
    /// Height after cropping, in luma samples.
    pub height: u32,
}

impl Config {
    /// Reads the picture size out of the SPS and keeps the parameter sets.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the SPS cannot be parsed, is not an SPS, or there is no PPS.
    pub fn new(sps: Bytes, pps: Vec<Bytes>) -> Result<Self, Error> {
        const WHAT: &str = "H.264 parameter sets";
        let invalid = |why| Error::Invalid { what: WHAT, why };
        if nal_unit_type(&sps) != nal_type::SPS || sps.len() < 4 {
            return Err(invalid(
                "the first NAL unit is not a sequence parameter set",
            ));
        }
        if pps.is_empty() || pps.iter().any(|pps| nal_unit_type(pps) != nal_type::PPS) {
            return Err(invalid("a picture parameter set is missing"));
        }
        if usize::from(u16::MAX) < sps.len()
            || pps.iter().any(|pps| usize::from(u16::MAX) < pps.len())
        {
            return Err(invalid("a parameter set is longer than 65535 bytes"));
        }
        let rbsp =
            decode_nal(&sps).map_err(|_| invalid("the SPS has a bad emulation prevention byte"))?;
        let parsed = SeqParameterSet::from_bits(BitReader::new(rbsp.as_ref()))
            .map_err(|_| invalid("the SPS cannot be parsed"))?;
        let (width, height) = parsed
            .pixel_dimensions()
            .map_err(|_| invalid("the SPS has an impossible size"))?;
        Ok(Self {
            sps,
            pps,
            width,
            height,
        })
    }

    /// profile_idc, constraint flags and level_idc, as in an SDP `profile-level-id`.
    #[must_use]
    pub fn profile_level(&self) -> [u8; 3] {
        match self.sps.get(1..4) {
            Some(&[profile, constraints, level]) => [profile, constraints, level],
            _ => [0; 3],
        }
    }

    /// The AVCDecoderConfigurationRecord (avcC) with 4-byte NAL lengths.
    #[must_use]
    pub fn to_avcc(&self) -> Bytes {
        let [profile, constraints, level] = self.profile_level();
        let mut out = BytesMut::new();
        out.put_slice(&[1, profile, constraints, level, 0xff, 0xe1]);
        put_set(&mut out, &self.sps);
        let pps = self.pps.get(..255).unwrap_or(&self.pps);
        out.put_u8(u8::try_from(pps.len()).unwrap_or(u8::MAX));
        for pps in pps {
            put_set(&mut out, pps);
        }
        if matches!(profile, 100 | 110 | 122 | 144) {
            // chroma_format_idc 4:2:0, 8 bits luma and chroma, no SPS extensions (ISO/IEC 14496-15 §5.3.3.1.2)
            out.put_slice(&[0xfd, 0xf8, 0xf8, 0]);
        }
        out.freeze()
    }

    /// Reads an AVCDecoderConfigurationRecord.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Invalid`]; [`Error::Unsupported`] unless NAL lengths are 4 bytes.
    pub fn from_avcc(record: &Bytes) -> Result<Self, Error> {
        const WHAT: &str = "AVC decoder configuration";
        let byte = |at: usize| {
            record
                .get(at)
                .copied()
                .ok_or(Error::Truncated { what: WHAT, at })
        };
        if byte(0)? != 1 {
            return Err(Error::Invalid {
                what: WHAT,
                why: "its version is not 1",
            });
        }
        if byte(4)? & 3 != 3 {
            return Err(Error::Unsupported {
                what: WHAT,
                why: "NAL lengths must have 4 bytes",
            });
        }
        let mut at = 6;
        let sets = |count: u8, at: &mut usize| -> Result<Vec<Bytes>, Error> {
            let mut list = Vec::new();
            for _ in 0..count {
                let length = usize::from(u16::from_be_bytes([byte(*at)?, byte(*at + 1)?]));
                let end = *at + 2 + length;
                if end > record.len() {
                    return Err(Error::Truncated {
                        what: WHAT,
                        at: record.len(),
                    });
                }
                list.push(record.slice(*at + 2..end));
                *at = end;
            }
            Ok(list)
        };
        let sps = sets(byte(5)? & 0x1f, &mut at)?;
        let pps_count = byte(at)?;
        at += 1;
        let pps = sets(pps_count, &mut at)?;
        let sps = sps.into_iter().next().ok_or(Error::Invalid {
            what: WHAT,
            why: "it holds no SPS",
        })?;
        Self::new(sps, pps)
    }
}

fn put_set(out: &mut BytesMut, set: &[u8]) {
    out.put_u16(u16::try_from(set.len()).unwrap_or(u16::MAX));
    out.put_slice(set);
}

/// Joins NAL units into AVCC form: each behind its length in 4 bytes.
#[must_use]
pub fn to_avcc<'a>(nals: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
    let mut out = BytesMut::new();
    for nal in nals {
        out.put_u32(u32::try_from(nal.len()).unwrap_or(u32::MAX));
        out.put_slice(nal);
    }
    out.freeze()
}

/// The NAL units of an access unit in AVCC form. A bad length is the last item.
pub fn avcc_nals(data: &Bytes) -> impl Iterator<Item = Result<Bytes, Error>> + '_ {
    const WHAT: &str = "AVCC access unit";
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= data.len() {
            return None;
        }
        let start = at + 4;
        let Some(&[a, b, c, d]) = data.get(at..start) else {
            at = data.len();
            return Some(Err(Error::Truncated {
                what: WHAT,
                at: data.len(),
            }));
        };
        let end = usize::try_from(u32::from_be_bytes([a, b, c, d]))
            .ok()
            .and_then(|n| start.checked_add(n));
        match end {
            Some(end) if end <= data.len() => {
                at = end;
                Some(Ok(data.slice(start..end)))
            }
            _ => {
                at = data.len();
                Some(Err(Error::Truncated {
                    what: WHAT,
                    at: data.len(),
                }))
            }
        }
    })
}

/// The NAL units of an Annex B byte stream, without start codes and trailing zeros.
pub fn annexb_nals(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = skip_to_start(data);
    std::iter::from_fn(move || {
        let body = rest?;
        let end = find_start(body).unwrap_or(body.len());
        let nal = body.get(..end).unwrap_or_default();
        rest = skip_to_start(body.get(end..).unwrap_or_default());
        let trimmed = nal
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        nal.get(..trimmed)
    })
    .filter(|nal| !nal.is_empty())
}

/// Offset of the next 00 00 01.
fn find_start(data: &[u8]) -> Option<usize> {
    data.windows(3).position(|window| window == [0, 0, 1])
}

/// What follows the next start code.
fn skip_to_start(data: &[u8]) -> Option<&[u8]> {
    find_start(data).and_then(|at| data.get(at + 3..))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 640x360 constrained baseline, level 3.0, as written by x264.
    pub(crate) const SPS: &[u8] = &[
        0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00,
        0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2e, 0x48,
    ];
    pub(crate) const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];

    fn config() -> Config {
        Config::new(Bytes::from_static(SPS), vec![Bytes::from_static(PPS)]).expect("valid")
    }

    #[test]
    fn size_comes_from_the_sps() {
        assert_eq!((config().width, config().height), (640, 360));
        assert_eq!(config().profile_level(), [0x42, 0xc0, 0x1e]);
    }

    #[test]
    fn configuration_record_round_trips() {
        assert_eq!(Config::from_avcc(&config().to_avcc()), Ok(config()));
    }

    #[test]
    fn every_truncation_of_the_record_is_an_error() {
        let record = config().to_avcc();
        for length in 0..record.len() {
            assert!(
                Config::from_avcc(&record.slice(..length)).is_err(),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn annexb_accepts_both_start_codes_and_drops_trailing_zeros() {
        let stream = [
            0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 0, 0, 1, 0x65, 3,
        ];
        let nals: Vec<&[u8]> = annexb_nals(&stream).collect();
        assert_eq!(nals, [&[0x67, 1][..], &[0x68, 2], &[0x65, 3]]);
    }

    proptest! {
        #[test]
        fn avcc_round_trips(nals in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8)) {
            let joined = to_avcc(nals.iter().map(Vec::as_slice));
            let split: Result<Vec<Bytes>, Error> = avcc_nals(&joined).collect();
            prop_assert_eq!(split.expect("valid"), nals);
        }

        #[test]
        fn parsers_are_total(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            let _ = Config::from_avcc(&bytes);
            let _ = Config::new(bytes.clone(), vec![Bytes::from_static(PPS)]);
            prop_assert!(avcc_nals(&bytes).count() <= bytes.len());
            prop_assert!(annexb_nals(&bytes).count() <= bytes.len());
        }

        #[test]
        fn sps_parser_survives_mutation(at in 1..SPS.len(), value in any::<u8>()) {
            let mut sps = SPS.to_vec();
            sps[at] = value;
            let _ = Config::new(Bytes::from(sps), vec![Bytes::from_static(PPS)]);
        }
    }
}
