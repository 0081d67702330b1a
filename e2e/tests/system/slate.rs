//! The slate: what a producer chose is the program's picture while the host is away, for viewers of every kind.

use std::process::Command;

use anyhow::{Context as _, ensure};
use e2e::analysis::{decode, rtp, tracks};
use e2e::capture::FlvViewer;
use e2e::clip::PictureSize;
use e2e::run::anchor::{Anchor, Options};
use e2e::run::{tools, whip};
use reqwest::Method;
use serde_json::json;

use crate::collab::host_clip;
use crate::links::wait_for_source;
use crate::support::{Recording, SOON};
use crate::whep::said;

const HD: PictureSize = PictureSize {
    width: 640,
    height: 360,
};

/// A white PNG.
fn white() -> anyhow::Result<Vec<u8>> {
    let output = Command::new(tools::ffmpeg9()?)
        .args(["-v", "error", "-f", "lavfi", "-i", "color=white:size=64x36"])
        .args(["-frames:v", "1", "-c:v", "png", "-f", "image2pipe", "-"])
        .output()?;
    ensure!(output.status.success(), "ffmpeg makes no PNG");
    Ok(output.stdout)
}

/// How much of a picture is white.
fn whiteness(luma: &[u8]) -> f64 {
    let white = luma.iter().filter(|luma| **luma > 220).count();
    white as f64 / luma.len().max(1) as f64
}

#[tokio::test]
async fn a_producers_picture_stands_for_a_host_who_is_away() -> anyhow::Result<()> {
    let options = Options::default().set("mixer", "latency_ms = 600");
    let anchor = Anchor::start_with(options).await?;
    anchor.create_channel("demo", &[]).await?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    let url = anchor.whip("demo?participant=host");
    let mut host = whip::ffmpeg(&url, &host_clip()?, true)?;
    viewer.wait_for_pictures(30, SOON).await?;
    let folder = tempfile::tempdir()?;
    let mut real_time = whip::aiortc_recorder(&anchor.url("/whep/demo"), folder.path())?;
    said(&real_time, "playing").await?;

    let text = json!({ "text": "Back at 12:30" });
    let (status, answer) = anchor
        .send(Method::PUT, "/api/v1/channels/demo/slate", &text)
        .await?;
    ensure!(
        status == 200 && answer["text"] == "Back at 12:30",
        "{status} {answer}"
    );
    host.kill().await?;
    wait_for_source(&anchor, "demo", "slate").await?;
    let dark = viewer.pictures();
    viewer.wait_for_pictures(dark + 45, SOON).await?;

    // Changed while it is on air, and taken back
    let picture = anchor.url("/api/v1/channels/demo/pictures/slate");
    let client = reqwest::Client::new();
    let put = client.put(&picture).header("content-type", "image/png");
    let answer = put.body(white()?).send().await?;
    ensure!(answer.status() == 200, "{}", answer.text().await?);
    let channel = anchor.get("/api/v1/channels/demo").await?;
    ensure!(channel["slate"]["picture"]["width"] == 64, "{channel}");
    let light = viewer.pictures();
    viewer.wait_for_pictures(light + 60, SOON).await?;
    let answer = client.delete(&picture).send().await?;
    ensure!(answer.status() == 204, "{}", answer.text().await?);
    let again = viewer.pictures();
    viewer.wait_for_pictures(again + 60, SOON).await?;

    let _host = whip::ffmpeg(&url, &host_clip()?, true)?;
    wait_for_source(&anchor, "demo", "host").await?;
    let back = viewer.pictures();
    viewer.wait_for_pictures(back + 30, SOON).await?;
    real_time.stop(SOON).await?;

    let recording = Recording::of(&viewer.tags())?;
    tracks::strictly_increasing(&recording.tracks.video)?;
    tracks::contiguous(&recording.tracks.audio)?;
    let mut shown = Vec::new();
    decode::each_luma(&recording.file, HD, |luma| shown.push(whiteness(luma)))?;
    let at = |place: usize| shown.get(place).copied().context("too few pictures");
    ensure!(
        at(dark + 40)? < 0.2,
        "white before the upload: {:.2}",
        at(dark + 40)?
    );
    ensure!(at(again)? > 0.7, "not white after it: {:.2}", at(again)?);
    ensure!(
        at(back)? < 0.6,
        "white after it was taken away: {:.2}",
        at(back)?
    );

    // In real time the slate came too: pictures without a number, and none for long
    let seen = rtp::Recording::read(folder.path())?;
    let slate = seen
        .pictures
        .iter()
        .filter(|picture| picture.number.is_none());
    ensure!(
        slate.count() > 120,
        "{} pictures by WebRTC",
        seen.pictures.len()
    );
    ensure!(anchor.panics().is_empty(), "{:?}", anchor.panics());
    Ok(())
}
