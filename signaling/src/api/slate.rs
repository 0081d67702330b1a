//! The slate of a channel, and the pictures that are uploaded for it.

use axum::Json as Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::App;
use super::extract::{Caller, InChannel, Json, OfPicture, PictureFile};
use super::sessions::to_the_end;
use crate::auth::Scope;
use crate::backend::Error;
use crate::problem::Problem;
use crate::types::{ChannelId, PicturePlace, Slate, SlateRequest, Still};

/// Change what the slate says: the program's picture while the host is away.
///
/// Also while it is shown. Needs the scope `control`.
#[utoipa::path(put, path = "/api/v1/channels/{id}/slate", tag = "control", params(("id" = ChannelId, Path)),
    request_body = SlateRequest, responses((status = 200, body = Slate)))]
pub(super) async fn set(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
    Json(request): Json<SlateRequest>,
) -> Result<Body<Slate>, Problem> {
    caller.may(&[Scope::Control], Some(&channel))?;
    let request = request.validate().map_err(Error::from)?;
    let backend = app.backend.clone();
    to_the_end(async move { backend.set_slate(&channel, request.text).await })
        .await
        .map(Body)
}

/// Upload a picture for the slate or for behind the tiles.
///
/// A PNG or a JPEG of at most 4 MiB and 4096 pixels each way, scaled to cover. It replaces the one before it, also while it is
/// shown, and is kept as long as the channel. Needs the scope `control`. `413` too large, `415` another media type,
/// `422` not what it says.
#[utoipa::path(put, path = "/api/v1/channels/{id}/pictures/{place}", tag = "control",
    params(("id" = ChannelId, Path), ("place" = PicturePlace, Path)),
    request_body(content((Vec<u8> = "image/png"), (Vec<u8> = "image/jpeg"))),
    responses((status = 200, body = Still)))]
pub(super) async fn upload(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
    OfPicture(place): OfPicture,
    PictureFile(upload): PictureFile,
) -> Result<Body<Still>, Problem> {
    caller.may(&[Scope::Control], Some(&channel))?;
    let still = upload.still.clone();
    let backend = app.backend.clone();
    to_the_end(async move { backend.set_picture(&channel, place, Some(upload)).await }).await?;
    Ok(Body(still))
}

/// The picture that was uploaded. Needs the scope `view` or `publish`.
#[utoipa::path(get, path = "/api/v1/channels/{id}/pictures/{place}", tag = "control",
    params(("id" = ChannelId, Path), ("place" = PicturePlace, Path)),
    responses((status = 200, content((Vec<u8> = "image/png"), (Vec<u8> = "image/jpeg")))))]
pub(super) async fn download(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
    OfPicture(place): OfPicture,
) -> Result<Response, Problem> {
    caller.may(&[Scope::View, Scope::Publish], Some(&channel))?;
    let upload = app.backend.picture(&channel, place).await?;
    let mut response = upload.data.into_response();
    let headers = response.headers_mut();
    if let Ok(media_type) = HeaderValue::from_str(&upload.still.media_type) {
        headers.insert(header::CONTENT_TYPE, media_type);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // What somebody uploaded is a picture and nothing else
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    Ok(response)
}

/// Take an uploaded picture away: the node's default is back. Needs the scope `control`.
#[utoipa::path(delete, path = "/api/v1/channels/{id}/pictures/{place}", tag = "control",
    params(("id" = ChannelId, Path), ("place" = PicturePlace, Path)),
    responses((status = 204, description = "taken away")))]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
    OfPicture(place): OfPicture,
) -> Result<StatusCode, Problem> {
    caller.may(&[Scope::Control], Some(&channel))?;
    let backend = app.backend.clone();
    to_the_end(async move { backend.set_picture(&channel, place, None).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}
