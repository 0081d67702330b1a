//! From what broadcasters send to what a CDN receives: the *program* and its persistent publisher.
//!
//! - [`program`] puts the access units of the source that is on air on the channel's single timeline: video passes
//!   through, sound goes through a PCM bus into one AAC track, or passes through where it is AAC already. Sans-IO.
//! - [`publisher`] pushes the program to any number of RTMP(S) destinations, each by its own state machine.
//!
//! The time contract is written down in `docs/timestamps.md`, section "Program".

pub mod audio;
pub mod program;
pub mod publisher;
mod rtmp;

pub use program::{Program, ProgramStats, SourceId};
pub use publisher::{Destination, DestinationState, DestinationStatus, Publisher, PublisherConfig};

/// Why the program or a destination could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A codec library refused its configuration or its input.
    #[error("{codec}: {detail}")]
    Codec {
        /// `AAC encoder` or `Opus decoder`.
        codec: &'static str,
        /// What the library said.
        detail: String,
    },
    /// An input names a source that was never attached, or is gone.
    #[error("source {} is not attached", source_id.0)]
    UnknownSource {
        /// The source that was named.
        source_id: SourceId,
    },
    /// More sources than [`program::MAX_SOURCES`].
    #[error("source {} cannot be attached: the program has {limit} sources already", source_id.0)]
    TooManySources {
        /// The source that was refused.
        source_id: SourceId,
        /// The bound.
        limit: usize,
    },
    /// An access unit of a codec, or with timestamps, that the program cannot carry.
    #[error("access unit of source {} refused: {why}", source_id.0)]
    Unit {
        /// Where it came from.
        source_id: SourceId,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A destination URL that cannot be published to.
    #[error("destination URL: {why}")]
    Url {
        /// The rule that it breaks; never holds credentials.
        why: &'static str,
    },
    /// The peer broke the RTMP protocol.
    #[error("RTMP: {0}")]
    Protocol(String),
    /// A media structure could not be read or written.
    #[error(transparent)]
    Media(#[from] media::Error),
    /// A certificate file or the TLS library failed.
    #[error("TLS: {0}")]
    Tls(String),
    /// A socket failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Registers the description and unit of every metric of this crate. Call once, after the recorder is installed.
pub fn describe_metrics() {
    program::describe_metrics();
    publisher::describe_metrics();
}
