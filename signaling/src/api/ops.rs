//! Health, readiness, metrics, and the way to the origin.

use axum::Json as Body;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::App;
use super::extract::Caller;
use crate::auth::Scope;
use crate::backend::Error;
use crate::problem::Problem;
use crate::types::{Health, Readiness};

/// The process answers.
#[utoipa::path(get, path = "/healthz", tag = "operations", security(()), responses((status = 200, body = Health)))]
pub(super) async fn healthz() -> Body<Health> {
    Body(Health {
        status: "ok".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// Whether this node can serve: `200` for ready and degraded, `503` when it cannot.
#[utoipa::path(get, path = "/readyz", tag = "operations", security(()),
    responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
pub(super) async fn readyz(State(app): State<App>) -> (StatusCode, Body<Readiness>) {
    let readiness = app.backend.readiness().await;
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Body(readiness))
}

/// May read metrics: everybody if the configuration says so.
pub(super) struct MayScrape;

impl FromRequestParts<App> for MayScrape {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        if !app.config.open_metrics {
            Caller::from_request_parts(parts, app)
                .await?
                .may(&[Scope::Admin], None)?;
        }
        Ok(Self)
    }
}

/// Metrics in the Prometheus text format. Needs the scope `admin` unless configured open.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(app): State<App>, _: MayScrape) -> Response {
    let text = app.backend.metrics().await;
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text,
    )
        .into_response()
}

/// Playback lives at the origin, which is another process.
pub(super) async fn playback_elsewhere(State(app): State<App>) -> Problem {
    let base_url = app.config.playback_redirect.clone().unwrap_or_default();
    Error::OwnedElsewhere { base_url }.into()
}
