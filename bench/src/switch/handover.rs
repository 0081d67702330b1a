//! How long a switch takes, and how old the program is before and after it. One node, loopback, 720p30.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::process::{Child, Command};

use crate::api::{Channel, Switched};
use crate::channel::{Host, ages};
use crate::clip::Clip;
use crate::node::Node;
use crate::report::Row;
use crate::stats::quantile;
use crate::viewer::record_flv;

/// A host whose keyframes come twice a second: `anchornet publish` plays a file and cannot answer a request for one.
const HOST: Clip = Clip {
    gop: 15,
    seconds: 30,
    ..Clip::HOST
};
/// Stands for a host who answers a request for a keyframe: one is never further away than 100 ms.
const PROMPT_HOST: Clip = Clip { gop: 3, ..HOST };
const GUEST: Clip = Clip {
    width: 640,
    height: 360,
    kbps: 800,
    gop: 30,
    seconds: 30,
};
/// Viewers, and mixers that are not needed, have calmed down after so long.
const SETTLE: Duration = Duration::from_secs(2);
/// What a mix may be older than the host alone, in milliseconds: the clock of this measurement, not a picture.
const ADDED_MS: f64 = 5.0;

/// From the request to the first access unit of the new mode, with a mixer that has to be started and with one that runs.
pub(crate) async fn durations(
    anchornet: &Path,
    clips: &Path,
    toggles: usize,
) -> anyhow::Result<Vec<Row>> {
    let guest = GUEST.file(clips).await?;
    let mut rows = Vec::new();
    let (cold, warm) = ([500.0, 1_000.0], [150.0, f64::INFINITY]);
    for (name, prewarm, clip, bars) in [
        ("cold mixer", "never", HOST, cold),
        ("warm mixer", "always", HOST, warm),
        ("warm mixer, prompt host", "always", PROMPT_HOST, warm),
    ] {
        let host = clip.file(clips).await?;
        let setting = format!("mixer.prewarm={prewarm}");
        let node = Node::anchornet(anchornet, "run", &[&setting]).await?;
        let server = format!("http://127.0.0.1:{}", node.http);
        let channel = Channel::create(&server, None, "show", &[]).await?;
        let _host = broadcast(anchornet, &server, &host, "host")?;
        channel.await_live(1).await?;
        let _guest = broadcast(anchornet, &server, &guest, "guest")?;
        channel.await_live(2).await?;
        tokio::time::sleep(SETTLE).await;
        let mut dice = StdRng::seed_from_u64(1);
        let mut there: Vec<Switched> = Vec::new();
        let mut back: Vec<Switched> = Vec::new();
        for _ in 0..toggles {
            there.push(channel.switch("collab").await?);
            pause(&mut dice).await;
            back.push(channel.switch("solo").await?);
            pause(&mut dice).await;
        }
        node.stop().await;
        let [p50, p95] = bars;
        let title = format!("{name}: request to first picture of the mix");
        let waited = |of: &[Switched], share| {
            let mut values: Vec<f64> = of.iter().map(|switched| switched.waited_ms).collect();
            quantile(&mut values, share)
        };
        rows.push(Row::new(format!("{title}, p50"), waited(&there, 0.5), "ms").at_most(p50));
        let slow = Row::new(format!("{title}, p95"), waited(&there, 0.95), "ms");
        rows.push(if p95.is_finite() {
            slow.at_most(p95)
        } else {
            slow
        });
        let mut answered: Vec<f64> = there.iter().map(|switched| switched.answered_ms).collect();
        let title_answer = format!("{name}: request to its answer, p50");
        rows.push(Row::new(title_answer, quantile(&mut answered, 0.5), "ms"));
        let apart_ms = clip.gop * 100 / 3;
        let title = format!("{name}: request back to host's picture (IDR each {apart_ms} ms)");
        rows.push(Row::new(format!("{title}, p50"), waited(&back, 0.5), "ms").at_most(500.0));
        rows.push(Row::new(format!("{title}, p95"), waited(&back, 0.95), "ms").at_most(1_000.0));
    }
    Ok(rows)
}

/// Between two switches, so that they meet every phase of the clip.
async fn pause(dice: &mut StdRng) {
    let more = Duration::from_millis(dice.random_range(0..1_000));
    tokio::time::sleep(Duration::from_millis(700) + more).await;
}

fn broadcast(anchornet: &Path, server: &str, clip: &Path, role: &str) -> anyhow::Result<Child> {
    let url = format!("{server}/whip/show?participant={role}&role={role}");
    let mut command = Command::new(anchornet);
    command
        .arg("publish")
        .arg(clip)
        .args(["--quiet", "--whip", &url]);
    command.env("RUST_LOG", "error");
    command.stdin(Stdio::null()).kill_on_drop(true);
    command.spawn().context("cannot start a broadcaster")
}

/// From capture to a viewer of the program, alone and mixed.
pub(crate) async fn latency(
    anchornet: &Path,
    clips: &Path,
    round: Duration,
    program_delay_ms: f64,
) -> anyhow::Result<Vec<Row>> {
    let guest = GUEST.file(clips).await?;
    let node = Node::anchornet(anchornet, "run", &[]).await?;
    let server = format!("http://127.0.0.1:{}", node.http);
    let channel = Channel::create(&server, None, "show", &[]).await?;
    let whole = round * 2 + SETTLE * 4;
    let port = node.http;
    let viewer =
        tokio::spawn(async move { record_flv(port, "/live/show.flv", whole + SETTLE).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let host = Host::start(anchornet, &node, "show", whole)?;
    channel.await_live(1).await?;
    let _guest = broadcast(anchornet, &server, &guest, "guest")?;
    channel.await_live(2).await?;
    tokio::time::sleep(SETTLE).await;
    let solo = [SystemTime::now(), SystemTime::now() + round];
    tokio::time::sleep(round).await;
    channel.switch("collab").await?;
    tokio::time::sleep(SETTLE / 4).await;
    let collab = [SystemTime::now(), SystemTime::now() + round];
    tokio::time::sleep(round).await;
    let first = host.finish().await?;
    let pictures = viewer.await??;
    node.stop().await;
    let seen = ages(&pictures, first)?;
    let within = |[from, to]: [SystemTime; 2]| -> Vec<f64> {
        let seen = seen.iter().filter(|(at, _)| (from..to).contains(at));
        seen.map(|(_, age)| age.as_secs_f64() * 1_000.0).collect()
    };
    let bar = program_delay_ms + 50.0;
    let mut rows = Vec::new();
    let mut medians = Vec::new();
    for (name, stretch) in [("solo", solo), ("collab", collab)] {
        let mut found = within(stretch);
        anyhow::ensure!(!found.is_empty(), "no pictures in {name}");
        medians.push(quantile(&mut found, 0.5));
        for (share, value) in [("p50", 0.5), ("p95", 0.95)] {
            let title = format!("capture to viewer in {name}, {share}");
            rows.push(Row::new(title, quantile(&mut found, value), "ms").at_most(bar));
        }
    }
    if let [alone, mixed] = medians[..] {
        let title = "latency that the mix adds, p50";
        rows.push(Row::new(title, mixed - alone, "ms").at_most(ADDED_MS));
    }
    Ok(rows)
}
