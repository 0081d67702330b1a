//! Measurements of a channel, the nodes of the cluster, and the relays of the scheduler.

use axum::Json as Body;
use axum::extract::State;

use super::App;
use super::extract::{Caller, InChannel, Paging};
use crate::auth::Scope;
use crate::problem::Problem;
use crate::types::{ChannelId, ChannelStats, Node, Page, PageRequest, Relays};

/// One snapshot of a channel's measurements. Needs the scope `view` or `publish`.
#[utoipa::path(get, path = "/api/v1/channels/{id}/stats", tag = "control", params(("id" = ChannelId, Path)),
    responses((status = 200, body = ChannelStats)))]
pub(super) async fn stats(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
) -> Result<Body<ChannelStats>, Problem> {
    caller.may(&[Scope::View, Scope::Publish], Some(&channel))?;
    Ok(Body(app.backend.stats(&channel).await?))
}

/// Nodes of the cluster, by id. Needs the scope `admin`.
#[utoipa::path(get, path = "/api/v1/nodes", tag = "control", params(PageRequest),
    responses((status = 200, body = Page<Node>)))]
pub(super) async fn nodes(
    State(app): State<App>,
    caller: Caller,
    Paging(page): Paging,
) -> Result<Body<Page<Node>>, Problem> {
    caller.may(&[Scope::Admin], None)?;
    Ok(Body(app.backend.nodes(&page).await?))
}

/// The busiest relays that the scheduler knows. Needs the scope `admin`.
#[utoipa::path(get, path = "/api/v1/relays", tag = "control", responses((status = 200, body = Relays)))]
pub(super) async fn relays(
    State(app): State<App>,
    caller: Caller,
) -> Result<Body<Relays>, Problem> {
    caller.may(&[Scope::Admin], None)?;
    Ok(Body(app.backend.relays().await?))
}
