//! A backend that answers what a test tells it to and records what it was asked, and a client without sockets.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use serde_json::Value;
use signaling::backend::{
    Backend, Error, IceServer, Patched, PlayRequest, PublishRequest, Session, SessionRef,
};
use signaling::types::*;
use signaling::{Config, router};
use tokio::sync::broadcast;
use tower::ServiceExt;

pub(crate) const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";

pub(crate) struct Fake {
    /// Errors to answer with, first to last; then successes.
    pub(crate) errors: Mutex<VecDeque<Error>>,
    /// What was asked, in order.
    pub(crate) asked: Mutex<Vec<String>>,
    pub(crate) published: Mutex<Option<PublishRequest>>,
    pub(crate) picture: Mutex<Option<Upload>>,
    pub(crate) etag: String,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) readiness: Mutex<Vec<Check>>,
    /// Set: `publish` waits until notified.
    pub(crate) slow: Option<Arc<tokio::sync::Notify>>,
    pub(crate) channels: Vec<&'static str>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            errors: Mutex::default(),
            asked: Mutex::default(),
            picture: Mutex::default(),
            published: Mutex::default(),
            etag: "e1".to_owned(),
            events: broadcast::channel(4).0,
            readiness: Mutex::default(),
            slow: None,
            channels: vec!["a", "b", "c"],
        }
    }
}

impl Fake {
    fn asked(&self, what: impl Into<String>) -> Result<(), Error> {
        self.asked.lock().unwrap().push(what.into());
        self.errors.lock().unwrap().pop_front().map_or(Ok(()), Err)
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn fail(&self, error: Error) {
        self.errors.lock().unwrap().push_back(error);
    }
}

pub(crate) fn channel(id: &str) -> Channel {
    let id = ChannelId::new(id).unwrap();
    Channel {
        title: String::new(),
        mode: Mode::Solo,
        layout: Layout {
            name: LayoutName::Grid,
            tiles: Vec::new(),
            background: None,
        },
        slate: Slate::default(),
        order: Vec::new(),
        state: ChannelState::Idle,
        node: "n1".to_owned(),
        created_at: WallTime::default(),
        live_since: None,
        host: None,
        links: Vec::new(),
        show: None,
        participants: 0,
        destinations: 0,
        host_adaptation: HostAdaptation::default(),
        viewers: Viewers::default(),
        playback: Playback::below("", &id),
        id,
    }
}

fn session(participant: Option<ParticipantId>, etag: &str) -> Session {
    Session {
        id: SessionId::new("s1").unwrap(),
        participant,
        etag: etag.to_owned(),
        answer: "v=0\r\nanswer".to_owned(),
        ice_servers: vec![
            IceServer {
                url: "stun:stun.example:3478".to_owned(),
                credentials: None,
            },
            IceServer {
                url: "turn:turn.example".to_owned(),
                credentials: Some(("u".to_owned(), "p\"q".to_owned())),
            },
        ],
    }
}

#[async_trait]
impl Backend for Fake {
    async fn publish(&self, request: PublishRequest) -> Result<Session, Error> {
        if let Some(slow) = &self.slow {
            slow.notified().await;
        }
        self.asked(format!("publish {}", request.channel))?;
        let participant = request.participant.clone();
        *self.published.lock().unwrap() = Some(request);
        Ok(session(participant, &self.etag))
    }
    async fn play(&self, request: PlayRequest) -> Result<Session, Error> {
        let who = request
            .participant
            .map_or("program".to_owned(), String::from);
        self.asked(format!("play {} {who}", request.channel))?;
        Ok(session(None, &self.etag))
    }
    async fn session_patch(
        &self,
        session: &SessionRef,
        if_match: Option<String>,
        fragment: String,
    ) -> Result<Option<Patched>, Error> {
        self.asked(format!("patch {} {if_match:?}", session.id))?;
        if if_match.is_some_and(|tag| tag != self.etag) {
            return Err(Error::PreconditionFailed);
        }
        let restart = fragment.contains("ice-ufrag");
        Ok(restart.then(|| Patched {
            etag: "e2".to_owned(),
            fragment: "a=ice-ufrag:new\r\n".to_owned(),
        }))
    }
    async fn session_delete(&self, session: &SessionRef) -> Result<(), Error> {
        let SessionRef {
            channel,
            id,
            direction,
        } = session;
        self.asked(format!("delete {channel} {id} {direction:?}"))
    }
    async fn channels(&self, page: &PageRequest) -> Result<Page<Channel>, Error> {
        self.asked("channels")?;
        Ok(Page::of(
            self.channels.iter().map(|id| channel(id)),
            page,
            |channel| channel.id.clone(),
        ))
    }
    async fn channel_create(&self, create: ChannelCreate) -> Result<Channel, Error> {
        self.asked(format!("create {} {:?}", create.id, create.destinations))?;
        Ok(channel(create.id.as_str()))
    }
    async fn channel(&self, id: &ChannelId) -> Result<Channel, Error> {
        self.asked(format!("channel {id}"))?;
        if !self.channels.contains(&id.as_str()) {
            return Err(Error::NotFound("channel"));
        }
        Ok(channel(id.as_str()))
    }
    async fn channel_update(&self, id: &ChannelId, patch: ChannelPatch) -> Result<Channel, Error> {
        self.asked(format!("update {id} {patch:?}"))?;
        Ok(channel(id.as_str()))
    }
    async fn channel_delete(&self, id: &ChannelId) -> Result<(), Error> {
        self.asked(format!("end {id}"))
    }
    async fn set_mode(&self, _: &ChannelId, request: ModeRequest) -> Result<SwitchReport, Error> {
        self.asked(format!("mode {:?}", request.mode))?;
        Ok(SwitchReport {
            mode: request.mode,
            changed: false,
            requested_at: WallTime::default(),
            cut: None,
            splice: None,
        })
    }
    async fn switches(
        &self,
        _: &ChannelId,
        page: &PageRequest,
    ) -> Result<Page<SwitchRecord>, Error> {
        self.asked("switches")?;
        let record = |number| SwitchRecord {
            number,
            mode: Mode::Collab,
            requested_at: WallTime::default(),
            cut: None,
            splice: None,
        };
        Ok(Page::of((9..12).map(record), page, SwitchRecord::key))
    }
    async fn set_slate(&self, _: &ChannelId, text: Option<String>) -> Result<Slate, Error> {
        self.asked(format!("slate {text:?}"))?;
        Ok(Slate {
            text,
            ..Slate::default()
        })
    }
    async fn set_picture(
        &self,
        _: &ChannelId,
        place: PicturePlace,
        upload: Option<Upload>,
    ) -> Result<(), Error> {
        self.asked(format!("picture {place:?} {}", upload.is_some()))?;
        *self.picture.lock().unwrap() = upload;
        Ok(())
    }
    async fn picture(&self, _: &ChannelId, _: PicturePlace) -> Result<Upload, Error> {
        let found = self.picture.lock().unwrap().clone();
        found.ok_or(Error::NotFound("picture"))
    }
    async fn participants(
        &self,
        _: &ChannelId,
        page: &PageRequest,
    ) -> Result<Page<Participant>, Error> {
        self.asked("participants")?;
        Ok(Page::of([], page, |participant: &Participant| {
            participant.id.clone()
        }))
    }
    async fn participant_remove(
        &self,
        _: &ChannelId,
        participant: &ParticipantId,
    ) -> Result<(), Error> {
        self.asked(format!("kick {participant}"))
    }
    async fn links(&self, _: &ChannelId, page: &PageRequest) -> Result<Page<Link>, Error> {
        self.asked("links")?;
        let link = Link {
            channel: ChannelId::new("b").unwrap(),
            state: LinkState::Live,
        };
        Ok(Page::of([link], page, |link| link.channel.clone()))
    }
    async fn link(&self, channel: &ChannelId, other: &ChannelId) -> Result<Link, Error> {
        self.asked(format!("link {channel} {other}"))?;
        Ok(Link {
            channel: other.clone(),
            state: LinkState::Waiting,
        })
    }
    async fn unlink(&self, channel: &ChannelId, other: &ChannelId) -> Result<(), Error> {
        self.asked(format!("unlink {channel} {other}"))
    }
    async fn destinations(
        &self,
        _: &ChannelId,
        page: &PageRequest,
    ) -> Result<Page<Destination>, Error> {
        self.asked("destinations")?;
        Ok(Page::of([], page, |destination: &Destination| {
            destination.name.clone()
        }))
    }
    async fn set_destinations(
        &self,
        _: &ChannelId,
        specs: Vec<DestinationSpec>,
    ) -> Result<(), Error> {
        self.asked(format!("set {specs:?}"))
    }
    async fn stats(&self, id: &ChannelId) -> Result<ChannelStats, Error> {
        self.asked("stats")?;
        Ok(ChannelStats {
            channel: id.clone(),
            at: WallTime::default(),
            uptime_ms: 0,
            mode: Mode::Solo,
            state: ChannelState::Idle,
            program: ProgramStats::default(),
            participants: Vec::new(),
            destinations: Vec::new(),
            viewers: Viewers::default(),
        })
    }
    async fn nodes(&self, page: &PageRequest) -> Result<Page<Node>, Error> {
        self.asked("nodes")?;
        Ok(Page::of([], page, |node: &Node| node.id.clone()))
    }
    async fn relays(&self) -> Result<Relays, Error> {
        self.asked("relays")?;
        Ok(Relays::default())
    }
    fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
    async fn readiness(&self) -> Readiness {
        Readiness::of(self.readiness.lock().unwrap().clone())
    }
    async fn metrics(&self) -> String {
        "anchornet_up 1\n".to_owned()
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// Asserts that this is a problem of `status`, and returns its `field`.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> Option<String> {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let json = self.json();
        assert_eq!(json["status"], status);
        for member in ["type", "title", "detail"] {
            assert!(
                json[member].as_str().is_some_and(|text| !text.is_empty()),
                "{member}: {json}"
            );
        }
        json["field"].as_str().map(str::to_owned)
    }
}

/// The surface under test.
pub(crate) struct Surface {
    pub(crate) backend: Arc<Fake>,
    pub(crate) router: Router,
}

impl Surface {
    pub(crate) fn new(config: Config) -> Self {
        Self::with(Fake::default(), config)
    }

    pub(crate) fn with(fake: Fake, config: Config) -> Self {
        let backend = Arc::new(fake);
        let router = router(backend.clone(), config);
        Self { backend, router }
    }

    pub(crate) fn open() -> Self {
        Self::new(Config::default())
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        self.send(request(method, target, headers, body)).await
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[], "").await
    }

    pub(crate) async fn json(&self, method: &str, target: &str, body: &str) -> Answer {
        self.ask(
            method,
            target,
            &[("content-type", "application/json")],
            body,
        )
        .await
    }

    pub(crate) async fn offer(&self, target: &str) -> Answer {
        self.ask(
            "POST",
            target,
            &[("content-type", "application/sdp")],
            OFFER,
        )
        .await
    }
}

pub(crate) fn request(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request<Body> {
    let mut request = Request::builder()
        .method(method.parse::<Method>().unwrap())
        .uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

/// Every error of the backend with the status that it must have.
pub(crate) fn errors() -> Vec<(Error, StatusCode)> {
    let invalid = || Invalid::new("offer", "no H.264");
    vec![
        (Error::BadSdp("x".into()), StatusCode::BAD_REQUEST),
        (Error::Malformed(invalid()), StatusCode::BAD_REQUEST),
        (Error::Unauthorized("x".into()), StatusCode::UNAUTHORIZED),
        (Error::Forbidden("x".into()), StatusCode::FORBIDDEN),
        (Error::NotFound("channel"), StatusCode::NOT_FOUND),
        (
            Error::Conflict("a host is live".into()),
            StatusCode::CONFLICT,
        ),
        (Error::PreconditionFailed, StatusCode::PRECONDITION_FAILED),
        (
            Error::Unprocessable(invalid()),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            Error::TooManyRequests { retry_after_s: 3 },
            StatusCode::TOO_MANY_REQUESTS,
        ),
        (
            Error::Unavailable {
                reason: "full".into(),
                retry_after_s: 3,
            },
            StatusCode::SERVICE_UNAVAILABLE,
        ),
        (
            Error::NotImplemented("x".into()),
            StatusCode::NOT_IMPLEMENTED,
        ),
        (Error::Timeout("x".into()), StatusCode::GATEWAY_TIMEOUT),
        (
            Error::Internal("secret".into()),
            StatusCode::INTERNAL_SERVER_ERROR,
        ),
    ]
}
