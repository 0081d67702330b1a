//! Where the threads of the pipeline meet the director and the link.

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
    /// Program time of the first picture.
    since_ns: Option<i64>,
    /// Program time of the first picture that shows everything.
    ready_ns: Option<i64>,
    config: Option<media::h264::Config>,
    /// An IDR has been asked for.
    asked: bool,
}

impl Opening {
    /// Whether a picture may be the first.
    fn may_begin_at(&mut self, pts_ns: i64) -> bool {
        let since_ns = *self.since_ns.get_or_insert(pts_ns);
        pts_ns.saturating_sub(since_ns) >= OPENING_NS
            || self.ready_ns.is_some_and(|ready_ns| pts_ns >= ready_ns)
    }
}

/// The director behind a lock, and where output goes.
pub(super) struct Studio {
    director: Mutex<Director>,
    failures: Mutex<Vec<Failure>>,
    opening: Mutex<Opening>,
    easel: Easel,
    writer: Arc<Writer>,
}

impl Studio {
    pub(super) fn new(config: &Configure, writer: Arc<Writer>) -> anyhow::Result<Self> {
        Ok(Self {
            director: Mutex::new(Director::new(config)),
            failures: Mutex::default(),
            opening: Mutex::default(),
            easel: Easel::start(config, &writer)?,
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

    /// Keeps an image that scenes may show.
    pub(super) fn keep_image(&self, number: u32, data: bytes::Bytes) {
        self.easel.keep(number, data);
    }

    /// The background, each time that it has changed.
    pub(super) fn take_background(&self) -> Option<Picture> {
        self.easel.take_background()
    }

    pub(super) fn take_failures(&self) -> Vec<Failure> {
        std::mem::take(&mut *self.failures())
    }

    fn opening(&self) -> MutexGuard<'_, Opening> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the IDR to begin with, once.
    fn ask(&self, opening: &mut Opening) {
        if !opening.open && !std::mem::replace(&mut opening.asked, true) {
            self.writer.request_keyframe();
        }
    }

    fn failures(&self) -> MutexGuard<'_, Vec<Failure>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stage for Studio {
    fn plan(&self, at_ns: i64) -> Plan {
        self.director().plan(at_ns)
    }

    fn paint(&self, plan: &Plan, at_ns: i64, frame: &mut Frame<'_>) -> bool {
        let complete = self.easel.paint(plan, frame);
        let mut opening = self.opening();
        if complete && plan.caught_up {
            opening.ready_ns.get_or_insert(at_ns);
        }
        opening.may_begin_at(at_ns)
    }

    fn decoded(&self, input: u32, pts_ns: i64) {
        self.director().decoded(input, pts_ns);
    }

    fn output(&self, output: Output) {
        let mut opening = self.opening();
        match output {
            Output::Config(config) if opening.open => {
                self.writer.send(FromMixer::VideoConfig(config));
            }
            Output::Config(config) => opening.config = Some(config),
            Output::Picture(unit) => {
                if !opening.open {
                    if !opening.may_begin_at(unit.pts_ns) {
                        return;
                    }
                    // The first picture that is sent is an IDR; if this is none, the next one will be.
                    if !unit.keyframe {
                        self.ask(&mut opening);
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
