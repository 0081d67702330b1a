//! Sound: Opus and AAC of the sources, a PCM bus, and one AAC track out of it or of a host's own units.
//!
//! [`input::AudioInput`] turns the packets of one source into samples at exact places of the program's timeline, with
//! concealment and clock following; [`bus::Bus`] sums the inputs that are heard; [`splice::Splicer`] encodes the sum, or passes a
//! host's own units and joins the two; [`live::Live`] makes Opus of the sum too while viewers in real time are there.

pub(crate) mod bus;
pub(crate) mod codec;
mod drift;
pub(crate) mod gain;
pub(crate) mod input;
pub mod lab;
mod limiter;
pub(crate) mod live;
mod packets;
mod resampler;
mod run;
pub(crate) mod splice;
pub mod transcode;

/// The level reported for silence, in dB below full scale.
pub const FLOOR_DBFS: f32 = -100.0;
