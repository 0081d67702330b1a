//! RTMP ingest of broadcasters: `rtmp://…/live/{channel}?token=&participant=&role=`, for OBS Studio, ffmpeg, GStreamer and
//! phones. Who comes this way is a participant like any other: same channel, roles, limits and tokens.
//!
//! The protocol is [`origin::rtmp`]'s. What is here makes access units with capture times of its tags (`intake`, which
//! is sans-IO, with `timeline` and `grid`), lets them into the channel, and hands them to those who watch the
//! participant by WebRTC (`relay`).
//!
//! Invariants:
//! - A session delivers [`Ingress::Connected`](crate::sfu::Ingress) first and `Closed` last, as those of WebRTC do.
//! - AAC and H.264 are never changed on their way to the channel.
//! - A full channel never blocks the connection: pictures are dropped to the next keyframe, sound unit by unit.

mod grid;
mod intake;
mod meter;
mod relay;
mod reorder;
mod session;
mod timeline;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Unit, describe_counter};
use origin::rtmp::{Counters, Ingest, Refusal, Request, Settings, code};
use signaling::auth::{Claims, Scope, Verifier};
use signaling::backend::Error;
use signaling::types::{ChannelId, ParticipantId, Role};
use signaling::{SessionLimiter, backend};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

use self::intake::Intake;
use self::meter::Meter;
use self::relay::Relay;
use self::session::Session;
use crate::backend as answers;
use crate::channel::manager::Manager;
use crate::channel::task::Direct;
use crate::channel::view;
use crate::clock;
use crate::config::RtmpIngest;
use crate::sfu::{Delivery, Policer, SessionId, StreamKey};

const CONNECTIONS: &str = "anchornet_rtmp_connections_total";
const REFUSED: &str = "anchornet_rtmp_refused_total";
const BAD_INPUT: &str = "anchornet_rtmp_bad_input_total";
const PANICS: &str = "anchornet_rtmp_panics_total";

/// Describes every metric of this module to the recorder.
pub fn describe_metrics() {
    let count = |name, text| describe_counter!(name, Unit::Count, text);
    count(
        CONNECTIONS,
        "RTMP connections of broadcasters accepted from the network",
    );
    count(
        REFUSED,
        "RTMP broadcasters refused or ended, by status code",
    );
    count(
        BAD_INPUT,
        "RTMP connections of broadcasters closed because of malformed input",
    );
    count(
        PANICS,
        "RTMP connections of broadcasters that panicked; always zero, or a bug",
    );
}

/// Lets broadcasters in until `stop` is cancelled.
///
/// # Errors
/// When the listener itself fails.
pub async fn serve(
    manager: Manager,
    verifier: Option<Arc<Verifier>>,
    limiter: SessionLimiter,
    listener: TcpListener,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let settings = settings(&manager.deps().config.rtmp_ingest);
    let door = Door {
        manager,
        verifier,
        limiter: Mutex::new(limiter),
    };
    origin::rtmp::serve(Arc::new(door), settings, listener, stop).await
}

fn settings(config: &RtmpIngest) -> Settings {
    Settings {
        app: config.app.clone(),
        max_connections: config.max_connections,
        max_message_bytes: ::media::h264::MAX_ACCESS_UNIT_BYTES,
        handshake_timeout: Duration::from_millis(config.handshake_timeout_ms),
        idle_timeout: Duration::from_millis(config.idle_timeout_ms),
    }
}

/// Who may come in, and where to.
struct Door {
    manager: Manager,
    verifier: Option<Arc<Verifier>>,
    limiter: Mutex<SessionLimiter>,
}

/// What a URL asks for.
struct Wish {
    channel: ChannelId,
    participant: Option<ParticipantId>,
    role: Option<Role>,
}

impl Wish {
    fn of(request: &Request) -> Result<Self, Refusal> {
        let bad = |name: &str, why: String| Refusal::new(code::BAD_NAME, format!("{name}: {why}"));
        let channel = ChannelId::new(request.stream.as_str());
        let channel = channel.map_err(|invalid| bad("the channel", invalid.to_string()))?;
        let participant = request.query.get("participant").map(ParticipantId::new);
        let participant = participant.transpose();
        let participant = participant.map_err(|invalid| bad("participant", invalid.to_string()))?;
        let role = match request.query.get("role") {
            None => None,
            Some("host") => Some(Role::Host),
            Some("guest") => Some(Role::Guest),
            Some(_) => return Err(bad("role", "it is host or guest".to_owned())),
        };
        Ok(Self {
            channel,
            participant,
            role,
        })
    }
}

impl Door {
    fn authorize(&self, request: &Request, wish: &Wish) -> Result<Option<Claims>, Refusal> {
        let Some(verifier) = &self.verifier else {
            return Ok(None);
        };
        let token = request.query.token().filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| {
            let how = "a token is needed: rtmp://…/live/{channel}?token=…";
            Refusal::new(code::UNAUTHORIZED, how)
        })?;
        let denied = |why: String| Refusal::new(code::DENIED, why);
        let claims = verifier
            .verify(token, clock::wall_ms() / 1_000)
            .map_err(|error| denied(error.to_string()))?;
        claims
            .may(&[Scope::Publish], Some(&wish.channel))
            .map_err(denied)?;
        Ok(Some(claims))
    }

    fn admit(&self, peer: IpAddr) -> Result<(), Refusal> {
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.admit(clock::now(), peer).map_err(|retry_after_s| {
            let why =
                format!("too many sessions from this address; try again in {retry_after_s} s");
            Refusal::new(code::FAILED, why)
        })
    }

    async fn enter(&self, request: &Request) -> Result<Session, Refusal> {
        let wish = Wish::of(request)?;
        let claims = self.authorize(request, &wish)?;
        self.admit(request.peer.ip())?;
        let identity = answers::identity(wish.participant, wish.role, claims.as_ref());
        let (participant, role) = identity.map_err(|error| refusal(&error))?;
        let channel = self.manager.find_or_create(&wish.channel).await;
        let channel = channel.map_err(|error| refusal(&answers::channel_error(error)))?;
        let id = SessionId(Uuid::new_v4());
        let (stats, measured) = watch::channel(None);
        let end = CancellationToken::new();
        let direct = Direct {
            end: end.clone(),
            stats: measured,
        };
        let key = StreamKey {
            channel: wish.channel.to_string(),
            participant: Some(participant.to_string()),
        };
        let sink = channel
            .enter(participant, role.map(view::machine_role), id, direct)
            .await
            .map_err(|error| refusal(&answers::publish_error(error)))?;
        let deps = self.manager.deps();
        let mut session = self.session(request.peer, stats, end, Delivery::new(id, sink));
        // From here on, dropping the session takes it out of the channel.
        let feed = deps.sfu.feed(id, key).await;
        let policy = deps.config.rtmp_ingest.b_frames;
        session.relay = feed.map(|feed| Relay::new(deps.sfu.clone(), feed, policy));
        if let Some(delivery) = &mut session.delivery {
            delivery.connected();
        }
        Ok(session)
    }

    fn session(
        &self,
        peer: SocketAddr,
        stats: watch::Sender<Option<crate::sfu::SessionStats>>,
        end: CancellationToken,
        delivery: Delivery,
    ) -> Session {
        let deps = self.manager.deps();
        Session {
            clock: deps.clock,
            intake: Intake::new(deps.clock.timestamp(clock::now()).as_nanos()),
            policer: Policer::new(deps.config.webrtc.max_bitrate_kbps),
            meter: Meter::new(clock::now(), peer),
            stats,
            end,
            delivery: Some(delivery),
            relay: None,
            reason: None,
        }
    }
}

impl Ingest for Door {
    type Publication = Session;

    const COUNTERS: Counters = Counters {
        connections: CONNECTIONS,
        refused: REFUSED,
        bad_input: BAD_INPUT,
        panics: PANICS,
    };

    async fn publish(&self, request: Request) -> Result<Session, Refusal> {
        let span = tracing::info_span!("rtmp", channel = request.stream);
        self.enter(&request).instrument(span).await
    }
}

/// What HTTP would answer, in RTMP's words.
fn refusal(error: &backend::Error) -> Refusal {
    let code = if matches!(error, Error::Forbidden(_)) {
        code::DENIED
    } else if matches!(error, Error::Conflict(_) | Error::NotFound(_)) {
        code::BAD_NAME
    } else {
        code::FAILED
    };
    if let Error::OwnedElsewhere { base_url } = error {
        let reason = format!("this channel lives on another node: {base_url}");
        return Refusal::new(code, reason);
    }
    Refusal::new(code, error.to_string())
}
