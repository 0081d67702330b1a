//! A third-party CDN: Debian's nginx with its RTMP module, which records what is pushed to it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;

use super::process::Process;
use super::redis::connects;
use super::{eventually, ports, tools};

const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

/// An nginx that takes RTMP pushes and writes each publishing session to an FLV file of its own.
#[derive(Debug)]
pub struct NginxRtmp {
    folder: TempDir,
    port: u16,
    process: Option<Process>,
}

impl NginxRtmp {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub async fn start() -> anyhow::Result<Self> {
        let mut nginx = Self {
            folder: tempfile::tempdir()?,
            port: ports::free()?,
            process: None,
        };
        nginx.write_config()?;
        nginx.restart().await?;
        Ok(nginx)
    }

    /// Starts it again on the same port, with the same recordings.
    ///
    /// # Errors
    /// As [`NginxRtmp::start`].
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(tools::system("nginx")?);
        command
            .arg("-p")
            .arg(self.folder.path())
            .arg("-c")
            .arg(self.folder.path().join("nginx.conf"));
        self.process = Some(Process::start("nginx", &mut command)?);
        eventually("nginx", Duration::from_secs(10), async || {
            connects(self.port).await
        })
        .await
    }

    /// Kills it as a crash would: its publisher's connection is reset.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process
            .as_mut()
            .context("nginx does not run")?
            .kill()
            .await?;
        self.process = None;
        Ok(())
    }

    /// Where to push.
    #[must_use]
    pub fn url(&self, stream: &str) -> String {
        format!("rtmp://127.0.0.1:{}/live/{stream}", self.port)
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What was recorded so far, a file for each publishing session, in order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn recordings(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(self.folder.path().join("recordings"))? {
            let entry = entry?;
            files.push((entry.metadata()?.created()?, entry.path()));
        }
        files.sort();
        Ok(files.into_iter().map(|(_, path)| path).collect())
    }

    fn write_config(&self) -> anyhow::Result<()> {
        let folder = self.folder.path().display();
        fs::create_dir(self.folder.path().join("recordings"))?;
        // In one process: its death is the death of the connection.
        let config = format!(
            r"load_module {MODULE};
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log info;
events {{ worker_connections 64; }}
rtmp {{ server {{ listen 127.0.0.1:{port}; chunk_size 4096; application live {{
  live on; record all; record_path {folder}/recordings; record_unique on; record_suffix -%s.flv;
}} }} }}
",
            port = self.port,
        );
        Ok(fs::write(self.folder.path().join("nginx.conf"), config)?)
    }
}
