//! A Redis server of the test's own.

use std::process::Command;
use std::time::Duration;

use super::process::Process;
use super::{eventually, ports, tools};

/// A running redis-server with nothing in it and nothing on disk.
#[derive(Debug)]
pub struct Redis {
    /// Its process.
    pub process: Process,
    port: u16,
}

impl Redis {
    /// Starts one and waits until it accepts connections.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_on(ports::free()?).await
    }

    /// Starts one on a port.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub async fn start_on(port: u16) -> anyhow::Result<Self> {
        let mut command = Command::new(tools::system("redis-server")?);
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        let process = Process::start("redis-server", &mut command)?;
        eventually("Redis", Duration::from_secs(10), async || {
            connects(port).await
        })
        .await?;
        Ok(Self { process, port })
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell of the tests")]
pub(super) async fn connects(port: u16) -> anyhow::Result<()> {
    tokio::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).await?;
    Ok(())
}
