//! WHIP clients of independent make. ffmpeg and Chromium are in every other test.

use std::time::Duration;

use anyhow::ensure;
use e2e::analysis::{decode, pictures, tracks};
use e2e::capture::FlvViewer;
use e2e::clip::{self, Clip};
use e2e::run::anchor::{Anchor, Options};
use e2e::run::{eventually, ports, whip};

use crate::support::{Recording, SOON, largest_step_ms};

#[tokio::test]
async fn aiortc_publishes() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    anchor.create_channel("demo", &[]).await?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    let file = clip::clip(&Clip::default())?;
    let mut host = whip::aiortc(&anchor.whip("demo"), &clip::transport_stream(&file)?, 6)?;
    let ended = host.end(Duration::from_secs(40)).await?;
    ensure!(
        ended.success(),
        "{}\n{}",
        host.tail(),
        anchor.process.tail()
    );

    let recording = Recording::of(&viewer.tags())?;
    let found = &recording.tracks;
    assert!(
        found.video.len() >= 150,
        "{} pictures of 6 s",
        found.video.len()
    );
    pictures::is_contiguous_run(
        &pictures::slices(&found.video)?,
        &decode::coded_pictures(&file)?,
    )?;
    tracks::strictly_increasing(&found.video)?;
    tracks::on_the_sample_clock(&found.audio)?;
    decode::without_errors(&recording.file)
}

/// GStreamer's whipsink is built by `make interop`: its plugin is in no Debian package.
#[tokio::test]
async fn gstreamer_publishes() -> anyhow::Result<()> {
    let Some(mut command) = whip::gstreamer_command()? else {
        whip::skipped("GStreamer's whipsink is not built: make interop");
        return Ok(());
    };
    // Its ICE agent passes over loopback: the WebRTC port is open to all addresses, which takes a secret.
    let webrtc = ports::free()?;
    let mut options = Options::default().set("channels", "auto_create = true");
    options.webrtc = Some(format!("0.0.0.0:{webrtc}"));
    options.environment.push((
        "ANCHORNET_AUTH_SECRET",
        "a secret of this test and nobody else".to_owned(),
    ));
    let anchor = Anchor::start_with(options).await?;
    let token = anchor.token("publish")?;
    let host = whip::gstreamer(&mut command, &anchor.whip("demo"), &token)?;
    let viewer = eventually("stream of the new channel", SOON, async || {
        FlvViewer::connect(&anchor.flv("demo")).await
    });
    let viewer = viewer
        .await
        .map_err(|error| error.context(format!("{}\n{}", host.tail(), anchor.process.tail())))?;
    let got = viewer.wait_for_pictures(150, Duration::from_secs(30)).await;
    got.map_err(|error| error.context(format!("{}\n{}", host.tail(), anchor.process.tail())))?;
    let recording = Recording::of(&viewer.tags())?;
    let found = &recording.tracks;
    tracks::strictly_increasing(&found.video)?;
    tracks::on_the_sample_clock(&found.audio)?;
    assert!(largest_step_ms(&found.video) <= 200);
    decode::without_errors(&recording.file)
}

#[tokio::test]
async fn ffmpeg_publishes_over_ipv6() -> anyhow::Result<()> {
    let options = Options {
        webrtc: Some(format!("[::1]:{}", ports::free()?)),
        ..Options::default()
    };
    let anchor = Anchor::start_with(options).await?;
    anchor.create_channel("demo", &[]).await?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    let file = clip::clip(&Clip::default())?;
    let host = whip::ffmpeg(&anchor.whip("demo?participant=ann"), &file, true)?;
    let got = viewer.wait_for_pictures(60, SOON).await;
    got.map_err(|error| error.context(format!("{}\n{}", host.tail(), anchor.process.tail())))?;
    decode::without_errors(&Recording::of(&viewer.tags())?.file)
}
