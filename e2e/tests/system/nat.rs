//! Translators of addresses as Linux makes them, in network namespaces: which kind each is, and who meets through them.
//!
//! ```text
//!   client A ──10.0.1.0/30── router A ──.4/30── internet ──.8/30── router B ──10.0.2.0/30── client B
//!                                              .1 and .2: the server
//! ```
//!
//! The kernel gives ports at random or keeps them; those in steps are tried on virtual time only, in `rlive::nat`.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests are the shell of the machines"
)]

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use e2e::run::namespace::Namespace;
use e2e::run::process::report;
use e2e::run::{tools, whip};
use media::ticket::Key;
use rlive::nat::classify::{self, Classifier, Found, How, Servers};
use rlive::nat::punch::{Peer, Punch, State};
use rlive::nat::{Filtering, Mapping, Nat, Plan, plan};

/// How often a socket is looked at.
const LOOK: Duration = Duration::from_millis(4);
/// The life of what shall not reach the other: in this internet of one router, it ends there.
const SHORT_LIFE: u32 = 2;
const USUAL_LIFE: u32 = 64;

/// A kind of translator, and the rules that make Linux one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    /// Everything that comes from outside goes to the client.
    FullCone,
    /// What comes from addresses that the client has sent something to goes to it.
    Restricted,
    /// Connection tracking alone; what belongs to no connection is dropped.
    PortRestricted,
    /// The same, but the router answers what belongs to no connection itself, which takes that connection's place.
    Sequential,
    /// Each connection gets another port.
    Symmetric,
}

const KINDS: [Made; 5] = [
    Made::FullCone,
    Made::Restricted,
    Made::PortRestricted,
    Made::Sequential,
    Made::Symmetric,
];

impl Made {
    fn rules(self, client: Ipv4Addr) -> String {
        let clean = "iptables -t nat -F && iptables -F && iptables -P FORWARD ACCEPT";
        let keeps = "iptables -t nat -A POSTROUTING -o out -p udp -j MASQUERADE";
        let drops = "iptables -A INPUT -i out -j DROP";
        let to_client = format!("-p udp -j DNAT --to-destination {client}");
        match self {
            Self::FullCone => {
                format!("{clean} && {keeps} && iptables -t nat -A PREROUTING -i out {to_client}")
            }
            Self::Restricted => format!(
                "{clean} && {keeps} && {drops} \
                 && iptables -A FORWARD -o out -m recent --name asked --rdest --set -j ACCEPT \
                 && iptables -t nat -A PREROUTING -i out -m recent --name asked --rsource --rcheck {to_client}"
            ),
            Self::PortRestricted => format!("{clean} && {keeps} && {drops}"),
            Self::Sequential => format!("{clean} && {keeps}"),
            Self::Symmetric => format!("{clean} && {keeps} --random-fully && {drops}"),
        }
    }

    fn nat(self) -> Nat {
        let (mapping, filtering) = match self {
            Self::FullCone => (Mapping::Independent, Filtering::Independent),
            Self::Restricted => (Mapping::Independent, Filtering::Address),
            Self::PortRestricted => (Mapping::Independent, Filtering::AddressAndPort),
            Self::Sequential => (Mapping::Independent, Filtering::Sequential),
            Self::Symmetric => (
                Mapping::AddressAndPort { step: 0 },
                Filtering::AddressAndPort,
            ),
        };
        Nat { mapping, filtering }
    }
}

/// One side: a client behind a router.
struct Side {
    router: Namespace,
    client: Namespace,
    address: Ipv4Addr,
    next_port: AtomicU16,
}

struct Internet {
    _middle: Namespace,
    sides: [Side; 2],
    servers: Servers,
    stop: Arc<AtomicBool>,
}

impl Drop for Internet {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Internet {
    async fn new() -> anyhow::Result<Self> {
        let middle = Namespace::new().await?;
        // From the block for tests of network devices (RFC 2544 appendix C.2.2).
        let at = |host| Ipv4Addr::new(198, 18, 0, host);
        middle.shell(&format!(
            "echo 1 > /proc/sys/net/ipv4/ip_forward && true \
             && ip address add {}/32 dev lo && ip address add {}/32 dev lo",
            at(1),
            at(2)
        ))?;
        let sides = [
            Side::new(&middle, 1, at(5), at(6)).await?,
            Side::new(&middle, 2, at(9), at(10)).await?,
        ];
        let pair = |host| [3_478, 3_479].map(|port| SocketAddr::from((at(host), port)));
        let servers = Servers {
            a: pair(1),
            b: pair(2),
        };
        let stop = Arc::new(AtomicBool::new(false));
        serve(&middle, &servers, &stop)?;
        Ok(Self {
            _middle: middle,
            sides,
            servers,
            stop,
        })
    }

    fn set(&self, side: usize, made: Made) -> anyhow::Result<()> {
        let side = &self.sides[side];
        side.router.shell(&made.rules(side.address))
    }

    /// A new socket of a client; connections of earlier ones have other ports.
    fn socket(&self, side: usize) -> anyhow::Result<UdpSocket> {
        let side = &self.sides[side];
        let port = side.next_port.fetch_add(1, Ordering::Relaxed);
        let socket = side.client.socket(SocketAddr::from((side.address, port)))?;
        socket.set_read_timeout(Some(LOOK))?;
        Ok(socket)
    }

    fn classify(&self, side: usize) -> anyhow::Result<Found> {
        let socket = self.socket(side)?;
        let mut machine =
            Classifier::new(Instant::now(), self.servers, socket.local_addr()?, 7_000);
        while machine.poll_timeout().is_some() {
            machine.handle_timeout(Instant::now());
            while let Some((to, bytes)) = machine.poll_output() {
                socket.send_to(&bytes, to)?;
            }
            if let Some((_, bytes)) = receive(&socket)? {
                machine.handle(Instant::now(), &bytes);
            }
        }
        machine.found().context("the server was not reached")
    }

    /// Where the server sees a new socket.
    fn seen(&self, socket: &UdpSocket) -> anyhow::Result<SocketAddr> {
        let [server, _] = self.servers.a;
        for nonce in 0..5 {
            socket.send_to(&classify::write_question(How::Plain, nonce), server)?;
            let until = Instant::now() + Duration::from_millis(200);
            while Instant::now() < until {
                let received = receive(socket)?;
                if let Some((_, seen)) = received.and_then(|(_, b)| classify::read_answer(&b)) {
                    return Ok(seen);
                }
            }
        }
        Err(anyhow!("the server does not answer"))
    }

    /// Whether the clients of both sides meet; how long that took.
    fn meet(&self, kinds: [Nat; 2]) -> anyhow::Result<Option<Duration>> {
        let sockets = [self.socket(0)?, self.socket(1)?];
        let peer = |n: usize| -> anyhow::Result<Peer> {
            Ok(Peer {
                seen: self.seen(&sockets[n])?,
                nat: kinds[n],
            })
        };
        let peers = [peer(0)?, peer(1)?];
        let [first, second] = sockets;
        let begin = Instant::now();
        let other = thread::spawn(move || punch(&second, peers[0]));
        let here = punch(&first, peers[1])?;
        let there = other.join().map_err(|_| anyhow!("the thread died"))??;
        Ok((here && there).then(|| begin.elapsed()))
    }
}

impl Side {
    async fn new(
        middle: &Namespace,
        number: u8,
        inner: Ipv4Addr,
        outer: Ipv4Addr,
    ) -> anyhow::Result<Self> {
        let (router, client) = (Namespace::new().await?, Namespace::new().await?);
        let lan = |host| Ipv4Addr::new(10, 0, number, host);
        middle.shell(&format!(
            "ip link add to{number} type veth peer name out netns {} \
             && ip address add {inner}/30 dev to{number} && ip link set to{number} up",
            router.id()
        ))?;
        router.shell(&format!(
            "echo 1 > /proc/sys/net/ipv4/ip_forward && ip address add {outer}/30 dev out && ip link set out up \
             && ip route add default via {inner} && ip link add in type veth peer name lan netns {} \
             && ip address add {}/30 dev in && ip link set in up",
            client.id(),
            lan(1)
        ))?;
        client.shell(&format!(
            "ip address add {}/30 dev lan && ip link set lan up && ip route add default via {}",
            lan(2),
            lan(1)
        ))?;
        Ok(Self {
            router,
            client,
            address: lan(2),
            next_port: AtomicU16::new(20_000 + 1_000 * u16::from(number)),
        })
    }
}

fn receive(socket: &UdpSocket) -> anyhow::Result<Option<(SocketAddr, Vec<u8>)>> {
    let mut buffer = [0; 1_500];
    match socket.recv_from(&mut buffer) {
        Ok((length, from)) => Ok(Some((from, buffer[..length].to_vec()))),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Ok(None)
        }
        // What was sent before came to a closed port, or was too short-lived.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Runs one of two until it has reached the other, and then for as long as the other may need its answers.
fn punch(socket: &UdpSocket, peer: Peer) -> anyhow::Result<bool> {
    let mut machine = Punch::new(Instant::now(), peer, &Key::of_relay(b"met", 1));
    let mut until = None;
    loop {
        machine.handle_timeout(Instant::now());
        while let Some(output) = machine.poll_output() {
            let life = output.hops.map_or(USUAL_LIFE, |_| SHORT_LIFE);
            socket.set_ttl(life)?;
            socket.send_to(&output.bytes, output.to)?;
        }
        match machine.state() {
            State::Failed => return Ok(false),
            State::Reached(_) => {
                let until =
                    *until.get_or_insert_with(|| Instant::now() + Duration::from_millis(250));
                if Instant::now() >= until {
                    return Ok(true);
                }
            }
            State::Sending => {}
        }
        if let Some((from, bytes)) = receive(socket)? {
            machine.handle(from, &bytes);
        }
    }
}

/// The server's four sockets answer until `stop`.
fn serve(middle: &Namespace, servers: &Servers, stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let addresses = [servers.a, servers.b].concat();
    let mut sockets = Vec::new();
    for address in &addresses {
        let socket = middle.socket(*address)?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        sockets.push(socket);
    }
    for at in 0..sockets.len() {
        let own = sockets[at].try_clone()?;
        let [same, other] = [
            sockets[at ^ 1].try_clone()?,
            sockets[(at ^ 1) ^ 2].try_clone()?,
        ];
        let stop = Arc::clone(stop);
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let Ok(Some((from, bytes))) = receive(&own) else {
                    continue;
                };
                let Some((how, nonce)) = classify::read_question(&bytes) else {
                    continue;
                };
                let by = match how {
                    How::Plain => &own,
                    How::OtherPort => &same,
                    How::OtherAddress => &other,
                };
                let _ = by.send_to(&classify::write_answer(nonce, from), from);
            }
        });
    }
    Ok(())
}

/// Each kind is recognised through a real router, and clients behind each pair of kinds meet exactly when the plan says so.
#[tokio::test]
async fn linux_translators_are_recognised_and_opened() -> anyhow::Result<()> {
    let tool = tools::system("iptables").err().map(|why| why.to_string());
    if let Some(why) = Namespace::missing().or(tool) {
        whip::skipped(&format!("translators of addresses: {why}"));
        return Ok(());
    }
    let internet = Internet::new().await?;
    for made in KINDS {
        internet.set(0, made)?;
        internet.set(1, made)?;
        let found = thread::scope(|scope| {
            let other = scope.spawn(|| internet.classify(1));
            let here = internet.classify(0);
            [here, other.join().unwrap_or_else(|_| Err(anyhow!("died")))]
        });
        for found in found {
            let found = found.with_context(|| format!("{made:?}"))?;
            ensure!(found.nat == made.nat(), "{made:?} looks like {found:?}");
        }
    }
    let (mut met, mut slowest) = (0, Duration::ZERO);
    for (at, left) in KINDS.into_iter().enumerate() {
        for right in KINDS.into_iter().skip(at) {
            internet.set(0, left)?;
            internet.set(1, right)?;
            let kinds = [left.nat(), right.nat()];
            let can = plan(kinds[0], kinds[1]) != Plan::Never;
            let took = internet.meet(kinds)?;
            ensure!(
                took.is_some() == can,
                "{left:?} and {right:?}: they can {can}, and met {took:?}"
            );
            met += u32::from(can);
            slowest = slowest.max(took.unwrap_or_default());
        }
    }
    report(&format!(
        "{met} of 15 pairs met, the slowest in {slowest:?}"
    ));
    Ok(())
}
