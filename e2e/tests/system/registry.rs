//! Two anchors on one Redis: a channel has one owner, and the loss of Redis is not the loss of the channel.

use std::time::Duration;

use anyhow::ensure;
use e2e::analysis::{decode, pictures, tracks};
use e2e::capture::FlvViewer;
use e2e::clip::{self, Clip};
use e2e::run::anchor::{Anchor, Options};
use e2e::run::redis::Redis;
use e2e::run::{eventually, rude, whip};
use serde_json::Value;

use crate::support::{Recording, SOON, largest_step_ms};

async fn node(redis: &Redis, id: &str) -> anyhow::Result<Anchor> {
    let options = Options::default()
        .set("node", format!("id = \"{id}\""))
        .set("registry", format!("redis_url = \"{}\"", redis.url()))
        .set("registry", "lease_ttl_ms = 2000");
    Anchor::start_with(options).await
}

#[tokio::test]
async fn a_channel_has_one_owner_and_survives_redis() -> anyhow::Result<()> {
    let mut redis = Redis::start().await?;
    let owner = node(&redis, "one").await?;
    let other = node(&redis, "two").await?;
    owner.create_channel("demo", &[]).await?;
    let viewer = FlvViewer::connect(&owner.flv("demo")).await?;
    let file = clip::clip(&Clip::default())?;
    let _host = whip::ffmpeg(&owner.whip("demo?participant=cam"), &file, true)?;
    viewer.wait_for_pictures(60, SOON).await?;

    redirects_to_the_owner(&owner, &other).await?;

    redis.process.kill().await?;
    eventually("report that Redis is gone", SOON, async || {
        degraded(&owner, true).await
    })
    .await?;
    let seen = viewer.pictures();
    viewer.wait_for_pictures(seen + 150, SOON).await?;
    let recording = Recording::of(&viewer.tags())?;
    let found = &recording.tracks;
    pictures::is_contiguous_run(
        &pictures::slices(&found.video)?,
        &decode::coded_pictures(&file)?,
    )?;
    tracks::on_the_sample_clock(&found.audio)?;
    assert!(
        largest_step_ms(&found.video) <= 67,
        "the channel goes on without Redis"
    );

    let _redis = Redis::start_on(redis.port()).await?;
    eventually("recovery after Redis is back", SOON, async || {
        degraded(&owner, false).await
    })
    .await?;
    // The claim is renewed: the other node sends people to the owner again.
    eventually("redirect after Redis is back", SOON, async || {
        redirects_to_the_owner(&owner, &other).await
    })
    .await
}

async fn redirects_to_the_owner(owner: &Anchor, other: &Anchor) -> anyhow::Result<()> {
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let offer = http
        .post(other.whip("demo"))
        .header("content-type", "application/sdp")
        .body(rude::offer(1));
    for request in [offer, http.get(other.url("/api/v1/channels/demo"))] {
        let answer = request.send().await?;
        let to = answer
            .headers()
            .get("location")
            .and_then(|to| to.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        ensure!(
            answer.status() == 307,
            "{} {to} {}",
            answer.status(),
            answer.text().await?
        );
        ensure!(to.starts_with(&owner.url("/")), "redirected to {to}");
    }
    Ok(())
}

/// Readiness says whether something is missing.
async fn degraded(node: &Anchor, expected: bool) -> anyhow::Result<()> {
    let answer =
        tokio::time::timeout(Duration::from_secs(2), reqwest::get(node.url("/readyz"))).await??;
    let status = answer.status();
    let body: Value = answer.json().await?;
    let said = body.get("status").and_then(Value::as_str) == Some("degraded");
    ensure!(said == expected, "{status}: {body}");
    Ok(())
}
