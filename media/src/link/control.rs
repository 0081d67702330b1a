//! The messages of both directions. Everything but pictures and codec configurations travels as JSON.

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};

use super::scene::Scene;
use crate::h264;

/// From the anchor to the mixer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ToMixer {
    /// The anchor's first message, answered by [`FromMixer::Hello`].
    Hello {
        /// [`VERSION`](super::VERSION) of the anchor.
        version: u16,
    },
    /// The answer to [`FromMixer::Challenge`], before `Hello`.
    Authenticate {
        /// HMAC-SHA256 of the challenge's nonce with the shared secret, in lower-case hexadecimal.
        mac: String,
    },
    /// What to make; once, after the first `Ping`.
    Configure(Configure),
    /// A new input. It is shown when a scene names it.
    Add {
        /// Its number, chosen by the anchor and not in use.
        input: u32,
        /// What its caption and placeholder say.
        name: String,
    },
    /// The end of an input.
    Remove {
        /// Its number, free again.
        input: u32,
    },
    /// The codec configuration of an input: before its first picture and at each change. A frame of its own kind.
    #[serde(skip)]
    VideoConfig {
        /// The input.
        input: u32,
        /// Parameter sets.
        config: h264::Config,
    },
    /// A coded picture of an input. A frame of its own kind.
    #[serde(skip)]
    Picture {
        /// The input.
        input: u32,
        /// The picture; its times are capture times.
        unit: Picture,
    },
    /// An image that scenes may show, before the first that does. The mixer keeps the newest
    /// [`MAX_IMAGES`](super::MAX_IMAGES). A frame of its own kind.
    #[serde(skip)]
    Image {
        /// Its number, chosen by the anchor and never used for another.
        number: u32,
        /// The file: a PNG or a JPEG, at most [`MAX_IMAGE_BYTES`](super::MAX_IMAGE_BYTES).
        data: Bytes,
    },
    /// What the picture is made of from now on.
    Scene(Scene),
    /// How loud the inputs are; inputs left out are silent.
    Levels {
        /// One entry for each input that is heard.
        levels: Vec<Level>,
    },
    /// Where the host's pictures are now: the output moves there, within half a frame.
    Phase {
        /// A picture's capture time, give or take whole frames, in program time.
        phase_ns: i64,
    },
    /// The next output picture shall be an IDR.
    Keyframe,
    /// The anchor's clock, every [`PING_INTERVAL_MS`](super::PING_INTERVAL_MS); answered by [`FromMixer::Pong`].
    Ping {
        /// Comes back with the answer.
        id: u64,
        /// Program time when it was sent.
        program_ns: i64,
    },
    /// The mixer shall end.
    Bye,
}

/// From the mixer to the anchor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum FromMixer {
    /// The first message of a mixer that wants to know a secret; see `docs/link.md`.
    Challenge {
        /// Random, in lower-case hexadecimal.
        nonce: String,
    },
    /// The answer to [`ToMixer::Hello`].
    Hello {
        /// [`VERSION`](super::VERSION) of the mixer.
        version: u16,
        /// The H.264 encoders that it found, best first.
        encoders: Vec<String>,
        /// The version of GStreamer.
        gstreamer: String,
    },
    /// The codec configuration of the output: before its first picture and at each change. A frame of its own kind.
    #[serde(skip)]
    VideoConfig(h264::Config),
    /// A coded picture of the output; the first is an IDR. A frame of its own kind.
    #[serde(skip)]
    Picture(Picture),
    /// The answer to [`ToMixer::Ping`].
    Pong {
        /// As in the ping.
        id: u64,
        /// As in the ping.
        program_ns: i64,
        /// The mixer's own clock when the ping arrived, nanoseconds from an origin of its own.
        mixer_ns: i64,
    },
    /// How it goes, once a second.
    Stats(Stats),
    /// Something is wrong. What cannot be mended is followed by the end of the stream.
    Error {
        /// What, and what to do about it.
        message: String,
    },
}

/// A coded picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// When it was captured, in program time.
    pub pts_ns: i64,
    /// When it is to be decoded; equals `pts_ns` where there are no B-frames.
    pub dts_ns: i64,
    /// An IDR picture.
    pub keyframe: bool,
    /// Something before it was lost or replaced: decoding can only resume at a keyframe.
    pub discontinuity: bool,
    /// NAL units in AVCC form, 4-byte lengths.
    pub data: Bytes,
}

/// What the mixer makes. Fixed for the life of the link: another size or frame rate is another mixer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configure {
    /// Width of the output in luma samples; even.
    pub width: u32,
    /// Height of the output in luma samples; even.
    pub height: u32,
    /// Pictures per second.
    pub frame_rate: FrameRate,
    /// The grid: output pictures have PTS `phase_ns + n / frame_rate`, until [`ToMixer::Phase`] moves it.
    pub phase_ns: i64,
    /// H.264 profile of the output.
    #[serde(default)]
    pub profile: Profile,
    /// Target bitrate of the output, in bits per second.
    pub bitrate_bps: u32,
    /// The longest distance of IDR pictures, in milliseconds.
    pub keyframe_interval_ms: u32,
    /// The picture of capture time T is composed at T + this at the latest, in milliseconds.
    pub latency_ms: u32,
    /// Encoder by name of its element; the best one available when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// Speed preset of the encoder, in its own words; a sensible one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<String>,
    /// How long tiles travel from one layout to the next, in milliseconds; 0 jumps.
    #[serde(default)]
    pub layout_transition_ms: u32,
    /// How long an input's last picture is held before its placeholder is shown, in milliseconds.
    pub hold_ms: u32,
    /// Whether tiles have captions.
    #[serde(default)]
    pub names: bool,
    /// Radius of the tiles' corners, in output pixels; 0 is plain.
    #[serde(default)]
    pub corner_radius_px: u32,
}

impl Default for Configure {
    fn default() -> Self {
        Self {
            width: 1280,
            height: 720,
            frame_rate: FrameRate::default(),
            phase_ns: 0,
            profile: Profile::default(),
            bitrate_bps: 2_500_000,
            keyframe_interval_ms: 2_000,
            latency_ms: 180,
            encoder: None,
            speed: None,
            layout_transition_ms: 300,
            hold_ms: 2_000,
            names: true,
            corner_radius_px: 0,
        }
    }
}

/// Pictures per second, `num / den`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameRate {
    /// Pictures.
    pub num: u32,
    /// Seconds.
    pub den: u32,
}

impl FrameRate {
    /// The distance of two pictures in nanoseconds, rounded down; 0 where a part is zero.
    #[must_use]
    pub fn frame_ns(self) -> i64 {
        let span_ns = i64::from(self.den).saturating_mul(1_000_000_000);
        span_ns.checked_div(i64::from(self.num)).unwrap_or(0)
    }
}

impl Default for FrameRate {
    fn default() -> Self {
        Self { num: 30, den: 1 }
    }
}

/// H.264 profiles that a mixer can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// What every WebRTC sender speaks.
    #[default]
    ConstrainedBaseline,
    /// CABAC.
    Main,
    /// CABAC and 8×8 transform.
    High,
}

/// How loud an input is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// The input.
    pub input: u32,
    /// Decibels relative to full scale, 0 is the loudest.
    #[serde(serialize_with = "finite")]
    pub dbfs: f32,
}

/// Silence is minus infinity, which JSON cannot say.
fn finite<S: Serializer>(dbfs: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    const SILENCE_DBFS: f32 = -200.0;
    serializer.serialize_f32(if dbfs.is_finite() {
        *dbfs
    } else {
        SILENCE_DBFS
    })
}

/// What a mixer has done since it started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stats {
    /// Output pictures.
    pub frames: u64,
    /// Output pictures that left later than their capture time + latency + 50 ms, or not at all.
    pub late: u64,
    /// Time in the encoder of the newest picture, in milliseconds.
    pub encode_ms: f32,
    /// CPU time of the process, in milliseconds.
    pub cpu_ms: u64,
    /// The active speaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speaker: Option<u32>,
    /// One entry for each input.
    pub inputs: Vec<InputStats>,
}

/// One input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputStats {
    /// Its number.
    pub input: u32,
    /// What its tile shows.
    pub state: InputState,
    /// Pictures received.
    pub pictures: u64,
    /// Pictures that came too late for the frame they belong to.
    pub late_pictures: u64,
    /// Pictures thrown away: no keyframe before them, or the decoder did not keep up.
    pub dropped_pictures: u64,
}

/// What the tile of an input shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputState {
    /// Nothing came yet: the placeholder.
    #[default]
    Waiting,
    /// Its pictures.
    Live,
    /// Its last picture, for `hold_ms`.
    Held,
    /// Nothing came for longer: the placeholder.
    Placeholder,
}
