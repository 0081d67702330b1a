//! WHIP over HTTP (RFC 9725): post an offer, keep the session's URL, delete it at the end.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};

/// How long a server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the goodbye may take.
const DELETE_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest answer accepted, in bytes.
const MAX_ANSWER_BYTES: usize = 256 << 10;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum WhipError {
    /// The server cannot be reached, or hung up.
    #[error("cannot reach the server: {0}")]
    Unreachable(String),
    /// The server said no.
    #[error("the server answered {status}: {detail}")]
    Refused {
        status: StatusCode,
        /// The server's words.
        detail: String,
        /// When it asks to come back.
        retry_after: Option<Duration>,
    },
    /// The answer breaks the protocol.
    #[error("the server's answer is unusable: {0}")]
    BadAnswer(&'static str),
}

impl WhipError {
    /// Whether the same request may succeed later.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { status, .. } => {
                status.is_server_error() || matches!(status.as_u16(), 408 | 409 | 425 | 429)
            }
            Self::BadAnswer(_) => false,
        }
    }

    /// How long the server asks to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Unreachable(_) | Self::BadAnswer(_) => None,
        }
    }
}

/// A session on the server.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    url: Url,
    token: Option<String>,
}

/// Posts an offer; returns the session and the SDP answer.
///
/// # Errors
/// [`WhipError`].
pub(super) async fn post(
    client: &Client,
    url: &Url,
    token: Option<&str>,
    offer: String,
) -> Result<(Session, String), WhipError> {
    let mut request = client
        .post(url.clone())
        .timeout(ANSWER_TIMEOUT)
        .header(CONTENT_TYPE, "application/sdp")
        .body(offer);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER);
    let retry_after = retry_after
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let base = response.url().clone();
    let location = response.headers().get(LOCATION).cloned();
    let body = response.text().await.map_err(unreachable)?;
    if status != StatusCode::CREATED {
        return Err(WhipError::Refused {
            status,
            detail: problem(&body),
            retry_after,
        });
    }
    if body.len() > MAX_ANSWER_BYTES {
        return Err(WhipError::BadAnswer("it is too large"));
    }
    let location = location.ok_or(WhipError::BadAnswer("it has no Location"))?;
    let location = location.to_str().ok().and_then(|path| base.join(path).ok());
    let session = Session {
        client: client.clone(),
        url: location.ok_or(WhipError::BadAnswer("its Location is not a URL"))?,
        token: token.map(str::to_owned),
    };
    Ok((session, body))
}

impl Session {
    /// Ends the session, politely but without insisting.
    pub(super) async fn delete(self) {
        let mut request = self.client.delete(self.url).timeout(DELETE_TIMEOUT);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Err(error) = request.send().await {
            tracing::debug!(%error, "the session could not be deleted");
        }
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn unreachable(error: reqwest::Error) -> WhipError {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    WhipError::Unreachable(text)
}

/// What a problem document (RFC 9457) says, or the beginning of any other body.
fn problem(body: &str) -> String {
    let document: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let field = |name: &str| {
        let value = document.as_ref()?.get(name)?.as_str()?;
        Some(value.to_owned())
    };
    let text = field("detail").or_else(|| field("title"));
    text.unwrap_or_else(|| body.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_quoted_in_the_servers_words() {
        let body = r#"{"title":"Conflict","detail":"host already live"}"#;
        assert_eq!(problem(body), "host already live");
        assert_eq!(problem("plain"), "plain");
    }

    #[test]
    fn refusals_that_will_not_change_are_final() {
        let refused = |code| WhipError::Refused {
            status: StatusCode::from_u16(code).expect("valid"),
            detail: String::new(),
            retry_after: None,
        };
        assert!(refused(409).is_temporary() && refused(503).is_temporary());
        assert!(!refused(401).is_temporary() && !refused(404).is_temporary());
        assert!(!refused(422).is_temporary());
    }
}
