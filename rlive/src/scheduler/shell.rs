//! The shell of a scheduler: heartbeats by UDP, recommendations by HTTP.
//!
//! - `POST /v1/recommend`: relays for each substream, with tickets. The player shows the ticket that the origin has sealed
//!   for the scheduler (`Authorization: Ticket <hex>`); it says which stream, and how much of it.
//! - `GET /v1/state`: counters, as JSON.
//! - `GET /v1/relays`: the busiest relays, for who shows a ticket for [`ALL_RELAYS`].
//! - `GET /health`: `ok`.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use media::ticket::{self, Key, Ticket};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use super::{Config, Counters, MAX_COUNT, Recommended, Request, Scheduler, Shown};
use crate::clock;
use crate::wire::heartbeat::{region_tag, stream_tag};

/// How long a ticket can be used to open a session.
const TICKET_LIFETIME_S: u32 = 60;
/// What the ticket of who may see all relays names: no stream can be called so.
pub const ALL_RELAYS: &str = "@relays";
/// Relays that are shown.
const MAX_SHOWN: usize = 500;
/// Names that are remembered, and how long they are at most.
const MAX_NAMES: usize = 4_096;
const MAX_NAME_BYTES: usize = 128;
/// The largest question.
const MAX_QUESTION_BYTES: usize = 4 << 10;
/// What the kernel keeps of heartbeats that have come.
const SOCKET_BYTES: usize = 8 << 20;

/// How to run a scheduler.
#[derive(Clone)]
pub struct Options {
    /// Where to listen: heartbeats by UDP and recommendations by TCP, on the same port.
    pub listen: SocketAddr,
    /// The secret that keys of relays follow from, as the origin has it.
    pub secret: Vec<u8>,
    /// Relays that are let in no more.
    pub revoked: HashSet<u64>,
    /// How it behaves.
    pub config: Config,
}

/// What a player asks: the body of `POST /v1/recommend`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The stream.
    pub stream: String,
    /// How many substreams it has.
    pub substreams: u8,
    /// The player's region, if it knows one.
    #[serde(default)]
    pub region: String,
    /// Relays wanted for each substream.
    #[serde(default = "three")]
    pub count: usize,
    /// Relays that did not work, by id.
    #[serde(default)]
    pub failed: Vec<String>,
}

fn three() -> usize {
    3
}

/// The answer: relays for each substream, best first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer<T = Recommendation> {
    /// One list for each substream.
    pub substreams: Vec<Vec<T>>,
}

/// A relay, and what is needed to use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recommendation {
    /// Which relay.
    pub id: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The ticket for it, in hexadecimal digits.
    pub ticket: String,
    /// The key of the session that the ticket opens.
    pub key: String,
    /// Whether it has the substream already.
    pub serves: bool,
}

/// A relay as [`Overview`] shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RelayView {
    /// Which one, in hexadecimal digits.
    pub id: String,
    /// Where players reach it.
    pub address: String,
    /// Its region; empty when none is known by that tag.
    pub region: String,
    /// How full it is, 0 to 1.
    pub load: f32,
    /// Sessions now.
    pub sessions: u16,
    /// What it sends, in kilobits per second.
    pub used_kbps: u32,
    /// What it can send; 0: unknown.
    pub capacity_kbps: u32,
    /// Bytes that it sends for one that it gets.
    pub expansion: f32,
    /// `ok`, `full`, `leaving` or `blocked`.
    pub state: String,
    /// How long ago it was heard, in milliseconds.
    pub silent_ms: u64,
    /// What it has from the origin.
    pub serves: Vec<ServedView>,
}

/// Substreams that a relay has of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedView {
    /// The stream; its tag in hexadecimal digits when nobody has asked for it by name.
    pub stream: String,
    /// The substreams, in order.
    pub substreams: Vec<u8>,
}

/// The answer to `GET /v1/relays`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// Relays known.
    pub known: usize,
    /// The busiest of them.
    pub relays: Vec<RelayView>,
}

struct Shared {
    /// Names of streams and regions that players have asked for, by tag.
    names: Mutex<HashMap<u32, String>>,
    scheduler: Mutex<Scheduler>,
    secret: Vec<u8>,
}

impl Shared {
    fn remember(&self, tag: u32, name: &str) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let room = names.len() < MAX_NAMES && name.len() <= MAX_NAME_BYTES;
        if room && !name.is_empty() && !names.contains_key(&tag) {
            names.insert(tag, name.to_owned());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Scheduler> {
        self.scheduler
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a scheduler until `stop` is cancelled.
///
/// # Errors
/// When it cannot listen.
pub async fn run(options: Options, stop: CancellationToken) -> std::io::Result<()> {
    let (listener, socket) = bind(options.listen).await?;
    info!(address = %listener.local_addr()?, "scheduling");
    let scheduler = Scheduler::new(
        options.config,
        options.secret.clone(),
        options.revoked,
        rand::random(),
    );
    let shared = Arc::new(Shared {
        names: Mutex::default(),
        scheduler: Mutex::new(scheduler),
        secret: options.secret,
    });
    let router = Router::new()
        .route("/v1/recommend", post(recommend))
        .route("/v1/state", get(state))
        .route("/v1/relays", get(relays))
        .route("/health", get(async || "ok\n"))
        .layer(DefaultBodyLimit::max(MAX_QUESTION_BYTES))
        .with_state(Arc::clone(&shared))
        .into_make_service_with_connect_info::<SocketAddr>();
    let _serving =
        AbortOnDropHandle::new(tokio::spawn(axum::serve(listener, router).into_future()));
    let mut buffer = vec![0; 2_048];
    loop {
        let timeout = shared.lock().poll_timeout();
        tokio::select! {
            received = socket.recv_from(&mut buffer) => {
                if let Ok((length, from)) = received {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    let advice = {
                        let mut scheduler = shared.lock();
                        scheduler.handle(clock::now(), clock::wall_s(), bytes);
                        scheduler.take_advice()
                    };
                    if let Some(advice) = advice {
                        // What gets lost is asked for again.
                        let _ = socket.send_to(&advice, from).await;
                    }
                }
            }
            () = sleep_until(timeout) => shared.lock().handle_timeout(clock::now()),
            () = stop.cancelled() => return Ok(()),
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the shell that opens the scheduler's ports"
)]
async fn bind(address: SocketAddr) -> std::io::Result<(TcpListener, UdpSocket)> {
    let listener = TcpListener::bind(address).await?;
    // The same port for both, also when the system has chosen it.
    let socket = std::net::UdpSocket::bind(listener.local_addr()?)?;
    socket.set_nonblocking(true)?;
    // The kernel may give less; then heartbeats are lost under load, and come again.
    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(SOCKET_BYTES);
    Ok((listener, UdpSocket::from_std(socket)?))
}

type Problem = (StatusCode, String);

async fn recommend(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    head: HeaderMap,
    Json(question): Json<Question>,
) -> Result<Json<Answer>, Problem> {
    let shown = authorize(&shared.secret, &head)?;
    if shown.stream != question.stream {
        let detail = "the ticket is for another stream".to_owned();
        return Err((StatusCode::FORBIDDEN, detail));
    }
    let failed: Option<Vec<u64>> = question
        .failed
        .iter()
        .map(|id| u64::from_str_radix(id, 16).ok())
        .collect();
    let Some(failed) = failed else {
        let detail = "failed: an id is up to 16 hexadecimal digits".to_owned();
        return Err((StatusCode::BAD_REQUEST, detail));
    };
    let request = Request {
        stream: &question.stream,
        substreams: question.substreams,
        address: peer.ip().to_canonical(),
        region: region_tag(&question.region),
        count: question.count.min(MAX_COUNT),
        failed: &failed,
    };
    shared.remember(stream_tag(&question.stream), &question.stream);
    shared.remember(region_tag(&question.region), &question.region);
    let found = shared.lock().recommend(clock::now(), &request);
    Ok(Json(answer(&shared.secret, &shown, &found)))
}

async fn relays(
    State(shared): State<Arc<Shared>>,
    head: HeaderMap,
) -> Result<Json<Overview>, Problem> {
    if authorize(&shared.secret, &head)?.stream != ALL_RELAYS {
        let detail = "the ticket is for a stream".to_owned();
        return Err((StatusCode::FORBIDDEN, detail));
    }
    let (known, shown) = {
        let scheduler = shared.lock();
        let shown = scheduler.overview(clock::now(), MAX_SHOWN);
        (scheduler.counters().relays, shown)
    };
    let names = shared.names.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Json(Overview {
        known,
        relays: shown.iter().map(|one| view(one, &names)).collect(),
    }))
}

fn view(shown: &Shown, names: &HashMap<u32, String>) -> RelayView {
    let mut serves: Vec<ServedView> = Vec::new();
    let mut served = shown.served.clone();
    served.sort_unstable();
    for (tag, substream) in served {
        let known = names.get(&tag).cloned();
        let stream = known.unwrap_or_else(|| format!("{tag:08x}"));
        match serves.iter_mut().find(|one| one.stream == stream) {
            Some(one) => one.substreams.push(substream),
            None => serves.push(ServedView {
                stream,
                substreams: vec![substream],
            }),
        }
    }
    let state = match shown {
        Shown { leaving: true, .. } => "leaving",
        Shown { blocked: true, .. } => "blocked",
        full if full.load >= 1.0 => "full",
        _ => "ok",
    };
    RelayView {
        id: format!("{:x}", shown.relay),
        address: shown.address.to_string(),
        region: names.get(&shown.region).cloned().unwrap_or_default(),
        load: shown.load,
        sessions: shown.sessions,
        used_kbps: shown.used_kbps,
        capacity_kbps: shown.capacity_kbps,
        expansion: f32::from(shown.expansion) / 10.0,
        state: state.to_owned(),
        silent_ms: u64::try_from(shown.silent.as_millis()).unwrap_or(u64::MAX),
        serves,
    }
}

async fn state(State(shared): State<Arc<Shared>>) -> Json<Counters> {
    Json(shared.lock().counters())
}

fn authorize(secret: &[u8], head: &HeaderMap) -> Result<Ticket, Problem> {
    let unauthorized = |detail: String| (StatusCode::UNAUTHORIZED, detail);
    let sealed = head
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("ticket"))
        .and_then(|(_, ticket)| ticket::from_hex(ticket.trim()))
        .ok_or_else(|| unauthorized("no ticket: the origin gives one with meta".into()))?;
    Ticket::open(&Key::of_scheduler(secret), &sealed, clock::wall_s())
        .map_err(|error| unauthorized(format!("the ticket: {error}")))
}

/// Names relays with tickets: one for each relay, for all substreams.
fn answer(secret: &[u8], shown: &Ticket, found: &[Vec<Recommended>]) -> Answer {
    let mut sealed: HashMap<u64, (String, String)> = HashMap::new();
    let mut name = |relay: &Recommended| {
        let (ticket, key) = sealed.entry(relay.relay).or_insert_with(|| {
            let key = Key::of_relay(secret, relay.relay);
            let ticket = Ticket {
                expires_s: clock::wall_s().saturating_add(TICKET_LIFETIME_S),
                nonce: rand::random(),
                ..shown.clone()
            }
            .seal(&key);
            (ticket::to_hex(&ticket), key.of_session(&ticket).to_hex())
        });
        Recommendation {
            id: format!("{:x}", relay.relay),
            address: relay.address,
            ticket: ticket.clone(),
            key: key.clone(),
            serves: relay.serves,
        }
    };
    let substreams = found
        .iter()
        .map(|relays| relays.iter().map(&mut name).collect());
    Answer {
        substreams: substreams.collect(),
    }
}
