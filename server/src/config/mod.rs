//! Configuration: a TOML file, secrets from the environment, `--set` on the command line, in rising order of weight.
//!
//! Unknown keys are errors, so that a typo never silently means a default. Units are part of the names. The commented
//! example (`anchornet example-config`) is the default configuration; a test keeps the two equal.
//!
//! Safety invariant, checked in [`Config::validate`]: without a secret everything listens on loopback only.

mod hidden;
mod load;
mod media;
mod mixer;
mod rtmp_ingest;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use signaling::types::HostAdaptation;

pub use hidden::Hidden;
pub use load::{EXAMPLE, load};
pub use media::{Program, Publisher};
pub use mixer::Mixer;
pub use rtmp_ingest::{BFrames, RtmpIngest};

/// More threads than this would not have a processor each.
const MAX_MEDIA_THREADS: usize = 64;

/// Everything that can be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who this node is.
    pub node: Node,
    /// The HTTP port: API, WHIP, pages, playback.
    pub http: Http,
    /// The WebRTC port.
    pub webrtc: WebRtc,
    /// The RTMP port for broadcasters.
    pub rtmp_ingest: RtmpIngest,
    /// The origin's RTMP port.
    pub rtmp: Rtmp,
    /// Channels and where they are pushed to.
    pub channels: Channels,
    /// The program: delay and audio encoder.
    pub program: Program,
    /// The mixer, and switches between solo and collab.
    pub mixer: Mixer,
    /// The RTMP publisher.
    pub publisher: Publisher,
    /// The embedded CDN origin.
    pub origin: origin::Config,
    /// Access tokens.
    pub auth: Auth,
    /// Where nodes find each other.
    pub registry: Registry,
    /// Logs.
    pub log: Log,
}

/// Who this node is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// A name that is unique among the nodes; empty: a random one at each start.
    pub id: String,
    /// The URL under which clients and other nodes reach this node's HTTP port; empty: from `http.listen`.
    pub public_url: String,
}

/// The HTTP port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Connections at once.
    pub max_connections: usize,
    /// A client that has not sent its request headers by then is disconnected.
    pub header_timeout_ms: u64,
    /// How long requests may take to end at shutdown.
    pub drain_ms: u64,
    /// New sessions per minute and client address; those by RTMP are counted apart; 0: no limit.
    pub sessions_per_minute_per_ip: u32,
}

/// The WebRTC port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebRtc {
    /// Where to listen: UDP, and TCP on the same port number.
    pub listen: SocketAddr,
    /// Threads that forward media. Each takes the next port number, and its share of the limits below; a channel has one of them.
    pub media_threads: usize,
    /// ICE over TCP, for networks that let no UDP through.
    pub tcp: bool,
    /// Connections of ICE over TCP at once.
    pub max_tcp_connections: usize,
    /// Addresses to advertise instead of those of the interfaces: behind a NAT, in a container.
    pub external_ips: Vec<IpAddr>,
    /// WHIP and WHEP sessions at once.
    pub max_sessions: usize,
    /// WHEP sessions of one channel's participants at once: n participants who all see each other need n·(n − 1).
    pub max_subscribers_per_channel: usize,
    /// Viewers of one channel's program by WHEP at once. Viewers of all channels together get three quarters of
    /// `max_sessions`.
    pub max_viewers_per_channel: usize,
    /// A session that is silent for so long is over.
    pub session_timeout_ms: u64,
    /// Keyframes are asked for this often.
    pub keyframe_interval_ms: u64,
    /// Where a browser starts its bandwidth estimate, so that the picture is sharp at once.
    pub start_bitrate_kbps: u32,
    /// The most that a broadcaster is asked to send; a session that sends half more than that for long is ended.
    pub max_bitrate_kbps: u32,
    /// Longest SDP offer.
    pub max_sdp_bytes: usize,
    /// STUN and TURN servers handed to clients in `Link` headers.
    pub ice_servers: Vec<String>,
    /// The user of the TURN servers among them; empty: `turn_secret` makes one for each client.
    pub turn_username: String,
    /// Their password; better given in ANCHORNET_TURN_CREDENTIAL.
    pub turn_credential: Hidden,
    /// What node and TURN servers share (`static-auth-secret` of coturn); better given in ANCHORNET_TURN_SECRET.
    pub turn_secret: Hidden,
    /// How long a user that was made by `turn_secret` may open connections.
    pub turn_lifetime_s: u64,
}

/// The origin's RTMP port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rtmp {
    /// Where to listen.
    pub listen: SocketAddr,
}

/// Channels and where they are pushed to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Channels {
    /// Create a channel when somebody publishes to it; unset: yes without a secret, no with one.
    pub auto_create: Option<bool>,
    /// Channels at once.
    pub max_channels: usize,
    /// Participants of one channel at once.
    pub max_participants: usize,
    /// How long a channel is kept while its host is away.
    pub away_timeout_s: u64,
    /// RTMP URLs that every channel is pushed to; `{channel}` and `{token}` are filled in.
    pub destinations: Vec<String>,
    /// Base URL of playback, when viewers reach the origin elsewhere than this node; empty: here.
    pub playback_url: String,
    /// Destinations that one channel may have.
    pub max_destinations: usize,
    /// What broadcasters should give up last when their connection gets slow.
    pub host_adaptation: HostAdaptation,
}

/// Access tokens.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// HS256 secret of at least 32 bytes; better given in ANCHORNET_AUTH_SECRET.
    pub secret: String,
    /// PEM file with an Ed25519 public key: tokens signed elsewhere by EdDSA are accepted.
    pub public_key_file: Option<PathBuf>,
    /// Viewers need a token too.
    pub protect_playback: bool,
}

/// Where nodes find each other.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    /// `redis://…`; empty: in memory. Better given in ANCHORNET_REDIS_URL when it holds a password.
    pub redis_url: String,
    /// Prefix of all keys in Redis.
    pub key_prefix: String,
    /// How long a node's claims outlive it.
    pub lease_ttl_ms: u64,
}

/// Logs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// As in RUST_LOG, which wins: `info`, `server=debug,info`, …
    pub filter: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line, for machines.
    Json,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: loopback(8080),
            max_connections: 10_000,
            header_timeout_ms: 10_000,
            drain_ms: 1_000,
            sessions_per_minute_per_ip: 120,
        }
    }
}

impl Default for WebRtc {
    fn default() -> Self {
        Self {
            listen: loopback(8189),
            media_threads: 1,
            tcp: true,
            max_tcp_connections: 500,
            external_ips: Vec::new(),
            max_sessions: 500,
            max_subscribers_per_channel: 256,
            max_viewers_per_channel: 200,
            session_timeout_ms: 10_000,
            keyframe_interval_ms: 2_000,
            start_bitrate_kbps: 2_500,
            max_bitrate_kbps: 8_000,
            max_sdp_bytes: 65_536,
            ice_servers: Vec::new(),
            turn_username: String::new(),
            turn_credential: Hidden::default(),
            turn_secret: Hidden::default(),
            turn_lifetime_s: 86_400,
        }
    }
}

impl Default for Rtmp {
    fn default() -> Self {
        Self {
            listen: loopback(1935),
        }
    }
}

impl Default for Channels {
    fn default() -> Self {
        Self {
            auto_create: None,
            max_channels: 100,
            max_participants: 16,
            away_timeout_s: 60,
            destinations: Vec::new(),
            playback_url: String::new(),
            max_destinations: 8,
            host_adaptation: HostAdaptation::Balanced,
        }
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            redis_url: String::new(),
            key_prefix: "anchornet:".into(),
            lease_ttl_ms: 10_000,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "info,rtc=warn".into(),
            format: LogFormat::Text,
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Secrets stay out of logs, whoever prints a configuration.
impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth")
            .field(
                "secret",
                &if self.secret.is_empty() {
                    "none"
                } else {
                    "set"
                },
            )
            .field("public_key_file", &self.public_key_file)
            .field("protect_playback", &self.protect_playback)
            .finish()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("redis", &!self.redis_url.is_empty())
            .field("key_prefix", &self.key_prefix)
            .field("lease_ttl_ms", &self.lease_ttl_ms)
            .finish()
    }
}

/// Which ports a part of the system opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The ports for broadcasters: WebRTC, and RTMP if that is enabled.
    pub webrtc: bool,
    /// The RTMP port.
    pub rtmp: bool,
}

/// A configuration that must not be run, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct Invalid {
    /// The setting at fault, as in the file.
    pub key: &'static str,
    /// What is wrong and what to do.
    pub problem: String,
}

impl Config {
    /// Tokens are checked.
    #[must_use]
    pub fn has_auth(&self) -> bool {
        !self.auth.secret.is_empty() || self.auth.public_key_file.is_some()
    }

    /// Channels come into being when somebody publishes to them.
    #[must_use]
    pub fn auto_create(&self) -> bool {
        self.channels.auto_create.unwrap_or(!self.has_auth())
    }

    /// The URL under which this node's HTTP port is reached, without a trailing slash.
    #[must_use]
    pub fn public_url(&self) -> String {
        if self.node.public_url.is_empty() {
            format!("http://{}", self.http.listen)
        } else {
            self.node.public_url.trim_end_matches('/').to_owned()
        }
    }

    /// Checks what types cannot express.
    ///
    /// # Errors
    /// The first problem found, with its remedy.
    pub fn validate(&self, ports: Ports) -> Result<(), Invalid> {
        let invalid = |key, problem: String| Err(Invalid { key, problem });
        if !self.auth.secret.is_empty() && self.auth.secret.len() < 32 {
            return invalid(
                "auth.secret",
                "it must have at least 32 bytes; make one with `openssl rand -hex 32`".into(),
            );
        }
        let mut open = vec![("http.listen", self.http.listen)];
        open.extend(
            ports
                .webrtc
                .then_some(("webrtc.listen", self.webrtc.listen)),
        );
        let rtmp_ingest = ports.webrtc && self.rtmp_ingest.enabled;
        open.extend(rtmp_ingest.then_some(("rtmp_ingest.listen", self.rtmp_ingest.listen)));
        open.extend(ports.rtmp.then_some(("rtmp.listen", self.rtmp.listen)));
        for (key, address) in open {
            if !address.ip().is_loopback() && !self.has_auth() {
                let problem = format!(
                    "{address} is open to the network, and without a secret anybody could publish and control. Set \
                     ANCHORNET_AUTH_SECRET (make one with `openssl rand -hex 32`) and hand out tokens with `anchornet \
                     token`, or listen on 127.0.0.1"
                );
                return invalid(key, problem);
            }
        }
        for url in &self.channels.destinations {
            if !url.starts_with("rtmp://") && !url.starts_with("rtmps://") {
                return invalid(
                    "channels.destinations",
                    "a destination starts with rtmp:// or rtmps://".into(),
                );
            }
            if !url.contains("{channel}") {
                return invalid(
                    "channels.destinations",
                    "every channel is pushed there, so the URL must contain {channel}".into(),
                );
            }
            if url.contains("{token}") && self.auth.secret.is_empty() {
                return invalid(
                    "channels.destinations",
                    "{token} needs auth.secret to be set".into(),
                );
            }
        }
        if let Err(error) = self.origin.validate() {
            return invalid("origin", error.to_string());
        }
        if !(100..=10_000).contains(&self.program.delay_ms) {
            return invalid(
                "program.delay_ms",
                "it must be between 100 (the AAC encoder looks 64 ms ahead) and 10000".into(),
            );
        }
        if !(32..=320).contains(&self.program.aac_bitrate_kbps) {
            return invalid(
                "program.aac_bitrate_kbps",
                "it must be between 32 and 320".into(),
            );
        }
        if !(32..=320).contains(&self.program.opus_bitrate_kbps) {
            return invalid(
                "program.opus_bitrate_kbps",
                "it must be between 32 and 320".into(),
            );
        }
        if let Err((key, problem)) = self.mixer.validate(self.program.delay_ms) {
            return invalid(key, problem);
        }
        if let Err((key, problem)) = self.rtmp_ingest.validate() {
            return invalid(key, problem);
        }
        if let Err((key, problem)) = crate::turn::validate(&self.webrtc) {
            return invalid(key, problem);
        }
        if self.webrtc.max_bitrate_kbps < 100 {
            return invalid(
                "webrtc.max_bitrate_kbps",
                "it must be at least 100: who sends more is disconnected".into(),
            );
        }
        if !(1..=MAX_MEDIA_THREADS).contains(&self.webrtc.media_threads) {
            return invalid(
                "webrtc.media_threads",
                format!("it must be from 1 to {MAX_MEDIA_THREADS}"),
            );
        }
        if self.webrtc.external_ips.iter().any(IpAddr::is_unspecified) {
            return invalid(
                "webrtc.external_ips",
                "0.0.0.0 and :: are not addresses that clients can reach".into(),
            );
        }
        let zero = [
            ("http.max_connections", self.http.max_connections == 0),
            ("http.header_timeout_ms", self.http.header_timeout_ms == 0),
            ("webrtc.max_sessions", self.webrtc.max_sessions == 0),
            (
                "webrtc.keyframe_interval_ms",
                self.webrtc.keyframe_interval_ms == 0,
            ),
            (
                "webrtc.session_timeout_ms",
                self.webrtc.session_timeout_ms == 0,
            ),
            ("channels.max_channels", self.channels.max_channels == 0),
            (
                "channels.max_participants",
                self.channels.max_participants == 0,
            ),
        ];
        match zero.iter().find(|(_, zero)| *zero) {
            Some((key, _)) => invalid(key, "it must be greater than zero".into()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Ports = Ports {
        webrtc: true,
        rtmp: true,
    };

    #[test]
    fn defaults_are_valid_and_on_loopback() {
        assert_eq!(Config::default().validate(ALL), Ok(()));
    }

    #[test]
    fn the_network_needs_a_secret_and_the_refusal_says_how() {
        let mut config = Config::default();
        config.webrtc.listen = "0.0.0.0:8189".parse().expect("address");
        let refused = config.validate(ALL).expect_err("open without a secret");
        assert_eq!(refused.key, "webrtc.listen");
        assert!(
            refused.problem.contains("ANCHORNET_AUTH_SECRET"),
            "{refused}"
        );
        assert_eq!(
            config.validate(Ports {
                webrtc: false,
                rtmp: true
            }),
            Ok(()),
            "an origin does not open that port"
        );
        config.auth.secret = "s".repeat(32);
        assert_eq!(config.validate(ALL), Ok(()));
        config.auth.secret = "short".into();
        assert_eq!(config.validate(ALL).expect_err("short").key, "auth.secret");
    }

    #[test]
    fn secrets_do_not_reach_the_logs() {
        let mut config = Config::default();
        config.auth.secret = "hunter2hunter2hunter2hunter2hunter2".into();
        config.registry.redis_url = "redis://:hunter2@host".into();
        config.webrtc.turn_secret = "hunter2".into();
        config.webrtc.turn_credential = "hunter2".into();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
