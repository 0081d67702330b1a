//! Who reads the stream in substreams: relays and players.
//!
//! Frames leave as they come, not in batches: a relay sends them on at once. A reader that has fallen out of the history
//! is ended; it comes back with the last frame it has.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use media::substream::{Entry as FrameEntry, Split};
use tokio_util::sync::CancellationToken;

use super::{Entry, Inner};
use crate::hub::{Closed, Hub, lock};
use crate::stream::{FeedCursor, FeedRead, From};
use crate::{clock, metrics};

/// How long a feed waits for the first keyframe of a stream.
const PATIENCE: Duration = Duration::from_secs(10);

/// A reader of feeds as the stream's entry knows it.
pub(super) struct FeedSlot {
    waker: Option<Waker>,
    /// Cuts the connection.
    cut: CancellationToken,
    asked: std::time::Instant,
}

impl Inner {
    pub(super) fn feed_wakers(&mut self) -> impl Iterator<Item = Waker> + '_ {
        self.feeds.values_mut().filter_map(|slot| slot.waker.take())
    }

    pub(super) fn cut_stalled_feeds(&self, now: std::time::Instant, after: Duration) {
        let stalled = self.feeds.values().filter(|slot| {
            slot.waker.is_none() && now.saturating_duration_since(slot.asked) >= after
        });
        stalled.for_each(|slot| slot.cut.cancel());
    }
}

impl Entry {
    /// The life of the stream and how it is split.
    pub(crate) fn split(&self) -> (u16, Split) {
        let inner = lock(&self.inner);
        let frames = inner.stream.frames();
        (frames.epoch(), frames.split())
    }

    /// Those frames of `names` (decoding time, CRC) that are there, as records.
    pub(crate) fn frames(&self, names: &[(u32, u32)]) -> Bytes {
        let inner = lock(&self.inner);
        let mut out = BytesMut::new();
        for (dts_ms, crc) in names {
            inner.stream.frames().write_frame(*dts_ms, *crc, &mut out);
        }
        drop(inner);
        let out = out.freeze();
        self.count_out(&out);
        out
    }

    /// The headers after a frame, as records; `None` when that frame is not there.
    pub(crate) fn headers_after(&self, after: &FrameEntry, max: usize) -> Option<Bytes> {
        lock(&self.inner).stream.frames().headers_after(after, max)
    }
}

/// A place among the readers of a stream; dropping it is leaving.
struct Place {
    hub: Arc<Hub>,
    entry: Arc<Entry>,
    id: u64,
}

impl Place {
    fn take(hub: &Arc<Hub>, entry: Arc<Entry>, cut: CancellationToken) -> Result<Self, Closed> {
        let before = hub.viewers.fetch_add(1, Ordering::Relaxed);
        if before >= hub.config.max_viewers {
            hub.viewers.fetch_sub(1, Ordering::Relaxed);
            return Err(Closed::Full("viewers"));
        }
        let id = hub.next_id();
        let slot = FeedSlot {
            waker: None,
            cut,
            asked: clock::now(),
        };
        lock(&entry.inner).feeds.insert(id, slot);
        ::metrics::gauge!(metrics::VIEWERS, "protocol" => "substreams").increment(1.0);
        let hub = Arc::clone(hub);
        Ok(Self { hub, entry, id })
    }

    /// Where the feed begins; waits for the first keyframe when that is where it begins.
    fn poll_open(
        &self,
        context: &Context<'_>,
        (from, mask, signed): (From, u64, bool),
    ) -> Poll<Option<(Bytes, FeedCursor)>> {
        let mut inner = lock(&self.entry.inner);
        let opened = inner.stream.frames().open(from, mask, signed);
        if opened.is_some() || inner.ended || from != From::Gop {
            return Poll::Ready(opened);
        }
        if let Some(slot) = inner.feeds.get_mut(&self.id) {
            slot.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.entry.inner).feeds.remove(&self.id);
        self.hub.viewers.fetch_sub(1, Ordering::Relaxed);
        ::metrics::gauge!(metrics::VIEWERS, "protocol" => "substreams").decrement(1.0);
    }
}

/// A feed of a stream.
pub(crate) struct FeedReader {
    place: Place,
    cursor: FeedCursor,
    /// The first record, until it is sent.
    start: Option<Bytes>,
}

impl FeedReader {
    /// Begins a feed of some substreams, signed or not. One that begins with a keyframe waits for the first.
    pub(crate) async fn join(
        hub: &Arc<Hub>,
        entry: Arc<Entry>,
        (from, mask, signed): (From, u64, bool),
        cut: CancellationToken,
    ) -> Result<Self, Closed> {
        let place = Place::take(hub, entry, cut)?;
        let opened = poll_fn(|context| place.poll_open(context, (from, mask, signed)));
        let opened = tokio::time::timeout(PATIENCE, opened).await;
        let (start, cursor) = opened.ok().flatten().ok_or(Closed::Unknown)?;
        Ok(Self {
            place,
            cursor,
            start: Some(start),
        })
    }

    /// The next bytes of the feed; `None` when the stream has ended, or the reader has fallen behind.
    pub(crate) fn poll_next(&mut self, context: &Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(start) = self.start.take() {
            self.place.entry.count_out(&start);
            return Poll::Ready(Some(start));
        }
        let mut guard = lock(&self.place.entry.inner);
        let inner = &mut *guard;
        let read = inner.stream.frames().read(&mut self.cursor);
        let slot = inner.feeds.get_mut(&self.place.id);
        let waker = match &read {
            FeedRead::Pending => Some(context.waker().clone()),
            FeedRead::Data(_) | FeedRead::Behind => None,
        };
        if let Some(slot) = slot {
            slot.asked = clock::now();
            slot.waker = waker;
        }
        match read {
            FeedRead::Data(bytes) => {
                drop(guard);
                self.place.entry.count_out(&bytes);
                Poll::Ready(Some(bytes))
            }
            FeedRead::Pending if !inner.ended => Poll::Pending,
            FeedRead::Pending | FeedRead::Behind => Poll::Ready(None),
        }
    }
}
