//! The mixer's part of the stage: what it is told, and what comes of its pictures.

use std::sync::Arc;
use std::time::Instant;

use cdn_publisher::SourceId;
use cdn_publisher::program::Input as ProgramInput;
use media::link::{self, Configure, FromMixer, Level, Profile, ToMixer};
use media::{AccessUnit, Config as CodecConfig, Kind, Rate, Timestamp, Track, TrackId};
use tracing::{debug, info, warn};

use super::{MixerRun, Person};
use crate::channel::gop::Gop;
use crate::channel::state::Role;
use crate::channel::switch::{self, Picture};
use crate::channel::task::Task;
use crate::channel::tile;
use crate::channel::view;
use crate::mixer::process::{Event, Process, Run, Start};
use crate::mixer::supervisor;
use crate::sfu::SessionId;

/// The mix is told of moves of the host's pictures from this on, in nanoseconds.
const PHASE_STEP_NS: i64 = 1_000_000;

impl Task {
    /// Tells the mixer what the picture is made of. While the mix is not on air that is so at once, and a cut to it waits
    /// for a picture that shows it: the program is behind by its delay, and would show the old scene for so long.
    pub(super) fn set_scene(&mut self, now: Instant) {
        if self.stage.mixer.is_none() {
            return;
        }
        let scene = self.scene();
        let on_air = self.stage.switch.shown() == Some(Picture::Mix);
        let at = self.deps.clock.timestamp(now);
        let Some(running) = self.stage.mixer.as_mut() else {
            return;
        };
        if running.configured.is_none() || running.scene.as_ref() == Some(&scene) {
            return;
        }
        running.staged = (!on_air).then_some(at).or(running.staged);
        running.scene = Some(scene.clone());
        self.stage.look.tell(running);
        self.size_guests(&scene);
        self.stage.say(ToMixer::Scene(link::Scene {
            at_once: !on_air,
            ..scene
        }));
    }

    /// Guests are only in the mix, so their pictures need not be larger than their tiles. The host's are the program too.
    fn size_guests(&self, scene: &link::Scene) {
        let mixer = self.stage.mixer.as_ref();
        let Some(picture) = mixer.and_then(|running| running.configured.as_ref()) else {
            return;
        };
        for participant in self.state.participants() {
            let (Some(person), Some(live)) =
                (self.stage.people.get(&participant.id), participant.live)
            else {
                continue;
            };
            if participant.role == Role::Guest {
                let height = tile::height(scene, person.input, picture.height);
                self.deps.sfu.set_height(SessionId(live), height);
            }
        }
    }

    fn scene(&self) -> link::Scene {
        let input = |id: &str| self.stage.people.get(id).map(|person| person.input);
        let mut cast: Vec<(usize, &str)> = self
            .state
            .participants()
            .iter()
            .filter(|p| p.live.is_some() && self.stage.is_cast(&p.id, p.role))
            .map(|p| (self.rank(&p.id, p.role), p.id.as_str()))
            .collect();
        cast.sort_by_key(|(rank, _)| *rank);
        let collab = self.stage.switch.is_collab();
        let layout = &self.stage.layout;
        let tiles = layout.tiles.iter().filter_map(|tile| {
            Some(link::Tile {
                input: input(tile.participant.as_str())?,
                x: tile.x,
                y: tile.y,
                width: tile.width,
                height: tile.height,
                fit: link::Fit::Cover,
            })
        });
        let config = &self.stage.config;
        let (background_image, slate) = self.stage.look.scene(config);
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        link::Scene {
            layout: link::Layout {
                name: view::link_layout(layout.name),
                tiles: tiles.collect(),
            },
            order: cast
                .iter()
                .filter(|_| collab)
                .filter_map(|(_, id)| input(id))
                .take(link::MAX_INPUTS)
                .collect(),
            background: layout
                .background
                .clone()
                .or_else(|| text(&config.background)),
            background_image,
            slate: Some(slate),
            at_once: false,
        }
    }

    /// Place in the mix: as asked for, else the host first and then in order of arrival.
    fn rank(&self, id: &str, role: Role) -> usize {
        let order = self.stage.order.as_deref().unwrap_or_default();
        let listed = order.iter().position(|listed| listed.as_str() == id);
        match (listed, role) {
            (Some(at), _) => at + 1,
            (None, Role::Host) => 0,
            (None, Role::Guest) => order.len() + 1,
        }
    }

    /// A picture of a participant, on its way to the mixer.
    pub(in crate::channel::task) fn stage_picture(
        &mut self,
        now: Instant,
        session: SessionId,
        unit: &AccessUnit,
    ) {
        let Some((id, role)) = self
            .state
            .participants()
            .iter()
            .find(|p| p.live == Some(session.0))
            .map(|p| (p.id.clone(), p.role))
        else {
            return;
        };
        let epoch_ns = self.epoch_ns();
        let now_ns = self.deps.clock.timestamp(now).as_nanos();
        let Some(person) = self.stage.people.get_mut(&id) else {
            return;
        };
        person.gop.push(now_ns, unit);
        let greeted = self.stage.mixer.as_ref();
        if let Some(process) = greeted.and_then(MixerRun::greeted)
            && (unit.keyframe || person.told.is_some())
        {
            tell_picture(process, person, unit, epoch_ns);
        }
        if role == Role::Host {
            self.stage.host_seen = Some(now);
        }
        if role == Role::Host && self.stage.host_silent {
            self.stage.host_silent = false;
            self.stage
                .switch
                .handle(now, switch::Input::HostSilent(false));
        }
        if role == Role::Host && unit.keyframe {
            self.check_format(now, unit);
        }
    }

    /// A mixer that is not shown is started anew when the host's picture has another size.
    fn check_format(&mut self, now: Instant, unit: &AccessUnit) {
        let CodecConfig::H264(config) = &unit.track.config else {
            return;
        };
        let configured = self
            .stage
            .mixer
            .as_ref()
            .and_then(|r| r.configured.as_ref());
        let differs = configured
            .is_some_and(|c| (c.width, c.height) != (even(config.width), even(config.height)));
        let idle = self.stage.switch.shown() != Some(Picture::Mix)
            && self.stage.wanted != Some(Picture::Mix);
        if differs && idle {
            debug!("the host's picture has another size: a new mixer");
            for wanted in [false, true] {
                let input = supervisor::Input::Wanted(wanted);
                self.stage.supervisor.handle(now, input);
            }
            self.stage.switch.handle(now, switch::Input::MixerDown);
        }
    }

    pub(super) fn start_mixer(&mut self, now: Instant) {
        let Some(epoch) = self.running.as_ref().map(|running| running.epoch) else {
            return;
        };
        self.stage.runs += 1;
        let run = self.stage.runs;
        if self.borrow_mix(Some(run)) {
            self.stage.mixer = Some(MixerRun::new(run, None));
            return;
        }
        let start = Start {
            place: self.stage.place(),
            run,
            clock: self.deps.clock,
            epoch,
        };
        match Process::start(start, self.stage.events.clone()) {
            Ok(process) => {
                info!(pid = process.pid(), "mixer started");
                self.stage.mixer = Some(MixerRun::new(run, Some(process)));
            }
            Err(error) => {
                let ended = supervisor::Input::Ended(error.to_string());
                self.stage.supervisor.handle(now, ended);
            }
        }
    }

    pub(super) fn drop_mixer(&mut self, now: Instant) {
        let Some(running) = self.stage.mixer.take() else {
            return;
        };
        if let Some((source, _)) = running.output {
            self.feed(now, ProgramInput::Detach { source });
        }
        if running.process.is_none() {
            self.borrow_mix(None);
        }
        for person in self.stage.people.values_mut() {
            person.told = None;
        }
    }

    /// Something the mixer says.
    pub(in crate::channel::task) fn mixer_event(&mut self, now: Instant, run: Run, event: Event) {
        let current = self.stage.mixer.as_ref();
        if current.is_none_or(|running| running.run != run) {
            return;
        }
        match event {
            Event::Ended(why) => {
                let ended = supervisor::Input::Ended(why);
                self.stage.supervisor.handle(now, ended);
            }
            Event::Said(FromMixer::Hello {
                version,
                encoders,
                gstreamer,
            }) => {
                info!(version, ?encoders, gstreamer, "mixer is there");
                self.configure_mixer(now);
            }
            Event::Said(FromMixer::VideoConfig(config)) => {
                let track = Track {
                    id: TrackId(0),
                    config: CodecConfig::H264(config),
                    rate: Rate::NANOS,
                };
                self.mix_track(now, Arc::new(track));
            }
            Event::Said(FromMixer::Picture(picture)) => self.mix_picture(now, picture),
            Event::Lent(unit) => {
                self.mix_track(now, Arc::clone(&unit.track));
                self.mix_unit(now, unit);
            }
            Event::Said(FromMixer::Error { message }) => warn!(message, "the mixer says"),
            Event::Said(FromMixer::Stats(stats)) => debug!(?stats, "mixer"),
            Event::Said(FromMixer::Pong { .. } | FromMixer::Challenge { .. }) => {}
        }
    }

    /// Tells a mixer that has greeted everything there is.
    fn configure_mixer(&mut self, now: Instant) {
        let configure = self.configuration();
        let latency_ns = i64::from(configure.latency_ms) * 1_000_000;
        let first_ns = self.deps.clock.timestamp(now).as_nanos() - latency_ns;
        let scene = self.scene();
        let epoch_ns = self.epoch_ns();
        let Some(running) = &mut self.stage.mixer else {
            return;
        };
        let Some(process) = &running.process else {
            return;
        };
        process.say(ToMixer::Configure(configure.clone()));
        for (id, person) in &mut self.stage.people {
            process.say(ToMixer::Add {
                input: person.input,
                name: id.clone(),
            });
            // What was captured before the first picture of the mix is decoded for nothing.
            let pictures = person.gop.pictures_at(first_ns).cloned();
            for unit in pictures.collect::<Vec<_>>() {
                tell_picture(process, person, &unit, epoch_ns);
            }
        }
        self.stage.look.tell(running);
        if let Some(process) = &running.process {
            process.say(ToMixer::Scene(scene.clone()));
        }
        running.scene = Some(scene);
        running.phase_ns = configure.phase_ns;
        running.configured = Some(configure);
        // Who has sent nothing decodable since is asked for a keyframe.
        let blind: Vec<SessionId> = self
            .state
            .participants()
            .iter()
            .filter(|p| {
                let person = self.stage.people.get(&p.id);
                person.is_some_and(|person| person.told.is_none())
            })
            .filter_map(|p| p.live.map(SessionId))
            .collect();
        for session in blind {
            self.deps.sfu.request_keyframe(session);
        }
    }

    /// The mix looks to decoders as much like the host as it can.
    fn configuration(&self) -> Configure {
        let config = &self.stage.config;
        let mut configure = Configure {
            bitrate_bps: config.bitrate_kbps.saturating_mul(1_000),
            keyframe_interval_ms: config.keyframe_interval_ms,
            latency_ms: config.latency_ms,
            encoder: (!config.encoder.is_empty()).then(|| config.encoder.clone()),
            speed: (!config.speed.is_empty()).then(|| config.speed.clone()),
            layout_transition_ms: config.layout_transition_ms,
            hold_ms: config.hold_ms,
            names: config.names,
            corner_radius_px: config.corner_radius_px,
            ..Configure::default()
        };
        let Some(gop) = self.host_pictures() else {
            return configure;
        };
        configure.frame_rate = gop.frame_rate();
        if let Some(CodecConfig::H264(avc)) = gop.pictures().last().map(|p| &p.track.config) {
            (configure.width, configure.height) = (even(avc.width), even(avc.height));
            configure.profile = match avc.profile_level() {
                [77, ..] => Profile::Main,
                [100, ..] => Profile::High,
                _ => Profile::ConstrainedBaseline,
            };
        }
        if let Some(grid_ns) = gop.grid_ns(configure.frame_rate) {
            // On the host's pictures: each of them is in the mix at its own time, however they jitter by less than half a frame.
            configure.phase_ns = grid_ns - self.epoch_ns();
        }
        configure
    }

    fn host_pictures(&self) -> Option<&Gop> {
        let mut participants = self.state.participants().iter();
        let host = participants.find(|p| p.role == Role::Host)?;
        Some(&self.stage.people.get(&host.id)?.gop)
    }

    /// Tells the mixer where the host's pictures have moved.
    pub(super) fn tell_phase(&mut self) {
        let epoch_ns = self.epoch_ns();
        let mixer = self.stage.mixer.as_ref();
        let Some((rate, told_ns)) =
            mixer.and_then(|r| Some((r.configured.as_ref()?.frame_rate, r.phase_ns)))
        else {
            return;
        };
        let grid_ns = self.host_pictures().and_then(|gop| gop.grid_ns(rate));
        let Some(phase_ns) = grid_ns.map(|grid_ns| grid_ns - epoch_ns) else {
            return;
        };
        let frame_ns = rate.frame_ns().max(1);
        let moved_ns = (phase_ns - told_ns).rem_euclid(frame_ns);
        if moved_ns.min(frame_ns - moved_ns) < PHASE_STEP_NS {
            return;
        }
        if let Some(running) = self.stage.mixer.as_mut() {
            running.phase_ns = phase_ns;
        }
        self.stage.say(ToMixer::Phase { phase_ns });
    }

    fn mix_track(&mut self, now: Instant, track: Arc<Track>) {
        let fresh = SourceId(self.next_source);
        let Some(running) = &mut self.stage.mixer else {
            return;
        };
        if let Some((_, known)) = &mut running.output {
            *known = track;
            return;
        }
        running.output = Some((fresh, track));
        self.next_source += 1;
        let attach = ProgramInput::Attach {
            source: fresh,
            gain: 0.0,
        };
        self.feed(now, attach);
    }

    fn mix_picture(&mut self, now: Instant, picture: link::Picture) {
        let epoch_ns = self.epoch_ns();
        let output = self.stage.mixer.as_ref().and_then(|r| r.output.as_ref());
        let Some((_, track)) = output else {
            return;
        };
        let at = |program_ns: i64| Timestamp::from_nanos(program_ns.saturating_add(epoch_ns));
        let unit = AccessUnit {
            track: Arc::clone(track),
            pts: at(picture.pts_ns),
            dts: at(picture.dts_ns),
            keyframe: picture.keyframe,
            discontinuity: picture.discontinuity,
            data: picture.data,
        };
        self.mix_unit(now, unit);
    }

    fn mix_unit(&mut self, now: Instant, unit: AccessUnit) {
        let output = self.stage.mixer.as_ref().and_then(|r| r.output.as_ref());
        let Some(source) = output.map(|(source, _)| *source) else {
            return;
        };
        self.lend_mix(&unit);
        self.feed(now, ProgramInput::Unit { source, unit });
        self.stage
            .supervisor
            .handle(now, supervisor::Input::Picture);
    }

    /// The program wants a keyframe of a source. True when it was the mixer's.
    pub(in crate::channel::task) fn mix_keyframe(&self, source: SourceId) -> bool {
        let output = self.stage.mixer.as_ref().and_then(|r| r.output.as_ref());
        let is_mix = output.is_some_and(|(mix, _)| *mix == source);
        if is_mix {
            self.stage.say(ToMixer::Keyframe);
            self.ask_for_lent_keyframe();
        }
        is_mix
    }

    pub(super) fn tell_levels(&self) {
        let Some(running) = &self.running else {
            return;
        };
        let levels = running.program.levels().filter_map(|(source, levels)| {
            let session = self.sources.iter().find(|(_, known)| **known == source)?.0;
            let mut participants = self.state.participants().iter();
            let id = &participants.find(|p| p.live == Some(session.0))?.id;
            Some(Level {
                input: self.stage.people.get(id)?.input,
                dbfs: levels.rms_dbfs,
            })
        });
        let levels: Vec<Level> = levels.collect();
        if levels.len() > 1 {
            self.stage.say(ToMixer::Levels { levels });
        }
    }
}

/// Sends a picture with what is needed to decode it.
fn tell_picture(process: &Process, person: &mut Person, unit: &AccessUnit, epoch_ns: i64) {
    if unit.kind() != Kind::Video {
        return;
    }
    let CodecConfig::H264(config) = &unit.track.config else {
        return;
    };
    let known = person
        .told
        .as_ref()
        .is_some_and(|told| Arc::ptr_eq(told, &unit.track) || told.config == unit.track.config);
    let input = person.input;
    if !known {
        person.told = Some(Arc::clone(&unit.track));
        process.say(ToMixer::VideoConfig {
            input,
            config: config.clone(),
        });
    }
    process.say(ToMixer::Picture {
        input,
        unit: link::Picture {
            pts_ns: unit.pts.as_nanos().saturating_sub(epoch_ns),
            dts_ns: unit.dts.as_nanos().saturating_sub(epoch_ns),
            keyframe: unit.keyframe,
            discontinuity: unit.discontinuity,
            data: unit.data.clone(),
        },
    });
}

fn even(size: u32) -> u32 {
    size & !1
}
