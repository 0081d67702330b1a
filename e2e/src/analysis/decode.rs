//! Decoding by ffmpeg, strictly: a decoder error is a failure, never repaired in silence.

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::pictures::{Slices, annexb_slices};
use crate::clip::{PictureSize, read_code};
use crate::run::tools;

/// Runs ffmpeg on a file and gives what it writes; anything it complains about is an error.
fn ffmpeg<S: AsRef<OsStr>>(before: &[&str], input: &Path, after: &[S]) -> anyhow::Result<Vec<u8>> {
    let output = Command::new(tools::ffmpeg9()?)
        .args(["-v", "error", "-xerror", "-nostdin"])
        .args(before)
        .arg("-i")
        .arg(input)
        .args(after)
        .arg("-")
        .output()?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && complaints.is_empty(),
        "ffmpeg on {}: {complaints}",
        input.display()
    );
    Ok(output.stdout)
}

/// All samples, stereo at 48 kHz, without trimming what an encoder calls its delay: AAC frame `n` of an FLV gives
/// samples `n·1024..`, Opus packet `n` samples `n·960..`.
///
/// # Errors
/// When the decoder finds an error.
pub fn sound(file: &Path) -> anyhow::Result<Vec<[f32; 2]>> {
    let bytes = ffmpeg(
        &["-flags2", "skip_manual"],
        file,
        &["-vn", "-ac", "2", "-ar", "48000", "-f", "f32le"],
    )?;
    let samples = bytes.as_chunks::<8>().0.iter();
    let both = |&[a, b, c, d, e, f, g, h]: &[u8; 8]| {
        [
            f32::from_le_bytes([a, b, c, d]),
            f32::from_le_bytes([e, f, g, h]),
        ]
    };
    Ok(samples.map(both).collect())
}

/// The luma of every picture, in order of presentation, none dropped or repeated.
///
/// # Errors
/// When the decoder finds an error, or the pictures do not have this size.
pub fn luma(file: &Path, size: PictureSize) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut pictures = Vec::new();
    each_luma(file, size, |luma| pictures.push(luma.to_vec()))?;
    Ok(pictures)
}

/// Hands the luma of every picture to `each`, one at a time: long recordings do not fit into memory.
///
/// # Errors
/// When the decoder finds an error, or the pictures do not have this size.
pub fn each_luma(file: &Path, size: PictureSize, each: impl FnMut(&[u8])) -> anyhow::Result<()> {
    each_plane(file, size, "extractplanes=y", each)
}

/// The drawn numbers of pictures whose size may change; `None` where one cannot be read.
///
/// # Errors
/// When the decoder finds an error.
pub fn numbers(file: &Path) -> anyhow::Result<Vec<Option<u32>>> {
    const SIZE: PictureSize = PictureSize {
        width: 320,
        height: 180,
    };
    let mut numbers = Vec::new();
    each_plane(
        file,
        SIZE,
        "scale=320:180,format=yuv420p,extractplanes=y",
        |luma| {
            numbers.push(read_code(luma, SIZE.width));
        },
    )?;
    Ok(numbers)
}

fn each_plane(
    file: &Path,
    size: PictureSize,
    filter: &str,
    mut each: impl FnMut(&[u8]),
) -> anyhow::Result<()> {
    let mut decoder = Command::new(tools::ffmpeg9()?)
        .args(["-v", "error", "-xerror", "-nostdin", "-i"])
        .arg(file)
        .args(["-an", "-fps_mode", "passthrough", "-enc_time_base", "demux"])
        .args(["-vf", filter, "-pix_fmt", "gray"])
        .args(["-f", "rawvideo", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut planes = decoder.stdout.take().context("a pipe")?;
    let mut plane = vec![0; size.width * size.height];
    let mut filled = 0;
    loop {
        let read = planes.read(plane.get_mut(filled..).unwrap_or_default())?;
        if read == 0 {
            break;
        }
        filled += read;
        if filled == plane.len() {
            each(&plane);
            filled = 0;
        }
    }
    let output = decoder.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.trim().is_empty(), "{said}");
    ensure!(
        filled == 0,
        "pictures are not {} x {}",
        size.width,
        size.height
    );
    Ok(())
}

/// Decodes everything and fails on the first error.
///
/// # Errors
/// When the decoder finds one.
pub fn without_errors(file: &Path) -> anyhow::Result<()> {
    // On the file's own time base: pictures that come a little early or late are no error.
    let arguments = [
        "-fps_mode",
        "passthrough",
        "-enc_time_base",
        "demux",
        "-f",
        "null",
    ];
    ffmpeg(&["-err_detect", "explode"], file, &arguments).map(drop)
}

/// The coded slices of each picture of a file.
///
/// # Errors
/// When it has no H.264 track.
pub fn coded_pictures(file: &Path) -> anyhow::Result<Vec<Slices>> {
    Ok(annexb_slices(&ffmpeg(
        &[],
        file,
        &["-map", "0:v", "-c", "copy", "-f", "h264"],
    )?))
}

/// Presentation times in seconds of the packets of one stream (`v` or `a`) of a file.
///
/// # Errors
/// When there is no such stream.
pub fn packet_times(file: &Path, stream: char) -> anyhow::Result<Vec<f64>> {
    let map = format!("0:{stream}");
    let arguments = [
        "-map",
        &map,
        "-c",
        "copy",
        "-avoid_negative_ts",
        "disabled",
        "-f",
        "framecrc",
    ];
    let listing = String::from_utf8(ffmpeg(&["-copyts"], file, &arguments)?)?;
    let mut base = None;
    let mut times = Vec::new();
    for line in listing.lines() {
        if let Some(rate) = line.strip_prefix("#tb 0: ") {
            let (numerator, denominator) = rate.split_once('/').context("a time base")?;
            base = Some(numerator.parse::<f64>()? / denominator.parse::<f64>()?);
        } else if !line.starts_with('#') {
            let pts = line.split(',').nth(2).context("a presentation time")?;
            times.push(pts.trim().parse::<f64>()? * base.context("a time base")?);
        }
    }
    Ok(times)
}
