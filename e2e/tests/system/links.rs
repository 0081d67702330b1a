//! Two channels in one show: one mix, coded once, in both programs.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::analysis::pictures::{Slices, slices};
use e2e::analysis::{decode, rtp, tracks};
use e2e::capture::FlvViewer;
use e2e::run::anchor::{Anchor, Options};
use e2e::run::{eventually, whip};
use reqwest::Method;
use serde_json::json;

use crate::collab::{guest_clip, guest_level, host_clip};
use crate::support::{Recording, SOON};
use crate::whep::said;

/// Waits until the program of a channel shows something.
pub(crate) async fn wait_for_source(
    anchor: &Anchor,
    channel: &str,
    source: &str,
) -> anyhow::Result<()> {
    let path = format!("/api/v1/channels/{channel}/stats");
    eventually(&format!("{channel} from {source}"), SOON, async || {
        let stats = anchor.get(&path).await?;
        ensure!(stats["program"]["source"] == source, "{stats}");
        Ok(())
    })
    .await
}

/// The anchor's child processes.
fn children(anchor: &Anchor) -> anyhow::Result<usize> {
    let mut count = 0;
    for task in std::fs::read_dir(format!("/proc/{}/task", anchor.process.id()))? {
        let listed = std::fs::read_to_string(task?.path().join("children"))?;
        count += listed.split_whitespace().count();
    }
    Ok(count)
}

#[tokio::test]
async fn two_channels_show_one_mix() -> anyhow::Result<()> {
    let options = Options::default().set("mixer", "latency_ms = 600");
    let anchor = Anchor::start_with(options).await?;
    let mut viewers = Vec::new();
    for channel in ["ann", "ben"] {
        anchor.create_channel(channel, &[]).await?;
        viewers.push(FlvViewer::connect(&anchor.flv(channel)).await?);
    }
    let url = |channel: &str| anchor.whip(&format!("{channel}?participant=host&role=host"));
    let _ann = whip::ffmpeg(&url("ann"), &host_clip()?, true)?;
    let mut ben = whip::ffmpeg(&url("ben"), &guest_clip()?, true)?;
    for viewer in &viewers {
        viewer.wait_for_pictures(30, SOON).await?;
    }

    let links = "/api/v1/channels/ann/links";
    let (status, answer) = anchor
        .send(Method::POST, links, &json!({ "channel": "ben" }))
        .await?;
    ensure!(status == 201, "{status} {answer}");
    for (path, other, says) in [
        (links, "ben", "in this show already"),
        (links, "nobody", "no channel"),
        ("/api/v1/channels/ben/links", "ann", "in the show of ann"),
    ] {
        let (status, answer) = anchor
            .send(Method::POST, path, &json!({ "channel": other }))
            .await?;
        ensure!(status == 409 || status == 422, "{status} {answer}");
        ensure!(answer.to_string().contains(says), "{answer}");
    }
    eventually("the other host", SOON, async || {
        let list = anchor.get(links).await?;
        ensure!(list["items"][0]["state"] == "live", "{list}");
        anchor.participant("ben", "ann-host").await?;
        Ok(())
    })
    .await?;

    // One call takes both to the mix.
    let (status, answer) = anchor.switch("ann", "collab").await?;
    ensure!(status == 200, "{status} {answer}");
    let from_s = answer["cut"]["video_dts_ms"].as_f64().context("a cut")? / 1_000.0;
    wait_for_source(&anchor, "ben", "mix").await?;
    for viewer in &viewers {
        let seen = viewer.pictures();
        viewer.wait_for_pictures(seen + 90, SOON).await?;
    }
    assert_eq!(children(&anchor)?, 1, "one mixer for both");
    // In real time: the other's host, as his own sees him, and the program that shows the mix of another channel.
    for (path, numbered) in [
        ("/whep/ann/ben", true),
        ("/whep/ben/ann-host", true),
        ("/whep/ben", false),
    ] {
        let folder = tempfile::tempdir()?;
        let mut recorder = whip::aiortc_recorder(&anchor.url(path), folder.path())?;
        said(&recorder, "playing").await?;
        // What is judged.
        tokio::time::sleep(Duration::from_secs(2)).await;
        recorder.stop(SOON).await?;
        let seen = rtp::Recording::read(folder.path())?;
        // In a grid the drawn numbers are too small to be read.
        let readable = |picture: &&rtp::Picture| !numbered || picture.number.is_some();
        let read = seen.pictures.iter().filter(readable).count();
        ensure!(
            read > 30,
            "{path}: {read} of {} pictures",
            seen.pictures.len()
        );
        ensure!(seen.sound.len() > 48_000, "{path}: no sound");
    }

    // The guest's host goes and comes back: the show goes on, and the link holds.
    ben.kill().await?;
    wait_for_source(&anchor, "ann", "host").await?;
    let _ben = whip::ffmpeg(&url("ben"), &guest_clip()?, true)?;
    eventually("the host who is back", SOON, async || {
        let list = anchor.get(links).await?;
        ensure!(list["items"][0]["state"] == "live", "{list}");
        Ok(())
    })
    .await?;
    let (status, answer) = anchor.switch("ann", "collab").await?;
    ensure!(status == 200, "{status} {answer}");
    wait_for_source(&anchor, "ben", "mix").await?;

    // Parted, each goes on alone.
    let (status, _) = anchor
        .send(Method::DELETE, "/api/v1/channels/ann/links/ben", &json!({}))
        .await?;
    assert_eq!(status, 204);
    for channel in ["ann", "ben"] {
        wait_for_source(&anchor, channel, "host").await?;
        let people = anchor.participants(channel).await?;
        assert_eq!(people.len(), 1, "{people:?}");
    }
    for viewer in &viewers {
        let seen = viewer.pictures();
        viewer.wait_for_pictures(seen + 30, SOON).await?;
        assert!(viewer.ended().is_none(), "one stream for the whole show");
    }

    let recordings: Vec<Recording> = viewers
        .iter()
        .map(|viewer| Recording::of(&viewer.tags()))
        .collect::<anyhow::Result<_>>()?;
    for recording in &recordings {
        tracks::strictly_increasing(&recording.tracks.video)?;
        tracks::contiguous(&recording.tracks.audio)?;
        decode::without_errors(&recording.file)?;
    }
    // The guest's tone is on the right, the host's on the left.
    let ann = &recordings[0];
    let level = guest_level(&ann.sound(1)?, from_s + 1.5 - ann.sound_start_s()?);
    assert!(
        (level - 0.2).abs() < 0.03,
        "ben in the program of ann: {level:.3}"
    );
    let ben = recordings[1].sound(0)?;
    let heard = ben.chunks(48_000).filter(|second| {
        let energy: f64 = second.iter().map(|sample| sample * sample).sum();
        energy / 48_000.0 > 0.01
    });
    assert!(heard.count() >= 2, "ann is not heard in the program of ben");

    // Channels count from their own beginning: what is the same is found by its bytes.
    let in_mix = from_s + 0.5..from_s + 2.5;
    let mut pictures = ann.tracks.video.clone();
    pictures.retain(|picture| in_mix.contains(&picture.pts_s()));
    let mixed = slices(&pictures)?;
    let shown: HashSet<Slices> = slices(&recordings[1].tracks.video)?.into_iter().collect();
    let same = mixed
        .iter()
        .filter(|picture| shown.contains(*picture))
        .count();
    assert!(mixed.len() > 50, "{} pictures", mixed.len());
    assert_eq!(same, mixed.len(), "the same pictures in both programs");
    Ok(())
}
