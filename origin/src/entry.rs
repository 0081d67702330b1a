//! The shell around one stream: its lock, its timers and its viewers.
//!
//! Fan-out: whoever feeds the stream wakes the connection tasks of all viewers; each takes the shared batches behind
//! its cursor and hands them to its socket. There is no task or queue per viewer here.

mod feed;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::substream::sign::Signer;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::hls::Packager;
use crate::hub::{Closed, Hub, lock};
use crate::stream::{Cursor, Error, Input, Output, Read, Stream};
use crate::{Config, StreamState, StreamStats, clock, metrics};
use feed::FeedSlot;

pub(crate) use feed::FeedReader;

/// How often viewers are checked for having stopped reading.
const STALL_CHECK: Duration = Duration::from_secs(1);

/// How long a client counts as an HLS viewer after it asked for the playlist.
const HLS_CLIENT_AGE: Duration = Duration::from_secs(10);
/// HLS clients told apart at one time; more are served but not counted.
const MAX_HLS_CLIENTS: usize = 10_000;

/// How a viewer is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    HttpFlv,
    WsFlv,
    /// WS-FLV for somebody who looks after the show: it takes a place and is no viewer.
    Preview,
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::HttpFlv => "http-flv",
            Self::WsFlv => "ws-flv",
            Self::Preview => "preview",
        }
    }
}

pub(crate) struct Entry {
    pub(crate) name: String,
    config: Arc<Config>,
    inner: Mutex<Inner>,
    /// The next timeout has come nearer.
    rearm: Notify,
    bytes_out: AtomicU64,
    /// The HLS playlist has changed, or the stream has ended.
    hls_changed: Notify,
}

struct Inner {
    stream: Stream,
    hls: Option<Packager>,
    /// Clients that asked for the playlist, and when.
    hls_clients: HashMap<u64, Instant>,
    viewers: HashMap<u64, Slot>,
    /// Who reads the stream in substreams.
    feeds: HashMap<u64, FeedSlot>,
    disconnects: u64,
    ended: bool,
    /// When the timer task wakes next.
    armed: Option<Instant>,
}

struct Slot {
    protocol: Protocol,
    waker: Option<Waker>,
    /// When the viewer last asked for more.
    asked: Instant,
    /// Cuts the connection.
    cut: CancellationToken,
}

impl Entry {
    /// `instance` and `epoch` tell this stream from earlier ones of its name; with a secret its frames are signed for
    /// relays.
    pub(crate) fn new(
        name: &str,
        config: Arc<Config>,
        instance: &str,
        epoch: u16,
        secret: Option<&[u8]>,
    ) -> Self {
        let hls = config
            .hls
            .enabled
            .then(|| Packager::new(config.hls.clone(), instance.to_owned()));
        let mut stream = Stream::new(clock::now(), Arc::clone(&config), epoch);
        if let Some(signer) = secret.and_then(|secret| Signer::of_stream(secret, name, epoch)) {
            stream.sign_with(signer);
        }
        Self {
            name: name.to_owned(),
            inner: Mutex::new(Inner {
                stream,
                hls,
                hls_clients: HashMap::new(),
                viewers: HashMap::new(),
                feeds: HashMap::new(),
                disconnects: 0,
                ended: false,
                armed: None,
            }),
            config,
            rearm: Notify::new(),
            bytes_out: AtomicU64::new(0),
            hls_changed: Notify::new(),
        }
    }

    /// Feeds the stream and does what it asks for.
    pub(crate) fn handle(&self, now: Instant, input: Input) -> Result<(), Error> {
        let mut inner = lock(&self.inner);
        let result = inner.stream.handle(now, input);
        let wakers = inner.drain(&self.hls_changed);
        // Without viewers nobody waits for a batch: the timer task looks after the rest once a second.
        let sooner = match (inner.stream.poll_timeout(), inner.armed) {
            (Some(next), Some(armed)) => next < armed && !inner.viewers.is_empty(),
            (Some(_), None) => true,
            (None, _) => inner.ended,
        };
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
        if sooner {
            self.rearm.notify_one();
        }
        result
    }

    /// Runs the stream's timers until it has ended.
    pub(crate) async fn run_timers(&self) {
        let mut stall_check = clock::now() + STALL_CHECK;
        let mut reporter = metrics::Reporter::new();
        loop {
            let now = clock::now();
            let (wakers, next) = {
                let mut inner = lock(&self.inner);
                inner.stream.handle_timeout(now);
                let wakers = inner.drain(&self.hls_changed);
                if inner.ended {
                    let sent = self.bytes_out.load(Ordering::Relaxed);
                    reporter.report(inner.stream.counters, sent);
                    drop(inner);
                    wakers.into_iter().for_each(Waker::wake);
                    return;
                }
                if stall_check <= now {
                    inner.cut_stalled(now, self.config.viewer_disconnect_ms);
                    let patience = Duration::from_millis(self.config.viewer_disconnect_ms);
                    inner.cut_stalled_feeds(now, patience);
                    inner.forget_hls_clients(now);
                    let sent = self.bytes_out.load(Ordering::Relaxed);
                    reporter.report(inner.stream.counters, sent);
                    stall_check = now + STALL_CHECK;
                }
                let next = inner.stream.poll_timeout();
                let next = next.filter(|_| !inner.viewers.is_empty());
                let next = next.map_or(stall_check, |next| next.min(stall_check));
                inner.armed = Some(next);
                (wakers, next)
            };
            wakers.into_iter().for_each(Waker::wake);
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = self.rearm.notified() => {}
            }
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        lock(&self.inner).ended
    }

    /// The HLS playlist, waiting for the first segment until `patience` is over or the stream has ended.
    pub(crate) async fn playlist(
        &self,
        client: u64,
        suffix: &str,
        patience: Duration,
    ) -> Option<Bytes> {
        let deadline = clock::now() + patience;
        loop {
            let changed = self.hls_changed.notified();
            {
                let mut inner = lock(&self.inner);
                if inner.hls_clients.len() < MAX_HLS_CLIENTS {
                    inner.hls_clients.insert(client, clock::now());
                }
                let playlist = inner.hls.as_ref()?.playlist(suffix);
                if playlist.is_some() || inner.ended {
                    return playlist.inspect(|bytes| self.count_out(bytes));
                }
            }
            tokio::time::timeout_at(deadline.into(), changed)
                .await
                .ok()?;
        }
    }

    /// An HLS segment or initialisation segment.
    pub(crate) fn hls_file(&self, name: &str) -> Option<Bytes> {
        let file = lock(&self.inner).hls.as_ref()?.file(name);
        file.inspect(|bytes| self.count_out(bytes))
    }

    fn count_out(&self, bytes: &Bytes) {
        let length = u64::try_from(bytes.len()).unwrap_or_default();
        self.bytes_out.fetch_add(length, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self, now: Instant) -> StreamStats {
        let mut inner = lock(&self.inner);
        let mut stats = inner.stream.report(now, &self.name);
        for slot in inner.viewers.values() {
            match slot.protocol {
                Protocol::HttpFlv => stats.viewers.flv += 1,
                Protocol::WsFlv => stats.viewers.ws += 1,
                Protocol::Preview => {}
            }
        }
        inner.forget_hls_clients(now);
        stats.viewers.hls = inner.hls_clients.len();
        stats.viewer_disconnects = inner.disconnects;
        stats.bytes_out = self.bytes_out.load(Ordering::Relaxed);
        stats
    }
}

impl Inner {
    /// Empties the stream's outputs; the wakers are to be called without the lock.
    fn drain(&mut self, hls_changed: &Notify) -> Vec<Waker> {
        let (mut wake, mut wake_feeds) = (false, false);
        while let Some(output) = self.stream.poll_output() {
            match output {
                Output::Wake => wake = true,
                Output::Frame => wake_feeds = true,
                Output::Unit(unit) => {
                    let tracks = self.stream.tracks();
                    let hls = self.hls.as_mut();
                    if hls.is_some_and(|hls| hls.push(clock::wall(), &unit, &tracks)) {
                        hls_changed.notify_waiters();
                    }
                }
                Output::Ended => {
                    self.ended = true;
                    wake_feeds = true;
                    if let Some(hls) = &mut self.hls {
                        hls.end();
                    }
                    hls_changed.notify_waiters();
                }
            }
        }
        let mut wakers = Vec::new();
        if wake_feeds {
            wakers.extend(self.feed_wakers());
        }
        if wake {
            let slots = self.viewers.values_mut();
            wakers.extend(slots.filter_map(|slot| slot.waker.take()));
        }
        wakers
    }

    fn forget_hls_clients(&mut self, now: Instant) {
        self.hls_clients
            .retain(|_, asked| now.saturating_duration_since(*asked) < HLS_CLIENT_AGE);
    }

    fn cut_stalled(&mut self, now: Instant, after_ms: u64) {
        let after = Duration::from_millis(after_ms);
        let live = self.stream.state() == StreamState::Live;
        for slot in self.viewers.values_mut() {
            // A viewer with a waker has taken everything there was.
            let stalled = slot.waker.is_none()
                && live
                && now.saturating_duration_since(slot.asked) >= after
                && !slot.cut.is_cancelled();
            if stalled {
                slot.cut.cancel();
                self.disconnects += 1;
                ::metrics::counter!(metrics::DISCONNECTS).increment(1);
            }
        }
    }
}

/// A viewer's place in a stream; dropping it is leaving.
pub(crate) struct Viewer {
    hub: Arc<Hub>,
    entry: Arc<Entry>,
    id: u64,
    cursor: Cursor,
    /// The FLV file header, until it is sent.
    header: Option<Bytes>,
    protocol: Protocol,
}

impl Viewer {
    /// Takes a place. `cut` is cancelled when the viewer has stopped reading for too long.
    pub(crate) fn join(
        hub: &Arc<Hub>,
        entry: Arc<Entry>,
        protocol: Protocol,
        cut: CancellationToken,
    ) -> Result<Self, Closed> {
        let before = hub.viewers.fetch_add(1, Ordering::Relaxed);
        if before >= hub.config.max_viewers {
            hub.viewers.fetch_sub(1, Ordering::Relaxed);
            return Err(Closed::Full("viewers"));
        }
        let id = hub.next_id();
        let mut inner = lock(&entry.inner);
        let header = inner.stream.file_header();
        let slot = Slot {
            protocol,
            waker: None,
            asked: clock::now(),
            cut,
        };
        inner.viewers.insert(id, slot);
        drop(inner);
        entry.rearm.notify_one();
        ::metrics::gauge!(metrics::VIEWERS, "protocol" => protocol.name()).increment(1.0);
        Ok(Self {
            hub: Arc::clone(hub),
            entry,
            id,
            cursor: Cursor::default(),
            header: Some(header),
            protocol,
        })
    }

    /// The next bytes of the FLV file; `None` when the stream has ended.
    pub(crate) fn poll_next(&mut self, context: &Context<'_>) -> Poll<Option<Bytes>> {
        let bytes = match self.header.take() {
            Some(header) => header,
            None => match self.poll_batch(context) {
                Poll::Ready(Some(bytes)) => bytes,
                end @ (Poll::Ready(None) | Poll::Pending) => return end,
            },
        };
        self.entry.count_out(&bytes);
        Poll::Ready(Some(bytes))
    }

    fn poll_batch(&mut self, context: &Context<'_>) -> Poll<Option<Bytes>> {
        let now = clock::now();
        let mut guard = lock(&self.entry.inner);
        let inner = &mut *guard;
        let read = inner.stream.read(now, &mut self.cursor);
        let slot = inner.viewers.get_mut(&self.id);
        match read {
            None => Poll::Ready(None),
            Some(Read::Pending) => {
                if let Some(slot) = slot {
                    slot.asked = now;
                    slot.waker = Some(context.waker().clone());
                }
                Poll::Pending
            }
            Some(Read::Data(bytes) | Read::Skipped(bytes)) => {
                if let Some(slot) = slot {
                    slot.asked = now;
                }
                Poll::Ready(Some(bytes))
            }
        }
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        lock(&self.entry.inner).viewers.remove(&self.id);
        self.hub.viewers.fetch_sub(1, Ordering::Relaxed);
        ::metrics::gauge!(metrics::VIEWERS, "protocol" => self.protocol.name()).decrement(1.0);
    }
}
