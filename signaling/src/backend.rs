//! What the HTTP surface asks of the rest of the system.
//!
//! The composition root implements [`Backend`]; handlers parse, authorise and translate, and never decide
//! about channels. Arguments are valid by their types. Implementations need not time out: the router does.

use std::net::IpAddr;

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::auth::Claims;
use crate::types::{
    Channel, ChannelCreate, ChannelId, ChannelPatch, ChannelStats, Destination, DestinationSpec,
    Event, Invalid, Layout, Link, ModeRequest, Node, Page, PageRequest, Participant, ParticipantId,
    ParticipantPatch, PicturePlace, Readiness, Relays, Role, SessionId, Slate, SwitchRecord,
    SwitchReport, Upload,
};

/// Why an operation was not done. Each maps to one HTTP status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `400`: the SDP cannot be read. The text is for the peer.
    #[error("the SDP is not acceptable: {0}")]
    BadSdp(String),
    /// `400`: a field cannot be parsed.
    #[error("{0}")]
    Malformed(Invalid),
    /// `401`: no token, or not a good one.
    #[error("{0}")]
    Unauthorized(String),
    /// `403`: the token is good, but not for this.
    #[error("{0}")]
    Forbidden(String),
    /// `404`: no such thing; the text names the kind, for example `channel`.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// `409`: the state forbids it.
    #[error("{0}")]
    Conflict(String),
    /// `412`: `If-Match` is not the session's current entity tag.
    #[error("the entity tag is not the current one")]
    PreconditionFailed,
    /// `422`: understood but not possible; for offers, no H.264 or no Opus.
    #[error("{0}")]
    Unprocessable(Invalid),
    /// `429`: too much at once from this peer.
    #[error("too many requests")]
    TooManyRequests {
        /// When to come back, in seconds.
        retry_after_s: u64,
    },
    /// `503`: the node is full or stopping.
    #[error("{reason}")]
    Unavailable {
        /// In words.
        reason: String,
        /// When to come back, in seconds.
        retry_after_s: u64,
    },
    /// `501`: in the contract, but not in this version.
    #[error("{0}")]
    NotImplemented(String),
    /// `504`: it did not happen in time; the state is as before.
    #[error("{0}")]
    Timeout(String),
    /// `307` to the same path there: another node owns the channel.
    #[error("the channel is owned by the node at {base_url}")]
    OwnedElsewhere {
        /// `http(s)://host[:port]` of the owner.
        base_url: String,
    },
    /// `500`: our fault. The text goes to the log, not to the peer.
    #[error("internal error: {0}")]
    Internal(String),
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Unprocessable(invalid)
    }
}

/// A WHIP offer, already authorised.
#[derive(Clone, Debug)]
pub struct PublishRequest {
    /// The channel to broadcast in. It may not exist.
    pub channel: ChannelId,
    /// Who wants to; a fresh id is made when absent.
    pub participant: Option<ParticipantId>,
    /// As what; the first publisher of a channel is its host when absent.
    pub role: Option<Role>,
    /// The SDP offer.
    pub offer: String,
    /// The token's claims; `None` when authorisation is off.
    pub claims: Option<Claims>,
    /// The peer's address.
    pub remote_ip: IpAddr,
}

/// A WHEP offer, already authorised.
#[derive(Clone, Debug)]
pub struct PlayRequest {
    /// The channel.
    pub channel: ChannelId,
    /// One participant in real time, or the program when absent.
    pub participant: Option<ParticipantId>,
    /// The largest picture that is asked for, in pixels.
    pub max_height: Option<u32>,
    /// The SDP offer.
    pub offer: String,
    /// The token's claims; `None` when authorisation is off.
    pub claims: Option<Claims>,
    /// The peer's address.
    pub remote_ip: IpAddr,
}

/// Which way the media of a session goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The client sends: WHIP.
    Publish,
    /// The client receives: WHEP.
    Play,
}

/// Names a session by everything that its URL says about it: one that goes the other way, or that is in another channel,
/// is not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRef {
    /// The channel that it is in.
    pub channel: ChannelId,
    /// Its id.
    pub id: SessionId,
    /// WHIP or WHEP.
    pub direction: Direction,
}

/// An answered session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id: the last segment of `Location`.
    pub id: SessionId,
    /// Who it is: shown in `X-Participant`, so that a client with a fresh id learns it.
    pub participant: Option<ParticipantId>,
    /// Entity tag of the ICE session, without quotes.
    pub etag: String,
    /// The SDP answer.
    pub answer: String,
    /// STUN and TURN servers for the client.
    pub ice_servers: Vec<IceServer>,
}

/// A STUN or TURN server, told in a `Link` header (RFC 9725 section 4.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceServer {
    /// `stun:…`, `turn:…` or `turns:…`.
    pub url: String,
    /// TURN user name and credential.
    pub credentials: Option<(String, String)>,
}

/// The answer to an ICE restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patched {
    /// The new entity tag, without quotes.
    pub etag: String,
    /// The `application/trickle-ice-sdpfrag` with our new credentials and candidates.
    pub fragment: String,
}

/// The operations behind the HTTP surface.
///
/// Operations of one channel answer [`Error::OwnedElsewhere`] when another node owns it, and
/// [`Error::NotFound`] when nobody does.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Answers a WHIP offer. The session exists when this returns; media may follow.
    async fn publish(&self, request: PublishRequest) -> Result<Session, Error>;

    /// Answers a WHEP offer.
    async fn play(&self, request: PlayRequest) -> Result<Session, Error> {
        let _ = request;
        Err(Error::NotImplemented(
            "WHEP is not available in this version: watch by HTTP-FLV or HLS".into(),
        ))
    }

    /// Trickled candidates or an ICE restart (RFC 9725 section 4.3). `if_match` is the entity tag without quotes,
    /// `None` for `*`. `None` is answered for candidates alone.
    async fn session_patch(
        &self,
        session: &SessionRef,
        if_match: Option<String>,
        fragment: String,
    ) -> Result<Option<Patched>, Error>;

    /// Ends a session. Who published in it leaves at once.
    async fn session_delete(&self, session: &SessionRef) -> Result<(), Error>;

    /// Channels of the cluster, by id.
    async fn channels(&self, page: &PageRequest) -> Result<Page<Channel>, Error>;

    /// Creates a channel; [`Error::Conflict`] when it exists.
    async fn channel_create(&self, create: ChannelCreate) -> Result<Channel, Error>;

    /// One channel.
    async fn channel(&self, channel: &ChannelId) -> Result<Channel, Error>;

    /// Changes a channel.
    async fn channel_update(
        &self,
        channel: &ChannelId,
        patch: ChannelPatch,
    ) -> Result<Channel, Error>;

    /// Ends a channel: sessions are closed, destinations flushed.
    async fn channel_delete(&self, channel: &ChannelId) -> Result<(), Error>;

    /// Switches the mode; returns when the first access unit of the new mode is published.
    async fn set_mode(
        &self,
        channel: &ChannelId,
        request: ModeRequest,
    ) -> Result<SwitchReport, Error>;

    /// The newest switches of a channel, oldest first.
    async fn switches(
        &self,
        channel: &ChannelId,
        page: &PageRequest,
    ) -> Result<Page<SwitchRecord>, Error>;

    /// Changes the layout of the mix.
    async fn set_layout(&self, channel: &ChannelId, layout: Layout) -> Result<Layout, Error> {
        let _ = (channel, layout);
        Err(Error::NotImplemented(
            "layouts are not available in this version".into(),
        ))
    }

    /// Changes what the slate says; the node's default when absent.
    async fn set_slate(&self, channel: &ChannelId, text: Option<String>) -> Result<Slate, Error>;

    /// Takes a picture, or takes it away.
    async fn set_picture(
        &self,
        channel: &ChannelId,
        place: PicturePlace,
        upload: Option<Upload>,
    ) -> Result<(), Error>;

    /// The picture that was uploaded.
    async fn picture(&self, channel: &ChannelId, place: PicturePlace) -> Result<Upload, Error>;

    /// Broadcasters of a channel, by id.
    async fn participants(
        &self,
        channel: &ChannelId,
        page: &PageRequest,
    ) -> Result<Page<Participant>, Error>;

    /// Mutes, changes the volume, takes on or off the program.
    async fn participant_update(
        &self,
        channel: &ChannelId,
        participant: &ParticipantId,
        patch: ParticipantPatch,
    ) -> Result<Participant, Error> {
        let _ = (channel, participant, patch);
        Err(Error::NotImplemented(
            "participants cannot be changed in this version".into(),
        ))
    }

    /// Kicks a broadcaster.
    async fn participant_remove(
        &self,
        channel: &ChannelId,
        participant: &ParticipantId,
    ) -> Result<(), Error>;

    /// Channels whose hosts are guests of this one, by id.
    async fn links(&self, channel: &ChannelId, page: &PageRequest) -> Result<Page<Link>, Error>;

    /// Lets the host of `other` be a guest of `channel`; [`Error::Conflict`] when one of them is in a show already.
    async fn link(&self, channel: &ChannelId, other: &ChannelId) -> Result<Link, Error>;

    /// Ends a link.
    async fn unlink(&self, channel: &ChannelId, other: &ChannelId) -> Result<(), Error>;

    /// Destinations of a channel, by name.
    async fn destinations(
        &self,
        channel: &ChannelId,
        page: &PageRequest,
    ) -> Result<Page<Destination>, Error>;

    /// Replaces the set of destinations; those whose name and URL stay are not interrupted. Names are filled in and
    /// unique.
    async fn set_destinations(
        &self,
        channel: &ChannelId,
        specs: Vec<DestinationSpec>,
    ) -> Result<(), Error>;

    /// One snapshot.
    async fn stats(&self, channel: &ChannelId) -> Result<ChannelStats, Error>;

    /// Nodes of the cluster, by id.
    async fn nodes(&self, page: &PageRequest) -> Result<Page<Node>, Error>;

    /// The busiest relays of the scheduler, if there is one.
    async fn relays(&self) -> Result<Relays, Error>;

    /// Events from now on. A reader that lags behind the channel's bound is told to resync.
    fn subscribe(&self) -> broadcast::Receiver<Event>;

    /// Whether this node can serve. Must answer without waiting for anything remote.
    async fn readiness(&self) -> Readiness;

    /// Metrics in the Prometheus text format.
    async fn metrics(&self) -> String;
}
