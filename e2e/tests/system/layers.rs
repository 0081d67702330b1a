//! A browser that sends its picture in several sizes: all of them come in, and each subscriber gets the one that suits it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::run::anchor::Anchor;
use e2e::run::browser::Browser;
use e2e::run::eventually;
use serde_json::Value;

const SECONDS: u32 = 15;

#[tokio::test]
async fn a_browser_in_three_sizes_is_seen_in_the_size_asked_for() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    let whip = format!("{}?participant=ann", anchor.whip("demo"));
    let whep = anchor.url("/whep/demo/ann");
    let mut browser = Browser::layers(&anchor.url("/healthz"), &whip, &whep, SECONDS)?;
    browser.live().await?;
    let layers = async || -> anyhow::Result<Vec<Value>> {
        let stats = anchor.get("/api/v1/channels/demo/stats").await?;
        let layers = &stats["participants"][0]["ingest"]["layers"];
        Ok(layers.as_array().context("layers")?.clone())
    };
    eventually("three layers", Duration::from_secs(20), async || {
        let layers = layers().await?;
        let active = layers.iter().filter(|layer| layer["active"] == true);
        ensure!(active.count() == 3, "{layers:?}");
        // The program is made of the largest.
        let best = layers.iter().find(|layer| layer["on_program"] == true);
        let best = best.context("one on program")?;
        ensure!(best["rid"] == "h" && best["width"] == 1024, "{best}");
        Ok(())
    })
    .await?;
    let report = browser.seen(SECONDS).await?;
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let (large, small) = (&report["large"], &report["small"]);
    ensure!(number(&large["frameWidth"]) == 1024.0, "{report}");
    ensure!(number(&small["frameWidth"]) == 256.0, "{report}");
    for viewer in [large, small] {
        // Encoders, decoders and the node share two cores: pictures may be left out, none may be missed for long.
        ensure!(
            number(&viewer["framesDecoded"]) > 6.0 * f64::from(SECONDS),
            "{report}"
        );
        ensure!(number(&viewer["packetsLost"]) == 0.0, "{report}");
    }
    let widths = small["widths"].as_array().context("widths")?;
    ensure!(
        widths.iter().all(|width| number(width) <= 256.0),
        "{report}"
    );
    ensure!(anchor.panics().is_empty(), "{:?}", anchor.panics());
    Ok(())
}
