//! Where the threads of the pipeline meet the director and the link.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use media::link::FromMixer;

use super::io::Writer;
use crate::director::{self, Command, Director, Plan};
use crate::pipeline::{Failure, Output, Stage};

/// Failures that wait to be looked after; further ones say the same.
const MAX_FAILURES: usize = 32;

/// The director behind a lock, and where output goes.
pub(super) struct Studio {
    director: Mutex<Director>,
    failures: Mutex<Vec<Failure>>,
    writer: Arc<Writer>,
}

impl Studio {
    pub(super) fn new(director: Director, writer: Arc<Writer>) -> Self {
        Self {
            director: Mutex::new(director),
            failures: Mutex::default(),
            writer,
        }
    }

    pub(super) fn director(&self) -> MutexGuard<'_, Director> {
        self.director.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn direct(&self, now_ns: i64, command: Command) -> Result<(), director::Error> {
        self.director().handle(now_ns, command)
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

    fn decoded(&self, input: u32, pts_ns: i64) {
        self.director().decoded(input, pts_ns);
    }

    fn output(&self, output: Output) {
        self.writer.send(match output {
            Output::Config(config) => FromMixer::VideoConfig(config),
            Output::Picture(unit) => FromMixer::Picture(unit),
        });
    }

    fn failed(&self, failure: Failure) {
        let mut failures = self.failures();
        if failures.len() < MAX_FAILURES {
            failures.push(failure);
        }
    }
}
