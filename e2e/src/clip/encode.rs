//! Encoding of drawn frames and sounds into a clip that publishers can send as it is: constrained-baseline H.264 and
//! Opus in Matroska.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::{PictureSize, SAMPLE_RATE, Sound, draw, samples};
use crate::run::tools;

/// Samples that libopus puts in front of what it encodes at 48 kHz (RFC 7845 §4.2 calls them pre-skip).
const OPUS_PRE_SKIP: usize = 312;

/// What a clip is to contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clip {
    /// Picture size.
    pub size: PictureSize,
    /// Frames per second.
    pub fps: u32,
    /// Length.
    pub seconds: u32,
    /// Frames from one keyframe to the next.
    pub gop: u32,
    /// Slices of each picture.
    pub slices: u32,
    /// Video bit rate.
    pub video_kbps: u32,
    /// The sound.
    pub sound: Sound,
}

impl Default for Clip {
    /// 640x360 at 30 fps and 1 Mb/s, a keyframe each half second, tone and beeps.
    fn default() -> Self {
        Self {
            size: PictureSize {
                width: 640,
                height: 360,
            },
            fps: 30,
            seconds: 12,
            gop: 15,
            slices: 1,
            video_kbps: 1_000,
            sound: Sound::ToneAndBeeps,
        }
    }
}

impl Clip {
    fn file_name(&self) -> String {
        let Self {
            size,
            fps,
            seconds,
            gop,
            slices,
            video_kbps,
            sound,
        } = self;
        let PictureSize { width, height } = size;
        format!(
            "{width}x{height}-{fps}fps-{seconds}s-gop{gop}-{slices}sl-{video_kbps}k-{sound:?}-whole.mkv"
        )
        .to_lowercase()
    }
}

/// The file of a clip, made the first time it is asked for.
///
/// # Errors
/// When ffmpeg is missing or fails.
pub fn clip(clip: &Clip) -> anyhow::Result<PathBuf> {
    let file = crate::cache_folder()?.join(clip.file_name());
    if !file.exists() {
        // Written aside and renamed: another test may want the same clip at the same time.
        let scratch = tempfile::tempdir_in(crate::cache_folder()?)?;
        let made = scratch.path().join("clip.mkv");
        encode(clip, scratch.path(), &made)
            .with_context(|| format!("cannot make {}", clip.file_name()))?;
        fs::rename(made, &file)?;
    }
    Ok(file)
}

/// The same coded pictures and sound in an MPEG transport stream: start codes instead of lengths, as some clients want.
///
/// # Errors
/// When ffmpeg is missing or fails.
pub fn transport_stream(clip: &Path) -> anyhow::Result<PathBuf> {
    let file = clip.with_extension("ts");
    if !file.exists() {
        let scratch = tempfile::tempdir_in(crate::cache_folder()?)?;
        let made = scratch.path().join("clip.ts");
        let mut ffmpeg = Command::new(tools::ffmpeg9()?);
        ffmpeg
            .args(["-v", "error", "-i"])
            .arg(clip)
            .args(["-c", "copy", "-f", "mpegts"])
            .arg(&made);
        ensure!(ffmpeg.status()?.success(), "ffmpeg failed");
        fs::rename(made, &file)?;
    }
    Ok(file)
}

fn encode(clip: &Clip, scratch: &Path, out: &Path) -> anyhow::Result<()> {
    let sound = scratch.join("sound.f32");
    let mut samples = samples(clip.sound, clip.seconds);
    // With what libopus puts in front, sound is as long as the picture: played in a loop, it goes on without a hole.
    samples.truncate(samples.len().saturating_sub(OPUS_PRE_SKIP));
    fs::write(&sound, interleaved(&samples))?;
    let PictureSize { width, height } = clip.size;
    let gop = clip.gop.to_string();
    let rate = format!("{}k", clip.video_kbps);
    let buffer = format!("{}k", clip.video_kbps / 2);
    let x264 = format!(
        "slices={}:sliced-threads=0:scenecut=0:force-cfr=1",
        clip.slices
    );
    let mut ffmpeg = Command::new(tools::ffmpeg9()?)
        .args(["-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "yuv420p"])
        .args([
            "-s",
            &format!("{width}x{height}"),
            "-r",
            &clip.fps.to_string(),
            "-i",
            "-",
        ])
        .args([
            "-f",
            "f32le",
            "-ar",
            &SAMPLE_RATE.to_string(),
            "-ac",
            "2",
            "-i",
        ])
        .arg(&sound)
        .args([
            "-c:v",
            "libx264",
            "-profile:v",
            "baseline",
            "-preset",
            "veryfast",
            "-tune",
            "zerolatency",
        ])
        .args(["-g", &gop, "-keyint_min", &gop, "-x264-params", &x264])
        .args(["-b:v", &rate, "-maxrate", &rate, "-bufsize", &buffer])
        .args(["-c:a", "libopus", "-b:a", "128k", "-application", "audio"])
        .arg(out)
        .stdin(Stdio::piped())
        .spawn()?;
    let mut frames = ffmpeg.stdin.take().context("stdin is piped")?;
    for number in 0..clip.fps * clip.seconds {
        frames.write_all(&draw(clip.size, clip.fps, number))?;
    }
    drop(frames);
    ensure!(ffmpeg.wait()?.success(), "ffmpeg failed");
    Ok(())
}

fn interleaved(samples: &[[f32; 2]]) -> Vec<u8> {
    samples
        .iter()
        .flatten()
        .flat_map(|sample| sample.to_le_bytes())
        .collect()
}
