//! Destinations of a channel: read and replace the set.

use axum::Json as Body;
use axum::extract::State;

use super::App;
use super::extract::{Caller, InChannel, Json, Paging};
use super::sessions::to_the_end;
use crate::auth::Scope;
use crate::backend::Error;
use crate::problem::Problem;
use crate::types::{ChannelId, Destination, DestinationSpec, Page, PageRequest};

/// Destinations with their states, by name; stream keys are not shown. Needs the scope `control`.
#[utoipa::path(get, path = "/api/v1/channels/{id}/destinations", tag = "control",
    params(("id" = ChannelId, Path), PageRequest), responses((status = 200, body = Page<Destination>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
    Paging(page): Paging,
) -> Result<Body<Page<Destination>>, Problem> {
    caller.may(&[Scope::Control], Some(&channel))?;
    Ok(Body(app.backend.destinations(&channel, &page).await?))
}

/// Replace the set of destinations.
///
/// Those whose name and URL stay are not interrupted. Answers with the new set. Needs the scope `control`.
#[utoipa::path(put, path = "/api/v1/channels/{id}/destinations", tag = "control", params(("id" = ChannelId, Path)),
    request_body = Vec<DestinationSpec>, responses((status = 200, body = Page<Destination>)))]
pub(super) async fn replace(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
    Json(specs): Json<Vec<DestinationSpec>>,
) -> Result<Body<Page<Destination>>, Problem> {
    caller.may(&[Scope::Control], Some(&channel))?;
    let specs = DestinationSpec::validate_all(specs).map_err(Error::from)?;
    let backend = app.backend.clone();
    let replacing = async move {
        backend.set_destinations(&channel, specs).await?;
        backend
            .destinations(&channel, &PageRequest::default())
            .await
    };
    to_the_end(replacing).await.map(Body)
}
