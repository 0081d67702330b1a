//! Direct AAC encodes: to compare the program's sound with, and of a kind that ffmpeg has no encoder for.

use anyhow::{anyhow, ensure};
use fdk_aac::enc::{AudioObjectType, BitRate, ChannelMode, Encoder, EncoderParams, Transport};

use super::decode;
use crate::clip::SAMPLE_RATE;

/// Samples by which the decoded encode lies behind its input.
pub const ENCODER_DELAY: usize = 2_048;
/// Samples of one frame.
pub const FRAME: usize = 1_024;

/// Encodes stereo samples to AAC-LC at `kbps`, a vector of ADTS frames.
///
/// # Errors
/// When the encoder refuses.
pub fn encode(samples: &[[f32; 2]], kbps: u32) -> anyhow::Result<Vec<Vec<u8>>> {
    encode_as(AudioObjectType::Mpeg4LowComplexity, FRAME, samples, kbps)
}

/// Encodes stereo samples to HE-AAC at `kbps`, a vector of ADTS frames that say nothing of it: AAC-LC at half the rate.
///
/// # Errors
/// When the encoder refuses.
pub fn encode_high_efficiency(samples: &[[f32; 2]], kbps: u32) -> anyhow::Result<Vec<Vec<u8>>> {
    encode_as(AudioObjectType::Mpeg4HeAac, 2 * FRAME, samples, kbps)
}

fn encode_as(
    audio_object_type: AudioObjectType,
    frame_samples: usize,
    samples: &[[f32; 2]],
    kbps: u32,
) -> anyhow::Result<Vec<Vec<u8>>> {
    let encoder = Encoder::new(EncoderParams {
        bit_rate: BitRate::Cbr(kbps * 1_000),
        sample_rate: SAMPLE_RATE,
        transport: Transport::Adts,
        channels: ChannelMode::Stereo,
        audio_object_type,
    })
    .map_err(|error| anyhow!("{error}"))?;
    let mut frames = Vec::new();
    let mut out = vec![0; 8_192];
    for frame in samples.chunks_exact(frame_samples) {
        let pcm: Vec<i16> = frame
            .iter()
            .flatten()
            .map(|sample| quantise(*sample))
            .collect();
        let info = encoder
            .encode(&pcm, &mut out)
            .map_err(|error| anyhow!("{error}"))?;
        ensure!(
            info.input_consumed == pcm.len(),
            "the encoder takes whole frames"
        );
        if info.output_size > 0 {
            frames.push(out.get(..info.output_size).unwrap_or_default().to_vec());
        }
    }
    Ok(frames)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "clamped to the range of i16"
)]
fn quantise(sample: f32) -> i16 {
    (sample.clamp(-1.0, 1.0) * 32_767.0).round() as i16
}

/// Decodes ADTS frames.
///
/// # Errors
/// When the decoder finds an error.
pub fn decode_adts(frames: &[Vec<u8>]) -> anyhow::Result<Vec<[f32; 2]>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("sound.aac");
    std::fs::write(&file, frames.concat())?;
    decode::sound(&file)
}

/// Encodes and decodes; sample `n` of the result is sample `n` of the input.
///
/// # Errors
/// As [`encode`] and [`decode_adts`].
pub fn round_trip(samples: &[[f32; 2]], kbps: u32) -> anyhow::Result<Vec<[f32; 2]>> {
    let decoded = decode_adts(&encode(samples, kbps)?)?;
    Ok(decoded.get(ENCODER_DELAY..).unwrap_or_default().to_vec())
}
