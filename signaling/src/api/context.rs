//! The outermost layer: request id, log span, timeout, CORS, redirects to other nodes, metrics.

use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use super::{App, cors};
use crate::clock;
use crate::problem::{Elsewhere, Problem};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Wraps every request.
pub(super) async fn wrap(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = clock::now();
    let id = uuid::Uuid::new_v4().simple().to_string();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("other", |path| path.as_str())
        .to_owned();
    // The query stays out of the log: it may hold a token.
    let path = request.uri().path();
    let span = tracing::info_span!("http", request = %id, method = %request.method(), path);
    let cors = cors::Cors::of(&app.config, &request);
    let target = Target::of(&request);
    let mut response = if request.method() == Method::OPTIONS {
        cors.preflight()
    } else {
        run(next, request, app.config.request_timeout)
            .instrument(span.clone())
            .await
    };
    if let Some(elsewhere) = response.extensions_mut().remove::<Elsewhere>() {
        target.redirect(&elsewhere, &mut response);
    }
    cors.expose(&mut response);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let elapsed = clock::now().saturating_duration_since(started);
    span.in_scope(|| log(response.status(), elapsed));
    count(&route, response.status(), elapsed);
    response
}

async fn run(next: Next, request: Request, limit: Duration) -> Response {
    let answered = tokio::time::timeout(limit, next.run(request)).await;
    answered.unwrap_or_else(|_| {
        let detail = format!("no answer within {} ms", limit.as_millis());
        Problem::new(StatusCode::GATEWAY_TIMEOUT, detail).into_response()
    })
}

fn log(status: StatusCode, elapsed: Duration) {
    let (status_code, elapsed_ms) = (status.as_u16(), elapsed.as_secs_f64() * 1e3);
    if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED {
        tracing::warn!(status_code, elapsed_ms, "answered");
    } else {
        tracing::debug!(status_code, elapsed_ms, "answered");
    }
}

fn count(route: &str, status: StatusCode, elapsed: Duration) {
    let route = route.to_owned();
    let status = status.as_str().to_owned();
    metrics::counter!("anchornet_http_requests_total", "route" => route.clone(), "status" => status).increment(1);
    metrics::histogram!("anchornet_http_request_seconds", "route" => route)
        .record(elapsed.as_secs_f64());
}

/// Names and meanings of this crate's metrics.
pub(crate) fn describe_metrics() {
    metrics::describe_counter!(
        "anchornet_http_requests_total",
        "HTTP requests answered, by route and status"
    );
    metrics::describe_histogram!(
        "anchornet_http_request_seconds",
        metrics::Unit::Seconds,
        "Time from the head of a request to the head of its response, by route"
    );
    metrics::describe_counter!(
        "anchornet_http_sessions_limited_total",
        "WHIP and WHEP sessions refused because their address opened too many"
    );
    metrics::describe_gauge!("anchornet_http_event_streams", "Readers of /api/v1/events");
}

/// What a redirect to another node must repeat.
struct Target {
    uri: Uri,
    bearer: Option<String>,
}

impl Target {
    fn of(request: &Request) -> Self {
        let bearer = super::extract::bearer(request.headers());
        Self {
            uri: request.uri().clone(),
            bearer: bearer.map(str::to_owned),
        }
    }

    /// Browsers drop `Authorization` on redirects to another host, so the token moves into the query.
    fn redirect(&self, elsewhere: &Elsewhere, response: &mut Response) {
        let path_and_query = self
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let base = elsewhere.base_url.trim_end_matches('/');
        let mut location = format!("{base}{path_and_query}");
        if let (Some(token), None) = (&self.bearer, super::extract::query_token(&self.uri)) {
            location.push(if self.uri.query().is_some() { '&' } else { '?' });
            location.push_str("token=");
            location.push_str(token);
        }
        match HeaderValue::from_str(&location) {
            Ok(location) => {
                response.headers_mut().insert(header::LOCATION, location);
            }
            Err(_) => {
                tracing::error!(base, "the owner's address is not usable");
                let detail = "the address of the channel's node is not usable";
                *response = Problem::new(StatusCode::BAD_GATEWAY, detail).into_response();
            }
        }
    }
}
