//! fdk-aac, decoding to stereo.
//!
//! Concealment by interpolation and the limiter are off, because both delay the sound (by 1024 and 720 samples): what
//! comes out of a unit are the samples that the unit completes, and nothing else. Invariant: the handle is open from `new`
//! to `drop`, and used by one thread at a time (`&mut self`).

#![expect(
    unsafe_code,
    reason = "the C interface of fdk-aac; see the module documentation"
)]

use std::ffi::c_int;

use fdk_aac_sys as sys;
use media::aac::Config;

use super::super::{Decode, Frame};
use crate::Error;

/// Channels that may come out: more are mixed down to these.
const MAX_CHANNELS: usize = 2;
/// A unit of HE-AAC has 2048 samples per channel, one of xHE-AAC at most 4096.
const MAX_VALUES: usize = 8 * 4_096;

/// AAC to stereo; mono comes out on both sides.
#[derive(Debug)]
pub(crate) struct AacDecoder {
    handle: sys::HANDLE_AACDECODER,
    pcm: Vec<i16>,
}

// SAFETY: an fdk-aac decoder has no thread affinity and no shared state; `&mut self` keeps its use exclusive.
unsafe impl Send for AacDecoder {}

impl AacDecoder {
    /// # Errors
    /// [`Error::Codec`] when the library refuses the configuration.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        // SAFETY: opens a decoder of one layer of raw access units.
        let handle = unsafe { sys::aacDecoder_Open(sys::TRANSPORT_TYPE_TT_MP4_RAW, 1) };
        if handle.is_null() {
            return Err(error("out of memory".to_owned()));
        }
        let decoder = Self {
            handle,
            pcm: vec![0; MAX_VALUES],
        };
        decoder.set(sys::AACDEC_PARAM_AAC_PCM_LIMITER_ENABLE, 0)?;
        decoder.set(sys::AACDEC_PARAM_AAC_CONCEAL_METHOD, 1)?;
        let channels = c_int::try_from(MAX_CHANNELS).unwrap_or(c_int::MAX);
        decoder.set(sys::AACDEC_PARAM_AAC_PCM_MAX_OUTPUT_CHANNELS, channels)?;
        let mut at = config.asc.as_ptr().cast_mut();
        let length = u32::try_from(config.asc.len()).unwrap_or_default();
        // SAFETY: the handle is open; pointer and length describe a live buffer, which the library only reads.
        check("configuration", unsafe {
            sys::aacDecoder_ConfigRaw(decoder.handle, &raw mut at, &raw const length)
        })?;
        Ok(decoder)
    }

    fn set(&self, parameter: sys::AACDEC_PARAM, value: c_int) -> Result<(), Error> {
        // SAFETY: the handle is open; the library checks parameter and value.
        check("parameter", unsafe {
            sys::aacDecoder_SetParam(self.handle, parameter, value)
        })
    }

    fn run(&mut self, flags: u32, out: &mut Vec<Frame>) -> Result<(), Error> {
        let room = c_int::try_from(self.pcm.len()).unwrap_or_default();
        // SAFETY: the handle is open; the buffer is live and of the length passed.
        check("decode", unsafe {
            sys::aacDecoder_DecodeFrame(self.handle, self.pcm.as_mut_ptr(), room, flags)
        })?;
        // SAFETY: the handle is open; the structure lives as long as it does, and is read before the next call.
        let info = unsafe { sys::aacDecoder_GetStreamInfo(self.handle).as_ref() };
        let info = info.ok_or_else(|| error("no stream".to_owned()))?;
        let samples = usize::try_from(info.frameSize).unwrap_or_default();
        match info.numChannels {
            1 => {
                let pcm = self.pcm.get(..samples).unwrap_or_default();
                out.extend(pcm.iter().map(|value| [f32::from(*value); 2]));
            }
            2 => {
                let pcm = self.pcm.get(..2 * samples).unwrap_or_default();
                let (pairs, _) = pcm.as_chunks::<2>();
                out.extend(pairs.iter().map(|pair| pair.map(f32::from)));
            }
            other => return Err(error(format!("{other} channels come out"))),
        }
        Ok(())
    }
}

impl Drop for AacDecoder {
    fn drop(&mut self) {
        // SAFETY: the handle is open and not used afterwards.
        unsafe { sys::aacDecoder_Close(self.handle) };
    }
}

impl Decode for AacDecoder {
    fn decode(&mut self, packet: &[u8], out: &mut Vec<Frame>) -> Result<(), Error> {
        let mut at = packet.as_ptr().cast_mut();
        let length = u32::try_from(packet.len()).map_err(|_| error("too long".to_owned()))?;
        let mut left = length;
        // SAFETY: the handle is open; pointer and length describe a live buffer, which the library only reads.
        check("fill", unsafe {
            sys::aacDecoder_Fill(self.handle, &raw mut at, &raw const length, &raw mut left)
        })?;
        let decoded = if left == 0 {
            self.run(0, out)
        } else {
            Err(error(format!("{length} bytes are no access unit")))
        };
        if decoded.is_err() {
            // What is left of this unit must not be taken for the start of the next.
            self.set(sys::AACDEC_PARAM_AAC_TPDEC_CLEAR_BUFFER, 1)?;
        }
        decoded
    }

    fn recover(&mut self, _: &[u8], samples: usize, out: &mut Vec<Frame>) -> Result<(), Error> {
        self.conceal(samples, out)
    }

    fn conceal(&mut self, samples: usize, out: &mut Vec<Frame>) -> Result<(), Error> {
        let end = out.len() + samples;
        // Takes what the last unit left of itself out of the decoder, so that the next one does not meet it.
        if self.run(sys::AACDEC_FLUSH, out).is_err() {
            self.set(sys::AACDEC_PARAM_AAC_TPDEC_CLEAR_BUFFER, 1)?;
        }
        out.resize(end, Frame::default());
        Ok(())
    }

    fn delay_samples(&self) -> u32 {
        0
    }
}

fn check(what: &str, code: sys::AAC_DECODER_ERROR) -> Result<(), Error> {
    if code == sys::AAC_DECODER_ERROR_AAC_DEC_OK {
        Ok(())
    } else {
        Err(error(format!("{what} failed with code {code:#x}")))
    }
}

fn error(detail: String) -> Error {
    Error::Codec {
        codec: "AAC decoder",
        detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::codec::{AacEncoder, AacSettings, Encode, UNIT_SAMPLES};
    use bytes::Bytes;
    use proptest::prelude::*;

    fn tone(n: usize) -> Frame {
        let t = n as f32 / 48_000.0;
        [8_000.0 * (t * 2_000.0).sin(), 6_000.0 * (t * 2_900.0).cos()]
    }

    fn units(sample_rate_hz: u32, channels: u8) -> (Config, Vec<Bytes>) {
        let mut encoder = AacEncoder::new(AacSettings {
            sample_rate_hz,
            channels,
            bitrate_bps: 64_000 * u32::from(channels),
            afterburner: false,
        })
        .unwrap();
        let config = Config::parse(encoder.config()).unwrap();
        let sound: Vec<Frame> = (0..24 * UNIT_SAMPLES).map(tone).collect();
        let blocks = sound.chunks_exact(UNIT_SAMPLES);
        let units = blocks.map(|block| encoder.encode(block).unwrap());
        (config, units.collect())
    }

    fn snr(heard: &[Frame], meant: impl Fn(usize) -> Frame) -> f64 {
        let (mut signal, mut noise) = (1e-9, 1e-9);
        for (n, heard) in heard.iter().enumerate() {
            for (heard, meant) in heard.iter().zip(meant(n)) {
                signal += f64::from(meant).powi(2);
                noise += f64::from(heard - meant).powi(2);
            }
        }
        10.0 * (signal / noise).log10()
    }

    #[test]
    fn the_encoders_delay_is_the_only_one() {
        for (rate, channels) in [(48_000, 2), (44_100, 2), (48_000, 1), (44_100, 1)] {
            let (config, units) = units(rate, channels);
            assert_eq!((config.sample_rate_hz, config.channels), (rate, channels));
            let mut decoder = AacDecoder::new(&config).unwrap();
            let mut out = Vec::new();
            for unit in &units {
                decoder.decode(unit, &mut out).unwrap();
            }
            assert_eq!(out.len(), units.len() * UNIT_SAMPLES);
            let meant = |n| {
                let [left, right] = tone(n + 4 * UNIT_SAMPLES - 2_048);
                if channels == 1 {
                    [f32::midpoint(left, right); 2]
                } else {
                    [left, right]
                }
            };
            let snr = snr(&out[4 * UNIT_SAMPLES..], meant);
            assert!(snr > 25.0, "{rate} Hz, {channels} channels: {snr:.1} dB");
        }
    }

    #[test]
    fn a_gap_is_the_tail_and_then_silence() {
        let (config, units) = units(48_000, 2);
        let mut decoder = AacDecoder::new(&config).unwrap();
        let mut out = Vec::new();
        for unit in &units[..12] {
            decoder.decode(unit, &mut out).unwrap();
        }
        decoder.conceal(3 * 1_024 + 7, &mut out).unwrap();
        assert_eq!(out.len(), 15 * 1_024 + 7);
        assert!(out[12 * 1_024 + 10][0] != 0.0 || out[12 * 1_024 + 50][0] != 0.0);
        assert!(
            out[13 * 1_024..]
                .iter()
                .flatten()
                .all(|value| *value == 0.0)
        );
        decoder.decode(&units[13], &mut out).unwrap();
        assert_eq!(out.len(), 16 * 1_024 + 7);
    }

    proptest! {
        #[test]
        fn decoding_is_total(damage in proptest::collection::vec((0usize..24, 0usize..400, any::<u8>()), 1..20),
            noise in proptest::collection::vec(any::<u8>(), 0..3_000)) {
            let (config, mut units) = units(48_000, 2);
            for (unit, at, value) in damage {
                let mut bytes = units[unit].to_vec();
                let at = at % bytes.len();
                bytes[at] = value;
                units[unit] = bytes.into();
            }
            units.push(noise.into());
            let mut decoder = AacDecoder::new(&config).unwrap();
            for unit in &units {
                let mut out = Vec::new();
                let _ = decoder.decode(unit, &mut out);
                prop_assert!(out.len() <= 4_096);
            }
        }
    }
}
