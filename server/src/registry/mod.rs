//! Who owns which channel, and which nodes there are.
//!
//! A channel has one owner at a time, under a lease that the owner renews; a node that dies loses its channels when
//! the lease ends. What is kept of a channel is its epoch (wall clock), so that timestamps carry on when it moves or
//! its node restarts.
//!
//! Invariant: losing the registry never ends a channel. A node goes on with what it owns and says `degraded`.

pub mod lease;
pub mod memory;
pub mod redis;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// A node as the others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its unique name.
    pub id: String,
    /// Under which its HTTP port is reached, without a trailing slash.
    pub url: String,
    /// `anchor`, `origin`.
    pub roles: Vec<String>,
    /// Version of the software.
    pub version: String,
    /// Wall clock, in ms.
    pub started_at_ms: u64,
    /// When it renewed its lease, wall clock, in ms.
    pub seen_at_ms: u64,
    /// Channels that it owns.
    pub channels: u32,
    /// Sessions of broadcasters on it.
    pub sessions: u32,
}

/// The answer to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The channel is this node's.
    Owned {
        /// Timestamp zero of the channel, wall clock, in ms: the one proposed, or the one from before.
        epoch_ms: u64,
    },
    /// Another live node has it.
    OwnedBy(NodeRecord),
}

/// A channel that this node had and must end, because another node has it by right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The channel.
    pub channel: String,
    /// The node that has it.
    pub owner: String,
}

/// How the registry is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Reachable.
    Ok,
    /// Unreachable: this node works on local state. The text says why.
    Degraded(String),
}

/// Leases on channels and nodes. Every call is bounded in time and never fails: without the registry, local knowledge
/// answers.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Takes a channel for this node; `epoch_ms` counts if it has none yet.
    async fn claim(&self, channel: &str, epoch_ms: u64) -> Claim;

    /// Gives a channel of this node up and forgets it.
    async fn release(&self, channel: &str);

    /// Who has a channel.
    async fn owner(&self, channel: &str) -> Option<NodeRecord>;

    /// Live nodes, this one included.
    async fn nodes(&self) -> Vec<NodeRecord>;

    /// Tells how busy this node is; goes out with the next renewal.
    fn report(&self, channels: u32, sessions: u32);

    /// Whether the registry is reachable. Answers at once.
    fn health(&self) -> Health;

    /// The next channel that this node must end. Waits for ever where channels cannot be lost. One task asks.
    async fn lost(&self) -> Lost {
        std::future::pending().await
    }

    /// Gives everything up at once, for a clean end.
    async fn leave(&self);
}

/// Names and meanings of the registry's metrics.
pub fn describe_metrics() {
    metrics::describe_gauge!(
        "anchornet_registry_reachable",
        "1 while the shared registry answers, 0 while this node works on local state"
    );
    metrics::describe_counter!(
        "anchornet_registry_lost_channels_total",
        "Channels that this node ended because another node has them by right"
    );
}
