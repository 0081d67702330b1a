//! A broadcaster whose uplink becomes thin, and thick again: the browser adapts, the program goes on, and nobody reconnects.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use e2e::analysis::{decode, tracks};
use e2e::capture::{Arrival, FlvViewer};
use e2e::run::anchor::{Anchor, Options};
use e2e::run::browser::Browser;
use e2e::run::process::report;
use e2e::run::relay::{Link, Relay, behind};
use media::flv::{Tag, TagKind};

use crate::support::{Recording, SOON, median};

/// How long each uplink lasts, in seconds; `ANCHORNET_UPLINK_S` sets another number.
const STEP_S: u64 = 6;
/// Rates in kilobits per second; `None`: unlimited.
const RATES_KBPS: [Option<u64>; 6] = [None, Some(4_000), Some(2_000), Some(1_000), Some(512), None];
const RTT_MS: u32 = 30;
const FPS: f64 = 30.0;
/// How exact the measure is: a sender that gets no processor for a moment draws, and numbers, later from then on.
const TOLERANCE_S: f64 = 0.3;
const STUDIO: &str = "/studio/demo?source=pattern&size=1280x720&fps=30&kbps=2500&sound=tone";

/// A picture at the viewer: when it came, and how late it was in seconds. Numbers are drawn on time, so lateness is known up
/// to a constant.
struct Seen {
    at: Instant,
    late_s: f64,
}

fn lateness(arrivals: &[Arrival]) -> anyhow::Result<Vec<Seen>> {
    let tags: Vec<Tag> = arrivals.iter().map(|arrival| arrival.tag.clone()).collect();
    let recording = Recording::of(&tags)?;
    let numbers = decode::numbers(&recording.file)?;
    let is_picture = |tag: &Tag| tag.kind == TagKind::Video && !tag.is_sequence_header();
    let pictures = arrivals.iter().filter(|arrival| is_picture(&arrival.tag));
    let first = arrivals.first().context("nothing came")?.at;
    let seen = pictures.zip(numbers).filter_map(|(arrival, number)| {
        let drawn_s = f64::from(number?) / FPS;
        Some(Seen {
            at: arrival.at,
            late_s: (arrival.at - first).as_secs_f64() - drawn_s,
        })
    });
    Ok(seen.collect())
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test that measures time")]
async fn a_thin_uplink_costs_sharpness_and_nothing_else() -> anyhow::Result<()> {
    let step = std::env::var("ANCHORNET_UPLINK_S").ok();
    let step = step.and_then(|text| text.parse().ok()).unwrap_or(STEP_S);
    let step = Duration::from_secs(step);
    let anchor = Anchor::start_with(behind(Options::default())).await?;
    let relay = Relay::start(&anchor, 21)?;
    let studio = Browser::publish(&anchor.url(STUDIO)).await?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    viewer.wait_for_pictures(60, SOON).await?;

    let mut steps = Vec::new();
    for rate_kbps in RATES_KBPS {
        let up = rate_kbps.map_or(Link::of(RTT_MS, 0), |rate| Link::limited(rate, RTT_MS));
        let _ = relay.take();
        relay.set(up, Link::of(RTT_MS, 0));
        let begin = Instant::now();
        tokio::time::sleep(step).await;
        let (sent, _) = relay.take();
        steps.push((rate_kbps, begin, Instant::now(), sent.bytes()));
    }

    let seen = lateness(&viewer.arrivals())?;
    let of = |from: Instant, to: Instant| {
        let within = seen
            .iter()
            .filter(move |seen| (from..to).contains(&seen.at));
        within.map(|seen| seen.late_s).collect::<Vec<f64>>()
    };
    // What the show had before there was any limit. The program's own delay is part of it.
    let (_, begin, end, _) = steps[0];
    let baseline = median(of(begin, end));
    let delay_s = 1.0;
    for (rate_kbps, begin, end, bytes) in &steps {
        let late = of(*begin, *end);
        let worst = late.iter().copied().fold(f64::NAN, f64::max) - baseline + delay_s;
        let sent_kbps = 8.0 * *bytes as f64 / step.as_secs_f64() / 1_000.0;
        report(&format!(
            "{rate_kbps:?} kb/s: sends {sent_kbps:.0} kb/s, {} pictures, latency {:.2} s, at most {worst:.2} s",
            late.len(),
            median(late.clone()) - baseline + delay_s,
        ));
        ensure!(late.len() > 5, "{rate_kbps:?}: {} pictures", late.len());
        ensure!(worst <= 3.0, "{rate_kbps:?}: latency {worst:.2} s");
    }
    let (_, begin, end, _) = steps[steps.len() - 1];
    let recovered = median(of(
        (begin + Duration::from_secs(5)).min(end - Duration::from_secs(1)),
        end,
    ));
    ensure!(
        (recovered - baseline).abs() < TOLERANCE_S,
        "{:.2} s later than before",
        recovered - baseline
    );

    // One session, one stream: nobody has reconnected.
    let metrics = reqwest::get(anchor.url("/metrics")).await?.text().await?;
    let offers = metrics
        .lines()
        .find(|line| line.starts_with("anchornet_sfu_offers_total") && line.contains("accepted"));
    ensure!(
        offers.is_some_and(|line| line.ends_with(" 1")),
        "{offers:?}"
    );
    ensure!(viewer.ended().is_none(), "{:?}", viewer.ended());
    let recording = Recording::of(&viewer.tags())?;
    tracks::on_the_sample_clock(&recording.tracks.audio)?;
    tracks::strictly_increasing(&recording.tracks.video)?;
    ensure!(anchor.panics().is_empty(), "{:?}", anchor.panics());
    studio.stop().await
}
