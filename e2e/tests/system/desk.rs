//! A producer at the console: host and guest in browsers see each other, the show goes to collab and back, and a viewer
//! notices nothing.

use anyhow::{Context as _, ensure};
use e2e::run::anchor::Anchor;
use e2e::run::browser::{Browser, Report};
use serde_json::Value;

/// Small and slow pictures: four browsers and a mixer share two cores.
const STUDIO: &str = "/studio/demo?source=pattern&size=640x360&fps=15&kbps=500&priority=sharpness";
/// Long enough for the switches while the viewer is judged.
const SECONDS: u32 = 45;
/// Switches by REST after those by hand: ten times there and back in all.
const MORE: usize = 9;

#[tokio::test]
async fn a_producer_takes_the_show_to_collab_and_back() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    let (host, guest) = host_and_guest(&anchor).await?;

    let console = anchor.url("/#/channels/demo");
    let mut viewer = Browser::watch(&anchor.url("/watch/demo"), "flv", SECONDS)?;
    viewer.playing().await?;
    let mut desk = Browser::produce(&console, 1, 4)?;
    desk.pictures().await?;
    let produced = desk.produced().await?;
    for _ in 0..MORE {
        for mode in ["collab", "solo"] {
            let (status, answer) = anchor.switch("demo", mode).await?;
            ensure!(status == 200, "{status} {answer}");
        }
    }
    let report = viewer.report(SECONDS).await?;

    for (said, mode) in [(&produced.collab, "Collab"), (&produced.solo, "Solo")] {
        assert!(
            said.starts_with(mode) && said.contains("Cut after"),
            "{said}"
        );
    }
    assert_eq!(
        (produced.layout.as_str(), produced.listed),
        ("side-by-side", 2)
    );
    for (browser, other) in [(&host, "bob"), (&guest, "ann")] {
        sees(browser, other)?;
    }
    noticed_nothing(&report, &viewer.log());
    guest.stop().await?;
    host.stop().await
}

/// The same show for a viewer of HLS, whose segments begin at each cut.
#[tokio::test]
async fn an_hls_viewer_of_a_show_of_browsers_notices_no_switch() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    let (host, guest) = host_and_guest(&anchor).await?;
    let mut viewer = Browser::watch(&anchor.url("/watch/demo"), "hls", SECONDS)?;
    viewer.playing().await?;
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(1_500));
    for _ in 0..=MORE {
        for mode in ["collab", "solo"] {
            pace.tick().await;
            let (status, answer) = anchor.switch("demo", mode).await?;
            ensure!(status == 200, "{status} {answer}");
        }
    }
    let report = viewer.report(SECONDS).await?;
    noticed_nothing(&report, &viewer.log());
    guest.stop().await?;
    host.stop().await
}

/// Ann with a tone, Bob without a sound.
async fn host_and_guest(anchor: &Anchor) -> anyhow::Result<(Browser, Browser)> {
    let studio = |who: &str| anchor.url(&format!("{STUDIO}&{who}"));
    let host = studio("role=host&participant=ann&sound=tone&stereo=1");
    let guest = studio("role=guest&participant=bob&sound=silence");
    Ok((
        Browser::publish(&host).await?,
        Browser::publish(&guest).await?,
    ))
}

/// No stall, no gap, and the time of a clock.
fn noticed_nothing(report: &Report, log: &[String]) {
    let log = format!("{:?}\n{}", report.events, log.join("\n"));
    assert_eq!(report.stalls(), 0, "stalls, {log}");
    assert!((report.pace() - 1.0).abs() < 0.02, "pace {}", report.pace());
    assert!(report.sound.gaps.is_empty(), "{:?}", report.sound);
}

/// The page shows the other's picture, and it moves.
fn sees(browser: &Browser, other: &str) -> anyhow::Result<()> {
    let stats = browser.stats().context("no figures of the studio page")?;
    let peers = stats.get("peers").and_then(Value::as_array);
    let peer = peers
        .and_then(|peers| peers.iter().find(|peer| peer["id"] == other))
        .with_context(|| format!("{other} is not there: {stats}"))?;
    let frames = peer["framesDecoded"].as_u64().unwrap_or_default();
    ensure!(frames > 30, "{other} does not move: {peer}");
    Ok(())
}
