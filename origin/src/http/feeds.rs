//! The stream in substreams, for relays and for players that use them. docs/rlive.md is the contract.
//!
//! - `GET /live/{channel}/meta`: the split, and relays with tickets.
//! - `GET /live/{channel}/sub?mask=&from=gop|live|{entry}`: a feed of substreams.
//! - `GET /live/{channel}/frame?dts=&crc=`, `POST /live/{channel}/frames`: frames by name.
//! - `GET /live/{channel}/headers?after={entry}&max=`: the headers after a frame.
//! - `POST /rlive/relays`: a relay reports itself.
//!
//! Viewers show their token, relays a pass (`Authorization: Relay`).

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::{Buf, Bytes};
use futures_util::stream::poll_fn;
use media::substream::Entry;
use media::ticket::{Key, Pass, Ticket};
use serde::{Deserialize, Serialize};

use super::connection::Connection;
use super::problem::Problem;
use super::{Token, preflight};
use crate::clock;
use crate::entry::{Entry as StreamEntry, FeedReader};
use crate::hub::{Closed, Hub, is_name, lock};
use crate::relays::Report;
use crate::stream::From;

/// Frames that one request may ask for.
const MAX_FRAMES: usize = 64;
/// Headers that one request gets at most.
const MAX_HEADERS: usize = 1_024;
/// How long a ticket can be used to open a session; a session lasts as long as it is renewed.
const TICKET_LIFETIME_S: u32 = 60;

const HEADERS: [(header::HeaderName, &str); 2] = [
    (header::CONTENT_TYPE, "application/octet-stream"),
    (header::CACHE_CONTROL, "no-store"),
];

pub(super) fn router() -> axum::Router<Arc<Hub>> {
    let options = || axum::routing::options(preflight);
    axum::Router::new()
        .route("/live/{channel}/meta", get(meta).merge(options()))
        .route("/live/{channel}/sub", get(feed))
        .route("/live/{channel}/frame", get(frame))
        .route("/live/{channel}/frames", post(frames))
        .route("/live/{channel}/headers", get(headers))
        .route("/rlive/relays", post(report))
        .layer(DefaultBodyLimit::max(4 << 10))
}

/// Finds the stream for a viewer with a token or a relay with a pass.
fn stream(
    hub: &Arc<Hub>,
    channel: &str,
    token: &Token,
    headers: &HeaderMap,
) -> Result<Arc<StreamEntry>, Problem> {
    if !is_name(channel) || !hub.config.substreams.enabled {
        return Err(Problem::unknown());
    }
    match pass(headers) {
        Some(text) => {
            relay_of(hub, text)?;
        }
        None => hub.access.may_view(channel, token.value.as_deref())?,
    }
    let entry = hub.find(channel)?;
    Ok(entry)
}

fn pass(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, pass) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("relay").then(|| pass.trim())
}

fn relay_of(hub: &Hub, text: &str) -> Result<u64, Problem> {
    let secret = relay_secret(hub)?;
    let pass = Pass::open(&secret, text, clock::wall_s());
    let refused = |error| Problem::new(StatusCode::FORBIDDEN, format!("the pass: {error}"));
    let relay = pass.map_err(refused)?.relay;
    if hub.config.substreams.revoked().contains(&relay) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "the relay is revoked: give it another id and key",
        ));
    }
    Ok(relay)
}

fn relay_secret(hub: &Hub) -> Result<Vec<u8>, Problem> {
    hub.access.relay_secret().ok_or_else(|| {
        Problem::new(
            StatusCode::FORBIDDEN,
            "relays need auth.secret to be set at the origin",
        )
    })
}

#[derive(Serialize)]
struct Meta {
    epoch: u16,
    hash: u8,
    substreams: u8,
    relays: Vec<RelayMeta>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduler: Option<SchedulerMeta>,
}

#[derive(Serialize)]
struct SchedulerMeta {
    url: String,
    ticket: String,
}

#[derive(Serialize)]
struct RelayMeta {
    id: String,
    address: std::net::SocketAddr,
    ticket: String,
    key: String,
}

async fn meta(
    State(hub): State<Arc<Hub>>,
    Path(channel): Path<String>,
    token: Token,
    request: Request,
) -> Result<Response, Problem> {
    let entry = stream(&hub, &channel, &token, request.headers())?;
    let candidates = lock(&hub.relays).candidates(clock::now());
    let secret = hub.access.relay_secret();
    let ticket = || Ticket {
        stream: channel.clone(),
        expires_s: clock::wall_s().saturating_add(TICKET_LIFETIME_S),
        max_kbps: hub.config.substreams.max_kbps,
        nonce: hub.nonce(),
    };
    let url = &hub.config.substreams.scheduler_url;
    let scheduler = secret.as_ref().filter(|_| !url.is_empty());
    let scheduler = scheduler.map(|secret| SchedulerMeta {
        url: url.clone(),
        ticket: media::ticket::to_hex(&ticket().seal(&Key::of_scheduler(secret))),
    });
    let relays = secret.iter().flat_map(|secret| {
        candidates.iter().map(|(id, address)| {
            let key = Key::of_relay(secret, *id);
            let sealed = ticket().seal(&key);
            RelayMeta {
                id: format!("{id:x}"),
                address: *address,
                key: key.of_session(&sealed).to_hex(),
                ticket: media::ticket::to_hex(&sealed),
            }
        })
    });
    let (epoch, split) = entry.split();
    let meta = Meta {
        epoch,
        hash: split.hash().number(),
        substreams: split.substreams(),
        relays: relays.collect(),
        scheduler,
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(meta)).into_response())
}

#[derive(Deserialize)]
struct FeedQuery {
    /// Substreams that are wanted whole, one bit each, in hexadecimal digits.
    mask: String,
    #[serde(default = "gop")]
    from: String,
}

fn gop() -> String {
    "gop".to_owned()
}

async fn feed(
    State(hub): State<Arc<Hub>>,
    Path(channel): Path<String>,
    token: Token,
    query: Query<FeedQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let entry = stream(&hub, &channel, &token, request.headers())?;
    let bad = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, detail);
    let mask = u64::from_str_radix(&query.mask, 16)
        .map_err(|_| bad("mask: not a set of substreams in hexadecimal digits"))?;
    let from = match query.from.as_str() {
        "gop" => From::Gop,
        "live" => From::Live,
        after => From::After(named(after)?),
    };
    let cut = Connection::cut_of(&request);
    // Players have the frames from us; relays have to prove where theirs are from.
    let signed = pass(request.headers()).is_some();
    let mut reader = FeedReader::join(&hub, entry, (from, mask, signed), cut).await?;
    let body = poll_fn(move |context| {
        reader
            .poll_next(context)
            .map(|bytes| bytes.map(Ok::<_, Infallible>))
    });
    Ok((HEADERS, Body::from_stream(body)).into_response())
}

fn named(entry: &str) -> Result<Entry, Problem> {
    Entry::from_hex(entry).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))
}

#[derive(Deserialize)]
struct FrameQuery {
    dts: u32,
    crc: u32,
}

fn gone() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such frame (any more)")
}

async fn frame(
    State(hub): State<Arc<Hub>>,
    Path(channel): Path<String>,
    token: Token,
    query: Query<FrameQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let entry = stream(&hub, &channel, &token, request.headers())?;
    let found = entry.frames(&[(query.dts, query.crc)]);
    if found.is_empty() {
        return Err(gone());
    }
    Ok((HEADERS, found).into_response())
}

/// The body is a list of names, 8 bytes each: decoding time and CRC. The answer has the frames that are there.
async fn frames(
    State(hub): State<Arc<Hub>>,
    Path(channel): Path<String>,
    token: Token,
    head: HeaderMap,
    mut body: Bytes,
) -> Result<Response, Problem> {
    let entry = stream(&hub, &channel, &token, &head)?;
    if !body.len().is_multiple_of(8) || body.len() > MAX_FRAMES * 8 {
        let detail = "the body must be 1 to 64 names of 8 bytes";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let mut names = Vec::with_capacity(body.len() / 8);
    while let (Ok(dts), Ok(crc)) = (body.try_get_u32(), body.try_get_u32()) {
        names.push((dts, crc));
    }
    Ok((HEADERS, entry.frames(&names)).into_response())
}

#[derive(Deserialize)]
struct HeadersQuery {
    after: String,
    #[serde(default = "default_headers")]
    max: usize,
}

fn default_headers() -> usize {
    256
}

async fn headers(
    State(hub): State<Arc<Hub>>,
    Path(channel): Path<String>,
    token: Token,
    query: Query<HeadersQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let entry = stream(&hub, &channel, &token, request.headers())?;
    let found = entry.headers_after(&named(&query.after)?, query.max.min(MAX_HEADERS));
    Ok((HEADERS, found.ok_or_else(gone)?).into_response())
}

async fn report(
    State(hub): State<Arc<Hub>>,
    head: HeaderMap,
    Json(report): Json<Report>,
) -> Result<StatusCode, Problem> {
    let Some(text) = pass(&head) else {
        return Err(crate::Denied::Unauthorized.into());
    };
    let relay = relay_of(&hub, text)?;
    match lock(&hub.relays).report(clock::now(), relay, report) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Closed::Full("relays").into()),
    }
}
