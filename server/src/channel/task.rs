//! The shell of one channel: a task that owns its state, program and publisher, and moves what they decide.
//!
//! Everything about a channel happens in this task, so there are no locks. Others talk to it through [`Handle`], whose
//! queue is bounded: a full queue makes callers wait, never the media.

mod direct;
mod handle;
mod show;
mod stage;
mod viewers;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use cdn_publisher::program::{Input as ProgramInput, Levels, Output as ProgramOutput};
use cdn_publisher::publisher::{Destination, DestinationStatus};
use cdn_publisher::{Program, Publisher, SourceId};
use media::{AccessUnit, Config as CodecConfig, Kind, Timestamp};
use signaling::types::{ChannelId, DestinationState, EventBody, ParticipantId};
use tokio::sync::{mpsc, watch};
use tracing::{Instrument, debug, error, info, info_span, warn};

use super::manager::Deps;
use super::state::{self, Event, Input, Limits, Output, Role, State};
use super::switch::Mode;
use super::view;
use crate::clock;
use crate::mixer::process::{Event as MixerEvent, Run};
use crate::sfu::{Answer, Demand, Ingress, SessionId, StreamKey};

use handle::{Answered, Command, Reply};
use show::Show;
use stage::Stage;
use viewers::Viewers;

pub use direct::Direct;
pub use handle::{Handle, ParticipantView, ProgramView, PublishError, Snapshot};
pub use show::LinkError;
pub use stage::{Controls, StageView, SwitchError};

/// Requests waiting for the channel.
const COMMANDS: usize = 64;
/// Access units waiting for the channel: about 8 s of one host. A full queue makes the SFU drop to the next keyframe.
const INGRESS: usize = 1_024;
/// Units waited for at a time.
const INGRESS_BATCH: usize = 64;
/// The program is served at points of this grid, not for each unit at a moment of its own: waking up costs more than the
/// work. Viewers get a unit at most this much later than its capture time + program delay.
const GRID: Duration = Duration::from_millis(10);
/// While the program has something to do within this time, units wait in the queue until then: nothing needs them
/// earlier, and whatever comes before the program decides is there in time.
const REST: Duration = Duration::from_millis(40);
/// How often states that have no event of their own are looked at.
const TICK: Duration = Duration::from_millis(500);
/// How long a channel that was created by publishing lives without anybody in it.
const EMPTY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long destinations get to take what is queued when the program ends.
const FLUSH: Duration = Duration::from_millis(1_500);

/// What a channel starts with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its id.
    pub id: ChannelId,
    /// Its title.
    pub title: String,
    /// Timestamp zero, on the wall clock, in ms.
    pub epoch_ms: u64,
    /// It came into being by somebody publishing, and goes when nobody is left.
    pub temporary: bool,
    /// Where the program goes.
    pub destinations: Vec<Destination>,
}

/// Starts the task of a channel. `ended` is called once, when the channel is over for whatever reason.
pub fn spawn(deps: Deps, setup: Setup, ended: impl FnOnce() + Send + 'static) -> Handle {
    let (commands, requests) = mpsc::channel(COMMANDS);
    let (sink, ingress) = mpsc::channel(INGRESS);
    let handle = Handle {
        commands: commands.clone(),
    };
    let span = info_span!(parent: None, "channel", channel = %setup.id);
    let limits = Limits {
        away_timeout: Duration::from_secs(deps.config.channels.away_timeout_s),
        max_participants: deps.config.channels.max_participants,
    };
    let now = clock::now();
    let (stage, mixer) = Stage::new(deps.config.mixer.clone());
    let (viewers, demand) = Viewers::new(&deps.sfu, setup.id.to_string());
    let task = Task {
        stage,
        show: Show::default(),
        viewers,
        state: State::new(limits),
        joined_at: HashMap::new(),
        sources: HashMap::new(),
        formats: HashMap::new(),
        direct: HashMap::new(),
        next_source: 0,
        running: None,
        destination_states: HashMap::new(),
        removed: None,
        empty_since: now,
        closing: None,
        next_tick: now + TICK,
        grid_origin: now,
        commands,
        sink,
        deps,
        setup,
    };
    tokio::spawn(
        async move {
            task.run(requests, ingress, mixer, demand).await;
            ended();
        }
        .instrument(span),
    );
    handle
}

/// The program while it runs.
struct Running {
    /// Program time zero on the anchor's clock.
    epoch: Timestamp,
    program: Program,
    publisher: Publisher,
    since_ms: u64,
    keyframes: u64,
    video_dts: Option<Timestamp>,
    audio_dts: Option<Timestamp>,
}

struct Task {
    deps: Deps,
    setup: Setup,
    state: State,
    stage: Stage,
    show: Show,
    viewers: Viewers,
    joined_at: HashMap<String, u64>,
    sources: HashMap<SessionId, SourceId>,
    formats: HashMap<SessionId, [Option<CodecConfig>; 2]>,
    /// Sessions that are not the SFU's.
    direct: HashMap<SessionId, Direct>,
    next_source: u64,
    running: Option<Running>,
    destination_states: HashMap<String, DestinationState>,
    /// Whom a producer has just removed.
    removed: Option<String>,
    empty_since: Instant,
    /// Somebody waits for the end.
    closing: Option<Reply<()>>,
    next_tick: Instant,
    /// A point of [`GRID`].
    grid_origin: Instant,
    commands: mpsc::Sender<Command>,
    sink: crate::sfu::Sink,
}

impl Task {
    async fn run(
        mut self,
        mut requests: mpsc::Receiver<Command>,
        mut ingress: mpsc::Receiver<(SessionId, Ingress)>,
        mut mixer: mpsc::Receiver<(Run, MixerEvent)>,
        mut demand: watch::Receiver<Demand>,
    ) {
        info!("channel created");
        let mut batch = Vec::with_capacity(INGRESS_BATCH);
        loop {
            let (deadline, rests) = self.deadline(clock::now());
            tokio::select! {
                biased;
                _ = ingress.recv_many(&mut batch, INGRESS_BATCH), if !rests => {}
                Some((run, event)) = mixer.recv() => self.mixer_event(clock::now(), run, event),
                Some(command) = requests.recv() => self.command(command),
                Ok(()) = demand.changed() => {
                    let demand = *demand.borrow_and_update();
                    self.viewers_need(clock::now(), demand);
                }
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
            let now = clock::now();
            while let Ok(item) = ingress.try_recv() {
                batch.push(item);
                if batch.len() >= INGRESS {
                    break;
                }
            }
            for (session, item) in batch.drain(..) {
                self.ingress(now, session, item);
            }
            self.timeouts(now);
            self.apply(now).await;
            if self.closing.is_some() || (self.setup.temporary && self.is_abandoned(now)) {
                break;
            }
        }
        drop(demand);
        self.end().await;
        self.deps.sfu.end_program(self.viewers.into_feed()).await;
        if let Some(reply) = self.closing {
            let _ = reply.send(());
        }
        info!("channel ended");
    }

    /// When to look again, and whether units can wait until then.
    fn deadline(&self, now: Instant) -> (Instant, bool) {
        let program = self.running.as_ref();
        let program = program.and_then(|running| running.program.poll_timeout());
        let program = program.map(|due| self.point(due));
        let deadline = [
            program,
            self.state.poll_timeout(),
            self.stage.poll_timeout(),
            self.viewers.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .fold(self.next_tick, Instant::min);
        // A mixer wants pictures as soon as they are there.
        let rests = !self.stage.has_mixer() && program.is_some_and(|due| due <= now + REST);
        (deadline, rests)
    }

    /// The first point of the grid that is not before `at`.
    fn point(&self, at: Instant) -> Instant {
        let since = at.saturating_duration_since(self.grid_origin);
        let grid = GRID.as_nanos();
        let missing = (grid - since.as_nanos() % grid) % grid;
        at + Duration::from_nanos(u64::try_from(missing).unwrap_or_default())
    }

    fn timeouts(&mut self, now: Instant) {
        self.state.handle_timeout(now);
        if let Some(running) = &mut self.running
            && running.program.poll_timeout().is_some_and(|at| at <= now)
        {
            running.program.handle_timeout(now);
        }
        self.stage_timeouts(now);
        self.viewers_timeout(now);
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.report_destinations();
        }
        if !self.state.participants().is_empty() || self.running.is_some() {
            self.empty_since = now;
        }
        self.drain_program();
    }

    fn is_abandoned(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.empty_since) >= EMPTY_TIMEOUT
    }

    fn ingress(&mut self, now: Instant, session: SessionId, item: Ingress) {
        match item {
            Ingress::Connected => self.decide(now, Input::Connected(session.0)),
            Ingress::Closed(reason) => {
                info!(%session, ?reason, "session closed");
                self.decide(now, Input::Left(session.0));
                self.formats.remove(&session);
                self.direct.remove(&session);
            }
            Ingress::Unit(unit) => self.unit(now, session, unit),
        }
    }

    fn decide(&mut self, now: Instant, input: Input) {
        if let Err(error) = self.state.handle(now, input) {
            debug!(%error, "refused by the channel");
        }
    }

    fn unit(&mut self, now: Instant, session: SessionId, unit: AccessUnit) {
        let formats = self.formats.entry(session).or_default();
        let [video, audio] = formats;
        let format = if unit.kind() == Kind::Video {
            video
        } else {
            audio
        };
        if format.as_ref() != Some(&unit.track.config) {
            *format = Some(unit.track.config.clone());
        }
        let is_video = unit.kind() == Kind::Video;
        if is_video {
            self.stage_picture(now, session, &unit);
        }
        self.share(session, &unit);
        let is_host = self.state.on_air() == Some(session.0);
        let (Some(source), Some(running)) = (self.sources.get(&session), &mut self.running) else {
            return;
        };
        if is_video && !is_host {
            return;
        }
        let source = *source;
        if let Err(error) = running
            .program
            .handle(now, ProgramInput::Unit { source, unit })
        {
            debug!(%error, "unit refused by the program");
        }
        self.drain_program();
    }

    fn drain_program(&mut self) {
        while let Some(output) = self.running.as_mut().and_then(|r| r.program.poll_output()) {
            match output {
                ProgramOutput::Unit(unit) => self.publish_unit(unit),
                ProgramOutput::LiveSound(unit) => self.show_viewers(clock::now(), &unit),
                ProgramOutput::Cut {
                    source,
                    video_dts,
                    audio_at,
                    method,
                } => self.program_cut(clock::now(), source, video_dts, audio_at, method),
                ProgramOutput::RequestKeyframe { source } => {
                    if self.mix_keyframe(source) {
                        continue;
                    }
                    let session = self.sources.iter().find(|(_, known)| **known == source);
                    if let Some((session, _)) = session {
                        self.deps.sfu.request_keyframe(*session);
                    }
                }
            }
        }
    }

    fn publish_unit(&mut self, unit: AccessUnit) {
        self.show_viewers(clock::now(), &unit);
        let Some(running) = &mut self.running else {
            return;
        };
        match unit.kind() {
            Kind::Video => {
                running.keyframes += u64::from(unit.keyframe);
                running.video_dts = Some(unit.dts);
            }
            Kind::Audio => running.audio_dts = Some(unit.dts),
        }
        running.publisher.send(unit);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Publish {
                id,
                role,
                offer,
                reply,
            } => self.publish(id, role, offer, reply),
            Command::Answered(answered) => self.answered(answered),
            Command::Enter(entrant, reply) => self.take_direct(entrant, reply),
            Command::Watch { offer, reply } => self.watch(offer, reply),
            Command::Snapshot(reply) => drop(reply.send(self.snapshot())),
            Command::Kick { id, reply } => {
                let result = self.state.handle(clock::now(), Input::Kick(id.clone()));
                self.removed = result.is_ok().then_some(id);
                let _ = reply.send(result);
            }
            Command::SetMode {
                mode,
                layout,
                participants,
                reply,
            } => self.set_mode(mode, layout, participants, reply),
            Command::SetLayout(layout, reply) => drop(reply.send(self.set_layout(layout))),
            Command::SetSlate(text, reply) => drop(reply.send(self.set_slate(text))),
            Command::SetPicture(place, upload, reply) => {
                self.set_picture(place, upload);
                let _ = reply.send(());
            }
            Command::Picture(place, reply) => drop(reply.send(self.picture(place))),
            Command::SetControls(id, patch, reply) => {
                drop(reply.send(self.set_controls(&id, &patch)));
            }
            Command::SetTitle(title) => {
                self.setup.title = title;
                self.announce();
            }
            Command::SetDestinations(destinations) => {
                if let Some(running) = &self.running {
                    running.publisher.set_destinations(destinations.clone());
                }
                self.setup.destinations = destinations;
                self.report_destinations();
                self.announce();
            }
            Command::Link(member, handle, reply) => self.link(member, handle, reply),
            Command::Unlink(member, reply) => {
                let _ = reply.send(self.unlink(clock::now(), &member));
            }
            Command::Show(message) => self.show_message(message),
            Command::Close(reply) => self.closing = Some(reply),
        }
    }

    /// The SFU answers in its own time; the channel goes on meanwhile.
    fn publish(
        &mut self,
        id: ParticipantId,
        role: Option<Role>,
        offer: String,
        reply: Reply<Result<Answer, PublishError>>,
    ) {
        let role = match self.state.admit(id.as_str(), role) {
            Ok(role) => role,
            Err(refused) => return drop(reply.send(Err(refused.into()))),
        };
        let (sfu, sink, commands) = (
            self.deps.sfu.clone(),
            self.sink.clone(),
            self.commands.clone(),
        );
        let key = StreamKey {
            channel: self.setup.id.to_string(),
            participant: Some(id.to_string()),
        };
        tokio::spawn(async move {
            let result = sfu.publish(offer, sink, Some(key)).await;
            let session = result.as_ref().ok().map(|answer| answer.session);
            let answered = Command::Answered(Answered {
                id,
                role,
                result,
                reply,
            });
            if commands.send(answered).await.is_err()
                && let Some(session) = session
            {
                sfu.close(session).await;
            }
        });
    }

    fn answered(
        &mut self,
        Answered {
            id,
            role,
            result,
            reply,
        }: Answered,
    ) {
        let result = result.map_err(PublishError::from).and_then(|answer| {
            let join = Input::Join {
                session: answer.session.0,
                participant: id.as_str().to_owned(),
                role: Some(role),
            };
            match self.state.handle(clock::now(), join) {
                Ok(()) => Ok(answer),
                Err(refused) => {
                    self.close_session(answer.session);
                    Err(refused.into())
                }
            }
        });
        if let Ok(answer) = &result {
            info!(participant = %id, session = %answer.session, ?role, "session accepted");
            self.joined_at
                .entry(id.as_str().to_owned())
                .or_insert_with(clock::wall_ms);
        }
        let session = result.as_ref().ok().map(|answer| answer.session);
        if reply.send(result).is_err()
            && let Some(session) = session
        {
            // The client hung up before its answer: nobody will ever connect.
            self.decide(clock::now(), Input::Left(session.0));
            self.close_session(session);
        }
    }

    fn close_session(&mut self, session: SessionId) {
        if self.gives_back(session) || self.end_direct(session) {
            return;
        }
        let sfu = self.deps.sfu.clone();
        tokio::spawn(async move { sfu.close(session).await });
    }

    /// Carries out what the channel's state machines decided.
    async fn apply(&mut self, now: Instant) {
        let mut changed = false;
        while let Some(output) = self.state.poll_output() {
            changed = true;
            match output {
                Output::StartProgram => self.start_program(),
                Output::EndProgram => self.end_program(now).await,
                Output::Attach(session) => {
                    self.attach(now, SessionId(session));
                    self.show_attached(SessionId(session));
                }
                Output::Detach(session) => {
                    self.detach(now, SessionId(session));
                    self.show_detached(SessionId(session));
                }
                Output::End(session) => self.close_session(SessionId(session)),
                Output::Event(event) => self.tell(event),
            }
        }
        if changed {
            let sources = &self.sources;
            self.formats
                .retain(|session, _| sources.contains_key(session));
            self.people_changed(now);
        }
        self.apply_stage(now);
        self.drain_program();
        self.apply_stage(now);
    }

    fn start_program(&mut self) {
        let (now, wall) = (clock::now(), clock::wall_ms());
        let epoch = clock::wall_to_anchor(self.deps.clock, self.setup.epoch_ms, now, wall);
        let config = self.deps.config.program.to_program();
        let program = match Program::new(config, self.deps.clock, epoch) {
            Ok(program) => program,
            Err(error) => {
                return error!(%error, "the program cannot start; the channel stays silent");
            }
        };
        let publisher = Publisher::start(
            self.setup.id.to_string(),
            self.deps.config.publisher.to_publisher(),
        );
        publisher.set_destinations(self.setup.destinations.clone());
        self.running = Some(Running {
            epoch,
            program,
            publisher,
            since_ms: wall,
            keyframes: 0,
            video_dts: None,
            audio_dts: None,
        });
        let is_watched = self.viewers.count() > 0;
        self.feed(now, ProgramInput::LiveSound(is_watched));
        // Guests may have come before the host.
        let waiting: Vec<(SessionId, SourceId)> = self
            .sources
            .iter()
            .map(|(session, source)| (*session, *source))
            .collect();
        for (session, source) in waiting {
            let gain = self.gain_of(session);
            self.feed(now, ProgramInput::Attach { source, gain });
        }
        info!("program started");
    }

    async fn end_program(&mut self, now: Instant) {
        self.end_stage(now);
        if let Some(running) = self.running.take() {
            running.publisher.shutdown(FLUSH).await;
            info!("program ended");
        }
        self.announce();
    }

    fn attach(&mut self, now: Instant, session: SessionId) {
        let source = SourceId(self.next_source);
        self.next_source += 1;
        self.sources.insert(session, source);
        let gain = self.gain_of(session);
        self.feed(now, ProgramInput::Attach { source, gain });
        if self.state.on_air() == Some(session.0) {
            self.show(now);
        }
        self.deps.sfu.request_keyframe(session);
    }

    fn detach(&mut self, now: Instant, session: SessionId) {
        if let Some(source) = self.sources.remove(&session) {
            self.feed(now, ProgramInput::Detach { source });
        }
    }

    fn feed(&mut self, now: Instant, input: ProgramInput) {
        if let Some(running) = &mut self.running
            && let Err(error) = running.program.handle(now, input)
        {
            warn!(%error, "refused by the program");
        }
    }

    fn tell(&mut self, event: Event) {
        let snapshot = self.snapshot();
        match event {
            Event::Joined(id, _) => {
                self.removed.take_if(|removed| *removed == id);
                info!(participant = %id, "participant connected");
                if let Some(joined) = snapshot.participants.iter().find(|p| p.id.as_str() == id) {
                    self.send(EventBody::ParticipantJoined(view::participant(
                        joined, None,
                    )));
                }
            }
            Event::Left(id, _) => {
                let removed = self.removed.take_if(|removed| *removed == id).is_some();
                info!(participant = %id, removed, "participant left");
                if let Ok(id) = ParticipantId::new(id) {
                    self.send(EventBody::ParticipantLeft {
                        id,
                        reason: if removed { "removed" } else { "disconnected" }.into(),
                    });
                }
            }
            Event::HostAway => warn!("the host is away"),
            Event::HostLive => info!("the host is live"),
        }
        self.announce();
    }

    fn announce(&self) {
        let snapshot = self.snapshot();
        self.send(EventBody::ChannelUpdated(view::channel(
            &snapshot, &self.deps,
        )));
    }

    fn send(&self, body: EventBody) {
        self.deps.events.send(Some(&self.setup.id), body);
    }

    fn report_destinations(&mut self) {
        let statuses: Vec<_> = self
            .destination_statuses()
            .iter()
            .map(view::destination)
            .collect();
        self.destination_states
            .retain(|name, _| statuses.iter().any(|status| status.name == *name));
        for status in statuses {
            let known = self
                .destination_states
                .insert(status.name.clone(), status.state);
            if known != Some(status.state) {
                info!(destination = %status.name, state = ?status.state, error = status.last_error, "destination");
                self.send(EventBody::DestinationUpdated(status));
            }
        }
    }

    fn is_on_air(&self, participant: &state::Participant) -> bool {
        let alone = self.stage.mode() == Mode::Solo;
        participant.live.is_some()
            && (participant.role == Role::Host
                || (!alone && self.stage.is_on_program(&participant.id)))
    }

    fn snapshot(&self) -> Snapshot {
        let levels: HashMap<SourceId, Levels> = self
            .running
            .as_ref()
            .map(|running| running.program.levels().collect())
            .unwrap_or_default();
        let participants = self.state.participants().iter().filter_map(|p| {
            let session = p.live.or(p.pending).map(SessionId);
            let direct = session.and_then(|session| self.direct.get(&session));
            let [video, audio] = session
                .and_then(|session| self.formats.get(&session))
                .cloned()
                .unwrap_or_default();
            Some(ParticipantView {
                id: ParticipantId::new(p.id.clone()).ok()?,
                role: p.role,
                session,
                connected: p.live.is_some(),
                on_air: self.is_on_air(p),
                controls: self.stage.controls(&p.id),
                level: session
                    .and_then(|session| self.sources.get(&session))
                    .and_then(|source| levels.get(source))
                    .copied(),
                joined_at_ms: self
                    .joined_at
                    .get(&p.id)
                    .copied()
                    .unwrap_or(self.setup.epoch_ms),
                video,
                audio,
                is_rtmp: direct.is_some(),
                measured: direct.and_then(|direct| direct.stats.borrow().clone()),
                stream: session.and_then(|session| self.show.stream(session).cloned()),
            })
        });
        let destinations = self.destination_statuses();
        Snapshot {
            id: self.setup.id.clone(),
            title: self.setup.title.clone(),
            created_at_ms: self.setup.epoch_ms,
            live_since_ms: self.running.as_ref().map(|running| running.since_ms),
            host_live: self.state.on_air().is_some(),
            stage: self.stage.view(),
            links: self.show.members().cloned().collect(),
            show: self.show.owner().cloned(),
            viewers: self.viewers.count(),
            participants: participants.collect(),
            targets: self.setup.destinations.clone(),
            destinations,
            program: self.running.as_ref().map(|running| ProgramView {
                stats: running.program.stats(clock::now()),
                keyframes: running.keyframes,
                video_dts: running.video_dts,
                audio_dts: running.audio_dts,
            }),
        }
    }

    /// URLs are redacted in the form in which the API takes them back.
    fn destination_statuses(&self) -> Vec<DestinationStatus> {
        let targets = self.setup.destinations.iter();
        let Some(running) = &self.running else {
            return targets.map(view::idle_destination).collect();
        };
        let mut statuses = running.publisher.status();
        for status in &mut statuses {
            if let Some(target) = self
                .setup
                .destinations
                .iter()
                .find(|target| target.name == status.name)
            {
                status.url = view::redacted(&target.url);
            }
        }
        statuses
    }

    /// Tells everybody and flushes what is queued.
    async fn end(&mut self) {
        // First: the sessions of others are not this channel's to end.
        self.end_links(clock::now());
        let sessions: Vec<SessionId> = self
            .state
            .participants()
            .iter()
            .flat_map(|p| p.live.into_iter().chain(p.pending))
            .map(SessionId)
            .collect();
        for session in sessions {
            if !self.end_direct(session) {
                self.deps.sfu.close(session).await;
            }
        }
        self.end_stage(clock::now());
        if let Some(running) = self.running.take() {
            running.publisher.shutdown(FLUSH).await;
        }
        self.send(EventBody::ChannelDeleted {});
    }
}
