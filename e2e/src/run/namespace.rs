//! Networks of their own, for clients who cannot reach everything: needs root.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process::Process;
use super::{eventually, tools};

/// A network namespace. It ends, with its devices, when this is dropped.
#[derive(Debug)]
pub struct Namespace {
    holder: Process,
}

impl Namespace {
    /// Why there can be none here; nothing when there can.
    #[must_use]
    pub fn missing() -> Option<String> {
        if !geteuid().is_root() {
            return Some("network namespaces need root".to_owned());
        }
        let mut tools = ["ip", "unshare", "nsenter"].into_iter();
        if let Some(tool) = tools.find(|tool| tools::system(tool).is_err()) {
            return Some(format!("{tool} is missing"));
        }
        let tried = Command::new("unshare").args(["--net", "true"]).output();
        let may = tried.is_ok_and(|tried| tried.status.success());
        (!may).then(|| "this system grants no network namespaces".to_owned())
    }

    /// A new one, with nothing in it but its own loopback.
    ///
    /// # Errors
    /// Where [`Namespace::missing`] says why.
    pub async fn new() -> anyhow::Result<Self> {
        let mut command = Command::new(tools::system("unshare")?);
        let holder = Process::start("namespace", command.args(["--net", "sleep", "infinity"]))?;
        let (ours, theirs) = (Path::new("/proc/self/ns/net"), holder.id());
        let theirs = format!("/proc/{theirs}/ns/net");
        eventually("network namespace", Duration::from_secs(5), async || {
            ensure!(fs::read_link(ours)? != fs::read_link(&theirs)?, "not yet");
            Ok(())
        })
        .await?;
        let namespace = Self { holder };
        namespace.shell("ip link set lo up && echo 0 > /proc/sys/net/ipv4/ip_forward")?;
        Ok(namespace)
    }

    /// The process that it belongs to, as `ip` names a namespace.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.holder.id()
    }

    /// The prefix of a command that runs inside.
    ///
    /// # Errors
    /// When a tool is missing.
    pub fn command(&self, program: &Path) -> anyhow::Result<Command> {
        let mut command = Command::new(tools::system("nsenter")?);
        command.args(["--net", "--target", &self.id().to_string(), "--"]);
        command.arg(program);
        Ok(command)
    }

    /// A UDP socket inside: it stays there, whoever uses it.
    ///
    /// # Errors
    /// When the address is taken, or not one of the namespace.
    #[expect(clippy::disallowed_methods, reason = "the shell of the tests")]
    pub fn socket(&self, address: SocketAddr) -> anyhow::Result<UdpSocket> {
        let theirs = fs::File::open(format!("/proc/{}/ns/net", self.id()))?;
        // Only this thread goes there, and it does not come back.
        let opened = std::thread::spawn(move || {
            let kind = LinkNameSpaceType::Network;
            move_into_link_name_space(theirs.as_fd(), Some(kind))?;
            UdpSocket::bind(address)
        });
        let opened = opened.join().map_err(|_| anyhow!("the thread died"))?;
        opened.with_context(|| format!("{address} in a network namespace"))
    }

    /// Runs a line of shell inside.
    ///
    /// # Errors
    /// When it fails; with what it said.
    pub fn shell(&self, line: &str) -> anyhow::Result<()> {
        run(self.command(Path::new("sh"))?.args(["-c", line]), line)
    }
}

/// Runs a line of shell in the namespace of the tests.
///
/// # Errors
/// When it fails; with what it said.
pub fn shell(line: &str) -> anyhow::Result<()> {
    run(Command::new("sh").args(["-c", line]), line)
}

fn run(command: &mut Command, line: &str) -> anyhow::Result<()> {
    let output = command.output().context("cannot start a shell")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{line}: {said}");
    Ok(())
}
