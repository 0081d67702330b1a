//! Substreams by relays: a player puts the stream together again, whatever happens to relays and datagrams.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::capture::FlvViewer;
use e2e::clip::{self, Clip};
use e2e::run::anchor::{Anchor, Options};
use e2e::run::process::{Process, report};
use e2e::run::rlive::{Player, Relay, Scheduler};
use e2e::run::{eventually, ports, whip};
use media::flv::{Tag, TagKind};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::SOON;

/// Tags at the beginning that are not compared: a viewer who comes later starts without the sound before its keyframe.
const BEGINNING: usize = 20;

/// Coded media, in order.
pub(crate) fn media(viewer: &FlvViewer) -> Vec<Tag> {
    let media = |tag: &Tag| tag.kind != TagKind::Script && !tag.is_sequence_header();
    viewer.tags().into_iter().filter(media).collect()
}

/// What the player gave must be the same tags in the same order as what the origin gave. Gives how many were compared.
pub(crate) fn compare(player: &[Tag], origin: &[Tag]) -> anyhow::Result<usize> {
    let player = player.get(BEGINNING..).context("too little to compare")?;
    let first = player.first().context("too little to compare")?;
    let start = origin.iter().position(|tag| tag == first);
    let origin = &origin[start.context("the origin did not send the player's first tag")?..];
    for (at, (here, there)) in player.iter().zip(origin).enumerate() {
        ensure!(
            here == there,
            "tag {at} differs: {:?} at {} ms, {} bytes, is {:?} at {} ms, {} bytes",
            there.kind,
            there.timestamp_ms,
            there.body.len(),
            here.kind,
            here.timestamp_ms,
            here.body.len()
        );
    }
    Ok(player.len().min(origin.len()))
}

/// A channel that is live, and who watches it at the origin.
pub(crate) async fn live(anchor: &Anchor) -> anyhow::Result<(Process, FlvViewer)> {
    let host = whip::ffmpeg(&anchor.whip("demo"), &clip::clip(&Clip::default())?, true)?;
    anchor.wait_for_state("demo", "live", SOON).await?;
    let origin = FlvViewer::connect(&anchor.flv("demo")).await?;
    origin.wait_for_pictures(1, SOON).await?;
    Ok((host, origin))
}

/// A player, and who watches it there.
pub(crate) async fn play(anchor: &Anchor) -> anyhow::Result<(Player, FlvViewer)> {
    let player = Player::start(anchor, "demo")?;
    let watched = eventually("player's port", SOON, async || {
        FlvViewer::connect(&player.url).await
    })
    .await?;
    Ok((player, watched))
}

/// Waits until so many pictures have come on top of those that are there.
pub(crate) async fn more_pictures(watched: &FlvViewer, count: usize) -> anyhow::Result<()> {
    let pictures = |tag: &&Tag| tag.kind == TagKind::Video;
    let there = watched.tags().iter().filter(pictures).count();
    watched.wait_for_pictures(there + count, SOON).await
}

/// How many substreams come from a relay.
pub(crate) fn relayed(stats: &Value) -> usize {
    let substreams = stats["substreams"].as_array();
    substreams.map_or(0, |all| {
        all.iter().filter(|one| one["source"] == "relay").count()
    })
}

/// The relays that substreams come from.
pub(crate) fn relays_of(stats: &Value) -> Vec<String> {
    let substreams = stats["substreams"].as_array().cloned().unwrap_or_default();
    let name = |one: &Value| one["relay"].as_str().map(str::to_owned);
    substreams.iter().filter_map(name).collect()
}

async fn all_relayed(player: &Player, but: Option<&Relay>) -> anyhow::Result<Value> {
    eventually("substreams from relays", SOON, async || {
        let stats = player.stats()?;
        let avoided = but.is_none_or(|relay| {
            let name = relay.address.to_string();
            !relays_of(&stats).contains(&name)
        });
        ensure!(relayed(&stats) == 4 && avoided, "{stats}");
        Ok(stats)
    })
    .await
}

/// Four relays, each behind a path that loses one datagram in fifty; one is killed, and its part comes from the origin
/// at first and from another relay in the end. The picture never stops, and nothing is missing, doubled or out of order.
#[tokio::test]
async fn a_stream_by_relays_is_the_stream_of_the_origin() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    let (_host, origin) = live(&anchor).await?;
    let mut relays = Relay::start(&anchor, None, 4, 2)?;
    let (player, watched) = play(&anchor).await?;
    let outcome = async {
        all_relayed(&player, None).await?;
        let before = media(&watched).len();
        more_pictures(&watched, 120).await?;

        let user = player.stats()?["substreams"][0]["relay"].clone();
        let victim = relays
            .iter()
            .position(|relay| user == relay.address.to_string())
            .context("nobody relays the first substream")?;
        relays[victim].process.kill().await?;
        all_relayed(&player, Some(&relays[victim])).await?;
        more_pictures(&watched, 90).await?;

        let stats = player.stats()?;
        let compared = compare(&media(&watched), &media(&origin))?;
        ensure!(
            compared > before + 300,
            "only {compared} tags, {before} before"
        );
        let lost: u64 = relays.iter().map(Relay::lost).sum();
        ensure!(lost > 10, "the paths lost {lost} datagrams");
        for (what, most) in [("stalls", 0), ("skips", 0), ("bad_input", 0)] {
            ensure!(stats[what].as_u64() <= Some(most), "{what}: {stats}");
        }
        let count = |what: &str| stats[what].as_u64().unwrap_or_default();
        ensure!(
            count("relay_bytes") > count("origin_bytes"),
            "relays carry most of it: {stats}"
        );
        ensure!(count("nacked_packets") > 0, "{stats}");
        report(&format!(
            "{compared} tags alike, {lost} datagrams lost: {stats}"
        ));
        Ok(())
    };
    let outcome: anyhow::Result<()> = outcome.await;
    if outcome.is_err() {
        report(&player.process.tail());
        report(&anchor.process.tail());
        relays.iter().for_each(|r| report(&r.process.tail()));
    }
    outcome
}

/// Waits until a scheduler knows so many relays.
pub(crate) async fn knows(scheduler: &Scheduler, relays: u64) -> anyhow::Result<Value> {
    eventually("relays at the scheduler", SOON, async || {
        let state = scheduler.state().await?;
        ensure!(state["relays"] == relays, "{state}");
        Ok(state)
    })
    .await
}

/// Relays tell a scheduler of themselves, and a player gets them there. One is killed; the scheduler is started again, and
/// knows the others from their heartbeats. The picture never stops.
#[tokio::test]
async fn a_scheduler_recommends_relays_and_loses_nothing_when_it_restarts() -> anyhow::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()?));
    let mut scheduler = Scheduler::start(address)?;
    let url = format!("scheduler_url = \"{}\"", scheduler.url(""));
    let anchor = Anchor::start_with(Options::default().set("origin.substreams", url)).await?;
    let (_host, origin) = live(&anchor).await?;
    let mut relays = Relay::start(&anchor, Some(&scheduler), 4, 1)?;
    knows(&scheduler, 4).await?;
    let meta: Value = reqwest::get(anchor.url("/live/demo/meta"))
        .await?
        .json()
        .await?;
    ensure!(meta["relays"] == serde_json::json!([]), "{meta}");

    let (player, watched) = play(&anchor).await?;
    let outcome = async {
        all_relayed(&player, None).await?;
        let user = player.stats()?["substreams"][0]["relay"].clone();
        let victim = relays
            .iter()
            .position(|relay| user == relay.address.to_string())
            .context("nobody relays the first substream")?;
        relays[victim].process.kill().await?;
        scheduler.process.kill().await?;
        scheduler = Scheduler::start(address)?;
        let state = knows(&scheduler, 3).await?;
        all_relayed(&player, Some(&relays[victim])).await?;
        let stats = player.stats()?;
        let compared = compare(&media(&watched), &media(&origin))?;
        ensure!(compared > 300, "only {compared} tags");
        for what in ["stalls", "skips", "bad_input"] {
            ensure!(stats[what] == 0, "{what}: {stats}");
        }
        ensure!(state["bad_heartbeats"] == 0, "{state}");
        report(&format!("{compared} tags alike: {stats}"));
        Ok(())
    };
    let outcome: anyhow::Result<()> = outcome.await;
    if outcome.is_err() {
        report(&player.process.tail());
        report(&scheduler.process.tail());
        relays.iter().for_each(|r| report(&r.process.tail()));
    }
    outcome?;

    // Without the origin's ticket, or with one for another stream, nobody is told anything.
    let ask = |ticket: Option<&str>| {
        let body = serde_json::json!({ "stream": "demo", "substreams": 4 });
        let request = reqwest::Client::new().post(scheduler.url("/v1/recommend"));
        let request = match ticket {
            Some(ticket) => request.header("authorization", format!("Ticket {ticket}")),
            None => request,
        };
        request.json(&body).send()
    };
    let wall = std::time::UNIX_EPOCH.elapsed()?.as_secs();
    let ticket = |stream: &str| {
        let ticket = media::ticket::Ticket {
            stream: stream.into(),
            expires_s: u32::try_from(wall).unwrap_or(u32::MAX).saturating_add(30),
            max_kbps: 1_000,
            nonce: 1,
        };
        let key = media::ticket::Key::of_scheduler(&[]);
        media::ticket::to_hex(&ticket.seal(&key))
    };
    assert_eq!(ask(None).await?.status(), 401);
    assert_eq!(ask(Some("00ff")).await?.status(), 401);
    assert_eq!(ask(Some(&ticket("other"))).await?.status(), 403);
    let answer: Value = ask(Some(&ticket("demo"))).await?.json().await?;
    assert_eq!(
        answer["substreams"].as_array().map(Vec::len),
        Some(4),
        "{answer}"
    );
    Ok(())
}

/// All relays freeze for a second, as machines of others do: the origin takes over before the buffer is empty, and
/// the relays get their part back.
#[tokio::test]
async fn relays_that_freeze_are_bridged_by_the_origin() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    let (_host, origin) = live(&anchor).await?;
    let relays = Relay::start(&anchor, None, 4, 0)?;
    let (player, watched) = play(&anchor).await?;
    all_relayed(&player, None).await?;
    // The feed from the origin is given back.
    more_pictures(&watched, 60).await?;
    let all = |signal| relays.iter().try_for_each(|r| r.process.signal(signal));
    all(Signal::STOP)?;
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    all(Signal::CONT)?;
    let stats = eventually("the relays' part", SOON, async || {
        let stats = player.stats()?;
        let back = stats["fallbacks"] != 0 && stats["fallback"] == false;
        ensure!(back && relayed(&stats) == 4, "{stats}");
        Ok(stats)
    })
    .await?;
    let compared = compare(&media(&watched), &media(&origin))?;
    for what in ["stalls", "skips", "bad_input"] {
        ensure!(stats[what] == 0, "{what}: {stats}");
    }
    report(&format!("{compared} tags alike: {stats}"));
    Ok(())
}

/// With a secret, relays need their key and players a token for what they play.
#[tokio::test]
async fn relays_and_players_need_their_credentials() -> anyhow::Result<()> {
    let secret = "a secret of more than thirty-two bytes, for tests";
    let mut options = Options::default().set("auth", "protect_playback = true");
    options.environment = vec![("ANCHORNET_AUTH_SECRET", secret.to_owned())];
    let anchor = Anchor::start_with(options).await?;
    let report = anchor.url("/rlive/relays");
    let client = reqwest::Client::new();
    let body = serde_json::json!({ "address": "127.0.0.1:4000" });
    let answer = client.post(&report).json(&body).send().await?;
    assert_eq!(answer.status(), 401, "no pass");
    let wall = std::time::UNIX_EPOCH.elapsed()?.as_secs();
    let pass = media::ticket::Pass {
        relay: 1,
        expires_s: u32::try_from(wall)? + 60,
    };
    // The key that holds where there is no secret.
    let open = pass.seal(&media::ticket::Key::of_relay(&[], 1));
    let forged = client.post(&report).json(&body);
    let answer = forged.header("authorization", format!("Relay {open}"));
    assert_eq!(answer.send().await?.status(), 403, "a forged pass");
    let key = anchor.relay_key("1")?;
    let key = media::ticket::Key::from_hex(&key).context("a key")?;
    let good = client.post(&report).json(&body);
    let answer = good.header("authorization", format!("Relay {}", pass.seal(&key)));
    assert_eq!(answer.send().await?.status(), 204);
    for path in ["meta", "sub?mask=1", "frame?dts=1&crc=1"] {
        let answer = reqwest::get(anchor.url(&format!("/live/demo/{path}"))).await?;
        assert_eq!(answer.status(), 401, "{path} without a token");
    }
    Ok(())
}
