//! Broadcasters who come and go without end, half of them without a word: nothing stays behind, and the show goes on.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use e2e::analysis::{decode, pictures, tracks};
use e2e::capture::FlvViewer;
use e2e::clip::{self, Clip, PictureSize};
use e2e::run::anchor::{Anchor, Options};
use e2e::run::process::report;
use e2e::run::{eventually, whip};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::support::{Recording, SOON, largest_step_ms};

/// How many sessions come; `ANCHORNET_CHURN` sets another number.
const SESSIONS: usize = 90;
/// The first of them find the memory that a node settles at.
const SETTLING: usize = 30;
/// How many there are at the same time.
const AT_ONCE: usize = 6;
/// Channels that they come to.
const CHANNELS: usize = 12;

/// A value of `/metrics`; 0 while there is none.
async fn gauge(anchor: &Anchor, name: &str) -> anyhow::Result<f64> {
    let metrics = reqwest::get(anchor.url("/metrics")).await?.text().await?;
    let line = metrics
        .lines()
        .find(|line| line.starts_with(&format!("{name} ")));
    let Some(value) = line.and_then(|line| line.rsplit(' ').next()) else {
        return Ok(0.0);
    };
    Ok(value.parse()?)
}

/// Comes to a channel with a short clip, also when the channel is just ending because its last one left; every other one
/// vanishes once it is live.
async fn come_and_go(
    anchor: &Anchor,
    number: usize,
    [short, long]: &[PathBuf; 2],
) -> anyhow::Result<()> {
    let channel = number % CHANNELS;
    let url = anchor.whip(&format!("churn-{channel}?participant=p{number}&role=guest"));
    if number.is_multiple_of(2) {
        let mut client = whip::anchornet(&url, short)?;
        let ended = client.end(Duration::from_secs(30)).await?;
        ensure!(ended.success(), "{number}: {}", client.tail());
        return Ok(());
    }
    let mut client = whip::anchornet(&url, long)?;
    eventually("connection", SOON, async || {
        let said = client.output();
        ensure!(
            said.iter().any(|line| line.contains("\"live\":1")),
            "not yet"
        );
        Ok(())
    })
    .await
    .map_err(|error| error.context(client.tail()))?;
    client.kill().await
}

async fn churn(anchor: &Anchor, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    let clip = |seconds| {
        clip::clip(&Clip {
            size: PictureSize {
                width: 320,
                height: 180,
            },
            seconds,
            video_kbps: 300,
            ..Clip::default()
        })
    };
    let clips = [clip(2)?, clip(12)?];
    let sessions = numbers.map(|number| come_and_go(anchor, number, &clips));
    stream::iter(sessions)
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    // Those who vanished are given up.
    eventually("end of all sessions but the host's", SOON, async || {
        let sessions = gauge(anchor, "anchornet_sfu_sessions").await?;
        ensure!(sessions <= 1.0, "{sessions} sessions");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn who_comes_and_goes_leaves_nothing_behind() -> anyhow::Result<()> {
    let sessions = std::env::var("ANCHORNET_CHURN").ok();
    let sessions = sessions
        .and_then(|text| text.parse().ok())
        .unwrap_or(SESSIONS);
    let options = Options::default()
        .set("http", "sessions_per_minute_per_ip = 0")
        .set("webrtc", "session_timeout_ms = 3000");
    let anchor = Anchor::start_with(options).await?;
    anchor.create_channel("demo", &[]).await?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    let file = clip::clip(&Clip::default())?;
    let _host = whip::ffmpeg(&anchor.whip("demo?participant=host&role=host"), &file, true)?;
    viewer.wait_for_pictures(60, SOON).await?;

    churn(&anchor, 0..SETTLING).await?;
    let before_kib = anchor.resident_kib()?;
    churn(&anchor, SETTLING..sessions).await?;
    let after_kib = anchor.resident_kib()?;
    report(&format!(
        "{sessions} sessions: {before_kib} KiB, then {after_kib} KiB"
    ));
    // A leak of sessions grows with their number, the slack of an allocator does not: few of them tell less.
    let percent = if sessions < 200 { 110 } else { 105 };
    ensure!(
        after_kib * 100 <= before_kib * percent,
        "memory grew from {before_kib} to {after_kib} KiB"
    );

    let recording = Recording::of(&viewer.tags())?;
    let found = &recording.tracks;
    pictures::is_contiguous_run(
        &pictures::slices(&found.video)?,
        &decode::coded_pictures(&file)?,
    )?;
    tracks::on_the_sample_clock(&found.audio)?;
    ensure!(largest_step_ms(&found.video) <= 67, "pictures came late");
    ensure!(anchor.panics().is_empty(), "{:?}", anchor.panics());
    Ok(())
}
