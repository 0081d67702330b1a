//! AAC's AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1).

use bytes::Bytes;

use crate::Error;

/// PCM samples per channel in one AAC-LC access unit.
pub const FRAME_SAMPLES: u32 = 1_024;

const RATES_HZ: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

/// An AudioSpecificConfig: the bytes as they were sent and the fields that matter here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// The AudioSpecificConfig itself.
    pub asc: Bytes,
    /// MPEG-4 audio object type: 2 is AAC-LC, 5 HE-AAC, 29 HE-AAC v2.
    pub object_type: u8,
    /// Sampling rate in Hz.
    pub sample_rate_hz: u32,
    /// MPEG-4 channel configuration: 1 mono, 2 stereo; 0 when defined in-band.
    pub channels: u8,
}

impl Config {
    /// AAC-LC at a standard rate with 1 or 2 channels.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another rate or channel count.
    pub fn lc(sample_rate_hz: u32, channels: u8) -> Result<Self, Error> {
        let unsupported = |why| Error::Unsupported {
            what: "AAC configuration",
            why,
        };
        let index = RATES_HZ
            .iter()
            .position(|rate| *rate == sample_rate_hz)
            .and_then(|index| u8::try_from(index).ok())
            .ok_or_else(|| unsupported("the sampling rate has no index"))?;
        if !(1..=2).contains(&channels) {
            return Err(unsupported("one or two channels are expected"));
        }
        let asc = [(2 << 3) | (index >> 1), (index << 7) | (channels << 3)];
        Ok(Self {
            asc: Bytes::copy_from_slice(&asc),
            object_type: 2,
            sample_rate_hz,
            channels,
        })
    }

    /// Reads an AudioSpecificConfig.
    ///
    /// # Errors
    /// [`Error::Truncated`] or [`Error::Invalid`].
    pub fn parse(asc: Bytes) -> Result<Self, Error> {
        const WHAT: &str = "AudioSpecificConfig";
        let mut bits = Bits { bytes: &asc, at: 0 };
        let mut object_type = bits.take(5)?;
        if object_type == 31 {
            object_type = 32 + bits.take(6)?;
        }
        let sample_rate_hz = match bits.take(4)? {
            15 => bits.take(24)?,
            index => *usize::try_from(index)
                .ok()
                .and_then(|index| RATES_HZ.get(index))
                .ok_or(Error::Invalid {
                    what: WHAT,
                    why: "reserved sampling rate index",
                })?,
        };
        if sample_rate_hz == 0 {
            return Err(Error::Invalid {
                what: WHAT,
                why: "sampling rate is zero",
            });
        }
        let channels = bits.take(4)?;
        let byte = |value: u32| u8::try_from(value).unwrap_or(u8::MAX);
        let (object_type, channels) = (byte(object_type), byte(channels));
        Ok(Self {
            object_type,
            sample_rate_hz,
            channels,
            asc,
        })
    }
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// The next `count` ≤ 24 bits, most significant first.
    fn take(&mut self, count: usize) -> Result<u32, Error> {
        let mut value = 0;
        for _ in 0..count {
            let at = self.at / 8;
            let byte = *self.bytes.get(at).ok_or(Error::Truncated {
                what: "AudioSpecificConfig",
                at,
            })?;
            value = (value << 1) | u32::from((byte >> (7 - self.at % 8)) & 1);
            self.at += 1;
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lc_stereo_48k_is_the_well_known_pair_of_bytes() {
        let config = Config::lc(48_000, 2).expect("standard");
        assert_eq!(config.asc.as_ref(), [0x11, 0x90]);
        assert_eq!(Config::parse(config.asc.clone()), Ok(config));
    }

    #[test]
    fn escaped_rate() {
        let config =
            Config::parse(Bytes::from_static(&[0x17, 0x80, 0x56, 0x22, 0x08])).expect("valid");
        assert_eq!(
            (config.object_type, config.sample_rate_hz, config.channels),
            (2, 44_100, 1)
        );
    }

    proptest! {
        #[test]
        fn parse_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..16)) {
            let _ = Config::parse(Bytes::from(bytes));
        }

        #[test]
        fn lc_round_trips(index in 0..RATES_HZ.len(), channels in 1u8..=2) {
            let config = Config::lc(RATES_HZ[index], channels).expect("standard");
            prop_assert_eq!(Config::parse(config.asc.clone()), Ok(config));
        }
    }
}
