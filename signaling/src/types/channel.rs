//! Channels: the live shows that everything else belongs to.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ChannelId, DestinationSpec, Layout, Mode, ParticipantId, Slate, Viewers, WallTime};

/// Whether a channel has something to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChannelState {
    /// Exists, nobody publishes.
    Idle,
    /// The host publishes.
    Live,
    /// The host is gone for the moment; the program goes on without it.
    Away,
}

/// Where a channel is watched. Absolute URLs, or paths when the node that answers also serves them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Playback {
    /// HTTP-FLV.
    #[schema(example = "/live/demo.flv")]
    pub flv: String,
    /// The same bytes over a web socket.
    #[schema(example = "/live/demo.flv")]
    pub ws_flv: String,
    /// HLS playlist.
    #[schema(example = "/live/demo/index.m3u8")]
    pub hls: String,
}

impl Playback {
    /// The URLs of `channel` below `base` (no trailing slash): `""` for paths, or `http(s)://host[:port]`.
    pub fn below(base: &str, channel: &ChannelId) -> Self {
        let ws_base = match base.strip_prefix("http") {
            Some(rest) => format!("ws{rest}"),
            None => base.to_owned(),
        };
        Self {
            flv: format!("{base}/live/{channel}.flv"),
            ws_flv: format!("{ws_base}/live/{channel}.flv"),
            hls: format!("{base}/live/{channel}/index.m3u8"),
        }
    }
}

/// One live show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Channel {
    /// Its identifier.
    pub id: ChannelId,
    /// A name for people; empty when none was given.
    pub title: String,
    /// What feeds the program.
    pub mode: Mode,
    /// The layout of the mix, also while it is not shown.
    pub layout: Layout,
    /// What it shows while the host is away, and the picture behind the tiles.
    #[serde(default)]
    pub slate: Slate,
    /// Who is in the mix, in the order of the tiles, as the last switch to collab asked for. Empty: everybody on
    /// program, the host first, then as they came.
    #[serde(default)]
    pub order: Vec<ParticipantId>,
    /// Whether it is live.
    pub state: ChannelState,
    /// The node that owns it.
    #[schema(example = "anchor-1")]
    pub node: String,
    /// When it was created.
    pub created_at: WallTime,
    /// When it last went live; absent when idle.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub live_since: Option<WallTime>,
    /// The participant that is its host, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host: Option<ParticipantId>,
    /// Channels whose hosts are guests here.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub links: Vec<ChannelId>,
    /// The channel in whose show this one's host is a guest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub show: Option<ChannelId>,
    /// Broadcasters in it.
    pub participants: u32,
    /// Destinations that the program is pushed to, the embedded origin not counted.
    pub destinations: u32,
    /// What broadcasters should give up last when their connection gets slow.
    #[serde(default)]
    pub host_adaptation: HostAdaptation,
    /// Viewers of this node's origin.
    pub viewers: Viewers,
    /// Where it is watched.
    pub playback: Playback,
}

/// What a broadcaster's encoder keeps when the connection does not carry everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostAdaptation {
    /// The size of the picture: there are fewer pictures. For text and slides.
    KeepResolution,
    /// The number of pictures: they get smaller, which players show as soft. For motion.
    KeepFramerate,
    /// Some of both.
    #[default]
    Balanced,
}

/// `POST /api/v1/channels`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelCreate {
    /// Its identifier.
    pub id: ChannelId,
    /// A name for people, at most 200 characters.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub title: String,
    /// Destinations to push to from the first frame on.
    #[serde(default)]
    pub destinations: Vec<DestinationSpec>,
}

/// `PATCH /api/v1/channels/{id}`: fields that are absent stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelPatch {
    /// A name for people, at most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub title: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn playback_urls_follow_the_base() {
        let channel = ChannelId::new("demo").unwrap();
        let paths = Playback::below("", &channel);
        assert_eq!(paths.ws_flv, "/live/demo.flv");
        let origin = Playback::below("https://cdn.example", &channel);
        assert_eq!(origin.ws_flv, "wss://cdn.example/live/demo.flv");
        assert_eq!(origin.hls, "https://cdn.example/live/demo/index.m3u8");
    }
}
