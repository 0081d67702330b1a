//! The server under test: a node on free ports of loopback, with a configuration of its own.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::process::Process;
use super::{eventually, ports, tools};

/// How long a node may take to be ready. Generous: the dev profile, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(15);

/// What differs from the defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// The subcommand: `run`, `anchor` or `origin`.
    pub part: &'static str,
    /// Settings in addition to the ports, as `key = value` lines of TOML, by section.
    pub settings: Vec<(&'static str, String)>,
    /// Where WebRTC listens, if not on loopback.
    pub webrtc: Option<String>,
    /// Environment variables.
    pub environment: Vec<(&'static str, String)>,
}

/// The program delay of the tests, in milliseconds. The default of 300 is for machines that are not busy with compilers,
/// browsers and encoders at the same time: a sender or server that gets no processor for half a second would lose sound,
/// which says nothing about the system. What latency costs is measured by the bench.
const PROGRAM_DELAY_MS: u32 = 1_000;

impl Default for Options {
    /// The whole system in one process, with patience.
    fn default() -> Self {
        Self {
            part: "run",
            settings: vec![("program", format!("delay_ms = {PROGRAM_DELAY_MS}"))],
            webrtc: None,
            environment: Vec::new(),
        }
    }
}

impl Options {
    /// Adds `key = value` in TOML to a section.
    #[must_use]
    pub fn set(mut self, section: &'static str, line: impl Into<String>) -> Self {
        self.settings.push((section, line.into()));
        self
    }
}

/// A running node.
#[derive(Debug)]
pub struct Anchor {
    /// Its process.
    pub process: Process,
    /// The ports it listens on.
    pub ports: Ports,
    /// From the start of the process to its first good answer of `/readyz`.
    pub start_time: Duration,
    config: PathBuf,
    environment: Vec<(&'static str, String)>,
    _folder: TempDir,
}

/// The ports of a node.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// API, WHIP, pages, playback.
    pub http: u16,
    /// WebRTC, UDP.
    pub webrtc: u16,
    /// The origin's RTMP.
    pub rtmp: u16,
    /// RTMP of broadcasters.
    pub rtmp_ingest: u16,
}

impl Ports {
    /// Free ones.
    ///
    /// # Errors
    /// When there are none.
    pub fn free() -> anyhow::Result<Self> {
        Ok(Self {
            http: ports::free()?,
            webrtc: ports::free()?,
            rtmp: ports::free()?,
            rtmp_ingest: ports::free()?,
        })
    }
}

impl Anchor {
    /// Starts a node as [`Options::default`] says and waits until it is ready.
    ///
    /// # Errors
    /// When it is not ready in time; the message ends with its last lines.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Starts a node and waits until it is ready.
    ///
    /// # Errors
    /// As [`Anchor::start`].
    #[expect(clippy::disallowed_methods, reason = "the shell of the tests")]
    pub async fn start_with(options: Options) -> anyhow::Result<Self> {
        let ports = Ports::free()?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("anchornet.toml");
        fs::write(&file, config(ports, &options))?;
        let started = Instant::now();
        let process = Process::start(
            "anchornet",
            &mut command(&[options.part], &file, &options.environment)?,
        )?;
        let mut anchor = Self {
            process,
            ports,
            start_time: Duration::ZERO,
            config: file,
            environment: options.environment,
            _folder: folder,
        };
        let ready = anchor.url("/readyz");
        let answer = eventually("ready node", START_LIMIT, async || {
            ensure!(anchor.process.ended()?.is_none(), "it has ended");
            let answer = reqwest::get(&ready).await?;
            ensure!(
                answer.status() == 200,
                "{ready} answers {}",
                answer.status()
            );
            Ok(started.elapsed())
        })
        .await;
        anchor.start_time = answer.map_err(|error| error.context(anchor.process.tail()))?;
        Ok(anchor)
    }

    /// A URL of its HTTP port.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports.http)
    }

    /// Where to publish a channel.
    #[must_use]
    pub fn whip(&self, channel: &str) -> String {
        self.url(&format!("/whip/{channel}"))
    }

    /// Where to publish a channel by RTMP.
    #[must_use]
    pub fn rtmp(&self, channel: &str) -> String {
        format!("rtmp://127.0.0.1:{}/live/{channel}", self.ports.rtmp_ingest)
    }

    /// Where to watch a channel by HTTP-FLV.
    #[must_use]
    pub fn flv(&self, channel: &str) -> String {
        self.url(&format!("/live/{channel}.flv"))
    }

    /// Gets JSON.
    ///
    /// # Errors
    /// When the answer is not a success.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = reqwest::get(self.url(path)).await?;
        ensure!(
            answer.status().is_success(),
            "{path} answers {}",
            answer.status()
        );
        Ok(answer.json().await?)
    }

    /// Who is in a channel, as the API lists them.
    ///
    /// # Errors
    /// When there is no such list.
    pub async fn participants(&self, channel: &str) -> anyhow::Result<Vec<Value>> {
        let path = format!("/api/v1/channels/{channel}/participants");
        let mut page = self.get(&path).await?;
        let Value::Array(items) = page["items"].take() else {
            bail!("no list: {page}");
        };
        Ok(items)
    }

    /// One of them.
    ///
    /// # Errors
    /// When there is no such participant.
    pub async fn participant(&self, channel: &str, id: &str) -> anyhow::Result<Value> {
        let all = self.participants(channel).await?;
        let found = all.iter().find(|participant| participant["id"] == id);
        found.cloned().with_context(|| format!("no {id}: {all:?}"))
    }

    /// Puts or patches JSON; gives the status and the answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<(u16, Value)> {
        let answer = reqwest::Client::new()
            .request(method, self.url(path))
            .json(body)
            .send()
            .await?;
        let status = answer.status().as_u16();
        Ok((status, answer.json().await.unwrap_or(Value::Null)))
    }

    /// Switches a channel's mode; gives the status and the report or problem.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn switch(&self, channel: &str, mode: &str) -> anyhow::Result<(u16, Value)> {
        let path = format!("/api/v1/channels/{channel}/mode");
        let body = serde_json::json!({ "mode": mode });
        self.send(reqwest::Method::PUT, &path, &body).await
    }

    /// Creates a channel, so that viewers may come before the host.
    ///
    /// # Errors
    /// When the answer is not a success.
    pub async fn create_channel(&self, id: &str, destinations: &[String]) -> anyhow::Result<()> {
        let destinations: Vec<Value> = destinations
            .iter()
            .map(|url| serde_json::json!({ "url": url }))
            .collect();
        let body = serde_json::json!({ "id": id, "destinations": destinations });
        let answer = reqwest::Client::new()
            .post(self.url("/api/v1/channels"))
            .json(&body)
            .send()
            .await?;
        let status = answer.status();
        ensure!(
            status.is_success(),
            "creating {id}: {status} {}",
            answer.text().await?
        );
        Ok(())
    }

    /// Waits for a channel to be in a state (`idle`, `live`, `away`).
    ///
    /// # Errors
    /// After `limit`.
    pub async fn wait_for_state(
        &self,
        channel: &str,
        state: &str,
        limit: Duration,
    ) -> anyhow::Result<()> {
        let path = format!("/api/v1/channels/{channel}");
        eventually(&format!("channel {channel} {state}"), limit, async || {
            let found = self.get(&path).await?;
            ensure!(
                found.get("state").and_then(Value::as_str) == Some(state),
                "{found}"
            );
            Ok(())
        })
        .await
    }

    /// A token with a scope, minted by the binary from this node's secret.
    ///
    /// # Errors
    /// When there is no secret.
    pub fn token(&self, scope: &str) -> anyhow::Result<String> {
        self.print(&["token", "--scope", scope])
    }

    /// What a subcommand prints with this node's configuration.
    fn print(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = command(arguments, &self.config, &self.environment)?;
        let output = command.output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// The key of a relay, derived by the binary from this node's secret.
    ///
    /// # Errors
    /// When there is no secret.
    pub fn relay_key(&self, id: &str) -> anyhow::Result<String> {
        self.print(&["relay-key", "--id", id])
    }

    /// Resident memory in KiB.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn resident_kib(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Lines of its log that report a panic.
    #[must_use]
    pub fn panics(&self) -> Vec<String> {
        self.process
            .output()
            .into_iter()
            .filter(|line| line.contains("panicked at"))
            .collect()
    }
}

/// The binary with a subcommand and a configuration file.
///
/// # Errors
/// When it has not been built.
pub fn command(
    arguments: &[&str],
    config: &Path,
    environment: &[(&str, String)],
) -> anyhow::Result<Command> {
    let mut command = Command::new(tools::anchornet()?);
    command
        .args(arguments)
        .arg("--config")
        .arg(config)
        .env_remove("RUST_LOG");
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    Ok(command)
}

fn config(ports: Ports, options: &Options) -> String {
    let Ports {
        http,
        webrtc,
        rtmp,
        rtmp_ingest,
    } = ports;
    let mut settings = options.settings.clone();
    settings.push(("http", format!("listen = \"127.0.0.1:{http}\"")));
    let webrtc = options
        .webrtc
        .clone()
        .unwrap_or_else(|| format!("127.0.0.1:{webrtc}"));
    settings.push(("webrtc", format!("listen = \"{webrtc}\"")));
    settings.push(("rtmp", format!("listen = \"127.0.0.1:{rtmp}\"")));
    settings.push((
        "rtmp_ingest",
        format!("listen = \"127.0.0.1:{rtmp_ingest}\""),
    ));
    // Stable: the lines of a section keep their order.
    settings.sort_by_key(|(section, _)| *section);
    let mut text = String::new();
    let mut current = "";
    for (section, line) in &settings {
        if *section != current {
            let _ = writeln!(text, "[{section}]");
            current = section;
        }
        let _ = writeln!(text, "{line}");
    }
    text
}
