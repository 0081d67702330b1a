//! A host who vanishes and comes back: viewers and the CDN keep their connection and their timeline.

use std::time::Duration;

use anyhow::Context as _;
use e2e::analysis::{decode, pictures, tracks};
use e2e::capture::FlvViewer;
use e2e::clip::{self, Clip, PictureSize};
use e2e::run::anchor::{Anchor, Options};
use e2e::run::destination::NginxRtmp;
use e2e::run::rtmp_tap::RtmpTap;
use e2e::run::whip;
use media::h264::{avcc_nals, nal_type, nal_unit_type};

use crate::support::{Recording, SOON, largest_step_ms};

const GONE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_host_gone_for_five_seconds_continues_the_same_program() -> anyhow::Result<()> {
    let nginx = NginxRtmp::start().await?;
    let tap = RtmpTap::start(nginx.port()).await?;
    // Without a slate, so that every picture is the host's.
    let mut anchor =
        Anchor::start_with(Options::default().set("mixer", "slate_after_ms = 0")).await?;
    anchor.create_channel("demo", &[tap.url("demo")]).await?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    let file = clip::clip(&Clip::default())?;
    // The same participant, as a studio that reconnects.
    let url = anchor.whip("demo?participant=cam");

    let mut host = whip::ffmpeg(&url, &file, true)?;
    viewer.wait_for_pictures(90, SOON).await?;
    host.kill().await?;
    let before = viewer.pictures();
    tokio::time::sleep(GONE).await;
    let while_away = viewer.pictures();
    assert!(
        while_away - before < 75,
        "{} pictures came without a host",
        while_away - before
    );
    let mut host = whip::ffmpeg(&url, &file, true)?;
    let back = viewer.wait_for_pictures(while_away + 90, SOON).await;
    back.map_err(|error| error.context(format!("{}\n{}", host.tail(), anchor.process.tail())))?;
    host.kill().await?;

    assert!(viewer.ended().is_none(), "the viewer stays connected");
    let connections = tap.connections();
    assert_eq!(
        connections.len(),
        1,
        "the CDN keeps its one connection: {connections:?}"
    );
    assert!(connections[0].open);
    for tags in [viewer.tags(), connections[0].tags()?] {
        let recording = Recording::of(&tags)?;
        let found = &recording.tracks;
        tracks::strictly_increasing(&found.video)?;
        tracks::on_the_sample_clock(&found.audio)?;
        decode::without_errors(&recording.file)?;
        // The picture stopped for as long as the host was away, and went on at a keyframe.
        let gap = found
            .video
            .windows(2)
            .position(|pair| pair[1].dts_ms - pair[0].dts_ms > 3_000);
        let gap = gap.context("there is no pause")?;
        assert!(
            found.video[gap + 1].keyframe,
            "the picture goes on at a keyframe"
        );
        let pause_ms = largest_step_ms(&found.video);
        assert!(
            (4_500..12_000).contains(&pause_ms),
            "the pause is {pause_ms} ms"
        );
        let sent = decode::coded_pictures(&file)?;
        let slices = pictures::slices(&found.video)?;
        pictures::is_contiguous_run(&slices[..=gap], &sent)?;
        pictures::is_contiguous_run(&slices[gap + 1..], &sent)?;
    }
    anchor.process.stop(SOON).await?;
    Ok(())
}

#[tokio::test]
async fn a_host_who_returns_with_another_size_brings_new_headers() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    anchor.create_channel("demo", &[]).await?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    let url = anchor.whip("demo?participant=cam");
    let wide = clip::clip(&Clip {
        seconds: 10,
        ..Clip::default()
    })?;
    let small = PictureSize {
        width: 480,
        height: 270,
    };
    let narrow = clip::clip(&Clip {
        size: small,
        seconds: 10,
        ..Clip::default()
    })?;

    let mut host = whip::ffmpeg(&url, &wide, true)?;
    viewer.wait_for_pictures(45, SOON).await?;
    host.kill().await?;
    let _host = whip::ffmpeg(&url, &narrow, true)?;
    let two_headers = |arrivals: &[e2e::capture::Arrival]| {
        let headers = arrivals
            .iter()
            .filter(|a| a.tag.kind == media::flv::TagKind::Video && a.tag.is_sequence_header());
        headers.count() >= 2
    };
    viewer
        .wait("second sequence header", SOON, two_headers)
        .await?;
    let seen = viewer.pictures();
    viewer.wait_for_pictures(seen + 45, SOON).await?;

    let recording = Recording::of(&viewer.tags())?;
    let found = &recording.tracks;
    tracks::strictly_increasing(&found.video)?;
    tracks::on_the_sample_clock(&found.audio)?;
    decode::without_errors(&recording.file)?;
    let sizes: Vec<_> = found
        .video_headers
        .iter()
        .map(|(_, record)| {
            media::h264::Config::from_avcc(record).map(|config| (config.width, config.height))
        })
        .collect::<Result<_, _>>()?;
    assert_eq!(sizes, [(640, 360), (480, 270)]);
    let (change, _) = found.video_headers[1];
    let first = &found.video[change];
    assert!(first.keyframe);
    let nals = avcc_nals(&first.data).collect::<Result<Vec<_>, _>>()?;
    let kinds: Vec<u8> = nals.iter().map(|nal| nal_unit_type(nal)).collect();
    assert!(
        kinds.starts_with(&[nal_type::SPS, nal_type::PPS]),
        "parameter sets in the keyframe too: {kinds:?}"
    );
    Ok(())
}
