//! The composition root: builds the parts that a node consists of, serves them, and stops them in order.
//!
//! Order of the end: no new work, broadcasters told, destinations flushed, viewers ended, ports closed, leases given
//! up. Each step is bounded; the whole takes at most [`END`].

mod access;
mod origin_http;
mod tasks;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use cdn_publisher::Destination;
use media::Clock;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use origin::Origin;
use signaling::SessionLimiter;
use signaling::auth::{Claims, Keys, Scope, Signer, Verifier};
use signaling::types::ChannelId;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::backend::AnchorBackend;
use crate::channel::manager::{Deps, EMBEDDED_ORIGIN, Manager, StandardDestinations};
use crate::clock;
use crate::config::{Config, Ports};
use crate::events::EventHub;
use crate::http;
use crate::registry::memory::MemoryRegistry;
use crate::registry::redis::{RedisRegistry, Settings};
use crate::registry::{NodeRecord, Registry};
use crate::rlive::RelayView;
use crate::rtmp;
use crate::sfu::Sfu;

use access::StreamAccess;

/// The longest that a clean end takes.
pub const END: Duration = Duration::from_millis(2_800);

/// The longest that one call to the shared registry may take.
const REGISTRY_CALL: Duration = Duration::from_millis(500);

/// What a node consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Ingest, channels, publisher, API and pages.
    pub anchor: bool,
    /// The embedded CDN origin.
    pub origin: bool,
}

impl Parts {
    /// The ports that these parts open besides HTTP.
    #[must_use]
    pub fn ports(self) -> Ports {
        Ports {
            webrtc: self.anchor,
            rtmp: self.origin,
        }
    }

    fn roles(self) -> Vec<String> {
        let named = [(self.anchor, "anchor"), (self.origin, "origin")];
        named
            .iter()
            .filter(|(there, _)| *there)
            .map(|(_, name)| (*name).to_owned())
            .collect()
    }
}

/// Runs a node until SIGINT or SIGTERM.
///
/// # Errors
/// When it cannot start: a bad setting, a port that is taken, a secret that is too short.
pub async fn run(config: Config, parts: Parts) -> anyhow::Result<()> {
    config.validate(parts.ports())?;
    let started = clock::now();
    let metrics = PrometheusBuilder::new()
        .install_recorder()
        .context("metrics")?;
    signaling::describe_metrics();
    cdn_publisher::describe_metrics();
    origin::describe_metrics();
    crate::sfu::describe_metrics();
    crate::rtmp::describe_metrics();
    crate::registry::describe_metrics();

    let verifier = verifier(&config)?.map(Arc::new);
    let manager_slot = Arc::new(OnceLock::new());
    let stop = CancellationToken::new();
    let http_listener = http::bind(config.http.listen, "HTTP (http.listen)").await?;

    let internal_key = format!("{:032x}", rand::random::<u128>());
    let origin = match parts.origin {
        false => None,
        true => {
            let access = StreamAccess::new(
                &config,
                verifier.clone(),
                internal_key.clone(),
                Arc::clone(&manager_slot),
            );
            let origin = Origin::new(config.origin.clone(), Arc::new(access));
            let listener = http::bind(config.rtmp.listen, "RTMP (rtmp.listen)").await?;
            info!(address = %listener.local_addr()?, "RTMP ingest of the origin");
            let (serving, stop) = (origin.clone(), stop.clone());
            tokio::spawn(async move { serving.serve_rtmp(listener, stop).await });
            Some(origin)
        }
    };
    let node = Node {
        config: Arc::new(config),
        parts,
        verifier,
        origin,
        internal_key,
        metrics,
        stop,
    };
    let outcome = match parts.anchor {
        true => node.anchor(http_listener, manager_slot, started).await,
        false => node.origin_only(http_listener).await,
    };
    info!("bye");
    outcome
}

/// What is common to all kinds of node.
struct Node {
    config: Arc<Config>,
    parts: Parts,
    verifier: Option<Arc<Verifier>>,
    origin: Option<Origin>,
    internal_key: String,
    metrics: PrometheusHandle,
    stop: CancellationToken,
}

impl Node {
    async fn anchor(
        self,
        listener: TcpListener,
        manager_slot: Arc<OnceLock<Manager>>,
        started: std::time::Instant,
    ) -> anyhow::Result<()> {
        let clock = Clock::new(started);
        let sfu = Sfu::start(self.config.webrtc.to_sfu(), clock).with_context(|| {
            format!(
                "cannot listen on {} for WebRTC (webrtc.listen)",
                self.config.webrtc.listen
            )
        })?;
        let record = self.record();
        let registry = registry(&self.config, record.clone()).await?;
        let manager = Manager::new(Deps {
            config: Arc::clone(&self.config),
            sfu: sfu.clone(),
            clock,
            events: EventHub::default(),
            origin: self.origin.clone(),
            node_id: record.id,
            playback_base: self
                .config
                .channels
                .playback_url
                .trim_end_matches('/')
                .to_owned(),
            standard_destinations: self.standard_destinations()?,
            registry: Arc::clone(&registry),
        });
        let _ = manager_slot.set(manager.clone());
        let reachability = tasks::self_test(sfu.advertised());
        tasks::end_lost_channels(manager.clone(), self.stop.clone());
        let upkeep = tasks::upkeep(manager.clone(), self.metrics.clone(), self.stop.clone());
        let backend = AnchorBackend::new(manager.clone(), self.metrics.clone(), reachability)
            .with_relays(RelayView::of(&self.config)?);
        let router = signaling::router(Arc::new(backend), self.signaling_config()?);
        let router = match &self.origin {
            Some(origin) => router.merge(origin.router()),
            None => router,
        };
        self.take_rtmp(&manager).await?;
        self.announce(&sfu);
        let serving = self.serve(listener, router);
        ended_by_signal().await;

        let end = async {
            manager.shutdown().await;
            if let Some(origin) = &self.origin {
                origin.shutdown().await;
            }
            self.stop.cancel();
            sfu.shutdown().await;
            registry.leave().await;
            let _ = upkeep.await;
            let _ = serving.await;
        };
        if tokio::time::timeout(END, end).await.is_err() {
            warn!("the end took too long; leaving the rest behind");
        }
        Ok(())
    }

    /// Opens the RTMP port for broadcasters.
    async fn take_rtmp(&self, manager: &Manager) -> anyhow::Result<()> {
        let config = &self.config.rtmp_ingest;
        if !config.enabled {
            return Ok(());
        }
        let listener = http::bind(config.listen, "RTMP (rtmp_ingest.listen)").await?;
        info!(address = %listener.local_addr()?, "RTMP ingest of broadcasters");
        let (burst, rate_per_s) = self.session_limit();
        let limiter = SessionLimiter::new(burst, rate_per_s);
        let (manager, verifier) = (manager.clone(), self.verifier.clone());
        let serving = rtmp::serve(manager, verifier, limiter, listener, self.stop.clone());
        tokio::spawn(serving);
        Ok(())
    }

    /// New sessions of one address: at once, and per second in the long run.
    fn session_limit(&self) -> (u32, f64) {
        match self.config.http.sessions_per_minute_per_ip {
            0 => (u32::MAX, f64::from(u32::MAX)),
            per_minute => (per_minute, f64::from(per_minute) / 60.0),
        }
    }

    async fn origin_only(self, listener: TcpListener) -> anyhow::Result<()> {
        let Some(origin) = &self.origin else {
            return Ok(());
        };
        let router =
            origin_http::router(origin.clone(), self.metrics.clone()).merge(origin.router());
        let serving = self.serve(listener, router);
        ended_by_signal().await;
        let end = async {
            origin.shutdown().await;
            self.stop.cancel();
            let _ = serving.await;
        };
        if tokio::time::timeout(END, end).await.is_err() {
            warn!("the end took too long; leaving the rest behind");
        }
        Ok(())
    }

    fn serve(&self, listener: TcpListener, router: Router) -> tokio::task::JoinHandle<()> {
        let options = http::Options {
            max_connections: self.config.http.max_connections,
            header_timeout: Duration::from_millis(self.config.http.header_timeout_ms),
            drain: Duration::from_millis(self.config.http.drain_ms),
        };
        info!(address = %self.config.http.listen, "HTTP");
        tokio::spawn(http::serve(listener, router, options, self.stop.clone()))
    }

    fn announce(&self, sfu: &Sfu) {
        let url = self.config.public_url();
        info!(address = %sfu.local_address(), advertised = ?sfu.advertised(), "WebRTC");
        info!(
            "console {url}/   studio {url}/studio/demo   watch {url}/watch/demo   WHIP {url}/whip/demo"
        );
        if self.verifier.is_none() {
            info!("no secret is set: everybody who reaches these ports may publish and control");
        }
    }

    fn record(&self) -> NodeRecord {
        let id = match self.config.node.id.as_str() {
            "" => format!("node-{:08x}", rand::random::<u32>()),
            id => id.to_owned(),
        };
        let now_ms = clock::wall_ms();
        NodeRecord {
            id,
            url: self.config.public_url(),
            roles: self.parts.roles(),
            version: env!("CARGO_PKG_VERSION").into(),
            started_at_ms: now_ms,
            seen_at_ms: now_ms,
            channels: 0,
            sessions: 0,
        }
    }

    fn signer(&self) -> anyhow::Result<Option<Signer>> {
        match self.config.auth.secret.as_str() {
            "" => Ok(None),
            secret => Ok(Some(Signer::secret(secret)?)),
        }
    }

    fn signaling_config(&self) -> anyhow::Result<signaling::Config> {
        let (session_burst, session_rate_per_s) = self.session_limit();
        let base = signaling::Config::default();
        let playback = self
            .config
            .channels
            .playback_url
            .trim_end_matches('/')
            .to_owned();
        Ok(signaling::Config {
            verifier: self.verifier.clone(),
            signer: self.signer()?.map(Arc::new),
            max_sdp_bytes: self.config.webrtc.max_sdp_bytes,
            session_burst,
            session_rate_per_s,
            playback_redirect: (self.origin.is_none() && !playback.is_empty())
                .then(|| playback.clone()),
            connect_sources: self.connect_sources(playback),
            shutdown: self.stop.clone(),
            ..base
        })
    }

    /// What pages may connect to beside this node: the origin, and players on the visitor's own machine.
    fn connect_sources(&self, playback: String) -> Vec<String> {
        let local = self.config.origin.substreams.enabled;
        let local = local.then(|| "http://127.0.0.1:*".to_owned());
        let playback = Some(playback).filter(|playback| !playback.is_empty());
        playback.into_iter().chain(local).collect()
    }

    /// The embedded origin, then the configured destinations.
    fn standard_destinations(&self) -> anyhow::Result<StandardDestinations> {
        let signer = self.signer()?;
        let embedded = self.parts.origin.then(|| {
            let app = &self.config.origin.rtmp_app;
            let port = self.config.rtmp.listen.port();
            let host = loopback_of(self.config.rtmp.listen);
            format!(
                "rtmp://{host}:{port}/{app}/{{channel}}?token={}",
                self.internal_key
            )
        });
        let configured = self.config.channels.destinations.clone();
        Ok(Arc::new(move |channel: &ChannelId| {
            let fill = |template: &str| {
                let url = template.replace("{channel}", channel.as_str());
                match (&signer, url.contains("{token}")) {
                    (Some(signer), true) => url.replace("{token}", &stream_token(signer, channel)),
                    _ => url,
                }
            };
            let embedded = embedded.iter().map(|url| Destination {
                name: EMBEDDED_ORIGIN.into(),
                url: fill(url),
            });
            let configured = configured.iter().enumerate().map(|(n, url)| Destination {
                name: format!("standard-{}", n + 1),
                url: fill(url),
            });
            embedded.chain(configured).collect()
        }))
    }
}

/// A token with which this node's publisher may publish one channel to an origin. It has no end: the connection of
/// a channel has none either.
fn stream_token(signer: &Signer, channel: &ChannelId) -> String {
    let claims = Claims {
        scope: vec![Scope::Publish],
        channel: Some(channel.clone()),
        ..Claims::default()
    };
    signer.sign(&claims).unwrap_or_default()
}

/// How to reach our own port from our own process.
fn loopback_of(listen: std::net::SocketAddr) -> String {
    match (listen.ip().is_unspecified(), listen.is_ipv4()) {
        (true, true) => "127.0.0.1".into(),
        (true, false) => "[::1]".into(),
        (false, true) => listen.ip().to_string(),
        (false, false) => format!("[{}]", listen.ip()),
    }
}

fn verifier(config: &Config) -> anyhow::Result<Option<Verifier>> {
    let public_key = match &config.auth.public_key_file {
        Some(path) => Some(
            std::fs::read_to_string(path)
                .with_context(|| format!("auth.public_key_file {}", path.display()))?,
        ),
        None => None,
    };
    let secret = Some(config.auth.secret.clone()).filter(|secret| !secret.is_empty());
    let keys = Keys {
        secret,
        public_key,
        leeway_s: 30,
        ..Keys::default()
    };
    Verifier::new(&keys).context("auth")
}

async fn registry(config: &Config, node: NodeRecord) -> anyhow::Result<Arc<dyn Registry>> {
    let shared = &config.registry;
    if shared.redis_url.is_empty() {
        return Ok(Arc::new(MemoryRegistry::new(node)));
    }
    let lease_ttl = Duration::from_millis(shared.lease_ttl_ms);
    let settings = Settings {
        url: shared.redis_url.clone(),
        key_prefix: shared.key_prefix.clone(),
        lease_ttl,
        call_timeout: (lease_ttl / 6).min(REGISTRY_CALL),
    };
    let registry = RedisRegistry::start(settings, node).await;
    Ok(Arc::new(registry.context("registry.redis_url")?))
}

/// Returns at the first SIGINT or SIGTERM; a second one ends the process at once.
pub(crate) async fn ended_by_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        warn!("signals cannot be watched; end the process with SIGKILL");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    info!("ending; a second signal ends at once");
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(130);
    });
}
