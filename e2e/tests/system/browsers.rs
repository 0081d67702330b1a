//! Chromium publishes from the studio page; Chromium viewers of the watch page judge FLV and HLS.

use e2e::analysis::pictures::follow;
use e2e::analysis::tracks;
use e2e::capture::FlvViewer;
use e2e::run::anchor::Anchor;
use e2e::run::browser::{Browser, Report};

use crate::support::{Recording, SOON};

const SECONDS: u32 = 20;

/// A test picture with drawn numbers and a tone, at a size that leaves room for the viewers on two cores.
const STUDIO: &str = "/studio/demo?source=pattern&size=640x360&fps=30&kbps=900&sound=tone&stereo=1&priority=sharpness";

#[tokio::test]
async fn a_browser_publishes_and_browsers_watch_without_a_flaw() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    let studio = Browser::publish(&anchor.url(STUDIO)).await?;
    let recorder = FlvViewer::connect(&anchor.flv("demo")).await?;
    recorder.wait_for_pictures(60, SOON).await?;

    // One after the other: what is judged is the stream, not how many players two cores can feed. While one starts, the
    // publishing browser may have to wait for its turn, and its sound with it.
    let mut reports = Vec::new();
    // HLS shows at first what was sent while its browser started.
    for (player, settle_s) in [("flv", 4), ("hls", 10)] {
        let url = anchor.url("/watch/demo");
        let mut viewer = Browser::watch_settled(&url, player, SECONDS, settle_s)?;
        viewer.judging().await?;
        let from_s = f64::from(recorder.last_ms()?) / 1_000.0;
        let report = viewer.report(SECONDS).await?;
        let to_s = f64::from(recorder.last_ms()?) / 1_000.0;
        reports.push((player, from_s..to_s, report, viewer.log()));
    }

    let recording = Recording::of(&recorder.tags())?;
    tracks::strictly_increasing(&recording.tracks.video)?;
    tracks::on_the_sample_clock(&recording.tracks.audio)?;
    for (player, judged, report, log) in &reports {
        let defects = recording.tone_between(judged.clone())?;
        // First, so that a flaw of the stream is not taken for a flaw of a player.
        assert!(
            defects.none(),
            "in the stream itself, within {judged:?} s: {defects:?}"
        );
        judge(player, report, log);
    }
    studio.stop().await
}

fn judge(player: &str, report: &Report, log: &[String]) {
    let said = || format!("{player}: {:?}\n{}", report.events, log.join("\n"));
    assert_eq!(report.stalls(), 0, "stalls, {}", said());
    assert!(
        (report.pace() - 1.0).abs() < 0.01,
        "pace {}, {}",
        report.pace(),
        said()
    );
    assert!(
        report.sound.rms > 0.2,
        "the tone is not heard: {:?}, {}",
        report.sound,
        said()
    );
    assert!(
        report.sound.clicks.is_empty(),
        "clicks {:?}, {}",
        report.sound,
        said()
    );
    assert!(
        report.sound.gaps.is_empty(),
        "gaps {:?}, {}",
        report.sound,
        said()
    );
    let numbers = follow(&report.numbers());
    let shown = report.frames.len();
    assert!(shown > 20 * 27, "{shown} frames of 20 s were shown");
    assert_eq!(numbers.unreadable, 0, "unreadable numbers");
    assert_eq!(numbers.backwards, 0, "numbers run backwards");
}
