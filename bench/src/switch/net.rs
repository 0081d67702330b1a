//! The network of a trial: sites in network namespaces, joined by a router in this process that delays and loses packets.
//!
//! Every site has a TUN device whose other end is held here, so that the kernels at both ends run their real TCP over the
//! delay and the loss, as they would with netem, which not every kernel has. The namespaces belong to processes that end
//! with this one: nothing is left behind.
//!
//! Invariants: packets between two sites keep their order; the same seed loses the same packets of a line, counted from
//! its first; a line that is behind by [`QUEUE_PACKETS`] loses what comes then.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::tun::Tun;

const MTU: usize = 1_500;
const QUEUE_PACKETS: usize = 8_192;
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// A place of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// This process: viewers at the edge of the CDN, and whoever calls the API. Near everybody.
    Desk,
    /// Where the broadcasters are.
    Studio,
    /// Where the anchor is.
    Anchor,
    /// The CDN's ingest.
    Cdn,
}

impl Site {
    const ALL: [Self; 4] = [Self::Desk, Self::Studio, Self::Anchor, Self::Cdn];

    fn number(self) -> u8 {
        match self {
            Self::Desk => 1,
            Self::Studio => 2,
            Self::Anchor => 3,
            Self::Cdn => 4,
        }
    }
}

/// What packets between two sites suffer, on each way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Impairment {
    pub(crate) round_trip: Duration,
    /// Share of the packets that is lost, independently of each other.
    pub(crate) loss: f64,
}

/// One direction between two sites.
struct Line {
    delay: Duration,
    loss: f64,
    dice: StdRng,
}

impl Line {
    fn new(impairment: Impairment, seed: u64) -> Self {
        Self {
            delay: impairment.round_trip / 2,
            loss: impairment.loss,
            dice: StdRng::seed_from_u64(seed),
        }
    }

    /// When a packet that leaves now arrives; `None`: never.
    fn admit(&mut self, now: Instant) -> Option<Instant> {
        (!self.dice.random_bool(self.loss)).then(|| now + self.delay)
    }
}

/// A network in operation; it ends when dropped.
pub(crate) struct Net {
    lane: u8,
    /// Their namespaces; the desk has none of its own.
    holders: Vec<(Site, Child)>,
    calls: watch::Sender<Option<Call>>,
    _router: JoinSet<()>,
}

impl Net {
    /// Sets sites up. `lane` tells networks that exist at the same time apart.
    ///
    /// # Errors
    /// Without the right to create devices and namespaces.
    pub(crate) async fn start(lane: u8, impairment: Impairment, seed: u64) -> anyhow::Result<Self> {
        let mut net = Self {
            lane,
            holders: Vec::new(),
            calls: watch::Sender::new(None),
            _router: JoinSet::new(),
        };
        let mut devices = Vec::new();
        for site in Site::ALL {
            let device = Arc::new(Tun::create()?);
            net.set_up(site, device.name()).await?;
            devices.push((site, device));
        }
        for (from, device) in &devices {
            let mut lines = Vec::new();
            for (to, exit) in devices.iter().filter(|(to, _)| to != from) {
                let near = *from == Site::Desk || *to == Site::Desk;
                let impairment = match near {
                    true => Impairment {
                        round_trip: Duration::ZERO,
                        loss: 0.0,
                    },
                    false => impairment,
                };
                let way = u64::from(from.number()) * 8 + u64::from(to.number());
                let line = Line::new(impairment, seed.wrapping_mul(64).wrapping_add(way));
                let (queue, queued) = mpsc::channel(QUEUE_PACKETS);
                net._router.spawn(deliver(queued, Arc::clone(exit)));
                lines.push((to.number(), line, queue));
            }
            let calls = (*from == Site::Studio).then(|| net.calls.clone());
            net._router.spawn(route(Arc::clone(device), lines, calls));
        }
        Ok(net)
    }

    /// The address of a site.
    pub(crate) fn address(&self, site: Site) -> Ipv4Addr {
        // 198.18.0.0/15 is for benchmarks (RFC 2544, RFC 5735)
        Ipv4Addr::new(198, 18, self.lane, site.number())
    }

    pub(crate) fn socket(&self, site: Site, port: u16) -> SocketAddr {
        (self.address(site), port).into()
    }

    /// Resolves when, from the call of this function on, a program of the studio begins a TCP connection to a port.
    pub(crate) fn called(&self, port: u16) -> impl Future<Output = anyhow::Result<()>> + use<> {
        let mut calls = self.calls.subscribe();
        async move {
            let called = async {
                loop {
                    calls.changed().await?;
                    if calls
                        .borrow_and_update()
                        .is_some_and(|call| call.port == port)
                    {
                        return anyhow::Ok(());
                    }
                }
            };
            let called = tokio::time::timeout(START_TIMEOUT, called).await;
            called.context("a program of the studio does not connect")?
        }
    }

    /// A program to be run at a site; it ends when dropped.
    pub(crate) fn command(&self, site: Site, program: &Path) -> anyhow::Result<Command> {
        let holder = self.holders.iter().find(|(at, _)| *at == site);
        let pid = holder.and_then(|(_, holder)| holder.id());
        let pid = pid.context("the site has no namespace")?;
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &pid.to_string(), "--"]);
        command.arg(program).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command)
    }

    async fn set_up(&mut self, site: Site, device: &str) -> anyhow::Result<()> {
        let address = format!("{}/24", self.address(site));
        let plug = [
            format!("ip address add {address} dev {device}"),
            format!("ip link set {device} mtu {MTU} up"),
        ];
        if site == Site::Desk {
            return shell(Command::new("sh"), &plug).await;
        }
        let holder = hold_namespace().await?;
        let pid = holder.id().context("a namespace ended")?;
        self.holders.push((site, holder));
        let give = format!("ip link set {device} netns {pid}");
        shell(Command::new("sh"), &[give]).await?;
        let [address, up] = plug;
        let steps = [
            "ip link set lo up".to_owned(),
            address,
            up,
            // whoever joins a multicast group wants to know by which device
            format!("ip route add default dev {device}"),
            // what one connection learns about the way is not for the next: every trial begins alike
            "echo 1 >/proc/sys/net/ipv4/tcp_no_metrics_save".to_owned(),
        ];
        shell(self.command(site, Path::new("sh"))?, &steps).await
    }
}

/// A process that does nothing but have a network namespace, until its standard input ends.
async fn hold_namespace() -> anyhow::Result<Child> {
    let child = Command::new("unshare")
        .args(["--net", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start unshare")?;
    let pid = child.id().context("unshare ended at once")?;
    let ours = std::fs::read_link("/proc/self/ns/net")?;
    let theirs = format!("/proc/{pid}/ns/net");
    let begun = Instant::now();
    while std::fs::read_link(&theirs).map_or(true, |theirs| theirs == ours) {
        anyhow::ensure!(begun.elapsed() < START_TIMEOUT, "no network namespace");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(child)
}

async fn shell(mut shell: Command, steps: &[impl AsRef<str>]) -> anyhow::Result<()> {
    let steps: Vec<&str> = steps.iter().map(AsRef::as_ref).collect();
    let script = steps.join(" && ");
    let output = shell.args([OsStr::new("-c"), OsStr::new(&script)]).output();
    let output = output.await.context("cannot start a shell")?;
    let told = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{script}: {told}");
    Ok(())
}

type Queue = mpsc::Sender<(Instant, Vec<u8>)>;

/// The first packet of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Call {
    port: u16,
}

impl Call {
    /// Reads the heads of IPv4 and TCP (RFC 791 §3.1, RFC 9293 §3.1).
    fn parse(packet: &[u8]) -> Option<Self> {
        let head = usize::from(packet.first()? & 0x0f) * 4;
        let is_tcp = *packet.get(9)? == 6;
        let (high, low) = (*packet.get(head + 2)?, *packet.get(head + 3)?);
        // SYN without ACK
        let begins = packet.get(head + 13)? & 0x12 == 0x02;
        (is_tcp && begins).then(|| Self {
            port: u16::from_be_bytes([high, low]),
        })
    }
}

/// Takes what a site sends and puts it into the line to its destination; tells of connections that begin.
async fn route(
    entry: Arc<Tun>,
    mut lines: Vec<(u8, Line, Queue)>,
    calls: Option<watch::Sender<Option<Call>>>,
) {
    let mut buffer = vec![0; MTU];
    while let Ok(length) = entry.recv(&mut buffer).await {
        let packet = buffer.get(..length).unwrap_or_default();
        let Some(to) = destination(packet) else {
            continue;
        };
        if let Some(calls) = &calls
            && let Some(call) = Call::parse(packet)
        {
            calls.send_replace(Some(call));
        }
        let line = lines.iter_mut().find(|(number, ..)| *number == to);
        if let Some((_, line, queue)) = line
            && let Some(due) = line.admit(Instant::now())
        {
            let _ = queue.try_send((due, packet.to_vec()));
        }
    }
}

async fn deliver(mut queued: mpsc::Receiver<(Instant, Vec<u8>)>, exit: Arc<Tun>) {
    while let Some((due, packet)) = queued.recv().await {
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        let _ = exit.send(&packet).await;
    }
}

/// Last number of the address that an IPv4 packet goes to.
fn destination(packet: &[u8]) -> Option<u8> {
    let version = packet.first()? >> 4;
    packet.get(19).copied().filter(|_| version == 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_delays_by_half_the_round_trip_and_loses_its_share() {
        let impairment = Impairment {
            round_trip: Duration::from_millis(100),
            loss: 0.03,
        };
        let now = Instant::now();
        let run = |seed| {
            let mut line = Line::new(impairment, seed);
            (0..100_000)
                .map(|_| line.admit(now))
                .collect::<Vec<Option<Instant>>>()
        };
        let fates = run(1);
        let lost = fates.iter().filter(|fate| fate.is_none()).count();
        assert!((2_700..3_300).contains(&lost), "{lost} of 100000");
        let delayed = Some(now + Duration::from_millis(50));
        assert!(fates.iter().flatten().all(|due| Some(*due) == delayed));
        assert!(fates == run(1) && fates != run(2));
    }

    #[test]
    fn the_first_packet_of_a_connection_is_a_call() {
        let mut packet = [0; 40];
        (packet[0], packet[9]) = (0x45, 6);
        (packet[22], packet[23], packet[33]) = (0x1f, 0x91, 0x02);
        assert_eq!(Call::parse(&packet), Some(Call { port: 8081 }));
        assert_eq!(Call::parse(&packet[..33]), None);
        packet[33] = 0x12;
        assert_eq!(Call::parse(&packet), None);
        (packet[33], packet[9]) = (0x02, 17);
        assert_eq!(Call::parse(&packet), None);
        assert_eq!(Call::parse(&[]), None);
    }

    #[test]
    fn only_packets_of_ipv4_have_a_destination() {
        let mut packet = [0; 20];
        packet[0] = 0x45;
        packet[19] = 3;
        assert_eq!(destination(&packet), Some(3));
        assert_eq!(destination(&packet[..19]), None);
        packet[0] = 0x60;
        assert_eq!(destination(&packet), None);
        assert_eq!(destination(&[]), None);
    }
}
