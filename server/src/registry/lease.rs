//! When leases are renewed, and what follows from the answers. Sans-IO.
//!
//! Rules:
//! - Every lease is renewed, together with the node's own record, three times in its life.
//! - When renewing fails the node is degraded and tries again soon, with growing pauses. It keeps what it holds:
//!   nothing ends because the registry is away.
//! - A lease is given up only when the registry, being reachable, says that another node holds the channel and
//!   outranks us (see [`super::redis`] for the order of claims).
//! - Releases that did not reach the registry are repeated, at most [`MAX_PENDING`] of them; beyond that the oldest
//!   is forgotten, because leases end by themselves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::Health;

/// Most releases waiting for the registry.
pub const MAX_PENDING: usize = 1024;
/// The first pause after a failure.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// The longest pause after a failure, so that the end of an outage is noticed soon.
const MAX_RETRY: Duration = Duration::from_secs(1);

/// This node's claim on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The channel.
    pub channel: String,
    /// How often the registry had given the channel away when we got it; 0: got without the registry.
    pub term: u64,
    /// When we got it, wall clock, in ms.
    pub since_ms: u64,
    /// Timestamp zero of the channel, wall clock, in ms.
    pub epoch_ms: u64,
}

/// What the registry said about one lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The lease that was sent.
    pub lease: Lease,
    /// The term that it is held under now, or the node that has the channel.
    pub outcome: Result<u64, String>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A channel is ours now.
    Held(Lease),
    /// A channel is no longer ours by our own will; the registry has yet to learn it.
    Released(String),
    /// The registry has learned of a release.
    ReleaseDone(String),
    /// The registry answered a [`Output::Renew`].
    Renewed(Vec<Renewal>),
    /// A [`Output::Renew`] failed.
    RenewFailed(String),
    /// Some other call succeeded.
    Reached,
    /// Some other call failed.
    CallFailed(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Renew the node's record and these leases, and release these channels.
    Renew {
        /// Leases to assert.
        leases: Vec<Lease>,
        /// Channels to give up.
        releases: Vec<String>,
    },
    /// Another node has the channel: end it here.
    Lost {
        /// The channel.
        channel: String,
        /// The node that has it.
        node: String,
    },
    /// The registry became reachable or unreachable.
    Health(Health),
}

/// The leases of one node.
#[derive(Debug)]
pub struct Machine {
    interval: Duration,
    leases: BTreeMap<String, Lease>,
    pending: VecDeque<String>,
    /// Releases that are part of the renewal under way.
    in_flight: Option<BTreeSet<String>>,
    next: Instant,
    retry: Duration,
    health: Health,
    outputs: VecDeque<Output>,
}

impl Machine {
    /// A node without channels, whose leases live for `ttl`. The first renewal is due at once.
    #[must_use]
    pub fn new(now: Instant, ttl: Duration) -> Self {
        Self {
            interval: ttl / 3,
            leases: BTreeMap::new(),
            pending: VecDeque::new(),
            in_flight: None,
            next: now,
            retry: FIRST_RETRY,
            health: Health::Ok,
            outputs: VecDeque::new(),
        }
    }

    /// The lease on `channel`, if it is ours.
    #[must_use]
    pub fn lease(&self, channel: &str) -> Option<&Lease> {
        self.leases.get(channel)
    }

    /// Every lease.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    /// Whether the registry is reachable, as far as is known.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Held(lease) => {
                self.pending.retain(|channel| *channel != lease.channel);
                self.leases.insert(lease.channel.clone(), lease);
            }
            Input::Released(channel) => self.released(channel),
            Input::ReleaseDone(channel) => self.pending.retain(|other| *other != channel),
            Input::Renewed(renewals) => self.renewed(now, renewals),
            Input::RenewFailed(why) => {
                self.in_flight = None;
                self.next = now + self.retry.min(self.interval);
                self.retry = (self.retry * 2).min(MAX_RETRY);
                self.set_health(Health::Degraded(why));
            }
            Input::Reached => {
                if self.health != Health::Ok {
                    self.next = now;
                }
            }
            Input::CallFailed(why) => {
                self.next = self.next.min(now + self.retry);
                self.set_health(Health::Degraded(why));
            }
        }
    }

    fn released(&mut self, channel: String) {
        if self.leases.remove(&channel).is_none() {
            return;
        }
        if self.pending.len() >= MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(channel);
    }

    fn renewed(&mut self, now: Instant, renewals: Vec<Renewal>) {
        let sent = self.in_flight.take().unwrap_or_default();
        self.pending.retain(|channel| !sent.contains(channel));
        self.next = now + self.interval;
        self.retry = FIRST_RETRY;
        for renewal in renewals {
            let channel = renewal.lease.channel;
            // Given up, or taken anew, while the renewal was under way: the answer is about the past.
            let current = self.leases.get_mut(&channel);
            let Some(lease) = current.filter(|lease| lease.since_ms == renewal.lease.since_ms)
            else {
                continue;
            };
            match renewal.outcome {
                Ok(term) => lease.term = term,
                Err(node) => {
                    self.leases.remove(&channel);
                    self.outputs.push_back(Output::Lost { channel, node });
                }
            }
        }
        self.set_health(Health::Ok);
    }

    fn set_health(&mut self, health: Health) {
        if std::mem::discriminant(&self.health) != std::mem::discriminant(&health) {
            self.outputs.push_back(Output::Health(health.clone()));
        }
        self.health = health;
    }

    /// Renews when it is time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.in_flight.is_some() || now < self.next {
            return;
        }
        let releases: Vec<String> = self.pending.iter().cloned().collect();
        self.in_flight = Some(releases.iter().cloned().collect());
        let leases = self.leases.values().cloned().collect();
        self.outputs.push_back(Output::Renew { leases, releases });
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called; `None` while a renewal is under way.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.in_flight.is_none().then_some(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const TTL: Duration = Duration::from_secs(9);

    fn lease(channel: &str, since_ms: u64) -> Lease {
        Lease {
            channel: channel.into(),
            term: 1,
            since_ms,
            epoch_ms: 5,
        }
    }

    fn drain(machine: &mut Machine) -> Vec<Output> {
        std::iter::from_fn(|| machine.poll_output()).collect()
    }

    /// Runs to the next renewal and returns its time and content.
    fn renewal(machine: &mut Machine) -> (Instant, Vec<Lease>, Vec<String>) {
        let at = machine.poll_timeout().unwrap();
        machine.handle_timeout(at);
        match drain(machine).pop() {
            Some(Output::Renew { leases, releases }) => (at, leases, releases),
            other => panic!("{other:?}"),
        }
    }

    fn held(lease: Lease, term: u64) -> Renewal {
        Renewal {
            lease,
            outcome: Ok(term),
        }
    }

    #[test]
    fn renewals_come_three_times_in_a_lease() {
        let start = clock::now();
        let mut machine = Machine::new(start, TTL);
        let (at, leases, _) = renewal(&mut machine);
        assert_eq!((at, leases), (start, vec![]));
        assert_eq!(machine.poll_timeout(), None, "one at a time");
        machine.handle_timeout(start + TTL);
        assert_eq!(drain(&mut machine), []);
        machine.handle(start, Input::Held(lease("a", 7)));
        machine.handle(start, Input::Renewed(vec![]));
        let (at, leases, _) = renewal(&mut machine);
        assert_eq!(at, start + TTL / 3);
        assert_eq!(leases, [lease("a", 7)]);
        machine.handle(at, Input::Renewed(vec![held(lease("a", 7), 4)]));
        assert_eq!(machine.lease("a").unwrap().term, 4);
    }

    #[test]
    fn an_outage_keeps_everything_and_its_end_is_noticed_soon() {
        let start = clock::now();
        let mut machine = Machine::new(start, TTL);
        machine.handle(start, Input::Held(lease("a", 7)));
        let (mut pauses, mut told) = (Vec::new(), Vec::new());
        for _ in 0..6 {
            let (at, leases, _) = renewal(&mut machine);
            assert_eq!(leases.len(), 1);
            machine.handle(at, Input::RenewFailed("away".into()));
            pauses.push((machine.poll_timeout().unwrap() - at).as_millis());
            told.extend(drain(&mut machine));
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(
            told,
            [Output::Health(Health::Degraded("away".into()))],
            "said once"
        );
        let (at, leases, _) = renewal(&mut machine);
        machine.handle(
            at,
            Input::Renewed(leases.into_iter().map(|lease| held(lease, 1)).collect()),
        );
        assert_eq!(drain(&mut machine), [Output::Health(Health::Ok)]);
        assert_eq!(machine.poll_timeout().unwrap() - at, TTL / 3);
    }

    #[test]
    fn a_call_that_fails_brings_the_next_renewal_forward() {
        let start = clock::now();
        let mut machine = Machine::new(start, TTL);
        renewal(&mut machine);
        machine.handle(start, Input::Renewed(vec![]));
        machine.handle(start, Input::CallFailed("slow".into()));
        assert_eq!(machine.poll_timeout(), Some(start + FIRST_RETRY));
        machine.handle(start, Input::Reached);
        assert_eq!(machine.poll_timeout(), Some(start));
    }

    #[test]
    fn a_lost_lease_is_told_once_and_gone() {
        let start = clock::now();
        let mut machine = Machine::new(start, TTL);
        machine.handle(start, Input::Held(lease("a", 7)));
        let (_, leases, _) = renewal(&mut machine);
        let lost = leases.into_iter().map(|lease| Renewal {
            lease,
            outcome: Err("other".into()),
        });
        machine.handle(start, Input::Renewed(lost.collect()));
        let expected = Output::Lost {
            channel: "a".into(),
            node: "other".into(),
        };
        assert_eq!(drain(&mut machine), [expected]);
        assert!(machine.lease("a").is_none());
        assert_eq!(renewal(&mut machine).1, []);
    }

    #[test]
    fn answers_about_the_past_do_not_count() {
        let start = clock::now();
        let mut machine = Machine::new(start, TTL);
        machine.handle(start, Input::Held(lease("a", 7)));
        let (_, leases, _) = renewal(&mut machine);
        machine.handle(start, Input::Released("a".into()));
        machine.handle(start, Input::Held(lease("a", 8)));
        let lost = leases.into_iter().map(|lease| Renewal {
            lease,
            outcome: Err("other".into()),
        });
        machine.handle(start, Input::Renewed(lost.collect()));
        assert_eq!(drain(&mut machine), []);
        assert_eq!(machine.lease("a"), Some(&lease("a", 8)));
    }

    #[test]
    fn releases_are_repeated_until_they_are_heard() {
        let start = clock::now();
        let mut machine = Machine::new(start, TTL);
        for channel in ["a", "b"] {
            machine.handle(start, Input::Held(lease(channel, 7)));
            machine.handle(start, Input::Released(channel.into()));
        }
        machine.handle(start, Input::ReleaseDone("b".into()));
        let (at, _, releases) = renewal(&mut machine);
        assert_eq!(releases, ["a"]);
        machine.handle(at, Input::RenewFailed("away".into()));
        drain(&mut machine);
        let (at, _, releases) = renewal(&mut machine);
        assert_eq!(releases, ["a"]);
        machine.handle(at, Input::Renewed(vec![]));
        drain(&mut machine);
        assert_eq!(renewal(&mut machine).2, Vec::<String>::new());
    }

    #[test]
    fn pending_releases_are_bounded() {
        let start = clock::now();
        let mut machine = Machine::new(start, TTL);
        for n in 0..MAX_PENDING + 5 {
            let channel = format!("c{n}");
            machine.handle(start, Input::Held(lease(&channel, 7)));
            machine.handle(start, Input::Released(channel));
        }
        let (_, _, releases) = renewal(&mut machine);
        assert_eq!(releases.len(), MAX_PENDING);
        assert!(!releases.contains(&"c0".to_owned()));
    }
}
