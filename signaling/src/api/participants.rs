//! Participants of a channel: list, change, kick.

use axum::Json as Body;
use axum::extract::State;
use axum::http::StatusCode;

use super::App;
use super::extract::{Caller, InChannel, Json, OfParticipant, Paging};
use super::sessions::to_the_end;
use crate::auth::Scope;
use crate::backend::Error;
use crate::problem::Problem;
use crate::types::{
    ChannelId, Invalid, Page, PageRequest, Participant, ParticipantId, ParticipantPatch,
};

/// Loudest gain: 12 dB.
const MAX_VOLUME: f32 = 4.0;

/// Broadcasters of a channel, by id. Needs the scope `view` or `publish`.
#[utoipa::path(get, path = "/api/v1/channels/{id}/participants", tag = "control",
    params(("id" = ChannelId, Path), PageRequest), responses((status = 200, body = Page<Participant>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
    Paging(page): Paging,
) -> Result<Body<Page<Participant>>, Problem> {
    caller.may(&[Scope::View, Scope::Publish], Some(&channel))?;
    Ok(Body(app.backend.participants(&channel, &page).await?))
}

/// Mute, change the volume, take on or off the program. Needs the scope `control`.
#[utoipa::path(patch, path = "/api/v1/channels/{id}/participants/{pid}", tag = "control",
    params(("id" = ChannelId, Path), ("pid" = ParticipantId, Path)), request_body = ParticipantPatch,
    responses((status = 200, body = Participant)))]
pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
    OfParticipant(participant): OfParticipant,
    Json(patch): Json<ParticipantPatch>,
) -> Result<Body<Participant>, Problem> {
    caller.may(&[Scope::Control], Some(&channel))?;
    if patch
        .volume
        .is_some_and(|volume| !(0.0..=MAX_VOLUME).contains(&volume))
    {
        return Err(Error::from(Invalid::new("volume", "must be 0 to 4")).into());
    }
    let backend = app.backend.clone();
    let updating = async move {
        backend
            .participant_update(&channel, &participant, patch)
            .await
    };
    to_the_end(updating).await.map(Body)
}

/// Kick a broadcaster. Needs the scope `control`.
#[utoipa::path(delete, path = "/api/v1/channels/{id}/participants/{pid}", tag = "control",
    params(("id" = ChannelId, Path), ("pid" = ParticipantId, Path)),
    responses((status = 204, description = "gone")))]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
    OfParticipant(participant): OfParticipant,
) -> Result<StatusCode, Problem> {
    caller.may(&[Scope::Control], Some(&channel))?;
    let backend = app.backend.clone();
    to_the_end(async move { backend.participant_remove(&channel, &participant).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}
