//! The state machine of one destination, sans-IO.
//!
//! `Idle → Connecting → Handshaking → Publishing`, from each of them on failure `→ Backoff` (or `Refused`) `→ Connecting`,
//! for ever, until `Closed`. The machine owns the queue; the shell connects when told, pulls items while publishing, and
//! reports what happens.
//!
//! Pauses double from [`PublisherConfig::backoff_min`] to [`PublisherConfig::backoff_max`], ±50 % of jitter, and start over
//! after a stable connection. A server that refuses is asked once more after [`SECOND_ASKING`] (it may still hold a
//! connection that was just given up), then after [`PublisherConfig::refused_retry`] only; so is one that hangs up [`SILENT_REFUSALS`] times on `publish` without a word, or within [`SECOND_THOUGHTS`] of its permission. An
//! exception: when this URL was published to before, the server probably still holds the broken connection ("already publishing"), and the normal pauses apply.

use std::time::{Duration, Instant};

use super::queue::{Item, Queue};
use super::{DestinationState, PublisherConfig};

/// Hang-ups in answer to `publish` that count as a refusal.
pub(crate) const SILENT_REFUSALS: u32 = 3;

/// Pause after the first refusal.
pub(crate) const SECOND_ASKING: Duration = Duration::from_secs(2);

/// A server that hangs up this soon after its permission meant to refuse: some check credentials only then.
pub(crate) const SECOND_THOUGHTS: Duration = Duration::from_secs(1);

/// Failures in a row after which a refusal by a server that once said yes is believed.
pub(crate) const STALE_FAILURES: u32 = 6;

/// Why a connection or an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The network or the server; worth trying again soon.
    Broken(String),
    /// The server refused the credentials or the stream.
    Refused(String),
    /// The server hung up when asked for permission to publish.
    HungUpOnPublish,
}

/// What happens to a destination.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// Begin.
    Start,
    /// A unit of the program.
    Item(Item),
    /// TCP and TLS are up.
    Connected,
    /// The server takes media.
    Accepted,
    /// Bytes wait for a socket that does not take them.
    WriteBlocked,
    /// The socket took bytes.
    Sent {
        /// How many.
        bytes: usize,
        /// Others wait.
        more: bool,
    },
    /// The attempt or the connection ended.
    Failed(Failure),
    /// Send what waits until `deadline`, then close.
    Shutdown {
        /// The end of patience.
        deadline: Instant,
    },
    /// Everything was sent and the stream was ended.
    Finished,
}

/// What a destination wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Open a connection.
    Connect,
    /// Drop the connection or the attempt, at once.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Connecting {
        deadline: Instant,
    },
    Handshaking {
        deadline: Instant,
    },
    Publishing {
        since: Instant,
        stalled: Option<Instant>,
    },
    Backoff {
        until: Instant,
        refused: bool,
    },
    Closed,
}

/// The machine of one destination.
#[derive(Debug)]
pub(crate) struct Machine {
    config: PublisherConfig,
    state: State,
    queue: Queue,
    output: Option<Output>,
    /// Close, then be done; until this instant.
    draining: Option<Instant>,
    random: u64,
    failures: u32,
    refusals: u32,
    silent_refusals: u32,
    /// A connection lasted: this URL is right.
    proven: bool,
    pub(crate) attempts: u32,
    pub(crate) connections: u64,
    pub(crate) last_error: Option<String>,
    pub(crate) bytes_sent: u64,
}

impl Machine {
    /// `seed` makes the jitter.
    pub(crate) fn new(config: PublisherConfig, seed: u64) -> Self {
        let queue = Queue::new(config.queue_max_bytes, config.queue_max);
        Self {
            config,
            state: State::Idle,
            queue,
            output: None,
            draining: None,
            random: seed | 1,
            failures: 0,
            refusals: 0,
            silent_refusals: 0,
            proven: false,
            attempts: 0,
            connections: 0,
            last_error: None,
            bytes_sent: 0,
        }
    }

    /// Takes an input in.
    pub(crate) fn handle(&mut self, now: Instant, input: Input) {
        match (input, self.state) {
            (Input::Start, State::Idle) => self.connect(now),
            (Input::Item(item), state) if state != State::Closed && self.draining.is_none() => {
                let connected = matches!(state, State::Publishing { .. });
                self.queue.push(item, connected);
            }
            (Input::Connected, State::Connecting { .. }) => {
                self.state = State::Handshaking {
                    deadline: now + self.config.handshake_timeout,
                };
            }
            (Input::Accepted, State::Handshaking { .. }) => {
                self.connections += 1;
                self.state = State::Publishing {
                    since: now,
                    stalled: None,
                };
            }
            (Input::WriteBlocked, State::Publishing { since, stalled }) => {
                let stalled = stalled.or(Some(now + self.config.write_timeout));
                self.state = State::Publishing { since, stalled };
            }
            (Input::Sent { bytes, more }, state) => {
                self.bytes_sent += bytes as u64;
                if let State::Publishing { since, .. } = state {
                    let stalled = more.then(|| now + self.config.write_timeout);
                    self.state = State::Publishing { since, stalled };
                }
            }
            (Input::Failed(failure), state) if state != State::Closed => self.fail(now, failure),
            (Input::Shutdown { deadline }, state) => {
                self.draining = Some(deadline);
                if !matches!(state, State::Publishing { .. }) {
                    self.close();
                }
            }
            (Input::Finished, _) => self.close(),
            (
                Input::Start
                | Input::Item(_)
                | Input::Connected
                | Input::Accepted
                | Input::WriteBlocked
                | Input::Failed(_),
                _,
            ) => {}
        }
    }

    /// Acts on the timeouts that have passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.draining.is_some_and(|deadline| deadline <= now) {
            self.close();
        }
        let passed = |at: Instant| at <= now;
        match self.state {
            State::Connecting { deadline } if passed(deadline) => {
                self.time_out(now, "no connection within", self.config.connect_timeout);
            }
            State::Handshaking { deadline } if passed(deadline) => {
                let timeout = self.config.handshake_timeout;
                self.time_out(now, "no permission to publish within", timeout);
            }
            State::Publishing {
                stalled: Some(deadline),
                ..
            } if passed(deadline) => {
                self.time_out(now, "it took no byte for", self.config.write_timeout);
            }
            State::Publishing { since, .. } if passed(since + self.config.stable_after) => {
                (self.failures, self.attempts) = (0, 0);
            }
            State::Backoff { until, .. } if passed(until) => self.connect(now),
            State::Idle
            | State::Connecting { .. }
            | State::Handshaking { .. }
            | State::Publishing { .. }
            | State::Backoff { .. }
            | State::Closed => {}
        }
    }

    /// The next thing to do.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.output.take()
    }

    /// When to call [`Machine::handle_timeout`] next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let own = match self.state {
            State::Connecting { deadline } | State::Handshaking { deadline } => Some(deadline),
            State::Publishing { since, stalled } => {
                let stable = (self.failures > 0 || self.attempts > 0)
                    .then(|| since + self.config.stable_after);
                [stalled, stable].into_iter().flatten().min()
            }
            State::Backoff { until, .. } => Some(until),
            State::Idle | State::Closed => None,
        };
        let draining = self.draining.filter(|_| self.state != State::Closed);
        [own, draining].into_iter().flatten().min()
    }

    /// The next item to send, while publishing.
    pub(crate) fn next_item(&mut self) -> Option<Item> {
        if !matches!(self.state, State::Publishing { .. }) {
            return None;
        }
        self.queue.pop()
    }

    /// All was taken out and the stream is to be ended.
    pub(crate) fn is_drained(&self) -> bool {
        self.draining.is_some() && self.queue.is_empty()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    pub(crate) fn state(&self) -> DestinationState {
        match self.state {
            State::Idle => DestinationState::Idle,
            State::Connecting { .. } => DestinationState::Connecting,
            State::Handshaking { .. } => DestinationState::Handshaking,
            State::Publishing { .. } => DestinationState::Publishing,
            State::Backoff { refused: true, .. } => DestinationState::Refused,
            State::Backoff { refused: false, .. } => DestinationState::Backoff,
            State::Closed => DestinationState::Closed,
        }
    }

    /// Since when the server takes media.
    pub(crate) fn publishing_since(&self) -> Option<Instant> {
        if let State::Publishing { since, .. } = self.state {
            return Some(since);
        }
        None
    }

    /// When the next attempt is due.
    pub(crate) fn next_attempt(&self) -> Option<Instant> {
        if let State::Backoff { until, .. } = self.state {
            return Some(until);
        }
        None
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.queue.bytes()
    }

    pub(crate) fn dropped_units(&self) -> u64 {
        self.queue.dropped()
    }

    fn connect(&mut self, now: Instant) {
        self.attempts = self.attempts.saturating_add(1);
        self.state = State::Connecting {
            deadline: now + self.config.connect_timeout,
        };
        self.output = Some(Output::Connect);
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.output = Some(Output::Close);
    }

    fn time_out(&mut self, now: Instant, what: &str, limit: Duration) {
        let why = format!("{what} {} ms", limit.as_millis());
        self.fail(now, Failure::Broken(why));
    }

    fn fail(&mut self, now: Instant, failure: Failure) {
        self.output = Some(Output::Close);
        if self.draining.is_some() {
            return self.close();
        }
        let mut failure = failure;
        if let State::Publishing { since, stalled } = self.state {
            if since + self.config.stable_after <= now {
                (self.failures, self.attempts) = (0, 0);
            }
            let timed_out = stalled.is_some_and(|deadline| deadline <= now);
            if since + SECOND_THOUGHTS <= now {
                self.proven = true;
                (self.refusals, self.silent_refusals) = (0, 0);
            } else if matches!(failure, Failure::Broken(_)) && !timed_out {
                failure = Failure::HungUpOnPublish;
            }
        }
        self.failures = self.failures.saturating_add(1);
        self.queue.interrupt();
        let (why, refused) = match failure {
            Failure::Broken(why) => (why, false),
            Failure::Refused(why) => {
                self.refusals += 1;
                (format!("refused: {why}"), self.refusals > 1)
            }
            Failure::HungUpOnPublish => {
                self.silent_refusals += 1;
                let why = "the server hung up when asked to publish: is the stream key right?";
                (why.to_owned(), self.silent_refusals >= SILENT_REFUSALS)
            }
        };
        self.last_error = Some(why);
        let refused = refused && (!self.proven || self.failures > STALE_FAILURES);
        let pause = if refused {
            self.config.refused_retry
        } else {
            let doublings = (self.failures - 1).min(16);
            let pause = self.config.backoff_min.saturating_mul(1 << doublings);
            let pause = pause.min(self.config.backoff_max).mul_f64(self.jitter());
            let least = if self.refusals > 0 {
                SECOND_ASKING
            } else {
                Duration::ZERO
            };
            pause.max(least)
        };
        self.state = State::Backoff {
            until: now + pause,
            refused,
        };
    }

    /// Between 0.5 and 1.5.
    fn jitter(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        0.5 + (self.random % 1_024) as f64 / 1_024.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::tests::item;
    use super::*;

    fn start() -> (Machine, Instant) {
        #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
        let now = Instant::now();
        let mut machine = Machine::new(PublisherConfig::default(), 42);
        machine.handle(now, Input::Start);
        assert_eq!(machine.poll_output(), Some(Output::Connect));
        (machine, now)
    }

    fn broken() -> Input {
        Input::Failed(Failure::Broken("connection reset".to_owned()))
    }

    /// Fails, and returns the pause.
    fn fail(machine: &mut Machine, now: &mut Instant, input: Input) -> Duration {
        machine.handle(*now, input);
        assert_eq!(machine.poll_output(), Some(Output::Close));
        let due = machine.poll_timeout().unwrap();
        let pause = due - *now;
        *now = due;
        machine.handle_timeout(*now);
        assert_eq!(machine.poll_output(), Some(Output::Connect));
        pause
    }

    #[test]
    fn pauses_double_with_jitter_up_to_the_limit_and_start_over_when_stable() {
        let (mut machine, mut now) = start();
        let pauses: Vec<u128> = (0..8)
            .map(|_| fail(&mut machine, &mut now, broken()).as_millis())
            .collect();
        for (n, pause) in pauses.iter().enumerate() {
            let nominal = (500u128 << n).min(15_000);
            assert!(
                (nominal / 2..=nominal * 3 / 2).contains(pause),
                "{pauses:?}"
            );
        }
        machine.handle(now, Input::Connected);
        machine.handle(now, Input::Accepted);
        now += Duration::from_secs(11);
        machine.handle_timeout(now);
        assert_eq!(machine.attempts, 0);
        assert!(fail(&mut machine, &mut now, broken()) <= Duration::from_millis(750));
    }

    #[test]
    fn a_refusal_is_not_hammered() {
        let (mut machine, mut now) = start();
        let refused = || Input::Failed(Failure::Refused("BadName".to_owned()));
        assert!(fail(&mut machine, &mut now, refused()) < Duration::from_secs(3));
        machine.handle(now, refused());
        assert_eq!(machine.state(), DestinationState::Refused);
        assert!(machine.last_error.as_ref().unwrap().contains("BadName"));
        assert_eq!(machine.poll_timeout(), Some(now + Duration::from_secs(300)));
        // Once accepted, the same answer means that the old connection is still known.
        now += Duration::from_secs(300);
        machine.handle_timeout(now);
        machine.handle(now, Input::Connected);
        machine.handle(now, Input::Accepted);
        machine.poll_output();
        now += Duration::from_secs(2);
        fail(&mut machine, &mut now, broken());
        assert!(fail(&mut machine, &mut now, refused()) < Duration::from_secs(8));
    }

    #[test]
    fn hanging_up_on_publish_becomes_a_refusal() {
        let (mut machine, mut now) = start();
        let hung_up = || Input::Failed(Failure::HungUpOnPublish);
        assert!(fail(&mut machine, &mut now, hung_up()) < Duration::from_secs(1));
        // Also if permission came first.
        machine.handle(now, Input::Connected);
        machine.handle(now, Input::Accepted);
        assert!(fail(&mut machine, &mut now, broken()) < Duration::from_secs(2));
        assert_eq!(
            fail(&mut machine, &mut now, hung_up()),
            Duration::from_secs(300)
        );
    }

    #[test]
    fn a_server_that_takes_nothing_is_given_up() {
        let (mut machine, now) = start();
        machine.handle(now, Input::Connected);
        machine.handle(now, Input::Accepted);
        machine.handle(now, Input::WriteBlocked);
        let later = now + Duration::from_secs(3);
        machine.handle(
            later,
            Input::Sent {
                bytes: 10,
                more: true,
            },
        );
        machine.handle_timeout(now + Duration::from_secs(5));
        assert_eq!(machine.state(), DestinationState::Publishing);
        machine.handle_timeout(later + Duration::from_secs(5));
        assert_eq!(machine.state(), DestinationState::Backoff);
    }

    #[test]
    fn connecting_and_asking_have_limits() {
        let (mut machine, mut now) = start();
        now += Duration::from_secs(5);
        machine.handle_timeout(now);
        assert_eq!(machine.state(), DestinationState::Backoff);
        now = machine.poll_timeout().unwrap();
        machine.handle_timeout(now);
        machine.handle(now, Input::Connected);
        machine.handle_timeout(now + Duration::from_secs(5));
        assert_eq!(machine.state(), DestinationState::Backoff);
        assert_eq!(machine.attempts, 2);
    }

    #[test]
    fn items_come_out_while_publishing_only_and_resume_at_a_keyframe() {
        let (mut machine, now) = start();
        machine.handle(now, Input::Item(item(0, true, true, 10)));
        assert!(machine.next_item().is_none());
        machine.handle(now, Input::Connected);
        machine.handle(now, Input::Accepted);
        assert_eq!(machine.next_item().unwrap().dts_ms, 0);
        machine.handle(now, broken());
        machine.handle(now, Input::Item(item(40, true, false, 10)));
        machine.handle(now, Input::Item(item(80, true, true, 10)));
        let now = machine.poll_timeout().unwrap();
        machine.handle_timeout(now);
        machine.handle(now, Input::Connected);
        machine.handle(now, Input::Accepted);
        assert_eq!(machine.next_item().unwrap().dts_ms, 80);
    }

    #[test]
    fn shutdown_flushes_until_its_deadline() {
        let (mut machine, now) = start();
        machine.handle(now, Input::Connected);
        machine.handle(now, Input::Accepted);
        machine.handle(now, Input::Item(item(0, true, true, 10)));
        machine.poll_output();
        let deadline = now + Duration::from_secs(1);
        machine.handle(now, Input::Shutdown { deadline });
        assert!(!machine.is_drained() && !machine.is_closed());
        machine.next_item();
        assert!(machine.is_drained());
        machine.handle_timeout(deadline);
        assert!(machine.is_closed());
        assert_eq!(machine.poll_output(), Some(Output::Close));
    }
}
