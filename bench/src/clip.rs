//! Clips for broadcasters, drawn and coded by ffmpeg once and kept beside the results.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::process::Command;

/// What a clip is like: a moving test picture with noise, so that its bitrate is that of a camera, and a tone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clip {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) kbps: u32,
    /// Pictures from one IDR to the next, at 30 a second.
    pub(crate) gop: u32,
    pub(crate) seconds: u32,
}

impl Clip {
    /// A host of a usual channel: 720p30 at 2.5 Mb/s, an IDR every 2 s.
    pub(crate) const HOST: Self = Self {
        width: 1_280,
        height: 720,
        kbps: 2_500,
        gop: 60,
        seconds: 20,
    };

    /// The file (MP4 with constrained-baseline H.264 and Opus), made if it is not there.
    pub(crate) async fn file(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let Self {
            width,
            height,
            kbps,
            gop,
            seconds,
        } = self;
        let file = folder.join(format!("{width}x{height}-{kbps}k-{gop}-{seconds}s.mp4"));
        if file.is_file() {
            return Ok(file);
        }
        std::fs::create_dir_all(folder)?;
        let unfinished = folder.join(format!("unfinished-{}.mp4", std::process::id()));
        let picture = format!(
            "testsrc2=size={width}x{height}:rate=30:duration={seconds},noise=alls=6:allf=t"
        );
        let params = format!(
            "keyint={gop}:min-keyint={gop}:scenecut=0:bframes=0:sliced-threads=0:\
             vbv-maxrate={kbps}:vbv-bufsize={}",
            kbps / 2
        );
        let status = Command::new("ffmpeg")
            .args([
                "-hide_banner",
                "-loglevel",
                "error",
                "-y",
                "-f",
                "lavfi",
                "-i",
                &picture,
            ])
            .args(["-f", "lavfi", "-i"])
            .arg(format!(
                "sine=frequency=330:sample_rate=48000:duration={seconds}"
            ))
            .args([
                "-c:v",
                "libx264",
                "-preset",
                "veryfast",
                "-profile:v",
                "baseline",
            ])
            .args(["-pix_fmt", "yuv420p", "-b:v", &format!("{kbps}k")])
            .args([
                "-x264-params",
                &params,
                "-c:a",
                "libopus",
                "-b:a",
                "64k",
                "-ac",
                "2",
            ])
            .arg(&unfinished)
            .status()
            .await
            .context("ffmpeg is needed to make clips")?;
        anyhow::ensure!(status.success(), "ffmpeg cannot make {}", file.display());
        std::fs::rename(&unfinished, &file)?;
        Ok(file)
    }
}
