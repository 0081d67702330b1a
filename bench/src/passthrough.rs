//! A host by RTMP whose picture and sound pass through to one destination, beside nginx relaying the same stream.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tokio::process::{Child, Command};

use crate::clip::Clip;
use crate::node::{Node, free_port};
use crate::report::Row;

/// From the host's start until CPU time is counted.
const SETTLE: Duration = Duration::from_secs(4);

/// CPU of AnchorNet and of nginx for one such host, each in turn; nothing where nginx is missing, which is also the
/// destination.
pub(crate) async fn cost(
    binary: &Path,
    clips: &Path,
    duration: Duration,
) -> anyhow::Result<Vec<Row>> {
    let Some(sink) = Node::nginx(None).await? else {
        return Ok(Vec::new());
    };
    let file = flv(clips).await?;
    let (ours, memory) = anchornet(binary, &file, sink.rtmp, duration).await?;
    let mut row = Row::new("RTMP host passed on: CPU per second", ours, "ms").at_most(3.0);
    if let Some(relay) = Node::nginx(Some(sink.rtmp)).await? {
        let host = host(&file, &format!("rtmp://127.0.0.1:{}/live/solo", relay.rtmp))?;
        row = row.beside(relay.name, relay.cpu_per_second(SETTLE, duration).await?);
        drop(host);
        relay.stop().await;
    }
    sink.stop().await;
    let memory = Row::new("RTMP host passed on: memory (RSS)", memory, "MB");
    Ok(vec![row, memory])
}

/// CPU per second in ms, and memory in MB.
async fn anchornet(
    binary: &Path,
    file: &Path,
    sink: u16,
    duration: Duration,
) -> anyhow::Result<(f64, f64)> {
    let ingest = free_port().await?;
    let listen = format!("rtmp_ingest.listen=127.0.0.1:{ingest}");
    let destination =
        format!("channels.destinations=[\"rtmp://127.0.0.1:{sink}/live/{{channel}}\"]");
    let settings = ["rtmp_ingest.enabled=true", &listen, &destination];
    let node = Node::anchornet(binary, "anchor", &settings).await?;
    let host = host(file, &format!("rtmp://127.0.0.1:{ingest}/live/solo"))?;
    let cpu = node.cpu_per_second(SETTLE, duration).await?;
    let memory = node.rss_mb()?;
    let stats = format!("http://127.0.0.1:{}/api/v1/channels/solo/stats", node.http);
    let stats: serde_json::Value = reqwest::get(stats).await?.json().await?;
    drop(host);
    node.stop().await;
    let passes = stats.pointer("/program/audio_passes");
    anyhow::ensure!(
        passes == Some(&serde_json::Value::Bool(true)),
        "the host's sound did not pass: {stats}"
    );
    Ok((cpu, memory))
}

/// Sends the file in real time, over and over; killed when dropped.
fn host(file: &Path, url: &str) -> anyhow::Result<Child> {
    Command::new("ffmpeg")
        .args(["-v", "error", "-re", "-stream_loop", "-1", "-i"])
        .arg(file)
        .args(["-c", "copy", "-f", "flv", url])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start ffmpeg")
}

/// 720p30 at 2.5 Mb/s with the AAC of ffmpeg's own encoder.
async fn flv(clips: &Path) -> anyhow::Result<PathBuf> {
    let source = Clip::HOST.file(clips).await?;
    let file = source.with_extension("aac.flv");
    if !file.is_file() {
        let status = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-i"])
            .arg(&source)
            .args(["-c:v", "copy", "-c:a", "aac", "-b:a", "128k"])
            .arg(&file)
            .status()
            .await
            .context("ffmpeg is needed to make clips")?;
        anyhow::ensure!(status.success(), "ffmpeg failed: {status}");
    }
    Ok(file)
}
