//! A browser that sends its picture in several sizes: all of them come in, what its network loses of any is repaired, and each
//! subscriber gets the one that suits it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::run::anchor::{Anchor, Options};
use e2e::run::browser::Browser;
use e2e::run::eventually;
use e2e::run::process::report;
use e2e::run::relay::{Link, Relay, behind};
use serde_json::Value;

const SECONDS: u32 = 15;
/// The network on the way in while they watch.
const LOSS_PERCENT: u16 = 5;
const RTT_MS: u32 = 60;

#[tokio::test]
async fn a_browser_in_three_sizes_is_seen_in_the_size_asked_for() -> anyhow::Result<()> {
    let anchor = Anchor::start_with(behind(Options::default())).await?;
    let relay = Relay::start(&anchor, 31)?;
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
    let lossy = async {
        let good = Link::of(RTT_MS, 0);
        relay.set(Link::of(RTT_MS, LOSS_PERCENT), good);
        tokio::time::sleep(Duration::from_secs(u64::from(SECONDS / 2))).await;
        relay.set(good, good);
        // What was lost at the end may be on its way.
        tokio::time::sleep(Duration::from_secs(2)).await;
        layers().await
    };
    let (seen, repaired) = tokio::join!(browser.seen(SECONDS), lossy);
    let (seen, repaired) = (seen?, repaired?);
    let mut all = 0;
    for layer in &repaired {
        let count = |name: &str| layer[name].as_u64().context("a count");
        let (lost, repaired) = (count("packets_lost")?, count("packets_repaired")?);
        let asked = count("nacks_sent")?;
        report(&format!(
            "{}: {repaired} repaired, asked for {asked}, {lost} given up",
            layer["rid"]
        ));
        ensure!(lost == 0 && 2 * asked <= 3 * repaired + 10, "{layer}");
        all += repaired;
    }
    ensure!(all > 0, "nothing was lost");
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let (large, small) = (&seen["large"], &seen["small"]);
    ensure!(number(&large["frameWidth"]) == 1024.0, "{seen}");
    ensure!(number(&small["frameWidth"]) == 256.0, "{seen}");
    for viewer in [large, small] {
        // Encoders, decoders and the node share two cores: pictures may be left out, none may be missed for long.
        ensure!(
            number(&viewer["framesDecoded"]) > 6.0 * f64::from(SECONDS),
            "{seen}"
        );
        ensure!(number(&viewer["packetsLost"]) == 0.0, "{seen}");
    }
    let widths = small["widths"].as_array().context("widths")?;
    ensure!(widths.iter().all(|width| number(width) <= 256.0), "{seen}");
    ensure!(anchor.panics().is_empty(), "{:?}", anchor.panics());
    Ok(())
}
