//! Programs that publish a clip by WHIP, and one that watches by WHEP.

use std::path::Path;
use std::process::Command;

use super::process::Process;
use super::tools;

/// Publishes `clip` in real time with ffmpeg 9, without re-encoding. With `repeat` it starts over without end.
///
/// ffmpeg cannot answer a request for a keyframe: the clip's own group of pictures decides when one comes.
///
/// # Errors
/// When ffmpeg is missing.
pub fn ffmpeg(url: &str, clip: &Path, repeat: bool) -> anyhow::Result<Process> {
    let mut command = Command::new(tools::ffmpeg9()?);
    command.args(["-hide_banner", "-nostats", "-v", "info", "-re"]);
    if repeat {
        command.args(["-stream_loop", "-1"]);
    }
    command
        .arg("-i")
        .arg(clip)
        .args(["-c", "copy", "-f", "whip", url]);
    Process::start("ffmpeg host", &mut command)
}

/// Publishes `clip` once with `anchornet publish`: every unit leaves at its own time, from the first on. It gives up when
/// the connection is lost.
///
/// # Errors
/// When the binary has not been built.
pub fn anchornet(url: &str, clip: &Path) -> anyhow::Result<Process> {
    anchornet_ahead(url, clip, 0)
}

/// As [`anchornet`], with a wall clock that is ahead by `ahead_s` seconds.
///
/// # Errors
/// When the binary has not been built.
pub fn anchornet_ahead(url: &str, clip: &Path, ahead_s: u32) -> anyhow::Result<Process> {
    let mut command = Command::new(tools::anchornet()?);
    command
        .arg("publish")
        .arg(clip)
        .args(["--whip", url, "--no-loop", "--no-retry", "--json"])
        .args(["--clock-ahead", &ahead_s.to_string()])
        .env_remove("RUST_LOG");
    Process::start("anchornet host", &mut command)
}

/// Publishes `clip` with aiortc for `seconds`, passing coded packets through.
///
/// # Errors
/// When aiortc is missing.
pub fn aiortc(url: &str, clip: &Path, seconds: u32) -> anyhow::Result<Process> {
    let script = crate::workspace().join("e2e/clients/aiortc_whip.py");
    let mut command = Command::new(tools::python()?);
    command
        .arg(script)
        .arg(url)
        .arg(clip)
        .arg(seconds.to_string());
    Process::start("aiortc host", &mut command)
}

/// Watches a participant at a WHEP URL with aiortc for `seconds`, decoding what comes.
///
/// # Errors
/// When aiortc is missing.
pub fn aiortc_viewer(url: &str, seconds: u32) -> anyhow::Result<Process> {
    let script = crate::workspace().join("e2e/clients/aiortc_whep.py");
    let mut command = Command::new(tools::python()?);
    command.arg(script).arg(url).arg(seconds.to_string());
    Process::start("aiortc viewer", &mut command)
}

/// Records what aiortc sees and hears at a WHEP URL, into `folder`, until it is told to stop.
///
/// # Errors
/// When aiortc is missing.
pub fn aiortc_recorder(url: &str, folder: &Path) -> anyhow::Result<Process> {
    let script = crate::workspace().join("e2e/clients/aiortc_record.py");
    let mut command = Command::new(tools::python()?);
    command.arg(script).arg(url).arg(folder);
    Process::start("aiortc recorder", &mut command)
}

/// The prefix of a command that runs GStreamer with its whipsink plugin; `None` when that plugin has not been built.
///
/// # Errors
/// When the plugin is there and GStreamer is not.
pub fn gstreamer_command() -> anyhow::Result<Option<Command>> {
    let plugins = crate::workspace().join("e2e/whipsink/target/plugin");
    if !plugins.join("libgstwebrtchttp.so").exists() {
        return Ok(None);
    }
    let mut command = Command::new(tools::system("gst-launch-1.0")?);
    command.env("GST_PLUGIN_PATH", &plugins).env(
        "GST_REGISTRY",
        crate::cache_folder()?.join("gst-registry.bin"),
    );
    Ok(Some(command))
}

/// Publishes a test picture and a tone with GStreamer.
///
/// # Errors
/// When it does not start.
pub fn gstreamer(command: &mut Command, url: &str, token: &str) -> anyhow::Result<Process> {
    let pipeline = "videotestsrc is-live=true ! video/x-raw,width=640,height=360,framerate=30/1 \
        ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=800 key-int-max=30 \
        ! video/x-h264,profile=constrained-baseline \
        ! rtph264pay config-interval=-1 aggregate-mode=zero-latency \
        ! application/x-rtp,media=video,encoding-name=H264,payload=96,clock-rate=90000 ! whip. \
        audiotestsrc is-live=true samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay \
        ! application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000,encoding-params=(string)2 \
        ! whip.";
    command.arg("-q").args([
        "whipsink",
        "name=whip",
        &format!("whip-endpoint={url}"),
        &format!("auth-token={token}"),
    ]);
    command.args(pipeline.split_whitespace());
    Process::start("gst-launch", command)
}

/// Watches a WHEP URL with GStreamer, decoding what comes: a line with `GstIdentity:one` or `GstIdentity:other` for each.
///
/// # Errors
/// When it does not start.
pub fn gstreamer_viewer(command: &mut Command, url: &str, token: &str) -> anyhow::Result<Process> {
    // Its pads come late and are linked in any order: which branch gets pictures is not known.
    let pipeline = "whep. ! decodebin ! identity name=one silent=false ! fakesink \
        whep. ! decodebin ! identity name=other silent=false ! fakesink";
    command.arg("-v").args([
        "whepsrc",
        "name=whep",
        &format!("whep-endpoint={url}"),
        &format!("auth-token={token}"),
        // Without a mode it offers whole units in packets only, which no picture of this size fits.
        "video-caps=application/x-rtp,media=video,encoding-name=H264,payload=103,clock-rate=90000,packetization-mode=(string)1",
        "audio-caps=application/x-rtp,media=audio,encoding-name=OPUS,payload=111,clock-rate=48000,encoding-params=(string)2",
    ]);
    command.args(pipeline.split_whitespace());
    Process::start("gst-launch viewer", command)
}

/// What Firefox offers: its `version`, and the SDP to `publish` and to `play`.
///
/// # Errors
/// When it cannot be driven.
pub fn firefox_offers(firefox: &Path) -> anyhow::Result<serde_json::Value> {
    let script = crate::workspace().join("e2e/clients/firefox_offer.py");
    let output = Command::new(tools::python()?)
        .arg(script)
        .arg(firefox)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{said}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Says that something was not tried, and why.
#[expect(clippy::print_stderr, reason = "the test runner shows it")]
pub fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}
