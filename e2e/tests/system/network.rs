//! Bad networks between the node and its clients: loss, delay, reordering, and addresses that change.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use e2e::analysis::pictures::{self, follow};
use e2e::analysis::{decode, tracks};
use e2e::capture::FlvViewer;
use e2e::clip::{self, Clip};
use e2e::run::anchor::{Anchor, Options};
use e2e::run::browser::Browser;
use e2e::run::process::{Process, report};
use e2e::run::relay::{Link, Relay, behind};
use e2e::run::rtmp::{self, Encoding};
use e2e::run::whip;
use media::flv::{Tag, TagKind};
use serde_json::Value;

use crate::collab::{CLIP_S, FPS, host_clip};
use crate::support::{Recording, SOON, largest_step_ms};

/// How long each network lasts.
const STRETCH: Duration = Duration::from_secs(6);
/// How long after it what was lost at its end may be on its way.
const REPAIR: Duration = Duration::from_millis(1_200);

/// A host behind a relay, and somebody who watches the program.
struct Show {
    anchor: Anchor,
    relay: Relay,
    viewer: FlvViewer,
    host: Process,
    clip: std::path::PathBuf,
}

impl Show {
    async fn start(seed: u64) -> anyhow::Result<Self> {
        let anchor = Anchor::start_with(behind(Options::default())).await?;
        let relay = Relay::start(&anchor, seed)?;
        anchor.create_channel("demo", &[]).await?;
        let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
        let clip = clip::clip(&Clip::default())?;
        let host = whip::ffmpeg(&anchor.whip("demo?participant=host&role=host"), &clip, true)?;
        let show = Self {
            anchor,
            relay,
            viewer,
            host,
            clip,
        };
        show.more_pictures(60).await?;
        Ok(show)
    }

    async fn more_pictures(&self, count: usize) -> anyhow::Result<()> {
        let seen = self.viewer.pictures();
        let more = self.viewer.wait_for_pictures(seen + count, SOON).await;
        more.map_err(|error| {
            error.context(format!(
                "{}\n{}",
                self.host.tail(),
                self.anchor.process.tail()
            ))
        })
    }

    /// Lets the host's network be like this for a while, then good for long enough to repair what was lost at the end. Gives
    /// repeated packets, lost ones, and the longest time between two pictures at the viewer.
    async fn endure(&self, rtt_ms: u32, loss_percent: u16) -> anyhow::Result<(u64, u64, Duration)> {
        let link = Link::of(rtt_ms, loss_percent);
        let _ = self.relay.take();
        let before = self.viewer.arrivals().len();
        self.relay.set(link, link);
        tokio::time::sleep(STRETCH).await;
        let good = Link::of(rtt_ms, 0);
        self.relay.set(good, good);
        tokio::time::sleep(REPAIR).await;
        let (up, _) = self.relay.take();
        let (repeated, lost) = up.repairs();
        let arrivals = self.viewer.arrivals();
        let is_picture = |tag: &Tag| tag.kind == TagKind::Video && !tag.is_sequence_header();
        let shown: Vec<Instant> = arrivals
            .iter()
            .skip(before)
            .filter(|arrival| is_picture(&arrival.tag))
            .map(|arrival| arrival.at)
            .collect();
        let freeze = shown.windows(2).map(|pair| pair[1] - pair[0]).max();
        let freeze = freeze.context("pictures")?;
        report(&format!(
            "{loss_percent} % lost, RTT {rtt_ms} ms: {lost} lost, {repeated} repeated, at most {} ms between pictures",
            freeze.as_millis()
        ));
        Ok((repeated, lost, freeze))
    }

    /// Every picture that was sent is in the program until now, byte by byte, and its sound has no hole.
    fn nothing_is_missing(&self) -> anyhow::Result<()> {
        let recording = Recording::of(&self.viewer.tags())?;
        let found = &recording.tracks;
        pictures::is_contiguous_run(
            &pictures::slices(&found.video)?,
            &decode::coded_pictures(&self.clip)?,
        )?;
        tracks::on_the_sample_clock(&found.audio)?;
        tracks::strictly_increasing(&found.video)
    }
}

#[tokio::test]
async fn what_a_hosts_network_loses_is_repaired() -> anyhow::Result<()> {
    let show = Show::start(11).await?;
    for (loss_percent, rtt_ms) in [(1, 20), (3, 80), (5, 150)] {
        let (repeated, lost, freeze) = show.endure(rtt_ms, loss_percent).await?;
        ensure!(lost > 0, "nothing was lost");
        ensure!(
            2 * repeated <= 3 * lost,
            "{repeated} repeated for {lost} lost at {loss_percent} %"
        );
        ensure!(
            loss_percent > 3 || freeze <= Duration::from_millis(200),
            "a freeze of {freeze:?} at {loss_percent} %"
        );
        show.nothing_is_missing()
            .with_context(|| format!("at {loss_percent} %"))?;
    }

    // More than can be promised to be repaired: what is missing, if anything, leaves the program whole.
    show.endure(100, 10).await?;
    let seen = show.viewer.arrivals().len();
    show.more_pictures(60).await?;
    let tags = show.viewer.tags();
    let recording = Recording::of(&tags)?;
    let found = &recording.tracks;
    tracks::on_the_sample_clock(&found.audio)?;
    tracks::strictly_increasing(&found.video)?;
    ensure!(
        largest_step_ms(&found.video) <= 1_000,
        "a hole in the program"
    );
    decode::without_errors(&recording.file)?;
    let after = tags.iter().skip(seen);
    let pictures = after.filter(|tag| tag.kind == TagKind::Video && !tag.is_sequence_header());
    ensure!(pictures.count() >= 60, "the picture does not recover");
    ensure!(
        show.anchor.panics().is_empty(),
        "{:?}",
        show.anchor.panics()
    );
    Ok(())
}

#[tokio::test]
async fn a_host_whose_address_changes_stays_on_program() -> anyhow::Result<()> {
    let show = Show::start(12).await?;
    let bad = Link::of(40, 2);
    show.relay.set(bad, bad);
    for _ in 0..2 {
        show.more_pictures(60).await?;
        show.relay.rebind();
    }
    // Longer than a client takes until it checks its path again: from then on losses are repaired over the new one.
    show.more_pictures(240).await?;
    let recording = Recording::of(&show.viewer.tags())?;
    let found = &recording.tracks;
    let step_ms = largest_step_ms(&found.video);
    report(&format!(
        "at most {step_ms} ms between pictures of the program"
    ));
    ensure!(step_ms <= 1_000, "a hole of {step_ms} ms in the program");
    tracks::on_the_sample_clock(&found.audio)?;
    tracks::strictly_increasing(&found.video)?;
    decode::without_errors(&recording.file)?;
    let stats = show.anchor.get("/api/v1/channels/demo/stats").await?;
    report(&stats.to_string());
    Ok(())
}

/// How long a browser judges each network, in seconds.
const JUDGED_S: u32 = 7;

/// The host comes by RTMP: all that passes the relay is the viewer's. First without the feedback that congestion control could
/// use, which sends probes of its own accord; then with it, and nothing is left out.
#[tokio::test]
async fn what_a_viewers_network_loses_is_repaired() -> anyhow::Result<()> {
    let anchor = Anchor::start_with(behind(Options::default())).await?;
    let relay = Relay::start(&anchor, 13)?;
    anchor.create_channel("demo", &[]).await?;
    let host = anchor.rtmp("demo?participant=host&role=host");
    // Keyframes are far apart: a player that misses something must wait for its repair.
    let encoding = Encoding {
        gop: 90,
        ..Encoding::default()
    };
    let file = rtmp::encoded(&host_clip()?, encoding)?;
    let _host = rtmp::ffmpeg(&host, &file, true)?;
    anchor.wait_for_state("demo", "live", SOON).await?;
    let mut most_sent = 0;
    for (loss_percent, rtt_ms, feedback) in [(3, 80, false), (5, 150, false), (5, 150, true)] {
        let mut viewer = Browser::whep(&anchor.url("/whep/demo/host"), JUDGED_S, feedback)?;
        viewer.playing().await?;
        let link = Link::of(rtt_ms, loss_percent);
        relay.set(link, link);
        let before = viewer.received(false).await?;
        let _ = relay.take();
        tokio::time::sleep(Duration::from_secs(u64::from(JUDGED_S)) - REPAIR).await;
        relay.set(Link::of(rtt_ms, 0), Link::of(rtt_ms, 0));
        let seen = viewer.report(JUDGED_S).await?;
        let (_, down) = relay.take();
        relay.set(Link::default(), Link::default());
        let after = viewer.received(true).await?;
        let (repeated, lost) = down.repairs();
        let grown = |kind: &str, name: &str| {
            let of = |counted: &Value| counted[kind][name].as_f64().unwrap_or_default();
            of(&after) - of(&before)
        };
        let complete = grown("video", "framesReceived");
        let sent = down.video().context("pictures")?.pictures();
        let broken = follow_loop(&seen.numbers())?;
        let times = seen.frames.windows(2).map(|pair| pair[1].now - pair[0].now);
        // Every picture stands still until the next; what is longer than that is a freeze.
        let freeze = times.fold(0.0, f64::max) - 1_000.0 / f64::from(FPS);
        let said = format!(
            "{loss_percent} % lost, RTT {rtt_ms} ms: {lost} lost, {repeated} repeated, {complete} of {sent} pictures \
             complete, {} NACKs, {} PLIs; {} shown, {broken} left out, frozen for {freeze:.0} ms at most; {} of {} samples concealed",
            grown("video", "nackCount"),
            grown("video", "pliCount"),
            seen.frames.len(),
            grown("audio", "concealedSamples"),
            grown("audio", "totalSamplesReceived"),
        );
        report(&said);
        ensure!(lost > 0, "nothing was lost");
        // Some are on their way when the browser counts. One that is never complete would take the rest of its three seconds with
        // it, or a keyframe.
        ensure!(complete + 8.0 >= f64::from(u32::try_from(sent)?), "{said}");
        ensure!(
            grown("video", "pliCount") == 0.0,
            "keyframes were asked for: {said}"
        );
        // A browser may ask twice for the first ones: it learns the round trip from them. With feedback, some that nobody has asked
        // for show how much the path carries.
        ensure!(feedback || 2 * repeated <= 3 * lost + 10, "{said}");
        // The path is wide: nothing may be left out because of losses that are repaired.
        most_sent = most_sent.max(sent);
        ensure!(10 * sent >= 9 * most_sent, "{said}");
        // The bar is 200 ms, but a browser that shares two cores waits for a processor, too. What is not repaired costs seconds: the
        // next keyframe is that far away.
        ensure!(loss_percent > 3 || freeze <= 500.0, "{said}");
    }
    ensure!(anchor.panics().is_empty(), "{:?}", anchor.panics());
    Ok(())
}

/// How many numbers of a clip that is sent in a loop were left out; none may be unreadable or step back.
fn follow_loop(numbers: &[Option<u32>]) -> anyhow::Result<u32> {
    let frames = CLIP_S * FPS;
    let numbers: Option<Vec<u32>> = numbers.iter().copied().collect();
    let numbers = numbers.context("a picture is broken")?;
    let mut left_out = 0;
    for pair in numbers.windows(2) {
        let step = (pair[1] + frames - pair[0]) % frames;
        ensure!(step < frames / 2, "{} is shown after {}", pair[1], pair[0]);
        left_out += step.saturating_sub(1);
    }
    Ok(left_out)
}

/// A firewall that lets TCP through and no UDP: a browser publishes and another watches over TCP.
#[tokio::test]
async fn where_udp_is_blocked_tcp_carries_the_show() -> anyhow::Result<()> {
    const SECONDS: u32 = 6;
    let anchor = Anchor::start_with(behind(Options::default())).await?;
    let relay = Relay::start(&anchor, 14)?;
    relay.forward_tcp()?;
    let blocked = Link {
        lost_per_mille: 1_000,
        ..Link::default()
    };
    relay.set(blocked, blocked);
    let studio = "/studio/demo?source=pattern&size=320x180&fps=15&kbps=400&sound=tone&participant=ann&role=host";
    let studio = Browser::publish(&anchor.url(studio)).await?;
    let mut viewer = Browser::whep(&anchor.url("/whep/demo/ann"), SECONDS, true)?;
    viewer.playing().await?;
    let seen = viewer.report(SECONDS).await?;
    let received = viewer.received(true).await?;
    let numbers = follow(&seen.numbers());
    let said = format!(
        "{} pictures, {numbers:?}, rms {:.3}, over {}",
        seen.frames.len(),
        seen.sound.rms,
        received["protocol"]
    );
    report(&said);
    ensure!(received["protocol"] == "tcp", "{said}");
    ensure!(seen.frames.len() > 12 * 5, "{said}");
    ensure!(numbers.unreadable == 0 && numbers.backwards == 0, "{said}");
    ensure!(seen.sound.rms > 0.1, "{said}");
    studio.stop().await?;
    ensure!(anchor.panics().is_empty(), "{:?}", anchor.panics());
    Ok(())
}
