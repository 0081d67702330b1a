//! Settings of the media path, with units in their names, and their translation for the parts.

use std::path::PathBuf;
use std::time::Duration;

use cdn_publisher::{PublisherConfig, program};
use serde::{Deserialize, Serialize};

use super::WebRtc;
use crate::sfu;

/// The program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Program {
    /// From capture to publish, constant; must exceed network jitter + 64 ms.
    pub delay_ms: u64,
    /// AAC bit rate.
    pub aac_bitrate_kbps: u32,
    /// A little better sound for twice the CPU of the encoder.
    pub aac_afterburner: bool,
    /// Opus bit rate for viewers by WHEP.
    pub opus_bitrate_kbps: u32,
}

/// The RTMP publisher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Publisher {
    /// Longest time for TCP and TLS to connect.
    pub connect_timeout_ms: u64,
    /// Longest time from the RTMP handshake until the server takes the stream.
    pub handshake_timeout_ms: u64,
    /// A destination that takes no byte for so long is connected anew.
    pub write_timeout_ms: u64,
    /// Pause after the first failure; doubles with every further one, with jitter.
    pub backoff_min_ms: u64,
    /// The longest such pause.
    pub backoff_max_ms: u64,
    /// Pause after credentials were refused.
    pub refused_retry_s: u64,
    /// Most bytes waiting for one destination; beyond it is dropped up to the next keyframe.
    pub queue_max_bytes: usize,
    /// Longest stretch of program waiting for one destination; same policy.
    pub queue_max_ms: u64,
    /// Certificates (PEM) trusted for RTMPS besides those of the operating system.
    pub extra_ca_file: Option<PathBuf>,
}

impl Default for Program {
    fn default() -> Self {
        Self {
            delay_ms: 300,
            aac_bitrate_kbps: 128,
            aac_afterburner: false,
            opus_bitrate_kbps: 96,
        }
    }
}

impl Default for Publisher {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 5_000,
            handshake_timeout_ms: 5_000,
            write_timeout_ms: 5_000,
            backoff_min_ms: 500,
            backoff_max_ms: 15_000,
            refused_retry_s: 300,
            queue_max_bytes: 8 << 20,
            queue_max_ms: 5_000,
            extra_ca_file: None,
        }
    }
}

impl Program {
    /// As the program takes them.
    #[must_use]
    pub fn to_program(&self) -> program::Config {
        program::Config {
            program_delay: Duration::from_millis(self.delay_ms),
            aac_bitrate_bps: self.aac_bitrate_kbps.saturating_mul(1_000),
            aac_afterburner: self.aac_afterburner,
            opus_bitrate_bps: self.opus_bitrate_kbps.saturating_mul(1_000),
        }
    }
}

impl Publisher {
    /// As the publisher takes them.
    #[must_use]
    pub fn to_publisher(&self) -> PublisherConfig {
        PublisherConfig {
            connect_timeout: Duration::from_millis(self.connect_timeout_ms),
            handshake_timeout: Duration::from_millis(self.handshake_timeout_ms),
            write_timeout: Duration::from_millis(self.write_timeout_ms),
            backoff_min: Duration::from_millis(self.backoff_min_ms),
            backoff_max: Duration::from_millis(self.backoff_max_ms),
            refused_retry: Duration::from_secs(self.refused_retry_s),
            queue_max_bytes: self.queue_max_bytes,
            queue_max: Duration::from_millis(self.queue_max_ms),
            extra_ca_file: self.extra_ca_file.clone(),
            ..PublisherConfig::default()
        }
    }
}

impl WebRtc {
    /// As the SFU takes them.
    #[must_use]
    pub fn to_sfu(&self) -> sfu::Config {
        sfu::Config {
            bind: self.listen,
            threads: self.media_threads,
            tcp: self.tcp,
            max_tcp_connections: self.max_tcp_connections,
            external_ips: self.external_ips.clone(),
            max_sessions: self.max_sessions,
            max_subscribers_per_channel: self.max_subscribers_per_channel,
            max_viewers_per_channel: self.max_viewers_per_channel,
            session_timeout_ms: self.session_timeout_ms,
            keyframe_interval_ms: self.keyframe_interval_ms,
            start_bitrate_kbps: self.start_bitrate_kbps,
            max_bitrate_kbps: self.max_bitrate_kbps,
            max_sdp_bytes: self.max_sdp_bytes,
            ..sfu::Config::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_agree_with_those_of_the_parts() {
        assert_eq!(Program::default().to_program(), program::Config::default());
        assert_eq!(WebRtc::default().to_sfu(), sfu::Config::default());
        assert_eq!(
            format!("{:?}", Publisher::default().to_publisher()),
            format!("{:?}", PublisherConfig::default())
        );
    }
}
