//! One mixer at work: reads the link, follows what the anchor says, writes what the pipeline gives.
//!
//! Three threads besides GStreamer's: this one decides, a reader and a writer move bytes. The reader hands on at most
//! [`MAX_UNREAD`] messages; beyond that the socket fills and the anchor drops pictures up to a keyframe.

mod cpu;
mod easel;
mod io;
mod stage;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, bail};
use media::link::{Configure, FromMixer, InputState, Stats, ToMixer, VERSION};
use socket2::Socket;

use crate::clock::Clock;
use crate::director::Command;
use crate::pipeline::{self, Failure, Pipeline, ProgramClock};
use io::{Arrival, Writer};
use stage::Studio;

/// The most messages that wait to be followed.
const MAX_UNREAD: usize = 64;

/// How often it is looked after what came from other threads, in milliseconds.
const TICK_MS: u64 = 20;

/// How often the anchor hears how it goes.
const STATS_INTERVAL_NS: i64 = 1_000_000_000;

/// A pipeline that gives no picture for this long is broken.
const STUCK_AFTER_NS: i64 = 3_000_000_000;

/// Mixes for the anchor at the other end of a stream socket, until the link ends.
///
/// # Errors
/// When the anchor breaks the contract or the pipeline fails; the anchor has been told why.
pub fn serve(socket: Socket) -> anyhow::Result<()> {
    pipeline::init()?;
    pipeline::load_decoders();
    let clock = ProgramClock::new();
    let (writer, writing) = Writer::start(socket.try_clone().context("the link's socket")?)?;
    let (sender, arrivals) = sync_channel(MAX_UNREAD);
    io::read(socket, clock.clone(), sender)?;
    let mut session = Session::new(clock, Arc::clone(&writer));
    let result = session.run(&arrivals);
    if let Err(error) = &result {
        writer.send(FromMixer::Error {
            message: format!("{error:#}"),
        });
    }
    drop(session);
    writer.close();
    let _ = writing.join();
    result
}

/// The version of GStreamer and the H.264 encoders found, best first.
///
/// # Errors
/// When GStreamer cannot be loaded.
pub fn about() -> anyhow::Result<(String, Vec<&'static str>)> {
    pipeline::init()?;
    Ok(pipeline::about())
}

/// What runs once the anchor has said what to make.
struct Running {
    pipeline: Pipeline,
    studio: Arc<Studio>,
    /// Pictures so far, and since when there were no more.
    progress: (u64, i64),
}

struct Session {
    clock: ProgramClock,
    anchor: Clock,
    writer: Arc<Writer>,
    greeted: bool,
    running: Option<Running>,
    stats_due_ns: i64,
}

impl Session {
    fn new(clock: ProgramClock, writer: Arc<Writer>) -> Self {
        Self {
            clock,
            anchor: Clock::default(),
            writer,
            greeted: false,
            running: None,
            stats_due_ns: 0,
        }
    }

    fn run(&mut self, arrivals: &Receiver<Arrival>) -> anyhow::Result<()> {
        loop {
            match arrivals.recv_timeout(Duration::from_millis(TICK_MS)) {
                Ok(Arrival::Message(ToMixer::Bye, _)) => return Ok(()),
                Ok(Arrival::Message(message, at_ns)) => self.follow(message, at_ns)?,
                Ok(Arrival::End) => return Ok(()),
                Ok(Arrival::Broken(why)) => bail!("the link is broken: {why}"),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if self.writer.is_broken() {
                bail!("the anchor does not read what it is sent");
            }
            self.look_after()?;
        }
    }

    fn follow(&mut self, message: ToMixer, at_ns: i64) -> anyhow::Result<()> {
        if let ToMixer::Hello { version } = message {
            return self.greet(version);
        }
        if !self.greeted {
            bail!("the first message must be hello");
        }
        match message {
            ToMixer::Ping { id, program_ns } => {
                if let Some(line) = self.anchor.ping(program_ns, at_ns) {
                    self.clock.calibrate(line);
                }
                self.writer.send(FromMixer::Pong {
                    id,
                    program_ns,
                    mixer_ns: at_ns,
                });
                Ok(())
            }
            ToMixer::Configure(config) => self.start(&config),
            other @ (ToMixer::Hello { .. }
            | ToMixer::Authenticate { .. }
            | ToMixer::Add { .. }
            | ToMixer::Remove { .. }
            | ToMixer::VideoConfig { .. }
            | ToMixer::Picture { .. }
            | ToMixer::Image { .. }
            | ToMixer::Scene(_)
            | ToMixer::Levels { .. }
            | ToMixer::Phase { .. }
            | ToMixer::Keyframe
            | ToMixer::Bye) => {
                let now_ns = self.clock.program_ns();
                let Some(running) = &mut self.running else {
                    bail!("the mixer must be configured first");
                };
                if let Err(error) = running.follow(other, now_ns) {
                    self.complain(&format!("{error:#}"));
                }
                Ok(())
            }
        }
    }

    fn greet(&mut self, version: u16) -> anyhow::Result<()> {
        if version != VERSION {
            bail!(
                "the anchor speaks version {version} of the link, this mixer version {VERSION}: install them together"
            );
        }
        let (gstreamer, encoders) = pipeline::about();
        self.greeted = true;
        self.writer.send(FromMixer::Hello {
            version: VERSION,
            encoders: encoders.into_iter().map(str::to_owned).collect(),
            gstreamer,
        });
        Ok(())
    }

    fn start(&mut self, config: &Configure) -> anyhow::Result<()> {
        if self.running.is_some() {
            bail!("the mixer is configured already: another size or frame rate is another mixer");
        }
        if self.anchor.calibration().is_none() {
            bail!("a ping must come before configure");
        }
        let studio = Arc::new(Studio::new(config, Arc::clone(&self.writer))?);
        let stage: Arc<dyn pipeline::Stage> = studio.clone();
        let pipeline = Pipeline::start(config, &self.clock, &stage)?;
        let now_ns = self.clock.mixer_ns();
        self.stats_due_ns = now_ns + STATS_INTERVAL_NS;
        self.running = Some(Running {
            pipeline,
            studio,
            progress: (0, now_ns),
        });
        Ok(())
    }

    /// What other threads have left to do, and what is due.
    fn look_after(&mut self) -> anyhow::Result<()> {
        let now_ns = self.clock.mixer_ns();
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        running.pipeline.look_after();
        if let Some(background) = running.studio.take_background() {
            running.pipeline.set_background(&background)?;
        }
        if self.writer.take_keyframe_request() {
            running.pipeline.keyframe();
        }
        let mut complaints = Vec::new();
        for failure in running.studio.take_failures() {
            match failure {
                Failure::Pipeline(why) => bail!("the pipeline failed: {why}"),
                Failure::Input(input, why) => {
                    complaints.push(format!("input {input} failed and starts over: {why}"));
                    running.pipeline.replace(input)?;
                }
            }
        }
        running.watch(now_ns)?;
        if now_ns >= self.stats_due_ns {
            self.stats_due_ns = now_ns + STATS_INTERVAL_NS;
            let stats = running.stats(self.clock.program_ns());
            self.writer.send(FromMixer::Stats(stats));
        }
        for complaint in complaints {
            self.complain(&complaint);
        }
        Ok(())
    }

    fn complain(&self, message: &str) {
        tracing::warn!("{message}");
        self.writer.send(FromMixer::Error {
            message: message.to_owned(),
        });
    }
}

impl Running {
    fn follow(&mut self, message: ToMixer, now_ns: i64) -> anyhow::Result<()> {
        match message {
            ToMixer::Add { input, name } => {
                self.studio.direct(now_ns, Command::Add(input, name))?;
                self.pipeline.add(input)?;
            }
            ToMixer::Remove { input } => {
                self.studio.direct(now_ns, Command::Remove(input))?;
                self.pipeline.remove(input);
            }
            ToMixer::VideoConfig { input, config } => self.pipeline.configure(input, config),
            ToMixer::Picture { input, unit } => self.pipeline.push(input, unit),
            ToMixer::Image { number, data } => self.studio.keep_image(number, data),
            ToMixer::Scene(scene) => self.studio.set_scene(now_ns, scene)?,
            ToMixer::Levels { levels } => self.studio.direct(now_ns, Command::Levels(levels))?,
            ToMixer::Phase { phase_ns } => self.pipeline.follow(phase_ns),
            ToMixer::Keyframe => self.pipeline.keyframe(),
            // Followed by the session.
            ToMixer::Hello { .. }
            | ToMixer::Authenticate { .. }
            | ToMixer::Configure(_)
            | ToMixer::Ping { .. }
            | ToMixer::Bye => {}
        }
        Ok(())
    }

    /// Fails when no picture has come out for too long.
    fn watch(&mut self, now_ns: i64) -> anyhow::Result<()> {
        let (frames, ..) = self.pipeline.output_stats();
        let (before, since_ns) = self.progress;
        if frames != before {
            self.progress = (frames, now_ns);
        } else if now_ns.saturating_sub(since_ns) > STUCK_AFTER_NS {
            bail!("the pipeline has given no picture for 3 s");
        }
        Ok(())
    }

    fn stats(&self, program_ns: i64) -> Stats {
        let (frames, late, encode_ms) = self.pipeline.output_stats();
        let director = self.studio.director();
        let inputs = director.inputs().filter_map(|input| {
            let mut stats = self.pipeline.input_stats(input)?;
            stats.state = director
                .state(input, program_ns)
                .unwrap_or(InputState::Waiting);
            Some(stats)
        });
        Stats {
            frames,
            late,
            encode_ms,
            cpu_ms: cpu::used_ms().unwrap_or(0),
            speaker: director.speaker(),
            inputs: inputs.collect(),
        }
    }
}
