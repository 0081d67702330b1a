//! Links: two channels in one show.

use axum::Json as Body;
use axum::extract::State;
use axum::http::StatusCode;

use super::App;
use super::extract::{Caller, InChannel, InLink, Json, Paging};
use super::sessions::to_the_end;
use crate::auth::Scope;
use crate::backend::Error;
use crate::problem::Problem;
use crate::types::{ChannelId, Invalid, Link, LinkRequest, Page, PageRequest};

/// Channels whose hosts are guests of this one, by id. Needs the scope `view` or `publish`.
#[utoipa::path(get, path = "/api/v1/channels/{id}/links", tag = "control",
    params(("id" = ChannelId, Path), PageRequest), responses((status = 200, body = Page<Link>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
    Paging(page): Paging,
) -> Result<Body<Page<Link>>, Problem> {
    caller.may(&[Scope::View, Scope::Publish], Some(&channel))?;
    Ok(Body(app.backend.links(&channel, &page).await?))
}

/// Let the host of another channel be a guest of this one.
///
/// Both channels show one mix, coded once, while this one is in collab mode; each keeps its own publisher, and its own host's
/// sound untouched. The other channel follows the modes of this one and can leave the mix by its own `PUT …/mode`.
/// Needs the scope `control` for both channels. `409` when one of them is in a show already.
#[utoipa::path(post, path = "/api/v1/channels/{id}/links", tag = "control", params(("id" = ChannelId, Path)),
    request_body = LinkRequest, responses((status = 201, body = Link)))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
    Json(request): Json<LinkRequest>,
) -> Result<(StatusCode, Body<Link>), Problem> {
    caller.may(&[Scope::Control], Some(&channel))?;
    caller.may(&[Scope::Control], Some(&request.channel))?;
    if request.channel == channel {
        let invalid = Invalid::new(
            "channel",
            "must be another channel than the one in the path",
        );
        return Err(Error::from(invalid).into());
    }
    let backend = app.backend.clone();
    let link = to_the_end(async move { backend.link(&channel, &request.channel).await }).await?;
    Ok((StatusCode::CREATED, Body(link)))
}

/// End a link: the other channel goes on alone. Needs the scope `control` for either channel.
#[utoipa::path(delete, path = "/api/v1/channels/{id}/links/{other}", tag = "control",
    params(("id" = ChannelId, Path), ("other" = ChannelId, Path)),
    responses((status = 204, description = "ended")))]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
    InLink(other): InLink,
) -> Result<StatusCode, Problem> {
    let own = caller.may(&[Scope::Control], Some(&channel));
    own.or_else(|_| caller.may(&[Scope::Control], Some(&other)))?;
    let backend = app.backend.clone();
    to_the_end(async move { backend.unlink(&channel, &other).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}
