//! HLS: `/live/{channel}/index.m3u8` and the segments it names.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Token;
use super::connection::Connection;
use super::problem::Problem;
use crate::hub::{Hub, is_name};

const PLAYLIST: &str = "index.m3u8";

pub(crate) async fn file(
    State(hub): State<Arc<Hub>>,
    Path((channel, file)): Path<(String, String)>,
    token: Token,
    request: Request,
) -> Result<Response, Problem> {
    if !is_name(&channel) || !hub.config.hls.enabled {
        return Err(Problem::unknown());
    }
    hub.access.may_view(&channel, token.value.as_deref())?;
    let entry = hub.find_hls(&channel)?;
    if file != PLAYLIST {
        let bytes = entry.hls_file(&file).ok_or_else(|| {
            Problem::new(StatusCode::NOT_FOUND, "there is no such segment (any more)")
        })?;
        let headers = [
            (header::CONTENT_TYPE, "video/mp4"),
            (header::CACHE_CONTROL, "max-age=60"),
        ];
        return Ok((headers, bytes).into_response());
    }
    let patience = Duration::from_millis(hub.config.hls.first_segment_wait_ms);
    let suffix = suffix(&token);
    let playlist = entry
        .playlist(client(&request), &suffix, patience)
        .await
        .ok_or_else(|| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the first segment of this stream is not ready",
            )
        })?;
    let headers = [
        (header::CONTENT_TYPE, "application/vnd.apple.mpegurl"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    Ok((headers, playlist).into_response())
}

/// Players do not repeat the playlist's query for its segments, so the playlist does it for them.
fn suffix(token: &Token) -> String {
    let Some(value) = token.value.as_ref().filter(|_| token.in_query) else {
        return String::new();
    };
    let mut suffix = "?token=".to_owned();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            suffix.push(char::from(byte));
        } else {
            suffix.push_str(&format!("%{byte:02X}"));
        }
    }
    suffix
}

/// Tells clients apart well enough to count them.
fn client(request: &Request) -> u64 {
    let mut hasher = DefaultHasher::new();
    Connection::peer_of(request)
        .map(|peer| peer.ip())
        .hash(&mut hasher);
    request.headers().get(header::USER_AGENT).hash(&mut hasher);
    hasher.finish()
}
