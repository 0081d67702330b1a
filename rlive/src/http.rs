//! Feeds and requests to the origin, as the shells of relay and player make them.

use std::time::Duration;

use futures_util::StreamExt as _;
use media::substream::feed::{Reader, Record};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::Sender;

/// How long the origin may take to answer at all.
const ANSWER: Duration = Duration::from_secs(3);
/// A feed waits longer: for the first keyframe of a stream.
const FIRST_BYTES: Duration = Duration::from_secs(12);

/// Why there is no answer of use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The origin answers, but not with what was asked for.
    #[error("the origin answers {0}")]
    Status(StatusCode),
    /// It does not answer, or stops.
    #[error(transparent)]
    Request(#[from] reqwest::Error),
    /// It does not answer in time.
    #[error("the origin does not answer")]
    Timeout,
    /// What it sends cannot be read.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// What it sends is no feed.
    #[error(transparent)]
    Feed(#[from] media::Error),
}

pub(crate) fn client() -> reqwest::Result<Client> {
    Client::builder()
        .connect_timeout(ANSWER)
        .tcp_nodelay(true)
        .build()
}

/// Reads a feed to its end; each record goes to `to` as `event` makes it. A full queue holds the feed up.
pub(crate) async fn feed<E>(
    request: RequestBuilder,
    to: &Sender<E>,
    event: impl Fn(Record) -> E,
) -> Result<(), Error> {
    let answer = tokio::time::timeout(FIRST_BYTES, request.send()).await;
    let answer = answer.map_err(|_| Error::Timeout)??;
    if !answer.status().is_success() {
        return Err(Error::Status(answer.status()));
    }
    let (mut body, mut reader) = (answer.bytes_stream(), Reader::default());
    while let Some(bytes) = body.next().await {
        reader.push(&bytes?);
        while let Some(record) = reader.next_record()? {
            if to.send(event(record)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The records that a request is answered with.
pub(crate) async fn records(request: RequestBuilder) -> Result<Vec<Record>, Error> {
    let body = bytes(request).await?;
    let (mut reader, mut records) = (Reader::default(), Vec::new());
    reader.push(&body);
    while let Some(record) = reader.next_record()? {
        records.push(record);
    }
    Ok(records)
}

/// The JSON that a request is answered with.
pub(crate) async fn json<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, Error> {
    let body = bytes(request).await?;
    Ok(serde_json::from_slice(&body)?)
}

/// The body that a request is answered with.
pub(crate) async fn bytes(request: RequestBuilder) -> Result<bytes::Bytes, Error> {
    let answer = request.timeout(ANSWER).send().await?;
    match answer.status().is_success() {
        true => Ok(answer.bytes().await?),
        false => Err(Error::Status(answer.status())),
    }
}
