//! Servers under measurement: AnchorNet and its peers, each a child process on free ports of loopback.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

const JANUS: &str = "/usr/bin/janus";
const NGINX: &str = "/usr/sbin/nginx";
const NGINX_RTMP: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Ticks per second of /proc/PID/stat: fixed by the kernel's interface on Linux.
const TICKS_PER_S: f64 = 100.0;

/// A running server; killed when dropped.
pub(crate) struct Node {
    /// What rows call it.
    pub(crate) name: &'static str,
    /// HTTP port; 0: none.
    pub(crate) http: u16,
    /// RTMP port.
    pub(crate) rtmp: u16,
    /// From spawn until it was ready.
    pub(crate) started_in: Duration,
    child: Child,
    pid: u32,
    folder: PathBuf,
}

impl Node {
    /// `anchornet PART` with some settings changed.
    pub(crate) async fn anchornet(
        binary: &Path,
        part: &str,
        settings: &[&str],
    ) -> anyhow::Result<Self> {
        let [http, rtmp, udp] = [free_port().await?, free_port().await?, free_port().await?];
        let mut command = Command::new(binary);
        command.arg(part).env("RUST_LOG", "error");
        let fixed = [
            format!("http.listen=127.0.0.1:{http}"),
            format!("rtmp.listen=127.0.0.1:{rtmp}"),
            format!("webrtc.listen=127.0.0.1:{udp}"),
            // Nobody comes by RTMP, and other nodes may have the port.
            "rtmp_ingest.enabled=false".to_owned(),
        ];
        let settings = settings.iter().map(|setting| (*setting).to_owned());
        for setting in fixed.into_iter().chain(settings) {
            command.arg("--set").arg(setting);
        }
        let mut node = Self::spawn("AnchorNet", command, http, rtmp)?;
        let begun = Instant::now();
        let url = format!("http://127.0.0.1:{http}/readyz");
        loop {
            let answer = reqwest::get(&url).await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                node.started_in = begun.elapsed();
                return Ok(node);
            }
            anyhow::ensure!(
                begun.elapsed() < START_TIMEOUT,
                "anchornet {part} does not become ready"
            );
            if let Some(status) = node.child.try_wait()? {
                anyhow::bail!("anchornet {part} ended at once: {status}");
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Debian's nginx with its RTMP module, if installed. What it gets it pushes on to the RTMP port `push`.
    pub(crate) async fn nginx(push: Option<u16>) -> anyhow::Result<Option<Self>> {
        if !Path::new(NGINX).exists() || !Path::new(NGINX_RTMP).exists() {
            return Ok(None);
        }
        let rtmp = free_port().await?;
        let folder = scratch(&format!("nginx-{rtmp}"))?;
        let push = push.map_or_else(String::new, |port| {
            format!("push rtmp://127.0.0.1:{port}/live;")
        });
        let config = format!(
            "load_module {NGINX_RTMP};\nmaster_process off;\ndaemon off;\npid nginx.pid;\nerror_log error.log;\n\
             events {{ worker_connections 2048; }}\n\
             rtmp {{ server {{ listen 127.0.0.1:{rtmp}; chunk_size 4096; application live {{ live on; {push} }} }} }}\n"
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, config)?;
        let mut command = Command::new(NGINX);
        command.arg("-p").arg(&folder).arg("-c").arg(&file);
        let mut node = Self::spawn("nginx-rtmp", command, 0, rtmp)?;
        node.folder = folder;
        node.await_port(rtmp).await?;
        Ok(Some(node))
    }

    /// xiu, if it is in PATH (`cargo install xiu`).
    pub(crate) async fn xiu() -> anyhow::Result<Option<Self>> {
        let found = std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|folder| folder.join("xiu").is_file())
        });
        if !found {
            return Ok(None);
        }
        let [http, rtmp] = [free_port().await?, free_port().await?];
        let folder = scratch("xiu")?;
        let config = format!(
            "[rtmp]\nenabled = true\nport = {rtmp}\ngop_num = 1\n[httpflv]\nenabled = true\nport = {http}\n\
             [log]\nlevel = \"error\"\n"
        );
        let file = folder.join("xiu.toml");
        std::fs::write(&file, config)?;
        let mut command = Command::new("xiu");
        command.arg("-c").arg(&file).current_dir(&folder);
        let mut node = Self::spawn("xiu", command, http, rtmp)?;
        node.folder = folder;
        node.await_port(rtmp).await?;
        node.await_port(http).await?;
        Ok(Some(node))
    }

    /// Debian's Janus, if installed, with its streaming plugin and what `streaming` configures for it.
    pub(crate) async fn janus(streaming: &str) -> anyhow::Result<Option<Self>> {
        if !Path::new(JANUS).exists() {
            return Ok(None);
        }
        let http = free_port().await?;
        let folder = scratch(&format!("janus-{http}"))?;
        let transport = format!(
            "general: {{ base_path = \"/janus\"; http = true; port = {http}; ip = \"127.0.0.1\"; https = false; }}\n"
        );
        for (name, text) in [
            (
                "janus.jcfg",
                "general: { session_timeout = 0; debug_level = 1; }\n",
            ),
            ("janus.plugin.streaming.jcfg", streaming),
            ("janus.transport.http.jcfg", &transport),
        ] {
            std::fs::write(folder.join(name), text)?;
        }
        let mut command = Command::new(JANUS);
        command.arg("--configs-folder").arg(&folder);
        let mut node = Self::spawn("Janus", command, http, 0)?;
        node.folder = folder;
        node.await_port(http).await?;
        Ok(Some(node))
    }

    fn spawn(
        name: &'static str,
        mut command: Command,
        http: u16,
        rtmp: u16,
    ) -> anyhow::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let pid = child.id().context("it ended at once")?;
        Ok(Self {
            name,
            http,
            rtmp,
            started_in: Duration::ZERO,
            child,
            pid,
            folder: PathBuf::new(),
        })
    }

    async fn await_port(&self, port: u16) -> anyhow::Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            anyhow::ensure!(
                begun.elapsed() < START_TIMEOUT,
                "{} does not start",
                self.name
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// CPU time used so far by all threads, in milliseconds (resolution 10 ms).
    pub(crate) fn cpu_ms(&self) -> anyhow::Result<f64> {
        cpu_ms(self.pid)
    }

    /// CPU milliseconds per second, over `duration` after `settle`.
    pub(crate) async fn cpu_per_second(
        &self,
        settle: Duration,
        duration: Duration,
    ) -> anyhow::Result<f64> {
        tokio::time::sleep(settle).await;
        let (before, begun) = (self.cpu_ms()?, Instant::now());
        tokio::time::sleep(duration).await;
        Ok((self.cpu_ms()? - before) / begun.elapsed().as_secs_f64())
    }

    /// Resident memory in megabytes.
    pub(crate) fn rss_mb(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        Ok(kilobytes.context("no VmRSS")? / 1_024.0)
    }

    /// Stops it and waits until it is gone, so that it does not disturb what is measured next.
    pub(crate) async fn stop(mut self) {
        let _ = self.child.kill().await;
        if self.folder.is_absolute() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// CPU time that a process has used so far in all its threads, in milliseconds (resolution 10 ms).
pub(crate) fn cpu_ms(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // the name in brackets may hold spaces; user and system time are the 14th and 15th field
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat is strange")?;
    let ticks = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<f64>);
    let ticks: f64 = ticks.sum::<Result<f64, _>>()?;
    Ok(ticks * 1_000.0 / TICKS_PER_S)
}

fn scratch(name: &str) -> anyhow::Result<PathBuf> {
    let folder =
        std::env::temp_dir().join(format!("anchornet-bench-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

pub(crate) async fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    Ok(listener.local_addr()?.port())
}
