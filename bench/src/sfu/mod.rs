//! Forwarding by WebRTC: one publisher of 720p30 at 2.5 Mb/s, many subscribers by WHEP; beside Janus, whose streaming plugin
//! does the same with the same stream.

mod janus;
mod viewer;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use reqwest::header::CONTENT_TYPE;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::viewer::{Phase, Seen, Viewer};
use crate::channel::Host;
use crate::fanout::{float, percentile};
use crate::node::Node;
use crate::report::Row;

/// From the last subscriber's coming until anything is counted.
const SETTLE: Duration = Duration::from_secs(2);

/// Channels and subscribers of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    pub(crate) channels: usize,
    pub(crate) subscribers: usize,
}

/// What a round has shown.
#[derive(Clone, Copy, Debug)]
struct Forwarding {
    /// CPU of the server per packet that it sent, without what it costs when nobody subscribes.
    cpu_us: f64,
    /// Packets of all subscribers per second.
    packets_per_s: f64,
    lost: u64,
    memory_kib: f64,
    first_p50_ms: f64,
    first_max_ms: f64,
}

/// All rounds.
pub(crate) async fn rows(
    binary: &Path,
    clips: &Path,
    crowds: &[Crowd],
    duration: Duration,
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (index, crowd) in crowds.iter().enumerate() {
        let Crowd {
            channels,
            subscribers,
        } = *crowd;
        let ours = anchornet(binary, *crowd, duration).await?;
        let theirs = match channels {
            1 => janus::round(clips, subscribers, duration)
                .await
                .unwrap_or_else(|error| {
                    // A peer that fails is left out; what is measured here is not its setup.
                    crate::print(&format!("{} is left out: {error:#}", janus::NAME));
                    None
                }),
            _ => None,
        };
        let name = format!("forwarding {channels} to {subscribers}");
        let rate = ours.packets_per_s / 1_000.0;
        let mut cpu = Row::new(
            format!("{name}: CPU per packet ({rate:.1} k packets/s)"),
            ours.cpu_us,
            "us",
        );
        let mut lost = Row::new(format!("{name}: packets lost"), float(ours.lost), "").at_most(0.0);
        let mut memory = Row::new(
            format!("{name}: memory per subscriber"),
            ours.memory_kib,
            "KiB",
        )
        .at_most(300.0);
        let mut first = Row::new(
            format!("{name}: asked to first picture, p50"),
            ours.first_p50_ms,
            "ms",
        )
        .at_most(300.0);
        if index == 0 {
            cpu = cpu.at_most(5.0);
        }
        if let Some(theirs) = theirs {
            cpu = cpu.beside(janus::NAME, theirs.cpu_us);
            lost = lost.beside(janus::NAME, float(theirs.lost));
            memory = memory.beside(janus::NAME, theirs.memory_kib);
            first = first.beside(janus::NAME, theirs.first_p50_ms);
        }
        let slowest = Row::new(
            format!("{name}: asked to first picture, slowest"),
            ours.first_max_ms,
            "ms",
        );
        rows.extend([cpu, lost, memory, first, slowest]);
    }
    Ok(rows)
}

async fn anchornet(binary: &Path, crowd: Crowd, duration: Duration) -> anyhow::Result<Forwarding> {
    let settings = [
        "http.sessions_per_minute_per_ip=0",
        "webrtc.max_sessions=1000",
        "webrtc.tcp=false",
    ];
    let node = Node::anchornet(binary, "run", &settings).await?;
    let whole = duration * 2 + SETTLE * 4 + Duration::from_secs(30);
    let mut hosts = Vec::new();
    for channel in 0..crowd.channels {
        let path = format!("sfu-{channel}?participant=host&role=host");
        hosts.push(Host::start(binary, &node, &path, whole)?);
    }
    tokio::time::sleep(SETTLE * 2).await;
    let http = reqwest::Client::new();
    let join = async |at: usize| {
        let channel = at % crowd.channels;
        let url = format!("http://127.0.0.1:{}/whep/sfu-{channel}/host", node.http);
        let (mut viewer, offer) = Viewer::offer().await?;
        let asked = Instant::now();
        let request = http.post(&url).header(CONTENT_TYPE, "application/sdp");
        let answer = request.body(offer).send().await?;
        let status = answer.status();
        let body = answer.text().await?;
        anyhow::ensure!(status.is_success(), "{url} answers {status}: {body}");
        viewer.accept(body)?;
        Ok((viewer, asked))
    };
    let count = crowd.channels * crowd.subscribers;
    let forwarding = measure(&node, count, duration, join).await?;
    drop(hosts);
    node.stop().await;
    Ok(forwarding)
}

/// `count` viewers come one after the other, as `join` lets them, and are counted for `duration`; before, the server is measured
/// without them.
async fn measure(
    node: &Node,
    count: usize,
    duration: Duration,
    join: impl AsyncFn(usize) -> anyhow::Result<(Viewer, Instant)>,
) -> anyhow::Result<Forwarding> {
    let alone = node.cpu_per_second(Duration::ZERO, duration / 2).await?;
    let memory = node.rss_mb()?;
    let (phases, phase) = watch::channel(Phase::Joining);
    let mut tasks = JoinSet::new();
    for at in 0..count {
        let (viewer, asked) = join(at).await?;
        tasks.spawn(viewer.run(asked, phase.clone()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(SETTLE).await;
    phases.send_replace(Phase::Counting);
    let crowded = node.cpu_per_second(Duration::ZERO, duration).await?;
    let memory_kib = (node.rss_mb()? - memory) * 1_024.0 / float(count.try_into()?);
    phases.send_replace(Phase::Over);
    let mut seen = Vec::new();
    while let Some(viewer) = tasks.join_next().await {
        seen.push(viewer??);
    }
    summary(&seen, (crowded - alone).max(0.0), duration, memory_kib)
}

fn summary(
    seen: &[Seen],
    cpu_ms_per_s: f64,
    duration: Duration,
    memory_kib: f64,
) -> anyhow::Result<Forwarding> {
    let packets: u64 = seen.iter().map(|seen| seen.packets).sum();
    let packets_per_s = float(packets) / duration.as_secs_f64();
    let least = seen.iter().map(|seen| seen.packets).min();
    anyhow::ensure!(least.is_some_and(|least| least > 0), "a viewer got nothing");
    let mut firsts = Vec::new();
    for seen in seen {
        let first = seen.first.context("a viewer saw no picture")?;
        firsts.push(u64::try_from(first.as_micros()).unwrap_or(u64::MAX));
    }
    firsts.sort_unstable();
    Ok(Forwarding {
        cpu_us: cpu_ms_per_s * 1_000.0 / packets_per_s,
        packets_per_s,
        lost: seen.iter().map(|seen| seen.lost).sum(),
        memory_kib,
        first_p50_ms: percentile(&firsts, 50) / 1_000.0,
        first_max_ms: percentile(&firsts, 100) / 1_000.0,
    })
}
