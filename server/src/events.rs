//! What happened on this node, for consoles and automation: numbered and broadcast.
//!
//! Bounded: a reader that falls [`CAPACITY`] events behind is told to fetch the state again (by the SSE handler).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use signaling::types::{ChannelId, Event, EventBody, WallTime};
use tokio::sync::broadcast;

use crate::clock;

/// Events kept for slow readers.
pub const CAPACITY: usize = 1_024;

/// Where events are sent and subscribed. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct EventHub {
    next_id: Arc<AtomicU64>,
    sender: broadcast::Sender<Event>,
}

impl Default for EventHub {
    fn default() -> Self {
        // Numbers go on over a restart, so that a browser's Last-Event-ID is never ahead of us.
        Self {
            next_id: Arc::new(AtomicU64::new(clock::wall_ms())),
            sender: broadcast::channel(CAPACITY).0,
        }
    }
}

impl EventHub {
    /// Tells everybody who listens; nobody may be.
    pub fn send(&self, channel: Option<&ChannelId>, body: EventBody) {
        let event = Event {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            at: WallTime::from_unix_ms(clock::wall_ms()),
            channel: channel.cloned(),
            body,
        };
        // An error means that nobody listens.
        let _ = self.sender.send(event);
    }

    /// Events from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }
}
