//! The shell: one UDP socket, connections of ICE over TCP, one thread, commands from [`super::Sfu`] handles. Everything it decides, `table` decides.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};

use super::batch::Batch;
use super::config::Config;
use super::delivery::Delivery;
use super::metrics;
use super::packet::Relayed;
use super::program::ProgramLink;
use super::remote::is_tcp;
use super::sdp::Credentials;
use super::sdp::fragment::Fragment;
use super::session::Session;
use super::table::Table;
use super::tcp::{self, Connections};
use super::types::{
    CloseReason, OfferError, PatchError, Patched, SessionFlow, SessionId, SessionStats, StreamKey,
};

/// Counters and gauges are published this often.
const METRICS_INTERVAL: Duration = Duration::from_secs(1);
/// Receive calls before commands and deadlines get their turn.
const MAX_BATCHES: usize = 16;
/// No datagram waits for longer in the kernel: an older stamp means that the wall clock has been set.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// How often a port is tried that is to be free for UDP and for TCP.
const MAX_BINDS: usize = 16;
/// Datagrams of TCP before others get their turn.
const MAX_FRAMES: usize = 64;
/// Commands that may wait; beyond it callers wait.
pub(super) const MAX_COMMANDS: usize = 256;

/// What handles ask of the media thread.
pub(super) enum Command {
    /// Take up a session.
    Open {
        id: SessionId,
        session: Box<Session>,
        delivery: Delivery,
        /// Where subscribers find it.
        key: Option<StreamKey>,
        reply: oneshot::Sender<Result<(), OfferError>>,
    },
    /// Take up a subscriber.
    Subscribe {
        id: SessionId,
        session: Box<Session>,
        /// To this.
        key: StreamKey,
        reply: oneshot::Sender<Result<(), OfferError>>,
    },
    /// Take up a viewer.
    Watch {
        id: SessionId,
        session: Box<Session>,
        /// Of this.
        link: ProgramLink,
        reply: oneshot::Sender<Result<(), OfferError>>,
    },
    /// Send a unit of a program to its viewers.
    Program {
        id: SessionId,
        packets: Vec<Relayed>,
    },
    /// Send its viewers away.
    EndProgram { id: SessionId },
    /// Take up a publisher without a session.
    OpenFeed { link: ProgramLink },
    /// It is gone.
    EndFeed {
        id: SessionId,
        /// Its connection broke: it is waited for.
        returns: bool,
    },
    /// It cannot be watched.
    RefuseFeed { id: SessionId, why: &'static str },
    /// Which stream does a session publish or receive?
    Flow {
        id: SessionId,
        reply: oneshot::Sender<Option<SessionFlow>>,
    },
    /// Trickle or restart.
    Patch {
        id: SessionId,
        if_match: Option<String>,
        fragment: Fragment,
        /// Ours, if it is a restart.
        fresh: Credentials,
        reply: oneshot::Sender<Result<Option<Patched>, PatchError>>,
    },
    /// End a session.
    Close {
        id: SessionId,
        reply: oneshot::Sender<()>,
    },
    /// Ask for a keyframe.
    Keyframe { id: SessionId },
    /// Its units are shown at this height.
    Height { id: SessionId, height: Option<u32> },
    /// How is it doing?
    Stats {
        id: SessionId,
        reply: oneshot::Sender<Option<SessionStats>>,
    },
    /// End everything.
    Shutdown { reply: oneshot::Sender<()> },
}

/// What the media thread listens on.
pub(super) struct Ports {
    /// Of everybody.
    pub(super) udp: std::net::UdpSocket,
    /// The same number for ICE over TCP, unless that is off.
    pub(super) tcp: Option<std::net::TcpListener>,
}

/// Binds the port for UDP and TCP.
pub(super) fn bind(config: &Config) -> io::Result<Ports> {
    for _ in 0..MAX_BINDS {
        let udp = bind_udp(config)?;
        if !config.tcp {
            return Ok(Ports { udp, tcp: None });
        }
        match tcp::bind(udp.local_addr()?) {
            Ok(tcp) => {
                let tcp = Some(tcp);
                return Ok(Ports { udp, tcp });
            }
            // Any port will do: another one may be free for both.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && config.bind.port() == 0 => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// Binds the socket with large kernel buffers.
fn bind_udp(config: &Config) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(config.bind),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if config.bind.is_ipv6() {
        // One socket for both families where the system allows it.
        let _ = socket.set_only_v6(false);
    }
    // The kernel grants what its limits allow; less is no reason not to start.
    let _ = socket.set_recv_buffer_size(config.socket_buffer_bytes);
    let _ = socket.set_send_buffer_size(config.socket_buffer_bytes);
    socket.set_nonblocking(true)?;
    socket.bind(&config.bind.into())?;
    Ok(socket.into())
}

/// What answers advertise for a socket bound to `local`.
pub(super) fn addresses(config: &Config, local: SocketAddr) -> io::Result<Vec<SocketAddr>> {
    let mut ips: Vec<IpAddr> = config.external_ips.clone();
    if ips.is_empty() && !local.ip().is_unspecified() {
        ips.push(local.ip());
    }
    if ips.is_empty() {
        let both = local.is_ipv6();
        for interface in if_addrs::get_if_addrs()? {
            let ip = interface.ip();
            let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
            if !interface.is_loopback() && !link_local && (ip.is_ipv4() || both) {
                ips.push(ip);
            }
        }
        // Without a network there is still this machine.
        if ips.is_empty() {
            ips.push(IpAddr::from([127, 0, 0, 1]));
        }
    }
    ips.sort_by_key(IpAddr::is_ipv6);
    ips.dedup();
    Ok(ips
        .into_iter()
        .map(|ip| SocketAddr::new(ip, local.port()))
        .collect())
}

/// The media thread's loop; returns after [`Command::Shutdown`] or when all handles are gone.
pub(super) async fn run(
    ports: Ports,
    max_tcp_connections: usize,
    mut table: Table,
    mut commands: mpsc::Receiver<Command>,
) -> io::Result<()> {
    let Ports { udp: socket, tcp } = ports;
    let state = UdpSocketState::new((&socket).into())?;
    let is_v6 = socket.local_addr()?.is_ipv6();
    let socket = UdpSocket::from_std(socket)?;
    let mut wire = Wire {
        socket,
        state,
        is_v6,
        buffers: vec![0; BATCH_SIZE * BUFFER],
        tcp: Connections::new(tcp, max_tcp_connections)?,
        batch: Batch::default(),
        dropped: 0,
    };
    let mut ticks = tokio::time::interval(METRICS_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let deadline = table.poll_timeout();
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(Command::Shutdown { reply }) => {
                    table.close_all(now(), CloseReason::Shutdown);
                    wire.send(&mut table);
                    let _ = reply.send(());
                    return Ok(());
                }
                Some(Command::Program { id, packets }) => table.relay(now(), id, packets),
                Some(command) => handle(&mut table, command),
                None => {
                    table.close_all(now(), CloseReason::Shutdown);
                    wire.send(&mut table);
                    return Ok(());
                }
            },
            () = sleep_until(deadline) => table.handle_timeout(now()),
            ready = wire.socket.readable() => {
                ready?;
                wire.receive(&mut table);
                table.handle_timeout(now());
            }
            datagram = wire.tcp.next(now) => wire.receive_frames(&mut table, datagram),
            _ = ticks.tick() => {
                wire.tcp.sweep(now(), |key| table.is_proven(key));
                table.publish_metrics();
                metrics::tcp(wire.tcp.take_figures());
                metrics::send_drops(std::mem::take(&mut wire.dropped));
            }
        }
        wire.send(&mut table);
    }
}

fn handle(table: &mut Table, command: Command) {
    // A caller that has gone away does not need its reply.
    match command {
        Command::Open {
            id,
            session,
            delivery,
            key,
            reply,
        } => {
            let _ = reply.send(table.open_publisher(now(), id, *session, delivery, key));
        }
        Command::Subscribe {
            id,
            session,
            key,
            reply,
        } => {
            let _ = reply.send(table.open_subscriber(now(), id, *session, key));
        }
        Command::Watch {
            id,
            session,
            link,
            reply,
        } => {
            let _ = reply.send(table.open_viewer(now(), id, *session, link));
        }
        Command::EndProgram { id } => table.end_program(now(), id),
        Command::OpenFeed { link } => table.open_feed(now(), link),
        Command::EndFeed { id, returns } => table.end_feed(now(), id, returns),
        Command::RefuseFeed { id, why } => table.refuse_feed(now(), id, why),
        Command::Flow { id, reply } => {
            let _ = reply.send(table.flow(id));
        }
        Command::Patch {
            id,
            if_match,
            fragment,
            fresh,
            reply,
        } => {
            let _ = reply.send(table.patch(id, if_match.as_deref(), &fragment, fresh));
        }
        Command::Close { id, reply } => {
            table.close(now(), id, CloseReason::Requested);
            let _ = reply.send(());
        }
        Command::Keyframe { id } => table.request_keyframe(now(), id),
        Command::Height { id, height } => table.set_height(id, height),
        Command::Stats { id, reply } => {
            let _ = reply.send(table.stats(now(), id));
        }
        // The loop serves these itself.
        Command::Program { .. } | Command::Shutdown { .. } => {}
    }
}

/// Room for one receive: what the kernel may coalesce from one sender.
const BUFFER: usize = 65_536;

/// The socket with its batching, and the connections.
struct Wire {
    socket: UdpSocket,
    state: UdpSocketState,
    is_v6: bool,
    buffers: Vec<u8>,
    tcp: Connections,
    batch: Batch,
    /// Datagrams that the kernel did not take.
    dropped: u64,
}

impl Wire {
    /// Takes a datagram that came over TCP, if there is one, and those that wait behind it.
    fn receive_frames(&mut self, table: &mut Table, first: Option<(SocketAddr, Bytes)>) {
        let now = now();
        let mut next = first;
        for _ in 0..MAX_FRAMES {
            if let Some((from, datagram)) = next {
                table.handle_datagram(now, from, &datagram);
                if table.is_backlogged() {
                    table.settle(now);
                    self.send(table);
                }
            }
            next = self.tcp.try_next(now);
            if next.is_none() {
                break;
            }
        }
        // Taken from the queue already.
        if let Some((from, datagram)) = next {
            table.handle_datagram(now, from, &datagram);
        }
        table.handle_timeout(now);
    }

    fn receive(&mut self, table: &mut Table) {
        let mut buffers = std::mem::take(&mut self.buffers);
        self.receive_into(&mut buffers, table);
        self.buffers = buffers;
    }

    fn receive_into(&mut self, buffers: &mut [u8], table: &mut Table) {
        for _ in 0..MAX_BATCHES {
            let mut meta = [RecvMeta::default(); BATCH_SIZE];
            let mut slices: Vec<IoSliceMut<'_>> = buffers
                .chunks_exact_mut(BUFFER)
                .map(IoSliceMut::new)
                .collect();
            let mut count = 0;
            let more = self.socket.try_io(Interest::READABLE, || {
                count = self
                    .state
                    .recv((&self.socket).into(), &mut slices, &mut meta)?;
                // A call that did not fill the buffers has emptied the socket; another would only say so.
                match count < BATCH_SIZE {
                    true => Err(io::ErrorKind::WouldBlock.into()),
                    false => Ok(()),
                }
            });
            drop(slices);
            let (now, wall) = (now(), wall());
            for (buffer, meta) in buffers.chunks_exact(BUFFER).zip(&meta).take(count) {
                let from = canonical(meta.addr);
                let arrived = arrival(now, wall, meta.timestamp);
                let filled = buffer.get(..meta.len).unwrap_or_default();
                for datagram in filled.chunks(meta.stride.max(1)) {
                    table.handle_datagram(arrived, from, datagram);
                    if table.is_backlogged() {
                        table.settle(now);
                        self.send(table);
                    }
                }
            }
            table.settle(now);
            self.send(table);
            // Errors other than "nothing more" are about earlier sends (ICMP); the socket is fine.
            if more.is_err() {
                return;
            }
        }
    }

    /// Sends what waits, what goes to one peer in as few calls as the kernel allows; what does not fit is dropped, as a
    /// network would.
    fn send(&mut self, table: &mut Table) {
        self.send_waiting(table);
        while table.is_unsettled() {
            table.settle(now());
            self.send_waiting(table);
        }
    }

    fn send_waiting(&mut self, table: &mut Table) {
        let max_segments = self.state.max_gso_segments();
        while let Some((to, datagram)) = table.poll_transmit() {
            if is_tcp(to) {
                self.tcp.send(to, datagram);
            } else {
                self.batch.add(to, datagram, max_segments);
            }
        }
        let (socket, state, is_v6) = (&self.socket, &self.state, self.is_v6);
        let mut dropped = 0;
        self.batch.drain(|run| {
            let transmit = Transmit {
                destination: if is_v6 { mapped(run.to) } else { run.to },
                ecn: None,
                contents: &run.bytes,
                segment_size: run.is_joined().then_some(run.segment),
                src_ip: None,
            };
            let sent = socket.try_io(Interest::WRITABLE, || {
                state.try_send(socket.into(), &transmit)
            });
            // Other errors are about who is not there.
            if sent.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                dropped += run.count();
            }
        });
        self.dropped += dropped;
    }
}

/// When a datagram came, by the kernel's stamp: on a busy machine it may have waited long for this thread, and capture times
/// and bandwidth estimates are made of arrivals.
fn arrival(now: Instant, wall: Duration, stamped: Option<Duration>) -> Instant {
    let age = stamped.and_then(|at| wall.checked_sub(at));
    let age = age.filter(|age| *age < MAX_WAIT).unwrap_or_default();
    now.checked_sub(age).unwrap_or(now)
}

/// IPv4 as IPv4, also when it comes through a socket of both families.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// IPv4 as a socket of both families wants it.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the shell reads the clock for the state machines"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Time since 1970, for comparison with the kernel's stamps.
#[expect(
    clippy::disallowed_methods,
    reason = "the kernel stamps datagrams by the wall clock"
)]
fn wall() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_that_waited_are_dated_back() {
        let now = now();
        let wall = Duration::from_secs(1_000_000);
        let ms = Duration::from_millis;
        assert_eq!(arrival(now, wall, Some(wall - ms(300))), now - ms(300));
        assert_eq!(arrival(now, wall, None), now);
        assert_eq!(arrival(now, wall, Some(wall + ms(1))), now);
        assert_eq!(arrival(now, wall, Some(wall - ms(5_000))), now);
    }
}
