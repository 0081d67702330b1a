//! Server-sent events: what happens, as it happens.
//!
//! Events are not kept: who was away, or is too slow, is told to `resync`, which means to read the state anew.
//! Bounds: the number of streams, and the backend's broadcast queue; a slow reader's connection holds one event.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use futures_util::Stream;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use super::App;
use super::extract::{Caller, Params};
use crate::auth::Scope;
use crate::backend::Error;
use crate::clock;
use crate::problem::Problem;
use crate::types::{ChannelId, Event, EventBody};

/// How soon a browser reconnects.
const RETRY: Duration = Duration::from_secs(2);

/// Which events are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only this channel's.
    #[serde(default)]
    channel: Option<ChannelId>,
}

/// One reader.
struct Reader {
    events: broadcast::Receiver<Event>,
    channel: Option<ChannelId>,
    /// May see what concerns credentials of others: destinations.
    controls: bool,
    /// Missed something: told first.
    resync: bool,
    shutdown: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    fn wants(&self, event: &Event) -> bool {
        let visible = self.controls || !matches!(event.body, EventBody::DestinationUpdated(_));
        visible && (self.channel.is_none() || self.channel == event.channel)
    }

    async fn next(&mut self) -> Option<Frame> {
        if std::mem::take(&mut self.resync) {
            return Some(resync());
        }
        loop {
            let received = tokio::select! {
                received = self.events.recv() => received,
                () = self.shutdown.cancelled() => return None,
            };
            match received {
                Ok(event) if self.wants(&event) => {
                    let frame = Frame::default()
                        .id(event.id.to_string())
                        .event(event.body.name());
                    return frame.json_data(&event).ok();
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return Some(resync()),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        metrics::gauge!("anchornet_http_event_streams").decrement(1.0);
    }
}

fn resync() -> Frame {
    let body = EventBody::Resync {};
    let frame = Frame::default().event(body.name());
    let event = Event {
        id: 0,
        at: clock::wall_now(),
        channel: None,
        body,
    };
    frame.json_data(&event).unwrap_or_default()
}

/// Events as they happen (server-sent events).
///
/// `event` is the type, `data` an `Event`. After `resync`, and after a reconnect, read the state anew. Needs the
/// scope `view` or `publish`; a token for one channel gets that one's; `destination.updated` needs `control`.
#[utoipa::path(get, path = "/api/v1/events", tag = "control", params(Filter),
    responses((status = 200, body = Event, content_type = "text/event-stream")))]
pub(super) async fn stream(
    State(app): State<App>,
    caller: Caller,
    Params(filter): Params<Filter>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Frame, Infallible>> + use<>>, Problem> {
    let only = caller
        .claims
        .as_ref()
        .and_then(|claims| claims.channel.clone());
    let channel = filter.channel.or(only);
    caller.may(&[Scope::View, Scope::Publish], channel.as_ref())?;
    let full = |_| Error::Unavailable {
        reason: "too many event streams".to_owned(),
        retry_after_s: 10,
    };
    let permit = app
        .event_streams
        .clone()
        .try_acquire_owned()
        .map_err(full)?;
    metrics::gauge!("anchornet_http_event_streams").increment(1.0);
    let reader = Reader {
        events: app.backend.subscribe(),
        controls: caller.may(&[Scope::Control], channel.as_ref()).is_ok(),
        channel,
        resync: headers.contains_key("last-event-id"),
        shutdown: app.config.shutdown.clone(),
        _permit: permit,
    };
    // The first frame flushes the head, so that a reader knows at once that it is subscribed.
    let hello = futures_util::stream::iter([Ok(Frame::default().comment("events").retry(RETRY))]);
    let events = futures_util::stream::unfold(reader, |mut reader| async move {
        let frame = reader.next().await?;
        Some((Ok(frame), reader))
    });
    let events = futures_util::StreamExt::chain(hello, events);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(app.config.event_keep_alive)))
}
