//! The routes of viewers: `/live/{channel}.flv` over HTTP and web sockets, and HLS and substreams below
//! `/live/{channel}/`.
//!
//! Everything is readable from any web page (CORS `*`, no credentials) and errors are RFC 9457 problem documents.

mod connection;
mod feeds;
mod flv;
mod hls;
mod problem;
mod serve;
mod ws;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, options};
use serde::Deserialize;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::hub::{Hub, is_name};
pub use connection::Connection;
use problem::Problem;
pub(crate) use serve::serve;

/// How long browsers may remember the answer to a preflight request.
const PREFLIGHT_MAX_AGE_S: &str = "86400";

pub(crate) fn router(hub: Arc<Hub>) -> Router {
    let any_page = HeaderValue::from_static("*");
    Router::new()
        .route("/live/{file}", get(file).merge(options(preflight)))
        .route(
            "/live/{channel}/{file}",
            get(hls::file).merge(options(preflight)),
        )
        .merge(feeds::router())
        .layer(SetResponseHeaderLayer::overriding(
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            any_page,
        ))
        .with_state(hub)
}

/// The token of a viewer: `?token=` or `Authorization: Bearer`.
struct Token {
    value: Option<String>,
    /// It came in the URL, so that URLs derived from it must carry it too.
    in_query: bool,
}

#[derive(Deserialize)]
struct TokenQuery {
    token: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Token {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let query = Query::<TokenQuery>::from_request_parts(parts, state).await;
        let token = query.ok().and_then(|Query(query)| query.token);
        let in_query = token.is_some();
        Ok(Self {
            value: token.or_else(|| bearer(&parts.headers)),
            in_query,
        })
    }
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim().to_owned())
}

/// `/live/{channel}.flv`: a web socket when the client asks to upgrade, an endless response otherwise.
async fn file(
    State(hub): State<Arc<Hub>>,
    Path(file): Path<String>,
    token: Token,
    request: Request,
) -> Result<Response, Problem> {
    let name = file
        .strip_suffix(".flv")
        .filter(|name| is_name(name))
        .ok_or_else(Problem::unknown)?;
    hub.access.may_view(name, token.value.as_deref())?;
    let entry = hub.find(name)?;
    if ws::is_upgrade(request.headers()) {
        return ws::upgrade(&hub, entry, request).await;
    }
    if request.method() == axum::http::Method::HEAD {
        return Ok(flv::head());
    }
    flv::response(&hub, entry, &request)
}

async fn preflight() -> impl IntoResponse {
    const ALLOW: [(HeaderName, &str); 3] = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, range, content-type",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE_S),
    ];
    (axum::http::StatusCode::NO_CONTENT, ALLOW)
}
