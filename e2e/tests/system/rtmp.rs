//! Hosts by RTMP, as OBS Studio, ffmpeg and GStreamer are: the same channel, the same rules, the same viewers.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::analysis::{decode, pictures, tracks};
use e2e::capture::{FlvViewer, read_flv};
use e2e::clip::{self, Clip};
use e2e::run::anchor::{Anchor, Options};
use e2e::run::browser::Browser;
use e2e::run::process::{Process, report};
use e2e::run::rtmp::{self, Encoding};
use e2e::run::{eventually, rude, whip};
use reqwest::Method;
use serde_json::json;

use crate::collab::guest_clip;
use crate::support::{Recording, SOON, largest_step_ms};
use crate::whep;

fn file(encoding: Encoding) -> anyhow::Result<PathBuf> {
    rtmp::encoded(&clip::clip(&Clip::default())?, encoding)
}

/// What was sent once from beginning to end, and what a viewer who came first has got of it.
async fn publish_once(encoding: Encoding) -> anyhow::Result<(tracks::Tracks, Recording)> {
    let anchor = Anchor::start().await?;
    anchor.create_channel("demo", &[]).await?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    let file = file(encoding)?;
    let sent = tracks::Tracks::of(&read_flv(&std::fs::read(&file)?)?)?;
    let mut host = rtmp::ffmpeg(&anchor.rtmp("demo"), &file, false)?;
    let ended = host.end(Duration::from_secs(40)).await?;
    let said = || format!("{}\n{}", host.tail(), anchor.process.tail());
    ensure!(ended.success(), "{}", said());
    let all = viewer.wait_for_pictures(sent.video.len(), Duration::from_secs(5));
    all.await.map_err(|error| error.context(said()))?;
    ensure!(anchor.panics().is_empty(), "{:?}", anchor.panics());
    Ok((sent, Recording::of(&viewer.tags())?))
}

/// The longest stretch of units that is in both, byte for byte: its length, and where it begins in either.
fn longest_run(found: &[tracks::Unit], sent: &[tracks::Unit]) -> (usize, usize, usize) {
    let run = |at: usize, from: usize| {
        let pairs = found[at..].iter().zip(&sent[from..]);
        pairs
            .take_while(|(here, there)| here.data == there.data)
            .count()
    };
    let starts = (0..found.len()).flat_map(|at| (0..sent.len()).map(move |from| (at, from)));
    let runs = starts.map(|(at, from)| (run(at, from), at, from));
    runs.max_by_key(|(length, _, _)| *length)
        .unwrap_or_default()
}

/// Every picture and sound byte for byte, B-frames at their place; composition times as they were.
async fn arrives_unchanged(encoding: Encoding) -> anyhow::Result<()> {
    let (sent, recording) = publish_once(encoding).await?;
    let found = &recording.tracks;
    let (here, there) = (
        pictures::slices(&found.video)?,
        pictures::slices(&sent.video)?,
    );
    ensure!(pictures::is_contiguous_run(&here, &there)? == 0);
    ensure!(here.len() == there.len());
    let (sounds, at, from) = longest_run(&found.audio, &sent.audio);
    report(&format!(
        "{} pictures; {sounds} of {} units of sound from {from} on, {} published",
        here.len(),
        sent.audio.len(),
        found.audio.len()
    ));
    // Before the host's own sound begins, and after it ends, there is silence of our making.
    ensure!(
        sounds + 20 >= sent.audio.len(),
        "{sounds} units from {from} on"
    );
    // Picture and sound are as far apart as they were.
    let moved = |here: &tracks::Unit, there: &tracks::Unit| here.dts_ms - there.dts_ms;
    let picture = moved(&found.video[0], &sent.video[0]);
    let runs = found.audio[at..].iter().zip(&sent.audio[from..]);
    for (here, there) in runs.take(sounds) {
        let off = moved(here, there) - picture;
        ensure!(
            off.abs() <= 3,
            "sound is {off} ms off at {} ms",
            here.dts_ms
        );
    }
    for (here, there) in found.video.iter().zip(&sent.video) {
        ensure!(here.data == there.data, "a picture at {} ms", here.dts_ms);
        let reordered = |unit: &tracks::Unit| unit.pts_ms - unit.dts_ms;
        // Both sides round to milliseconds.
        ensure!((reordered(here) - reordered(there)).abs() <= 1, "{here:?}");
    }
    tracks::strictly_increasing(&found.video)?;
    ensure!(largest_step_ms(&found.video) <= 67);
    decode::without_errors(&recording.file)
}

#[tokio::test]
async fn a_host_arrives_unchanged() -> anyhow::Result<()> {
    arrives_unchanged(Encoding::default()).await
}

#[tokio::test]
async fn b_frames_arrive_unchanged() -> anyhow::Result<()> {
    let encoding = Encoding {
        b_frames: 2,
        pyramid: true,
        sample_rate_hz: 44_100,
        ..Encoding::default()
    };
    arrives_unchanged(encoding).await
}

#[tokio::test]
async fn a_host_at_44_1_khz_arrives_unchanged() -> anyhow::Result<()> {
    let encoding = Encoding {
        sample_rate_hz: 44_100,
        ..Encoding::default()
    };
    arrives_unchanged(encoding).await
}

#[tokio::test]
async fn gstreamer_publishes() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    anchor.create_channel("demo", &[]).await?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    let host = rtmp::gstreamer(&anchor.rtmp("demo?participant=gst"))?;
    let got = viewer.wait_for_pictures(150, Duration::from_secs(30)).await;
    got.map_err(|error| error.context(format!("{}\n{}", host.tail(), anchor.process.tail())))?;
    let found = anchor.participant("demo", "gst").await?;
    ensure!(found["protocol"] == "rtmp" && found["audio"]["codec"] == "mp4a.40.2");
    let recording = Recording::of(&viewer.tags())?;
    tracks::strictly_increasing(&recording.tracks.video)?;
    decode::without_errors(&recording.file)
}

#[tokio::test]
async fn who_has_no_right_is_told_so() -> anyhow::Result<()> {
    let mut options = Options::default().set("channels", "auto_create = true");
    let secret = "a secret of this test and nobody else".to_owned();
    options.environment.push(("ANCHORNET_AUTH_SECRET", secret));
    let anchor = Anchor::start_with(options).await?;
    let file = file(Encoding::default())?;
    for query in ["", "?token=nonsense"] {
        let mut host = rtmp::ffmpeg(&anchor.rtmp(&format!("demo{query}")), &file, false)?;
        let ended = host.end(SOON).await?;
        ensure!(!ended.success(), "{}", host.tail());
        let said = host.output().join("\n");
        let codes = ["Unauthorized", "Denied", "token"];
        ensure!(codes.iter().any(|code| said.contains(code)), "{said}");
    }
    let viewer = anchor.token("view")?;
    let url = anchor.rtmp(&format!("demo?token={viewer}"));
    let mut host = rtmp::ffmpeg(&url, &file, false)?;
    ensure!(!host.end(SOON).await?.success(), "a viewer is no host");
    let token = anchor.token("publish")?;
    let url = anchor.rtmp(&format!("demo?token={token}"));
    let host = rtmp::ffmpeg(&url, &file, false)?;
    let viewer = eventually("the stream", SOON, async || {
        FlvViewer::connect(&anchor.flv("demo")).await
    });
    let pictures = viewer.await?;
    let got = pictures.wait_for_pictures(30, SOON).await;
    got.map_err(|error| error.context(format!("{}\n{}", host.tail(), anchor.process.tail())))
}

#[tokio::test]
async fn other_codecs_are_refused_by_name() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    for (codecs, name) in [
        ("-c:v libx265 -preset ultrafast -c:a aac", "HEVC"),
        ("-c:v libx264 -preset ultrafast -c:a libopus", "Opus"),
    ] {
        let mut host = rtmp::test_picture(&anchor.rtmp("demo"), codecs)?;
        ensure!(!host.end(SOON).await?.success(), "{}", host.tail());
        eventually("the reason in the log", SOON, async || {
            let lines = anchor.process.output();
            let told = |line: &String| line.contains("Publish.Rejected") && line.contains(name);
            ensure!(lines.iter().any(told), "{}", anchor.process.tail());
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Another host is refused, one who vanished continues the same program, and who is removed is disconnected.
#[tokio::test]
async fn a_host_by_rtmp_is_a_participant_like_any_other() -> anyhow::Result<()> {
    let options = Options::default().set("mixer", "slate_after_ms = 0");
    let anchor = Anchor::start_with(options).await?;
    anchor.create_channel("demo", &[]).await?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    let file = file(Encoding::default())?;
    let url = anchor.rtmp("demo?participant=cam");
    let mut host = rtmp::ffmpeg(&url, &file, true)?;
    viewer.wait_for_pictures(90, SOON).await?;
    let cam = eventually("measurements", SOON, async || {
        let cam = anchor.participant("demo", "cam").await?;
        ensure!(
            cam["ingest"]["fps"].as_f64().is_some_and(|fps| fps > 20.0),
            "{cam}"
        );
        Ok(cam)
    })
    .await?;
    ensure!(cam["protocol"] == "rtmp" && cam["role"] == "host" && cam["state"] == "live");
    ensure!(
        cam["video"]["width"] == 640 && cam["audio"]["codec"] == "mp4a.40.2",
        "{cam}"
    );

    let other = anchor.rtmp("demo?participant=other&role=host");
    let mut second = rtmp::ffmpeg(&other, &file, false)?;
    ensure!(!second.end(SOON).await?.success(), "two hosts");

    host.kill().await?;
    anchor.wait_for_state("demo", "away", SOON).await?;
    let before = viewer.pictures();
    let mut host = rtmp::ffmpeg(&url, &file, true)?;
    viewer.wait_for_pictures(before + 90, SOON).await?;
    ensure!(viewer.ended().is_none(), "the viewer stays connected");

    let path = "/api/v1/channels/demo/participants/cam";
    let (status, answer) = anchor.send(Method::DELETE, path, &json!({})).await?;
    ensure!(status < 300, "{status} {answer}");
    host.end(SOON).await.context("removed, and still there")?;
    anchor.wait_for_state("demo", "away", SOON).await?;
    let recording = Recording::of(&viewer.tags())?;
    tracks::strictly_increasing(&recording.tracks.video)?;
    decode::without_errors(&recording.file)?;
    ensure!(anchor.panics().is_empty(), "{:?}", anchor.panics());
    Ok(())
}

/// How much the subscriber has decoded so far: pictures and sounds.
fn decoded(viewer: &Process) -> anyhow::Result<(u32, u32)> {
    let said = viewer.output();
    let last = said
        .iter()
        .rev()
        .find_map(|line| line.strip_prefix("decoded "));
    let mut numbers = last.context("nothing decoded")?.split(' ');
    let mut next = || -> anyhow::Result<u32> { Ok(numbers.next().context("a number")?.parse()?) };
    Ok((next()?, next()?))
}

/// Co-broadcasters see and hear such a host, with B-frames that can be left out, and go on when it comes back.
#[tokio::test]
async fn co_broadcasters_see_and_hear_such_a_host() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    let encoding = Encoding {
        b_frames: 2,
        pyramid: false,
        sample_rate_hz: 44_100,
        ..Encoding::default()
    };
    let file = file(encoding)?;
    let url = anchor.rtmp("demo?participant=ann");
    let first = rtmp::ffmpeg(&url, &file, true)?;
    anchor.wait_for_state("demo", "live", SOON).await?;
    let viewer = whip::aiortc_viewer(&anchor.url("/whep/demo/ann"), 40)?;
    let grows = async |from: (u32, u32)| {
        eventually("more pictures and sounds", SOON, async || {
            let (pictures, sounds) = decoded(&viewer)?;
            let enough = pictures >= from.0 + 20 && sounds >= from.1 + 75;
            ensure!(enough, "{pictures} {sounds}");
            Ok((pictures, sounds))
        })
        .await
        .map_err(|error| error.context(format!("{}\n{}", viewer.tail(), anchor.process.tail())))
    };
    let before = grows((0, 0)).await?;
    drop(first);
    let second = rtmp::ffmpeg(&url, &file, true)?;
    let after = grows(before).await?;
    report(&format!("decoded {before:?}, then {after:?}"));
    drop(second);
    ensure!(anchor.panics().is_empty(), "{:?}", anchor.panics());
    Ok(())
}

/// A guest's browser gets pictures and sound of a host who sends B-frames and AAC.
#[tokio::test]
async fn a_browser_sees_and_hears_such_a_host() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    let encoding = Encoding {
        b_frames: 1,
        ..Encoding::default()
    };
    let host = rtmp::ffmpeg(&anchor.rtmp("demo?participant=ann"), &file(encoding)?, true)?;
    anchor.wait_for_state("demo", "live", SOON).await?;
    let guest = whep::studio(&anchor, "bob", "guest");
    let guest = Browser::talk(&guest, &anchor.url("/whep/demo/ann"), whep::SECONDS)?;
    // The clip is as long as what is judged.
    whep::sees_and_hears(guest, 1)
        .await
        .with_context(|| host.tail())?;
    ensure!(anchor.panics().is_empty(), "{:?}", anchor.panics());
    Ok(())
}

#[tokio::test]
async fn b_frames_that_others_need_are_refused_with_the_remedy() -> anyhow::Result<()> {
    refuses_subscribers("drop", 3, true).await
}

#[tokio::test]
async fn any_b_frame_is_refused_where_the_operator_says_so() -> anyhow::Result<()> {
    refuses_subscribers("refuse", 1, false).await
}

async fn refuses_subscribers(policy: &str, b_frames: u32, pyramid: bool) -> anyhow::Result<()> {
    let setting = format!("b_frames = \"{policy}\"");
    let anchor = Anchor::start_with(Options::default().set("rtmp_ingest", &setting)).await?;
    let encoding = Encoding {
        b_frames,
        pyramid,
        ..Encoding::default()
    };
    let url = anchor.rtmp("demo?participant=ann");
    let host = rtmp::ffmpeg(&url, &file(encoding)?, true)?;
    anchor.wait_for_state("demo", "live", SOON).await?;
    let mut number = 0;
    eventually("a refusal", SOON, async || {
        number += 1;
        let request = reqwest::Client::new().post(anchor.url("/whep/demo/ann"));
        let request = request.header("content-type", "application/sdp");
        let offer = rude::offer(number).replace("sendonly", "recvonly");
        let answer = request.body(offer).send().await?;
        let status = answer.status().as_u16();
        let problem = answer.text().await?;
        ensure!(
            status == 409 && problem.contains("bframes=0"),
            "{status} {problem}"
        );
        Ok(())
    })
    .await
    .map_err(|error| error.context(host.tail()))
}

/// A guest by WHIP who is live.
async fn live_guest(anchor: &Anchor) -> anyhow::Result<Process> {
    let url = anchor.whip("demo?participant=guest&role=guest");
    let guest = whip::ffmpeg(&url, &guest_clip()?, true)?;
    eventually("a guest", SOON, async || {
        let found = anchor.participant("demo", "guest").await?;
        ensure!(found["state"] == "live", "{found}");
        Ok(())
    })
    .await?;
    Ok(guest)
}

/// A guest by WHIP beside a host by RTMP with B-frames: cut to the mix and back.
#[tokio::test]
async fn such_a_host_talks_with_a_guest() -> anyhow::Result<()> {
    let options = Options::default()
        .set("mixer", "latency_ms = 600")
        .set("mixer", "stall_timeout_ms = 1500");
    let anchor = Anchor::start_with(options).await?;
    anchor.create_channel("demo", &[]).await?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    let encoding = Encoding {
        b_frames: 2,
        pyramid: true,
        ..Encoding::default()
    };
    let url = anchor.rtmp("demo?participant=host&role=host");
    let host = rtmp::ffmpeg(&url, &file(encoding)?, true)?;
    viewer.wait_for_pictures(30, SOON).await?;
    let guest = live_guest(&anchor).await?;
    let told = || {
        format!(
            "{}\n{}\n{}",
            host.tail(),
            guest.tail(),
            anchor.process.tail()
        )
    };
    for mode in ["collab", "solo", "collab", "solo"] {
        let (status, answer) = anchor.switch("demo", mode).await?;
        ensure!(
            status == 200 && answer["changed"] == true,
            "{answer}\n{}",
            told()
        );
        let seen = viewer.pictures();
        viewer.wait_for_pictures(seen + 45, SOON).await?;
    }
    let recording = Recording::of(&viewer.tags())?;
    let found = &recording.tracks;
    tracks::strictly_increasing(&found.video)?;
    tracks::strictly_increasing(&found.audio)?;
    report(&format!(
        "largest step {} ms",
        largest_step_ms(&found.video)
    ));
    ensure!(largest_step_ms(&found.video) <= 200);
    decode::without_errors(&recording.file)?;
    ensure!(anchor.panics().is_empty(), "{:?}", anchor.panics());
    Ok(())
}

/// HE-AAC cannot be joined with AAC-LC: its sound goes over the bus, at its pace and pitch, and the report of the switch says
/// that it was faded and not spliced.
#[tokio::test]
async fn high_efficiency_aac_goes_over_the_bus() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    anchor.create_channel("demo", &[]).await?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    let encoding = Encoding {
        high_efficiency: true,
        ..Encoding::default()
    };
    let url = anchor.rtmp("demo?participant=host&role=host");
    let host = rtmp::ffmpeg(&url, &file(encoding)?, false)?;
    viewer.wait_for_pictures(30, SOON).await?;
    let _guest = live_guest(&anchor).await?;
    let from = f64::from(viewer.last_ms()?) / 1_000.0;
    for mode in ["collab", "solo"] {
        let (status, answer) = anchor.switch("demo", mode).await?;
        let said = || format!("{answer}\n{}\n{}", host.tail(), anchor.process.tail());
        ensure!(status == 200 && answer["changed"] == true, "{}", said());
        ensure!(answer["splice"]["method"] == "crossfade", "{}", said());
        let seen = viewer.pictures();
        viewer.wait_for_pictures(seen + 30, SOON).await?;
    }
    let to = f64::from(viewer.last_ms()?) / 1_000.0 - 0.5;
    let recording = Recording::of(&viewer.tags())?;
    let defects = recording.tone_between(from..to)?;
    report(&format!("{from:.1} to {to:.1} s: {defects:?}"));
    ensure!(defects.none(), "{from}..{to}: {defects:?}");
    tracks::on_the_sample_clock(&recording.tracks.audio)?;
    decode::without_errors(&recording.file)
}
