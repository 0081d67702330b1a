//! The persistent publisher of one channel: every access unit of the program to every destination.
//!
//! A destination is an RTMP or RTMPS URL. Each has its own task, its own bounded queue and its own
//! state machine ([`destination::Machine`]), so that a slow or broken one never delays another. The publisher never
//! disconnects for lack of media: connections are made when destinations are set, and stay.

pub(crate) mod connection;
pub(crate) mod destination;
pub(crate) mod queue;
mod task;
mod tls;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use media::AccessUnit;
use media::flv::{Muxer, TagKind};
use serde::Serialize;
use tokio_util::task::TaskTracker;

use self::queue::Item;
use self::task::{Shared, Tracks};
use crate::rtmp::url::RtmpUrl;

/// A destination that is taken away has this long to take what waits for it.
const REMOVAL_FLUSH: Duration = Duration::from_secs(1);
/// Longest time for connections to close behind the flush of a shutdown.
const CLOSING_GRACE: Duration = Duration::from_millis(500);

/// How to publish. Durations are of wall-clock time.
#[derive(Clone, Debug)]
pub struct PublisherConfig {
    /// Longest time for TCP and TLS to connect.
    pub connect_timeout: Duration,
    /// Longest time from the RTMP handshake to the server's `NetStream.Publish.Start`.
    pub handshake_timeout: Duration,
    /// A connection that takes no byte for this long is closed and made again.
    pub write_timeout: Duration,
    /// Pause before the first attempt after a failure; doubles with every further failure. Jitter of ±50 % is added.
    pub backoff_min: Duration,
    /// The longest such pause.
    pub backoff_max: Duration,
    /// Pause after the server refused the credentials or the stream: asking again soon would only annoy it.
    pub refused_retry: Duration,
    /// A connection that published for this long makes the next failure the first one again.
    pub stable_after: Duration,
    /// Most bytes waiting for one destination. Beyond, everything up to the next keyframe is dropped.
    pub queue_max_bytes: usize,
    /// Longest stretch of program time waiting for one destination; same policy.
    pub queue_max: Duration,
    /// Certificates (PEM) trusted for RTMPS besides those of the operating system.
    pub extra_ca_file: Option<PathBuf>,
}

impl Default for PublisherConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(15),
            refused_retry: Duration::from_secs(300),
            stable_after: Duration::from_secs(10),
            queue_max_bytes: 8 << 20,
            queue_max: Duration::from_secs(5),
            extra_ca_file: None,
        }
    }
}

/// Where to publish to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// What operators call it; unique within the channel.
    pub name: String,
    /// `rtmp://` or `rtmps://`, host, application and stream key, with any query. Holds credentials.
    pub url: String,
}

/// What a destination is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DestinationState {
    /// Not started yet.
    Idle,
    /// TCP and TLS.
    Connecting,
    /// RTMP handshake, `connect`, `createStream`, `publish`.
    Handshaking,
    /// The server takes media.
    Publishing,
    /// Failed; the next attempt is scheduled.
    Backoff,
    /// The server refused the credentials or the stream; the next attempt is far away unless the URL changes.
    Refused,
    /// Removed, shut down, or the URL is unusable.
    Closed,
}

/// A destination as the API shows it. Credentials are redacted everywhere.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DestinationStatus {
    /// What operators call it.
    pub name: String,
    /// The URL without stream key, user info and query values.
    pub url: String,
    /// What it is doing.
    pub state: DestinationState,
    /// Attempts to connect since the last stable connection.
    pub attempts: u32,
    /// Connections that reached `Publishing`, ever.
    pub connections: u64,
    /// Why the last attempt or connection ended.
    pub last_error: Option<String>,
    /// Bytes written to all its connections.
    pub bytes_sent: u64,
    /// Access units dropped by the queue.
    pub dropped_units: u64,
    /// Bytes waiting.
    pub queued_bytes: usize,
    /// Since when the server takes media.
    pub connected_at: Option<SystemTime>,
    /// When the next attempt is due.
    pub next_attempt_at: Option<SystemTime>,
}

/// Handle to the publisher of a channel. Cloning is cheap; connections end on [`Publisher::shutdown`] or when the last
/// handle is dropped.
#[derive(Clone, Debug)]
pub struct Publisher {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    channel: Arc<str>,
    config: PublisherConfig,
    tracks: Tracks,
    state: Mutex<Running>,
    tasks: TaskTracker,
    runtime: tokio::runtime::Handle,
}

#[derive(Debug, Default)]
struct Running {
    muxer: Muxer,
    /// Bodies of the latest sequence headers: audio, video.
    headers: [Bytes; 2],
    destinations: Vec<Entry>,
    closed: bool,
}

/// A destination: running, or with a URL that cannot be used.
#[derive(Debug)]
enum Entry {
    Running(Arc<Shared>, RtmpUrl),
    Unusable(Destination, String),
}

impl Entry {
    fn destination(&self) -> &Destination {
        match self {
            Self::Running(shared, _) => &shared.destination,
            Self::Unusable(destination, _) => destination,
        }
    }
}

impl Publisher {
    /// Starts without destinations. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(channel: String, config: PublisherConfig) -> Self {
        let inner = Inner {
            channel: channel.into(),
            config,
            tracks: Tracks::default(),
            state: Mutex::default(),
            tasks: TaskTracker::new(),
            runtime: tokio::runtime::Handle::current(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Queues one access unit of the program (H.264 or AAC) for every destination. Never blocks.
    pub fn send(&self, unit: AccessUnit) {
        let mut state = self.inner.state();
        let tags = match state.muxer.push(&unit) {
            Ok(tags) => tags,
            Err(error) => {
                tracing::warn!(channel = &*self.inner.channel, %error, "unit not published");
                return;
            }
        };
        for tag in tags {
            let at = usize::from(tag.kind == TagKind::Video);
            if tag.is_sequence_header() {
                if let Some(header) = state.headers.get_mut(at) {
                    header.clone_from(&tag.body);
                }
                let mut tracks = lock(&self.inner.tracks);
                if let Some(track) = tracks.get_mut(at) {
                    *track = Some(Arc::clone(&unit.track));
                }
                continue;
            }
            let item = Item {
                track: Arc::clone(&unit.track),
                header: state.headers.get(at).cloned().unwrap_or_default(),
                keyframe: unit.keyframe,
                dts_ms: unit.dts.as_millis(),
                tag,
            };
            for entry in &state.destinations {
                if let Entry::Running(shared, _) = entry {
                    shared.send(item.clone());
                }
            }
        }
    }

    /// Makes the destinations exactly these. Those whose name and URL are unchanged keep their connection; the others are
    /// ended, or begun, at once.
    pub fn set_destinations(&self, destinations: Vec<Destination>) {
        let mut state = self.inner.state();
        if state.closed {
            return;
        }
        let mut old = std::mem::take(&mut state.destinations);
        for destination in destinations {
            let known = old.iter().position(|e| *e.destination() == destination);
            let entry = match known {
                Some(at) => old.swap_remove(at),
                None => self.inner.begin(destination),
            };
            state.destinations.push(entry);
        }
        let deadline = connection::now() + REMOVAL_FLUSH;
        for entry in old {
            if let Entry::Running(shared, _) = entry {
                shared.shut_down(deadline);
            }
        }
    }

    /// Every destination, in the order in which they were set.
    #[must_use]
    pub fn status(&self) -> Vec<DestinationStatus> {
        let clock = WallClock::now();
        let state = self.inner.state();
        let entries = state.destinations.iter();
        entries.map(|entry| status(entry, &clock)).collect()
    }

    /// Sends what is queued for at most `flush`, ends the streams properly and closes the connections.
    pub async fn shutdown(&self, flush: Duration) {
        let deadline = connection::now() + flush;
        {
            let mut state = self.inner.state();
            state.closed = true;
            for entry in &state.destinations {
                if let Entry::Running(shared, _) = entry {
                    shared.shut_down(deadline);
                }
            }
        }
        self.inner.tasks.close();
        let _ = tokio::time::timeout(flush + CLOSING_GRACE, self.inner.tasks.wait()).await;
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, Running> {
        lock(&self.state)
    }

    fn begin(&self, destination: Destination) -> Entry {
        let url = match RtmpUrl::parse(&destination.url) {
            Ok(url) => url,
            Err(error) => return Entry::Unusable(destination, error.to_string()),
        };
        let shared = Arc::new(Shared::new(
            Arc::clone(&self.channel),
            destination,
            &self.config,
            Arc::clone(&self.tracks),
        ));
        let task = task::run(Arc::clone(&shared), url.clone());
        self.tasks.spawn_on(task, &self.runtime);
        Entry::Running(shared, url)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let deadline = connection::now();
        for entry in &self.state().destinations {
            if let Entry::Running(shared, _) = entry {
                shared.shut_down(deadline);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same moment on both clocks.
struct WallClock {
    instant: Instant,
    system: SystemTime,
}

impl WallClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the shell that reads clocks"
    )]
    fn now() -> Self {
        Self {
            instant: Instant::now(),
            system: SystemTime::now(),
        }
    }

    fn at(&self, at: Instant) -> SystemTime {
        let ahead = at.saturating_duration_since(self.instant);
        self.system + ahead - self.instant.saturating_duration_since(at)
    }
}

fn status(entry: &Entry, clock: &WallClock) -> DestinationStatus {
    match entry {
        Entry::Unusable(destination, error) => DestinationStatus {
            name: destination.name.clone(),
            url: "***".to_owned(),
            state: DestinationState::Closed,
            attempts: 0,
            connections: 0,
            last_error: Some(error.clone()),
            bytes_sent: 0,
            dropped_units: 0,
            queued_bytes: 0,
            connected_at: None,
            next_attempt_at: None,
        },
        Entry::Running(shared, url) => {
            let machine = shared.machine();
            DestinationStatus {
                name: shared.destination.name.clone(),
                url: url.redacted(),
                state: machine.state(),
                attempts: machine.attempts,
                connections: machine.connections,
                last_error: machine.last_error.clone(),
                bytes_sent: machine.bytes_sent,
                dropped_units: machine.dropped_units(),
                queued_bytes: machine.queued_bytes(),
                connected_at: machine.publishing_since().map(|at| clock.at(at)),
                next_attempt_at: machine.next_attempt().map(|at| clock.at(at)),
            }
        }
    }
}

/// Describes the metrics of the publisher.
pub(crate) fn describe_metrics() {
    metrics::describe_counter!(
        "anchornet_publisher_failures_total",
        metrics::Unit::Count,
        "Connections and attempts to connect to destinations that failed"
    );
    metrics::describe_counter!(
        "anchornet_publisher_sent_bytes_total",
        metrics::Unit::Bytes,
        "Bytes written to destinations"
    );
    metrics::describe_counter!(
        "anchornet_publisher_dropped_units_total",
        metrics::Unit::Count,
        "Access units dropped by the queues of destinations that are away or slow"
    );
}
