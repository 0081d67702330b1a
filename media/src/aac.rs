//! AAC's AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1).

use bytes::Bytes;

use crate::Error;

/// PCM samples per channel in one AAC-LC access unit.
pub const FRAME_SAMPLES: u32 = 1_024;

/// Audio object types (Table 1.17).
const LC: u8 = 2;
const SBR: u32 = 5;
const PS: u32 = 29;
const WHAT: &str = "AudioSpecificConfig";

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
    /// PCM samples per channel that one unit of the core holds: 1024, or 960.
    pub frame_samples: u32,
    /// The rate after spectral band replication, when that is signalled: HE-AAC.
    pub sbr_rate_hz: Option<u32>,
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
            object_type: LC,
            sample_rate_hz,
            channels,
            frame_samples: FRAME_SAMPLES,
            sbr_rate_hz: None,
        })
    }

    /// Reads an AudioSpecificConfig. What follows the channel configuration may be cut off; it then says nothing.
    ///
    /// # Errors
    /// [`Error::Truncated`] or [`Error::Invalid`].
    pub fn parse(asc: Bytes) -> Result<Self, Error> {
        let mut bits = Bits { bytes: &asc, at: 0 };
        let object_type = bits.object_type()?;
        let sample_rate_hz = bits.rate()?;
        let channels = bits.take(4)?;
        let mut config = Self {
            object_type: byte(object_type),
            sample_rate_hz,
            channels: byte(channels),
            frame_samples: FRAME_SAMPLES,
            sbr_rate_hz: None,
            asc: Bytes::new(),
        };
        let mut core = object_type;
        if object_type == SBR || object_type == PS {
            config.sbr_rate_hz = Some(bits.rate()?);
            core = bits.object_type().unwrap_or_default();
        }
        config.read_rest(&mut bits, core);
        config.asc = asc;
        Ok(config)
    }

    /// The GASpecificConfig (§4.4.1) and what backward-compatible signalling puts behind it (§1.6.5.3), as far as they
    /// are understood: a channel configuration or an object type that brings more fields ends the reading.
    fn read_rest(&mut self, bits: &mut Bits<'_>, core: u32) -> Option<()> {
        const SYNC_EXTENSION: u32 = 0x2b7;
        if !(1..=4).contains(&core) {
            return None;
        }
        if bits.take(1).ok()? == 1 {
            self.frame_samples = 960;
        }
        if bits.take(1).ok()? == 1 {
            let _core_coder_delay = bits.take(14).ok()?;
        }
        let extension = bits.take(1).ok()?;
        if self.channels == 0 || extension == 1 || self.sbr_rate_hz.is_some() {
            return None;
        }
        let signalled = bits.take(11).ok()? == SYNC_EXTENSION
            && bits.object_type().ok()? == SBR
            && bits.take(1).ok()? == 1;
        if signalled {
            self.sbr_rate_hz = Some(bits.rate().ok()?);
        }
        Some(())
    }

    /// Whether this is AAC-LC, mono or stereo, in units of 1024 samples, and nothing more: what a bitstream can be
    /// joined with at a unit.
    #[must_use]
    pub fn is_plain_lc(&self) -> bool {
        self.object_type == LC
            && self.sbr_rate_hz.is_none()
            && self.frame_samples == FRAME_SAMPLES
            && (1..=2).contains(&self.channels)
    }

    /// Whether units of this configuration can follow units of `other` in one stream under one header.
    #[must_use]
    pub fn splices_with(&self, other: &Self) -> bool {
        self.is_plain_lc()
            && other.is_plain_lc()
            && (self.sample_rate_hz, self.channels) == (other.sample_rate_hz, other.channels)
    }
}

fn byte(value: u32) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn object_type(&mut self) -> Result<u32, Error> {
        Ok(match self.take(5)? {
            31 => 32 + self.take(6)?,
            object_type => object_type,
        })
    }

    /// In Hz.
    fn rate(&mut self) -> Result<u32, Error> {
        let invalid = |why| Error::Invalid { what: WHAT, why };
        let rate = match self.take(4)? {
            15 => self.take(24)?,
            index => *usize::try_from(index)
                .ok()
                .and_then(|index| RATES_HZ.get(index))
                .ok_or_else(|| invalid("reserved sampling rate index"))?,
        };
        if rate == 0 {
            return Err(invalid("sampling rate is zero"));
        }
        Ok(rate)
    }

    /// The next `count` ≤ 24 bits, most significant first.
    fn take(&mut self, count: usize) -> Result<u32, Error> {
        let mut value = 0;
        for _ in 0..count {
            let at = self.at / 8;
            let byte = *self
                .bytes
                .get(at)
                .ok_or(Error::Truncated { what: WHAT, at })?;
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

    fn parsed(asc: &'static [u8]) -> Config {
        Config::parse(Bytes::from_static(asc)).expect("valid")
    }

    #[test]
    fn native_ffmpeg_says_that_there_is_no_sbr() {
        let plain = Config::lc(48_000, 2).expect("standard");
        let ffmpeg = parsed(&[0x11, 0x90, 0x56, 0xe5, 0x00]);
        assert_eq!(ffmpeg.sbr_rate_hz, None);
        assert!(ffmpeg.splices_with(&plain) && plain.splices_with(&ffmpeg));
    }

    #[test]
    fn every_way_to_signal_sbr_is_seen() {
        // Behind a plain configuration of 24 kHz: sbrPresentFlag is set.
        let compatible = parsed(&[0x13, 0x10, 0x56, 0xe5, 0x98]);
        // Object types 5 and 29 around 2.
        let explicit = parsed(&[0x2b, 0x11, 0x88, 0x00]);
        let with_stereo = parsed(&[0xeb, 0x11, 0x88, 0x00]);
        for config in [&compatible, &explicit, &with_stereo] {
            assert_eq!(config.sample_rate_hz, 24_000, "{config:?}");
            assert_eq!(config.sbr_rate_hz, Some(48_000), "{config:?}");
            assert!(!config.is_plain_lc());
        }
    }

    #[test]
    fn only_the_same_kind_of_stream_splices() {
        let plain = Config::lc(48_000, 2).expect("standard");
        for (rate, channels) in [(44_100, 2), (48_000, 1)] {
            let other = Config::lc(rate, channels).expect("standard");
            assert!(other.is_plain_lc() && !plain.splices_with(&other));
        }
        // frameLengthFlag: 960 samples. Main profile. Channels defined in-band. 5.1.
        for asc in [&[0x11, 0x94], &[0x09, 0x90], &[0x11, 0x80], &[0x11, 0xb0]] {
            let other = Config::parse(Bytes::copy_from_slice(asc)).expect("valid");
            assert!(!plain.splices_with(&other), "{other:?}");
        }
        assert_eq!(parsed(&[0x11, 0x94]).frame_samples, 960);
    }

    proptest! {
        #[test]
        fn parse_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..16)) {
            let _ = Config::parse(Bytes::from(bytes));
        }

        #[test]
        fn damage_never_makes_two_streams_one(at in 0usize..40, asc in prop_oneof![
            Just(&[0x11u8, 0x90, 0x56, 0xe5, 0x00][..]), Just(&[0x12, 0x10][..]), Just(&[0x2b, 0x11, 0x88, 0x00][..])
        ]) {
            let mut bytes = asc.to_vec();
            if let Some(byte) = bytes.get_mut(at / 8) {
                *byte ^= 0x80 >> (at % 8);
            }
            let (Ok(good), Ok(bad)) = (Config::parse(Bytes::copy_from_slice(asc)), Config::parse(bytes.into())) else {
                return Ok(());
            };
            prop_assert_eq!(good.splices_with(&bad), bad.splices_with(&good));
            if good.splices_with(&bad) {
                prop_assert_eq!((good.sample_rate_hz, good.channels), (bad.sample_rate_hz, bad.channels));
            }
        }

        #[test]
        fn lc_round_trips(index in 0..RATES_HZ.len(), channels in 1u8..=2) {
            let config = Config::lc(RATES_HZ[index], channels).expect("standard");
            prop_assert_eq!(Config::parse(config.asc.clone()), Ok(config));
        }
    }
}
