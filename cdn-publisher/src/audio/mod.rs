//! Sound: Opus packets of the sources, a PCM bus on the program's sample grid, and one AAC encoder.
//!
//! [`input::AudioInput`] turns the packets of one source into samples at exact places of the program's timeline, with
//! concealment and clock following; [`bus::Bus`] sums the inputs that are heard and encodes the sum; [`live::Live`] makes
//! Opus of it too while viewers in real time are there.

pub(crate) mod bus;
pub(crate) mod codec;
mod drift;
pub(crate) mod gain;
pub(crate) mod input;
pub mod lab;
mod limiter;
pub(crate) mod live;
mod resampler;
mod run;
pub(crate) mod splice;
pub mod transcode;

/// The level reported for silence, in dB below full scale.
pub const FLOOR_DBFS: f32 = -100.0;
