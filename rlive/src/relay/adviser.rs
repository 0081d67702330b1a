//! Suggests to players to go elsewhere: to those who fare badly here, and to those who cost too much here.
//!
//! *Quality*: who loses more than others do. Twice a second and for each session there is the share of packets that were
//! lost since the last report. A session stands out when that is more than 1.645 standard deviations above the mean of
//! all (the paper's upper 5 %), on [`STRIKES`] looks in a row. By that rule alone one healthy player in twenty would
//! always stand out; so it must also lose more than [`FLOOR`], whatever others do, and [`FACTOR`] times as much as they,
//! and with fewer than [`FEW`] sessions nobody stands out.
//!
//! *Cost*: a relay that is hardly used brings a substream from the origin for a few. When its load has been below
//! [`ENOUGH`] for [`IDLE`], it asks the scheduler how full the others are that have its substreams. Where they are fuller
//! than this one and not full either, its players of that substream are told, a few at a time.
//!
//! Both only suggest: the player measures others first, and stays when none is near enough.
//!
//! Invariants: a session gets a suggestion every [`AGAIN`] at most, and at most [`PART`] of all sessions, or one, at a look.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::wire::advice::{Advice, Others};
use crate::wire::control::Advised;

/// How often sessions are looked at; the paper's adviser looks every 100 ms, but reports come every 500 ms.
const LOOK: Duration = Duration::from_millis(500);
/// Standard deviations above the mean that one in twenty is of a normal distribution.
const UPPER: f64 = 1.645;
/// Looks in a row.
const STRIKES: u8 = 4;
/// Who loses less than this fares well, whatever others do.
const FLOOR: f64 = 0.03;
/// And who loses less than so many times what all do: where all are alike, chance makes one in twenty stand out.
const FACTOR: f64 = 2.0;
/// The standard deviation is taken for at least this: among players who lose nothing, one packet is no scandal.
const LEAST_SIGMA: f64 = 0.005;
/// With fewer sessions, there is no telling who stands out.
const FEW: usize = 20;
/// The relay is used enough from this load on: the paper's θ.
const ENOUGH: f32 = 0.6;
/// How long it must have been used too little.
const IDLE: Duration = Duration::from_secs(10);
/// Relays that have about the same load leave each other alone.
const CLEARLY: f32 = 0.05;
/// A session is told something this often at most.
const AGAIN: Duration = Duration::from_secs(30);
/// One in so many sessions is told something at a look.
const PART: usize = 20;
/// A new measurement counts for this.
const SMOOTH: f64 = 0.3;

#[derive(Clone, Copy, Debug)]
struct Fares {
    substream: (u32, u8),
    loss: f64,
    strikes: u8,
    told: Option<Instant>,
}

/// The state machine.
#[derive(Debug)]
pub(super) struct Adviser {
    sessions: BTreeMap<u32, Fares>,
    next_look: Instant,
    idle_since: Option<Instant>,
    asked: Option<Instant>,
    load: f32,
    /// Sessions to be told that they cost too much.
    costly: Vec<u32>,
}

impl Adviser {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            sessions: BTreeMap::new(),
            next_look: now + LOOK,
            idle_since: None,
            asked: None,
            load: 0.0,
            costly: Vec::new(),
        }
    }

    /// A session reports: packets that were sent and lost since its last report. Its substream: stream's tag and number.
    pub(super) fn report(&mut self, conn: u32, substream: (u32, u8), sent: u32, lost: u16) {
        let fares = self.sessions.entry(conn).or_insert(Fares {
            substream,
            loss: 0.0,
            strikes: 0,
            told: None,
        });
        if sent > 0 {
            let share = (f64::from(lost) / f64::from(sent)).min(1.0);
            fares.loss += SMOOTH * (share - fares.loss);
        }
    }

    pub(super) fn forget(&mut self, conn: u32) {
        self.sessions.remove(&conn);
    }

    /// Whether the scheduler is to be asked how full others are; then it counts as asked.
    pub(super) fn asks(&mut self, now: Instant, load: f32, knows_capacity: bool) -> bool {
        self.load = load;
        let idle = knows_capacity && load < ENOUGH && !self.sessions.is_empty();
        if !idle {
            self.idle_since = None;
            return false;
        }
        let passed = |at| now.saturating_duration_since(at);
        let since = *self.idle_since.get_or_insert(now);
        let due = passed(since) >= IDLE && self.asked.is_none_or(|at| passed(at) >= IDLE);
        if due {
            self.asked = Some(now);
        }
        due
    }

    /// The scheduler answers.
    pub(super) fn advised(&mut self, now: Instant, advice: &Advice) {
        let better = |others: &&Others| {
            others.relays > 0 && others.load < ENOUGH && others.load > self.load + CLEARLY
        };
        let Some(others) = advice.others.iter().find(better) else {
            return;
        };
        let what = (others.stream, others.substream);
        let may = |fares: &Fares| Self::may(now, fares) && fares.substream == what;
        let sessions = self.sessions.iter().filter(|(_, fares)| may(fares));
        self.costly = sessions.map(|(conn, _)| *conn).collect();
    }

    fn may(now: Instant, fares: &Fares) -> bool {
        let told = fares.told.map(|at| now.saturating_duration_since(at));
        told.is_none_or(|passed| passed >= AGAIN)
    }

    /// Whom to tell what, if it is time to look.
    pub(super) fn look(&mut self, now: Instant) -> Vec<(u32, Advised)> {
        if now < self.next_look {
            return Vec::new();
        }
        self.next_look = now + LOOK;
        let most = (self.sessions.len() / PART).max(1);
        let mut told: Vec<(u32, Advised)> = self
            .stand_out(now)
            .into_iter()
            .map(|conn| (conn, Advised::Quality))
            .collect();
        told.extend(self.costly.iter().map(|conn| (*conn, Advised::Cost)));
        told.truncate(most);
        for (conn, _) in &told {
            self.costly.retain(|costly| costly != conn);
            if let Some(fares) = self.sessions.get_mut(conn) {
                fares.told = Some(now);
            }
        }
        told
    }

    fn stand_out(&mut self, now: Instant) -> Vec<u32> {
        let losses = self.sessions.values().map(|fares| fares.loss);
        let count = f64::from(u32::try_from(self.sessions.len()).unwrap_or(u32::MAX)).max(1.0);
        let mean = losses.clone().sum::<f64>() / count;
        let variance = losses.map(|loss| (loss - mean).powi(2)).sum::<f64>() / count;
        let upper = mean + UPPER * variance.sqrt().max(LEAST_SIGMA);
        let limit = upper.max(FLOOR).max(FACTOR * mean);
        let few = self.sessions.len() < FEW;
        let mut found = Vec::new();
        for (conn, fares) in &mut self.sessions {
            if few || fares.loss <= limit {
                fares.strikes = 0;
                continue;
            }
            fares.strikes = fares.strikes.saturating_add(1);
            if fares.strikes >= STRIKES && Self::may(now, fares) {
                found.push((fares.loss, *conn));
            }
        }
        found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        found.into_iter().map(|(_, conn)| conn).collect()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do in a test")]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    const WHAT: (u32, u8) = (7, 1);

    /// A minute of reports of players who lose as `loss` says; who was told what.
    fn minute(players: u32, loss: impl Fn(u32) -> f64) -> Vec<(u32, Advised)> {
        let (mut now, mut random) = (Instant::now(), StdRng::seed_from_u64(5));
        let mut adviser = Adviser::new(now);
        let mut all = Vec::new();
        for _ in 0..120 {
            for conn in 0..players {
                let lost = (0..60).filter(|_| random.random_bool(loss(conn))).count();
                adviser.report(conn, WHAT, 60, u16::try_from(lost).expect("few"));
            }
            now += LOOK;
            let told = adviser.look(now);
            assert!(told.len() <= usize::try_from(players).expect("few") / PART + 1);
            all.extend(told);
        }
        all
    }

    #[test]
    fn who_fares_badly_is_told_and_the_healthy_are_not() {
        assert_eq!(
            minute(100, |_| 0.01),
            [],
            "one in twenty is always the worst"
        );
        let told = minute(100, |conn| if conn < 3 { 0.12 } else { 0.01 });
        let mut whom: Vec<u32> = told.iter().map(|(conn, _)| *conn).collect();
        assert!(told.iter().all(|(_, what)| *what == Advised::Quality));
        whom.sort_unstable();
        whom.dedup();
        assert_eq!(whom, [0, 1, 2]);
        assert!(told.len() <= 6, "every half minute: {told:?}");
        assert_eq!(minute(100, |_| 0.1), [], "all alike: it is not they");
        assert_eq!(minute(10, |conn| if conn < 1 { 0.3 } else { 0.0 }), []);
    }

    #[test]
    fn who_is_hardly_used_sheds_to_those_who_are_fuller_and_not_full() {
        let start = Instant::now();
        let ask = |mine: f32, theirs: f32| {
            let mut adviser = Adviser::new(start);
            (0..4).for_each(|conn| adviser.report(conn, WHAT, 10, 0));
            assert!(
                !adviser.asks(start, mine, false),
                "it does not know its load"
            );
            assert!(!adviser.asks(start, mine, true));
            let later = start + IDLE;
            if !adviser.asks(later, mine, true) {
                return None;
            }
            assert!(!adviser.asks(later + LOOK, mine, true), "not at once again");
            let others = Others {
                stream: 7,
                substream: 1,
                relays: 3,
                load: theirs,
            };
            let advice = Advice {
                relay: 1,
                seq: 1,
                others: vec![others],
            };
            adviser.advised(later, &advice);
            let looks = (1..10).map(|n| adviser.look(later + LOOK * n));
            Some(looks.map(|told| told.len()).sum::<usize>())
        };
        assert_eq!(ask(0.1, 0.4), Some(4), "each once");
        assert_eq!(ask(0.4, 0.1), Some(0), "they shed to us");
        assert_eq!(ask(0.1, 0.12), Some(0), "about the same");
        assert_eq!(ask(0.1, 0.7), Some(0), "they have enough");
        assert_eq!(ask(0.7, 0.1), None);
    }
}
