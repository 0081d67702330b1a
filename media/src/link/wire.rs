//! The bytes of a frame: `u32` length, `u8` kind, body. All integers are big-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::control::{FromMixer, Picture, ToMixer};
use super::{MAX_CONTROL_BYTES, MAX_FRAME_BYTES, MAX_IMAGE_BYTES};
use crate::{Error, h264};

/// What the body of a frame is.
mod kind {
    /// A JSON control message.
    pub(super) const CONTROL: u8 = 0;
    /// A coded picture.
    pub(super) const PICTURE: u8 = 1;
    /// An AVCDecoderConfigurationRecord.
    pub(super) const VIDEO_CONFIG: u8 = 2;
    /// A file with a picture.
    pub(super) const IMAGE: u8 = 3;
}

/// Kind, input, flags, PTS and DTS.
pub(super) const PICTURE_HEADER_BYTES: usize = 1 + 4 + 1 + 8 + 8;

const KEYFRAME: u8 = 1;
const DISCONTINUITY: u8 = 2;

/// The input id of the mixer's output.
const OUTPUT: u32 = 0;

const FRAME: &str = "link frame";

const IMAGE: &str = "link image";

/// One direction of the link.
pub trait Message: Sized {
    /// Reads the body of a frame, from its kind on.
    ///
    /// # Errors
    /// With what is wrong with it.
    fn from_body(body: Bytes) -> Result<Self, Error>;

    /// Appends the message as one frame.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; nothing is written then.
    fn encode(&self, out: &mut BytesMut) -> Result<(), Error>;
}

impl Message for ToMixer {
    fn from_body(body: Bytes) -> Result<Self, Error> {
        Ok(match Body::parse(body)? {
            Body::Control(json) => from_json("message to the mixer", &json)?,
            Body::Picture(input, unit) => Self::Picture { input, unit },
            Body::VideoConfig(input, config) => Self::VideoConfig { input, config },
            Body::Image(number, data) => Self::Image { number, data },
        })
    }

    fn encode(&self, out: &mut BytesMut) -> Result<(), Error> {
        match self {
            Self::Picture { input, unit } => put_picture(out, *input, unit),
            Self::VideoConfig { input, config } => put_config(out, *input, config),
            Self::Image { number, data } => put_image(out, *number, data),
            Self::Hello { .. }
            | Self::Authenticate { .. }
            | Self::Configure(_)
            | Self::Add { .. }
            | Self::Remove { .. }
            | Self::Scene(_)
            | Self::Levels { .. }
            | Self::Phase { .. }
            | Self::Keyframe
            | Self::Ping { .. }
            | Self::Bye => put_json(out, self),
        }
    }
}

impl Message for FromMixer {
    fn from_body(body: Bytes) -> Result<Self, Error> {
        Ok(match Body::parse(body)? {
            Body::Control(json) => from_json("message of the mixer", &json)?,
            Body::Picture(OUTPUT, unit) => Self::Picture(unit),
            Body::VideoConfig(OUTPUT, config) => Self::VideoConfig(config),
            Body::Picture(..) | Body::VideoConfig(..) => {
                return Err(Error::Invalid {
                    what: FRAME,
                    why: "a mixer has one output, number 0",
                });
            }
            Body::Image(..) => {
                return Err(Error::Invalid {
                    what: FRAME,
                    why: "a mixer sends no images",
                });
            }
        })
    }

    fn encode(&self, out: &mut BytesMut) -> Result<(), Error> {
        match self {
            Self::Picture(unit) => put_picture(out, OUTPUT, unit),
            Self::VideoConfig(config) => put_config(out, OUTPUT, config),
            Self::Hello { .. }
            | Self::Challenge { .. }
            | Self::Pong { .. }
            | Self::Stats(_)
            | Self::Error { .. } => put_json(out, self),
        }
    }
}

/// A frame's body, by kind.
enum Body {
    Control(Bytes),
    Picture(u32, Picture),
    VideoConfig(u32, h264::Config),
    Image(u32, Bytes),
}

impl Body {
    fn parse(mut body: Bytes) -> Result<Self, Error> {
        let total = body.len();
        let truncated = move |_| Error::Truncated {
            what: FRAME,
            at: total,
        };
        match body.try_get_u8().map_err(truncated)? {
            kind::CONTROL => Ok(Self::Control(body)),
            kind::PICTURE => {
                let input = body.try_get_u32().map_err(truncated)?;
                let flags = body.try_get_u8().map_err(truncated)?;
                let pts_ns = body.try_get_i64().map_err(truncated)?;
                let dts_ns = body.try_get_i64().map_err(truncated)?;
                if flags & !(KEYFRAME | DISCONTINUITY) != 0 {
                    return Err(Error::Invalid {
                        what: FRAME,
                        why: "a picture has unknown flags",
                    });
                }
                let unit = Picture {
                    pts_ns,
                    dts_ns,
                    keyframe: flags & KEYFRAME != 0,
                    discontinuity: flags & DISCONTINUITY != 0,
                    data: body,
                };
                Ok(Self::Picture(input, unit))
            }
            kind::VIDEO_CONFIG => {
                let input = body.try_get_u32().map_err(truncated)?;
                Ok(Self::VideoConfig(input, h264::Config::from_avcc(&body)?))
            }
            kind::IMAGE => {
                let number = body.try_get_u32().map_err(truncated)?;
                check_size(IMAGE, body.len(), MAX_IMAGE_BYTES)?;
                // The frame's buffer is shared with pictures: an image stays much longer than they do
                Ok(Self::Image(number, Bytes::copy_from_slice(&body)))
            }
            _ => Err(Error::Unsupported {
                what: FRAME,
                why: "its kind is unknown",
            }),
        }
    }
}

fn from_json<T: DeserializeOwned>(what: &'static str, json: &[u8]) -> Result<T, Error> {
    check_size("link control message", json.len(), MAX_CONTROL_BYTES)?;
    serde_json::from_slice(json).map_err(|error| Error::Json {
        what,
        why: error.to_string(),
    })
}

fn put_json<T: Serialize>(out: &mut BytesMut, message: &T) -> Result<(), Error> {
    let json = serde_json::to_vec(message).map_err(|error| Error::Json {
        what: "link control message",
        why: error.to_string(),
    })?;
    check_size("link control message", json.len(), MAX_CONTROL_BYTES)?;
    put_length(out, 1 + json.len())?;
    out.put_u8(kind::CONTROL);
    out.put_slice(&json);
    Ok(())
}

fn put_picture(out: &mut BytesMut, input: u32, unit: &Picture) -> Result<(), Error> {
    put_length(out, PICTURE_HEADER_BYTES + unit.data.len())?;
    let keyframe = if unit.keyframe { KEYFRAME } else { 0 };
    let discontinuity = if unit.discontinuity { DISCONTINUITY } else { 0 };
    out.put_u8(kind::PICTURE);
    out.put_u32(input);
    out.put_u8(keyframe | discontinuity);
    out.put_i64(unit.pts_ns);
    out.put_i64(unit.dts_ns);
    out.put_slice(&unit.data);
    Ok(())
}

fn put_config(out: &mut BytesMut, input: u32, config: &h264::Config) -> Result<(), Error> {
    let record = config.to_avcc();
    put_length(out, 5 + record.len())?;
    out.put_u8(kind::VIDEO_CONFIG);
    out.put_u32(input);
    out.put_slice(&record);
    Ok(())
}

fn put_image(out: &mut BytesMut, number: u32, data: &[u8]) -> Result<(), Error> {
    check_size(IMAGE, data.len(), MAX_IMAGE_BYTES)?;
    put_length(out, 5 + data.len())?;
    out.put_u8(kind::IMAGE);
    out.put_u32(number);
    out.put_slice(data);
    Ok(())
}

fn put_length(out: &mut BytesMut, body: usize) -> Result<(), Error> {
    check_size(FRAME, body, MAX_FRAME_BYTES)?;
    out.reserve(4 + body);
    out.put_u32(u32::try_from(body).unwrap_or(u32::MAX));
    Ok(())
}

pub(super) fn check_size(what: &'static str, size: usize, limit: usize) -> Result<(), Error> {
    if size > limit {
        return Err(Error::TooLarge { what, size, limit });
    }
    Ok(())
}
