//! Links: channels whose hosts are guests of another channel, with one mix for all of them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ChannelId;

/// `POST …/links`: whose host to let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkRequest {
    /// The other channel, on the same node.
    pub channel: ChannelId,
}

/// Whether the other channel's host is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// The other channel has no live host yet.
    Waiting,
    /// Its host is a guest here.
    Live,
}

/// A channel whose host is a guest of this one. Its program shows the mix of this one while that is in collab mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// The other channel. Its host is a participant of that name here.
    pub channel: ChannelId,
    /// Whether its host is there.
    pub state: LinkState,
}
