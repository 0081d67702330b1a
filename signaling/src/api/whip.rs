//! WHIP: broadcasters come in (RFC 9725).

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::extract::{AtSession, Caller, Fragment, InChannel, Offer, Params};
use super::sessions;
use crate::auth::Scope;
use crate::backend::{Direction, Error, PublishRequest};
use crate::problem::Problem;
use crate::types::{ChannelId, ParticipantId, Role, SessionId};

/// Who the broadcaster wants to be.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct As {
    /// Participant id; a fresh one when absent. The same id again takes the place over.
    #[serde(default)]
    participant: Option<ParticipantId>,
    /// The first publisher of a channel is its host when absent.
    #[serde(default)]
    role: Option<Role>,
}

/// Fills in what the token fixes, and refuses what it forbids.
fn restricted(caller: &Caller, wanted: As) -> Result<As, Problem> {
    let Some(claims) = &caller.claims else {
        return Ok(wanted);
    };
    let forbidden = |field: &str| {
        let detail = format!("the token is for another {field}");
        Err(Problem::from(Error::Forbidden(detail)).at(field))
    };
    if claims.participant.is_some()
        && wanted.participant.is_some()
        && claims.participant != wanted.participant
    {
        return forbidden("participant");
    }
    if claims.role.is_some() && wanted.role.is_some() && claims.role != wanted.role {
        return forbidden("role");
    }
    Ok(As {
        participant: wanted.participant.or_else(|| claims.participant.clone()),
        role: wanted.role.or(claims.role),
    })
}

/// Broadcast in a channel.
///
/// Takes an SDP offer with H.264 and Opus, answers with an SDP answer. `Location` is the session, `ETag` its ICE
/// session, `Link` the ICE servers, `X-Participant` the participant id. Needs the scope `publish`.
#[utoipa::path(post, path = "/whip/{channel}", tag = "broadcasters", params(("channel" = ChannelId, Path), As),
    request_body(content = String, content_type = "application/sdp"),
    responses((status = 201, body = String, content_type = "application/sdp",
        headers(("Location" = String), ("ETag" = String), ("Link" = String), ("Accept-Patch" = String), ("X-Participant" = String)))))]
pub(super) async fn publish(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
    Params(wanted): Params<As>,
    Offer(offer): Offer,
) -> Result<Response, Problem> {
    caller.may(&[Scope::Publish], Some(&channel))?;
    let wanted = restricted(&caller, wanted)?;
    sessions::admit(&app, caller.remote_ip)?;
    let base = format!("/whip/{channel}");
    let request = PublishRequest {
        channel: channel.clone(),
        participant: wanted.participant,
        role: wanted.role,
        offer,
        claims: caller.claims.clone(),
        remote_ip: caller.remote_ip,
    };
    let backend = app.backend.clone();
    let session = sessions::open(&app, channel, Direction::Publish, async move {
        backend.publish(request).await
    })
    .await?;
    Ok(sessions::created(&base, &caller, &session))
}

/// Trickle candidates, or restart ICE.
///
/// Needs `If-Match` with the entity tag, `*` for an ICE restart (RFC 9725 section 4.3), and the scope `publish`.
#[utoipa::path(patch, path = "/whip/{channel}/sessions/{session}", tag = "broadcasters",
    params(("channel" = ChannelId, Path), ("session" = SessionId, Path), ("If-Match" = String, Header)),
    request_body(content = String, content_type = "application/trickle-ice-sdpfrag"),
    responses((status = 204, description = "candidates taken"),
        (status = 200, body = String, content_type = "application/trickle-ice-sdpfrag", headers(("ETag" = String)))))]
pub(super) async fn patch(
    State(app): State<App>,
    AtSession(session): AtSession,
    headers: HeaderMap,
    Fragment(fragment): Fragment,
) -> Result<Response, Problem> {
    sessions::patch(&app, &headers, session, fragment).await
}

/// Leave the channel. Needs the scope `publish`.
#[utoipa::path(delete, path = "/whip/{channel}/sessions/{session}", tag = "broadcasters",
    params(("channel" = ChannelId, Path), ("session" = SessionId, Path)),
    responses((status = 200, description = "ended")))]
pub(super) async fn delete(
    State(app): State<App>,
    AtSession(session): AtSession,
) -> Result<Response, Problem> {
    sessions::delete(&app, session).await
}
