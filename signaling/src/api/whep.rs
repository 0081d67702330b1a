//! WHEP: WebRTC out, of one participant for its co-broadcasters or of the program for viewers.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::extract::{AtSession, Caller, Fragment, InChannel, OfParticipant, Offer, Params};
use super::sessions;
use crate::auth::Scope;
use crate::backend::{Direction, PlayRequest};
use crate::problem::Problem;
use crate::types::{ChannelId, ParticipantId, SessionId};

/// What the viewer can make use of.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Of a picture that is published in several sizes, none higher than this, in pixels, if there is one.
    #[serde(default)]
    max_height: Option<u32>,
}

async fn play(
    app: &App,
    caller: &Caller,
    channel: ChannelId,
    participant: Option<ParticipantId>,
    wanted: Wanted,
    offer: String,
) -> Result<Response, Problem> {
    sessions::admit(app, caller.remote_ip)?;
    let base = format!("/whep/{channel}");
    let request = PlayRequest {
        channel: channel.clone(),
        participant,
        max_height: wanted.max_height,
        offer,
        claims: caller.claims.clone(),
        remote_ip: caller.remote_ip,
    };
    let backend = app.backend.clone();
    let session = sessions::open(app, channel, Direction::Play, async move {
        backend.play(request).await
    })
    .await?;
    Ok(sessions::created(&base, caller, &session))
}

/// Watch the program by WebRTC.
///
/// What viewers of the other protocols see and hear, as H.264 and Opus, as late as the program delay. The picture begins with
/// the next keyframe; a session that is opened before the show waits for it. Needs the scope `view`.
#[utoipa::path(post, path = "/whep/{channel}", tag = "viewers", params(("channel" = ChannelId, Path)),
    request_body(content = String, content_type = "application/sdp"),
    responses((status = 201, body = String, content_type = "application/sdp",
        headers(("Location" = String), ("ETag" = String), ("Link" = String), ("Accept-Patch" = String)))))]
pub(super) async fn program(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
    Offer(offer): Offer,
) -> Result<Response, Problem> {
    caller.may(&[Scope::View], Some(&channel))?;
    play(&app, &caller, channel, None, Wanted::default(), offer).await
}

/// Watch one participant in real time.
///
/// The offer must have H.264 with `packetization-mode=1`, or no picture. Of a picture that is published in several sizes
/// the largest is sent that the path carries and `max_height` allows. Needs the scope `publish` or `control`.
#[utoipa::path(post, path = "/whep/{channel}/{participant}", tag = "broadcasters",
    params(("channel" = ChannelId, Path), ("participant" = ParticipantId, Path), Wanted),
    request_body(content = String, content_type = "application/sdp"),
    responses((status = 201, body = String, content_type = "application/sdp",
        headers(("Location" = String), ("ETag" = String), ("Link" = String), ("Accept-Patch" = String)))))]
pub(super) async fn participant(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
    OfParticipant(participant): OfParticipant,
    Params(wanted): Params<Wanted>,
    Offer(offer): Offer,
) -> Result<Response, Problem> {
    caller.may(&[Scope::Publish, Scope::Control], Some(&channel))?;
    play(&app, &caller, channel, Some(participant), wanted, offer).await
}

/// Trickle candidates, or restart ICE. Needs `If-Match`, and the scope `view` or `publish`.
#[utoipa::path(patch, path = "/whep/{channel}/sessions/{session}", tag = "viewers",
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

/// Stop watching. Needs the scope `view` or `publish`.
#[utoipa::path(delete, path = "/whep/{channel}/sessions/{session}", tag = "viewers",
    params(("channel" = ChannelId, Path), ("session" = SessionId, Path)),
    responses((status = 200, description = "ended")))]
pub(super) async fn delete(
    State(app): State<App>,
    AtSession(session): AtSession,
) -> Result<Response, Problem> {
    sessions::delete(&app, session).await
}
