//! The OpenAPI 3.1 document: what the handlers say, completed with what they all share.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr, ResponseBuilder};

use super::App;
use crate::problem::Problem;
use crate::types::{ChannelId, PicturePlace, SessionId};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "AnchorNet",
        description = "Live shows with one persistent publisher per channel: broadcasters come and go by WebRTC.",
        license(name = "MIT", identifier = "MIT")
    ),
    tags(
        (name = "broadcasters", description = "Media in, and of each other"),
        (name = "control", description = "Channels, modes, participants, destinations"),
        (name = "viewers", description = "Media out"),
        (name = "operations", description = "Health and metrics"),
    ),
    paths(flv, hls),
    components(schemas(PicturePlace, Problem, SessionId))
)]
struct Base;

/// Watch by HTTP-FLV, or by WS-FLV when the request upgrades to a web socket.
///
/// Starts at the newest keyframe. `404` when there is no such channel. Served by the origin.
#[utoipa::path(get, path = "/live/{channel}.flv", tag = "viewers",
    params(("channel" = ChannelId, Path), ("token" = Option<String>, Query)),
    responses((status = 200, body = String, content_type = "video/x-flv")))]
#[expect(dead_code, reason = "documents a route of the origin")]
fn flv() {}

/// Watch by HLS. Served by the origin.
#[utoipa::path(get, path = "/live/{channel}/index.m3u8", tag = "viewers",
    params(("channel" = ChannelId, Path), ("token" = Option<String>, Query)),
    responses((status = 200, body = String, content_type = "application/vnd.apple.mpegurl")))]
#[expect(dead_code, reason = "documents a route of the origin")]
fn hls() {}

/// The document before the routes are added.
pub(super) fn base() -> Document {
    Base::openapi()
}

/// Adds what holds for every operation: problems, redirects, the bearer token.
pub(super) fn complete(document: &mut Document) {
    let scheme = SecurityScheme::Http(
        Http::builder()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .build(),
    );
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("bearer", scheme);
    document.security = Some(vec![SecurityRequirement::new(
        "bearer",
        Vec::<String>::new(),
    )]);
    for item in document.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.patch,
            &mut item.delete,
        ];
        for operation in operations.into_iter().flatten() {
            add_problem(operation);
        }
    }
}

fn add_problem(operation: &mut Operation) {
    let schema = Ref::from_schema_name("Problem");
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let problem = ResponseBuilder::new()
        .description("A problem (RFC 9457); 307 with Location when another node owns the channel")
        .content("application/problem+json", content)
        .build();
    operation
        .responses
        .responses
        .insert("default".to_owned(), RefOr::T(problem));
}

/// `GET /api/v1/openapi.json`.
pub(super) async fn document(State(app): State<App>) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        app.openapi.to_string(),
    )
        .into_response()
}
