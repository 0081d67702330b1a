//! Requests and responses of the HTTP API, with their serde and OpenAPI forms.
//!
//! Field names are a published contract: they may be added to, never renamed. Identifiers are parsed, not
//! checked: a [`ChannelId`] that exists is valid. Units are last in the names (`_ms`, `_bps`, `_dbfs`).

mod channel;
mod control;
mod destination;
mod event;
mod ids;
mod invite;
mod link;
mod node;
mod page;
mod participant;
mod relay;
mod slate;
mod stats;
mod time;

pub use channel::{Channel, ChannelCreate, ChannelPatch, ChannelState, HostAdaptation, Playback};
pub use control::{
    Cut, Layout, LayoutName, Mode, ModeRequest, Splice, SwitchRecord, SwitchReport, Tile,
};
pub use destination::{
    Destination, DestinationSpec, DestinationState, DestinationUrl, MAX_DESTINATIONS,
};
pub use event::{Event, EventBody};
pub use ids::{ChannelId, Invalid, ParticipantId, SessionId};
pub use invite::{Invite, InviteRequest};
pub use link::{Link, LinkRequest, LinkState};
pub use node::{Check, CheckStatus, Health, Node, NodeRole, Readiness, ReadyStatus};
pub use page::{Page, PageRequest};
pub use participant::{
    AudioFormat, Participant, ParticipantPatch, ParticipantState, Role, VideoFormat,
};
pub use relay::{Relay, RelayState, RelayStream, Relays};
pub use slate::{PicturePlace, Slate, SlateRequest, Still, Upload};
pub use stats::{
    AudioLevel, ChannelStats, DestinationStats, Grade, IngestStats, LayerStats, ParticipantStats,
    ProgramSource, ProgramStats, Qoe, Viewers,
};
pub use time::WallTime;
