//! The registry of a node that is alone: everything is this node's.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::{Claim, Health, NodeRecord, Registry};
use crate::clock;

/// Channels and their epochs, gone with the process.
#[derive(Debug)]
pub struct MemoryRegistry {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    node: NodeRecord,
    epochs_ms: HashMap<String, u64>,
}

impl MemoryRegistry {
    /// A registry that knows only `node`.
    #[must_use]
    pub fn new(node: NodeRecord) -> Self {
        Self {
            inner: Mutex::new(Inner {
                node,
                epochs_ms: HashMap::new(),
            }),
        }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn claim(&self, channel: &str, epoch_ms: u64) -> Claim {
        let epoch_ms = *self
            .inner()
            .epochs_ms
            .entry(channel.to_owned())
            .or_insert(epoch_ms);
        Claim::Owned { epoch_ms }
    }

    async fn release(&self, channel: &str) {
        self.inner().epochs_ms.remove(channel);
    }

    async fn owner(&self, channel: &str) -> Option<NodeRecord> {
        let inner = self.inner();
        inner
            .epochs_ms
            .contains_key(channel)
            .then(|| inner.node.clone())
    }

    async fn nodes(&self) -> Vec<NodeRecord> {
        let mut node = self.inner().node.clone();
        node.seen_at_ms = clock::wall_ms();
        vec![node]
    }

    fn report(&self, channels: u32, sessions: u32) {
        let mut inner = self.inner();
        (inner.node.channels, inner.node.sessions) = (channels, sessions);
    }

    fn health(&self) -> Health {
        Health::Ok
    }

    async fn leave(&self) {
        self.inner().epochs_ms.clear();
    }
}
