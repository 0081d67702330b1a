//! A broadcaster whose network lets nothing through but a TURN server: coturn, in network namespaces.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::analysis::tracks;
use e2e::capture::FlvViewer;
use e2e::run::anchor::{Anchor, Options};
use e2e::run::browser::Browser;
use e2e::run::namespace::{Namespace, shell};
use e2e::run::process::{Process, report};
use e2e::run::{eventually, ports, tools, whip};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Recording, SOON};

const SECRET: &str = "what node and TURN server share in this test";
const TURN_PORT: u16 = 3478;

/// Who is where: the studio reaches the node for signalling only, the TURN server reaches both.
///
/// ```text
///   tests, node ──.1/30── signalling ──.2── studio
///        └──────.5/30── media ──.6── TURN ──.9/30 ────.10──┘ (and the studio's default route, which leads nowhere)
/// ```
struct Networks {
    studio: Namespace,
    turn: Namespace,
    third: u8,
}

impl Networks {
    async fn new() -> anyhow::Result<Self> {
        let (studio, turn) = (Namespace::new().await?, Namespace::new().await?);
        // From the block for tests of network devices (RFC 2544 appendix C.2.2); other tests may run beside this one.
        let [third, ..] = std::process::id().to_le_bytes();
        let networks = Self {
            studio,
            turn,
            third,
        };
        networks.plug()?;
        Ok(networks)
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.third, host)
    }

    fn plug(&self) -> anyhow::Result<()> {
        let (studio, turn) = (self.studio.id(), self.turn.id());
        let at = |host| self.address(host);
        let name = |line: &str| format!("an{}{line}", std::process::id());
        let (signalling, media) = (name("s"), name("m"));
        shell(&format!(
            "ip link add {signalling} type veth peer name signal netns {studio} \
             && ip link add {media} type veth peer name media netns {turn} \
             && ip address add {}/30 dev {signalling} && ip link set {signalling} up \
             && ip address add {}/30 dev {media} && ip link set {media} up",
            at(1),
            at(5)
        ))?;
        self.turn.shell(&format!(
            "ip link add inside type veth peer name outside netns {studio} \
             && ip address add {}/30 dev media && ip link set media up \
             && ip address add {}/30 dev inside && ip link set inside up",
            at(6),
            at(9)
        ))?;
        self.studio.shell(&format!(
            "ip address add {}/30 dev signal && ip link set signal up \
             && ip address add {}/30 dev outside && ip link set outside up && ip route add default via {}",
            at(2),
            at(10),
            at(9)
        ))
    }

    async fn turn_server(&self) -> anyhow::Result<(Process, tempfile::TempDir)> {
        let folder = tempfile::tempdir()?;
        let file = |name: &str| folder.path().join(name).display().to_string();
        let mut command = self.turn.command(&tools::system("turnserver")?)?;
        command.args(["-n", "--no-cli", "--no-tls", "--no-dtls", "--verbose"]);
        command.args(["--log-file", "stdout", "--realm", "anchornet"]);
        command.args(["--pidfile", &file("pid"), "--userdb", &file("users")]);
        command.args(["--listening-ip", &self.address(9).to_string()]);
        command.args(["--listening-port", &TURN_PORT.to_string()]);
        command.args(["--relay-ip", &self.address(6).to_string()]);
        // For the node only.
        command.args(["--denied-peer-ip", "0.0.0.0-255.255.255.255"]);
        command.args(["--allowed-peer-ip", &self.address(5).to_string()]);
        command.args(["--use-auth-secret", "--static-auth-secret", SECRET]);
        let server = Process::start("coturn", &mut command)?;
        let listens = format!("ss -lnu | grep -q '{}:{TURN_PORT}'", self.address(9));
        eventually("TURN server", SOON, async || self.turn.shell(&listens))
            .await
            .map_err(|error| error.context(server.tail()))?;
        Ok((server, folder))
    }
}

/// Passes the connections of the studio's network on to the node's HTTP port, which is on loopback.
#[expect(clippy::disallowed_methods, reason = "the shell of the tests")]
async fn signalling(at: Ipv4Addr, to: u16) -> anyhow::Result<u16> {
    let listener = TcpListener::bind((at, 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut node = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await?;
                tokio::io::copy_bidirectional(&mut client, &mut node).await
            });
        }
    });
    Ok(port)
}

#[tokio::test]
async fn a_browser_behind_a_firewall_publishes_through_a_turn_server() -> anyhow::Result<()> {
    if let Some(why) = Namespace::missing() {
        whip::skipped(&format!("publishing through a TURN server: {why}"));
        return Ok(());
    }
    let networks = Networks::new().await?;
    let (mut turn, _folder) = networks.turn_server().await?;
    let media = format!("{}:{}", networks.address(5), ports::free()?);
    let server = format!("turn:{}:{TURN_PORT}?transport=udp", networks.address(9));
    let mut options = Options::default()
        .set("channels", "auto_create = true")
        .set("webrtc", format!("ice_servers = [{server:?}]"));
    options.webrtc = Some(media.clone());
    let secrets = [
        (
            "ANCHORNET_AUTH_SECRET",
            "a secret of this test and nobody else",
        ),
        ("ANCHORNET_TURN_SECRET", SECRET),
    ];
    options.environment = secrets.map(|(name, value)| (name, value.to_owned())).into();
    let anchor = Anchor::start_with(options).await?;

    // What makes this a test: neither UDP nor TCP leads from the studio to where media is taken.
    let (address, port) = media.split_once(':').context("an address")?;
    let direct = format!("timeout 1 bash -c 'echo > /dev/tcp/{address}/{port}'");
    ensure!(shell(&direct).is_ok(), "the port of ICE over TCP is closed");
    ensure!(
        networks.studio.shell(&direct).is_err(),
        "the studio reaches {media}"
    );

    let port = signalling(networks.address(1), anchor.ports.http).await?;
    let origin = format!("http://{}:{port}", networks.address(1));
    let token = anchor.token("publish")?;
    let studio = format!(
        "{origin}/studio/demo?source=pattern&size=320x180&fps=15&kbps=400&sound=tone&participant=ann&token={token}"
    );
    let mut browser = networks.studio.command(&tools::system("node")?)?;
    browser.env("TRUSTED_ORIGIN", &origin);
    let browser = Browser::publish_by(browser, &studio).await;
    let browser = browser.map_err(|error| error.context(turn.tail()))?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    let got = viewer.wait_for_pictures(60, Duration::from_secs(30)).await;
    got.map_err(|error| error.context(format!("{}\n{}", turn.tail(), anchor.process.tail())))?;
    browser.stop().await?;
    let recording = Recording::of(&viewer.tags())?;
    tracks::strictly_increasing(&recording.tracks.video)?;
    tracks::on_the_sample_clock(&recording.tracks.audio)?;

    turn.stop(SOON).await?;
    let said = turn.output();
    let allocated = said
        .iter()
        .find(|line| line.contains("ALLOCATE processed, success"));
    let allocated = allocated.with_context(|| turn.tail())?;
    ensure!(
        allocated.contains(":ann>"),
        "a user of the studio: {allocated}"
    );
    report(&format!("coturn: {allocated}"));
    ensure!(anchor.panics().is_empty(), "{:?}", anchor.panics());
    Ok(())
}
