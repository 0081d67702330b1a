//! Whether the network is what the paper says its network is: nothing is claimed when it is not.

use super::dice::Dice;
use super::model::Model;
use super::path::{Nature, Path, Replies, us};
use super::{Arm, Figures};

/// A figure that the network must reproduce.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gate {
    /// What is measured.
    pub what: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// The figure.
    pub measured: f64,
    /// The least that it may be.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Gate {
    /// Whether the figure is within its limits.
    #[must_use]
    pub fn passes(&self) -> bool {
        (self.least..=self.most).contains(&self.measured)
    }
}

/// How often a request is tried for the gates, and how long one try waits.
const TRIES: u32 = 3;
const WAIT_S: f64 = 1.5;
/// Requests that are tried.
const REQUESTS: u32 = 20_000;

/// Requests over the network alone: whether and when the answers come.
fn requests(mut once: impl FnMut(u64) -> Option<u64>) -> (f64, f64) {
    let (mut took, mut now) = (Vec::new(), 0);
    for _ in 0..REQUESTS {
        now += us(0.2);
        let answer = (0..TRIES).find_map(|n| {
            let waited = us(WAIT_S * f64::from(n));
            let at = once(now + waited)?;
            (at - now <= us(WAIT_S) + waited).then(|| at - now)
        });
        took.extend(answer.map(|us| f64::from(u32::try_from(us).unwrap_or(u32::MAX)) / 1_000.0));
        now += us(WAIT_S * f64::from(TRIES));
    }
    took.sort_by(f64::total_cmp);
    let share = f64::from(u32::try_from(took.len()).unwrap_or_default()) / f64::from(REQUESTS);
    (
        share,
        took.get(took.len() / 2).copied().unwrap_or(f64::INFINITY),
    )
}

/// Packets asked of relays again: up to three requests, 1.5 s each.
fn retransmissions(model: &Model) -> (f64, f64) {
    let mut all = Vec::new();
    for relay in 0..10 {
        let mut nature = Nature::new(1, relay, 1, model);
        let sure = Model {
            unreachable_share: 0.0,
            ..model.clone()
        };
        let mut path = Path::new(1, relay, 0, relay % 3 == 0, nature.slow, &sure);
        let mut replies = Replies::new(Dice::new(1, &[16, relay]), model);
        all.push(requests(|now| {
            let asked = path.up(now)? + replies.draw_us();
            if nature.outage(asked).is_some() {
                return None;
            }
            let congestion = nature.congestion_us(asked);
            let left = nature.send(asked, 1_200)?;
            path.down(asked, left - asked + congestion)
        }));
    }
    let mean = |of: fn(&(f64, f64)) -> f64| all.iter().map(of).sum::<f64>() / 10.0;
    (mean(|r| r.0), mean(|r| r.1))
}

/// How many of the relays that could be recommended are of no use.
fn useless(model: &Model) -> f64 {
    let useless = |relay: &u64| {
        let nature = Nature::new(1, *relay, 1, model);
        let path = Path::new(1, *relay, 0, false, nature.slow, model);
        nature.stale || nature.full || nature.slow || !path.is_reachable()
    };
    let count = (0..u64::from(REQUESTS)).filter(useless).count();
    f64::from(u32::try_from(count).unwrap_or_default()) / f64::from(REQUESTS)
}

/// All gates, from the figures of a single source and of the dedicated node alone.
#[must_use]
pub fn all(model: &Model, cdn: &Figures, single: &Figures) -> Vec<Gate> {
    let (success, ms) = retransmissions(model);
    let mut node = super::cdn::Cdn::new(1, 60.0, model);
    let mut fetched: Vec<f64> = Vec::new();
    for _ in 0..REQUESTS {
        let (at, there) = node.fetch(0, 0, 5_000);
        if there {
            fetched.push(f64::from(u32::try_from(at).unwrap_or(u32::MAX)) / 1_000.0);
        }
    }
    fetched.sort_by(f64::total_cmp);
    let median = fetched.get(fetched.len() / 2).copied();
    let share = f64::from(u32::try_from(fetched.len()).unwrap_or_default()) / f64::from(REQUESTS);
    let gate = |what, unit, measured, least, most| Gate {
        what,
        unit,
        measured,
        least,
        most,
    };
    let more = |a: f64, b: f64| 100.0 * (a / b - 1.0);
    let around = |what, unit, measured, aim: f64| gate(what, unit, measured, aim * 0.9, aim * 1.1);
    vec![
        gate(
            "single source: latency above CDN only",
            "%",
            more(single.latency_ms(), cdn.latency_ms()),
            26.0,
            35.0,
        ),
        gate(
            "single source: stalls above CDN only",
            "%",
            more(single.stalls_per_100_s(), cdn.stalls_per_100_s()),
            37.0,
            45.0,
        ),
        around(
            "packets again from a relay: success",
            "%",
            100.0 * success,
            91.44,
        ),
        around("packets again from a relay: median", "ms", ms, 778.0),
        around("a frame from the CDN: success", "%", 100.0 * share, 94.09),
        around(
            "a frame from the CDN: median",
            "ms",
            median.unwrap_or(f64::INFINITY),
            71.1,
        ),
        gate(
            "relays that are of no use",
            "%",
            100.0 * useless(model),
            30.0,
            35.0,
        ),
    ]
}

/// The arms that the gates need.
pub const ARMS: [Arm; 2] = [Arm::Cdn, Arm::Single];
