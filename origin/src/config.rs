//! The knobs of the origin, embedded in the server's TOML.
//!
//! Units are in the names; every field has a default, and unknown fields are refused.

use std::collections::HashSet;
use std::time::Duration;

use media::substream::{HashVersion, MAX_SUBSTREAMS, Split};
use serde::{Deserialize, Serialize};

use crate::rtmp::Settings;
use crate::stream::FrameLimits;

/// How the origin takes streams in and hands them out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a tag may wait so that several leave in one write per viewer. A picture that comes later than this
    /// after the last write leaves at once; sound rides along with the next picture. 0 writes every tag at once,
    /// 350 costs a third of the CPU and a third of a second.
    pub write_coalescing_ms: u64,
    /// How long viewers stay connected while their publisher is away.
    pub publish_grace_s: u64,
    /// A publisher that has sent nothing for this long gives way to another on the same stream.
    pub publisher_timeout_ms: u64,
    /// Lets a second publisher replace a live one; otherwise it is refused with `NetStream.Publish.BadName`.
    pub takeover: bool,
    /// How long a viewer of an expected stream waits for its first publisher.
    pub await_publisher_s: u64,
    /// Streams at one time; more publishers are refused.
    pub max_streams: usize,
    /// HTTP-FLV and WS-FLV viewers at one time; more are refused with 503.
    pub max_viewers: usize,
    /// The application part of RTMP URLs: `rtmp://host/{app}/{stream}`.
    pub rtmp_app: String,
    /// RTMP connections at one time; more are closed on arrival.
    pub rtmp_max_connections: usize,
    /// The largest RTMP message (one access unit or command) that is accepted.
    pub rtmp_max_message_bytes: usize,
    /// From connect to an accepted `publish`.
    pub rtmp_handshake_timeout_ms: u64,
    /// An RTMP connection without a byte for this long is closed.
    pub rtmp_idle_timeout_ms: u64,
    /// The longest group of pictures kept for new viewers; beyond it they wait for the next keyframe.
    pub gop_cache_max_ms: u64,
    /// The largest group of pictures kept for new viewers, in bytes.
    pub gop_cache_max_bytes: usize,
    /// A viewer this far behind continues at the newest keyframe.
    pub viewer_max_lag_ms: u64,
    /// A viewer with this many bytes outstanding continues at the newest keyframe.
    pub viewer_max_lag_bytes: usize,
    /// A viewer that has taken nothing for this long is disconnected.
    pub viewer_disconnect_ms: u64,
    /// HLS output.
    pub hls: HlsConfig,
    /// Substreams, for relays.
    pub substreams: SubstreamConfig,
}

/// How streams are split for relays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubstreamConfig {
    /// Whether streams are handed out in substreams at all.
    pub enabled: bool,
    /// Parts of a stream.
    pub count: u8,
    /// How frames are assigned: 2, or 1 for the hash of the RLIVE paper, which makes bursts.
    pub hash: u8,
    /// How long frames can be asked for, in addition to the newest group of pictures.
    pub history_ms: u64,
    /// The most that is kept of a stream, in bytes.
    pub history_max_bytes: usize,
    /// What a relay may send to one player, in kilobits per second.
    pub max_kbps: u32,
    /// The URL where players reach the scheduler; empty: they are told of the relays that report here.
    pub scheduler_url: String,
    /// Relays that are let in no more, by id in hexadecimal digits: their key has become known.
    pub revoked: Vec<String>,
}

/// How streams are cut into HLS segments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HlsConfig {
    /// Whether streams are packaged for HLS at all.
    pub enabled: bool,
    /// A segment ends at the first keyframe after this long.
    pub segment_ms: u64,
    /// Segments in the playlist. Three more stay available after they have left it.
    pub list_size: usize,
    /// How long a request for the playlist waits for the first segment of a new stream.
    pub first_segment_wait_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            write_coalescing_ms: 20,
            publish_grace_s: 15,
            publisher_timeout_ms: 2_000,
            takeover: false,
            await_publisher_s: 60,
            max_streams: 1_000,
            max_viewers: 10_000,
            rtmp_app: "live".to_owned(),
            rtmp_max_connections: 500,
            rtmp_max_message_bytes: media::h264::MAX_ACCESS_UNIT_BYTES,
            rtmp_handshake_timeout_ms: 5_000,
            rtmp_idle_timeout_ms: 15_000,
            gop_cache_max_ms: 12_000,
            gop_cache_max_bytes: 16 << 20,
            viewer_max_lag_ms: 4_000,
            viewer_max_lag_bytes: 16 << 20,
            viewer_disconnect_ms: 15_000,
            hls: HlsConfig::default(),
            substreams: SubstreamConfig::default(),
        }
    }
}

impl Default for SubstreamConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            count: 4,
            hash: HashVersion::Mixed.number(),
            history_ms: 10_000,
            history_max_bytes: 32 << 20,
            max_kbps: 20_000,
            scheduler_url: String::new(),
            revoked: Vec::new(),
        }
    }
}

impl SubstreamConfig {
    /// The partition; that of the defaults when the values are out of range.
    pub(crate) fn split(&self) -> Split {
        let hash = HashVersion::from_number(self.hash).unwrap_or(HashVersion::Mixed);
        Split::new(hash, self.count.clamp(1, MAX_SUBSTREAMS)).unwrap_or_default()
    }

    /// The relays that are let in no more.
    #[must_use]
    pub fn revoked(&self) -> HashSet<u64> {
        let read = |id: &String| u64::from_str_radix(id, 16).ok();
        self.revoked.iter().filter_map(read).collect()
    }
}

impl Default for HlsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            segment_ms: 2_000,
            list_size: 6,
            first_segment_wait_ms: 6_000,
        }
    }
}

impl Config {
    /// Checks that the values make sense together.
    ///
    /// # Errors
    /// [`ConfigError`] with the field at fault and the remedy.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let rule = |holds: bool, field, rule| {
            if holds {
                Ok(())
            } else {
                Err(ConfigError { field, rule })
            }
        };
        rule(
            self.write_coalescing_ms <= 2_000,
            "write_coalescing_ms",
            "must be at most 2000",
        )?;
        rule(
            !self.rtmp_app.is_empty() && !self.rtmp_app.contains(['/', '?']),
            "rtmp_app",
            "must be one path segment",
        )?;
        rule(
            (64 << 10..=media::flv::MAX_TAG_BODY_BYTES).contains(&self.rtmp_max_message_bytes),
            "rtmp_max_message_bytes",
            "must be between 64 KiB and 16 MiB",
        )?;
        rule(
            self.viewer_max_lag_ms > self.write_coalescing_ms,
            "viewer_max_lag_ms",
            "must exceed write_coalescing_ms",
        )?;
        rule(
            (200..=20_000).contains(&self.hls.segment_ms),
            "hls.segment_ms",
            "must be between 200 and 20000",
        )?;
        rule(
            (2..=100).contains(&self.hls.list_size),
            "hls.list_size",
            "must be between 2 and 100",
        )?;
        rule(
            (1..=MAX_SUBSTREAMS).contains(&self.substreams.count),
            "substreams.count",
            "must be between 1 and 32",
        )?;
        rule(
            HashVersion::from_number(self.substreams.hash).is_some(),
            "substreams.hash",
            "must be 2, or 1 for the hash of the paper",
        )?;
        rule(
            self.substreams.revoked().len() == self.substreams.revoked.len(),
            "substreams.revoked",
            "must be different ids of relays, in hexadecimal digits",
        )?;
        let url = &self.substreams.scheduler_url;
        rule(
            url.is_empty() || url.starts_with("http://") || url.starts_with("https://"),
            "substreams.scheduler_url",
            "must be the http URL of a scheduler, or empty",
        )
    }

    pub(crate) fn rtmp(&self) -> Settings {
        Settings {
            app: self.rtmp_app.clone(),
            max_connections: self.rtmp_max_connections,
            max_message_bytes: self.rtmp_max_message_bytes,
            handshake_timeout: Duration::from_millis(self.rtmp_handshake_timeout_ms),
            idle_timeout: Duration::from_millis(self.rtmp_idle_timeout_ms),
        }
    }

    pub(crate) fn frame_limits(&self) -> FrameLimits {
        FrameLimits {
            history: Duration::from_millis(self.substreams.history_ms),
            bytes: self.substreams.history_max_bytes,
        }
    }

    pub(crate) fn write_coalescing(&self) -> Duration {
        Duration::from_millis(self.write_coalescing_ms)
    }

    pub(crate) fn publish_grace(&self) -> Duration {
        Duration::from_secs(self.publish_grace_s)
    }

    pub(crate) fn publisher_timeout(&self) -> Duration {
        Duration::from_millis(self.publisher_timeout_ms)
    }

    pub(crate) fn await_publisher(&self) -> Duration {
        Duration::from_secs(self.await_publisher_s)
    }
}

/// A value that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub struct ConfigError {
    /// The field, dotted below the origin's own table.
    pub field: &'static str,
    /// What it must be.
    pub rule: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn a_bad_value_names_its_field() {
        let config = Config {
            rtmp_app: "a/b".to_owned(),
            ..Config::default()
        };
        assert_eq!(config.validate().map_err(|e| e.field), Err("rtmp_app"));
    }

    #[test]
    fn revoked_relays_are_named_once_and_in_hexadecimal_digits() {
        let with = |revoked: &[&str]| SubstreamConfig {
            revoked: revoked.iter().map(|id| (*id).to_owned()).collect(),
            ..SubstreamConfig::default()
        };
        assert_eq!(with(&["1f", "a0"]).revoked(), [0x1f, 0xa0].into());
        for bad in [&["xyz"][..], &["1f", "1F"]] {
            let config = Config {
                substreams: with(bad),
                ..Config::default()
            };
            let field = config.validate().map_err(|e| e.field);
            assert_eq!(field, Err("substreams.revoked"), "{bad:?}");
        }
    }
}
