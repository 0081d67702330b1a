//! Participants: the broadcasters of a channel.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AudioLevel, IngestStats, ParticipantId, WallTime};

/// What a participant is to its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The one whose show it is; at most one is live at a time.
    Host,
    /// A co-broadcaster.
    Guest,
}

/// Where a participant is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParticipantState {
    /// The session is answered, media is not flowing yet.
    Connecting,
    /// Media flows.
    Live,
    /// The connection is lost; the place is kept for a while.
    Away,
}

/// The coded picture of a participant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VideoFormat {
    /// Codec with profile and level, as in RFC 6381.
    #[schema(example = "avc1.42e01f")]
    pub codec: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// The coded sound of a participant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AudioFormat {
    /// Codec, as in RFC 6381.
    #[schema(example = "opus")]
    pub codec: String,
    /// Samples per second.
    pub sample_rate_hz: u32,
    /// Channels.
    pub channels: u8,
}

/// One broadcaster of a channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Participant {
    /// Its identifier.
    pub id: ParticipantId,
    /// What it is to the channel.
    pub role: Role,
    /// Whether it is connected.
    pub state: ParticipantState,
    /// How it publishes: `whip` or `rtmp`; `link` when it is a broadcaster of a linked channel.
    #[schema(example = "whip")]
    pub protocol: String,
    /// When it joined.
    pub joined_at: WallTime,
    /// Not heard in the program.
    pub muted: bool,
    /// Linear gain in the program; 1 is unchanged.
    pub volume: f32,
    /// To be seen and heard in the program when the channel is in collab mode.
    pub on_program: bool,
    /// Seen or heard in the program at this moment.
    pub on_air: bool,
    /// How loud it is before its volume; absent before the first sound.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub level: Option<AudioLevel>,
    /// Its picture; absent before the first keyframe.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub video: Option<VideoFormat>,
    /// Its sound; absent before the first packet.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub audio: Option<AudioFormat>,
    /// How well it arrives; absent while it is not connected.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ingest: Option<IngestStats>,
}

/// `PATCH …/participants/{pid}`: fields that are absent stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ParticipantPatch {
    /// Not heard in the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted: Option<bool>,
    /// Linear gain, 0 to 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.0, maximum = 4.0)]
    pub volume: Option<f32>,
    /// Seen and heard in the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_program: Option<bool>,
}
