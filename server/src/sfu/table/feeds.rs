//! Which session feeds which subscribers. Subscribers hold on to a stream, not to a session: the newest connected
//! session of the stream feeds them, and they wait for a while when there is none.
//!
//! Invariant: every entry belongs to a live session, or to a stream that somebody waits for.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::sfu::types::{SessionId, StreamKey};

/// One stream.
#[derive(Debug, Default)]
struct Feed {
    /// Sessions that publish it, those that connected later behind, and whether they are connected.
    publishers: Vec<(SessionId, bool)>,
    subscribers: Vec<SessionId>,
    /// The connection of its last publisher broke; nobody waits for longer than this.
    ends_at: Option<Instant>,
}

impl Feed {
    fn source(&self) -> Option<SessionId> {
        let mut newest = self.publishers.iter().rev();
        newest.find(|(_, connected)| *connected).map(|(id, _)| *id)
    }

    /// Nobody publishes, and nobody is expected to.
    fn is_over(&self, now: Instant) -> bool {
        self.publishers.is_empty() && self.ends_at.is_none_or(|at| at <= now)
    }
}

/// All streams.
#[derive(Debug, Default)]
pub(super) struct Feeds {
    feeds: HashMap<StreamKey, Feed>,
    keys: HashMap<SessionId, StreamKey>,
    /// When the first of those who are waited for is given up; looked at for every datagram.
    next_end: Option<Instant>,
}

impl Feeds {
    /// A session will publish a stream.
    pub(super) fn add_publisher(&mut self, key: StreamKey, id: SessionId) {
        let feed = self.feeds.entry(key.clone()).or_default();
        feed.publishers.insert(0, (id, false));
        self.keys.insert(id, key);
        self.find_next_end();
    }

    /// A session receives a stream.
    pub(super) fn add_subscriber(&mut self, key: StreamKey, id: SessionId) {
        let feed = self.feeds.entry(key.clone()).or_default();
        feed.subscribers.push(id);
        self.keys.insert(id, key);
    }

    /// A publisher is connected: it is the newest now.
    pub(super) fn connect(&mut self, id: SessionId) {
        if let Some(feed) = self.keys.get(&id).and_then(|key| self.feeds.get_mut(key))
            && let Some(at) = feed.publishers.iter().position(|(held, _)| *held == id)
        {
            feed.publishers.remove(at);
            feed.publishers.push((id, true));
            feed.ends_at = None;
        }
    }

    /// A session is over. If it was a publisher whose connection broke, its subscribers wait for `patience`.
    pub(super) fn remove(&mut self, now: Instant, id: SessionId, patience: Option<Duration>) {
        let Some(key) = self.keys.remove(&id) else {
            return;
        };
        let Some(feed) = self.feeds.get_mut(&key) else {
            return;
        };
        if feed.source() == Some(id) {
            feed.ends_at = patience.map(|patience| now + patience);
        }
        feed.publishers.retain(|(held, _)| *held != id);
        feed.subscribers.retain(|held| *held != id);
        if feed.publishers.is_empty() && feed.subscribers.is_empty() {
            self.feeds.remove(&key);
        }
        self.find_next_end();
    }

    fn find_next_end(&mut self) {
        let waited_for = self
            .feeds
            .values()
            .filter(|feed| feed.publishers.is_empty());
        self.next_end = waited_for.filter_map(|feed| feed.ends_at).min();
    }

    /// Somebody publishes the stream, or is about to, or is waited for.
    pub(super) fn is_known(&self, key: &StreamKey) -> bool {
        self.feeds.contains_key(key)
    }

    /// The stream of a session.
    pub(super) fn key(&self, id: SessionId) -> Option<&StreamKey> {
        self.keys.get(&id)
    }

    /// The session that feeds the stream of `id`.
    pub(super) fn source(&self, id: SessionId) -> Option<SessionId> {
        self.feeds.get(self.keys.get(&id)?)?.source()
    }

    /// Those whom `publisher` feeds.
    pub(super) fn fed_by(&self, publisher: SessionId) -> &[SessionId] {
        let feed = self
            .keys
            .get(&publisher)
            .and_then(|key| self.feeds.get(key));
        feed.filter(|feed| feed.source() == Some(publisher))
            .map_or(&[], |feed| &feed.subscribers)
    }

    /// The publishers of the stream of `id`, and whether each feeds somebody.
    pub(super) fn publishers(&self, id: SessionId) -> Vec<(SessionId, bool)> {
        let feed = self.keys.get(&id).and_then(|key| self.feeds.get(key));
        let Some(feed) = feed else { return Vec::new() };
        let source = feed.source().filter(|_| !feed.subscribers.is_empty());
        let publishers = feed.publishers.iter();
        publishers
            .map(|(held, _)| (*held, Some(*held) == source))
            .collect()
    }

    /// The session that feeds a stream.
    pub(super) fn source_of(&self, key: &StreamKey) -> Option<SessionId> {
        self.feeds.get(key)?.source()
    }

    /// Subscribers of a channel's participants.
    pub(super) fn subscribers_in(&self, channel: &str) -> usize {
        let is_here = |key: &StreamKey| key.channel == channel && key.participant.is_some();
        let feeds = self.feeds.iter().filter(|(key, _)| is_here(key));
        feeds.map(|(_, feed)| feed.subscribers.len()).sum()
    }

    /// Subscribers of a stream.
    pub(super) fn subscribers_of(&self, key: &StreamKey) -> usize {
        self.feeds.get(key).map_or(0, |feed| feed.subscribers.len())
    }

    /// Subscribers of all programs.
    pub(super) fn viewers(&self) -> usize {
        let programs = self
            .feeds
            .iter()
            .filter(|(key, _)| key.participant.is_none());
        programs.map(|(_, feed)| feed.subscribers.len()).sum()
    }

    /// Subscribers of all channels.
    pub(super) fn subscribers(&self) -> usize {
        self.feeds.values().map(|feed| feed.subscribers.len()).sum()
    }

    /// Subscribers who wait for nobody any more.
    pub(super) fn orphans(&self, now: Instant) -> Vec<SessionId> {
        let over = self.feeds.values().filter(|feed| feed.is_over(now));
        over.flat_map(|feed| feed.subscribers.iter().copied())
            .collect()
    }

    /// When [`Self::orphans`] may have more.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next_end
    }

    /// Sessions and streams held, for bounds.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.feeds.len() + self.keys.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

    fn id(n: u128) -> SessionId {
        SessionId(Uuid::from_u128(n))
    }

    fn key() -> StreamKey {
        StreamKey {
            channel: "demo".into(),
            participant: Some("ann".into()),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_newest_connected_session_feeds() {
        let t = origin();
        let mut feeds = Feeds::default();
        feeds.add_publisher(key(), id(1));
        feeds.add_subscriber(key(), id(9));
        assert_eq!(feeds.source(id(9)), None, "not connected yet");
        feeds.connect(id(1));
        feeds.add_publisher(key(), id(2));
        assert_eq!(feeds.fed_by(id(1)), [id(9)]);
        feeds.connect(id(2));
        assert_eq!(
            (feeds.fed_by(id(1)).len(), feeds.fed_by(id(2)).len()),
            (0, 1)
        );
        feeds.remove(t, id(1), None);
        assert_eq!(feeds.source(id(9)), Some(id(2)));
        assert_eq!(feeds.orphans(t), []);
        feeds.remove(t, id(2), None);
        assert_eq!(feeds.orphans(t), [id(9)], "it has left for good");
        feeds.remove(t, id(9), None);
        assert_eq!(feeds.len(), 0);
    }

    #[test]
    fn a_broken_connection_is_waited_for() {
        let t = origin();
        let mut feeds = Feeds::default();
        feeds.add_publisher(key(), id(1));
        feeds.connect(id(1));
        feeds.add_subscriber(key(), id(9));
        feeds.remove(t, id(1), PATIENCE);
        assert!(feeds.is_known(&key()));
        assert_eq!(feeds.orphans(t + Duration::from_secs(9)), []);
        let due = feeds.poll_timeout().expect("waits");
        // Somebody is on the way: the time does not count.
        feeds.add_publisher(key(), id(2));
        assert_eq!(feeds.orphans(due), []);
        feeds.remove(due, id(2), None);
        assert_eq!(feeds.orphans(due), [id(9)]);
    }
}
