//! HTTP-FLV: one endless response per viewer.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::connection::Connection;
use super::problem::Problem;
use crate::entry::{Entry, Protocol, Viewer};
use crate::hub::Hub;

const HEADERS: [(header::HeaderName, &str); 2] = [
    (header::CONTENT_TYPE, "video/x-flv"),
    (header::CACHE_CONTROL, "no-store"),
];

pub(crate) fn response(
    hub: &Arc<Hub>,
    entry: Arc<Entry>,
    request: &Request,
) -> Result<Response, Problem> {
    let cut = Connection::cut_of(request);
    let viewer = Viewer::join(hub, entry, Protocol::HttpFlv, cut)?;
    Ok((HEADERS, Body::new(FlvBody { viewer })).into_response())
}

pub(crate) fn head() -> Response {
    HEADERS.into_response()
}

/// The body that the connection's task polls: shared batches, taken when the socket has room.
struct FlvBody {
    viewer: Viewer,
}

impl hyper::body::Body for FlvBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.viewer
            .poll_next(context)
            .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
