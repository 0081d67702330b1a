//! WebRTC: WHIP offers in, access units on the anchor's clock out; WHEP offers in, the packets of a participant or of the
//! program out.
//!
//! One UDP socket (and ICE over TCP on the same port number) and one media thread serve every session. [`Sfu`] is a handle to that thread; it never blocks and
//! never panics when the thread is gone. The WebRTC engine is named only in `engine`, the socket only in
//! `socket`; everything between them (SDP, receive buffer, depacketizers, clock) is sans-IO.
//!
//! Invariants:
//! - A session delivers [`Ingress::Connected`] at most once and first, [`Ingress::Closed`] exactly once and last.
//! - A full sink never blocks the media thread: video is dropped to the next keyframe, audio packet by packet.
//! - Subscribers never slow the media thread down: what they cannot take is dropped (`egress`).
//! - What one peer sends costs bounded memory and can end only its own session.

mod activity;
mod batch;
mod config;
mod delivery;
mod demux;
mod depacketize;
mod egress;
mod engine;
mod feed;
mod ingest;
mod ingress_clock;
mod metrics;
mod packet;
mod packetize;
mod path;
mod policer;
mod program;
mod receive;
mod remote;
mod sdp;
mod session;
mod socket;
mod table;
mod tcp;
mod types;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use ::media::Clock;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use self::engine::Identity;
use self::sdp::answer::{self, Local, Streams};
use self::sdp::candidate::{self, Candidate};
use self::sdp::fragment::Fragment;
use self::sdp::{Credentials, Direction, Offer};
use self::session::Session;
use self::socket::Command;
use self::table::Table;

pub use config::Config;
pub(crate) use delivery::Delivery;
pub use feed::Feed;
#[cfg(test)]
pub(crate) use ingress_clock::DEAD_BAND;
pub(crate) use ingress_clock::{Astray, DeadBand, LATE, Side, WindowedMinimum};
pub use metrics::describe_metrics;
pub(crate) use packetize::h264_payloads;
pub(crate) use policer::Policer;
pub use program::{Demand, ProgramFeed, ProgramLink};
pub use types::{
    Answer, CloseReason, Ingress, LayerStats, OfferError, PatchError, Patched, SessionFlow,
    SessionId, SessionStats, StreamKey, StreamStats,
};

/// The receiving end's handle: units of all its sessions arrive tagged with the session.
pub type Sink = mpsc::Sender<(SessionId, Ingress)>;

/// Handle to the media thread. Cloning is cheap; the thread ends with [`Sfu::shutdown`] or with the last handle.
#[derive(Clone)]
pub struct Sfu {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

/// What offers are answered with, away from the media thread.
struct Shared {
    config: Config,
    clock: Clock,
    identity: Identity,
    local: SocketAddr,
    addresses: Vec<SocketAddr>,
    candidates: Vec<Candidate>,
}

impl Sfu {
    /// Binds the socket and starts the media thread.
    ///
    /// # Errors
    /// When the socket cannot be bound, no certificate can be made, or the thread cannot be started.
    pub fn start(config: Config, clock: Clock) -> io::Result<Self> {
        let identity = Identity::generate().map_err(io::Error::other)?;
        let ports = socket::bind(&config)?;
        let local = ports.udp.local_addr()?;
        let addresses = socket::addresses(&config, local)?;
        let candidates = candidate::all(&addresses, config.tcp);
        let table = Table::new(&config, candidates.clone());
        let max_tcp_connections = config.max_tcp_connections;
        let (commands, receiver) = mpsc::channel(socket::MAX_COMMANDS);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        thread::Builder::new()
            .name("sfu".to_owned())
            .spawn(move || {
                if let Err(error) =
                    runtime.block_on(socket::run(ports, max_tcp_connections, table, receiver))
                {
                    tracing::error!(%error, "the media thread has ended");
                }
            })?;
        let shared = Shared {
            config,
            clock,
            identity,
            local,
            addresses,
            candidates,
        };
        Ok(Self {
            shared: Arc::new(shared),
            commands,
        })
    }

    /// The bound address, of UDP and of ICE over TCP.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.shared.local
    }

    /// The addresses that answers advertise as ICE candidates.
    #[must_use]
    pub fn advertised(&self) -> Vec<SocketAddr> {
        self.shared.addresses.clone()
    }

    /// Accepts a WHIP offer; media goes to `sink` from then on, and to those who [subscribe](Self::subscribe) to `key`.
    ///
    /// An offer must have H.264; without an audio section the programme gets silence, with one it must have Opus.
    ///
    /// # Errors
    /// [`OfferError`]; nothing is left behind then.
    pub async fn publish(
        &self,
        offer: String,
        sink: Sink,
        key: Option<StreamKey>,
    ) -> Result<Answer, OfferError> {
        counted(self.accept(&offer, sink, key).await)
    }

    /// Accepts a WHEP offer: what is published under `key` goes out from then on, untouched, whichever session carries
    /// it. The session is closed when the last of them has ended and none followed in time. Of a picture that is published in
    /// several layers it gets the largest that its path carries, not higher than `max_height`.
    ///
    /// # Errors
    /// [`OfferError`], among them [`OfferError::UnknownStream`]; nothing is left behind then.
    pub async fn subscribe(
        &self,
        offer: String,
        key: StreamKey,
        max_height: Option<u32>,
    ) -> Result<Answer, OfferError> {
        let play = self.play(&offer, max_height, |id, session, reply| {
            Command::Subscribe {
                id,
                session,
                key,
                reply,
            }
        });
        counted(play.await)
    }

    /// A way for the program of a channel to its viewers, and what they need.
    #[must_use]
    pub fn program(&self, channel: String) -> (ProgramFeed, watch::Receiver<Demand>) {
        let (demand, needs) = watch::channel(Demand::default());
        let link = ProgramLink {
            id: SessionId(Uuid::new_v4()),
            key: StreamKey {
                channel,
                participant: None,
            },
            demand: Arc::new(demand),
        };
        (ProgramFeed::new(link, self.commands.clone()), needs)
    }

    /// Accepts a WHEP offer for a program: what its [`ProgramFeed`] takes goes out from the next keyframe on.
    ///
    /// # Errors
    /// [`OfferError`]: [`OfferError::UnknownStream`] when the channel has ended; nothing is left behind then.
    pub async fn watch(&self, offer: String, link: ProgramLink) -> Result<Answer, OfferError> {
        let play = self.play(&offer, None, |id, session, reply| Command::Watch {
            id,
            session,
            link,
            reply,
        });
        counted(play.await)
    }

    /// The program of a channel has ended: its viewers are told. Nobody is let in once the receiver of its demand is gone.
    pub async fn end_program(&self, feed: ProgramFeed) {
        let id = feed.link().id;
        let _ = self.send(Command::EndProgram { id }).await;
    }

    fn parse(&self, offer: &str, direction: Direction) -> Result<Offer, OfferError> {
        let limit = self.shared.config.max_sdp_bytes;
        if offer.len() > limit {
            let size = offer.len();
            return Err(OfferError::TooLarge { size, limit });
        }
        Offer::parse(offer, direction)
    }

    fn answer(&self, id: SessionId, session: &Session, streams: Option<Streams>) -> Answer {
        let Shared {
            config,
            identity,
            candidates,
            ..
        } = self.shared.as_ref();
        let (number, _) = Uuid::new_v4().as_u64_pair();
        let local = Local {
            credentials: session.credentials(),
            fingerprint: identity.fingerprint(),
            candidates,
            session: number >> 1,
            start_bitrate_kbps: config.start_bitrate_kbps,
            max_bitrate_kbps: config.max_bitrate_kbps,
            streams,
        };
        Answer {
            session: id,
            etag: session.etag(),
            sdp: answer::render(session.offer(), &local),
        }
    }

    async fn accept(
        &self,
        offer: &str,
        sink: Sink,
        key: Option<StreamKey>,
    ) -> Result<Answer, OfferError> {
        let offer = self.parse(offer, Direction::Publish)?;
        let Shared {
            config,
            clock,
            identity,
            ..
        } = self.shared.as_ref();
        let session = Session::publish(socket::now(), *clock, offer, identity, config)
            .map_err(|error| OfferError::Engine(error.to_string()))?;
        let id = SessionId(Uuid::new_v4());
        let answer = self.answer(id, &session, None);
        self.take_up(|reply| Command::Open {
            id,
            session: Box::new(session),
            delivery: Delivery::new(id, sink),
            key,
            reply,
        })
        .await?;
        Ok(answer)
    }

    async fn play(
        &self,
        offer: &str,
        max_height: Option<u32>,
        command: impl FnOnce(
            SessionId,
            Box<Session>,
            oneshot::Sender<Result<(), OfferError>>,
        ) -> Command,
    ) -> Result<Answer, OfferError> {
        let offer = self.parse(offer, Direction::Play)?;
        let Shared {
            config,
            clock,
            identity,
            ..
        } = self.shared.as_ref();
        let streams = streams();
        let session = Session::play(
            socket::now(),
            *clock,
            offer,
            (streams, max_height),
            identity,
            config,
        )
        .map_err(|error| OfferError::Engine(error.to_string()))?;
        let id = SessionId(Uuid::new_v4());
        let answer = self.answer(id, &session, Some(streams));
        self.take_up(|reply| command(id, Box::new(session), reply))
            .await?;
        Ok(answer)
    }

    async fn take_up(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), OfferError>>) -> Command,
    ) -> Result<(), OfferError> {
        let (reply, taken_up) = oneshot::channel();
        self.send(command(reply)).await.ok_or(OfferError::Stopped)?;
        taken_up.await.map_err(|_| OfferError::Stopped)?
    }

    /// Which stream a session publishes or receives, and which of both; `None` when there is no such session.
    pub async fn flow(&self, session: SessionId) -> Option<SessionFlow> {
        let (reply, flow) = oneshot::channel();
        self.send(Command::Flow { id: session, reply }).await?;
        flow.await.ok().flatten()
    }

    /// Trickled candidates (answered by `None`) or an ICE restart (answered by a fragment), RFC 9725 §4.3.
    ///
    /// # Errors
    /// [`PatchError`]; the session is unchanged then.
    pub async fn patch(
        &self,
        session: SessionId,
        if_match: Option<String>,
        fragment: String,
    ) -> Result<Option<Patched>, PatchError> {
        let limit = self.shared.config.max_sdp_bytes;
        if fragment.len() > limit {
            return Err(PatchError::TooLarge {
                size: fragment.len(),
                limit,
            });
        }
        let fragment = Fragment::parse(&fragment).map_err(PatchError::BadFragment)?;
        let (reply, result) = oneshot::channel();
        let command = Command::Patch {
            id: session,
            if_match,
            fragment,
            fresh: Credentials {
                ufrag: random_hex(8),
                pwd: random_hex(16),
            },
            reply,
        };
        self.send(command).await.ok_or(PatchError::Stopped)?;
        result.await.map_err(|_| PatchError::Stopped)?
    }

    /// Ends a session, telling the peer. Unknown sessions are ignored.
    pub async fn close(&self, session: SessionId) {
        let (reply, done) = oneshot::channel();
        let command = Command::Close { id: session, reply };
        if self.send(command).await.is_some() {
            let _ = done.await;
        }
    }

    /// Asks the publisher for a keyframe, at most once per `keyframe_min_interval_ms`. Never blocks: when the media
    /// thread is that busy, the request is dropped.
    pub fn request_keyframe(&self, session: SessionId) {
        let _ = self.commands.try_send(Command::Keyframe { id: session });
    }

    /// Units of a publisher who sends several sizes are needed at this height only, in pixels; none: as large as they come.
    /// Never blocks, as [`Self::request_keyframe`].
    pub fn set_height(&self, session: SessionId, height: Option<u32>) {
        let id = session;
        let _ = self.commands.try_send(Command::Height { id, height });
    }

    /// How a session is doing; `None` when there is no such session.
    pub async fn stats(&self, session: SessionId) -> Option<SessionStats> {
        let (reply, stats) = oneshot::channel();
        let command = Command::Stats { id: session, reply };
        self.send(command).await?;
        stats.await.ok().flatten()
    }

    /// Ends every session, telling the peers, and stops the media thread.
    pub async fn shutdown(&self) {
        let (reply, done) = oneshot::channel();
        if self.send(Command::Shutdown { reply }).await.is_some() {
            let _ = done.await;
        }
    }

    async fn send(&self, command: Command) -> Option<()> {
        self.commands.send(command).await.ok()
    }
}

fn counted(result: Result<Answer, OfferError>) -> Result<Answer, OfferError> {
    metrics::offer(match &result {
        Ok(_) => "accepted",
        Err(error) => error.label(),
    });
    result
}

/// Numbers for the streams of a subscriber: all different, and sequence numbers that do not wrap at once.
fn streams() -> Streams {
    let base = rand::random::<u32>() & !3 | 4;
    let seed = |at| egress::Seed {
        ssrc: base + at,
        rtx_ssrc: base + at + 1,
        sequence: rand::random::<u16>() >> 1,
        timestamp: rand::random(),
    };
    Streams {
        video: seed(0),
        audio: seed(2),
    }
}

/// This many random bytes in hexadecimal.
fn random_hex(bytes: usize) -> String {
    (0..bytes)
        .map(|_| format!("{:02x}", rand::random::<u8>()))
        .collect()
}

impl std::fmt::Debug for Sfu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sfu")
            .field("local", &self.shared.local)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
