//! The vocabulary of AnchorNet: time, tracks, access units, codec headers, FLV, the link to a mixer, and the
//! frames and tickets by which substreams travel.
//!
//! Everything here is pure: no sockets, no clocks, no threads, no randomness. The other crates never
//! import each other; they meet in these types.
//!
//! Invariants:
//! - Video is H.264 in AVCC form (4-byte lengths) between ingress and egress; Annex B exists only at edges.
//! - Every parser is total: bad input is an [`Error`], never a panic.

pub mod aac;
pub mod flv;
pub mod h264;
pub mod link;
pub mod opus;
mod still;
pub mod substream;
pub mod ticket;
pub mod time;
mod track;

pub use still::{StillFormat, StillHead};
pub use time::{Clock, Rate, Timestamp};
pub use track::{AccessUnit, Codec, Config, Kind, Track, TrackId};

/// Why a media structure could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The buffer ends before the structure does.
    #[error("{what} is truncated at byte {at}")]
    Truncated {
        /// The structure being read.
        what: &'static str,
        /// Offset of the first missing byte.
        at: usize,
    },
    /// A field has a value that the format forbids.
    #[error("{what} is invalid: {why}")]
    Invalid {
        /// The structure being read.
        what: &'static str,
        /// The rule that is broken.
        why: &'static str,
    },
    /// The structure is well formed but uses something that is not supported.
    #[error("{what} is not supported: {why}")]
    Unsupported {
        /// The structure being read.
        what: &'static str,
        /// The feature that is missing.
        why: &'static str,
    },
    /// A length exceeds a bound of this implementation.
    #[error("{what} of {size} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// The structure being read.
        what: &'static str,
        /// Its announced size in bytes.
        size: usize,
        /// The largest size accepted, in bytes.
        limit: usize,
    },
    /// A JSON text does not say what it should.
    #[error("{what} is not understood: {why}")]
    Json {
        /// The structure being read.
        what: &'static str,
        /// What is wrong, and where.
        why: String,
    },
}
