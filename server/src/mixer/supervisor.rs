//! When a mixer process is started, counted as dead, and started again. Sans-IO.
//!
//! Invariants: at most one process at a time; after a failure the next start waits, twice as long each time up to
//! [`BACKOFF_MAX`], with jitter passed in; a process that has delivered pictures for [`PROVEN`] clears the record.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The wait after a first failure: short, since viewers see the host alone meanwhile.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait between two starts.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A process that lived this long was not broken from the start.
pub const PROVEN: Duration = Duration::from_secs(10);

/// Patience.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// From the start of a process to its first picture.
    pub start_timeout: Duration,
    /// Without a picture for this long a mixer counts as stalled.
    pub stall_timeout: Duration,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A mixer is wanted, or not any more.
    Wanted(bool),
    /// The process delivered a picture.
    Picture,
    /// The process ended, or could not be started.
    Ended(String),
}

/// What the shell has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Start a process.
    Start,
    /// End the process.
    Stop,
    /// It delivers pictures.
    Up,
    /// It did, and does not any more.
    Down(String),
    /// It was started and never delivered one.
    Failed(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Off,
    Starting { since: Instant },
    Up { since: Instant, picture: Instant },
    Waiting { until: Instant },
}

/// The decisions. See the module documentation.
#[derive(Debug)]
pub struct Supervisor {
    config: Config,
    state: State,
    failures: u32,
    /// 0 to 1; the caller's randomness.
    jitter: f64,
    outputs: VecDeque<Output>,
}

impl Supervisor {
    /// No process is wanted. `jitter` (0 to 1) spreads restarts of many channels.
    #[must_use]
    pub fn new(config: Config, jitter: f64) -> Self {
        Self {
            config,
            state: State::Off,
            failures: 0,
            jitter: jitter.clamp(0.0, 1.0),
            outputs: VecDeque::new(),
        }
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match (input, self.state) {
            (Input::Wanted(true), State::Off) => self.start(now),
            (Input::Wanted(false), State::Off) | (Input::Wanted(true), _) => {}
            (Input::Wanted(false), state) => {
                if !matches!(state, State::Waiting { .. }) {
                    self.outputs.push_back(Output::Stop);
                }
                self.state = State::Off;
                self.failures = 0;
            }
            (Input::Picture, State::Starting { .. }) => {
                self.state = State::Up {
                    since: now,
                    picture: now,
                };
                self.outputs.push_back(Output::Up);
            }
            (Input::Picture, State::Up { since, .. }) => {
                self.state = State::Up {
                    since,
                    picture: now,
                };
                if now.saturating_duration_since(since) >= PROVEN {
                    self.failures = 0;
                }
            }
            (Input::Ended(why), State::Starting { .. } | State::Up { .. }) => self.lost(now, why),
            (Input::Picture | Input::Ended(_), State::Off | State::Waiting { .. }) => {}
        }
    }

    /// Gives up what is silent, and starts what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        match self.state {
            State::Off => {}
            State::Waiting { .. } => self.start(now),
            State::Starting { .. } => self.stop(now, "it made no picture in time"),
            State::Up { .. } => self.stop(now, "it makes no pictures any more"),
        }
    }

    /// When to call [`Supervisor::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Off => None,
            State::Waiting { until } => Some(until),
            State::Starting { since } => since.checked_add(self.config.start_timeout),
            State::Up { picture, .. } => picture.checked_add(self.config.stall_timeout),
        }
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// It delivers pictures.
    fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    fn start(&mut self, now: Instant) {
        self.state = State::Starting { since: now };
        self.outputs.push_back(Output::Start);
    }

    fn stop(&mut self, now: Instant, why: &str) {
        self.outputs.push_back(Output::Stop);
        self.lost(now, why.to_owned());
    }

    fn lost(&mut self, now: Instant, why: String) {
        self.outputs.push_back(if self.is_up() {
            Output::Down(why)
        } else {
            Output::Failed(why)
        });
        let doubled = BACKOFF_MIN.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        let wait = doubled.min(BACKOFF_MAX).mul_f64(0.75 + 0.5 * self.jitter);
        self.state = State::Waiting { until: now + wait };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Test {
        supervisor: Supervisor,
        now: Instant,
    }

    impl Test {
        #[expect(
            clippy::disallowed_methods,
            reason = "any start will do for virtual time"
        )]
        fn new() -> Self {
            let config = Config {
                start_timeout: Duration::from_secs(5),
                stall_timeout: Duration::from_millis(500),
            };
            Self {
                supervisor: Supervisor::new(config, 0.5),
                now: Instant::now(),
            }
        }

        fn give(&mut self, input: Input) -> Vec<Output> {
            self.supervisor.handle(self.now, input);
            self.outputs()
        }

        fn pass(&mut self, ms: u64) -> Vec<Output> {
            self.now += Duration::from_millis(ms);
            self.supervisor.handle_timeout(self.now);
            self.outputs()
        }

        fn outputs(&mut self) -> Vec<Output> {
            std::iter::from_fn(|| self.supervisor.poll_output()).collect()
        }
    }

    #[test]
    fn a_mixer_that_stalls_is_replaced() {
        let mut test = Test::new();
        assert_eq!(test.give(Input::Wanted(true)), [Output::Start]);
        assert_eq!(test.give(Input::Wanted(true)), []);
        assert_eq!(test.give(Input::Picture), [Output::Up]);
        assert_eq!(test.pass(499), []);
        assert_eq!(test.give(Input::Picture), []);
        assert_eq!(test.pass(499), []);
        let lost = test.pass(1);
        assert!(matches!(&lost[..], [Output::Stop, Output::Down(_)]));
        assert_eq!(test.pass(100), [Output::Start]);
        assert_eq!(test.give(Input::Wanted(false)), [Output::Stop]);
        assert_eq!(test.supervisor.poll_timeout(), None);
    }

    #[test]
    fn failures_are_spaced_and_forgotten() {
        let mut test = Test::new();
        test.give(Input::Wanted(true));
        let mut waits = Vec::new();
        for _ in 0..12 {
            let failed = test.give(Input::Ended("broken".into()));
            assert_eq!(failed, [Output::Failed("broken".into())]);
            let mut waited = 0;
            while test.pass(50).is_empty() {
                waited += 50;
            }
            waits.push(waited);
        }
        assert!(waits[0] <= 150 && waits[11] >= 7_000, "{waits:?}");
        // A long good run clears the record.
        for _ in 0..120 {
            test.pass(100);
            test.give(Input::Picture);
        }
        test.give(Input::Ended("gone".into()));
        assert_eq!(test.pass(150), [Output::Start]);
        // The end of a mixer that nobody wants is no failure.
        test.give(Input::Wanted(false));
        assert_eq!(test.give(Input::Ended("killed".into())), []);
    }
}
