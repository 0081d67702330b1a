//! The router: which path is served by what, and the layers around all of it.
//!
//! Invariants: routes are registered through utoipa, so the OpenAPI document cannot miss one; whatever no
//! handler takes is answered as a problem too.

mod channels;
mod context;
mod control;
mod cors;
mod destinations;
mod events;
mod extract;
mod invites;
mod links;
mod observe;
mod openapi;
mod ops;
mod participants;
mod sessions;
mod slate;
mod whep;
mod whip;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get};
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::backend::Backend;
use crate::config::Config;
use crate::limit::Limiter;
use crate::pages;
use crate::problem::Problem;

pub(crate) use context::describe_metrics;

/// What every handler can reach.
#[derive(Clone)]
pub(crate) struct App {
    backend: Arc<dyn Backend>,
    config: Arc<Config>,
    limiter: Arc<Mutex<Limiter>>,
    event_streams: Arc<Semaphore>,
    openapi: Arc<str>,
}

impl App {
    /// Where the pages may connect to besides this server.
    pub(crate) fn connect_sources(&self) -> impl Iterator<Item = String> {
        let origin = self
            .config
            .playback_redirect
            .as_deref()
            .map(|base| base.trim_end_matches('/'));
        let sockets = origin
            .and_then(|base| base.strip_prefix("http"))
            .map(|rest| format!("ws{rest}"));
        let more = self.config.connect_sources.iter().cloned();
        origin
            .map(str::to_owned)
            .into_iter()
            .chain(sockets)
            .chain(more)
    }
}

/// The whole HTTP surface: API, WHIP, WHEP, events, pages, health and metrics.
///
/// Merge the origin's router into it for playback, or set [`Config::playback_redirect`]. Connections must carry
/// `ConnectInfo<SocketAddr>`: without it every peer is taken for loopback.
pub fn router(backend: Arc<dyn Backend>, config: Config) -> Router {
    let (router, mut document) = api().split_for_parts();
    openapi::complete(&mut document);
    let mut router = router
        .route("/api/v1/openapi.json", get(openapi::document))
        .route("/", get(pages::console))
        .route("/studio/{channel}", get(pages::studio))
        .route("/watch/{channel}", get(pages::watch));
    if config.playback_redirect.is_some() {
        router = router.route("/live/{*path}", any(ops::playback_elsewhere));
    }
    let app = App {
        backend,
        limiter: Arc::new(Mutex::new(Limiter::new(
            config.session_burst,
            config.session_rate_per_s,
        ))),
        event_streams: Arc::new(Semaphore::new(config.max_event_streams)),
        openapi: document.to_json().unwrap_or_default().into(),
        config: Arc::new(config),
    };
    router
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(pages::file_or_not_found)
        .layer(from_fn_with_state(app.clone(), context::wrap))
        .with_state(app)
}

/// The documented routes.
fn api() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(whip::publish))
        .routes(routes!(whip::patch, whip::delete))
        .routes(routes!(whep::program))
        .routes(routes!(whep::participant))
        .routes(routes!(whep::patch, whep::delete))
        .routes(routes!(channels::list, channels::create))
        .routes(routes!(channels::get, channels::update, channels::delete))
        .routes(routes!(control::set_mode))
        .routes(routes!(control::set_layout))
        .routes(routes!(control::switches))
        .routes(routes!(slate::set))
        .routes(routes!(slate::upload, slate::download, slate::remove))
        .routes(routes!(participants::list))
        .routes(routes!(participants::update, participants::remove))
        .routes(routes!(invites::create))
        .routes(routes!(links::list, links::create))
        .routes(routes!(links::remove))
        .routes(routes!(destinations::list, destinations::replace))
        .routes(routes!(observe::stats))
        .routes(routes!(observe::nodes))
        .routes(routes!(observe::relays))
        .routes(routes!(events::stream))
        .routes(routes!(ops::healthz))
        .routes(routes!(ops::readyz))
        .routes(routes!(ops::metrics))
}

/// The OpenAPI 3.1 document, as it is served.
pub fn openapi_document() -> String {
    let mut document = api().into_openapi();
    openapi::complete(&mut document);
    document.to_pretty_json().unwrap_or_default()
}

async fn method_not_allowed(method: axum::http::Method, uri: Uri) -> Problem {
    let detail = format!("{method} is not possible at {}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}
