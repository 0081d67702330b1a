//! Which picture the program shows, and who waits for it: solo, collab, slate. One sans-IO machine per channel.
//!
//! Invariants:
//! - One switch is under way at a time; others wait in a queue of at most [`MAX_WAITING`], in order of arrival.
//! - The mode changes at the cut, when the program publishes the first picture of the new source, and not before. Until
//!   then the old picture stays on air, also when the switch fails.
//! - A mixer that dies does not change the mode: the host is shown alone, and the mix again when the mixer is back.
//! - Without guests there is no collab: when the last one leaves, the channel goes back to solo by itself.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cdn_publisher::program::SpliceMethod;

/// Most requests waiting for the one under way.
pub const MAX_WAITING: usize = 16;

/// Names a request until it is answered.
pub type Ticket = u64;

/// What feeds the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The host alone.
    Solo,
    /// The mix of the participants.
    Collab,
}

/// What the program shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picture {
    /// The host's own stream.
    Host,
    /// What the mixer makes: everybody on program, or the slate.
    Mix,
}

/// When the mixer is started before a switch needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prewarm {
    /// At the switch.
    Never,
    /// When a guest is there.
    #[default]
    OnGuest,
    /// With the program.
    Always,
}

/// Patience and policy.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// A switch that takes longer fails, and the old picture stays.
    pub switch_timeout: Duration,
    /// When the mixer runs without being shown.
    pub prewarm: Prewarm,
}

/// Where the program was cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CutAt {
    /// DTS of the first picture, since the channel epoch.
    pub video_dts_ms: f64,
    /// Where the voices change, since the channel epoch.
    pub audio_dts_ms: f64,
    /// How the sound is joined there.
    pub method: SpliceMethod,
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Somebody asks for a mode.
    Request(Ticket, Mode),
    /// Who is there: the program runs, a host is connected, so many guests are on program.
    Present {
        /// The program runs.
        program: bool,
        /// The host is connected.
        host: bool,
        /// Guests that are connected and on program.
        guests: usize,
    },
    /// The host sends no pictures any more (true), or again (false).
    HostSilent(bool),
    /// Another channel shows this mix (true), or none any more.
    Lent(bool),
    /// The mixer delivers pictures.
    MixerUp,
    /// The mixer delivers no pictures any more; it is being restarted.
    MixerDown,
    /// The mixer cannot be started.
    MixerFailed(String),
    /// The program shows another picture from now on.
    Cut(Picture, CutAt),
}

/// What the shell has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Run a mixer, or stop it.
    Mixer(bool),
    /// Show this as soon as it can be.
    Show(Picture),
    /// Answer a request.
    Answer(Ticket, Result<Report, Refusal>),
    /// The mode is another one from now on: guests are heard, or not any more.
    ModeChanged(Mode, Option<Report>),
}

/// A switch that happened, or was not needed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// The mode that the channel is in.
    pub mode: Mode,
    /// Where; `None` when the channel was in that mode already.
    pub cut: Option<CutAt>,
    /// From the request to the cut.
    pub waited: Duration,
}

/// Why a switch did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No host.
    #[error("the channel has no live host, so there is nothing to switch")]
    NoHost,
    /// No guest.
    #[error(
        "the channel has no live guest on program to collaborate with; invite one, or put one on program"
    )]
    NoGuest,
    /// Too many at once.
    #[error(
        "{MAX_WAITING} switches are waiting for the one under way already; try again when they are done"
    )]
    Busy,
    /// It did not happen in time.
    #[error("{0}; the channel stays in its mode")]
    Timeout(String),
    /// No mixer.
    #[error("the mixer cannot be started, so the channel stays in solo mode: {0}")]
    NoMixer(String),
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    ticket: Option<Ticket>,
    mode: Mode,
    requested: Instant,
    /// When it was taken up.
    since: Instant,
}

/// The mixer as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mixer {
    Off,
    Starting,
    Up,
}

/// The decisions. See the module documentation.
#[derive(Debug)]
pub struct Switch {
    config: Config,
    mode: Mode,
    /// The switch under way.
    pending: Option<Waiting>,
    queue: VecDeque<Waiting>,
    program: bool,
    host: bool,
    guests: usize,
    host_silent: bool,
    lent: bool,
    mixer: Mixer,
    /// What was asked for last, and what is shown.
    asked: Option<Picture>,
    shown: Option<Picture>,
    outputs: VecDeque<Output>,
}

impl Switch {
    /// A channel in solo mode with nobody there.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            mode: Mode::Solo,
            pending: None,
            queue: VecDeque::new(),
            program: false,
            host: false,
            guests: 0,
            host_silent: false,
            lent: false,
            mixer: Mixer::Off,
            asked: None,
            shown: None,
            outputs: VecDeque::new(),
        }
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Request(ticket, mode) => self.request(now, ticket, mode),
            Input::Present {
                program,
                host,
                guests,
            } => self.present(now, program, host, guests),
            Input::HostSilent(silent) => self.host_silent = silent,
            Input::Lent(lent) => self.lent = lent,
            Input::MixerUp if self.mixer != Mixer::Off => self.mixer = Mixer::Up,
            Input::MixerUp => {}
            Input::MixerDown => self.mixer_lost(),
            Input::MixerFailed(why) => self.mixer_failed(why),
            Input::Cut(picture, at) => self.cut(now, picture, at),
        }
        self.advance(now);
    }

    /// Gives up a switch that took too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            let why = match self.pending.map(|pending| pending.mode) {
                Some(Mode::Collab) if self.mixer == Mixer::Up => "the mix had no keyframe in time",
                Some(Mode::Collab) => "the mixer was not ready in time",
                _ => "the host sent no keyframe in time",
            };
            self.give_up(Refusal::Timeout(why.to_owned()));
        }
        self.advance(now);
    }

    /// When to call [`Switch::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.pending?.since.checked_add(self.config.switch_timeout)
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The mode that the channel is in.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What is shown now; `None` before the first picture.
    #[must_use]
    pub fn shown(&self) -> Option<Picture> {
        self.shown
    }

    /// The mix is, or is about to be, of participants: not a slate.
    #[must_use]
    pub fn is_collab(&self) -> bool {
        self.goal() == Mode::Collab || (!self.wants_slate() && self.guests > 0)
    }

    /// The mode that the channel is in, or on its way to.
    #[must_use]
    pub fn goal(&self) -> Mode {
        self.pending.map_or(self.mode, |pending| pending.mode)
    }

    fn request(&mut self, now: Instant, ticket: Ticket, mode: Mode) {
        if self.queue.len() >= MAX_WAITING {
            return self.answer(Some(ticket), Err(Refusal::Busy));
        }
        self.queue.push_back(Waiting {
            ticket: Some(ticket),
            mode,
            requested: now,
            since: now,
        });
    }

    fn present(&mut self, now: Instant, program: bool, host: bool, guests: usize) {
        (self.program, self.host, self.guests) = (program, host, guests);
        if !program {
            // The next program starts anew: with the host alone.
            self.give_up(Refusal::NoHost);
            self.mode = Mode::Solo;
            (self.asked, self.shown) = (None, None);
            return;
        }
        let goes_to_collab = self.pending.is_some_and(|p| p.mode == Mode::Collab);
        if goes_to_collab && !host {
            self.give_up(Refusal::NoHost);
        } else if goes_to_collab && guests == 0 {
            self.give_up(Refusal::NoGuest);
        }
        if guests == 0 && self.goal() == Mode::Collab {
            self.pending = Some(Waiting {
                ticket: None,
                mode: Mode::Solo,
                requested: now,
                since: now,
            });
        }
    }

    fn mixer_lost(&mut self) {
        if self.mixer == Mixer::Up {
            self.mixer = Mixer::Starting;
        }
    }

    fn mixer_failed(&mut self, why: String) {
        self.mixer_lost();
        if self.goal() == Mode::Collab && self.mode == Mode::Solo {
            self.give_up(Refusal::NoMixer(why));
        }
    }

    fn cut(&mut self, now: Instant, picture: Picture, at: CutAt) {
        self.shown = Some(picture);
        let reached = match picture {
            Picture::Mix => Mode::Collab,
            Picture::Host => Mode::Solo,
        };
        let Some(pending) = self.pending.take_if(|pending| pending.mode == reached) else {
            return;
        };
        let report = Report {
            mode: reached,
            cut: Some(at),
            waited: now.saturating_duration_since(pending.requested),
        };
        self.mode = reached;
        self.outputs
            .push_back(Output::ModeChanged(reached, Some(report)));
        self.answer(pending.ticket, Ok(report));
    }

    fn give_up(&mut self, refusal: Refusal) {
        let Some(pending) = self.pending.take() else {
            return;
        };
        if pending.ticket.is_none() && self.mode == Mode::Collab && self.program {
            // Nobody asked: the guests are gone, and the host's keyframe is still to come.
            self.mode = Mode::Solo;
            self.outputs
                .push_back(Output::ModeChanged(Mode::Solo, None));
        }
        self.answer(pending.ticket, Err(refusal));
    }

    fn answer(&mut self, ticket: Option<Ticket>, answer: Result<Report, Refusal>) {
        if let Some(ticket) = ticket {
            self.outputs.push_back(Output::Answer(ticket, answer));
        }
    }

    /// Takes up what waits, and brings picture and mixer to where they should be.
    fn advance(&mut self, now: Instant) {
        while self.pending.is_none() {
            let Some(next) = self.queue.pop_front() else {
                break;
            };
            self.take_up(now, next);
        }
        let wants_mixer = self.wants_mixer();
        if wants_mixer != (self.mixer != Mixer::Off) {
            self.mixer = if wants_mixer {
                Mixer::Starting
            } else {
                Mixer::Off
            };
            self.outputs.push_back(Output::Mixer(wants_mixer));
        }
        let Some(wanted) = self.wanted() else {
            return;
        };
        if self.asked != Some(wanted) {
            self.asked = Some(wanted);
            self.outputs.push_back(Output::Show(wanted));
        }
        // A mode can be reached without a cut: the host was shown already because the mixer had died.
        if self.shown == Some(wanted)
            && self.pending.is_some_and(|p| p.mode == Mode::Solo)
            && wanted == Picture::Host
        {
            let pending = self.pending.take();
            self.mode = Mode::Solo;
            self.outputs
                .push_back(Output::ModeChanged(Mode::Solo, None));
            let report = Report {
                mode: Mode::Solo,
                cut: None,
                waited: Duration::ZERO,
            };
            self.answer(pending.and_then(|p| p.ticket), Ok(report));
        }
    }

    fn take_up(&mut self, now: Instant, next: Waiting) {
        if self.mode == next.mode {
            let report = Report {
                mode: self.mode,
                cut: None,
                waited: now.saturating_duration_since(next.requested),
            };
            return self.answer(next.ticket, Ok(report));
        }
        if !self.program || !self.host {
            return self.answer(next.ticket, Err(Refusal::NoHost));
        }
        if next.mode == Mode::Collab && self.guests == 0 {
            return self.answer(next.ticket, Err(Refusal::NoGuest));
        }
        self.pending = Some(Waiting { since: now, ..next });
    }

    fn wants_slate(&self) -> bool {
        self.program && self.host_silent && self.goal() == Mode::Solo
    }

    fn wants_mixer(&self) -> bool {
        let ahead = match self.config.prewarm {
            Prewarm::Never => false,
            Prewarm::OnGuest => self.guests > 0,
            Prewarm::Always => true,
        };
        // While it is shown, also after the decision to leave it.
        let shown = self.shown == Some(Picture::Mix);
        self.program
            && (ahead || shown || self.lent || self.goal() == Mode::Collab || self.wants_slate())
    }

    /// What should be shown; `None` without a program.
    fn wanted(&self) -> Option<Picture> {
        let mix = self.goal() == Mode::Collab || self.wants_slate();
        let picture = if mix && self.mixer == Mixer::Up {
            Picture::Mix
        } else {
            Picture::Host
        };
        self.program.then_some(picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT: CutAt = CutAt {
        video_dts_ms: 1_000.0,
        audio_dts_ms: 1_010.0,
        method: SpliceMethod::Crossfade,
    };

    struct Stage {
        switch: Switch,
        now: Instant,
    }

    impl Stage {
        #[expect(
            clippy::disallowed_methods,
            reason = "any start will do for virtual time"
        )]
        fn new(prewarm: Prewarm) -> Self {
            Self {
                switch: Switch::new(Config {
                    switch_timeout: Duration::from_secs(5),
                    prewarm,
                }),
                now: Instant::now(),
            }
        }

        /// A host on air, with guests.
        fn live(prewarm: Prewarm, guests: usize) -> Self {
            let mut stage = Self::new(prewarm);
            stage.give(present(true, guests));
            stage.give(Input::Cut(Picture::Host, AT));
            stage
        }

        fn give(&mut self, input: Input) -> Vec<Output> {
            self.switch.handle(self.now, input);
            self.outputs()
        }

        fn pass(&mut self, ms: u64) -> Vec<Output> {
            self.now += Duration::from_millis(ms);
            self.switch.handle_timeout(self.now);
            self.outputs()
        }

        fn outputs(&mut self) -> Vec<Output> {
            std::iter::from_fn(|| self.switch.poll_output()).collect()
        }
    }

    fn present(host: bool, guests: usize) -> Input {
        Input::Present {
            program: true,
            host,
            guests,
        }
    }

    fn done(mode: Mode, waited_ms: u64) -> Report {
        Report {
            mode,
            cut: Some(AT),
            waited: Duration::from_millis(waited_ms),
        }
    }

    #[test]
    fn there_and_back_again() {
        let mut stage = Stage::live(Prewarm::Never, 1);
        assert_eq!(
            stage.give(Input::Request(1, Mode::Collab)),
            [Output::Mixer(true)]
        );
        assert_eq!(stage.give(Input::MixerUp), [Output::Show(Picture::Mix)]);
        assert_eq!(stage.switch.mode(), Mode::Solo);
        stage.pass(200);
        let report = done(Mode::Collab, 200);
        assert_eq!(
            stage.give(Input::Cut(Picture::Mix, AT)),
            [
                Output::ModeChanged(Mode::Collab, Some(report)),
                Output::Answer(1, Ok(report))
            ]
        );
        // Again is no change; and back.
        let again = stage.give(Input::Request(2, Mode::Collab));
        assert!(matches!(&again[..], [Output::Answer(2, Ok(r))] if r.cut.is_none()));
        assert_eq!(
            stage.give(Input::Request(3, Mode::Solo)),
            [Output::Show(Picture::Host)]
        );
        stage.pass(100);
        let report = done(Mode::Solo, 100);
        assert_eq!(
            stage.give(Input::Cut(Picture::Host, AT)),
            [
                Output::ModeChanged(Mode::Solo, Some(report)),
                Output::Answer(3, Ok(report)),
                Output::Mixer(false)
            ]
        );
    }

    #[test]
    fn nobody_to_switch_to_is_refused() {
        let mut stage = Stage::new(Prewarm::Never);
        let refused = stage.give(Input::Request(1, Mode::Collab));
        assert_eq!(refused, [Output::Answer(1, Err(Refusal::NoHost))]);
        let mut stage = Stage::live(Prewarm::Never, 0);
        let refused = stage.give(Input::Request(1, Mode::Collab));
        assert_eq!(refused, [Output::Answer(1, Err(Refusal::NoGuest))]);
    }

    #[test]
    fn a_slow_or_broken_mixer_leaves_the_host_on_air() {
        let mut stage = Stage::live(Prewarm::Never, 1);
        stage.give(Input::Request(1, Mode::Collab));
        let given_up = stage.pass(5_000);
        assert!(matches!(
            &given_up[..],
            [
                Output::Answer(1, Err(Refusal::Timeout(_))),
                Output::Mixer(false)
            ]
        ));
        assert_eq!(stage.switch.shown(), Some(Picture::Host));

        stage.give(Input::Request(2, Mode::Collab));
        let failed = stage.give(Input::MixerFailed("no such file".into()));
        assert!(matches!(
            &failed[..],
            [
                Output::Answer(2, Err(Refusal::NoMixer(_))),
                Output::Mixer(false)
            ]
        ));

        // A mix that is up but brings no keyframe: the host is wanted again.
        stage.give(Input::Request(3, Mode::Collab));
        stage.give(Input::MixerUp);
        let given_up = stage.pass(5_000);
        assert!(given_up.contains(&Output::Show(Picture::Host)));
        assert_eq!(stage.switch.mode(), Mode::Solo);
    }

    #[test]
    fn switches_wait_for_each_other_and_not_without_bound() {
        let mut stage = Stage::live(Prewarm::Always, 1);
        stage.give(Input::MixerUp);
        stage.give(Input::Request(0, Mode::Collab));
        for ticket in 1..=MAX_WAITING as u64 {
            let mode = if ticket % 2 == 0 {
                Mode::Collab
            } else {
                Mode::Solo
            };
            assert_eq!(stage.give(Input::Request(ticket, mode)), []);
        }
        let refused = stage.give(Input::Request(99, Mode::Solo));
        assert_eq!(refused, [Output::Answer(99, Err(Refusal::Busy))]);
        let out = stage.give(Input::Cut(Picture::Mix, AT));
        assert!(out.contains(&Output::Answer(0, Ok(done(Mode::Collab, 0)))));
        assert!(out.contains(&Output::Show(Picture::Host)));
        let out = stage.give(Input::Cut(Picture::Host, AT));
        assert!(out.contains(&Output::Answer(1, Ok(done(Mode::Solo, 0)))));
        assert!(out.contains(&Output::Show(Picture::Mix)));
    }

    #[test]
    fn a_dead_mixer_shows_the_host_and_the_mix_when_it_is_back() {
        let mut stage = Stage::live(Prewarm::OnGuest, 1);
        stage.give(Input::MixerUp);
        stage.give(Input::Request(1, Mode::Collab));
        stage.give(Input::Cut(Picture::Mix, AT));
        assert_eq!(stage.give(Input::MixerDown), [Output::Show(Picture::Host)]);
        assert_eq!(stage.give(Input::Cut(Picture::Host, AT)), []);
        assert_eq!(stage.switch.mode(), Mode::Collab);
        assert_eq!(stage.give(Input::MixerUp), [Output::Show(Picture::Mix)]);
        // Solo while the host is shown because of that needs no cut.
        stage.give(Input::Cut(Picture::Mix, AT));
        stage.give(Input::MixerDown);
        stage.give(Input::Cut(Picture::Host, AT));
        let solo = stage.give(Input::Request(2, Mode::Solo));
        assert!(matches!(
            &solo[..],
            [
                Output::ModeChanged(Mode::Solo, None),
                Output::Answer(2, Ok(_))
            ]
        ));
    }

    #[test]
    fn without_guests_the_channel_goes_back_to_solo() {
        let mut stage = Stage::live(Prewarm::OnGuest, 1);
        stage.give(Input::MixerUp);
        stage.give(Input::Request(1, Mode::Collab));
        stage.give(Input::Cut(Picture::Mix, AT));
        assert_eq!(stage.give(present(true, 0)), [Output::Show(Picture::Host)]);
        let out = stage.give(Input::Cut(Picture::Host, AT));
        assert!(matches!(
            &out[..],
            [
                Output::ModeChanged(Mode::Solo, Some(_)),
                Output::Mixer(false)
            ]
        ));
    }

    #[test]
    fn a_silent_host_is_replaced_by_the_slate_until_it_is_back() {
        let mut stage = Stage::live(Prewarm::Never, 0);
        assert_eq!(stage.give(Input::HostSilent(true)), [Output::Mixer(true)]);
        assert_eq!(stage.give(Input::MixerUp), [Output::Show(Picture::Mix)]);
        stage.give(Input::Cut(Picture::Mix, AT));
        assert_eq!(stage.switch.mode(), Mode::Solo);
        assert!(!stage.switch.is_collab());
        assert_eq!(
            stage.give(Input::HostSilent(false)),
            [Output::Show(Picture::Host)]
        );
        assert_eq!(
            stage.give(Input::Cut(Picture::Host, AT)),
            [Output::Mixer(false)]
        );
    }

    fn input() -> impl Strategy<Value = Input> {
        prop_oneof![
            (any::<u64>(), any::<bool>()).prop_map(|(ticket, collab)| Input::Request(
                ticket,
                if collab { Mode::Collab } else { Mode::Solo }
            )),
            (
                prop::bool::weighted(0.9),
                prop::bool::weighted(0.8),
                0..3usize
            )
                .prop_map(|(program, host, guests)| Input::Present {
                    program,
                    host,
                    guests
                }),
            any::<bool>().prop_map(Input::HostSilent),
            Just(Input::MixerUp),
            Just(Input::MixerDown),
            Just(Input::MixerFailed("broken".into())),
        ]
    }

    proptest! {
        /// Every request is answered, exactly once, whatever happens; and what is asked for is possible.
        #[test]
        fn every_request_is_answered(steps in prop::collection::vec((0..3_000u64, input()), 0..80), cuts in any::<u64>()) {
            let mut stage = Stage::new(Prewarm::OnGuest);
            let (mut asked, mut answered) = (0, 0);
            let mut mixer = false;
            let mut shown = None;
            for (at, (ms, input)) in steps.into_iter().enumerate() {
                let mut outputs = stage.pass(ms);
                asked += usize::from(matches!(input, Input::Request(..)));
                outputs.extend(stage.give(input));
                if let Some(picture) = shown.take_if(|_| cuts >> (at % 64) & 1 == 1) {
                    outputs.extend(stage.give(Input::Cut(picture, AT)));
                }
                for output in outputs {
                    match output {
                        Output::Answer(..) => answered += 1,
                        Output::Mixer(on) => {
                            prop_assert_ne!(on, mixer);
                            mixer = on;
                        }
                        Output::Show(Picture::Mix) => {
                            prop_assert!(mixer);
                            shown = Some(Picture::Mix);
                        }
                        Output::Show(picture) => shown = Some(picture),
                        Output::ModeChanged(..) => {}
                    }
                }
            }
            for _ in 0..=MAX_WAITING {
                answered += stage.pass(5_000).iter().filter(|o| matches!(o, Output::Answer(..))).count();
            }
            prop_assert_eq!(asked, answered);
        }
    }
}
