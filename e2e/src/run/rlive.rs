//! Relays, schedulers and players as processes, and paths between them that lose datagrams.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;

use super::anchor::Anchor;
use super::process::Process;
use super::relay::{self as network, Link};
use super::{ports, tools};

/// A relay of an anchor's origin.
#[derive(Debug)]
pub struct Relay {
    /// Its process.
    pub process: Process,
    /// Where players reach it: at the path in front of it.
    pub address: SocketAddr,
    path: network::Relay,
}

impl Relay {
    /// Starts relays, each behind a path of its own that loses so many of a hundred datagrams each way. Those that have a
    /// scheduler tell it about themselves instead of the origin.
    ///
    /// # Errors
    /// When there is no port, or the binary has not been built.
    pub fn start(
        anchor: &Anchor,
        scheduler: Option<&Scheduler>,
        count: u64,
        loss_percent: u16,
    ) -> anyhow::Result<Vec<Self>> {
        let start = |seed| Self::start_one(anchor, scheduler, loss_percent, seed);
        (0..count).map(start).collect()
    }

    fn start_one(
        anchor: &Anchor,
        scheduler: Option<&Scheduler>,
        loss_percent: u16,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()?));
        let path = network::Relay::in_front_of(listen, seed)?;
        path.set(Link::of(0, loss_percent), Link::of(0, loss_percent));
        let mut command = Command::new(tools::anchornet()?);
        command
            .args(["relay", "--origin", &anchor.url("")])
            .args(["--listen", &listen.to_string()])
            .args(["--advertise", &path.address().to_string()])
            .env_remove("RUST_LOG");
        if let Some(scheduler) = scheduler {
            command.args(["--scheduler", &scheduler.address.to_string()]);
        }
        Ok(Self {
            process: Process::start("relay", &mut command)?,
            address: path.address(),
            path,
        })
    }

    /// From now on the path to it is like this, each way.
    pub fn set_path(&self, link: Link) {
        self.path.set(link, link);
    }

    /// Datagrams that its path has lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.path.lost()
    }
}

/// A scheduler without a secret.
#[derive(Debug)]
pub struct Scheduler {
    /// Its process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Scheduler {
    /// Starts a scheduler at an address.
    ///
    /// # Errors
    /// When the binary has not been built.
    pub fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let mut command = Command::new(tools::anchornet()?);
        command
            .args(["scheduler", "--listen", &address.to_string()])
            .env_remove("RUST_LOG");
        Ok(Self {
            process: Process::start("scheduler", &mut command)?,
            address,
        })
    }

    /// A URL of it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What it knows: the JSON of `/v1/state`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn state(&self) -> anyhow::Result<Value> {
        let answer = reqwest::get(self.url("/v1/state")).await?;
        Ok(answer.error_for_status()?.json().await?)
    }
}

/// A player.
#[derive(Debug)]
pub struct Player {
    /// Its process.
    pub process: Process,
    /// Where the stream can be watched.
    pub url: String,
}

impl Player {
    /// Plays a channel of an anchor's origin, with relays from the beginning.
    ///
    /// # Errors
    /// When there is no port, or the binary has not been built.
    pub fn start(anchor: &Anchor, channel: &str) -> anyhow::Result<Self> {
        let listen = format!("127.0.0.1:{}", ports::free()?);
        let mut command = Command::new(tools::anchornet()?);
        command
            .args(["play", &anchor.flv(channel), "--stats"])
            .args(["--relay-after", "0", "--listen", &listen])
            .env_remove("RUST_LOG");
        Ok(Self {
            process: Process::start("player", &mut command)?,
            url: format!("http://{listen}/live/{channel}.flv"),
        })
    }

    /// The newest statistics.
    ///
    /// # Errors
    /// When there are none yet.
    pub fn stats(&self) -> anyhow::Result<Value> {
        let lines = self.process.output();
        let newest = lines.iter().rev().find(|line| line.starts_with('{'));
        Ok(serde_json::from_str(newest.context("no statistics yet")?)?)
    }
}
