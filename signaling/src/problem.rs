//! Errors on the wire: `application/problem+json` (RFC 9457) for every status, also those of the framework.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::backend::Error;
use crate::types::Invalid;

/// The body of every error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem; stable.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "urn:anchornet:problem:conflict")]
    pub kind: Box<str>,
    /// The kind in words.
    #[schema(value_type = String)]
    pub title: Box<str>,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// The field or parameter at fault, if one is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// For `Retry-After`.
    #[serde(skip)]
    pub(crate) retry_after_s: Option<u32>,
    /// The node to go to: the request's path and query are added on the way out.
    #[serde(skip)]
    pub(crate) elsewhere: Option<Elsewhere>,
}

/// Rides on the response to the outermost layer, which knows the whole request target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    pub(crate) base_url: String,
}

impl Problem {
    /// A problem of `status`, named after the status.
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self {
            kind: format!(
                "urn:anchornet:problem:{}",
                title.to_ascii_lowercase().replace(' ', "-")
            )
            .into(),
            title: title.into(),
            status: status.as_u16(),
            detail: detail.into(),
            field: None,
            retry_after_s: None,
            elsewhere: None,
        }
    }

    pub(crate) fn invalid(status: StatusCode, invalid: Invalid) -> Self {
        Self {
            field: Some(invalid.field),
            ..Self::new(status, invalid.reason)
        }
    }

    pub(crate) fn at(self, field: &str) -> Self {
        Self {
            field: Some(field.to_owned()),
            ..self
        }
    }

    fn retry_after(self, seconds: u64) -> Self {
        Self {
            retry_after_s: Some(u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)),
            ..self
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        let plain = |status| Self::new(status, detail.clone());
        match error {
            Error::BadSdp(_) => plain(StatusCode::BAD_REQUEST),
            Error::Malformed(invalid) => Self::invalid(StatusCode::BAD_REQUEST, invalid),
            Error::Unauthorized(_) => plain(StatusCode::UNAUTHORIZED),
            Error::Forbidden(_) => plain(StatusCode::FORBIDDEN),
            Error::NotFound(_) => plain(StatusCode::NOT_FOUND),
            Error::Conflict(_) => plain(StatusCode::CONFLICT),
            Error::PreconditionFailed => plain(StatusCode::PRECONDITION_FAILED),
            Error::Unprocessable(invalid) => {
                Self::invalid(StatusCode::UNPROCESSABLE_ENTITY, invalid)
            }
            Error::TooManyRequests { retry_after_s } => {
                plain(StatusCode::TOO_MANY_REQUESTS).retry_after(retry_after_s)
            }
            Error::Unavailable { retry_after_s, .. } => {
                plain(StatusCode::SERVICE_UNAVAILABLE).retry_after(retry_after_s)
            }
            Error::NotImplemented(_) => plain(StatusCode::NOT_IMPLEMENTED),
            Error::Timeout(_) => plain(StatusCode::GATEWAY_TIMEOUT),
            Error::OwnedElsewhere { base_url } => Self {
                elsewhere: Some(Elsewhere { base_url }),
                ..plain(StatusCode::TEMPORARY_REDIRECT)
            },
            Error::Internal(why) => {
                tracing::error!(%why, "a request failed by our fault");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "see the log of the server",
                )
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(elsewhere) = self.elsewhere {
            response.extensions_mut().insert(elsewhere);
        }
        response
    }
}
