//! What the console shows about every stream.

use serde::Serialize;

/// Where a stream is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamState {
    /// Viewers are here, the first publisher is not yet.
    Waiting,
    /// A publisher is connected.
    Live,
    /// The publisher is away; viewers stay until the grace ends.
    Grace,
    /// Over. Seen only by those who still hold the stream.
    Ended,
}

/// A picture track.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VideoStats {
    /// RFC 6381 codec string, for example `avc1.42e01f`.
    pub codec: String,
    /// Luma samples across.
    pub width: u32,
    /// Luma samples down.
    pub height: u32,
    /// Pictures per second over the last seconds.
    pub fps: f64,
    /// Bits per second over the last seconds, in kilobits.
    pub bitrate_kbps: f64,
}

/// A sound track.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AudioStats {
    /// RFC 6381 codec string, for example `mp4a.40.2`.
    pub codec: String,
    /// Sampling rate in Hz.
    pub sample_rate_hz: u32,
    /// Channels.
    pub channels: u8,
    /// Bits per second over the last seconds, in kilobits.
    pub bitrate_kbps: f64,
}

/// Viewers by protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Viewers {
    /// HTTP-FLV connections.
    pub flv: usize,
    /// WS-FLV connections.
    pub ws: usize,
    /// Clients that fetched an HLS playlist within the last ten seconds.
    pub hls: usize,
}

/// One stream at one moment. Counters run from the stream's start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamStats {
    /// The stream's name: the channel.
    pub name: String,
    /// Where it is in its life.
    pub state: StreamState,
    /// Seconds since the present publisher was accepted; `None` without one.
    pub publisher_since_s: Option<f64>,
    /// Publishers accepted so far.
    pub publishers: u64,
    /// The picture track, once its configuration is known.
    pub video: Option<VideoStats>,
    /// The sound track, once its configuration is known.
    pub audio: Option<AudioStats>,
    /// Viewers now.
    pub viewers: Viewers,
    /// Bytes received from publishers.
    pub bytes_in: u64,
    /// Bytes handed to viewers, all protocols.
    pub bytes_out: u64,
    /// Times that a slow viewer was moved to the newest keyframe.
    pub viewer_skips: u64,
    /// Viewers disconnected because they took nothing.
    pub viewer_disconnects: u64,
    /// Tags not passed on because their time or content made no sense.
    pub tags_dropped: u64,
    /// Timestamps that had to be moved to keep each track increasing.
    pub timestamps_corrected: u64,
    /// The newest video decoding time given to viewers, in milliseconds.
    pub video_dts_ms: Option<i64>,
    /// The newest audio decoding time given to viewers, in milliseconds.
    pub audio_dts_ms: Option<i64>,
}
