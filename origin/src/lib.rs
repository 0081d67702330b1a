//! The embedded CDN origin: streams come in by RTMP and go out by HTTP-FLV, WS-FLV, HLS, and in substreams for relays. Its RTMP server is there for
//! others too ([`rtmp`]).
//!
//! A [`stream`] machine per stream decides (sans-IO); [`Origin`] holds them all and is the shell: the RTMP server, the
//! HTTP routes, timers and counters. The publisher of this process reaches it over RTMP on loopback, exactly as it
//! reaches a third-party CDN.
//!
//! Invariants:
//! - A viewer's stream starts with its sequence headers and a keyframe; per track its DTS strictly increase, also
//!   over restarts of the publisher.
//! - A slow viewer never delays another viewer or the publisher.
//! - Nothing that a peer sends panics or grows memory beyond the bounds in [`Config`].

mod access;
mod amf0;
mod clock;
mod config;
mod entry;
mod hls;
mod http;
mod hub;
mod metrics;
mod relays;
pub mod rtmp;
mod stats;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use hub::Hub;
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use access::{Access, Denied, Open};
pub use config::{Config, ConfigError, HlsConfig, SubstreamConfig};
pub use http::Connection;
pub use metrics::describe_metrics;
pub use stats::{AudioStats, StreamState, StreamStats, VideoStats, Viewers};

/// Statistics are not sent more often than this.
const MIN_STATS_PERIOD: Duration = Duration::from_millis(100);

/// The origin: a handle that is cheap to clone.
#[derive(Clone)]
pub struct Origin {
    hub: Arc<Hub>,
}

impl Origin {
    /// An origin without streams. Nothing listens until [`Origin::serve_rtmp`] runs and [`Origin::router`] is served.
    #[must_use]
    pub fn new(config: Config, access: Arc<dyn Access>) -> Self {
        Self {
            hub: Arc::new(Hub::new(config, access)),
        }
    }

    /// The routes of viewers: `/live/{channel}.flv` (GET, HEAD and web socket upgrade) and `/live/{channel}/…` (HLS,
    /// substreams), and `/rlive/relays`, where relays report.
    /// Serve it with [`serve_http`], or give every request its [`Connection`]: otherwise viewers that stop reading
    /// stay connected until the kernel gives them up.
    pub fn router(&self) -> axum::Router {
        http::router(Arc::clone(&self.hub))
    }

    /// Accepts RTMP publishers until `cancel` is cancelled, then closes their connections.
    ///
    /// # Errors
    /// When the listener itself fails.
    pub async fn serve_rtmp(
        &self,
        listener: TcpListener,
        cancel: CancellationToken,
    ) -> std::io::Result<()> {
        let streams = Arc::new(rtmp::Streams(Arc::clone(&self.hub)));
        rtmp::serve(streams, self.hub.config.rtmp(), listener, cancel).await
    }

    /// Every stream, by name.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamStats> {
        self.hub.stats()
    }

    /// One stream.
    #[must_use]
    pub fn stream(&self, name: &str) -> Option<StreamStats> {
        self.hub.stat(name)
    }

    /// The statistics of every stream, now and then every `period`, for as long as the stream is read.
    pub fn subscribe(
        &self,
        period: Duration,
    ) -> impl Stream<Item = Vec<StreamStats>> + Send + 'static {
        let hub = Arc::clone(&self.hub);
        let mut ticks = tokio::time::interval(period.max(MIN_STATS_PERIOD));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        futures_util::stream::unfold((hub, ticks), |(hub, mut ticks)| async move {
            ticks.tick().await;
            Some((hub.stats(), (hub, ticks)))
        })
    }

    /// Ends every stream: publishers are disconnected, viewers' responses end cleanly, HLS playlists get their end
    /// mark. New publishers and viewers are refused from here on.
    pub async fn shutdown(&self) {
        self.hub.close();
    }
}

/// Serves HTTP/1.1 for media: `TCP_NODELAY`, small write buffers, and viewers that take nothing are cut off.
/// Runs until `cancel` is cancelled, then lets requests finish for a moment.
///
/// # Errors
/// When the listener itself fails.
pub async fn serve_http(
    listener: TcpListener,
    router: axum::Router,
    cancel: CancellationToken,
) -> std::io::Result<()> {
    http::serve(listener, router, cancel).await
}
