//! The shell of a scheduler: heartbeats by UDP, recommendations by HTTP.
//!
//! - `POST /v1/recommend`: relays for each substream, with tickets. The player shows the ticket that the origin has sealed
//!   for the scheduler (`Authorization: Ticket <hex>`); it says which stream, and how much of it.
//! - `GET /v1/state`: counters, as JSON.
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

use super::{Config, Counters, MAX_COUNT, Recommended, Request, Scheduler};
use crate::clock;
use crate::wire::heartbeat::region_tag;

/// How long a ticket can be used to open a session.
const TICKET_LIFETIME_S: u32 = 60;
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

struct Shared {
    scheduler: Mutex<Scheduler>,
    secret: Vec<u8>,
}

impl Shared {
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
        scheduler: Mutex::new(scheduler),
        secret: options.secret,
    });
    let router = Router::new()
        .route("/v1/recommend", post(recommend))
        .route("/v1/state", get(state))
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
                if let Ok((length, _)) = received {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    shared.lock().handle(clock::now(), clock::wall_s(), bytes);
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
    let found = shared.lock().recommend(clock::now(), &request);
    Ok(Json(answer(&shared.secret, &shown, &found)))
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
