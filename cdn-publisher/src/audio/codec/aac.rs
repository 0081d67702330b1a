//! fdk-aac: AAC-LC made and taken apart. The only unsafe code of the crate is in these two files.

mod decoder;
mod encoder;

pub(crate) use self::decoder::AacDecoder;
pub(crate) use self::encoder::AacEncoder;
