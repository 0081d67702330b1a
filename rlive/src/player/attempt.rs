//! Several relays are asked for one substream at once; the first that answers gets it.
//!
//! Each is sent a subscription without a cookie. Who can and will take the player answers with a challenge, who is full or
//! leaving refuses: so an answer says more than one to a ping, and costs the relay 36 bytes and no memory. Only the one
//! that is chosen is sent its cookie back; the others have kept nothing that would have to be given up.
//!
//! ```text
//!   asked ──challenge──► answered ──chosen──► subscribing ──first frame──► the substream's relay
//!     └────refused, silent───┴──────────────────────┴──► out; none left: the attempt has failed
//! ```
//!
//! Invariants: at most [`MAX_PROBES`] relays; one is chosen at a time, another only when that one has not opened a session
//! within [`SPARE`]; a substream that has a relay already goes to another only by the rule of [`Purpose`], after every
//! answer that may come has come.

use std::time::{Duration, Instant};

/// Relays asked at once. With more, less than one attempt in a hundred ends better (paper §4.3).
pub(super) const MAX_PROBES: usize = 3;
/// What a change is worth: a relay must be nearer by this. It is also the start that relays which carry nothing for the
/// player have over those that carry another substream, so that one death does not cost two substreams.
pub(super) const CHANGE: Duration = Duration::from_millis(30);
/// Who is looked for in comfort is chosen after this at the latest.
const PATIENCE: Duration = Duration::from_millis(400);
/// Another relay is chosen when the first has not opened a session for so long.
const SPARE: Duration = Duration::from_millis(400);

/// Why relays are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The substream needs another relay, or has none: whoever comes first.
    Any,
    /// Its relay is this far away: another must be nearer by more than [`CHANGE`].
    Nearer(Duration),
    /// Its relay, this far away, would rather be without: another may be farther by [`CHANGE`].
    NotFarther(Duration),
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    link: u64,
    /// The relay carries another substream of this player.
    in_use: bool,
    answer: Option<(Instant, Duration)>,
    chosen: Option<Instant>,
}

impl Probe {
    /// What it is judged by.
    fn distance(&self, rtt: Duration) -> Duration {
        if self.in_use { rtt + CHANGE } else { rtt }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing yet.
    Wait,
    /// Open a session over this link.
    Choose(u64),
    /// Nobody is left, or nobody is good enough.
    Failed,
}

/// An attempt to find a relay for one substream.
#[derive(Debug)]
pub(super) struct Attempt {
    purpose: Purpose,
    since: Instant,
    probes: Vec<Probe>,
}

impl Attempt {
    /// Asks over these links.
    pub(super) fn new(
        now: Instant,
        purpose: Purpose,
        links: impl IntoIterator<Item = u64>,
    ) -> Self {
        let probe = |link| Probe {
            link,
            in_use: false,
            answer: None,
            chosen: None,
        };
        Self {
            purpose,
            since: now,
            probes: links.into_iter().map(probe).take(MAX_PROBES).collect(),
        }
    }

    /// The links that are left, the chosen one first.
    pub(super) fn links(&self) -> impl Iterator<Item = u64> {
        let part = |chosen| {
            let probes = self.probes.iter();
            probes.filter(move |probe| probe.chosen.is_some() == chosen)
        };
        part(true).chain(part(false)).map(|probe| probe.link)
    }

    pub(super) fn has(&self, link: u64) -> bool {
        self.probes.iter().any(|probe| probe.link == link)
    }

    /// A relay can and will: it has answered after this time.
    pub(super) fn answered(&mut self, now: Instant, link: u64, rtt: Duration) {
        if let Some(probe) = self.probes.iter_mut().find(|probe| probe.link == link) {
            probe.answer.get_or_insert((now, rtt));
        }
    }

    /// Whether a relay carries another substream by now.
    pub(super) fn set_in_use(&mut self, link: u64, in_use: bool) {
        if let Some(probe) = self.probes.iter_mut().find(|probe| probe.link == link) {
            probe.in_use = in_use;
        }
    }

    /// A relay refuses, or does not answer.
    pub(super) fn out(&mut self, link: u64) {
        self.probes.retain(|probe| probe.link != link);
    }

    /// What is to be done now.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        if self.probes.is_empty() {
            return Step::Failed;
        }
        let passed = |at| now.saturating_duration_since(at);
        let mut chosen = self.probes.iter().filter_map(|probe| probe.chosen);
        let at_once = chosen.clone().count() == 0;
        if chosen.any(|at| passed(at) < SPARE) {
            return Step::Wait;
        }
        let settled = match self.purpose {
            Purpose::Any => true,
            Purpose::Nearer(_) | Purpose::NotFarther(_) => {
                let all = self.probes.iter().all(|probe| probe.answer.is_some());
                all || passed(self.since) >= PATIENCE
            }
        };
        if !settled {
            return Step::Wait;
        }
        let purpose = self.purpose;
        let free = self.probes.iter_mut().filter(|p| p.chosen.is_none());
        let good = free.filter_map(|probe| {
            let (at, rtt) = probe.answer?;
            let distance = probe.distance(rtt);
            let rank = match purpose {
                Purpose::Any if probe.in_use && passed(at) < CHANGE => return None,
                // As if those that carry something had answered later.
                Purpose::Any => passed(at).saturating_sub(distance - rtt),
                Purpose::Nearer(now) if distance + CHANGE >= now => return None,
                // To all lean on one relay is no gain.
                Purpose::NotFarther(_) if probe.in_use => return None,
                Purpose::NotFarther(now) if distance > now + CHANGE => return None,
                Purpose::Nearer(now) | Purpose::NotFarther(now) => {
                    (now + 2 * CHANGE).saturating_sub(distance)
                }
            };
            Some((rank, probe))
        });
        match good.max_by_key(|(rank, _)| *rank) {
            Some((_, probe)) => {
                probe.chosen = Some(now);
                Step::Choose(probe.link)
            }
            None if at_once && purpose != Purpose::Any => Step::Failed,
            None => Step::Wait,
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do in a test")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn asked(links: &[(u64, bool)]) -> (Instant, Attempt) {
        let now = Instant::now();
        let mut attempt = Attempt::new(now, Purpose::Any, links.iter().map(|(link, _)| *link));
        links
            .iter()
            .for_each(|(link, used)| attempt.set_in_use(*link, *used));
        (now, attempt)
    }

    #[test]
    fn the_first_answer_is_taken_and_another_only_when_it_leads_nowhere() {
        let (now, mut attempt) = asked(&[(1, false), (2, false), (3, false), (4, false)]);
        assert!(!attempt.has(4), "three at once");
        assert_eq!(attempt.step(now), Step::Wait);
        attempt.answered(now + ms(20), 2, ms(20));
        assert_eq!(attempt.step(now + ms(20)), Step::Choose(2));
        attempt.answered(now + ms(25), 1, ms(25));
        assert_eq!(attempt.step(now + ms(30)), Step::Wait);
        assert_eq!(attempt.step(now + ms(20) + SPARE), Step::Choose(1));
        attempt.out(2);
        assert_eq!(attempt.step(now + ms(430)), Step::Wait);
        attempt.out(1);
        assert_eq!(attempt.links().collect::<Vec<_>>(), [3]);
        assert_eq!(attempt.step(now + ms(500)), Step::Wait);
        attempt.out(3);
        assert_eq!(attempt.step(now + ms(500)), Step::Failed);
    }

    #[test]
    fn who_carries_something_already_has_to_be_nearer() {
        let (now, mut attempt) = asked(&[(1, true), (2, false)]);
        attempt.answered(now + ms(10), 1, ms(10));
        assert_eq!(attempt.step(now + ms(10)), Step::Wait);
        attempt.answered(now + ms(35), 2, ms(35));
        assert_eq!(attempt.step(now + ms(35)), Step::Choose(2));
        let (now, mut attempt) = asked(&[(1, true), (2, false)]);
        attempt.answered(now + ms(10), 1, ms(10));
        assert_eq!(attempt.step(now + ms(40)), Step::Choose(1));
    }

    #[test]
    fn a_relay_is_left_only_for_one_that_is_nearer_by_the_price_of_a_change() {
        let now = Instant::now();
        let ask = |purpose, rtts: [u64; 2]| {
            let mut attempt = Attempt::new(now, purpose, [1, 2]);
            attempt.answered(now, 1, ms(rtts[0]));
            assert_eq!(attempt.step(now), Step::Wait, "the other may be nearer");
            attempt.answered(now, 2, ms(rtts[1]));
            attempt.step(now)
        };
        assert_eq!(ask(Purpose::Nearer(ms(100)), [69, 50]), Step::Choose(2));
        assert_eq!(ask(Purpose::Nearer(ms(100)), [70, 80]), Step::Failed);
        let suggested = Purpose::NotFarther(ms(100));
        assert_eq!(ask(suggested, [130, 140]), Step::Choose(1));
        assert_eq!(ask(suggested, [131, 140]), Step::Failed);
        // Who does not answer is not waited for.
        let mut attempt = Attempt::new(now, suggested, [1, 2]);
        attempt.answered(now, 1, ms(90));
        assert_eq!(attempt.step(now + PATIENCE), Step::Choose(1));
    }

    #[derive(Clone, Debug)]
    enum Act {
        Answer(u64, u64),
        Out(u64),
        Pass(u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0..4_u64, 1..200_u64).prop_map(|(link, rtt)| Act::Answer(link, rtt)),
            (0..4_u64).prop_map(Act::Out),
            (0..300_u64).prop_map(Act::Pass),
        ]
    }

    proptest! {
        /// Whatever happens: who is chosen has answered and is not out, nobody is chosen twice, two are not chosen within
        /// the time that the first has, and the rule for leaving a relay holds.
        #[test]
        fn choices_are_sound(
            acts in proptest::collection::vec(act(), 0..40), in_use in any::<[bool; 3]>(), rtt in 0..200_u64, kind in 0..3_u8,
        ) {
            let mut now = Instant::now();
            let purpose = match kind {
                0 => Purpose::Any,
                1 => Purpose::Nearer(ms(rtt)),
                _ => Purpose::NotFarther(ms(rtt)),
            };
            let mut attempt = Attempt::new(now, purpose, 0..3);
            (0..3).zip(in_use).for_each(|(link, used)| attempt.set_in_use(link, used));
            let mut answers = std::collections::HashMap::new();
            let (mut out, mut chosen) = (Vec::new(), Vec::<(u64, Instant)>::new());
            for act in acts {
                match act {
                    Act::Answer(link, rtt) => {
                        attempt.answered(now, link, ms(rtt));
                        answers.entry(link).or_insert(rtt);
                    }
                    Act::Out(link) => {
                        attempt.out(link);
                        out.push(link);
                    }
                    Act::Pass(by) => now += ms(by),
                }
                match attempt.step(now) {
                    Step::Wait => {}
                    Step::Choose(link) => {
                        prop_assert!(answers.contains_key(&link) && !out.contains(&link));
                        for (other, at) in &chosen {
                            prop_assert!(*other != link);
                            prop_assert!(out.contains(other) || now - *at >= SPARE);
                        }
                        match purpose {
                            Purpose::Any => {}
                            Purpose::Nearer(than) => prop_assert!(ms(answers[&link]) + CHANGE < than),
                            Purpose::NotFarther(than) => prop_assert!(ms(answers[&link]) <= than + CHANGE),
                        }
                        chosen.push((link, now));
                    }
                    Step::Failed => break,
                }
            }
        }
    }
}
