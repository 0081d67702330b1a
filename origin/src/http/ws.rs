//! WS-FLV: the same bytes as binary messages.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request};
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio_util::sync::CancellationToken;

use super::problem::Problem;
use crate::entry::{Entry, Protocol, Viewer};
use crate::hub::Hub;

/// Viewers have nothing to say: what they send is read and dropped up to this size.
const MAX_MESSAGE_BYTES: usize = 4 << 10;

pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// `?preview=1`: not to be counted among the viewers.
fn is_preview(uri: &Uri) -> bool {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    pairs.any(|pair| pair == "preview=1")
}

pub(crate) async fn upgrade(
    hub: &Arc<Hub>,
    entry: Arc<Entry>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let protocol = match is_preview(&parts.uri) {
        true => Protocol::Preview,
        false => Protocol::WsFlv,
    };
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(rejection) => return Ok(rejection.into_response()),
    };
    let cut = CancellationToken::new();
    let viewer = Viewer::join(hub, entry, protocol, cut.clone())?;
    let patience = Duration::from_millis(hub.config.viewer_disconnect_ms);
    Ok(upgrade
        .max_message_size(MAX_MESSAGE_BYTES)
        .on_upgrade(move |socket| async move {
            tokio::select! {
                () = run(socket, viewer, patience) => {}
                () = cut.cancelled() => {}
            }
        }))
}

async fn run(mut socket: WebSocket, mut viewer: Viewer, patience: Duration) {
    loop {
        tokio::select! {
            bytes = poll_fn(|context| viewer.poll_next(context)) => {
                let Some(bytes) = bytes else {
                    let _ = socket.send(Message::Close(None)).await;
                    return;
                };
                let sent = tokio::time::timeout(patience, socket.send(Message::Binary(bytes))).await;
                if !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
            message = socket.recv() => {
                if !matches!(message, Some(Ok(_))) {
                    return;
                }
            }
        }
    }
}
