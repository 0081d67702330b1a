//! The stage of a channel: what the mixer is told, what the program shows, and how loud everybody is.
//!
//! The machines decide ([`Switch`], [`Supervisor`]); this part of the channel's task carries it out. Every participant's
//! sound is on the program's bus all the time and only its gain changes; pictures of everybody on program go to the
//! mixer while one runs, and to the program only from the host and the mixer.
//!
//! A mixer process knows nothing at its start: when it has greeted, it is told everything again, and each
//! participant's pictures since their last IDR, so that its first picture shows everybody.

mod look;
mod mixing;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cdn_publisher::SourceId;
use cdn_publisher::program::{Input as ProgramInput, SpliceMethod};
use media::link::{Configure, Scene, ToMixer};
use media::{Timestamp, Track};
use signaling::types::{EventBody, Invalid, Layout, LayoutName, Participant, ParticipantId};
use signaling::types::{ParticipantPatch, Slate, SwitchRecord, SwitchReport};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::{Reply, Task};
use crate::channel::gop::Gop;
use crate::channel::state::Role;
use crate::channel::switch::{self, Mode, Picture, Refusal, Switch, Ticket};
use crate::channel::view;
use crate::clock;
use crate::config;
use crate::mixer::process::{self, Event, Place, Process, Run};
use crate::mixer::supervisor::{self, Supervisor};
use crate::sfu::SessionId;

/// Messages of the mixer waiting for the channel; beyond, the mixer waits.
const EVENTS: usize = 256;
/// How often the mixer is told who speaks.
const LEVELS_INTERVAL: Duration = Duration::from_millis(100);
/// How far apart the IDRs of a mix that is not on air are: a cut waits for one that is still to be published. Nobody pays for the
/// bits, and the rate control keeps the pictures presentable.
const STANDBY_IDR_INTERVAL: Duration = Duration::from_millis(200);
/// Settings of participants that are remembered, also of those who left.
const MAX_CONTROLS: usize = 256;
/// Switches that are remembered for the console.
const MAX_HISTORY: usize = 50;

/// Why a switch was refused.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// The request names what is not there.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// It did not happen.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// A switch that is asked for, waiting for its answer.
pub(super) struct Asked {
    at_ms: u64,
    reply: Reply<Result<SwitchReport, SwitchError>>,
}

/// What a producer set for a participant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Controls {
    /// Not heard.
    pub muted: bool,
    /// Linear gain.
    pub volume: f32,
    /// Seen and heard in collab.
    pub on_program: bool,
}

impl Default for Controls {
    fn default() -> Self {
        Self {
            muted: false,
            volume: 1.0,
            on_program: true,
        }
    }
}

/// A participant on stage.
struct Person {
    /// Their number on the link.
    input: u32,
    gop: Gop,
    /// The configuration that the mixer has of them.
    told: Option<Arc<Track>>,
}

/// What there is of a mixer.
struct MixerRun {
    run: Run,
    /// None when it is another channel's.
    process: Option<Process>,
    /// What it was told to make, once it has greeted.
    configured: Option<Configure>,
    /// Its output as a source of the program, from its first configuration on.
    output: Option<(SourceId, Arc<Track>)>,
    /// What it was told to show last.
    scene: Option<Scene>,
    /// When that was told while the mix was not on air: pictures from before show something else.
    staged: Option<Timestamp>,
    /// Where it was told that the host's pictures are.
    phase_ns: i64,
    /// The newest image that it was sent.
    images: u32,
}

impl MixerRun {
    fn new(run: Run, process: Option<Process>) -> Self {
        Self {
            run,
            process,
            configured: None,
            output: None,
            scene: None,
            staged: None,
            phase_ns: 0,
            images: 0,
        }
    }

    /// The process, once it can be told things.
    fn greeted(&self) -> Option<&Process> {
        self.configured.as_ref().and(self.process.as_ref())
    }
}

/// See the module documentation.
pub(super) struct Stage {
    config: config::Mixer,
    switch: Switch,
    supervisor: Supervisor,
    mixer: Option<MixerRun>,
    runs: Run,
    events: mpsc::Sender<(Run, Event)>,
    people: BTreeMap<String, Person>,
    next_input: u32,
    controls: HashMap<String, Controls>,
    layout: Layout,
    look: look::Look,
    /// Who is in the mix, in this order; everybody when absent.
    order: Option<Vec<ParticipantId>>,
    /// Who is here from the show in which this channel's host is a guest: its own guests are not on program then.
    borrowed: Option<HashSet<String>>,
    /// What the program is to show.
    wanted: Option<Picture>,
    asked: HashMap<Ticket, Asked>,
    next_ticket: Ticket,
    next_levels: Instant,
    next_standby_idr: Instant,
    /// When the host's newest picture arrived.
    host_seen: Option<Instant>,
    host_silent: bool,
    history: VecDeque<SwitchRecord>,
    switches: u64,
}

/// The stage as seen from outside.
#[derive(Clone, Debug)]
pub struct StageView {
    /// What feeds the program by the channel's mode.
    pub mode: Mode,
    /// What is shown.
    pub shown: Option<Picture>,
    /// The layout of the mix.
    pub layout: Layout,
    /// Slate and pictures, as far as a producer chose them.
    pub slate: Slate,
    /// Who is in the mix, in this order; everybody when empty.
    pub order: Vec<ParticipantId>,
    /// The newest switches, oldest first.
    pub history: Vec<SwitchRecord>,
    /// Switches since the channel began.
    pub switches: u64,
}

impl Stage {
    pub(super) fn new(config: config::Mixer) -> (Self, mpsc::Receiver<(Run, Event)>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        let switch = Switch::new(switch::Config {
            switch_timeout: Duration::from_millis(config.switch_timeout_ms),
            prewarm: config.prewarm,
        });
        let patience = supervisor::Config {
            start_timeout: Duration::from_millis(config.start_timeout_ms),
            stall_timeout: Duration::from_millis(config.stall_timeout_ms),
        };
        let stage = Self {
            supervisor: Supervisor::new(patience, rand::random()),
            config,
            switch,
            mixer: None,
            runs: 0,
            events,
            people: BTreeMap::new(),
            next_input: 1,
            controls: HashMap::new(),
            layout: Layout {
                name: LayoutName::Grid,
                tiles: Vec::new(),
                background: None,
            },
            look: look::Look::default(),
            order: None,
            borrowed: None,
            wanted: None,
            asked: HashMap::new(),
            next_ticket: 0,
            next_levels: clock::now(),
            next_standby_idr: clock::now(),
            host_seen: None,
            host_silent: false,
            history: VecDeque::new(),
            switches: 0,
        };
        (stage, receiver)
    }

    pub(super) fn view(&self) -> StageView {
        StageView {
            mode: self.switch.mode(),
            shown: self.switch.shown(),
            layout: self.layout.clone(),
            slate: self.look.view(),
            order: self.order.clone().unwrap_or_default(),
            history: self.history.iter().cloned().collect(),
            switches: self.switches,
        }
    }

    pub(super) fn controls(&self, id: &str) -> Controls {
        self.controls.get(id).copied().unwrap_or_default()
    }

    /// Whether a guest is in the mix when there is one.
    pub(super) fn is_on_program(&self, id: &str) -> bool {
        let listed = |order: &Vec<ParticipantId>| order.iter().any(|listed| listed.as_str() == id);
        let in_show = self.borrowed.as_ref().is_none_or(|who| who.contains(id));
        self.controls(id).on_program && self.order.as_ref().is_none_or(listed) && in_show
    }

    fn is_cast(&self, id: &str, role: Role) -> bool {
        role == Role::Host || self.is_on_program(id)
    }

    fn gain(&self, id: &str, role: Role, mode: Mode) -> f32 {
        let controls = self.controls(id);
        let heard = role == Role::Host || (mode == Mode::Collab && self.is_on_program(id));
        if heard && !controls.muted {
            controls.volume
        } else {
            0.0
        }
    }

    /// Says something to a mixer that has greeted. One that does not listen is stopped by its silence.
    fn say(&self, message: ToMixer) {
        if let Some(process) = self.mixer.as_ref().and_then(MixerRun::greeted)
            && !process.say(message)
        {
            debug!("the mixer does not read");
        }
    }

    /// What feeds the program by the channel's mode.
    pub(super) fn mode(&self) -> Mode {
        self.switch.mode()
    }

    /// Where the channel's mixer runs.
    fn place(&self) -> Place {
        let config::Mixer {
            address,
            secret_env,
            command,
            ..
        } = &self.config;
        if address.is_empty() {
            return Place::Here(process::find(command));
        }
        Place::There {
            address: address.clone(),
            secret: std::env::var(secret_env).ok(),
        }
    }

    /// The channel becomes a member of a show, or is none any more.
    pub(super) fn borrow(&mut self, who: Option<HashSet<String>>) {
        self.borrowed = who;
    }

    /// Somebody of the show is here.
    pub(super) fn let_in(&mut self, id: &str) {
        if let Some(who) = &mut self.borrowed {
            who.insert(id.to_owned());
        }
    }

    /// Where a mixer's events go.
    pub(super) fn events(&self) -> mpsc::Sender<(Run, Event)> {
        self.events.clone()
    }

    pub(super) fn handle(&mut self, now: Instant, input: switch::Input) {
        self.switch.handle(now, input);
    }

    pub(super) fn supervise(&mut self, now: Instant, input: supervisor::Input) {
        self.supervisor.handle(now, input);
    }

    /// The mix is of participants, not a slate.
    pub(super) fn shows_people(&self) -> bool {
        self.switch.is_collab()
    }

    /// A request for a mode whose answer nobody waits for.
    pub(super) fn unasked(&mut self, mode: Mode) -> switch::Input {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        switch::Input::Request(ticket, mode)
    }

    pub(super) fn set_controls_of(&mut self, id: &str, controls: Controls) {
        if self.controls.len() < MAX_CONTROLS || self.controls.contains_key(id) {
            self.controls.insert(id.to_owned(), controls);
        }
    }

    pub(super) fn keyframe(&self) {
        self.say(ToMixer::Keyframe);
    }

    /// A mixer runs, or is being started.
    pub(super) fn has_mixer(&self) -> bool {
        self.mixer.is_some()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let levels = self.mixer.is_some().then_some(self.next_levels);
        [
            self.switch.poll_timeout(),
            self.supervisor.poll_timeout(),
            self.silence_at(),
            levels,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// When the host counts as silent, whether it is connected or not.
    fn silence_at(&self) -> Option<Instant> {
        let patience = Duration::from_millis(self.config.slate_after_ms);
        let seen = self.host_seen.filter(|_| !self.host_silent)?;
        (!patience.is_zero()).then(|| seen + patience)
    }
}

impl Task {
    /// Carries out what the stage's machines decided. Called after everything that happens.
    pub(super) fn apply_stage(&mut self, now: Instant) {
        loop {
            if let Some(output) = self.stage.supervisor.poll_output() {
                self.apply_supervisor(now, output);
            } else if let Some(output) = self.stage.switch.poll_output() {
                self.apply_switch(now, output);
            } else {
                break;
            }
        }
    }

    fn apply_supervisor(&mut self, now: Instant, output: supervisor::Output) {
        let input = match output {
            supervisor::Output::Start => return self.start_mixer(now),
            supervisor::Output::Stop => return self.drop_mixer(now),
            supervisor::Output::Up => switch::Input::MixerUp,
            supervisor::Output::Down(why) => {
                warn!(why, "the mixer is down");
                metrics::counter!("anchornet_mixer_failures_total").increment(1);
                self.drop_mixer(now);
                switch::Input::MixerDown
            }
            supervisor::Output::Failed(why) => {
                warn!(why, "the mixer did not start");
                metrics::counter!("anchornet_mixer_failures_total").increment(1);
                self.drop_mixer(now);
                switch::Input::MixerFailed(why)
            }
        };
        self.stage.switch.handle(now, input);
    }

    fn apply_switch(&mut self, now: Instant, output: switch::Output) {
        match output {
            switch::Output::Mixer(wanted) => {
                let input = supervisor::Input::Wanted(wanted);
                self.stage.supervisor.handle(now, input);
            }
            switch::Output::Show(picture) => {
                self.stage.wanted = Some(picture);
                self.set_scene(now);
                self.show(now);
            }
            switch::Output::ModeChanged(mode, report) => self.mode_changed(now, mode, report),
            switch::Output::Answer(ticket, result) => {
                let Some(asked) = self.stage.asked.remove(&ticket) else {
                    return;
                };
                let report = result.map(|report| view::switch_report(&report, asked.at_ms));
                let _ = asked.reply.send(report.map_err(SwitchError::from));
            }
        }
    }

    /// Lets the program show what is wanted, if its source is there.
    pub(super) fn show(&mut self, now: Instant) {
        let source = match self.stage.wanted {
            Some(Picture::Host) => self
                .state
                .on_air()
                .and_then(|session| self.sources.get(&SessionId(session)).copied()),
            Some(Picture::Mix) => {
                let running = self.stage.mixer.as_ref();
                running.and_then(|r| Some(r.output.as_ref()?.0))
            }
            None => None,
        };
        if let Some(source) = source {
            // The voices of the mode that begins with this picture.
            let gains = self.gains(self.stage.switch.goal());
            let mixer = self.stage.mixer.as_ref();
            let mixer = mixer.filter(|_| self.stage.wanted == Some(Picture::Mix));
            let show = ProgramInput::Show {
                source,
                gains,
                not_before: mixer.and_then(|running| running.staged),
            };
            self.feed(now, show);
        }
    }

    fn mode_changed(&mut self, now: Instant, mode: Mode, report: Option<switch::Report>) {
        self.set_gains(now);
        self.stage.switches += 1;
        metrics::counter!("anchornet_switches_total").increment(1);
        let cut = report.is_some();
        let report = report.unwrap_or(switch::Report {
            mode,
            cut: None,
            waited: Duration::ZERO,
        });
        let at_ms = clock::wall_ms()
            .saturating_sub(u64::try_from(report.waited.as_millis()).unwrap_or_default());
        let report = view::switch_report(&report, at_ms);
        let record = view::switch_record(self.stage.switches, &report);
        self.stage.history.push_back(record);
        if self.stage.history.len() > MAX_HISTORY {
            self.stage.history.pop_front();
        }
        if cut {
            self.send(EventBody::ModeSwitched(report));
        }
        info!(?mode, "switched");
        self.lead_members(mode);
        self.announce();
    }

    /// Moves the voices to where the present mode wants them, and again at the cut that is awaited.
    pub(super) fn set_gains(&mut self, now: Instant) {
        for (source, gain) in self.gains(self.stage.switch.mode()) {
            self.feed(now, ProgramInput::Gain { source, gain });
        }
        self.show(now);
    }

    fn gains(&self, mode: Mode) -> Vec<(SourceId, f32)> {
        let participants = self.state.participants().iter();
        participants
            .filter_map(|p| {
                let source = self.sources.get(&SessionId(p.live?))?;
                Some((*source, self.stage.gain(&p.id, p.role, mode)))
            })
            .collect()
    }

    /// How loud a participant who connects is.
    pub(super) fn gain_of(&self, session: SessionId) -> f32 {
        let mut participants = self.state.participants().iter();
        participants
            .find(|p| p.live == Some(session.0))
            .map_or(0.0, |p| {
                self.stage.gain(&p.id, p.role, self.stage.switch.mode())
            })
    }

    /// Somebody asks for a mode.
    pub(super) fn set_mode(
        &mut self,
        mode: Mode,
        layout: Option<LayoutName>,
        order: Option<Vec<ParticipantId>>,
        reply: Reply<Result<SwitchReport, SwitchError>>,
    ) {
        let now = clock::now();
        if let Err(invalid) = self.check_cast(order.as_deref()) {
            return drop(reply.send(Err(invalid.into())));
        }
        if let Some(name) = layout {
            if name == LayoutName::Custom && self.stage.layout.name != LayoutName::Custom {
                let reason = "custom needs its tiles: PUT …/layout first";
                return drop(reply.send(Err(Invalid::new("layout", reason).into())));
            }
            self.stage.layout.name = name;
            if name != LayoutName::Custom {
                self.stage.layout.tiles.clear();
            }
        }
        if mode == Mode::Collab {
            self.stage.order = order;
            self.people_changed(now);
            // While in collab already, the request changes who is in the mix: their voices follow at once.
            self.set_gains(now);
            self.announce();
        }
        let ticket = self.stage.next_ticket;
        let at_ms = clock::wall_ms();
        self.stage.asked.insert(ticket, Asked { at_ms, reply });
        let request = self.stage.unasked(mode);
        self.stage.switch.handle(now, request);
    }

    fn check_cast(&self, order: Option<&[ParticipantId]>) -> Result<(), Invalid> {
        for id in order.unwrap_or_default() {
            let known = self
                .state
                .participants()
                .iter()
                .find(|p| p.id == id.as_str());
            if known.is_none_or(|p| p.live.is_none()) {
                let reason = format!("{id} is not connected to this channel");
                return Err(Invalid::new("participants", reason));
            }
        }
        Ok(())
    }

    /// Changes the layout while live.
    pub(super) fn set_layout(&mut self, layout: Layout) -> Result<Layout, Invalid> {
        for (at, tile) in layout.tiles.iter().enumerate() {
            let id = tile.participant.as_str();
            if self.state.participants().iter().all(|p| p.id != id) {
                let field = format!("tiles[{at}].participant");
                return Err(Invalid::new(field, format!("{id} is not in this channel")));
            }
        }
        self.stage.layout = layout.clone();
        self.set_scene(clock::now());
        self.send(EventBody::LayoutChanged(layout.clone()));
        self.announce();
        Ok(layout)
    }

    /// Changes what a producer sets for a participant; `None` when there is no such participant.
    pub(super) fn set_controls(
        &mut self,
        id: &ParticipantId,
        patch: &ParticipantPatch,
    ) -> Option<Participant> {
        let now = clock::now();
        let present = self
            .state
            .participants()
            .iter()
            .any(|p| p.id == id.as_str());
        let room = self.stage.controls.len() < MAX_CONTROLS;
        if !present || !(room || self.stage.controls.contains_key(id.as_str())) {
            return None;
        }
        let controls = self.stage.controls.entry(id.to_string()).or_default();
        controls.muted = patch.muted.unwrap_or(controls.muted);
        controls.volume = patch.volume.unwrap_or(controls.volume);
        controls.on_program = patch.on_program.unwrap_or(controls.on_program);
        self.people_changed(now);
        self.set_gains(now);
        self.tell_controls(id);
        let snapshot = self.snapshot();
        let found = snapshot.participants.iter().find(|p| p.id == *id)?;
        let participant = view::participant(found, None);
        self.send(EventBody::ParticipantUpdated(participant.clone()));
        Some(participant)
    }

    /// Brings the stage up to date with who is there.
    pub(super) fn people_changed(&mut self, now: Instant) {
        let live: Vec<(String, Role)> = self
            .state
            .participants()
            .iter()
            .filter(|p| p.live.is_some())
            .map(|p| (p.id.clone(), p.role))
            .collect();
        let gone: Vec<String> = self
            .stage
            .people
            .keys()
            .filter(|id| live.iter().all(|(live, _)| live != *id))
            .cloned()
            .collect();
        for id in gone {
            if let Some(person) = self.stage.people.remove(&id) {
                self.stage.say(ToMixer::Remove {
                    input: person.input,
                });
            }
        }
        for (id, _) in &live {
            if !self.stage.people.contains_key(id) {
                let input = self.stage.next_input;
                self.stage.next_input += 1;
                let name = id.clone();
                self.stage.say(ToMixer::Add { input, name });
                let person = Person {
                    input,
                    gop: Gop::default(),
                    told: None,
                };
                self.stage.people.insert(id.clone(), person);
            }
        }
        let guests = live
            .iter()
            .filter(|(id, role)| *role == Role::Guest && self.stage.is_on_program(id));
        let present = switch::Input::Present {
            program: self.running.is_some(),
            host: self.state.on_air().is_some(),
            guests: guests.count(),
        };
        self.stage.switch.handle(now, present);
        self.set_scene(now);
    }

    /// The program was cut to a source.
    pub(super) fn program_cut(
        &mut self,
        now: Instant,
        source: SourceId,
        video_dts: Timestamp,
        audio_at: Timestamp,
        method: SpliceMethod,
    ) {
        let output = self.stage.mixer.as_ref().and_then(|r| r.output.as_ref());
        let picture = if output.is_some_and(|(mix, _)| *mix == source) {
            Picture::Mix
        } else {
            Picture::Host
        };
        let at = switch::CutAt {
            video_dts_ms: video_dts.as_nanos() as f64 / 1e6,
            audio_dts_ms: audio_at.as_nanos() as f64 / 1e6,
            method,
        };
        let cut = switch::Input::Cut(picture, at);
        self.stage.switch.handle(now, cut);
    }

    pub(super) fn stage_timeouts(&mut self, now: Instant) {
        self.stage.supervisor.handle_timeout(now);
        self.stage.switch.handle_timeout(now);
        if self.stage.silence_at().is_some_and(|at| at <= now) {
            self.stage.host_silent = true;
            self.stage
                .switch
                .handle(now, switch::Input::HostSilent(true));
        }
        if self.stage.mixer.is_some() && self.stage.next_levels <= now {
            self.stage.next_levels = now + LEVELS_INTERVAL;
            self.tell_levels();
            self.tell_phase();
            self.keep_mix_ready(now);
        }
    }

    /// A mix that nobody sees has IDRs close together, so that a switch finds one at once.
    fn keep_mix_ready(&mut self, now: Instant) {
        let on_air = self.stage.switch.shown() == Some(Picture::Mix);
        if !on_air && self.stage.next_standby_idr <= now {
            // Counted from now: what was missed is not made up for.
            self.stage.next_standby_idr = now + STANDBY_IDR_INTERVAL;
            self.stage.say(ToMixer::Keyframe);
        }
    }

    fn epoch_ns(&self) -> i64 {
        self.running.as_ref().map_or(0, |r| r.epoch.as_nanos())
    }

    /// Ends the mixer, and what waits for it.
    pub(super) fn end_stage(&mut self, now: Instant) {
        self.stage.people.clear();
        self.stage.host_silent = false;
        self.stage.host_seen = None;
        self.stage.wanted = None;
        let absent = switch::Input::Present {
            program: false,
            host: false,
            guests: 0,
        };
        self.stage.switch.handle(now, absent);
        self.apply_stage(now);
    }
}
