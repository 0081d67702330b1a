//! fdk-aac, encoding AAC-LC (and decoding it, for tests).
//!
//! This uses the C interface directly because the safe wrapper cannot switch the afterburner on. It is the only unsafe
//! code of the crate. Invariant: the handle is open from `new` to `drop`, and used by one thread at a time (`&mut self`).

#![expect(
    unsafe_code,
    reason = "the C interface of fdk-aac; see the module documentation"
)]

use std::ffi::{c_int, c_void};
use std::ptr;

use bytes::Bytes;
use fdk_aac_sys as sys;

use super::{Encode, Frame, UNIT_SAMPLES, to_i16};
use crate::Error;

/// The largest AAC access unit: 6144 bits per channel (ISO/IEC 14496-3 §4.5.3).
const MAX_UNIT_BYTES: usize = 2 * 6_144 / 8;

/// AAC-LC at 48 kHz, stereo.
#[derive(Debug)]
pub(crate) struct AacEncoder {
    handle: sys::HANDLE_AACENCODER,
    delay_samples: u32,
    config: Bytes,
    pcm: Vec<i16>,
    out: Vec<u8>,
}

// SAFETY: an fdk-aac encoder has no thread affinity and no shared state; `&mut self` keeps its use exclusive.
unsafe impl Send for AacEncoder {}

impl AacEncoder {
    /// # Errors
    /// [`Error::Codec`] when the library refuses, for example a bit rate that AAC-LC cannot have.
    pub(crate) fn new(bitrate_bps: u32, afterburner: bool) -> Result<Self, Error> {
        let mut encoder = Self {
            handle: ptr::null_mut(),
            delay_samples: 0,
            config: Bytes::new(),
            pcm: Vec::with_capacity(2 * UNIT_SAMPLES),
            out: vec![0; MAX_UNIT_BYTES],
        };
        // SAFETY: the handle is a valid out pointer; the library fills it in or reports an error.
        check("open", unsafe {
            sys::aacEncOpen(&raw mut encoder.handle, 0, 2)
        })?;
        let aot = u32::try_from(sys::AUDIO_OBJECT_TYPE_AOT_AAC_LC).unwrap_or(2);
        encoder.set(sys::AACENC_PARAM_AACENC_AOT, aot)?;
        encoder.set(sys::AACENC_PARAM_AACENC_SAMPLERATE, 48_000)?;
        encoder.set(sys::AACENC_PARAM_AACENC_CHANNELMODE, 2)?;
        encoder.set(sys::AACENC_PARAM_AACENC_BITRATE, bitrate_bps)?;
        encoder.set(sys::AACENC_PARAM_AACENC_TRANSMUX, 0)?;
        encoder.set(sys::AACENC_PARAM_AACENC_AFTERBURNER, afterburner.into())?;
        // SAFETY: all null is how the library is told to apply the parameters.
        check("configure", unsafe {
            sys::aacEncEncode(
                encoder.handle,
                ptr::null(),
                ptr::null(),
                ptr::null(),
                ptr::null_mut(),
            )
        })?;
        encoder.read_info()?;
        Ok(encoder)
    }

    fn set(&mut self, parameter: sys::AACENC_PARAM, value: u32) -> Result<(), Error> {
        // SAFETY: the handle is open; the library checks parameter and value.
        check("parameter", unsafe {
            sys::aacEncoder_SetParam(self.handle, parameter, value)
        })
    }

    fn read_info(&mut self) -> Result<(), Error> {
        // SAFETY: the structure is plain data for which all zeros is valid; the library fills it in.
        let mut info: sys::AACENC_InfoStruct = unsafe { std::mem::zeroed() };
        // SAFETY: the handle is open and configured; `info` is a valid out pointer.
        check("info", unsafe {
            sys::aacEncInfo(self.handle, &raw mut info)
        })?;
        if usize::try_from(info.frameLength) != Ok(UNIT_SAMPLES) {
            return Err(error("frames do not have 1024 samples".to_owned()));
        }
        let length = usize::try_from(info.confSize).unwrap_or_default();
        self.config = Bytes::copy_from_slice(info.confBuf.get(..length).unwrap_or_default());
        self.delay_samples = info.nDelay;
        Ok(())
    }
}

impl Drop for AacEncoder {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: the handle is open and not used afterwards.
            unsafe { sys::aacEncClose(&raw mut self.handle) };
        }
    }
}

impl Encode for AacEncoder {
    fn encode(&mut self, pcm: &[Frame]) -> Result<Bytes, Error> {
        self.pcm.clear();
        self.pcm
            .extend(pcm.iter().flatten().map(|sample| to_i16(*sample)));
        let values = c_int::try_from(self.pcm.len()).unwrap_or(c_int::MAX);
        let (mut in_at, mut in_id, mut in_bytes, mut in_width) = (
            self.pcm.as_mut_ptr().cast::<c_void>(),
            c_int::try_from(sys::AACENC_BufferIdentifier_IN_AUDIO_DATA).unwrap_or_default(),
            values.saturating_mul(2),
            2,
        );
        let (mut out_at, mut out_id, mut out_bytes, mut out_width) = (
            self.out.as_mut_ptr().cast::<c_void>(),
            c_int::try_from(sys::AACENC_BufferIdentifier_OUT_BITSTREAM_DATA).unwrap_or_default(),
            c_int::try_from(self.out.len()).unwrap_or_default(),
            1,
        );
        let describe = |at, id, bytes, width| sys::AACENC_BufDesc {
            numBufs: 1,
            bufs: at,
            bufferIdentifiers: id,
            bufSizes: bytes,
            bufElSizes: width,
        };
        let input = describe(
            &raw mut in_at,
            &raw mut in_id,
            &raw mut in_bytes,
            &raw mut in_width,
        );
        let output = describe(
            &raw mut out_at,
            &raw mut out_id,
            &raw mut out_bytes,
            &raw mut out_width,
        );
        let args = sys::AACENC_InArgs {
            numInSamples: values,
            numAncBytes: 0,
        };
        // SAFETY: plain data for which all zeros is valid.
        let mut result: sys::AACENC_OutArgs = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptions point at live buffers of the sizes they say, and at locals that outlive the call.
        check("encode", unsafe {
            sys::aacEncEncode(
                self.handle,
                &raw const input,
                &raw const output,
                &raw const args,
                &raw mut result,
            )
        })?;
        let length = usize::try_from(result.numOutBytes).unwrap_or_default();
        if result.numInSamples != values || length == 0 {
            return Err(error(
                "it did not turn one frame into one access unit".to_owned(),
            ));
        }
        Ok(Bytes::copy_from_slice(
            self.out.get(..length).unwrap_or_default(),
        ))
    }

    fn delay_samples(&self) -> u32 {
        self.delay_samples
    }

    fn config(&self) -> Bytes {
        self.config.clone()
    }
}

fn check(what: &str, code: sys::AACENC_ERROR) -> Result<(), Error> {
    if code == sys::AACENC_ERROR_AACENC_OK {
        Ok(())
    } else {
        Err(error(format!("{what} failed with code {code:#x}")))
    }
}

fn error(detail: String) -> Error {
    Error::Codec {
        codec: "AAC encoder",
        detail,
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! fdk-aac's decoder without its own delays (concealment and limiter off), for tests.

    use std::ptr;

    use fdk_aac_sys as sys;

    use crate::audio::codec::{Frame, UNIT_SAMPLES};

    pub(crate) struct AacDecoder(sys::HANDLE_AACDECODER);

    impl AacDecoder {
        pub(crate) fn new(config: &[u8]) -> Self {
            // SAFETY: opens a decoder, sets known parameters, and passes a live configuration of the length it says.
            unsafe {
                let handle = sys::aacDecoder_Open(sys::TRANSPORT_TYPE_TT_MP4_RAW, 1);
                assert!(!handle.is_null());
                sys::aacDecoder_SetParam(handle, sys::AACDEC_PARAM_AAC_PCM_LIMITER_ENABLE, 0);
                sys::aacDecoder_SetParam(handle, sys::AACDEC_PARAM_AAC_CONCEAL_METHOD, 1);
                let (mut at, length) = (
                    config.as_ptr().cast_mut(),
                    u32::try_from(config.len()).unwrap(),
                );
                let code = sys::aacDecoder_ConfigRaw(handle, &raw mut at, ptr::from_ref(&length));
                assert_eq!(code, sys::AAC_DECODER_ERROR_AAC_DEC_OK);
                Self(handle)
            }
        }

        pub(crate) fn decode(&mut self, unit: &[u8]) -> Vec<Frame> {
            let mut pcm = [0i16; 2 * UNIT_SAMPLES];
            // SAFETY: the handle is open; both buffers are live and of the lengths passed.
            unsafe {
                let (mut at, length) =
                    (unit.as_ptr().cast_mut(), u32::try_from(unit.len()).unwrap());
                let mut left = length;
                sys::aacDecoder_Fill(self.0, &raw mut at, ptr::from_ref(&length), &raw mut left);
                let code = sys::aacDecoder_DecodeFrame(
                    self.0,
                    pcm.as_mut_ptr(),
                    i32::try_from(pcm.len()).unwrap(),
                    0,
                );
                assert_eq!(code, sys::AAC_DECODER_ERROR_AAC_DEC_OK);
            }
            let frames = pcm.chunks_exact(2);
            frames.map(|at| [at[0].into(), at[1].into()]).collect()
        }
    }

    impl Drop for AacDecoder {
        fn drop(&mut self) {
            // SAFETY: the handle is open and not used afterwards.
            unsafe { sys::aacDecoder_Close(self.0) };
        }
    }
}
