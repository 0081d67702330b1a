//! The stream as others watch it: HTTP-FLV on the player's own port, and how the player is, as JSON at `/stats`.
//!
//! Viewers start at the newest keyframe, behind metadata and the sequence headers as they are then. A viewer that takes
//! nothing until [`QUEUE`] tags wait for it is disconnected; so are all when another stream begins.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use media::flv::{Item, Reader, Tag, TagKind, file_header};
use media::substream::Entry;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::super::Stats;
use super::super::playout::distance_ms;

/// Tags that wait for one viewer.
const QUEUE: usize = 2_048;
/// What is kept of a group of pictures, in bytes; without a keyframe for so long, viewers wait for the next.
const MAX_GOP_BYTES: usize = 32 << 20;
/// Viewers at one time.
const MAX_VIEWERS: usize = 64;

#[derive(Default)]
pub(super) struct Live {
    state: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Metadata, and the newest sequence headers: video, audio.
    script: Option<Tag>,
    headers: [Option<Tag>; 2],
    /// What has come since the newest keyframe.
    gop: Vec<(Entry, Bytes)>,
    gop_bytes: usize,
    viewers: Vec<mpsc::Sender<Bytes>>,
    /// Who waits for the stream to begin.
    early: Vec<mpsc::Sender<Bytes>>,
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream begins; who watches the one before is disconnected.
    pub(super) fn begin(&self, prelude: &Bytes) {
        let mut inner = self.lock();
        let early = std::mem::take(&mut inner.early);
        *inner = Inner {
            early,
            ..Inner::default()
        };
        let mut reader = Reader::default();
        reader.push(&file_header(true, true));
        reader.push(prelude);
        while let Ok(Some(item)) = reader.next_item() {
            if let Item::Tag(tag) = item {
                inner.remember(tag);
            }
        }
    }

    /// The next frame.
    pub(super) fn frame(&self, entry: &Entry, body: Bytes) {
        let tag = entry.to_tag(body);
        let mut inner = self.lock();
        let mut written = BytesMut::new();
        tag.write(&mut written);
        let written = written.freeze();
        if entry.header.kind.is_config() {
            inner.remember(tag);
        }
        if entry.header.kind.is_key() || inner.gop_bytes > MAX_GOP_BYTES {
            inner.gop.clear();
            inner.gop_bytes = 0;
        }
        if entry.header.kind.is_key() || !inner.gop.is_empty() {
            inner.gop_bytes += written.len();
            inner.gop.push((*entry, written.clone()));
        }
        inner
            .viewers
            .retain(|viewer| viewer.try_send(written.clone()).is_ok());
        let starts = !inner.gop.is_empty() || inner.is_sound_only();
        if starts && !inner.early.is_empty() {
            for viewer in std::mem::take(&mut inner.early) {
                inner.welcome(viewer);
            }
        }
    }

    fn join(&self) -> Option<mpsc::Receiver<Bytes>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut inner = self.lock();
        inner.early.retain(|viewer| !viewer.is_closed());
        if inner.viewers.len() + inner.early.len() >= MAX_VIEWERS {
            return None;
        }
        match inner.gop.is_empty() && !inner.is_sound_only() {
            true => inner.early.push(sender),
            false => inner.welcome(sender),
        }
        Some(receiver)
    }
}

impl Inner {
    fn remember(&mut self, tag: Tag) {
        match tag.kind {
            TagKind::Script => self.script = Some(tag),
            TagKind::Video => self.headers[0] = Some(tag),
            TagKind::Audio => self.headers[1] = Some(tag),
        }
    }

    fn is_sound_only(&self) -> bool {
        matches!(self.headers, [None, Some(_)])
    }

    /// Sends a viewer everything from the newest keyframe on.
    fn welcome(&mut self, viewer: mpsc::Sender<Bytes>) {
        let [video, audio] = &self.headers;
        let mut out = BytesMut::from(&file_header(audio.is_some(), video.is_some())[..]);
        if let Some(script) = &self.script {
            script.write(&mut out);
        }
        let start_ms = self.gop.first().map(|(entry, _)| entry.header.dts_ms);
        for header in self.headers.iter().flatten() {
            let timestamp_ms = start_ms.unwrap_or(header.timestamp_ms);
            Tag {
                timestamp_ms,
                ..header.clone()
            }
            .write(&mut out);
        }
        for (entry, bytes) in &self.gop {
            // Sound from before the keyframe that came after it is not for who starts there.
            let early = entry.header.kind.tag() == TagKind::Audio
                && start_ms.is_some_and(|start| distance_ms(entry.header.dts_ms, start) < 0);
            if !early {
                out.extend_from_slice(bytes);
            }
        }
        if viewer.try_send(out.freeze()).is_ok() {
            self.viewers.push(viewer);
        }
    }
}

/// Serves the stream under its name until the future is dropped.
pub(super) async fn serve(
    listener: TcpListener,
    name: String,
    live: Arc<Live>,
    stats: watch::Receiver<Stats>,
) {
    let path = Arc::from(format!("/live/{name}.flv"));
    let router = Router::new()
        .fallback(answer)
        .with_state(Stream { path, live, stats });
    if let Err(error) = axum::serve(listener, router).await {
        tracing::warn!(%error, "the player's port");
    }
}

/// What is served, and where.
#[derive(Clone)]
struct Stream {
    path: Arc<str>,
    live: Arc<Live>,
    stats: watch::Receiver<Stats>,
}

async fn answer(State(Stream { path, live, stats }): State<Stream>, uri: Uri) -> Response {
    if uri.path() == "/stats" {
        let open = [(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")];
        let stats = stats.borrow().clone();
        return (open, Json(stats)).into_response();
    }
    if uri.path() != &*path {
        let elsewhere = format!("the stream is at {path}\n");
        return (StatusCode::NOT_FOUND, elsewhere).into_response();
    }
    let Some(receiver) = live.join() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let tags = stream::unfold(receiver, |mut receiver| async move {
        let bytes = receiver.recv().await?;
        Some((bytes, receiver))
    });
    let headers = [
        (header::CONTENT_TYPE, "video/x-flv"),
        (header::CACHE_CONTROL, "no-store"),
        // The watch page of the anchor may play from here.
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    ];
    let body = Body::from_stream(tags.map(Ok::<_, std::convert::Infallible>));
    (headers, body).into_response()
}
