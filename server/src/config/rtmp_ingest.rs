//! Settings of the RTMP port for broadcasters.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::loopback;

/// The RTMP port for broadcasters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RtmpIngest {
    /// Broadcasters may come by RTMP.
    pub enabled: bool,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The application part of URLs: `rtmp://host:port/{app}/{channel}`.
    pub app: String,
    /// Connections at once; more are closed on arrival.
    pub max_connections: usize,
    /// From connect to an accepted `publish`.
    pub handshake_timeout_ms: u64,
    /// A connection without a byte for this long is over.
    pub idle_timeout_ms: u64,
    /// What those who watch a participant by WHEP get of B-frames. The program has them in any case.
    pub b_frames: BFrames,
}

/// What becomes of B-frames where pictures must come in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BFrames {
    /// They are left out; a stream in which other pictures refer to them is refused.
    Drop,
    /// A stream that has them is refused.
    Refuse,
}

impl Default for RtmpIngest {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: loopback(1936),
            app: "live".into(),
            max_connections: 100,
            handshake_timeout_ms: 5_000,
            idle_timeout_ms: 10_000,
            b_frames: BFrames::Drop,
        }
    }
}

impl RtmpIngest {
    /// The key at fault and what is wrong with it.
    pub(super) fn validate(&self) -> Result<(), (&'static str, String)> {
        let invalid = |key, problem: &str| Err((key, problem.to_owned()));
        if self.app.is_empty() || self.app.contains(['/', '?']) {
            return invalid("rtmp_ingest.app", "it must be one path segment");
        }
        if self.max_connections == 0 {
            return invalid(
                "rtmp_ingest.max_connections",
                "it must be greater than zero",
            );
        }
        if self.handshake_timeout_ms == 0 {
            return invalid(
                "rtmp_ingest.handshake_timeout_ms",
                "it must be greater than zero",
            );
        }
        if self.idle_timeout_ms < 1_000 {
            return invalid(
                "rtmp_ingest.idle_timeout_ms",
                "it must be at least 1000: an encoder may pause for a moment",
            );
        }
        Ok(())
    }
}
