//! WebRTC: WHIP offers in, access units on the anchor's clock out; WHEP offers in, the packets of a participant or of the
//! program out.
//!
//! One UDP socket (and ICE over TCP on the same port number) and one media thread serve every session; with more than one
//! thread, every channel belongs to one (`shard`). [`Sfu`] is a handle to the threads; it never blocks and
//! never panics when a thread is gone. The WebRTC engine is named only in `engine`, the socket only in
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
mod shard;
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
use self::sdp::candidate;
use self::sdp::fragment::Fragment;
use self::sdp::{Credentials, Direction, Offer};
use self::session::Session;
use self::shard::Shard;
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

/// Handle to the media threads. Cloning is cheap; they end with [`Sfu::shutdown`] or with the last handle.
#[derive(Clone)]
pub struct Sfu {
    shared: Arc<Shared>,
}

/// What offers are answered with, away from the media threads.
struct Shared {
    config: Config,
    clock: Clock,
    identity: Identity,
    /// The threads, at least one.
    shards: Vec<Shard>,
}

impl Sfu {
    /// Binds the sockets and starts the media threads.
    ///
    /// # Errors
    /// When a socket cannot be bound, no certificate can be made, or a thread cannot be started.
    pub fn start(config: Config, clock: Clock) -> io::Result<Self> {
        let identity = Identity::generate().map_err(io::Error::other)?;
        let threads = config.threads.max(1);
        let shards = (0..threads).map(|thread| start(&config, thread, threads));
        let shards = shards.collect::<io::Result<Vec<Shard>>>()?;
        let shared = Shared {
            config,
            clock,
            identity,
            shards,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The bound address of the first thread, of UDP and of ICE over TCP.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.shard(0).local
    }

    /// The addresses that answers advertise as ICE candidates.
    #[must_use]
    pub fn advertised(&self) -> Vec<SocketAddr> {
        let shards = self.shared.shards.iter();
        shards.flat_map(|shard| shard.addresses.clone()).collect()
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "of_channel and of_session stay below the number of threads"
    )]
    fn shard(&self, thread: usize) -> &Shard {
        &self.shared.shards[thread]
    }

    fn thread_of(&self, channel: &str) -> usize {
        shard::of_channel(channel, self.shared.shards.len())
    }

    /// Commands for the thread of a channel.
    fn commands_of(&self, channel: &str) -> &mpsc::Sender<Command> {
        &self.shard(self.thread_of(channel)).commands
    }

    /// Commands for the thread of a session.
    fn owner(&self, id: SessionId) -> &mpsc::Sender<Command> {
        let threads = self.shared.shards.len();
        &self.shard(shard::of_session(id, threads)).commands
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
        let thread = self.thread_of(&key.channel);
        let play = self.play(&offer, max_height, thread, |id, session, reply| {
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
        let commands = self.commands_of(&channel).clone();
        let link = ProgramLink {
            id: SessionId(Uuid::new_v4()),
            key: StreamKey {
                channel,
                participant: None,
            },
            demand: Arc::new(demand),
        };
        (ProgramFeed::new(link, commands), needs)
    }

    /// Accepts a WHEP offer for a program: what its [`ProgramFeed`] takes goes out from the next keyframe on.
    ///
    /// # Errors
    /// [`OfferError`]: [`OfferError::UnknownStream`] when the channel has ended; nothing is left behind then.
    pub async fn watch(&self, offer: String, link: ProgramLink) -> Result<Answer, OfferError> {
        let thread = self.thread_of(&link.key.channel);
        let play = self.play(&offer, None, thread, |id, session, reply| Command::Watch {
            id,
            session,
            link,
            reply,
        });
        counted(play.await)
    }

    /// The program of a channel has ended: its viewers are told. Nobody is let in once the receiver of its demand is gone.
    pub async fn end_program(&self, feed: ProgramFeed) {
        let link = feed.link();
        let command = Command::EndProgram { id: link.id };
        let _ = send(self.commands_of(&link.key.channel), command).await;
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
            shards,
            ..
        } = self.shared.as_ref();
        let owner = self.shard(shard::of_session(id, shards.len()));
        let (number, _) = Uuid::new_v4().as_u64_pair();
        let local = Local {
            credentials: session.credentials(),
            fingerprint: identity.fingerprint(),
            candidates: &owner.candidates,
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
        let thread = key.as_ref().map_or(0, |key| self.thread_of(&key.channel));
        let id = shard::new_session(thread, self.shared.shards.len());
        let answer = self.answer(id, &session, None);
        self.take_up(thread, |reply| Command::Open {
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
        thread: usize,
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
        let id = shard::new_session(thread, self.shared.shards.len());
        let answer = self.answer(id, &session, Some(streams));
        self.take_up(thread, |reply| command(id, Box::new(session), reply))
            .await?;
        Ok(answer)
    }

    async fn take_up(
        &self,
        thread: usize,
        command: impl FnOnce(oneshot::Sender<Result<(), OfferError>>) -> Command,
    ) -> Result<(), OfferError> {
        let (reply, taken_up) = oneshot::channel();
        let sent = send(&self.shard(thread).commands, command(reply)).await;
        sent.ok_or(OfferError::Stopped)?;
        taken_up.await.map_err(|_| OfferError::Stopped)?
    }

    /// Which stream a session publishes or receives, and which of both; `None` when there is no such session.
    pub async fn flow(&self, session: SessionId) -> Option<SessionFlow> {
        let (reply, flow) = oneshot::channel();
        let command = Command::Flow { id: session, reply };
        send(self.owner(session), command).await?;
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
        let sent = send(self.owner(session), command).await;
        sent.ok_or(PatchError::Stopped)?;
        result.await.map_err(|_| PatchError::Stopped)?
    }

    /// Ends a session, telling the peer. Unknown sessions are ignored.
    pub async fn close(&self, session: SessionId) {
        let (reply, done) = oneshot::channel();
        let command = Command::Close { id: session, reply };
        if send(self.owner(session), command).await.is_some() {
            let _ = done.await;
        }
    }

    /// Asks the publisher for a keyframe, at most once per `keyframe_min_interval_ms`. Never blocks: when the media
    /// thread is that busy, the request is dropped.
    pub fn request_keyframe(&self, session: SessionId) {
        let _ = self
            .owner(session)
            .try_send(Command::Keyframe { id: session });
    }

    /// Units of a publisher who sends several sizes are needed at this height only, in pixels; none: as large as they come.
    /// Never blocks, as [`Self::request_keyframe`].
    pub fn set_height(&self, session: SessionId, height: Option<u32>) {
        let id = session;
        let _ = self.owner(id).try_send(Command::Height { id, height });
    }

    /// How a session is doing; `None` when there is no such session.
    pub async fn stats(&self, session: SessionId) -> Option<SessionStats> {
        let (reply, stats) = oneshot::channel();
        let command = Command::Stats { id: session, reply };
        send(self.owner(session), command).await?;
        stats.await.ok().flatten()
    }

    /// Ends every session, telling the peers, and stops the media threads.
    pub async fn shutdown(&self) {
        for shard in &self.shared.shards {
            let (reply, done) = oneshot::channel();
            let command = Command::Shutdown { reply };
            if send(&shard.commands, command).await.is_some() {
                let _ = done.await;
            }
        }
    }
}

/// Starts one of so many threads.
fn start(config: &Config, thread: usize, threads: usize) -> io::Result<Shard> {
    let mut config = config.clone();
    if config.bind.port() != 0 {
        let port = u16::try_from(thread).ok();
        let port = port.and_then(|at| config.bind.port().checked_add(at));
        config
            .bind
            .set_port(port.ok_or(io::ErrorKind::AddrNotAvailable)?);
    }
    for limit in [
        &mut config.max_sessions,
        &mut config.max_half_open,
        &mut config.max_tcp_connections,
    ] {
        *limit = shard::share(*limit, threads);
    }
    let ports = socket::bind(&config)?;
    let local = ports.udp.local_addr()?;
    let addresses = socket::addresses(&config, local)?;
    let candidates = candidate::all(&addresses, config.tcp);
    let table = Table::new(&config, candidates.clone());
    let (commands, receiver) = mpsc::channel(socket::MAX_COMMANDS);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let max_tcp_connections = config.max_tcp_connections;
    thread::Builder::new()
        .name(format!("sfu-{thread}"))
        .spawn(move || {
            if let Err(error) =
                runtime.block_on(socket::run(ports, max_tcp_connections, table, receiver))
            {
                tracing::error!(%error, "a media thread has ended");
            }
        })?;
    Ok(Shard {
        commands,
        local,
        addresses,
        candidates,
    })
}

async fn send(commands: &mpsc::Sender<Command>, command: Command) -> Option<()> {
    commands.send(command).await.ok()
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
            .field("local", &self.local_address())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
