//! A broadcaster whose network changes tells the node (ICE restart by PATCH), and goes on in the same session.

use anyhow::ensure;
use e2e::capture::FlvViewer;
use e2e::run::anchor::Anchor;
use e2e::run::browser::Browser;
use e2e::run::eventually;

use crate::support::{Recording, SOON, largest_step_ms};

/// Before the restart, and after it.
const SECONDS: u32 = 4;

#[tokio::test]
async fn a_browser_with_new_addresses_goes_on_in_its_session() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    let whip = format!("{}?participant=ann", anchor.whip("demo"));
    let mut browser = Browser::restart(&anchor.url("/healthz"), &whip, SECONDS)?;
    browser.live().await?;
    let viewer = eventually("stream of the new channel", SOON, async || {
        FlvViewer::connect(&anchor.flv("demo")).await
    })
    .await?;
    let joined = async || -> anyhow::Result<String> {
        let ann = anchor.participant("demo", "ann").await?;
        Ok(ann["joined_at"].to_string())
    };
    let before = joined().await?;
    let report = browser.seen(2 * SECONDS).await?;
    ensure!(report["status"] == 200, "{report}");
    ensure!(report["etagChanged"] == true, "{report}");
    ensure!(report["state"] == "connected", "{report}");
    ensure!(report["ports"][0] != report["ports"][1], "{report}");
    let sent = |at: usize| report["sent"][at].as_u64().unwrap_or_default();
    ensure!(
        sent(1) > sent(0) + 5 * u64::from(SECONDS),
        "few pictures afterwards: {report}"
    );
    ensure!(joined().await? == before, "it came anew");
    // Viewers have seen nothing of it.
    let recording = Recording::of(&viewer.tags())?;
    let step = largest_step_ms(&recording.tracks.video);
    ensure!(step <= 1_000, "{step} ms without a picture");
    ensure!(anchor.panics().is_empty(), "{:?}", anchor.panics());
    Ok(())
}
