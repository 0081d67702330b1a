//! Co-broadcasters see and hear each other by WHEP: browsers, an independent stack, and a participant who comes back.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::analysis::pictures::follow;
use e2e::clip::{self, Clip};
use e2e::run::anchor::Anchor;
use e2e::run::browser::Browser;
use e2e::run::process::Process;
use e2e::run::{eventually, rude, whip};
use serde_json::Value;

use crate::support::SOON;

const SECONDS: u32 = 12;

/// A test picture with drawn numbers and a tone, at a size that leaves room for two browsers on two cores.
fn studio(anchor: &Anchor, participant: &str, role: &str) -> String {
    anchor.url(&format!(
        "/studio/demo?source=pattern&size=320x180&fps=15&kbps=400&sound=tone&participant={participant}&role={role}"
    ))
}

#[tokio::test]
async fn two_browsers_see_and_hear_each_other() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    let whep = |participant: &str| anchor.url(&format!("/whep/demo/{participant}"));
    let ann = Browser::talk(&studio(&anchor, "ann", "host"), &whep("bob"), SECONDS)?;
    let bob = Browser::talk(&studio(&anchor, "bob", "guest"), &whep("ann"), SECONDS)?;
    for (name, mut browser) in [("ann", ann), ("bob", bob)] {
        browser.playing().await?;
        let report = browser.report(SECONDS).await?;
        let numbers = follow(&report.numbers());
        let shown = report.frames.len();
        let said = || {
            format!(
                "{name}: {shown} frames, {numbers:?}, {:?}",
                report.sound.rms
            )
        };
        // Two encoders, two decoders and the node share the machine: pictures may be left out, none may be broken.
        ensure!(shown > 12 * 5, "{}", said());
        ensure!(
            numbers.unreadable == 0 && numbers.backwards == 0,
            "{}",
            said()
        );
        ensure!(report.sound.rms > 0.1, "the other is not heard, {}", said());
        browser.stop().await?;
    }
    ensure!(anchor.panics().is_empty(), "{:?}", anchor.panics());
    Ok(())
}

/// How much the subscriber has decoded so far: pictures and sounds.
fn decoded(viewer: &Process) -> anyhow::Result<(u32, u32)> {
    let said = viewer.output();
    let mut lines = said.iter().rev();
    let last = lines.find_map(|line| line.strip_prefix("decoded "));
    let mut numbers = last.context("nothing decoded")?.split(' ');
    let mut next = || -> anyhow::Result<u32> { Ok(numbers.next().context("a number")?.parse()?) };
    Ok((next()?, next()?))
}

#[tokio::test]
async fn a_participant_who_comes_back_is_seen_again_by_the_same_subscriber() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    let file = clip::clip(&Clip::default())?;
    let publish = format!("{}?participant=ann", anchor.whip("demo"));
    let first = whip::ffmpeg(&publish, &file, true)?;
    anchor.wait_for_state("demo", "live", SOON).await?;
    let mut viewer = whip::aiortc_viewer(&anchor.url("/whep/demo/ann"), 25)?;
    let told = |error: anyhow::Error, viewer: &Process| {
        error.context(format!("{}\n{}", viewer.tail(), anchor.process.tail()))
    };
    let grows = async |from: (u32, u32), viewer: &Process| {
        eventually("more pictures and sounds", SOON, async || {
            let (pictures, sounds) = decoded(viewer)?;
            ensure!(
                pictures >= from.0 + 45 && sounds >= from.1 + 75,
                "{pictures} {sounds}"
            );
            Ok((pictures, sounds))
        })
        .await
        .map_err(|error| told(error, viewer))
    };
    let before = grows((0, 0), &viewer).await?;
    // It vanishes without a word; its successor is the same participant.
    drop(first);
    let second = whip::ffmpeg(&publish, &file, true)?;
    grows(before, &viewer).await?;
    let ended = viewer.end(Duration::from_secs(40)).await?;
    ensure!(ended.success(), "{}", viewer.tail());
    drop(second);
    ensure!(anchor.panics().is_empty(), "{:?}", anchor.panics());
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused_in_clear_words() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    anchor.create_channel("demo", &[]).await?;
    let post = async |path: &str, body: &str| -> anyhow::Result<(u16, Value)> {
        let request = reqwest::Client::new().post(anchor.url(path));
        let request = request.header("content-type", "application/sdp");
        let answer = request.body(body.to_owned()).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    };
    const VP8: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
        a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=recvonly\r\na=rtcp-mux\r\n\
        a=rtpmap:96 VP8/90000\r\n";
    let (status, problem) = post("/whep/demo/ann", VP8).await?;
    ensure!(status == 422, "{problem}");
    let detail = problem["detail"].as_str().context("a detail")?;
    ensure!(
        detail.contains("VP8") && detail.contains("H.264"),
        "{detail}"
    );
    ensure!(post("/whep/nope/ann", VP8).await?.0 == 404);
    let (status, problem) = post(
        "/whep/demo/ann",
        &rude::offer(1).replace("sendonly", "recvonly"),
    )
    .await?;
    ensure!(status == 404, "{problem}");
    Ok(())
}
