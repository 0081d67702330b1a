//! A whole channel: WHIP host, program, origin, viewer. What it costs, how soon a picture is there, how late it is.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use crate::fanout::percentile;
use crate::node::Node;
use crate::viewer::{Picture, record_flv};

/// Result of one host watched by one viewer who came before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live {
    /// From the host's first picture to the viewer's.
    pub(crate) first_picture_ms: f64,
    /// From capture to arrival of each picture.
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
    /// Pictures per second at the viewer.
    pub(crate) fps: f64,
}

/// A host that publishes the test clip.
pub(crate) struct Host(Child);

impl Host {
    pub(crate) fn start(
        binary: &Path,
        node: &Node,
        channel: &str,
        duration: Duration,
    ) -> anyhow::Result<Self> {
        let url = format!("http://127.0.0.1:{}/whip/{channel}", node.http);
        let seconds = duration.as_secs().to_string();
        let mut command = Command::new(binary);
        command.args([
            "publish",
            "test",
            "--json",
            "--no-retry",
            "--whip",
            &url,
            "--duration",
            &seconds,
        ]);
        command
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        Ok(Self(command.spawn().context("cannot start the host")?))
    }

    /// Waits for its end; returns when its first picture was captured.
    pub(crate) async fn finish(mut self) -> anyhow::Result<SystemTime> {
        let mut text = String::new();
        let mut output = self.0.stdout.take().context("the host prints nothing")?;
        output.read_to_string(&mut text).await?;
        let status = self.0.wait().await?;
        anyhow::ensure!(status.success(), "the host failed: {status}");
        let line: serde_json::Value =
            serde_json::from_str(text.lines().last().unwrap_or_default())?;
        let micros = line
            .get("first_picture_unix_us")
            .and_then(serde_json::Value::as_u64);
        let micros = micros
            .filter(|micros| *micros > 0)
            .context("the host never sent a picture")?;
        Ok(SystemTime::UNIX_EPOCH + Duration::from_micros(micros))
    }
}

/// A viewer waits, a host comes.
pub(crate) async fn early_viewer(
    binary: &Path,
    node: &Node,
    duration: Duration,
) -> anyhow::Result<Live> {
    let api = format!("http://127.0.0.1:{}/api/v1/channels", node.http);
    let created = reqwest::Client::new()
        .post(&api)
        .json(&serde_json::json!({ "id": "early" }))
        .send()
        .await?;
    anyhow::ensure!(
        created.status().is_success(),
        "the channel cannot be created: {}",
        created.text().await?
    );
    let port = node.http;
    let whole = duration + Duration::from_secs(3);
    let viewer = tokio::spawn(async move { record_flv(port, "/live/early.flv", whole).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let host = Host::start(binary, node, "early", duration)?;
    let first = host.finish().await?;
    let pictures = viewer.await??;
    judge(&pictures, first)
}

/// When each picture arrived, and how old it was then. The first is the host's first, captured at `captured`; the
/// host's pictures are captured on one line from there on, and the program keeps their distances.
pub(crate) fn ages(
    pictures: &[(Picture, SystemTime)],
    captured: SystemTime,
) -> anyhow::Result<Vec<(SystemTime, Duration)>> {
    let (first, _) = pictures.first().context("the viewer saw nothing")?;
    anyhow::ensure!(
        first.keyframe,
        "the viewer was given a picture that it cannot decode"
    );
    let age = |(picture, at): &(Picture, SystemTime)| {
        let offset = picture.timestamp_ms.wrapping_sub(first.timestamp_ms);
        let captured = captured + Duration::from_millis(offset.into());
        (*at, at.duration_since(captured).unwrap_or_default())
    };
    Ok(pictures.iter().map(age).collect())
}

fn judge(pictures: &[(Picture, SystemTime)], captured: SystemTime) -> anyhow::Result<Live> {
    let ages = ages(pictures, captured)?;
    let (_, first_age) = ages.first().context("the viewer saw nothing")?;
    let mut micros: Vec<u64> = ages
        .iter()
        .map(|(_, age)| u64::try_from(age.as_micros()).unwrap_or(u64::MAX))
        .collect();
    micros.sort_unstable();
    let time =
        |of: Option<&(Picture, SystemTime)>| of.map_or(0, |(picture, _)| picture.timestamp_ms);
    let span_ms = time(pictures.last()).wrapping_sub(time(pictures.first()));
    let shown = u32::try_from(pictures.len()).unwrap_or(u32::MAX);
    Ok(Live {
        first_picture_ms: first_age.as_secs_f64() * 1_000.0,
        p50_ms: percentile(&micros, 50) / 1_000.0,
        p95_ms: percentile(&micros, 95) / 1_000.0,
        fps: f64::from(shown.saturating_sub(1)) * 1_000.0 / f64::from(span_ms.max(1)),
    })
}

/// CPU of the node for one channel without viewers, in milliseconds per second.
pub(crate) async fn solo_cpu(
    binary: &Path,
    node: &Node,
    duration: Duration,
) -> anyhow::Result<f64> {
    let settle = Duration::from_secs(3);
    let host = Host::start(
        binary,
        node,
        "solo",
        settle + duration + Duration::from_secs(3),
    )?;
    let cpu = node.cpu_per_second(settle, duration).await?;
    host.finish().await?;
    Ok(cpu)
}
