//! Tracks and the access units that travel on them.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Rate, Timestamp, aac, h264, opus};

/// Identifies a track within its source. A change of [`Config`] is a new [`Track`] with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId(pub u32);

/// What a track carries to the senses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Sound.
    Audio,
    /// Picture.
    Video,
}

/// How a track is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// ITU-T H.264, AVCC form.
    H264,
    /// AAC in raw access units (ISO/IEC 14496-3), without ADTS.
    Aac,
    /// Opus (RFC 6716), one packet per access unit.
    Opus,
}

/// A codec with what a decoder needs before the first access unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Config {
    /// Parameter sets and the picture size.
    H264(h264::Config),
    /// AudioSpecificConfig.
    Aac(aac::Config),
    /// Channel count.
    Opus(opus::Config),
}

/// One elementary stream: identity, codec configuration and time base.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Track {
    /// Identity within the source.
    pub id: TrackId,
    /// Codec and its configuration.
    pub config: Config,
    /// The rate of the timestamps of its access units.
    pub rate: Rate,
}

impl Track {
    /// The codec.
    #[must_use]
    pub fn codec(&self) -> Codec {
        match self.config {
            Config::H264(_) => Codec::H264,
            Config::Aac(_) => Codec::Aac,
            Config::Opus(_) => Codec::Opus,
        }
    }

    /// Audio or video.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.config {
            Config::H264(_) => Kind::Video,
            Config::Aac(_) | Config::Opus(_) => Kind::Audio,
        }
    }
}

/// One coded video picture or audio frame with its times. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessUnit {
    /// The track it belongs to, with the configuration that decodes it.
    pub track: Arc<Track>,
    /// When it is to be presented.
    pub pts: Timestamp,
    /// When it is to be decoded; equals `pts` where there are no B-frames.
    pub dts: Timestamp,
    /// Video: an IDR picture. Audio: always true.
    pub keyframe: bool,
    /// Something before this unit on this track was lost or replaced.
    pub discontinuity: bool,
    /// The coded bytes: AVCC NAL units, a raw AAC frame or an Opus packet.
    pub data: Bytes,
}

impl AccessUnit {
    /// Audio or video.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.track.kind()
    }
}
