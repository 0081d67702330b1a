//! Mode and layout of a live channel.

use axum::Json as Body;
use axum::extract::State;

use super::App;
use super::extract::{Caller, InChannel, Json, Paging};
use super::sessions::to_the_end;
use crate::auth::Scope;
use crate::backend::Error;
use crate::problem::Problem;
use crate::types::{
    ChannelId, Invalid, Layout, Mode, ModeRequest, Page, PageRequest, SwitchRecord, SwitchReport,
};

/// Most participants of a mix.
const MAX_PARTICIPANTS: usize = 16;

fn check(request: &ModeRequest) -> Result<(), Invalid> {
    let participants = request.participants.as_deref().unwrap_or_default();
    let solo = request.mode == Mode::Solo;
    if solo && (request.layout.is_some() || !participants.is_empty()) {
        let field = if request.layout.is_some() {
            "layout"
        } else {
            "participants"
        };
        return Err(Invalid::new(field, "is for the mode collab only"));
    }
    let mut seen = std::collections::HashSet::new();
    if participants.len() > MAX_PARTICIPANTS || !participants.iter().all(|id| seen.insert(id)) {
        let reason = format!("must be at most {MAX_PARTICIPANTS}, each once");
        return Err(Invalid::new("participants", reason));
    }
    Ok(())
}

/// Switch the mode.
///
/// Idempotent; answers when the first access unit of the new mode is published. `409` says why it cannot (no
/// guest, no host), `504` that it did not happen in time and the old mode stays. Needs the scope `control`.
#[utoipa::path(put, path = "/api/v1/channels/{id}/mode", tag = "control", params(("id" = ChannelId, Path)),
    request_body = ModeRequest, responses((status = 200, body = SwitchReport)))]
pub(super) async fn set_mode(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
    Json(request): Json<ModeRequest>,
) -> Result<Body<SwitchReport>, Problem> {
    caller.may(&[Scope::Control], Some(&channel))?;
    check(&request).map_err(Error::from)?;
    let backend = app.backend.clone();
    to_the_end(async move { backend.set_mode(&channel, request).await })
        .await
        .map(Body)
}

/// The newest switches of a channel, oldest first.
///
/// Also those that nobody asked for, for example when the last guest left. The last fifty are kept. Needs the scope
/// `view` or `publish`.
#[utoipa::path(get, path = "/api/v1/channels/{id}/switches", tag = "control",
    params(("id" = ChannelId, Path), PageRequest), responses((status = 200, body = Page<SwitchRecord>)))]
pub(super) async fn switches(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
    Paging(page): Paging,
) -> Result<Body<Page<SwitchRecord>>, Problem> {
    caller.may(&[Scope::View, Scope::Publish], Some(&channel))?;
    Ok(Body(app.backend.switches(&channel, &page).await?))
}

/// Change the layout of the mix while live. Needs the scope `control`.
#[utoipa::path(put, path = "/api/v1/channels/{id}/layout", tag = "control", params(("id" = ChannelId, Path)),
    request_body = Layout, responses((status = 200, body = Layout)))]
pub(super) async fn set_layout(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
    Json(layout): Json<Layout>,
) -> Result<Body<Layout>, Problem> {
    caller.may(&[Scope::Control], Some(&channel))?;
    let layout = layout.validate().map_err(Error::from)?;
    let backend = app.backend.clone();
    to_the_end(async move { backend.set_layout(&channel, layout).await })
        .await
        .map(Body)
}
