//! Relays of the scheduler, for the console.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The busiest relays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Relays {
    /// Whether a scheduler is configured at all.
    #[serde(default)]
    pub scheduled: bool,
    /// Relays that it knows.
    pub known: u64,
    /// The busiest of them, 500 at most.
    #[serde(default)]
    pub relays: Vec<Relay>,
}

/// A relay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Relay {
    /// Its identifier, in hexadecimal digits.
    #[schema(example = "1f")]
    pub id: String,
    /// Where players reach it.
    #[schema(example = "203.0.113.5:4100")]
    pub address: String,
    /// Its region; empty when it is in none that players have named.
    pub region: String,
    /// How full it is by what it has least of, 0 to 1.
    pub load: f32,
    /// Sessions now.
    pub sessions: u16,
    /// What it sends, in kilobits per second.
    pub used_kbps: u32,
    /// What it can send, in kilobits per second; 0: unknown.
    pub capacity_kbps: u32,
    /// Traffic expansion: bytes that it sends for one that it takes from the origin.
    pub expansion: f32,
    /// How it is.
    pub state: RelayState,
    /// How long ago it was heard.
    pub silent_ms: u64,
    /// What it has from the origin.
    pub serves: Vec<RelayStream>,
}

/// How a relay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RelayState {
    /// It takes players.
    Ok,
    /// It has no room.
    Full,
    /// It is being shut down.
    Leaving,
    /// Players could not use it.
    Blocked,
}

/// Substreams that a relay has of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RelayStream {
    /// The stream.
    pub stream: String,
    /// The substreams, in order.
    pub substreams: Vec<u8>,
}
