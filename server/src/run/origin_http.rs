//! The HTTP surface of a node that is only an origin: health, metrics, and what streams there are.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use origin::{Origin, StreamStats};
use serde::Serialize;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
}

const OK: Health = Health {
    status: "ok",
    version: env!("CARGO_PKG_VERSION"),
};

/// `/healthz`, `/readyz`, `/metrics` and `/api/v1/streams`.
pub(super) fn router(origin: Origin, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/healthz", get(|| async { Json(OK) }))
        .route("/readyz", get(|| async { Json(OK) }))
        .route("/metrics", get(move || async move { metrics.render() }))
        .route("/api/v1/streams", get(streams))
        .with_state(origin)
}

async fn streams(State(origin): State<Origin>) -> Json<Vec<StreamStats>> {
    Json(origin.streams())
}
