//! The instruments against a known good path, without the server: a clip pushed by ffmpeg to nginx and recorded there.

use std::process::Command;
use std::time::Duration;

use e2e::analysis::tracks::Unit;
use e2e::analysis::{channel, decode, pictures, sync, tone, tracks};
use e2e::capture::read_flv;
use e2e::clip::{self, Clip, read_code};
use e2e::run::destination::NginxRtmp;
use e2e::run::process::Process;
use e2e::run::tools;

#[tokio::test]
async fn a_pushed_clip_is_measured_right() -> anyhow::Result<()> {
    let clip = Clip {
        seconds: 4,
        slices: 3,
        ..Clip::default()
    };
    let file = clip::clip(&clip)?;
    let sent = decode::coded_pictures(&file)?;
    assert_eq!(sent.len(), 120);
    assert!(
        sent.iter().all(|picture| picture.len() == 3),
        "3 slices each"
    );

    let nginx = NginxRtmp::start().await?;
    let mut push = Command::new(tools::ffmpeg9()?);
    push.args(["-v", "error", "-i"]).arg(&file);
    push.args([
        "-c:v",
        "copy",
        "-c:a",
        "aac",
        "-b:a",
        "128k",
        "-f",
        "flv",
        &nginx.url("demo"),
    ]);
    let status = Process::start("ffmpeg", &mut push)?
        .end(Duration::from_secs(20))
        .await?;
    assert!(status.success());
    let recording = nginx.recordings()?.pop().expect("one recording");

    decode::without_errors(&recording)?;
    let found = tracks::Tracks::of(&read_flv(&std::fs::read(&recording)?)?)?;
    tracks::strictly_increasing(&found.video)?;
    tracks::contiguous(&found.audio)?;
    let received = pictures::slices(&found.video)?;
    assert_eq!(pictures::is_contiguous_run(&received, &sent)?, 0);
    assert_eq!(received.len(), sent.len());

    let luma = decode::luma(&recording, clip.size)?;
    let numbers: Vec<_> = luma
        .iter()
        .map(|luma| read_code(luma, clip.size.width))
        .collect();
    assert_eq!(numbers, (0..120).map(Some).collect::<Vec<_>>());

    let sound = decode::sound(&recording)?;
    assert_eq!(sound.len(), found.audio.len() * 1024);
    // The encoder pads its last frame with silence.
    let whole = &channel(&sound, 0)[..4 * 48_000];
    let defects = tone::listen(whole, 4_800);
    assert!(
        defects.clicks.is_empty() && defects.gaps.is_empty(),
        "{defects:?}"
    );

    let times: Vec<f64> = found.video.iter().map(Unit::pts_s).collect();
    let flashes = sync::flashes(&luma, &times, clip.size);
    let beeps = sync::beeps(&channel(&sound, 1), found.audio[0].pts_s());
    let offsets = sync::offsets(&flashes, &beeps);
    assert_eq!(offsets.len(), 3);
    // ffmpeg shifts its timestamps by what its encoder delays: sound and picture meet again.
    for offset in offsets {
        assert!(offset.abs() < 0.012, "{offset}");
    }
    Ok(())
}
