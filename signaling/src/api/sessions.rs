//! What WHIP and WHEP have in common: admission, the answer, `PATCH` and `DELETE` of a session.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::oneshot;

use super::App;
use super::extract::Caller;
use crate::backend::{Direction, Error, IceServer, Session, SessionRef};
use crate::clock;
use crate::problem::Problem;
use crate::types::ChannelId;

const FRAGMENT: HeaderValue = HeaderValue::from_static("application/trickle-ice-sdpfrag");
const PARTICIPANT: HeaderName = HeaderName::from_static("x-participant");

/// Runs `work` to its end even if the peer hangs up: half-done changes are worse than unheard answers.
pub(super) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Problem> {
    use tracing::Instrument;
    let task = tokio::spawn(work.in_current_span());
    let ended = task
        .await
        .unwrap_or_else(|error| Err(Error::Internal(error.to_string())));
    ended.map_err(Problem::from)
}

/// `429` when the peer opened too many sessions lately.
pub(super) fn admit(app: &App, peer: IpAddr) -> Result<(), Problem> {
    if app.config.session_burst == 0 {
        return Ok(());
    }
    let mut limiter = app
        .limiter
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    limiter.admit(clock::now(), peer).map_err(|retry_after_s| {
        metrics::counter!("anchornet_http_sessions_limited_total").increment(1);
        Error::TooManyRequests { retry_after_s }.into()
    })
}

/// Opens a session; closes it again when the peer hung up before the answer, because nobody else would.
pub(super) async fn open(
    app: &App,
    channel: ChannelId,
    direction: Direction,
    opening: impl Future<Output = Result<Session, Error>> + Send + 'static,
) -> Result<Session, Problem> {
    use tracing::Instrument;
    let (answer, answered) = oneshot::channel();
    let backend = app.backend.clone();
    let work = async move {
        if let Err(Ok(unheard)) = answer.send(opening.await) {
            tracing::info!(session = %unheard.id, "the peer hung up before the answer");
            let session = SessionRef {
                channel,
                id: unheard.id,
                direction,
            };
            let _ = backend.session_delete(&session).await;
        }
    };
    tokio::spawn(work.in_current_span());
    let ended = answered
        .await
        .unwrap_or_else(|_| Err(Error::Internal("the answer was lost".to_owned())));
    ended.map_err(Problem::from)
}

/// `201` with everything that RFC 9725 section 4.2 asks for. `base` is the path that the session id is added to.
pub(super) fn created(base: &str, caller: &Caller, session: &Session) -> Response {
    let mut location = format!("{base}/sessions/{}", session.id);
    if let Some(token) = &caller.query_token {
        location.push_str("?token=");
        location.push_str(token);
    }
    let mut response = (StatusCode::CREATED, session.answer.clone()).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/sdp"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("accept-patch"), FRAGMENT);
    insert(headers, header::LOCATION, &location);
    insert(headers, header::ETAG, &format!("\"{}\"", session.etag));
    if let Some(participant) = &session.participant {
        insert(headers, PARTICIPANT, participant.as_str());
    }
    for link in session.ice_servers.iter().map(link) {
        if let Ok(link) = HeaderValue::from_str(&link) {
            headers.append(header::LINK, link);
        }
    }
    response
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) => drop(headers.insert(name, value)),
        Err(_) => tracing::error!(%name, "a header value of the backend is not printable"),
    }
}

/// RFC 9725 section 4.6. Quoted strings are escaped, the URL has no angle brackets by its grammar.
fn link(server: &IceServer) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut link = format!(
        "<{}>; rel=\"ice-server\"",
        server.url.replace(['<', '>'], "")
    );
    if let Some((username, credential)) = &server.credentials {
        link += &format!(
            "; username={}; credential={}",
            quoted(username),
            quoted(credential)
        );
        link += "; credential-type=\"password\"";
    }
    link
}

/// The entity tag of `If-Match`, without quotes; `None` for `*`.
fn if_match(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let missing = || {
        let detail = "If-Match must name the session's entity tag, or * for an ICE restart";
        Problem::new(StatusCode::PRECONDITION_REQUIRED, detail).at("If-Match")
    };
    let value = headers.get(header::IF_MATCH).ok_or_else(missing)?;
    let value = value
        .to_str()
        .map_err(|_| Problem::from(Error::PreconditionFailed))?
        .trim();
    Ok((value != "*").then(|| value.trim_matches('"').to_owned()))
}

/// `PATCH`: `204` for candidates, `200` with a fragment for an ICE restart.
pub(super) async fn patch(
    app: &App,
    headers: &HeaderMap,
    session: SessionRef,
    fragment: String,
) -> Result<Response, Problem> {
    let if_match = if_match(headers)?;
    let backend = app.backend.clone();
    let patching = async move { backend.session_patch(&session, if_match, fragment).await };
    let Some(patched) = to_the_end(patching).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let mut response = patched.fragment.into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, FRAGMENT);
    insert(
        response.headers_mut(),
        header::ETAG,
        &format!("\"{}\"", patched.etag),
    );
    Ok(response)
}

/// `DELETE`: `200` (RFC 9725 section 4.2).
pub(super) async fn delete(app: &App, session: SessionRef) -> Result<Response, Problem> {
    let backend = app.backend.clone();
    to_the_end(async move { backend.session_delete(&session).await }).await?;
    Ok(StatusCode::OK.into_response())
}
