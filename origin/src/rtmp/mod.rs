//! RTMP ingest: publishers' connections on TCP, for whoever takes their tags ([`Ingest`]): the origin's streams, or the
//! channels of an anchor.
//!
//! The handshake and the chunk writer are the RTMP crate's; what reads from peers is our own (`chunks`, `session`,
//! `amf0`) and total. Each connection runs in its own task: should one panic all the same, it
//! is counted and the others go on.

mod chunks;
mod connection;
mod query;
mod session;
mod streams;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::flv::Tag;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use query::Query;
pub(crate) use streams::Streams;

/// Pause after a failed accept, for example when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long connections may take to close after the server was told to stop.
const DRAIN: Duration = Duration::from_secs(1);

/// Status codes of refusals (`onStatus`).
pub mod code {
    /// The name is no stream's, or somebody else publishes there.
    pub const BAD_NAME: &str = "NetStream.Publish.BadName";
    /// A token is needed.
    pub const UNAUTHORIZED: &str = "NetStream.Publish.Unauthorized";
    /// The token does not allow this.
    pub const DENIED: &str = "NetStream.Publish.Denied";
    /// What is sent is not accepted: another codec, broken data, too much of it.
    pub const REJECTED: &str = "NetStream.Publish.Rejected";
    /// There is no room, or not now.
    pub const FAILED: &str = "NetStream.Publish.Failed";
    /// The publication has been ended from here.
    pub const ENDED: &str = "NetStream.Unpublish.Success";
}

/// Why a publisher is turned away, or its publication ended: the peer is told before the connection closes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct Refusal {
    /// One of [`code`].
    pub code: &'static str,
    /// For people.
    pub reason: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: &'static str, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }
}

/// Somebody wants to publish.
#[derive(Debug, Clone)]
pub struct Request {
    /// The stream's name, not checked: the last part of the URL's path.
    pub stream: String,
    /// What follows it behind `?`; what follows the application counts too.
    pub query: Query,
    /// Who asks.
    pub peer: SocketAddr,
}

/// Takes publishers in.
pub trait Ingest: Send + Sync + 'static {
    /// What an accepted publisher feeds.
    type Publication: Publication;

    /// The counters of this ingest.
    const COUNTERS: Counters;

    /// Lets a publisher in. Nothing is read from it until this is decided.
    ///
    /// # Errors
    /// [`Refusal`], which the peer is told.
    fn publish(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Self::Publication, Refusal>> + Send;
}

/// An accepted publisher's right to a stream; dropping it is leaving.
pub trait Publication: Send + 'static {
    /// Takes a tag that arrived at `now`. Must be quick: it is called on the connection's task.
    ///
    /// # Errors
    /// [`Refusal`], which the peer is told; the connection is closed then.
    fn push(&mut self, now: Instant, tag: Tag) -> Result<(), Refusal>;

    /// Bytes arrived at `now`, whatever they are.
    ///
    /// # Errors
    /// As [`Publication::push`].
    fn received(&mut self, now: Instant, bytes: usize) -> Result<(), Refusal> {
        let _ = (now, bytes);
        Ok(())
    }

    /// Resolves when the publication is to end from this side. Cancel safe.
    fn ended(&mut self) -> impl Future<Output = Refusal> + Send {
        std::future::pending()
    }
}

/// Names of an ingest's counters.
#[derive(Debug, Clone, Copy)]
pub struct Counters {
    /// Connections accepted from the network.
    pub connections: &'static str,
    /// Publishers refused, with the status code as label `reason`.
    pub refused: &'static str,
    /// Connections closed because of malformed input.
    pub bad_input: &'static str,
    /// Connections that panicked.
    pub panics: &'static str,
}

/// The bounds of an ingest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The application part of URLs: `rtmp://host/{app}/{stream}`.
    pub app: String,
    /// Connections at one time; more are closed on arrival.
    pub max_connections: usize,
    /// The largest message (one access unit or command) that is accepted, in bytes.
    pub max_message_bytes: usize,
    /// From connect to an accepted `publish`.
    pub handshake_timeout: Duration,
    /// A connection without a byte for this long is closed.
    pub idle_timeout: Duration,
}

/// Accepts publishers until `cancel` is cancelled, then closes their connections.
///
/// # Errors
/// When the listener itself fails.
pub async fn serve<I: Ingest>(
    ingest: Arc<I>,
    settings: Settings,
    listener: TcpListener,
    cancel: CancellationToken,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(settings.max_connections));
    let settings = Arc::new(settings);
    let tracker = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = cancel.cancelled() => break,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept RTMP");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        ::metrics::counter!(I::COUNTERS.connections).increment(1);
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            ::metrics::counter!(I::COUNTERS.refused, "reason" => "full").increment(1);
            continue;
        };
        let running = tokio::spawn(connection::run(
            Arc::clone(&ingest),
            Arc::clone(&settings),
            socket,
            peer,
            cancel.clone(),
        ));
        tracker.spawn(async move {
            let _place = place;
            if running.await.is_err_and(|error| error.is_panic()) {
                ::metrics::counter!(I::COUNTERS.panics).increment(1);
                tracing::error!(%peer, "an RTMP connection panicked and was closed");
            }
        });
    }
    tracker.close();
    // Connections end by the same token; what does not is dropped with the runtime.
    let _ = tokio::time::timeout(DRAIN, tracker.wait()).await;
    Ok(())
}
