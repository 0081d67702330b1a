//! ICE over TCP (RFC 6544) for networks that let no UDP through: the shell of its connections.
//!
//! Clients connect to the number of the UDP port and send datagrams in frames (RFC 4571). What they carry is handled as if
//! it had come by UDP, from an address that is a key of its own (`remote`).
//!
//! Drop policy: at most [`MAX_QUEUED`] datagrams wait for a connection that takes them slowly; a further one is dropped, as a
//! full router would, and congestion control sees the loss. Datagrams from clients are not dropped but left in the
//! connection while [`MAX_WAITING`] wait to be handled.

mod framing;
mod guests;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use self::framing::{Deframer, frame};
use self::guests::Guests;
use super::remote::over_tcp;

/// Most datagrams that wait to be written to one connection: a second of a good picture.
const MAX_QUEUED: usize = 256;
/// Most datagrams of all connections that wait to be handled.
const MAX_WAITING: usize = 512;
/// Most datagrams in one call to the kernel.
const MAX_JOINED: usize = 32;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// The kernel's buffer of a connection: what it holds is latency that no drop policy reaches.
const SEND_BUFFER_BYTES: usize = 128 << 10;
/// Pause after an error of the listener, such as no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What happens at connections.
#[derive(Debug)]
enum Event {
    Accepted(TcpStream, SocketAddr),
    Datagram(SocketAddr, u64, Bytes),
    Ended(SocketAddr, u64),
}

/// Binds the port.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // One socket for both families where the system allows it.
        let _ = socket.set_only_v6(false);
    }
    // A node that is restarted shall not wait for its predecessor's connections to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

struct Connection {
    queue: mpsc::Sender<BytesMut>,
    _task: AbortOnDropHandle<()>,
}

/// All connections.
pub(super) struct Connections {
    guests: Guests,
    held: HashMap<SocketAddr, Connection>,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    _listener: Option<AbortOnDropHandle<()>>,
    dropped: u64,
    refused: u64,
    /// Connections when that was last asked.
    published: usize,
}

/// Totals for metrics.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    /// Connections now.
    pub(super) connections: usize,
    /// And when this was last asked.
    pub(super) before: usize,
    /// Datagrams dropped since this was last asked.
    pub(super) dropped: u64,
    /// Connections refused or given up for others since then.
    pub(super) refused: u64,
}

impl Connections {
    /// Serves a listener, if there is one, with at most `max` connections.
    pub(super) fn new(listener: Option<std::net::TcpListener>, max: usize) -> io::Result<Self> {
        let (sender, events) = mpsc::channel(MAX_WAITING);
        let listener = listener.map(TcpListener::from_std).transpose()?;
        let accepting = listener.map(|listener| {
            let sender = sender.clone();
            AbortOnDropHandle::new(tokio::spawn(accept(listener, sender)))
        });
        Ok(Self {
            guests: Guests::new(max),
            held: HashMap::new(),
            events,
            sender,
            _listener: accepting,
            dropped: 0,
            refused: 0,
            published: 0,
        })
    }

    /// Waits until something has happened and handles it: a datagram and the key of who sent it, unless it was something else.
    /// Nothing is lost when this is cancelled.
    pub(super) async fn next(&mut self, now: impl Fn() -> Instant) -> Option<(SocketAddr, Bytes)> {
        // This holds a sender itself: there is always a next one.
        let event = self.events.recv().await?;
        self.handle(now(), event)
    }

    /// Handles what has happened already, like [`Self::next`]; `None` when there is nothing more.
    pub(super) fn try_next(&mut self, now: Instant) -> Option<(SocketAddr, Bytes)> {
        while let Ok(event) = self.events.try_recv() {
            if let Some(datagram) = self.handle(now, event) {
                return Some(datagram);
            }
        }
        None
    }

    fn handle(&mut self, now: Instant, event: Event) -> Option<(SocketAddr, Bytes)> {
        match event {
            Event::Accepted(stream, from) => self.admit(now, stream, from),
            Event::Datagram(key, number, datagram) => {
                let is_held = self.guests.note(now, key, number);
                return is_held.then_some((key, datagram));
            }
            Event::Ended(key, number) => {
                if self.guests.remove(key, number) {
                    self.held.remove(&key);
                }
            }
        }
        None
    }

    fn admit(&mut self, now: Instant, stream: TcpStream, from: SocketAddr) {
        let key = over_tcp(from);
        let admission = self.guests.admit(now, key);
        for closed in admission.closed {
            self.held.remove(&closed);
            self.refused += 1;
        }
        let Some(number) = admission.number else {
            self.refused += 1;
            return;
        };
        // Media must not wait for the peer's acknowledgement. Without these it works too, less well.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES);
        let (queue, queued) = mpsc::channel(MAX_QUEUED);
        let task = tokio::spawn(serve(stream, key, number, queued, self.sender.clone()));
        let connection = Connection {
            queue,
            _task: AbortOnDropHandle::new(task),
        };
        self.held.insert(key, connection);
    }

    /// Sends a datagram to a peer over TCP.
    pub(super) fn send(&mut self, key: SocketAddr, datagram: BytesMut) {
        if let Some(connection) = self.held.get(&key)
            && connection.queue.try_send(datagram).is_err()
        {
            self.dropped += 1;
        }
    }

    /// Gives up who has no business here; to be called about once a second.
    pub(super) fn sweep(&mut self, now: Instant, is_proven: impl Fn(SocketAddr) -> bool) {
        for closed in self.guests.sweep(now, is_proven) {
            self.held.remove(&closed);
        }
    }

    /// How they are doing.
    pub(super) fn take_figures(&mut self) -> Figures {
        Figures {
            connections: self.guests.len(),
            before: std::mem::replace(&mut self.published, self.guests.len()),
            dropped: std::mem::take(&mut self.dropped),
            refused: std::mem::take(&mut self.refused),
        }
    }
}

async fn accept(listener: TcpListener, events: mpsc::Sender<Event>) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                if events.send(Event::Accepted(stream, from)).await.is_err() {
                    return;
                }
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Serves a connection until it ends, from either side.
async fn serve(
    stream: TcpStream,
    key: SocketAddr,
    number: u64,
    queued: mpsc::Receiver<BytesMut>,
    events: mpsc::Sender<Event>,
) {
    let (reader, writer) = stream.into_split();
    tokio::select! {
        () = read(reader, key, number, &events) => {}
        () = write(writer, queued) => {}
    }
    let _ = events.send(Event::Ended(key, number)).await;
}

async fn read(
    mut reader: OwnedReadHalf,
    key: SocketAddr,
    number: u64,
    events: &mpsc::Sender<Event>,
) {
    let mut deframer = Deframer::default();
    while let Ok(1..) = reader.read_buf(deframer.buffer()).await {
        loop {
            match deframer.pop() {
                Ok(Some(datagram)) => {
                    let event = Event::Datagram(key, number, datagram);
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

async fn write(mut writer: OwnedWriteHalf, mut queued: mpsc::Receiver<BytesMut>) {
    let mut datagrams = Vec::with_capacity(MAX_JOINED);
    let mut out = BytesMut::new();
    while queued.recv_many(&mut datagrams, MAX_JOINED).await > 0 {
        for datagram in datagrams.drain(..) {
            frame(&datagram, &mut out);
        }
        if writer.write_all(&out).await.is_err() {
            return;
        }
        out.clear();
    }
}
