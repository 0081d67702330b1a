//! The shell of a player: its socket, its requests to the origin, and the port where the stream can be watched.

mod live;
mod origin;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use media::substream::feed::Record;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info};

use super::{Config, Input, Output, Player, RelayInfo, Stats};
use crate::{clock, http};
use live::Live;
use origin::Origin;

/// Records and answers on their way to the machine; beyond it the feed waits, and TCP with it.
const QUEUE: usize = 1_024;
/// What the kernel keeps of datagrams that have come.
const SOCKET_BYTES: usize = 4 << 20;
/// How often the statistics are renewed.
const STATS: Duration = Duration::from_millis(200);

/// What to play, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The HTTP-FLV URL of the stream at its origin; a token in it is shown to the origin.
    pub url: String,
    /// Where the stream can be watched, by HTTP-FLV.
    pub listen: SocketAddr,
    /// Only these relays, if any are named.
    pub relays: Vec<SocketAddr>,
    /// Where the player is, in words that relays use too; empty: nowhere in particular.
    pub region: String,
    /// How the player behaves.
    pub config: Config,
}

/// What is known of a player from outside, while it runs.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where the stream can be watched.
    pub url: String,
    /// Renewed several times a second.
    pub stats: watch::Receiver<Stats>,
}

enum Event {
    Record(u64, Record),
    FeedEnded(u64, bool),
    Frames(u64, Option<Vec<Record>>),
    Headers(Option<Vec<Record>>),
    Relays(Vec<RelayInfo>),
}

/// Plays until `stop` is cancelled. `started` is called when the port is open.
///
/// # Errors
/// When it cannot listen, or the URL is not one of HTTP-FLV.
pub async fn run(
    options: Options,
    stop: CancellationToken,
    started: impl FnOnce(Report),
) -> std::io::Result<()> {
    let client = http::client().map_err(std::io::Error::other)?;
    let (origin, name) =
        Origin::new(client, &options.url, options.region).map_err(std::io::Error::other)?;
    let listener = listen(options.listen).await?;
    let url = format!("http://{}/live/{name}.flv", listener.local_addr()?);
    let live = Arc::new(Live::default());
    let (report, stats) = watch::channel(Stats::default());
    let serving = live::serve(listener, name, Arc::clone(&live), stats.clone());
    let _serving = AbortOnDropHandle::new(tokio::spawn(serving));
    info!(url, origin = options.url, "playing");
    started(Report { url, stats });

    let (events, mut incoming) = mpsc::channel(QUEUE);
    let mut shell = Shell {
        player: Player::new(clock::now(), options.config, rand::random()),
        socket: bind()?,
        origin: Arc::new(origin),
        events,
        feed: None,
        relays: options.relays,
        live,
    };
    let mut buffer = vec![0; 2_048];
    let mut renew = tokio::time::interval(STATS);
    loop {
        let timeout = shell.player.poll_timeout();
        tokio::select! {
            received = shell.socket.recv_from(&mut buffer) => {
                if let Ok((length, from)) = received {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    shell.player.handle(clock::now(), Input::Datagram(from, bytes));
                }
            }
            Some(event) = incoming.recv() => shell.take(event),
            () = tokio::time::sleep_until(timeout.into()) => {}
            _ = renew.tick() => drop(report.send(shell.player.stats(clock::now()))),
            () = stop.cancelled() => break,
        }
        shell.player.handle_timeout(clock::now());
        shell.drain().await;
    }
    shell.player.handle(clock::now(), Input::Leave);
    shell.drain().await;
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the shell that opens the player's port"
)]
async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the shell that opens the player's socket"
)]
fn bind() -> std::io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0))?;
    socket.set_nonblocking(true)?;
    // The kernel may give less; then more is lost under load.
    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(SOCKET_BYTES);
    UdpSocket::from_std(socket)
}

struct Shell {
    player: Player,
    socket: UdpSocket,
    origin: Arc<Origin>,
    events: mpsc::Sender<Event>,
    feed: Option<(u64, AbortOnDropHandle<()>)>,
    /// Only these, if any.
    relays: Vec<SocketAddr>,
    live: Arc<Live>,
}

impl Shell {
    fn take(&mut self, event: Event) {
        let input = match event {
            Event::Record(feed, record) => Input::Record(feed, record),
            Event::FeedEnded(feed, gone) => Input::FeedEnded { feed, gone },
            Event::Frames(request, records) => Input::Frames(request, records),
            Event::Headers(records) => Input::Headers(records),
            Event::Relays(mut relays) => {
                let named = &self.relays;
                relays.retain(|relay| named.is_empty() || named.contains(&relay.address));
                Input::Relays(relays)
            }
        };
        self.player.handle(clock::now(), input);
    }

    async fn drain(&mut self) {
        while let Some(output) = self.player.poll_output() {
            match output {
                Output::Send(to, bytes) => {
                    // What the socket does not take is lost like on the way, and said again.
                    let _ = self.socket.send_to(&bytes, to).await;
                }
                Output::OpenFeed { feed, mask, from } => {
                    let task = self.feed_task(feed, self.origin.feed(mask, from));
                    self.feed = Some((feed, task));
                }
                Output::CloseFeed(feed) => {
                    self.feed.take_if(|(open, _)| *open == feed);
                }
                Output::FetchFrames(id, names) => {
                    let request = self.origin.frames(&names);
                    self.answer(
                        async move { Event::Frames(id, http::records(request).await.ok()) },
                    );
                }
                Output::FetchHeaders(after) => {
                    let request = self.origin.headers(&after);
                    self.answer(async move { Event::Headers(http::records(request).await.ok()) });
                }
                Output::FetchRelays(failed) => {
                    let origin = Arc::clone(&self.origin);
                    self.answer(async move { Event::Relays(origin.relays(&failed).await) });
                }
                Output::Begin(prelude) => self.live.begin(&prelude),
                Output::Frame(entry, body) => self.live.frame(&entry, body),
            }
        }
    }

    fn answer(&self, answer: impl Future<Output = Event> + Send + 'static) {
        let events = self.events.clone();
        tokio::spawn(async move { drop(events.send(answer.await).await) });
    }

    fn feed_task(&self, feed: u64, request: reqwest::RequestBuilder) -> AbortOnDropHandle<()> {
        let events = self.events.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let event = |record| Event::Record(feed, record);
            let ended = http::feed(request, &events, event).await;
            let gone = matches!(&ended, Err(http::Error::Status(status)) if status.as_u16() == 404);
            if let Err(error) = ended {
                debug!(%error, "the origin's feed ended");
            }
            let _ = events.send(Event::FeedEnded(feed, gone)).await;
        }))
    }
}
