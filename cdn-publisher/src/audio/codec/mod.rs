//! The fence around libopus and fdk-aac: the rest of the crate sees [`Decode`], [`Encode`] and [`Codecs`].
//!
//! Tests of timing use codecs that pass PCM through, so that two hours of sound take seconds and every sample is known.

mod aac;
mod opus;

use std::fmt::Debug;

use bytes::Bytes;
use media::aac::Config;

pub(crate) use self::aac::{AacDecoder, AacEncoder};
#[cfg(test)]
pub(crate) use self::opus::testing::BrowserEncoder;
pub(crate) use self::opus::{OpusDecoder, OpusEncoder};
use crate::Error;

/// One moment of stereo sound, left and right. Full scale is ±32768, so that 16-bit samples pass through exactly.
pub(crate) type Frame = [f32; 2];

/// Samples per channel in one AAC access unit.
pub(crate) const UNIT_SAMPLES: usize = media::aac::FRAME_SAMPLES as usize;

/// Samples per channel in one Opus packet that is made here: 20 ms, the usual length in WebRTC.
pub(crate) const PACKET_SAMPLES: usize = 960;

/// What an AAC encoder makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AacSettings {
    pub(crate) sample_rate_hz: u32,
    /// 1 or 2; mono is the mean of left and right.
    pub(crate) channels: u8,
    pub(crate) bitrate_bps: u32,
    /// fdk-aac's second look at its quantisation: better sound for twice the work.
    pub(crate) afterburner: bool,
}

impl AacSettings {
    /// 48 kHz stereo.
    pub(crate) fn stereo_48k(bitrate_bps: u32, afterburner: bool) -> Self {
        Self {
            sample_rate_hz: 48_000,
            channels: 2,
            bitrate_bps,
            afterburner,
        }
    }
}

/// Turns packets into sound: Opus at 48 kHz, AAC at its own rate. Output is appended.
pub(crate) trait Decode: Debug + Send {
    /// Decodes a packet.
    fn decode(&mut self, packet: &[u8], out: &mut Vec<Frame>) -> Result<(), Error>;

    /// Recovers the `samples` that were lost just before `next` from its forward error correction, or conceals them when
    /// it brings none. `next` is decoded afterwards as usual.
    fn recover(&mut self, next: &[u8], samples: usize, out: &mut Vec<Frame>) -> Result<(), Error>;

    /// Makes up `samples` that were lost: a multiple of 120 (2.5 ms), at most 5760.
    fn conceal(&mut self, samples: usize, out: &mut Vec<Frame>) -> Result<(), Error>;

    /// By how many samples the decoded sound lags behind the timestamp of its packet.
    fn delay_samples(&self) -> u32;
}

/// Turns sound into access units of [`UNIT_SAMPLES`].
pub(crate) trait Encode: Debug + Send {
    /// Encodes exactly [`UNIT_SAMPLES`] frames; one unit comes out for each that goes in.
    fn encode(&mut self, pcm: &[Frame]) -> Result<Bytes, Error>;

    /// By how many samples the decoded output lags behind the input.
    fn delay_samples(&self) -> u32;

    /// The AudioSpecificConfig.
    fn config(&self) -> Bytes;
}

/// Turns sound into Opus packets of [`PACKET_SAMPLES`].
pub(crate) trait EncodePacket: Debug + Send {
    /// Encodes exactly [`PACKET_SAMPLES`] frames.
    fn encode(&mut self, pcm: &[Frame]) -> Result<Bytes, Error>;
}

/// Makes codecs.
pub(crate) trait Codecs: Debug + Send {
    /// A decoder of Opus to stereo.
    fn opus_decoder(&self) -> Result<Box<dyn Decode>, Error>;

    /// An encoder of AAC-LC.
    fn aac_encoder(&self, settings: AacSettings) -> Result<Box<dyn Encode>, Error>;

    /// A decoder of AAC to stereo, at the rate of the stream; mono comes out on both sides.
    fn aac_decoder(&self, config: &Config) -> Result<Box<dyn Decode>, Error>;

    /// How many samples per channel come out of this unit, by a decoder that has seen no other.
    fn aac_samples(&self, config: &Config, unit: &[u8]) -> Result<usize, Error> {
        let mut samples = Vec::new();
        self.aac_decoder(config)?.decode(unit, &mut samples)?;
        Ok(samples.len())
    }

    /// An encoder of Opus, 48 kHz stereo.
    fn opus_encoder(&self, bitrate_bps: u32) -> Result<Box<dyn EncodePacket>, Error>;
}

/// libopus and fdk-aac.
#[derive(Debug)]
pub(crate) struct RealCodecs;

impl Codecs for RealCodecs {
    fn opus_decoder(&self) -> Result<Box<dyn Decode>, Error> {
        Ok(Box::new(OpusDecoder::new()?))
    }

    fn aac_encoder(&self, settings: AacSettings) -> Result<Box<dyn Encode>, Error> {
        Ok(Box::new(AacEncoder::new(settings)?))
    }

    fn aac_decoder(&self, config: &Config) -> Result<Box<dyn Decode>, Error> {
        Ok(Box::new(AacDecoder::new(config)?))
    }

    fn opus_encoder(&self, bitrate_bps: u32) -> Result<Box<dyn EncodePacket>, Error> {
        Ok(Box::new(OpusEncoder::new(bitrate_bps)?))
    }
}

/// The nearest 16-bit sample.
#[expect(
    clippy::cast_possible_truncation,
    reason = "`as` saturates, which is the clipping wanted here"
)]
pub(crate) fn to_i16(sample: f32) -> i16 {
    sample.round() as i16
}
