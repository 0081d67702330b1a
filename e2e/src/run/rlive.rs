//! Relays, schedulers and players as processes, and paths between them that lose datagrams.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use tokio::net::UdpSocket;
use tokio::task::{JoinHandle, JoinSet};

use super::anchor::Anchor;
use super::process::Process;
use super::{ports, tools};

/// A relay of an anchor's origin.
#[derive(Debug)]
pub struct Relay {
    /// Its process.
    pub process: Process,
    /// Where players reach it: the path in front of it, if it has one.
    pub address: SocketAddr,
    path: LossyPath,
}

impl Relay {
    /// Starts a relay behind a path that loses a share of all datagrams, each way, by this seed.
    ///
    /// # Errors
    /// When there is no port, or the binary has not been built.
    pub async fn start(anchor: &Anchor, loss: f64, seed: u64) -> anyhow::Result<Self> {
        Self::start_with(anchor, loss, seed, &[]).await
    }

    /// Starts a relay that tells a scheduler about itself instead of the origin.
    ///
    /// # Errors
    /// When there is no port, or the binary has not been built.
    pub async fn scheduled(
        anchor: &Anchor,
        scheduler: &Scheduler,
        loss: f64,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let scheduler = scheduler.address.to_string();
        Self::start_with(anchor, loss, seed, &["--scheduler", &scheduler]).await
    }

    async fn start_with(
        anchor: &Anchor,
        loss: f64,
        seed: u64,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()?));
        let path = LossyPath::to(listen, loss, seed).await?;
        let mut command = Command::new(tools::anchornet()?);
        command
            .args(["relay", "--origin", &anchor.url("")])
            .args(["--listen", &listen.to_string()])
            .args(["--advertise", &path.address.to_string()])
            .args(arguments)
            .env_remove("RUST_LOG");
        Ok(Self {
            process: Process::start("relay", &mut command)?,
            address: path.address,
            path,
        })
    }

    /// Datagrams that its path has lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.path.lost.load(Ordering::Relaxed)
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

/// A path for datagrams in front of a server: what comes to it goes on to the server and back, or is lost.
#[derive(Debug)]
struct LossyPath {
    address: SocketAddr,
    lost: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl LossyPath {
    async fn to(server: SocketAddr, loss: f64, seed: u64) -> anyhow::Result<Self> {
        let front = Arc::new(bind().await?);
        let lost = Arc::<AtomicU64>::default();
        let address = front.local_addr()?;
        let task = tokio::spawn(forward(front, server, Fate::new(loss, seed, &lost)));
        Ok(Self {
            address,
            lost,
            task,
        })
    }
}

impl Drop for LossyPath {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Which datagrams are lost.
struct Fate {
    loss: f64,
    random: StdRng,
    lost: Arc<AtomicU64>,
}

impl Fate {
    fn new(loss: f64, seed: u64, lost: &Arc<AtomicU64>) -> Self {
        Self {
            loss,
            random: StdRng::seed_from_u64(seed),
            lost: Arc::clone(lost),
        }
    }

    fn spares(&mut self) -> bool {
        let spared = !self.random.random_bool(self.loss);
        self.lost.fetch_add(u64::from(!spared), Ordering::Relaxed);
        spared
    }
}

async fn forward(front: Arc<UdpSocket>, server: SocketAddr, mut fate: Fate) {
    let mut behind = HashMap::<SocketAddr, Arc<UdpSocket>>::new();
    let mut backs = JoinSet::new();
    let mut buffer = vec![0; 2_048];
    while let Ok((length, from)) = front.recv_from(&mut buffer).await {
        let socket = match behind.entry(from) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let Ok(socket) = bind().await.map(Arc::new) else {
                    return;
                };
                let fate = Fate::new(fate.loss, fate.random.random(), &fate.lost);
                backs.spawn(back(Arc::clone(&socket), Arc::clone(&front), from, fate));
                new.insert(socket)
            }
        };
        if fate.spares() {
            let _ = socket.send_to(&buffer[..length], server).await;
        }
    }
}

async fn back(socket: Arc<UdpSocket>, front: Arc<UdpSocket>, to: SocketAddr, mut fate: Fate) {
    let mut buffer = vec![0; 2_048];
    loop {
        // A server that has been killed answers by ICMP: an error here, and nothing more to hear.
        let Ok((length, _)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        if fate.spares() {
            let _ = front.send_to(&buffer[..length], to).await;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell of the tests")]
async fn bind() -> std::io::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await
}
