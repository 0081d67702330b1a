//! What viewers notice of a switch, beside an architecture with two paths, and how long a switch takes.
//!
//! [`trial`] runs both over the network of [`net`]; [`player`] says what viewers saw; here many trials become rows.

mod handover;
mod net;
mod player;
mod trial;
mod tun;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::net::{Impairment, Net};
use self::player::Trouble;
use self::trial::{Kit, Outcome};
use crate::clip::Clip;
use crate::print;
use crate::report::Row;
use crate::stats::{quantile, ratio};

pub(crate) use self::handover::{durations, latency};
pub(crate) use self::trial::rtmp_host;

/// The most that is allowed of what the two paths cost.
const BAR: f64 = 0.40;
const DUAL: &str = "two paths";
const DUAL_EARLY: &str = "host shown first";
const DIRECTIONS: [&str; 2] = ["solo to collab", "collab to solo"];
/// Small, so that the processes of many trials fit on one machine: networks count packets, not pixels.
const CLIP: Clip = Clip {
    width: 480,
    height: 270,
    kbps: 800,
    gop: 30,
    seconds: 30,
};

/// Which trials.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) networks: Networks,
    pub(crate) seeds: u64,
    /// Trials at the same time.
    pub(crate) parallel: usize,
}

/// Which networks.
#[derive(Clone, Debug)]
pub(crate) enum Networks {
    /// Every round-trip time with every loss, for every seed.
    Grid {
        round_trips_ms: Vec<u32>,
        losses_percent: Vec<f64>,
    },
    /// One for each seed, from the range of a grid's: 20 to 200 ms, 0 to 3 %. Both sides of a trial have the same.
    Drawn,
}

/// All trials of one network, or of similar ones.
struct Cell {
    name: String,
    outcomes: Vec<Outcome>,
}

/// What is to be done: which cell, which seed, on what network.
struct Job {
    cell: usize,
    seed: u64,
    impairment: Impairment,
}

impl Plan {
    fn jobs(&self) -> (Vec<Cell>, Vec<Job>) {
        let network = |round_trip_ms: f64, loss_percent: f64| Impairment {
            round_trip: Duration::from_secs_f64(round_trip_ms / 1_000.0),
            loss: loss_percent / 100.0,
        };
        let (mut names, mut jobs) = (Vec::new(), Vec::new());
        match &self.networks {
            Networks::Grid {
                round_trips_ms,
                losses_percent,
            } => {
                for seed in 1..=self.seeds {
                    let mut cell = 0;
                    for round_trip_ms in round_trips_ms {
                        for loss_percent in losses_percent {
                            if seed == 1 {
                                names
                                    .push(format!("RTT {round_trip_ms} ms, loss {loss_percent} %"));
                            }
                            let impairment = network((*round_trip_ms).into(), *loss_percent);
                            jobs.push(Job {
                                cell,
                                seed,
                                impairment,
                            });
                            cell += 1;
                        }
                    }
                }
            }
            Networks::Drawn => {
                for way in ["below 110", "110 or more"] {
                    for loss in ["below 1.5", "1.5 or more"] {
                        names.push(format!("RTT {way} ms, loss {loss} %"));
                    }
                }
                for seed in 1..=self.seeds {
                    let mut dice = StdRng::seed_from_u64(seed);
                    let round_trip_ms = dice.random_range(20.0..=200.0);
                    let loss_percent = dice.random_range(0.0..=3.0);
                    let far = usize::from(round_trip_ms >= 110.0);
                    let lossy = usize::from(loss_percent >= 1.5);
                    jobs.push(Job {
                        cell: 2 * far + lossy,
                        seed,
                        impairment: network(round_trip_ms, loss_percent),
                    });
                }
            }
        }
        let cell = |name| Cell {
            name,
            outcomes: Vec::new(),
        };
        (names.into_iter().map(cell).collect(), jobs)
    }
}

/// Rebuffering in the ten seconds after each switch.
pub(crate) async fn rebuffering(
    anchornet: &Path,
    clips: &Path,
    plan: &Plan,
) -> anyhow::Result<Vec<Row>> {
    let none = Impairment {
        round_trip: Duration::ZERO,
        loss: 0.0,
    };
    if let Err(error) = Net::start(1, none, 0).await {
        print(&format!(
            "  left out, it needs root, /dev/net/tun, ip, unshare and nsenter: {error:#}"
        ));
        return Ok(Vec::new());
    }
    let kit = Kit::new(anchornet, CLIP.file(clips).await?, CLIP.kbps).await?;
    let begun = Instant::now();
    let (cells, failed) = trials(&kit, plan).await?;
    print(&format!(
        "  {} trials in {:.0} s, {failed} failed",
        cells.iter().map(|cell| cell.outcomes.len()).sum::<usize>(),
        begun.elapsed().as_secs_f64()
    ));
    let mut rows = Vec::new();
    for cell in cells.iter().filter(|cell| !cell.outcomes.is_empty()) {
        for (way, direction) in DIRECTIONS.iter().enumerate() {
            let title = format!("{direction}, {}", cell.name);
            rows.extend(compare(&title, way, &cell.outcomes));
        }
    }
    let all: Vec<Outcome> = cells.into_iter().flat_map(|cell| cell.outcomes).collect();
    anyhow::ensure!(!all.is_empty(), "no trial of the switch gave a result");
    for (way, direction) in DIRECTIONS.iter().enumerate() {
        rows.extend(compare(&format!("{direction}, all networks"), way, &all));
        rows.extend(verdict(direction, way, &all));
    }
    let mut joined: Vec<f64> = all.iter().map(|outcome| outcome.joined_ms).collect();
    let mut taken: Vec<f64> = all.iter().map(|outcome| outcome.taken_over_ms).collect();
    rows.push(Row::of(
        DUAL,
        "host has joined, p50",
        quantile(&mut joined, 0.5),
        "ms",
    ));
    rows.push(Row::of(
        DUAL,
        "first picture of the mix at the edge, p50",
        quantile(&mut taken, 0.5),
        "ms",
    ));
    rows.push(Row::new("trials without a result", f64::from(failed), "").at_most(0.0));
    Ok(rows)
}

async fn trials(kit: &Kit, plan: &Plan) -> anyhow::Result<(Vec<Cell>, u32)> {
    let (mut cells, jobs) = plan.jobs();
    let places = Arc::new(Semaphore::new(plan.parallel));
    let mut running = JoinSet::new();
    let mut lanes = (1..=250_u8).cycle();
    for job in jobs {
        let (kit, places) = (kit.clone(), Arc::clone(&places));
        let lane = lanes.next().unwrap_or(1);
        running.spawn(async move {
            let _place = places.acquire_owned().await;
            let outcome = trial::run(&kit, job.impairment, job.seed, lane).await;
            (job, outcome)
        });
    }
    let mut failed = 0;
    while let Some(ended) = running.join_next().await {
        let (job, outcome) = ended?;
        let Some(cell) = cells.get_mut(job.cell) else {
            continue;
        };
        let name = format!(
            "  RTT {:>3.0} ms, loss {:.1} %, seed {}",
            job.impairment.round_trip.as_secs_f64() * 1_000.0,
            job.impairment.loss * 100.0,
            job.seed
        );
        match outcome {
            Ok(outcome) => {
                let stalled = |of: &[Trouble; 2]| {
                    let [there, back] = of.map(|trouble| trouble.stalled_ms);
                    format!("{there:.0} + {back:.0}")
                };
                print(&format!(
                    "{name}: stalled {} ms, {DUAL} {} ms, {DUAL_EARLY} {} ms (host joined after {:.0}, mix after {:.0})",
                    stalled(&outcome.anchornet),
                    stalled(&outcome.dual),
                    stalled(&outcome.dual_early),
                    outcome.joined_ms,
                    outcome.taken_over_ms
                ));
                cell.outcomes.push(outcome);
            }
            // One that fails is told and counted, and is no reason to lose the run
            Err(error) => {
                failed += 1;
                print(&format!("{name}: failed: {error:#}"));
            }
        }
    }
    Ok((cells, failed))
}

fn pick(
    outcomes: &[Outcome],
    way: usize,
    side: fn(&Outcome) -> &[Trouble; 2],
    of: fn(&Trouble) -> f64,
) -> Vec<f64> {
    let pick = |outcome| side(outcome).get(way).map_or(0.0, of);
    outcomes.iter().map(pick).collect()
}

fn stalls(trouble: &Trouble) -> f64 {
    trouble.stalls.into()
}

fn stalled_ms(trouble: &Trouble) -> f64 {
    trouble.stalled_ms
}

/// Means of both sides.
fn compare(title: &str, way: usize, outcomes: &[Outcome]) -> Vec<Row> {
    let row = |what: &str, of: fn(&Trouble) -> f64, unit| {
        let side = |side| pick(outcomes, way, side, of);
        let ours = side(|outcome| &outcome.anchornet);
        Row::new(format!("{title}: {what}"), mean(&ours), unit)
            .beside_each(DUAL, &ours, &side(|outcome| &outcome.dual))
            .beside_each(DUAL_EARLY, &ours, &side(|outcome| &outcome.dual_early))
    };
    let missing = row("pictures missing", |trouble| trouble.missing_ms, "ms");
    let complete = missing.measured == 0.0 && missing.peers.iter().all(|peer| peer.measured == 0.0);
    let mut rows = vec![row("stalls", stalls, ""), row("stalled", stalled_ms, "ms")];
    rows.extend((!complete).then_some(missing));
    rows
}

/// The ratios that have a bar. Without a stall of the two paths there is none.
fn verdict(direction: &str, way: usize, outcomes: &[Outcome]) -> Vec<Row> {
    let row = |what: &str, of: fn(&Trouble) -> f64| {
        let ours = pick(outcomes, way, |outcome| &outcome.anchornet, of);
        let theirs = pick(outcomes, way, |outcome| &outcome.dual, of);
        let pairs: Vec<(f64, f64)> = ours.into_iter().zip(theirs).collect();
        let ratio = ratio(&pairs)?;
        let title = format!("{direction}: {what}, AnchorNet / {DUAL}");
        let row = Row::new(title, ratio.value, "x").at_most(BAR);
        Some(row.within(ratio.low, ratio.high))
    };
    [
        row("number of stalls", stalls),
        row("time stalled", stalled_ms),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn mean(values: &[f64]) -> f64 {
    let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
    values.iter().fold(0.0, |sum, value| sum + value) / f64::from(count)
}
