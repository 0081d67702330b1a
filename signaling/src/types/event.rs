//! Events: what happened, for consoles and automation. Delivered by `GET /api/v1/events` as server-sent events.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Channel, ChannelId, Destination, Layout, Participant, ParticipantId, Readiness, SwitchReport,
    WallTime,
};

/// One thing that happened. The SSE `id` is `id`, the SSE `event` is `type`, the SSE `data` is the whole object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Ascending at this node. Not kept over restarts: after a gap, read the state anew.
    pub id: u64,
    /// When it happened.
    pub at: WallTime,
    /// The channel it belongs to; absent for events of the node.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub channel: Option<ChannelId>,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// The kinds of events. `type` names the kind, `data` is what changed, as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", content = "data")]
pub enum EventBody {
    /// A channel exists now.
    #[serde(rename = "channel.created")]
    ChannelCreated(Channel),
    /// A channel changed its state, mode or title.
    #[serde(rename = "channel.updated")]
    ChannelUpdated(Channel),
    /// A channel is gone.
    #[serde(rename = "channel.deleted")]
    ChannelDeleted {},
    /// A broadcaster came.
    #[serde(rename = "participant.joined")]
    ParticipantJoined(Participant),
    /// A broadcaster changed: connected, away, format, muted, volume.
    #[serde(rename = "participant.updated")]
    ParticipantUpdated(Participant),
    /// A broadcaster is gone.
    #[serde(rename = "participant.left")]
    ParticipantLeft {
        /// Who.
        id: ParticipantId,
        /// Why: `disconnected`, or `removed` by a producer.
        reason: String,
    },
    /// A destination changed its state.
    #[serde(rename = "destination.updated")]
    DestinationUpdated(Destination),
    /// The program changed its source.
    #[serde(rename = "mode.switched")]
    ModeSwitched(SwitchReport),
    /// The layout of the mix changed.
    #[serde(rename = "layout.changed")]
    LayoutChanged(Layout),
    /// This node's readiness changed.
    #[serde(rename = "readiness.changed")]
    ReadinessChanged(Readiness),
    /// Events were lost because the reader was slow: read the state anew.
    #[serde(rename = "resync")]
    Resync {},
}

impl EventBody {
    /// The kind, as `type` says it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ChannelCreated(_) => "channel.created",
            Self::ChannelUpdated(_) => "channel.updated",
            Self::ChannelDeleted {} => "channel.deleted",
            Self::ParticipantJoined(_) => "participant.joined",
            Self::ParticipantUpdated(_) => "participant.updated",
            Self::ParticipantLeft { .. } => "participant.left",
            Self::DestinationUpdated(_) => "destination.updated",
            Self::ModeSwitched(_) => "mode.switched",
            Self::LayoutChanged(_) => "layout.changed",
            Self::ReadinessChanged(_) => "readiness.changed",
            Self::Resync {} => "resync",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_flat_and_named() {
        let event = Event {
            id: 7,
            at: WallTime::from_unix_ms(0),
            channel: Some(ChannelId::new("demo").unwrap()),
            body: EventBody::ParticipantLeft {
                id: ParticipantId::new("bob").unwrap(),
                reason: "kicked".into(),
            },
        };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "id": 7, "at": "1970-01-01T00:00:00.000Z", "channel": "demo",
                "type": "participant.left", "data": {"id": "bob", "reason": "kicked"},
            })
        );
        assert_eq!(json["type"], event.body.name());
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }
}
