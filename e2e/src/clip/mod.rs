//! Media with known content, so that a test can tell which frame it sees and which sample it hears.
//!
//! Picture: frame `n` carries `n` as 20 black or white squares in the top row, most significant first, with the
//! inverse in the row below as a check; a textured moving background; and for the first two frames of each second a
//! white flash along the bottom. Sound: see [`Sound`]. Everything is deterministic.

mod encode;
mod picture;
mod sound;

pub use encode::{Clip, clip, transport_stream};
pub use picture::{CODE_BITS, PictureSize, code_square, draw, read_code};
pub use sound::{BEEP_HZ, GUEST_HZ, SAMPLE_RATE, Sound, TONE_HZ, samples};
