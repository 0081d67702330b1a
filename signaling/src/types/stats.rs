//! Measurements of a channel, as one snapshot that a page can append to its plots.
//!
//! Totals grow over the life of the channel; rates (`_bps`, `fps`) are over about the last second.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ChannelId, ChannelState, DestinationState, Mode, ParticipantId, ParticipantState, Role,
    WallTime,
};

/// What the program is made from at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProgramSource {
    /// Nothing yet.
    #[default]
    None,
    /// The host's own units.
    Host,
    /// The mixer's output.
    Mix,
    /// The picture shown while the host is away.
    Slate,
}

/// Loudness over about the last 100 ms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AudioLevel {
    /// Root mean square, in decibels below full scale; digital silence is −100.
    #[schema(minimum = -100.0, maximum = 0.0)]
    pub rms_dbfs: f32,
    /// Largest sample, in decibels below full scale; digital silence is −100.
    #[schema(minimum = -100.0, maximum = 0.0)]
    pub peak_dbfs: f32,
}

impl AudioLevel {
    /// Digital silence: JSON has no −∞.
    pub const SILENCE: Self = Self {
        rms_dbfs: -100.0,
        peak_dbfs: -100.0,
    };
}

impl Default for AudioLevel {
    fn default() -> Self {
        Self::SILENCE
    }
}

/// The program: the channel's single continuous output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProgramStats {
    /// What it is made from.
    pub source: ProgramSource,
    /// Pictures per second.
    pub fps: f32,
    /// Video bits per second.
    pub video_bitrate_bps: u64,
    /// Audio bits per second.
    pub audio_bitrate_bps: u64,
    /// Width in pixels; 0 before the first picture.
    pub width: u32,
    /// Height in pixels; 0 before the first picture.
    pub height: u32,
    /// Loudness.
    pub audio_level: AudioLevel,
    /// The host's own AAC is published untouched; else the sound is encoded.
    pub audio_passes: bool,
    /// Joints between a host's own AAC and encoded sound.
    pub splices: u64,
    /// Those among them that were made where the streams did not fit, because nothing better came in time.
    pub forced_splices: u64,
    /// Samples of silence inserted because the input was missing.
    pub silence_samples: u64,
    /// Samples invented by loss concealment.
    pub concealed_samples: u64,
    /// Pictures published.
    pub video_units: u64,
    /// Audio frames published.
    pub audio_units: u64,
    /// Pictures published that are keyframes.
    pub keyframes: u64,
    /// Access units that were too late or not decodable.
    pub dropped_units: u64,
    /// Decode time of the last picture, since the channel epoch.
    pub video_dts_ms: f64,
    /// Decode time of the last audio frame, since the channel epoch.
    pub audio_dts_ms: f64,
    /// Constant delay from capture to publication.
    pub program_delay_ms: u32,
    /// Switches since the channel was created.
    pub switches: u64,
}

/// How well one participant arrives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IngestStats {
    /// Video bits per second.
    pub video_bitrate_bps: u64,
    /// Audio bits per second.
    pub audio_bitrate_bps: u64,
    /// Pictures per second.
    pub fps: f32,
    /// Codec of the picture; empty before the first keyframe.
    #[schema(example = "avc1.42e01f")]
    pub video_codec: String,
    /// Codec of the sound; empty before the first packet.
    #[schema(example = "opus")]
    pub audio_codec: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Packets received.
    pub packets_received: u64,
    /// Packets that never arrived, repair included.
    pub packets_lost: u64,
    /// Packets that arrived after they were asked for again.
    pub packets_repaired: u64,
    /// Share of packets lost on the way before repair, over the last seconds; 0 to 1.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub loss_ratio: f32,
    /// Interarrival jitter (RFC 3550 section 6.4.1).
    pub jitter_ms: f32,
    /// Round trip.
    pub rtt_ms: f32,
    /// Retransmissions asked for.
    pub nacks_sent: u64,
    /// Keyframes asked for.
    pub plis_sent: u64,
    /// Keyframes received.
    pub keyframes: u64,
    /// Access units thrown away because the program did not take them in time.
    pub dropped_units: u64,
    /// How often the picture stood still: for longer than three times what is usual, and than 150 ms more.
    #[serde(default)]
    pub freezes: u64,
    /// For how long together.
    #[serde(default)]
    pub frozen_ms: u64,
    /// The sizes in which the picture is published (simulcast), in the order of the offer; empty when there is one. The
    /// figures above count them together and describe the one that the program is made of.
    #[serde(default)]
    pub layers: Vec<LayerStats>,
    /// All of it in one word.
    #[serde(default)]
    pub qoe: Qoe,
}

/// How well one of several sizes of a picture arrives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LayerStats {
    /// Its name in the offer.
    pub rid: String,
    /// It is sent at the moment; browsers leave sizes out that their uplink does not carry.
    pub active: bool,
    /// The program is made of it.
    pub on_program: bool,
    /// Width in pixels; 0 before the first keyframe.
    pub width: u32,
    /// Height in pixels; 0 before the first keyframe.
    pub height: u32,
    /// Bits per second.
    pub bitrate_bps: u64,
    /// Pictures per second.
    pub fps: f32,
    /// Packets received.
    pub packets_received: u64,
    /// Packets that never arrived, repair included.
    pub packets_lost: u64,
    /// Packets that arrived after they were asked for again.
    pub packets_repaired: u64,
    /// Retransmissions asked for.
    pub nacks_sent: u64,
    /// Keyframes asked for.
    pub plis_sent: u64,
    /// Keyframes received.
    pub keyframes: u64,
    /// Interarrival jitter.
    pub jitter_ms: f32,
    /// How often it stood still.
    pub freezes: u64,
}

/// How good something looks and sounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// Nothing has come yet.
    #[default]
    Unknown,
    /// Nobody will complain.
    Good,
    /// It shows.
    Fair,
    /// It disturbs.
    Poor,
}

/// What a participant's figures mean for who watches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Qoe {
    /// In one word.
    pub grade: Grade,
    /// 1 (bad) to 5 (excellent), after the scale of opinion scores; an estimate, 0 while nothing is known.
    #[schema(minimum = 0.0, maximum = 5.0)]
    pub score: f32,
    /// What takes most from the score first: `freezes`, `loss`, `jitter`, `round_trip`, `frame_rate`.
    pub reasons: Vec<String>,
}

/// A participant's part of a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ParticipantStats {
    /// Who.
    pub id: ParticipantId,
    /// What it is to the channel.
    pub role: Role,
    /// Whether it is connected.
    pub state: ParticipantState,
    /// How loud it is before its volume.
    pub level: AudioLevel,
    /// How well it arrives.
    pub ingest: IngestStats,
}

/// A destination's part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DestinationStats {
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub state: DestinationState,
    /// Bits per second sent.
    pub bitrate_bps: u64,
    /// Bytes sent since it was added.
    pub bytes_sent: u64,
    /// Access units dropped because it was slow, since it was added.
    pub dropped_units: u64,
}

/// Viewers by protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Viewers {
    /// All of them.
    pub total: u32,
    /// HTTP-FLV connections.
    pub flv: u32,
    /// WS-FLV connections.
    pub ws_flv: u32,
    /// HLS players that asked for a playlist lately.
    pub hls: u32,
    /// RTMP players.
    pub rtmp: u32,
    /// WHEP sessions.
    pub whep: u32,
}

/// `GET …/stats`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChannelStats {
    /// Which channel.
    pub channel: ChannelId,
    /// When the snapshot was taken.
    pub at: WallTime,
    /// Since the channel was created.
    pub uptime_ms: u64,
    /// What feeds the program.
    pub mode: Mode,
    /// Whether it is live.
    pub state: ChannelState,
    /// The output.
    pub program: ProgramStats,
    /// The inputs, by participant id.
    pub participants: Vec<ParticipantStats>,
    /// Where it is pushed to, by name.
    pub destinations: Vec<DestinationStats>,
    /// Who watches at this node's origin.
    pub viewers: Viewers,
}
