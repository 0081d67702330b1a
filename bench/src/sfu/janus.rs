//! Janus (`apt-get install janus`) with its streaming plugin: it gets the stream as plain RTP and forwards it to viewers, whom it
//! offers a session each over its HTTP API.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::process::Command;

use super::viewer::Viewer;
use super::{Forwarding, SETTLE, measure};
use crate::clip::Clip;
use crate::node::{Node, free_port};

/// Payload types of the stream.
const VIDEO: u8 = 102;
const AUDIO: u8 = 111;

/// What rows call it.
pub(crate) const NAME: &str = "Janus";

/// The same round as AnchorNet's with one publisher; nothing where Janus or ffmpeg is missing.
pub(super) async fn round(
    clips: &Path,
    viewers: usize,
    duration: Duration,
) -> anyhow::Result<Option<Forwarding>> {
    let [video, audio] = [free_port().await?, free_port().await?];
    let mountpoint = format!(
        "one: {{ type = \"rtp\"; id = 1; audio = true; video = true; videobufferkf = true; \
         audioport = {audio}; audiopt = {AUDIO}; audiocodec = \"opus\"; \
         videoport = {video}; videopt = {VIDEO}; videocodec = \"h264\"; \
         videofmtp = \"profile-level-id=42e01f;packetization-mode=1\"; }}\n"
    );
    let Some(node) = Node::janus(&mountpoint).await? else {
        return Ok(None);
    };
    let file = Clip::HOST.file(clips).await?;
    let to = |port: u16| format!("rtp://127.0.0.1:{port}?pkt_size=1200");
    let host = Command::new("ffmpeg")
        .args(["-v", "error", "-re", "-stream_loop", "-1", "-i"])
        .arg(&file)
        .args(["-map", "0:v", "-c", "copy", "-bsf:v", "dump_extra"])
        .args(["-payload_type", &VIDEO.to_string(), "-f", "rtp", &to(video)])
        .args(["-map", "0:a", "-c", "copy"])
        .args(["-payload_type", &AUDIO.to_string(), "-f", "rtp", &to(audio)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start ffmpeg")?;
    tokio::time::sleep(SETTLE).await;
    let http = reqwest::Client::new();
    let base = format!("http://127.0.0.1:{}/janus", node.http);
    let join = async |_| join(&http, &base).await;
    let forwarding = measure(&node, viewers, duration, join).await?;
    drop(host);
    node.stop().await;
    Ok(Some(forwarding))
}

async fn join(http: &reqwest::Client, base: &str) -> anyhow::Result<(Viewer, Instant)> {
    let asked = Instant::now();
    let post = async |url: &str, mut body: Value| -> anyhow::Result<Value> {
        body["transaction"] = json!("bench");
        Ok(http.post(url).json(&body).send().await?.json().await?)
    };
    let id = |answer: &Value| answer["data"]["id"].as_u64().context("an id of Janus");
    let session = id(&post(base, json!({ "janus": "create" })).await?)?;
    let session = format!("{base}/{session}");
    let attach = json!({ "janus": "attach", "plugin": "janus.plugin.streaming" });
    let handle = id(&post(&session, attach).await?)?;
    let handle = format!("{session}/{handle}");
    let watch = json!({ "janus": "message", "body": { "request": "watch", "id": 1 } });
    post(&handle, watch).await?;
    let offer = loop {
        let event: Value = http.get(&session).send().await?.json().await?;
        if let Some(offer) = event.pointer("/jsep/sdp").and_then(Value::as_str) {
            break offer.to_owned();
        }
        anyhow::ensure!(
            asked.elapsed() < Duration::from_secs(10),
            "no offer: {event}"
        );
    };
    let (viewer, answer) = Viewer::answer(offer).await?;
    let start = json!({
        "janus": "message",
        "body": { "request": "start" },
        "jsep": { "type": "answer", "sdp": answer },
    });
    post(&handle, start).await?;
    Ok((viewer, asked))
}
