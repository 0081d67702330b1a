//! Where the threads of the pipeline meet the director and the link.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use media::link::{Configure, FromMixer, Scene};

use super::easel::Easel;
use super::io::Writer;
use crate::director::{self, Command, Director, Plan};
use crate::paint::{Frame, Picture};
use crate::pipeline::{Failure, Output, Stage};

/// Failures that wait to be looked after; further ones say the same.
const MAX_FAILURES: usize = 32;

/// The first picture is held back until everybody can be seen and everything is drawn, but no longer than this, in nanoseconds of program time.
const OPENING_NS: i64 = 1_000_000_000;

/// The output before its first picture.
#[derive(Debug, Default)]
struct Opening {
    open: bool,
    /// Program time of the first composed picture.
    since_ns: Option<i64>,
    config: Option<media::h264::Config>,
    asked: bool,
}

/// The director behind a lock, and where output goes.
pub(super) struct Studio {
    director: Mutex<Director>,
    failures: Mutex<Vec<Failure>>,
    opening: Mutex<Opening>,
    easel: Easel,
    /// Everything that the newest picture should show was ready.
    complete: AtomicBool,
    writer: Arc<Writer>,
}

impl Studio {
    pub(super) fn new(config: &Configure, writer: Arc<Writer>) -> anyhow::Result<Self> {
        Ok(Self {
            director: Mutex::new(Director::new(config)),
            failures: Mutex::default(),
            opening: Mutex::default(),
            easel: Easel::start(config, &writer)?,
            complete: AtomicBool::new(false),
            writer,
        })
    }

    pub(super) fn director(&self) -> MutexGuard<'_, Director> {
        self.director.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn direct(&self, now_ns: i64, command: Command) -> Result<(), director::Error> {
        self.director().handle(now_ns, command)
    }

    pub(super) fn set_scene(&self, now_ns: i64, scene: Scene) -> Result<(), director::Error> {
        self.direct(now_ns, Command::Scene(scene.clone()))?;
        self.easel.follow(&scene);
        Ok(())
    }

    /// The background, each time that it has changed.
    pub(super) fn take_background(&self) -> Option<Picture> {
        self.easel.take_background()
    }

    pub(super) fn take_failures(&self) -> Vec<Failure> {
        std::mem::take(&mut *self.failures())
    }

    fn failures(&self) -> MutexGuard<'_, Vec<Failure>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stage for Studio {
    fn plan(&self, at_ns: i64) -> Plan {
        self.director().plan(at_ns)
    }

    fn paint(&self, plan: &Plan, frame: &mut Frame<'_>) {
        let complete = self.easel.paint(plan, frame);
        self.complete.store(complete, Ordering::Relaxed);
    }

    fn decoded(&self, input: u32, pts_ns: i64) {
        self.director().decoded(input, pts_ns);
    }

    fn output(&self, output: Output) {
        let mut opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        match output {
            Output::Config(config) if opening.open => {
                self.writer.send(FromMixer::VideoConfig(config));
            }
            Output::Config(config) => opening.config = Some(config),
            Output::Picture(unit) => {
                if !opening.open {
                    let since_ns = *opening.since_ns.get_or_insert(unit.pts_ns);
                    let ready = unit.pts_ns.saturating_sub(since_ns) >= OPENING_NS
                        || (self.director().has_caught_up(unit.pts_ns)
                            && self.complete.load(Ordering::Relaxed));
                    if !ready {
                        return;
                    }
                    // The first picture that is sent is an IDR; if this is none, the next one will be.
                    if !unit.keyframe {
                        if !std::mem::replace(&mut opening.asked, true) {
                            self.writer.request_keyframe();
                        }
                        return;
                    }
                    opening.open = true;
                    if let Some(config) = opening.config.take() {
                        self.writer.send(FromMixer::VideoConfig(config));
                    }
                }
                self.writer.send(FromMixer::Picture(unit));
            }
        }
    }

    fn failed(&self, failure: Failure) {
        let mut failures = self.failures();
        if failures.len() < MAX_FAILURES {
            failures.push(failure);
        }
    }
}
