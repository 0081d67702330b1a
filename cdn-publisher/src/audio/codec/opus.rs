//! libopus, decoding.

use media::opus::MAX_SAMPLES;
use opus::{Channels, Decoder};

use super::{Decode, Frame};
use crate::Error;

/// How much libopus encoders look ahead at 48 kHz (6.5 ms) unless they are in their restricted low-delay mode. An RTP
/// timestamp is that of the first sample that went into the encoder (RFC 7587 §4.1), which comes out this much later.
const LOOKAHEAD_SAMPLES: u32 = 312;

const MAX_VALUES: usize = 2 * MAX_SAMPLES as usize;

/// Decodes to stereo at 48 kHz, whatever the packets are.
pub(crate) struct OpusDecoder {
    decoder: Decoder,
    /// 16 bits and not floats, because libopus then limits softly what exceeds full scale.
    scratch: Box<[i16; MAX_VALUES]>,
}

impl std::fmt::Debug for OpusDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpusDecoder").finish_non_exhaustive()
    }
}

impl OpusDecoder {
    /// # Errors
    /// [`Error::Codec`] when out of memory.
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self {
            decoder: Decoder::new(48_000, Channels::Stereo).map_err(error)?,
            scratch: Box::new([0; MAX_VALUES]),
        })
    }

    fn run(
        &mut self,
        packet: &[u8],
        samples: usize,
        recover: bool,
        out: &mut Vec<Frame>,
    ) -> Result<(), Error> {
        let room = (2 * samples).min(MAX_VALUES);
        let pcm = self.scratch.get_mut(..room).unwrap_or_default();
        let decoded = self.decoder.decode(packet, pcm, recover).map_err(error)?;
        let pcm = self.scratch.get(..2 * decoded).unwrap_or_default();
        out.extend(pcm.chunks_exact(2).map(|pair| match pair {
            &[left, right] => [f32::from(left), f32::from(right)],
            _ => [0.0; 2],
        }));
        Ok(())
    }
}

impl Decode for OpusDecoder {
    fn decode(&mut self, packet: &[u8], out: &mut Vec<Frame>) -> Result<(), Error> {
        self.run(packet, MAX_SAMPLES as usize, false, out)
    }

    fn recover(&mut self, next: &[u8], samples: usize, out: &mut Vec<Frame>) -> Result<(), Error> {
        self.run(next, samples, true, out)
    }

    fn conceal(&mut self, samples: usize, out: &mut Vec<Frame>) -> Result<(), Error> {
        self.run(&[], samples, false, out)
    }

    fn delay_samples(&self) -> u32 {
        LOOKAHEAD_SAMPLES
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "used as a function in map_err"
)]
fn error(error: opus::Error) -> Error {
    Error::Codec {
        codec: "Opus decoder",
        detail: error.to_string(),
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! An Opus encoder as browsers configure it, for tests.

    use bytes::Bytes;
    use opus::{Application, Bitrate, Channels, Encoder};

    use crate::audio::codec::{Frame, to_i16};

    /// 20 ms packets of stereo.
    pub(crate) struct OpusEncoder(Encoder);

    impl OpusEncoder {
        pub(crate) fn new(bitrate_bps: i32, fec: bool, dtx: bool) -> Self {
            let mode = if dtx {
                Application::Voip
            } else {
                Application::Audio
            };
            let mut encoder = Encoder::new(48_000, Channels::Stereo, mode).unwrap();
            encoder.set_bitrate(Bitrate::Bits(bitrate_bps)).unwrap();
            encoder.set_inband_fec(fec).unwrap();
            encoder
                .set_packet_loss_perc(if fec { 20 } else { 0 })
                .unwrap();
            encoder.set_dtx(dtx).unwrap();
            Self(encoder)
        }

        pub(crate) fn lookahead(&mut self) -> u32 {
            u32::try_from(self.0.get_lookahead().unwrap()).unwrap()
        }

        pub(crate) fn encode(&mut self, pcm: &[Frame]) -> Bytes {
            let pcm: Vec<i16> = pcm.iter().flatten().map(|sample| to_i16(*sample)).collect();
            Bytes::from(self.0.encode_vec(&pcm, 4_000).unwrap())
        }
    }
}
