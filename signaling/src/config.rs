//! Knobs of the HTTP surface. The server fills them from its configuration file.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::auth::{Signer, Verifier};

/// Knobs of the HTTP surface.
#[derive(Clone, Debug)]
pub struct Config {
    /// Checks tokens; `None` turns authorisation off, which the server allows on loopback only.
    pub verifier: Option<Arc<Verifier>>,
    /// Makes tokens for invitations; `None` when only others can make them.
    pub signer: Option<Arc<Signer>>,
    /// Largest SDP offer or fragment.
    pub max_sdp_bytes: usize,
    /// Largest JSON body.
    pub max_json_bytes: usize,
    /// Longest time from the head of a request to the head of its response. Must exceed the switch timeout.
    pub request_timeout: Duration,
    /// New sessions that one address (IPv6: one /64) may ask for at once; 0: no limit.
    pub session_burst: u32,
    /// New sessions per second that one address may ask for in the long run.
    pub session_rate_per_s: f64,
    /// Most event streams at once.
    pub max_event_streams: usize,
    /// How often a silent event stream says that it is alive.
    pub event_keep_alive: Duration,
    /// Take the peer's address from the last `X-Forwarded-For`: only behind a proxy that sets it.
    pub trust_forwarded_for: bool,
    /// Serve `/metrics` without a token.
    pub open_metrics: bool,
    /// `http(s)://host[:port]` of the origin that `/live/…` is redirected to; `None` when this process serves it.
    pub playback_redirect: Option<String>,
    /// More sources that the pages may connect to (CSP `connect-src`): other nodes, a separate origin.
    pub connect_sources: Vec<String>,
    /// Ends event streams, so that the server can stop without waiting for their readers.
    pub shutdown: CancellationToken,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            verifier: None,
            signer: None,
            max_sdp_bytes: 64 * 1024,
            max_json_bytes: 64 * 1024,
            request_timeout: Duration::from_secs(15),
            session_burst: 100,
            session_rate_per_s: 10.0,
            max_event_streams: 256,
            event_keep_alive: Duration::from_secs(15),
            trust_forwarded_for: false,
            open_metrics: false,
            playback_redirect: None,
            connect_sources: Vec::new(),
            shutdown: CancellationToken::new(),
        }
    }
}
