//! Programs that publish by RTMP, and the FLV files that they send.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;

use super::process::Process;
use super::tools;
use crate::analysis::{codec, decode};

/// How a clip is encoded for RTMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// B-frames in a row, at most.
    pub b_frames: u32,
    /// B-frames may refer to each other.
    pub pyramid: bool,
    /// Sampling rate of the sound.
    pub sample_rate_hz: u32,
    /// Pictures from one keyframe to the next.
    pub gop: u32,
    /// The sound is HE-AAC at 48 kHz.
    pub high_efficiency: bool,
}

impl Default for Encoding {
    /// What an encoder does that was set up for low latency.
    fn default() -> Self {
        Self {
            b_frames: 0,
            pyramid: false,
            sample_rate_hz: 48_000,
            gop: 15,
            high_efficiency: false,
        }
    }
}

/// A clip as x264 and ffmpeg's own AAC encoder make it, in an FLV file beside it; made the first time it is asked for.
///
/// # Errors
/// When ffmpeg is missing or fails.
pub fn encoded(clip: &Path, encoding: Encoding) -> anyhow::Result<PathBuf> {
    let Encoding {
        b_frames,
        pyramid,
        sample_rate_hz,
        gop,
        high_efficiency,
    } = encoding;
    let he = if high_efficiency { "-he" } else { "" };
    let pyramid = if pyramid { "normal" } else { "none" };
    let file = clip.with_extension(format!(
        "{b_frames}b-{pyramid}-{sample_rate_hz}{he}-gop{gop}.flv"
    ));
    if !file.exists() {
        let scratch = tempfile::tempdir_in(crate::cache_folder()?)?;
        let made = scratch.path().join("clip.flv");
        let x264 = format!(
            "bframes={b_frames}:b-pyramid={pyramid}:b-adapt=0:scenecut=0:keyint={gop}:min-keyint={gop}:threads=1"
        );
        let mut ffmpeg = Command::new(tools::ffmpeg9()?);
        ffmpeg.args(["-v", "error", "-y", "-i"]).arg(clip);
        if high_efficiency {
            let sound = scratch.path().join("sound.aac");
            let units = codec::encode_high_efficiency(&decode::sound(clip)?, 64)?;
            std::fs::write(&sound, units.concat())?;
            ffmpeg.arg("-i").arg(sound);
            ffmpeg.args(["-map", "0:v", "-map", "1:a"]);
        }
        ffmpeg.args(["-c:v", "libx264", "-preset", "veryfast", "-b:v", "1M"]);
        ffmpeg.args(["-x264-params", &x264]);
        if high_efficiency {
            ffmpeg.args(["-c:a", "copy"]);
        } else {
            ffmpeg.args(["-c:a", "aac", "-b:a", "128k"]);
            ffmpeg.args(["-ar", &sample_rate_hz.to_string()]);
        }
        ffmpeg.arg(&made);
        ensure!(ffmpeg.status()?.success(), "ffmpeg failed");
        std::fs::rename(made, &file)?;
    }
    Ok(file)
}

/// Publishes an FLV file in real time with ffmpeg, untouched. With `repeat` it starts over without end.
///
/// # Errors
/// When ffmpeg is missing.
pub fn ffmpeg(url: &str, file: &Path, repeat: bool) -> anyhow::Result<Process> {
    let mut command = Command::new(tools::ffmpeg9()?);
    command.args(["-hide_banner", "-nostats", "-v", "info", "-re"]);
    if repeat {
        command.args(["-stream_loop", "-1"]);
    }
    command.arg("-i").arg(file);
    command.args(["-c", "copy", "-f", "flv", url]);
    Process::start("ffmpeg RTMP host", &mut command)
}

/// Publishes a test picture and a tone with ffmpeg for half a minute, in these codecs.
///
/// # Errors
/// When ffmpeg is missing.
pub fn test_picture(url: &str, codecs: &str) -> anyhow::Result<Process> {
    let sources = "-f lavfi -i testsrc=size=320x180:rate=25 -f lavfi -i sine=sample_rate=48000";
    let mut command = Command::new(tools::ffmpeg9()?);
    command.args(["-hide_banner", "-nostats", "-v", "info", "-re"]);
    command.args(sources.split_whitespace());
    command.args(["-t", "30"]).args(codecs.split_whitespace());
    command.args(["-f", "flv", url]);
    Process::start("ffmpeg RTMP host", &mut command)
}

/// Publishes a test picture and a tone with GStreamer: x264 and voaacenc.
///
/// # Errors
/// When GStreamer is missing.
pub fn gstreamer(url: &str) -> anyhow::Result<Process> {
    let pipeline = "flvmux name=mux streamable=true ! rtmp2sink name=out \
        videotestsrc is-live=true ! video/x-raw,width=640,height=360,framerate=30/1 \
        ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=800 key-int-max=30 ! h264parse ! mux. \
        audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2 ! voaacenc ! aacparse ! mux.";
    let pipeline = pipeline.replace("name=out", &format!("location={url}"));
    let mut command = Command::new(tools::system("gst-launch-1.0")?);
    command.arg("-q").args(pipeline.split_whitespace());
    Process::start("gst-launch RTMP host", &mut command)
}
