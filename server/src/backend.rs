//! The HTTP surface's questions, answered by the parts of this node.

use std::sync::Arc;

use async_trait::async_trait;
use cdn_publisher::Destination as Target;
use metrics_exporter_prometheus::PrometheusHandle;
use signaling::auth::Claims;
use signaling::backend::{
    Backend, Direction, Error, IceServer, Patched, PlayRequest, PublishRequest, Session, SessionRef,
};
use signaling::types::{
    Channel, ChannelCreate, ChannelId, ChannelPatch, ChannelStats, Check, CheckStatus, Destination,
    DestinationSpec, Event, Invalid, Layout, Link, ModeRequest, Node, NodeRole, Page, PageRequest,
    Participant, ParticipantId, ParticipantPatch, PicturePlace, Readiness, Relays, Role, SessionId,
    Slate, SwitchRecord, SwitchReport, Upload, WallTime,
};
use tokio::sync::broadcast;

use crate::channel::manager::{self, Manager};
use crate::channel::switch::Refusal;
use crate::channel::task::{
    Handle, LinkError, ParticipantView, PublishError, Snapshot, SwitchError,
};
use crate::channel::{state, view};
use crate::registry::{Health, NodeRecord};
use crate::rlive::RelayView;
use crate::selftest::Reachability;
use crate::sfu::{self, OfferError, PatchError, StreamKey};
use crate::track_metrics::{self, Arrival};
use crate::{clock, turn};

/// When a client that found no room should try again.
const RETRY_AFTER_S: u64 = 5;

/// An anchor's answers.
pub struct AnchorBackend {
    manager: Manager,
    metrics: PrometheusHandle,
    reachability: Arc<std::sync::OnceLock<Vec<Reachability>>>,
    relays: Option<RelayView>,
}

impl AnchorBackend {
    /// A backend on `manager`. `reachability` is filled in when the self-test is done.
    #[must_use]
    pub fn new(
        manager: Manager,
        metrics: PrometheusHandle,
        reachability: Arc<std::sync::OnceLock<Vec<Reachability>>>,
    ) -> Self {
        Self {
            manager,
            metrics,
            reachability,
            relays: None,
        }
    }

    /// Shows the relays of a scheduler too.
    #[must_use]
    pub fn with_relays(self, relays: Option<RelayView>) -> Self {
        Self { relays, ..self }
    }

    async fn find(&self, id: &ChannelId) -> Result<Handle, Error> {
        self.manager.find(id).await.map_err(channel_error)
    }

    async fn snapshot(&self, id: &ChannelId) -> Result<Snapshot, Error> {
        self.find(id)
            .await?
            .snapshot()
            .await
            .ok_or(Error::NotFound("channel"))
    }

    /// The SFU's name of a session, if it is in that channel and goes that way.
    async fn session(&self, wanted: &SessionRef) -> Result<sfu::SessionId, Error> {
        let snapshot = self.snapshot(&wanted.channel).await?;
        let unknown = || Error::NotFound("session");
        let session = wanted.id.as_str().parse().map_err(|_| unknown())?;
        let flow = self.manager.deps().sfu.flow(session).await;
        let flow = flow.ok_or_else(unknown)?;
        let is_play = wanted.direction == Direction::Play;
        // Whom a link brings in publishes elsewhere, and is watched here.
        let mut people = snapshot.participants.iter();
        let mut by_link = || is_play && people.any(|p| p.stream.as_ref() == Some(&flow.stream));
        let is_here = flow.stream.channel == wanted.channel.as_str() || by_link();
        let is_meant = is_here && flow.receives == is_play;
        is_meant.then_some(session).ok_or_else(unknown)
    }

    /// For a participant, or for who watches.
    fn ice_servers(&self, participant: Option<&ParticipantId>) -> Vec<IceServer> {
        let name = participant.map_or("viewer", ParticipantId::as_str);
        turn::ice_servers(&self.manager.deps().config.webrtc, name, clock::wall_ms())
    }

    /// What the SFU measures on every participant's session, in the snapshot's order.
    async fn ingest(&self, snapshot: &Snapshot) -> Vec<Option<sfu::SessionStats>> {
        let mut measured = Vec::with_capacity(snapshot.participants.len());
        for participant in &snapshot.participants {
            measured.push(self.measured(participant).await);
        }
        measured
    }

    async fn measured(&self, participant: &ParticipantView) -> Option<sfu::SessionStats> {
        match participant.session {
            _ if participant.is_rtmp => participant.measured.clone(),
            Some(session) => self.manager.deps().sfu.stats(session).await,
            None => None,
        }
    }

    /// Everybody who publishes at this node, as far as a scrape has room, and how many more there are. Whom a link brings
    /// into a show is described where they publish.
    async fn arrivals(&self) -> (Vec<Arrival>, usize) {
        let (mut arrivals, mut left_out) = (Vec::new(), 0);
        for snapshot in self.manager.snapshots().await {
            for participant in snapshot.participants.iter().filter(|p| p.stream.is_none()) {
                if arrivals.len() == track_metrics::MAX_TRACKS {
                    left_out += 1;
                } else if let Some(stats) = self.measured(participant).await {
                    arrivals.push(Arrival {
                        channel: snapshot.id.to_string(),
                        participant: participant.id.to_string(),
                        stats,
                    });
                }
            }
        }
        (arrivals, left_out)
    }
}

pub(crate) fn channel_error(error: manager::Error) -> Error {
    match error {
        manager::Error::Unknown => Error::NotFound("channel"),
        manager::Error::Elsewhere(base_url) => Error::OwnedElsewhere { base_url },
        manager::Error::Exists => Error::Conflict(error.to_string()),
        manager::Error::Full(_) | manager::Error::Stopping => Error::Unavailable {
            reason: error.to_string(),
            retry_after_s: RETRY_AFTER_S,
        },
    }
}

pub(crate) fn publish_error(error: PublishError) -> Error {
    match error {
        PublishError::Refused(refused) => match refused {
            state::Error::Full => Error::Unavailable {
                reason: refused.to_string(),
                retry_after_s: RETRY_AFTER_S,
            },
            state::Error::HostIsLive | state::Error::RoleTaken | state::Error::Unknown => {
                Error::Conflict(refused.to_string())
            }
        },
        PublishError::Offer(offer) => offer_error(&offer),
        PublishError::Ended => Error::Unavailable {
            reason: error.to_string(),
            retry_after_s: 1,
        },
    }
}

fn offer_error(error: &OfferError) -> Error {
    match error.status() {
        404 => Error::NotFound("participant"),
        409 => Error::Conflict(error.to_string()),
        422 => Error::Unprocessable(Invalid::new("offer", error.to_string())),
        503 => Error::Unavailable {
            reason: error.to_string(),
            retry_after_s: RETRY_AFTER_S,
        },
        _ => Error::BadSdp(error.to_string()),
    }
}

fn switch_error(error: SwitchError) -> Error {
    match error {
        SwitchError::Invalid(invalid) => Error::Unprocessable(invalid),
        SwitchError::Refused(refusal) => match refusal {
            Refusal::NoHost | Refusal::NoGuest => Error::Conflict(refusal.to_string()),
            Refusal::Busy | Refusal::NoMixer(_) => Error::Unavailable {
                reason: refusal.to_string(),
                retry_after_s: 1,
            },
            Refusal::Timeout(_) => Error::Timeout(refusal.to_string()),
        },
    }
}

fn patch_error(error: &PatchError) -> Error {
    match error.status() {
        404 => Error::NotFound("session"),
        412 | 428 => Error::PreconditionFailed,
        503 => Error::Unavailable {
            reason: error.to_string(),
            retry_after_s: RETRY_AFTER_S,
        },
        _ => Error::BadSdp(error.to_string()),
    }
}

/// Entity tags travel without quotes in the backend's types.
fn unquoted(etag: &str) -> String {
    etag.trim_matches('"').to_owned()
}

/// A token may fix who one is and as what.
pub(crate) fn identity(
    participant: Option<ParticipantId>,
    role: Option<Role>,
    claims: Option<&Claims>,
) -> Result<(ParticipantId, Option<Role>), Error> {
    let participant = match (
        participant,
        claims.and_then(|claims| claims.participant.clone()),
    ) {
        (Some(asked), Some(granted)) if asked != granted => {
            return Err(Error::Forbidden(format!(
                "this token is for participant {granted}"
            )));
        }
        (Some(asked), _) => asked,
        (None, Some(granted)) => granted,
        (None, None) => {
            let fresh = format!("p-{:08x}", rand::random::<u32>());
            ParticipantId::new(fresh).map_err(Error::Unprocessable)?
        }
    };
    let role = match (role, claims.and_then(|claims| claims.role)) {
        (Some(asked), Some(granted)) if asked != granted => {
            return Err(Error::Forbidden("this token is for another role".into()));
        }
        (asked, granted) => asked.or(granted),
    };
    Ok((participant, role))
}

/// What a client wants besides the standard destinations.
///
/// A list that was read from the API shows the standard ones too and hides keys; it can be written back as it is:
/// an entry with a known name and its redacted URL keeps the URL it has.
fn resolve_destinations(
    specs: Vec<DestinationSpec>,
    standard: &[Target],
    known: &[Target],
    limit: usize,
) -> Result<Vec<Target>, Error> {
    let unchanged = |spec: &DestinationSpec, targets: &[Target]| {
        let same = |target: &&Target| {
            target.name == spec.name && view::redacted(&target.url) == spec.url.as_str()
        };
        targets.iter().find(same).cloned()
    };
    let mut wanted = Vec::new();
    for (at, spec) in specs.into_iter().enumerate() {
        if unchanged(&spec, standard).is_some() {
            continue;
        }
        if standard.iter().any(|target| target.name == spec.name) {
            let reason = "is the name of a destination that every channel has";
            return Err(Invalid::new(format!("[{at}].name"), reason).into());
        }
        let kept = unchanged(&spec, known);
        wanted.push(kept.unwrap_or_else(|| Target {
            name: spec.name,
            url: spec.url.as_str().to_owned(),
        }));
    }
    if wanted.len() > limit {
        let reason = format!("at most {limit} destinations are allowed");
        return Err(Invalid::new("destinations", reason).into());
    }
    Ok(wanted)
}

fn node(record: &NodeRecord) -> Node {
    let role = |role: &String| match role.as_str() {
        "anchor" => Some(NodeRole::Anchor),
        "origin" => Some(NodeRole::Origin),
        _ => None,
    };
    Node {
        id: record.id.clone(),
        url: record.url.clone(),
        roles: record.roles.iter().filter_map(role).collect(),
        version: record.version.clone(),
        started_at: WallTime::from_unix_ms(record.started_at_ms),
        seen_at: WallTime::from_unix_ms(record.seen_at_ms),
        channels: record.channels,
        sessions: record.sessions,
    }
}

fn registry_check(health: Health) -> Check {
    let (status, detail) = match health {
        Health::Ok => (CheckStatus::Ok, "reachable".to_owned()),
        Health::Degraded(why) => (CheckStatus::Degraded, why),
    };
    Check {
        name: "registry".into(),
        status,
        detail,
    }
}

/// A silent address is a warning: behind some NATs the test fails although broadcasters get through.
fn reachability_check(probed: Option<&Vec<Reachability>>) -> Check {
    let (status, detail) = match probed {
        None => (CheckStatus::Ok, "self-test running".to_owned()),
        Some(probed) => {
            let silent: Vec<String> = probed
                .iter()
                .filter(|probe| !probe.reachable)
                .map(|probe| probe.address.to_string())
                .collect();
            match silent.is_empty() {
                true => (
                    CheckStatus::Ok,
                    "the WebRTC port answers on every advertised address".to_owned(),
                ),
                false => {
                    let hint = "check webrtc.external_ips and the firewall";
                    (
                        CheckStatus::Degraded,
                        format!("no answer on {}: {hint}", silent.join(", ")),
                    )
                }
            }
        }
    };
    Check {
        name: "webrtc".into(),
        status,
        detail,
    }
}

#[async_trait]
impl Backend for AnchorBackend {
    async fn publish(&self, request: PublishRequest) -> Result<Session, Error> {
        let claims = request.claims.as_ref();
        let (participant, role) = identity(request.participant, request.role, claims)?;
        let role = role.map(view::machine_role);
        let answer = self
            .manager
            .publish(&request.channel, participant.clone(), role, request.offer)
            .await
            .map_err(channel_error)?
            .map_err(publish_error)?;
        Ok(Session {
            id: SessionId::new(answer.session.to_string()).map_err(Error::Unprocessable)?,
            ice_servers: self.ice_servers(Some(&participant)),
            participant: Some(participant),
            etag: unquoted(&answer.etag),
            answer: answer.sdp,
        })
    }

    async fn play(&self, request: PlayRequest) -> Result<Session, Error> {
        let ended = || Error::NotFound("channel");
        let answer = match request.participant {
            None => {
                let handle = self.find(&request.channel).await?;
                handle.watch(request.offer).await.ok_or_else(ended)?
            }
            Some(participant) => {
                let people = self.snapshot(&request.channel).await?.participants;
                let by_link = people.into_iter().find(|p| p.id == participant);
                let key = by_link.and_then(|p| p.stream).unwrap_or_else(|| StreamKey {
                    channel: request.channel.to_string(),
                    participant: Some(participant.to_string()),
                });
                let sfu = &self.manager.deps().sfu;
                sfu.subscribe(request.offer, key, request.max_height).await
            }
        };
        let answer = answer.map_err(|error| offer_error(&error))?;
        Ok(Session {
            id: SessionId::new(answer.session.to_string()).map_err(Error::Unprocessable)?,
            participant: None,
            etag: unquoted(&answer.etag),
            answer: answer.sdp,
            ice_servers: self.ice_servers(None),
        })
    }

    async fn session_patch(
        &self,
        session: &SessionRef,
        if_match: Option<String>,
        fragment: String,
    ) -> Result<Option<Patched>, Error> {
        let session = self.session(session).await?;
        let if_match = Some(if_match.map_or_else(|| "*".to_owned(), |etag| format!("\"{etag}\"")));
        let patched = self
            .manager
            .deps()
            .sfu
            .patch(session, if_match, fragment)
            .await;
        let patched = patched.map_err(|error| patch_error(&error))?;
        Ok(patched.map(|patched| Patched {
            etag: unquoted(&patched.etag),
            fragment: patched.fragment,
        }))
    }

    async fn session_delete(&self, session: &SessionRef) -> Result<(), Error> {
        let session = self.session(session).await?;
        self.manager.deps().sfu.close(session).await;
        Ok(())
    }

    async fn channels(&self, page: &PageRequest) -> Result<Page<Channel>, Error> {
        let deps = self.manager.deps();
        let channels = self.manager.snapshots().await;
        Ok(Page::of(
            channels
                .iter()
                .map(|snapshot| view::channel(snapshot, deps)),
            page,
            |c| c.id.clone(),
        ))
    }

    async fn channel_create(&self, create: ChannelCreate) -> Result<Channel, Error> {
        let id = create.id.clone();
        let deps = self.manager.deps();
        let standard = (deps.standard_destinations)(&id);
        resolve_destinations(
            create.destinations.clone(),
            &standard,
            &[],
            deps.config.channels.max_destinations,
        )?;
        self.manager.create(create).await.map_err(channel_error)?;
        self.channel(&id).await
    }

    async fn channel(&self, channel: &ChannelId) -> Result<Channel, Error> {
        Ok(view::channel(
            &self.snapshot(channel).await?,
            self.manager.deps(),
        ))
    }

    async fn channel_update(
        &self,
        channel: &ChannelId,
        patch: ChannelPatch,
    ) -> Result<Channel, Error> {
        if let Some(title) = patch.title {
            self.find(channel)
                .await?
                .set_title(title)
                .await
                .ok_or(Error::NotFound("channel"))?;
        }
        self.channel(channel).await
    }

    async fn channel_delete(&self, channel: &ChannelId) -> Result<(), Error> {
        self.find(channel).await?.close().await;
        Ok(())
    }

    async fn set_mode(
        &self,
        channel: &ChannelId,
        request: ModeRequest,
    ) -> Result<SwitchReport, Error> {
        let handle = self.find(channel).await?;
        let mode = view::machine_mode(request.mode);
        let answer = handle.set_mode(mode, request.layout, request.participants);
        let answer = answer.await.ok_or(Error::NotFound("channel"))?;
        answer.map_err(switch_error)
    }

    async fn switches(
        &self,
        channel: &ChannelId,
        page: &PageRequest,
    ) -> Result<Page<SwitchRecord>, Error> {
        let history = self.snapshot(channel).await?.stage.history;
        Ok(Page::of(history, page, SwitchRecord::key))
    }

    async fn set_layout(&self, channel: &ChannelId, layout: Layout) -> Result<Layout, Error> {
        let answer = self.find(channel).await?.set_layout(layout).await;
        Ok(answer.ok_or(Error::NotFound("channel"))??)
    }

    async fn set_slate(&self, channel: &ChannelId, text: Option<String>) -> Result<Slate, Error> {
        let answer = self.find(channel).await?.set_slate(text).await;
        answer.ok_or(Error::NotFound("channel"))
    }

    async fn set_picture(
        &self,
        channel: &ChannelId,
        place: PicturePlace,
        upload: Option<Upload>,
    ) -> Result<(), Error> {
        let answer = self.find(channel).await?.set_picture(place, upload).await;
        answer.ok_or(Error::NotFound("channel"))
    }

    async fn picture(&self, channel: &ChannelId, place: PicturePlace) -> Result<Upload, Error> {
        let answer = self.find(channel).await?.picture(place).await;
        let found = answer.ok_or(Error::NotFound("channel"))?;
        found.ok_or(Error::NotFound("picture"))
    }

    async fn participant_update(
        &self,
        channel: &ChannelId,
        participant: &ParticipantId,
        patch: ParticipantPatch,
    ) -> Result<Participant, Error> {
        let handle = self.find(channel).await?;
        let answer = handle.set_controls(participant.clone(), patch).await;
        answer
            .ok_or(Error::NotFound("channel"))?
            .ok_or(Error::NotFound("participant"))
    }

    async fn participants(
        &self,
        channel: &ChannelId,
        page: &PageRequest,
    ) -> Result<Page<Participant>, Error> {
        let snapshot = self.snapshot(channel).await?;
        let ingest = self.ingest(&snapshot).await;
        let mut participants: Vec<Participant> = snapshot
            .participants
            .iter()
            .zip(&ingest)
            .map(|(participant, stats)| view::participant(participant, stats.as_ref()))
            .collect();
        participants.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Page::of(participants, page, |participant| {
            participant.id.clone()
        }))
    }

    async fn participant_remove(
        &self,
        channel: &ChannelId,
        participant: &ParticipantId,
    ) -> Result<(), Error> {
        let kicked = self
            .find(channel)
            .await?
            .kick(participant.to_string())
            .await;
        kicked
            .ok_or(Error::NotFound("channel"))?
            .map_err(|_| Error::NotFound("participant"))
    }

    async fn links(&self, channel: &ChannelId, page: &PageRequest) -> Result<Page<Link>, Error> {
        let snapshot = self.snapshot(channel).await?;
        let links = snapshot
            .links
            .iter()
            .map(|other| view::link(&snapshot, other));
        Ok(Page::of(links, page, |link| link.channel.clone()))
    }

    async fn link(&self, channel: &ChannelId, other: &ChannelId) -> Result<Link, Error> {
        let owner = self.find(channel).await?;
        let member = self
            .manager
            .find(other)
            .await
            .map_err(|error| match error {
                manager::Error::Elsewhere(url) => Error::Conflict(format!(
                    "{other} is on another node ({url}): channels of one show must be on one node"
                )),
                manager::Error::Unknown => Error::from(Invalid::new(
                    "channel",
                    format!("there is no channel {other}"),
                )),
                error @ (manager::Error::Exists
                | manager::Error::Full(_)
                | manager::Error::Stopping) => channel_error(error),
            })?;
        let linked = owner.link(other.clone(), member).await;
        linked.map_err(|error| match error {
            LinkError::Ended => Error::NotFound("channel"),
            LinkError::Linked(_)
            | LinkError::Member { .. }
            | LinkError::Owner(_)
            | LinkError::NameTaken(_)
            | LinkError::Full => Error::Conflict(error.to_string()),
        })?;
        Ok(view::link(&self.snapshot(channel).await?, other))
    }

    async fn unlink(&self, channel: &ChannelId, other: &ChannelId) -> Result<(), Error> {
        match self.find(channel).await?.unlink(other.clone()).await {
            Some(true) => Ok(()),
            Some(false) => Err(Error::NotFound("link")),
            None => Err(Error::NotFound("channel")),
        }
    }

    async fn destinations(
        &self,
        channel: &ChannelId,
        page: &PageRequest,
    ) -> Result<Page<Destination>, Error> {
        let snapshot = self.snapshot(channel).await?;
        let mut destinations: Vec<Destination> = snapshot
            .destinations
            .iter()
            .map(view::destination)
            .collect();
        destinations.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Page::of(destinations, page, |destination| {
            destination.name.clone()
        }))
    }

    async fn set_destinations(
        &self,
        channel: &ChannelId,
        specs: Vec<DestinationSpec>,
    ) -> Result<(), Error> {
        let limit = self.manager.deps().config.channels.max_destinations;
        let handle = self.find(channel).await?;
        let known = handle
            .snapshot()
            .await
            .ok_or(Error::NotFound("channel"))?
            .targets;
        let standard = (self.manager.deps().standard_destinations)(channel);
        let wanted = resolve_destinations(specs, &standard, &known, limit)?;
        let all = standard.into_iter().chain(wanted).collect();
        handle
            .set_destinations(all)
            .await
            .ok_or(Error::NotFound("channel"))
    }

    async fn stats(&self, channel: &ChannelId) -> Result<ChannelStats, Error> {
        let snapshot = self.snapshot(channel).await?;
        let ingest = self.ingest(&snapshot).await;
        Ok(view::stats(&snapshot, &ingest, self.manager.deps()))
    }

    async fn nodes(&self, page: &PageRequest) -> Result<Page<Node>, Error> {
        let mut nodes = self.manager.deps().registry.nodes().await;
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Page::of(nodes.iter().map(node), page, |node| {
            node.id.clone()
        }))
    }

    async fn relays(&self) -> Result<Relays, Error> {
        match &self.relays {
            None => Ok(Relays::default()),
            Some(relays) => relays.read().await.map_err(|error| {
                tracing::warn!(%error, "the scheduler does not say what relays there are");
                Error::Unavailable {
                    reason: "the scheduler of relays cannot be reached".to_owned(),
                    retry_after_s: RETRY_AFTER_S,
                }
            }),
        }
    }

    fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.manager.deps().events.subscribe()
    }

    async fn readiness(&self) -> Readiness {
        let registry = registry_check(self.manager.deps().registry.health());
        Readiness::of(vec![registry, reachability_check(self.reachability.get())])
    }

    async fn metrics(&self) -> String {
        let (arrivals, left_out) = self.arrivals().await;
        let mut text = self.metrics.render();
        text.push_str(&track_metrics::render(&arrivals, left_out));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signaling::types::DestinationUrl;

    fn target(name: &str, url: &str) -> Target {
        Target {
            name: name.into(),
            url: url.into(),
        }
    }

    fn spec(name: &str, url: &str) -> DestinationSpec {
        DestinationSpec {
            name: name.into(),
            url: DestinationUrl::new(url).expect("valid"),
        }
    }

    #[test]
    fn a_list_that_was_read_can_be_written_back() {
        let standard = [target(
            "origin",
            "rtmp://127.0.0.1:1935/live/demo?token=secret",
        )];
        let known = [
            standard[0].clone(),
            target("cdn", "rtmps://cdn.example/app/key"),
        ];
        let read = known
            .iter()
            .map(|t| spec(&t.name, &view::redacted(&t.url)))
            .collect();
        assert_eq!(
            resolve_destinations(read, &standard, &known, 8),
            Ok(vec![known[1].clone()])
        );
    }

    #[test]
    fn standard_names_are_taken_and_the_limit_holds() {
        let standard = [target("origin", "rtmp://127.0.0.1:1935/live/demo")];
        let taken = resolve_destinations(vec![spec("origin", "rtmp://a/b/c")], &standard, &[], 8);
        assert!(matches!(taken, Err(Error::Unprocessable(invalid)) if invalid.field == "[0].name"));
        let many = vec![spec("a", "rtmp://a/b/c"), spec("b", "rtmp://a/b/d")];
        assert!(resolve_destinations(many, &standard, &[], 1).is_err());
    }
}
