//! Broadcasters who come and go without end, half of them without a word: nothing stays behind, and the show goes on.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::analysis::{decode, pictures, tracks};
use e2e::capture::FlvViewer;
use e2e::clip::{self, Clip, PictureSize};
use e2e::run::anchor::{Anchor, Options};
use e2e::run::process::report;
use e2e::run::{eventually, whip};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::support::{Recording, SOON, largest_step_ms};

/// How many sessions come; `ANCHORNET_CHURN` sets another number.
const SESSIONS: usize = 120;
/// Memory is looked at after every so many, with nobody left but the host.
const ROUND: usize = 30;
/// So many rounds find the memory that a node settles at. It grows by what the allocator holds of memory that was given back;
/// what is in use stays the same from the first round to the tenth (docs/performance.md).
const SETTLING: usize = 3;
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

/// Who has series of their own in `/metrics`, by participant.
async fn described(anchor: &Anchor) -> anyhow::Result<BTreeSet<String>> {
    let metrics = reqwest::get(anchor.url("/metrics")).await?.text().await?;
    let lines = metrics.lines();
    let lines = lines.filter(|line| line.starts_with("anchornet_track_packets_total{"));
    let names = lines.filter_map(|line| line.split("participant=\"").nth(1)?.split('"').next());
    Ok(names.map(str::to_owned).collect())
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
    // Those who vanished are given up, and the channels that nobody is in any more end.
    eventually("end of all but the host's", SOON, async || {
        let sessions = gauge(anchor, "anchornet_sfu_sessions").await?;
        let channels = gauge(anchor, "anchornet_channels").await?;
        ensure!(sessions <= 1.0, "{sessions} sessions");
        ensure!(channels <= 1.0, "{channels} channels");
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

    let mut resident_kib = Vec::new();
    for from in (0..sessions).step_by(ROUND) {
        churn(&anchor, from..(from + ROUND).min(sessions)).await?;
        resident_kib.push(anchor.resident_kib()?);
    }
    report(&format!("{sessions} sessions: {resident_kib:?} KiB"));
    let settled_kib = resident_kib.get(SETTLING - 1);
    let settled_kib = *settled_kib.context("a run of some rounds")?;
    let last_kib = resident_kib[resident_kib.len() - 1];
    let described = described(&anchor).await?;
    ensure!(
        described.iter().eq(["host"]),
        "series of who is gone: {described:?}"
    );
    ensure!(
        last_kib * 100 <= settled_kib * 105,
        "memory grew from {settled_kib} to {last_kib} KiB: {resident_kib:?}"
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
