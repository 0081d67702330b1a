//! A bad network between clients and a node, without privileges: a relay of UDP datagrams on another address of loopback.
//!
//! The node advertises [`ADDRESS`] with its own port, where the relay listens ([`behind`] sets that up). Each client gets a
//! socket of its own towards the node, so the node tells clients apart; [`Relay::rebind`] exchanges those sockets, as a
//! NAT does that forgets, or a phone that changes its network. It runs on a thread of its own, which tests that decode do
//! not hold up.

mod census;
mod link;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub use self::census::{Census, Stream};
pub use self::link::Link;
use self::link::Way;
use super::anchor::{Anchor, Options};

/// Where relays listen.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Larger datagrams are cut off; WebRTC sends none.
const MAX_DATAGRAM: usize = 2_048;
/// Datagrams that may wait for the relay; more are lost.
const MAX_WAITING: usize = 4_096;

/// A node whose WebRTC is reached through a relay.
#[must_use]
pub fn behind(options: Options) -> Options {
    options.set("webrtc", format!("external_ips = [\"{ADDRESS}\"]"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    Up,
    Down,
}

#[derive(Debug)]
struct State {
    up: Way,
    down: Way,
    sent_up: Census,
    sent_down: Census,
    /// Datagrams of any kind and either direction.
    lost: u64,
    rebind: bool,
}

impl State {
    /// Decides about a datagram: when it arrives, if it does.
    fn pass(&mut self, now: Instant, direction: Direction, datagram: &[u8]) -> Option<Instant> {
        let (way, census) = match direction {
            Direction::Up => (&mut self.up, &mut self.sent_up),
            Direction::Down => (&mut self.down, &mut self.sent_down),
        };
        let arrives = way.pass(now, datagram.len());
        census.count(datagram, arrives.is_none());
        self.lost += u64::from(arrives.is_none());
        arrives
    }
}

/// A running relay; it ends when it is dropped.
#[derive(Debug)]
pub struct Relay {
    state: Arc<Mutex<State>>,
    node: SocketAddr,
    runtime: Handle,
    _stop: oneshot::Sender<()>,
}

impl Relay {
    /// Starts a relay in front of a node that [`behind`] has configured; it does no harm yet.
    ///
    /// # Errors
    /// When its port is taken.
    pub fn start(anchor: &Anchor, seed: u64) -> anyhow::Result<Self> {
        Self::in_front_of(
            SocketAddr::from((Ipv4Addr::LOCALHOST, anchor.ports.webrtc)),
            seed,
        )
    }

    /// Starts a relay on the same port of [`ADDRESS`] in front of any server on loopback; it does no harm yet.
    ///
    /// # Errors
    /// When its port is taken.
    #[expect(clippy::disallowed_methods, reason = "the shell of the tests")]
    pub fn in_front_of(node: SocketAddr, seed: u64) -> anyhow::Result<Self> {
        let socket =
            std::net::UdpSocket::bind((ADDRESS, node.port())).context("the relay's port")?;
        socket.set_nonblocking(true)?;
        let state = Arc::new(Mutex::new(State {
            up: Way::new(seed),
            down: Way::new(seed.wrapping_add(1)),
            sent_up: Census::default(),
            sent_down: Census::default(),
            lost: 0,
            rebind: false,
        }));
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&state);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    tokio::select! {
                        _ = run(socket, node, shared) => {}
                        _ = stopped => {}
                    }
                });
            })?;
        Ok(Self {
            state,
            node,
            runtime: handle,
            _stop: stop,
        })
    }

    /// Lets TCP through, untouched, whatever becomes of datagrams.
    ///
    /// # Errors
    /// When its port is taken.
    #[expect(clippy::disallowed_methods, reason = "the shell of the tests")]
    pub fn forward_tcp(&self) -> anyhow::Result<()> {
        let listener = std::net::TcpListener::bind((ADDRESS, self.node.port()))?;
        listener.set_nonblocking(true)?;
        self.runtime.spawn(forward_tcp(listener, self.node));
        Ok(())
    }

    /// From now on the network is like this: towards the node, and towards the clients.
    pub fn set(&self, up: Link, down: Link) {
        let mut state = lock(&self.state);
        state.up.set(up);
        state.down.set(down);
    }

    /// Where clients reach the node.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((ADDRESS, self.node.port()))
    }

    /// Datagrams that were lost, of any kind and in both directions.
    #[must_use]
    pub fn lost(&self) -> u64 {
        lock(&self.state).lost
    }

    /// Clients have other addresses towards the node from their next datagram on.
    pub fn rebind(&self) {
        lock(&self.state).rebind = true;
    }

    /// What was sent towards the node and towards the clients since this was last asked.
    #[must_use]
    pub fn take(&self) -> (Census, Census) {
        let mut state = lock(&self.state);
        (
            std::mem::take(&mut state.sent_up),
            std::mem::take(&mut state.sent_down),
        )
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client's socket towards the node, and what reads it.
struct Flow {
    client: SocketAddr,
    socket: Arc<UdpSocket>,
    reader: JoinHandle<()>,
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// A datagram on its way. The earliest is the greatest; among those of one moment, the one that was sent first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct OnTheWay {
    due: Reverse<(Instant, u64)>,
    direction: Direction,
    flow: usize,
    datagram: Vec<u8>,
}

struct Router {
    listener: UdpSocket,
    node: SocketAddr,
    flows: Vec<Flow>,
    heap: BinaryHeap<OnTheWay>,
    count: u64,
    received: mpsc::Sender<(usize, Vec<u8>)>,
}

async fn run(
    listener: std::net::UdpSocket,
    node: SocketAddr,
    state: Arc<Mutex<State>>,
) -> anyhow::Result<()> {
    let (received, mut from_node) = mpsc::channel(MAX_WAITING);
    let mut router = Router {
        listener: UdpSocket::from_std(listener)?,
        node,
        flows: Vec::new(),
        heap: BinaryHeap::new(),
        count: 0,
        received,
    };
    let mut buffer = [0; MAX_DATAGRAM];
    loop {
        router.deliver().await;
        let due = router.heap.peek().map(|next| next.due.0.0);
        tokio::select! {
            got = router.listener.recv_from(&mut buffer) => {
                // Errors are about what was sent before to a port that is closed by now.
                let Ok((length, client)) = got else { continue };
                let flow = router.flow(client, &state).await?;
                let datagram = buffer.get(..length).unwrap_or_default();
                router.take(&state, Direction::Up, flow, datagram.to_vec());
            }
            Some((flow, datagram)) = from_node.recv() => {
                router.take(&state, Direction::Down, flow, datagram);
            }
            () = sleep_until(due) => {}
        }
    }
}

impl Router {
    fn take(&mut self, state: &Mutex<State>, direction: Direction, flow: usize, datagram: Vec<u8>) {
        let Some(arrives) = lock(state).pass(now(), direction, &datagram) else {
            return;
        };
        self.count += 1;
        self.heap.push(OnTheWay {
            due: Reverse((arrives, self.count)),
            direction,
            flow,
            datagram,
        });
    }

    /// Sends what is due.
    async fn deliver(&mut self) {
        let now = now();
        while self.heap.peek().is_some_and(|next| next.due.0.0 <= now) {
            let Some(next) = self.heap.pop() else { return };
            let Some(flow) = self.flows.get(next.flow) else {
                continue;
            };
            // Who has gone does not matter to the others.
            let _ = match next.direction {
                Direction::Up => flow.socket.send_to(&next.datagram, self.node).await,
                Direction::Down => self.listener.send_to(&next.datagram, flow.client).await,
            };
        }
    }

    /// The flow of a client; all get other sockets first when that was asked for.
    async fn flow(&mut self, client: SocketAddr, state: &Mutex<State>) -> anyhow::Result<usize> {
        let rebind = std::mem::take(&mut lock(state).rebind);
        if rebind {
            for at in 0..self.flows.len() {
                let client = self.flows.get(at).context("a flow")?.client;
                let fresh = self.open(at, client).await?;
                if let Some(flow) = self.flows.get_mut(at) {
                    *flow = fresh;
                }
            }
        }
        if let Some(at) = self.flows.iter().position(|flow| flow.client == client) {
            return Ok(at);
        }
        let at = self.flows.len();
        let flow = self.open(at, client).await?;
        self.flows.push(flow);
        Ok(at)
    }

    #[expect(clippy::disallowed_methods, reason = "the shell of the tests")]
    async fn open(&self, at: usize, client: SocketAddr) -> anyhow::Result<Flow> {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let (reading, received) = (Arc::clone(&socket), self.received.clone());
        let reader = tokio::spawn(async move {
            let mut buffer = [0; MAX_DATAGRAM];
            loop {
                if let Ok(length) = reading.recv(&mut buffer).await {
                    let datagram = buffer.get(..length).unwrap_or_default();
                    let _ = received.try_send((at, datagram.to_vec()));
                }
            }
        });
        Ok(Flow {
            client,
            socket,
            reader,
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell of the tests")]
async fn forward_tcp(listener: std::net::TcpListener, node: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (mut client, _) = listener.accept().await?;
        tokio::spawn(async move {
            if let Ok(mut node) = TcpStream::connect(node).await {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut node).await;
            }
        });
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell of the tests")]
fn now() -> Instant {
    Instant::now()
}
