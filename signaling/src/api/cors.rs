//! Cross-origin access: pages on other hosts may broadcast, and with a token control.
//!
//! Nothing here uses cookies, so `*` gives a foreign page nothing that it could not do by itself, with one
//! exception: a server on loopback without authorisation is reachable by any page in the operator's browser.
//! So without authorisation the control API is shared with pages on loopback only.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::config::Config;

const METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
const HEADERS: HeaderValue =
    HeaderValue::from_static("Authorization, Content-Type, If-Match, Last-Event-ID, X-Request-Id");
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "Location, ETag, Link, Accept-Patch, Retry-After, WWW-Authenticate, X-Participant, X-Request-Id",
);
const SDP: HeaderValue = HeaderValue::from_static("application/sdp");
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// What one request is answered with.
pub(super) struct Cors {
    allow_origin: Option<HeaderValue>,
    takes_offers: bool,
}

impl Cors {
    pub(super) fn of(config: &Config, request: &Request) -> Self {
        let path = request.uri().path();
        let takes_offers = path.starts_with("/whip/") || path.starts_with("/whep/");
        let allow_origin = if takes_offers || config.verifier.is_some() {
            Some(HeaderValue::from_static("*"))
        } else {
            loopback_origin(request.headers())
        };
        Self {
            allow_origin,
            takes_offers,
        }
    }

    /// The answer to `OPTIONS`, whether or not it is a preflight (RFC 9725 asks for `Accept-Post`).
    pub(super) fn preflight(&self) -> Response {
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        headers.insert(header::ALLOW, METHODS);
        if self.takes_offers {
            headers.insert(ACCEPT_POST, SDP);
        }
        if self.allow_origin.is_some() {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        }
        response
    }

    /// Lets the page read the answer.
    pub(super) fn expose(&self, response: &mut Response) {
        let headers = response.headers_mut();
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = &self.allow_origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
}

/// The request's `Origin`, if it is a page of this machine.
fn loopback_origin(headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    let authority = origin
        .to_str()
        .ok()?
        .parse::<axum::http::Uri>()
        .ok()?
        .into_parts()
        .authority?;
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let loopback = host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    loopback.then(|| origin.clone())
}
