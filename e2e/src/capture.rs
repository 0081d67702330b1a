//! What a viewer gets by HTTP-FLV, with the time each tag arrived.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use media::flv::{self, Item, Tag, TagKind};
use tokio::task::JoinHandle;

use crate::run::eventually;

/// One tag and when its last byte arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When.
    pub at: Instant,
    /// What.
    pub tag: Tag,
}

#[derive(Debug, Default)]
struct State {
    arrivals: Vec<Arrival>,
    end: Option<String>,
}

/// A viewer who keeps everything. It stays connected until it is dropped or the server ends the stream.
#[derive(Debug)]
pub struct FlvViewer {
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl FlvViewer {
    /// Connects to an HTTP-FLV URL.
    ///
    /// # Errors
    /// When the answer is not 200.
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        let response = reqwest::get(url).await?;
        ensure!(
            response.status() == 200,
            "{url} answers {}",
            response.status()
        );
        let state = Arc::<Mutex<State>>::default();
        let task = tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                let end = collect(response, &state).await;
                let end = end.map_or_else(
                    |error| format!("{error:#}"),
                    |()| "the stream ended".to_owned(),
                );
                state.lock().unwrap_or_else(PoisonError::into_inner).end = Some(end);
            }
        });
        Ok(Self { state, task })
    }

    /// Everything so far.
    #[must_use]
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .arrivals
            .clone()
    }

    /// All tags so far.
    #[must_use]
    pub fn tags(&self) -> Vec<Tag> {
        self.arrivals()
            .into_iter()
            .map(|arrival| arrival.tag)
            .collect()
    }

    /// Why nothing more will come; `None` while connected.
    #[must_use]
    pub fn ended(&self) -> Option<String> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .end
            .clone()
    }

    /// Waits until `enough` says so of the tags.
    ///
    /// # Errors
    /// When the stream ends before or `limit` passes.
    pub async fn wait(
        &self,
        what: &str,
        limit: Duration,
        enough: impl Fn(&[Arrival]) -> bool,
    ) -> anyhow::Result<()> {
        eventually(what, limit, async || {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if enough(&state.arrivals) {
                return Ok(());
            }
            let got = state.arrivals.len();
            let last = state
                .arrivals
                .last()
                .map(|arrival| arrival.tag.timestamp_ms);
            Err(match &state.end {
                Some(end) => anyhow!("{end} after {got} tags, the last at {last:?} ms"),
                None => anyhow!("{got} tags so far, the last at {last:?} ms"),
            })
        })
        .await
    }

    /// Waits for `count` pictures.
    ///
    /// # Errors
    /// As [`FlvViewer::wait`].
    pub async fn wait_for_pictures(&self, count: usize, limit: Duration) -> anyhow::Result<()> {
        self.wait(&format!("{count} pictures"), limit, |arrivals| {
            pictures(arrivals) >= count
        })
        .await
    }

    /// Timestamp of the newest tag.
    ///
    /// # Errors
    /// When there is none yet.
    pub fn last_ms(&self) -> anyhow::Result<u32> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .arrivals
            .last()
            .map(|arrival| arrival.tag.timestamp_ms)
            .context("nothing has arrived")
    }

    /// The number of pictures so far.
    #[must_use]
    pub fn pictures(&self) -> usize {
        pictures(&self.arrivals())
    }
}

impl Drop for FlvViewer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn pictures(arrivals: &[Arrival]) -> usize {
    let is_picture = |tag: &Tag| tag.kind == TagKind::Video && !tag.is_sequence_header();
    arrivals
        .iter()
        .filter(|arrival| is_picture(&arrival.tag))
        .count()
}

#[expect(clippy::disallowed_methods, reason = "the shell of the tests")]
async fn collect(response: reqwest::Response, state: &Mutex<State>) -> anyhow::Result<()> {
    let mut reader = flv::Reader::default();
    let mut body = response.bytes_stream();
    while let Some(bytes) = body.next().await {
        let bytes = bytes.context("the connection broke")?;
        let at = Instant::now();
        reader.push(&bytes);
        while let Some(item) = reader.next_item()? {
            if let Item::Tag(tag) = item {
                state
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .arrivals
                    .push(Arrival { at, tag });
            }
        }
    }
    Ok(())
}

/// The tags of an FLV file. A tag that is cut off at the end is left out.
///
/// # Errors
/// When it is not FLV.
pub fn read_flv(file: &[u8]) -> anyhow::Result<Vec<Tag>> {
    let mut reader = flv::Reader::default();
    reader.push(file);
    let mut tags = Vec::new();
    while let Some(item) = reader.next_item()? {
        if let Item::Tag(tag) = item {
            tags.push(tag);
        }
    }
    Ok(tags)
}

/// An FLV file of tags.
#[must_use]
pub fn write_flv(tags: &[Tag]) -> Bytes {
    let mut out = BytesMut::from(flv::file_header(true, true).as_ref());
    for tag in tags {
        tag.write(&mut out);
    }
    out.freeze()
}
