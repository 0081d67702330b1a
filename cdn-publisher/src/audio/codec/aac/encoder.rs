//! fdk-aac, encoding AAC-LC.
//!
//! This uses the C interface directly because the safe wrapper cannot switch the afterburner on. Invariant: the handle is open from `new` to `drop`, and used by one thread at a time (`&mut self`).

#![expect(
    unsafe_code,
    reason = "the C interface of fdk-aac; see the module documentation"
)]

use std::ffi::{c_int, c_void};
use std::ptr;

use bytes::Bytes;
use fdk_aac_sys as sys;

use super::super::{AacSettings, Encode, Frame, UNIT_SAMPLES, to_i16};
use crate::Error;

/// The largest AAC access unit: 6144 bits per channel (ISO/IEC 14496-3 §4.5.3).
const MAX_UNIT_BYTES: usize = 2 * 6_144 / 8;

/// AAC-LC, mono or stereo. Mono is the mean of left and right.
#[derive(Debug)]
pub(crate) struct AacEncoder {
    handle: sys::HANDLE_AACENCODER,
    delay_samples: u32,
    mono: bool,
    config: Bytes,
    pcm: Vec<i16>,
    out: Vec<u8>,
}

// SAFETY: an fdk-aac encoder has no thread affinity and no shared state; `&mut self` keeps its use exclusive.
unsafe impl Send for AacEncoder {}

impl AacEncoder {
    /// # Errors
    /// [`Error::Codec`] when the library refuses, for example a bit rate that AAC-LC cannot have.
    pub(crate) fn new(settings: AacSettings) -> Result<Self, Error> {
        let AacSettings {
            sample_rate_hz,
            channels,
            bitrate_bps,
            afterburner,
        } = settings;
        if !(1..=2).contains(&channels) {
            return Err(error(format!(
                "{channels} channels are asked for; it makes mono or stereo"
            )));
        }
        let mut encoder = Self {
            handle: ptr::null_mut(),
            delay_samples: 0,
            mono: channels == 1,
            config: Bytes::new(),
            pcm: Vec::with_capacity(2 * UNIT_SAMPLES),
            out: vec![0; MAX_UNIT_BYTES],
        };
        // SAFETY: the handle is a valid out pointer; the library fills it in or reports an error.
        check("open", unsafe {
            sys::aacEncOpen(&raw mut encoder.handle, 0, channels.into())
        })?;
        let aot = u32::try_from(sys::AUDIO_OBJECT_TYPE_AOT_AAC_LC).unwrap_or(2);
        encoder.set(sys::AACENC_PARAM_AACENC_AOT, aot)?;
        encoder.set(sys::AACENC_PARAM_AACENC_SAMPLERATE, sample_rate_hz)?;
        encoder.set(sys::AACENC_PARAM_AACENC_CHANNELMODE, channels.into())?;
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
        if self.mono {
            let means = pcm.iter().map(|[left, right]| f32::midpoint(*left, *right));
            self.pcm.extend(means.map(to_i16));
        } else {
            self.pcm
                .extend(pcm.iter().flatten().map(|sample| to_i16(*sample)));
        }
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
