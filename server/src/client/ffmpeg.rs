//! Where a clip comes from: the binary itself, or a file read through ffmpeg.
//!
//! ffmpeg only changes the container of files that already hold H.264 without B-frames and Opus; what fits is copied,
//! what does not is encoded. Its output is read while it is produced, so that long files start at once.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use super::clip::Clip;
use super::mp4::Reader;

const READ_BYTES: usize = 256 << 10;
/// Encoder settings that every WebRTC receiver can take: constrained baseline, a keyframe per second.
const ENCODE_VIDEO: &[&str] = &[
    "-c:v",
    "libx264",
    "-profile:v",
    "baseline",
    "-preset",
    "veryfast",
    "-tune",
    "zerolatency",
    "-pix_fmt",
    "yuv420p",
    "-b:v",
    "2500k",
    "-maxrate",
    "2500k",
    "-bufsize",
    "2500k",
    "-force_key_frames",
    "expr:gte(t,n_forced)",
];
const ENCODE_AUDIO: &[&str] = &[
    "-c:a",
    "libopus",
    "-b:a",
    "96k",
    "-ac",
    "2",
    "-ar",
    "48000",
    "-frame_duration",
    "20",
];
const CONTAINER: &[&str] = &[
    "-movflags",
    "+empty_moov+default_base_moof+frag_keyframe",
    "-f",
    "mp4",
];

/// A clip that is complete in memory, such as the demo clip.
///
/// # Errors
/// When the bytes are not fragmented MP4 with both tracks.
pub(super) fn from_bytes(bytes: &[u8]) -> anyhow::Result<Arc<Clip>> {
    let mut reader = Reader::default();
    reader.push(bytes)?;
    let video = reader.streams().and_then(|streams| streams.video.clone());
    let clip = Clip::new(video.context("there is no H.264 video")?);
    anyhow::ensure!(!reader.is_reordered(), "the video has B-frames");
    clip.extend(reader.take_rest())?;
    clip.complete()?;
    Ok(Arc::new(clip))
}

/// A clip from a file, read in the background.
///
/// # Errors
/// When the file cannot be read, or needs ffmpeg and there is none.
pub(super) async fn from_file(file: &Path) -> anyhow::Result<Arc<Clip>> {
    anyhow::ensure!(file.is_file(), "there is no file {}", file.display());
    let installed = Command::new("ffmpeg")
        .arg("-version")
        .stdout(Stdio::null())
        .status()
        .await;
    if installed.is_err() {
        let bytes = tokio::fs::read(file).await?;
        return from_bytes(&bytes).with_context(|| conversion_hint(file));
    }
    let mut plan = Plan {
        copy_video: true,
        copy_audio: true,
        silence: false,
    };
    // Two guesses at most are wrong: copying both, then what the header or the first pictures told
    for _ in 0..3 {
        let mut source = Source::start(file, plan)?;
        match source.probe(plan).await? {
            Verdict::Good(clip) => {
                tokio::spawn(source.pump(Arc::clone(&clip)));
                return Ok(clip);
            }
            Verdict::Retry(better) => plan = better,
        }
    }
    anyhow::bail!("ffmpeg cannot read a picture from {}", file.display())
}

/// What to do with each stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    copy_video: bool,
    copy_audio: bool,
    silence: bool,
}

enum Verdict {
    Good(Arc<Clip>),
    Retry(Plan),
}

/// A running ffmpeg and what has been read from it.
struct Source {
    child: Child,
    output: BufReader<ChildStdout>,
    reader: Reader,
}

impl Source {
    fn start(file: &Path, plan: Plan) -> anyhow::Result<Self> {
        let mut command = Command::new("ffmpeg");
        command
            .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-i"])
            .arg(file);
        if plan.silence {
            command.args([
                "-f",
                "lavfi",
                "-i",
                "anullsrc=r=48000:cl=stereo",
                "-shortest",
            ]);
            command.args(["-map", "0:v:0", "-map", "1:a"]);
        } else {
            command.args(["-map", "0:v:0", "-map", "0:a:0?"]);
        }
        command.args(if plan.copy_video {
            &["-c:v", "copy"]
        } else {
            ENCODE_VIDEO
        });
        command.args(if plan.copy_audio {
            &["-c:a", "copy"]
        } else {
            ENCODE_AUDIO
        });
        command.args(CONTAINER).arg("pipe:1");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        if plan.copy_video && plan.copy_audio {
            command.stderr(Stdio::null()); // a first guess that may well be wrong
        }
        let mut child = command.spawn().context("cannot start ffmpeg")?;
        let output = child.stdout.take().context("ffmpeg has no output")?;
        Ok(Self {
            child,
            output: BufReader::new(output),
            reader: Reader::default(),
        })
    }

    /// Reads until the first pictures and sounds are there, and judges them.
    async fn probe(&mut self, plan: Plan) -> anyhow::Result<Verdict> {
        loop {
            let more = self.read().await?;
            let units = self.reader.take_ready();
            let Some(streams) = self.reader.streams() else {
                if more {
                    continue;
                }
                // ffmpeg could not store what it was told to copy
                anyhow::ensure!(plan.copy_video, "ffmpeg cannot convert this file");
                return Ok(Verdict::Retry(Plan {
                    copy_video: false,
                    copy_audio: false,
                    ..plan
                }));
            };
            let profile = streams
                .video
                .as_ref()
                .map(media::h264::Config::profile_level);
            let fits = matches!(profile, Some([66 | 77, _, _])) && !self.reader.is_reordered();
            let better = Plan {
                copy_video: plan.copy_video && fits,
                copy_audio: plan.copy_audio && streams.audio,
                silence: plan.silence || (!plan.copy_audio && !streams.audio),
            };
            if better != plan {
                return Ok(Verdict::Retry(better));
            }
            if units.is_empty() && more {
                continue;
            }
            let config = streams.video.clone().context("ffmpeg made no H.264")?;
            let clip = Arc::new(Clip::new(config));
            clip.extend(units)?;
            return Ok(Verdict::Good(clip));
        }
    }

    /// Reads on; whether there may be more.
    async fn read(&mut self) -> anyhow::Result<bool> {
        let mut chunk = vec![0; READ_BYTES];
        let length = self.output.read(&mut chunk).await?;
        self.reader.push(chunk.get(..length).unwrap_or_default())?;
        Ok(length > 0)
    }

    /// Reads the rest of the file into the clip.
    async fn pump(mut self, clip: Arc<Clip>) {
        if let Err(error) = self.pump_all(&clip).await {
            clip.fail(format!("{error:#}"));
        }
    }

    async fn pump_all(&mut self, clip: &Clip) -> anyhow::Result<()> {
        while self.read().await? {
            clip.extend(self.reader.take_ready())?;
            anyhow::ensure!(
                !self.reader.is_reordered(),
                "the video has B-frames further on: convert it first"
            );
        }
        clip.extend(self.reader.take_rest())?;
        let status = self.child.wait().await?;
        anyhow::ensure!(status.success(), "ffmpeg failed ({status})");
        clip.complete()
    }
}

/// What to type where there is an ffmpeg.
fn conversion_hint(file: &Path) -> String {
    let words = ENCODE_VIDEO.iter().chain(ENCODE_AUDIO).chain(CONTAINER);
    let settings: Vec<&str> = words.copied().collect();
    format!(
        "{name} cannot be sent as it is, and ffmpeg is not installed here. Either `apt-get install ffmpeg`, or convert \
         the file elsewhere:\n  ffmpeg -i {name} {settings} clip.mp4\nReason",
        name = file.display(),
        settings = settings.join(" "),
    )
}
