//! The shell of a relay: its socket, its feeds from the origin, and its reports.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::substream::feed::Record;
use media::ticket::{Key, Pass};
use reqwest::{Client, RequestBuilder};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use super::pulse::{Identity, Pulse};
use super::{Config, FeedName, Input, Output, Process, Relay};
use crate::wire::Kind;
use crate::wire::advice::Advice;
use crate::wire::heartbeat::{Heartbeat, region_tag};
use crate::{clock, http};

/// How often the relay reports to the origin.
const REPORT: Duration = Duration::from_secs(2);
/// How often the process is measured.
const MEASURE: Duration = Duration::from_secs(2);
/// How long players have to go elsewhere when the relay is to end.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a pass is good.
const PASS_LIFE_S: u32 = 60;
/// Records on their way from feeds; beyond it a feed waits, and TCP with it.
const QUEUE: usize = 1_024;
/// What the kernel keeps for the socket, each way.
const SOCKET_BYTES: usize = 4 << 20;

/// How to run a relay.
#[derive(Clone, Debug)]
pub struct Options {
    /// The origin's HTTP port, as in `http://127.0.0.1:8080`.
    pub origin: String,
    /// Where to listen, by UDP.
    pub listen: SocketAddr,
    /// Where players reach it, if that is not where it listens.
    pub advertise: Option<SocketAddr>,
    /// Which relay it is.
    pub id: u64,
    /// The key of that relay.
    pub key: Key,
    /// The scheduler that is told by heartbeats; without one, the origin is told.
    pub scheduler: Option<SocketAddr>,
    /// Where the relay is, in words that players use too; empty: nowhere in particular.
    pub region: String,
    /// What it can send, in kilobits per second; 0: unknown.
    pub capacity_kbps: u32,
    /// Bounds.
    pub config: Config,
}

type Event = (FeedName, Option<Record>);

/// Runs a relay until `stop` is cancelled; players are told then.
///
/// # Errors
/// When it cannot listen.
pub async fn run(options: Options, stop: CancellationToken) -> std::io::Result<()> {
    let socket = bind(options.listen)?;
    let address = options.advertise.unwrap_or(socket.local_addr()?);
    info!(relay = format!("{:x}", options.id), %address, origin = options.origin, "relaying");
    let client = http::client().map_err(std::io::Error::other)?;
    let origin = Origin {
        base: options.origin.trim_end_matches('/').to_owned(),
        client,
        id: options.id,
        key: options.key.clone(),
    };
    let identity = Identity {
        relay: options.id,
        key: options.key.clone(),
        address,
        region: region_tag(&options.region),
        capacity_kbps: options.capacity_kbps,
    };
    let mut config = options.config;
    config.capacity_kbps = options.capacity_kbps;
    let seed = rand::random();
    let (feeds, mut records) = mpsc::channel::<Event>(QUEUE);
    let mut shell = Shell {
        relay: Relay::new(clock::now(), config, options.key.clone(), seed),
        socket,
        origin: Arc::new(origin),
        feeds,
        open: HashMap::new(),
        pulse: Pulse::new(clock::now(), identity),
        scheduler: options.scheduler,
        heartbeat_key: Heartbeat::key(&options.key),
        draining: None,
    };
    let mut buffer = vec![0; 2_048];
    let mut measure = tokio::time::interval(MEASURE);
    let mut report = tokio::time::interval(REPORT);
    report.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        let timeout = shell.relay.poll_timeout();
        tokio::select! {
            received = shell.socket.recv_from(&mut buffer) => {
                // Errors of single datagrams, such as of earlier sends, are not the relay's.
                if let Ok((length, from)) = received {
                    shell.received(from, buffer.get(..length).unwrap_or_default());
                }
            }
            Some((name, record)) = records.recv() => shell.take(&name, record),
            () = tokio::time::sleep_until(timeout.into()) => {}
            _ = report.tick(), if shell.scheduler.is_none() => shell.report(address),
            _ = measure.tick() => shell.measure(),
            () = stop.cancelled(), if shell.draining.is_none() => {
                shell.draining = Some(clock::now() + DRAIN);
                shell.relay.handle(clock::now(), Input::Drain);
            }
        }
        if shell.is_drained() {
            break;
        }
        shell.relay.handle_timeout(clock::now());
        shell.drain().await;
        shell.beat().await;
    }
    shell.relay.handle(clock::now(), Input::Leave);
    shell.drain().await;
    shell.beat().await;
    info!(counters = ?shell.relay.counters, "relay ends");
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the shell that opens the relay's socket"
)]
fn bind(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    let options = socket2::SockRef::from(&socket);
    // The kernel may give less; then more is lost under load.
    let _ = options.set_send_buffer_size(SOCKET_BYTES);
    let _ = options.set_recv_buffer_size(SOCKET_BYTES);
    UdpSocket::from_std(socket)
}

struct Origin {
    base: String,
    client: Client,
    id: u64,
    key: Key,
}

impl Origin {
    fn with_pass(&self, request: RequestBuilder) -> RequestBuilder {
        let pass = Pass {
            relay: self.id,
            expires_s: clock::wall_s().saturating_add(PASS_LIFE_S),
        };
        let pass = format!("Relay {}", pass.seal(&self.key));
        request.header(reqwest::header::AUTHORIZATION, pass)
    }

    fn feed(&self, name: &FeedName) -> RequestBuilder {
        let (base, stream) = (&self.base, &name.stream);
        let mask = 1_u64 << name.substream;
        let url = format!("{base}/live/{stream}/sub?mask={mask:x}&from=live");
        self.with_pass(self.client.get(url))
    }

    fn report(&self, address: SocketAddr, load: f32) -> RequestBuilder {
        let report = serde_json::json!({ "address": address, "load": load });
        let url = format!("{}/rlive/relays", self.base);
        self.with_pass(self.client.post(url).json(&report))
    }
}

struct Shell {
    relay: Relay,
    socket: UdpSocket,
    origin: Arc<Origin>,
    feeds: mpsc::Sender<Event>,
    open: HashMap<FeedName, AbortOnDropHandle<()>>,
    pulse: Pulse,
    scheduler: Option<SocketAddr>,
    heartbeat_key: Key,
    /// When it ends, once it is to.
    draining: Option<Instant>,
}

impl Shell {
    fn received(&mut self, from: SocketAddr, bytes: &[u8]) {
        if self.scheduler == Some(from) && Kind::of(bytes) == Some(Kind::Advice) {
            if let Ok(advice) = Advice::read(bytes, &self.heartbeat_key) {
                self.relay.handle(clock::now(), Input::Advice(&advice));
            }
            return;
        }
        let wall_s = clock::wall_s();
        let input = Input::Datagram {
            from,
            bytes,
            wall_s,
        };
        self.relay.handle(clock::now(), input);
    }

    fn measure(&mut self) {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let process = Process::parse(
            &read("/proc/self/stat"),
            &read("/proc/self/status"),
            &read("/proc/meminfo"),
        );
        self.relay.handle(clock::now(), Input::Process(process));
    }

    /// Whether it is to end, and nobody is left or their time is over.
    fn is_drained(&self) -> bool {
        let over = |until| until <= clock::now() || self.relay.sessions() == 0;
        self.draining.is_some_and(over)
    }

    fn take(&mut self, name: &FeedName, record: Option<Record>) {
        match record {
            Some(record) => self.relay.handle(clock::now(), Input::Record(name, record)),
            None => {
                self.open.remove(name);
                self.relay.handle(clock::now(), Input::FeedEnded(name));
            }
        }
    }

    async fn drain(&mut self) {
        while let Some(output) = self.relay.poll_output() {
            match output {
                Output::Send(to, bytes) => {
                    // What the socket does not take is lost like on the way, and asked for again.
                    let _ = self.socket.send_to(&bytes, to).await;
                }
                Output::OpenFeed(name) => self.open_feed(name),
                Output::CloseFeed(name) => drop(self.open.remove(&name)),
            }
        }
    }

    fn open_feed(&mut self, name: FeedName) {
        let (origin, feeds, key) = (Arc::clone(&self.origin), self.feeds.clone(), name.clone());
        let task = tokio::spawn(async move {
            let event = |record| (name.clone(), Some(record));
            if let Err(error) = http::feed(origin.feed(&name), &feeds, event).await {
                debug!(%error, stream = name.stream, substream = name.substream, "feed ended");
            }
            let _ = feeds.send((name, None)).await;
        });
        self.open.insert(key, AbortOnDropHandle::new(task));
    }

    /// Tells the scheduler how the relay is, when that is due.
    async fn beat(&mut self) {
        let Some(scheduler) = self.scheduler else {
            return;
        };
        let due = self.pulse.poll(clock::now(), clock::wall_s(), &self.relay);
        if let Some(heartbeat) = due {
            // What gets lost comes again in seconds.
            let _ = self.socket.send_to(&heartbeat, scheduler).await;
        }
    }

    fn report(&self, address: SocketAddr) {
        let request = self.origin.report(address, self.relay.load());
        tokio::spawn(async move {
            if let Err(error) = http::bytes(request).await {
                warn!(%error, "the origin does not take the relay's report");
            }
        });
    }
}
