//! Channels: list, create, read, change, end.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::App;
use super::extract::{Caller, InChannel, Json, Paging};
use super::sessions::to_the_end;
use crate::auth::Scope;
use crate::backend::Error;
use crate::problem::Problem;
use crate::types::{
    Channel, ChannelCreate, ChannelId, ChannelPatch, DestinationSpec, Invalid, Page, PageRequest,
};

/// Longest title, in characters.
const MAX_TITLE: usize = 200;

fn check_title(title: &str) -> Result<(), Problem> {
    if title.chars().count() > MAX_TITLE || title.chars().any(char::is_control) {
        return Err(Error::from(Invalid::new(
            "title",
            "must be at most 200 printable characters",
        ))
        .into());
    }
    Ok(())
}

/// Channels of the cluster, by id.
///
/// Needs the scope `view` or `publish`; a token for one channel sees only that one.
#[utoipa::path(get, path = "/api/v1/channels", tag = "control", params(PageRequest),
    responses((status = 200, body = Page<Channel>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Paging(page): Paging,
) -> Result<axum::Json<Page<Channel>>, Problem> {
    let only = caller
        .claims
        .as_ref()
        .and_then(|claims| claims.channel.clone());
    caller.may(&[Scope::View, Scope::Publish], only.as_ref())?;
    let Some(only) = only else {
        return Ok(axum::Json(app.backend.channels(&page).await?));
    };
    let found = match app.backend.channel(&only).await {
        Err(Error::NotFound(_)) => None,
        other => Some(other?),
    };
    Ok(axum::Json(Page::of(found, &page, |channel| {
        channel.id.clone()
    })))
}

/// Create a channel. Needs the scope `admin`.
#[utoipa::path(post, path = "/api/v1/channels", tag = "control", request_body = ChannelCreate,
    responses((status = 201, body = Channel, headers(("Location" = String)))))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(mut create): Json<ChannelCreate>,
) -> Result<Response, Problem> {
    caller.may(&[Scope::Admin], Some(&create.id))?;
    check_title(&create.title)?;
    create.destinations =
        DestinationSpec::validate_all(create.destinations).map_err(|invalid| {
            let field = match invalid.field.strip_prefix('[') {
                Some(rest) => format!("destinations[{rest}"),
                None => invalid.field,
            };
            Error::from(Invalid::new(field, invalid.reason))
        })?;
    let backend = app.backend.clone();
    let channel = to_the_end(async move { backend.channel_create(create).await }).await?;
    let location = HeaderValue::from_str(&format!("/api/v1/channels/{}", channel.id));
    let mut response = (StatusCode::CREATED, axum::Json(channel)).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// One channel. Needs the scope `view` or `publish`.
#[utoipa::path(get, path = "/api/v1/channels/{id}", tag = "control", params(("id" = ChannelId, Path)),
    responses((status = 200, body = Channel)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
) -> Result<axum::Json<Channel>, Problem> {
    caller.may(&[Scope::View, Scope::Publish], Some(&channel))?;
    Ok(axum::Json(app.backend.channel(&channel).await?))
}

/// Change a channel. Needs the scope `control`.
#[utoipa::path(patch, path = "/api/v1/channels/{id}", tag = "control", params(("id" = ChannelId, Path)),
    request_body = ChannelPatch, responses((status = 200, body = Channel)))]
pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
    Json(patch): Json<ChannelPatch>,
) -> Result<axum::Json<Channel>, Problem> {
    caller.may(&[Scope::Control], Some(&channel))?;
    if let Some(title) = &patch.title {
        check_title(title)?;
    }
    let backend = app.backend.clone();
    to_the_end(async move { backend.channel_update(&channel, patch).await })
        .await
        .map(axum::Json)
}

/// End a channel: its sessions are closed, its destinations flushed. Needs the scope `admin`.
#[utoipa::path(delete, path = "/api/v1/channels/{id}", tag = "control", params(("id" = ChannelId, Path)),
    responses((status = 204, description = "ended")))]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
) -> Result<StatusCode, Problem> {
    caller.may(&[Scope::Admin], Some(&channel))?;
    let backend = app.backend.clone();
    to_the_end(async move { backend.channel_delete(&channel).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}
