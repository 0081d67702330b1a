//! All streams of the process by name, and the doors for publishers and viewers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use media::flv::Tag;

use crate::entry::Entry;
use crate::relays::Relays;
use crate::stream::{self, Input, PublisherId};
use crate::{Access, Config, StreamStats, clock};

/// The longest name of a stream, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// How long the playlist of an ended stream can be fetched.
const PLAYLIST_AFTERLIFE: Duration = Duration::from_secs(15);

/// Why there is no stream for a publisher or viewer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Closed {
    /// No such stream.
    #[error("there is no stream of this name")]
    Unknown,
    /// A bound of the configuration is reached.
    #[error("the server has as many {0} as it is configured for")]
    Full(&'static str),
    /// The origin is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The stream itself refuses.
    #[error(transparent)]
    Stream(#[from] stream::Error),
}

pub(crate) struct Hub {
    pub(crate) config: Arc<Config>,
    pub(crate) access: Arc<dyn Access>,
    streams: Mutex<HashMap<String, Arc<Entry>>>,
    next_id: AtomicU64,
    pub(crate) viewers: AtomicUsize,
    pub(crate) relays: Mutex<Relays>,
    /// Makes the tickets of this process differ from those of others.
    seed: u64,
    closed: AtomicBool,
}

/// Locks even after a panic elsewhere: all state behind these locks is valid between statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names of streams: letters, digits, `-`, `_`, `.` and `~`, not beginning with a dot.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
}

impl Hub {
    pub(crate) fn new(config: Config, access: Arc<dyn Access>) -> Self {
        Self {
            config: Arc::new(config),
            access,
            streams: Mutex::default(),
            next_id: AtomicU64::new(1),
            viewers: AtomicUsize::new(0),
            relays: Mutex::default(),
            seed: std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0),
            closed: AtomicBool::new(false),
        }
    }

    /// A number that nobody else in this process has.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets a publisher in.
    pub(crate) fn publish(self: &Arc<Self>, name: &str) -> Result<Publishing, Closed> {
        let id = PublisherId(self.next_id());
        loop {
            let entry = self.entry(name)?;
            match entry.handle(clock::now(), Input::Publish(id)) {
                Ok(()) => return Ok(Publishing { entry, id }),
                Err(stream::Error::Ended) => self.remove(&entry),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The stream of a viewer: a known one, or a new one when a publisher is expected.
    pub(crate) fn find(self: &Arc<Self>, name: &str) -> Result<Arc<Entry>, Closed> {
        let known = lock(&self.streams).get(name).cloned();
        match known {
            Some(entry) if !entry.is_ended() => Ok(entry),
            _ if self.access.expects(name) => self.entry(name),
            _ => Err(Closed::Unknown),
        }
    }

    /// The stream of an HLS client, which may have ended a moment ago.
    pub(crate) fn find_hls(self: &Arc<Self>, name: &str) -> Result<Arc<Entry>, Closed> {
        self.find(name).or_else(|closed| {
            let known = lock(&self.streams).get(name).cloned();
            known.ok_or(closed)
        })
    }

    fn entry(self: &Arc<Self>, name: &str) -> Result<Arc<Entry>, Closed> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Closed::ShuttingDown);
        }
        let mut streams = lock(&self.streams);
        if let Some(entry) = streams.get(name).filter(|entry| !entry.is_ended()) {
            return Ok(Arc::clone(entry));
        }
        if streams.len() >= self.config.max_streams {
            return Err(Closed::Full("streams"));
        }
        let config = Arc::clone(&self.config);
        let secret = self.access.relay_secret();
        let (instance, epoch) = (self.instance(), Self::epoch());
        let entry = Entry::new(name, config, &instance, epoch, secret.as_deref());
        let entry = Arc::new(entry);
        streams.insert(name.to_owned(), Arc::clone(&entry));
        let hub = Arc::clone(self);
        let timed = Arc::clone(&entry);
        tokio::spawn(async move {
            timed.run_timers().await;
            // HLS players learn of the end from the playlist, which they ask for every few seconds.
            tokio::time::sleep(PLAYLIST_AFTERLIFE).await;
            hub.remove(&timed);
        });
        Ok(entry)
    }

    /// Differs from that of every earlier stream, also before a restart of the process.
    fn instance(&self) -> String {
        let since = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("{:x}-{:x}", since.as_millis(), self.next_id())
    }

    /// Which life of a stream begins now: the wall clock in steps of 64 ms, whose 16 bits come round after 70 minutes.
    fn epoch() -> u16 {
        let since = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        u16::try_from((since.as_millis() >> 6) & 0xffff).unwrap_or_default()
    }

    /// A number for a ticket that no other ticket has.
    pub(crate) fn nonce(&self) -> u64 {
        self.seed
            .wrapping_add(self.next_id().wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn remove(&self, entry: &Arc<Entry>) {
        let mut streams = lock(&self.streams);
        if streams
            .get(&entry.name)
            .is_some_and(|known| Arc::ptr_eq(known, entry))
        {
            streams.remove(&entry.name);
        }
    }

    /// Ends every stream and lets no more in.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for entry in self.all() {
            // Ending a stream cannot fail.
            let _ = entry.handle(clock::now(), Input::End);
        }
    }

    pub(crate) fn stats(&self) -> Vec<StreamStats> {
        let now = clock::now();
        let mut stats: Vec<_> = self
            .all()
            .iter()
            .filter(|entry| !entry.is_ended())
            .map(|entry| entry.stats(now))
            .collect();
        stats.sort_by(|a, b| a.name.cmp(&b.name));
        stats
    }

    pub(crate) fn stat(&self, name: &str) -> Option<StreamStats> {
        let entry = lock(&self.streams).get(name).cloned();
        entry
            .filter(|entry| !entry.is_ended())
            .map(|entry| entry.stats(clock::now()))
    }

    fn all(&self) -> Vec<Arc<Entry>> {
        lock(&self.streams).values().cloned().collect()
    }
}

/// A publisher's right to a stream; dropping it is leaving.
pub(crate) struct Publishing {
    entry: Arc<Entry>,
    id: PublisherId,
}

impl Publishing {
    /// Takes a tag that arrived at `now`.
    pub(crate) fn take(&self, now: Instant, tag: Tag) -> Result<(), stream::Error> {
        self.entry.handle(now, Input::Tag(self.id, tag))
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        // A publisher that has been replaced has nothing to leave.
        let _ = self.entry.handle(clock::now(), Input::Unpublish(self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(is_name("my-show_2.a~b"));
        for bad in ["", ".hidden", "a/b", "a?b", "ä", "a b", &"x".repeat(129)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
