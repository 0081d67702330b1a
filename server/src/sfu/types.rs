//! What callers of the SFU exchange with it. Nothing here names the WebRTC engine.

use std::fmt;
use std::net::SocketAddr;

use media::AccessUnit;
use serde::Serialize;
use uuid::Uuid;

/// Identifies one session; it is not a secret by itself but cannot be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub Uuid);

impl Serialize for SessionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl std::str::FromStr for SessionId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self)
    }
}

/// What a participant publishes, whichever session carries it at the moment, or a channel's program: subscribers hold on
/// to this.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    /// The channel.
    pub channel: String,
    /// The participant, unique in the channel; `None` is the program.
    pub participant: Option<String>,
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let participant = self.participant.as_deref();
        write!(f, "{}/{}", self.channel, participant.unwrap_or_default())
    }
}

/// What a session has to do with a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFlow {
    /// The stream.
    pub stream: StreamKey,
    /// It receives the stream; else it publishes it.
    pub receives: bool,
}

/// The answer to an accepted offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The new session.
    pub session: SessionId,
    /// Entity tag of its ICE session, quotes included, as an `ETag` header wants it (RFC 9725 §4.3.1).
    pub etag: String,
    /// The SDP answer.
    pub sdp: String,
}

/// The answer to an ICE restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patched {
    /// Entity tag of the new ICE session, quotes included.
    pub etag: String,
    /// The `application/trickle-ice-sdpfrag` body: new credentials and candidates.
    pub fragment: String,
}

/// What a session delivers to its sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ingress {
    /// ICE and DTLS are up. Sent once, before the first unit.
    Connected,
    /// One video picture or Opus packet; `pts = dts = capture time` on the anchor's clock, in nanoseconds,
    /// strictly increasing per track. Video is track 0, audio track 1.
    Unit(AccessUnit),
    /// The session is over. Sent exactly once, last.
    Closed(CloseReason),
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CloseReason {
    /// [`super::Sfu::close`] was called.
    Requested,
    /// The publisher closed its DTLS connection.
    PeerClosed,
    /// The publisher was silent for `session_timeout_ms`.
    Timeout,
    /// The publisher never connected, or was the oldest of too many half-open sessions.
    NeverConnected,
    /// The publisher went on sending far more than `max_bitrate_kbps`.
    OverBitrate,
    /// The WebRTC engine gave up on this session.
    Failed,
    /// The receiving end of the sink is gone.
    SinkGone,
    /// The participant whose stream this was has left for good.
    StreamEnded,
    /// The SFU is shutting down.
    Shutdown,
}

/// Why an offer was refused. [`OfferError::status`] is the HTTP status it maps to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// Longer than `max_sdp_bytes`.
    #[error("the offer has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Not SDP, or SDP that cannot be an offer to publish.
    #[error("the offer is not usable SDP: {0}")]
    BadSdp(String),
    /// There is a video section, but none with H.264 that could be taken.
    #[error("no usable H.264 in the offer (it has: {offered}); H.264 is the only video codec here")]
    NoH264 {
        /// The video codecs that were offered, comma-separated; `nothing` when there are none.
        offered: String,
    },
    /// There is an audio section, but none with Opus.
    #[error("no usable Opus in the offer (it has: {offered}); Opus is the only audio codec here")]
    NoOpus {
        /// The audio codecs that were offered, comma-separated; `nothing` when there are none.
        offered: String,
    },
    /// Nobody publishes under this key.
    #[error("nobody publishes there")]
    UnknownStream,
    /// The channel, or its program, has as many subscribers as it may.
    #[error("all {limit} subscriber sessions of this channel are taken")]
    ChannelFull {
        /// The limit of the channel.
        limit: usize,
    },
    /// What is published there cannot be shown by WebRTC.
    #[error("{0}")]
    NotPlayable(&'static str),
    /// Valid SDP that asks for something that is not supported.
    #[error("the offer is not supported: {0}")]
    Unsupported(String),
    /// The session limit is reached.
    #[error("all {limit} sessions are taken")]
    Full {
        /// The session limit.
        limit: usize,
    },
    /// The WebRTC engine refused what the checks above let through.
    #[error("the offer was refused by the WebRTC engine: {0}")]
    Engine(String),
    /// The SFU is shutting down.
    #[error("the SFU is shutting down")]
    Stopped,
}

impl OfferError {
    /// The HTTP status that tells a WHIP client the same (RFC 9725 §4.2).
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::TooLarge { .. } => 413,
            Self::BadSdp(_) | Self::Engine(_) => 400,
            Self::NoH264 { .. } | Self::NoOpus { .. } | Self::Unsupported(_) => 422,
            Self::UnknownStream => 404,
            Self::NotPlayable(_) => 409,
            Self::Full { .. } | Self::ChannelFull { .. } | Self::Stopped => 503,
        }
    }

    /// A short name for metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::BadSdp(_) => "bad_sdp",
            Self::NoH264 { .. } => "no_h264",
            Self::NoOpus { .. } => "no_opus",
            Self::Unsupported(_) => "unsupported",
            Self::UnknownStream => "unknown_stream",
            Self::NotPlayable(_) => "not_playable",
            Self::Full { .. } => "full",
            Self::ChannelFull { .. } => "channel_full",
            Self::Engine(_) => "engine",
            Self::Stopped => "stopped",
        }
    }
}

/// Why a trickle or ICE-restart fragment was refused. [`PatchError::status`] is the HTTP status it maps to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// There is no such session (any more).
    #[error("no such session")]
    UnknownSession,
    /// The request had no `If-Match`.
    #[error("If-Match is required")]
    PreconditionRequired,
    /// `If-Match` names an ICE session that has been replaced.
    #[error("If-Match does not name the current ICE session")]
    PreconditionFailed,
    /// The body is not an SDP fragment.
    #[error("the fragment is not usable: {0}")]
    BadFragment(String),
    /// Longer than `max_sdp_bytes`.
    #[error("the fragment has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The SFU is shutting down.
    #[error("the SFU is shutting down")]
    Stopped,
}

impl PatchError {
    /// The HTTP status that tells a WHIP client the same (RFC 9725 §4.3).
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::UnknownSession => 404,
            Self::PreconditionRequired => 428,
            Self::PreconditionFailed => 412,
            Self::BadFragment(_) => 400,
            Self::TooLarge { .. } => 413,
            Self::Stopped => 503,
        }
    }
}

/// How a session is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SessionStats {
    /// ICE and DTLS are up.
    pub connected: bool,
    /// Where its packets come from.
    pub remote_address: Option<SocketAddr>,
    /// Round trip as seen by retransmissions; none before the first.
    pub rtt_ms: Option<f64>,
    /// The video stream, once a packet has arrived. Of several layers the counts are together, the rest is of the one that
    /// is on program.
    pub video: Option<StreamStats>,
    /// The layers of the picture by themselves, once packets of them have arrived; empty when there is one stream.
    pub layers: Vec<LayerStats>,
    /// The audio stream, once a packet has arrived.
    pub audio: Option<StreamStats>,
    /// What the path to a subscriber carries, in bits per second; none while it does not report arrivals.
    pub estimate_bps: Option<u64>,
    /// Width and height of the pictures that a subscriber is sent; zero before the first.
    pub shown: (u32, u32),
    /// How often a subscriber was given another layer.
    pub layer_switches: u64,
    /// Keyframe requests sent.
    pub plis: u64,
    /// Access units dropped because the sink was full.
    pub sink_drops: u64,
    /// Packets that could not be used: not RTP, bad payload, over a bound.
    pub malformed: u64,
}

/// How one layer of a picture is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LayerStats {
    /// Its name in the offer.
    pub rid: String,
    /// It is sent at the moment.
    pub active: bool,
    /// The program is made of it.
    pub on_program: bool,
    /// The stream.
    pub stream: StreamStats,
}

/// How one of its streams is doing. Totals since the session began; rates over about the last second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StreamStats {
    /// Codec, with the profile where there is one, such as `H264 42e01f`.
    pub codec: String,
    /// Media payload per second, in bits.
    pub bitrate_bps: u64,
    /// Access units per second.
    pub fps: f64,
    /// Picture width in luma samples; 0 for audio or before the first parameter sets.
    pub width: u32,
    /// Picture height in luma samples; 0 for audio or before the first parameter sets.
    pub height: u32,
    /// Media packets received, repairs included, duplicates not.
    pub packets: u64,
    /// Media payload received, in bytes.
    pub bytes: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came by retransmission.
    pub recovered: u64,
    /// Packets that came more than once.
    pub duplicates: u64,
    /// Sequence numbers asked for again.
    pub nacks: u64,
    /// Inter-arrival jitter (RFC 3550 §6.4.1), in milliseconds.
    pub jitter_ms: f64,
    /// Access units delivered.
    pub units: u64,
    /// Keyframes among them (video).
    pub keyframes: u64,
    /// Pictures that arrived but could not be decoded because something before them was lost (video).
    pub undecodable: u64,
    /// Keyframes asked for (video).
    pub plis: u64,
    /// How often the picture stood still: longer than three times what is usual, and than 150 ms more (video).
    pub freezes: u64,
    /// For how long together, beyond what is usual (video).
    pub frozen_ms: u64,
    /// The share of the time that this is (video).
    pub frozen_ratio: f64,
}
