//! libopus, decoding and encoding.

use bytes::Bytes;
use media::opus::MAX_SAMPLES;
use opus::{Application, Bitrate, Channels, Decoder, Encoder};

use super::{Decode, EncodePacket, Frame, PACKET_SAMPLES, to_i16};
use crate::Error;

/// How much libopus encoders look ahead at 48 kHz (6.5 ms) unless they are in their restricted low-delay mode. An RTP
/// timestamp is that of the first sample that went into the encoder (RFC 7587 §4.1), which comes out this much later.
const LOOKAHEAD_SAMPLES: u32 = 312;

/// A packet of one frame is never longer (RFC 6716 §3.4).
const MAX_PACKET_BYTES: usize = 1_276;
/// The loss, in per cent, that the encoder prepares for where its mode can carry error correction.
const EXPECTED_LOSS_PERCENT: i32 = 5;

const DECODER: &str = "Opus decoder";
const ENCODER: &str = "Opus encoder";

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
            decoder: Decoder::new(48_000, Channels::Stereo).map_err(error(DECODER))?,
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
        let decoded = self
            .decoder
            .decode(packet, pcm, recover)
            .map_err(error(DECODER))?;
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

/// Encodes stereo at 48 kHz for listeners in real time.
pub(crate) struct OpusEncoder {
    encoder: Encoder,
    pcm: Vec<i16>,
    out: Box<[u8; MAX_PACKET_BYTES]>,
}

impl std::fmt::Debug for OpusEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpusEncoder").finish_non_exhaustive()
    }
}

impl OpusEncoder {
    /// # Errors
    /// [`Error::Codec`] when the library refuses the bit rate.
    pub(crate) fn new(bitrate_bps: u32) -> Result<Self, Error> {
        let failed = error(ENCODER);
        let bitrate = Bitrate::Bits(i32::try_from(bitrate_bps).unwrap_or(i32::MAX));
        // A program may be music: the mode for voice alone would spoil it.
        let mut encoder =
            Encoder::new(48_000, Channels::Stereo, Application::Audio).map_err(&failed)?;
        encoder.set_bitrate(bitrate).map_err(&failed)?;
        encoder.set_inband_fec(true).map_err(&failed)?;
        encoder
            .set_packet_loss_perc(EXPECTED_LOSS_PERCENT)
            .map_err(&failed)?;
        Ok(Self {
            encoder,
            pcm: Vec::with_capacity(2 * PACKET_SAMPLES),
            out: Box::new([0; MAX_PACKET_BYTES]),
        })
    }
}

impl EncodePacket for OpusEncoder {
    fn encode(&mut self, pcm: &[Frame]) -> Result<Bytes, Error> {
        self.pcm.clear();
        self.pcm
            .extend(pcm.iter().flatten().map(|sample| to_i16(*sample)));
        let length = self
            .encoder
            .encode(&self.pcm, self.out.as_mut_slice())
            .map_err(error(ENCODER))?;
        let packet = self.out.get(..length).unwrap_or_default();
        Ok(Bytes::copy_from_slice(packet))
    }
}

fn error(codec: &'static str) -> impl Fn(opus::Error) -> Error {
    move |error| Error::Codec {
        codec,
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
    pub(crate) struct BrowserEncoder(Encoder);

    impl BrowserEncoder {
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
