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
struct Host(Child);

impl Host {
    fn start(
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
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        Ok(Self(command.spawn().context("cannot start the host")?))
    }

    /// Waits for its end; returns when its first picture was captured.
    async fn finish(mut self) -> anyhow::Result<SystemTime> {
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

/// The host's pictures are captured on one line from the first on, and the program keeps their distances.
fn judge(pictures: &[(Picture, SystemTime)], captured: SystemTime) -> anyhow::Result<Live> {
    let (first, arrived) = pictures.first().context("the viewer saw nothing")?;
    anyhow::ensure!(
        first.keyframe,
        "the viewer was given a picture that it cannot decode"
    );
    let micros = |from: SystemTime, to: SystemTime| {
        let age = to.duration_since(from).unwrap_or_default();
        u64::try_from(age.as_micros()).unwrap_or(u64::MAX)
    };
    let mut ages: Vec<u64> = pictures
        .iter()
        .map(|(picture, at)| {
            let offset = picture.timestamp_ms.wrapping_sub(first.timestamp_ms);
            micros(captured + Duration::from_millis(offset.into()), *at)
        })
        .collect();
    ages.sort_unstable();
    let (last, _) = pictures.last().context("the viewer saw nothing")?;
    let span_s = f64::from(last.timestamp_ms.wrapping_sub(first.timestamp_ms)) / 1_000.0;
    let shown = u32::try_from(pictures.len()).unwrap_or(u32::MAX);
    Ok(Live {
        first_picture_ms: f64::from(u32::try_from(micros(captured, *arrived)).unwrap_or(u32::MAX))
            / 1_000.0,
        p50_ms: percentile(&ages, 50) / 1_000.0,
        p95_ms: percentile(&ages, 95) / 1_000.0,
        fps: f64::from(shown.saturating_sub(1)) / span_s.max(0.001),
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
    tokio::time::sleep(settle).await;
    let before = node.cpu_ms()?;
    tokio::time::sleep(duration).await;
    let used = node.cpu_ms()? - before;
    host.finish().await?;
    Ok(used / duration.as_secs_f64())
}
