//! Somebody else's CDN fails and comes back: it gets the program again from a keyframe on, and nobody else notices.

use anyhow::ensure;
use e2e::analysis::{decode, pictures, tracks};
use e2e::capture::FlvViewer;
use e2e::clip::{self, Clip};
use e2e::run::anchor::Anchor;
use e2e::run::destination::NginxRtmp;
use e2e::run::rtmp_tap::RtmpTap;
use e2e::run::{eventually, whip};

use crate::support::{Recording, SOON, largest_step_ms};

#[tokio::test]
async fn a_cdn_that_restarts_resumes_at_a_keyframe_and_viewers_elsewhere_see_nothing()
-> anyhow::Result<()> {
    let mut nginx = NginxRtmp::start().await?;
    let tap = RtmpTap::start(nginx.port()).await?;
    let anchor = Anchor::start().await?;
    anchor.create_channel("demo", &[tap.url("demo")]).await?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    let file = clip::clip(&Clip::default())?;
    let _host = whip::ffmpeg(&anchor.whip("demo"), &file, true)?;
    viewer.wait_for_pictures(60, SOON).await?;

    nginx.kill().await?;
    let path = "/api/v1/channels/demo/destinations";
    let state = async || {
        let list = anchor.get(path).await?;
        let items = list.get("items").unwrap_or(&list);
        let state = items
            .pointer("/0/state")
            .and_then(serde_json::Value::as_str)
            .map(str::to_owned);
        anyhow::Ok((state, list))
    };
    eventually("report that the CDN is away", SOON, async || {
        let (state, list) = state().await?;
        ensure!(
            matches!(state.as_deref(), Some("backoff" | "connecting")),
            "{list}"
        );
        Ok(())
    })
    .await?;
    let before = viewer.pictures();
    viewer.wait_for_pictures(before + 30, SOON).await?;
    nginx.restart().await?;
    eventually("push after the restart", SOON, async || {
        let (state, list) = state().await?;
        ensure!(state.as_deref() == Some("live"), "{list}");
        Ok(())
    })
    .await?;
    let before = viewer.pictures();
    viewer.wait_for_pictures(before + 90, SOON).await?;

    let connections = tap.connections();
    assert_eq!(connections.len(), 2, "{connections:?}");
    let first = tracks::Tracks::of(&connections[0].tags()?)?;
    let second = tracks::Tracks::of(&connections[1].tags()?)?;
    assert!(second.video[0].keyframe, "it resumes at a keyframe");
    assert!(
        second.video[0].dts_ms > first.video[first.video.len() - 1].dts_ms,
        "timestamps go on"
    );
    assert!(
        second.audio[0].dts_ms > first.audio[first.audio.len() - 1].dts_ms,
        "timestamps go on"
    );
    tracks::strictly_increasing(&second.video)?;
    tracks::on_the_sample_clock(&second.audio)?;
    decode::without_errors(nginx.recordings()?.last().expect("a recording"))?;

    let recording = Recording::of(&viewer.tags())?;
    let found = &recording.tracks;
    let sent = decode::coded_pictures(&file)?;
    pictures::is_contiguous_run(&pictures::slices(&found.video)?, &sent)?;
    tracks::on_the_sample_clock(&found.audio)?;
    assert!(
        largest_step_ms(&found.video) <= 67,
        "viewers elsewhere see nothing of it"
    );
    Ok(())
}
