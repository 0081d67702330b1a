//! What a player tells about itself.

use serde::Serialize;

/// A player at one moment. Counters run from the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// What has left and is not shown yet, by the player's reckoning, in milliseconds.
    pub buffer_ms: i64,
    /// Whether the playhead runs.
    pub playing: bool,
    /// Whether everything is taken from the origin because the buffer had run low.
    pub fallback: bool,
    /// Where each substream comes from.
    pub substreams: Vec<SubstreamStats>,
    /// Frames that have left.
    pub frames: u64,
    /// Times that the playhead has stopped.
    pub stalls: u64,
    /// How long it has stood, in milliseconds.
    pub stalled_ms: u64,
    /// Times that the player fell back to the origin.
    pub fallbacks: u64,
    /// Times that it had to go on with a later keyframe.
    pub skips: u64,
    /// Bytes of frames from relays.
    pub relay_bytes: u64,
    /// Bytes of frames from the origin.
    pub origin_bytes: u64,
    /// Bytes of frames that had come before.
    pub duplicate_bytes: u64,
    /// Packets lost on the way from relays.
    pub lost_packets: u64,
    /// Packets asked for again.
    pub nacked_packets: u64,
    /// Frames asked of the origin.
    pub fetched_frames: u64,
    /// Requests for headers.
    pub header_requests: u64,
    /// Substreams moved from a relay to the origin.
    pub moved_substreams: u64,
    /// Frames that the origin has not signed, or not at their place.
    pub forged_frames: u64,
    /// Datagrams of no session: late, or from elsewhere.
    pub strange_datagrams: u64,
    /// Relays that were asked for a substream.
    pub probes: u64,
    /// Suggestions of relays to go elsewhere that were followed up.
    pub suggestions: u64,
    /// Substreams that went from one relay straight to another.
    pub switches: u64,
    /// Datagrams that were malformed or forged, and chains that contradicted themselves.
    pub bad_input: u64,
}

/// Where a substream comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SubstreamStats {
    /// `origin`, `trying` (from the origin, a relay is asked) or `relay`.
    pub source: &'static str,
    /// The relay.
    pub relay: Option<std::net::SocketAddr>,
    /// The round trip to it, in milliseconds.
    pub rtt_ms: Option<f64>,
}
