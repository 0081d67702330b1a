//! Delivery over relays, simulated: the machines of production on virtual time ([`rlive::sim`]).
//!
//! First the gates: does the network behave as the paper says that its network does? Where one fails, the figures are
//! printed without their bars: nothing is claimed.

use rlive::sim::gates::{self, Gate};
use rlive::sim::{self, Arm, Figures, Model, Scale};

use crate::report::Row;
use crate::stats::{Ratio, ratio};

/// Viewers of a trial come from one town; what is measured is theirs together.
fn scale(model: &Model) -> Scale {
    Scale {
        viewers: 20,
        relays: 30,
        seconds: model.watched_s,
    }
}

/// The figures of one arm, seed by seed.
struct Played {
    arm: Arm,
    trials: Vec<Figures>,
}

impl Played {
    fn sum(&self) -> Figures {
        let none = Figures::default();
        self.trials.iter().fold(none, |sum, trial| sum.and(trial))
    }
}

/// Plays an arm with seeds 1 to `seeds`, on all processors.
fn play(model: &Model, arm: Arm, seeds: u64) -> Played {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = u64::try_from(threads).unwrap_or(1);
    let mut trials: Vec<(u64, Figures)> = std::thread::scope(|scope| {
        let one = |first: u64| {
            scope.spawn(move || {
                let own = (first..=seeds).step_by(usize::try_from(threads).unwrap_or(1));
                own.map(|seed| (seed, sim::trial(model, arm, scale(model), seed)))
                    .collect::<Vec<_>>()
            })
        };
        let running: Vec<_> = (1..=threads).map(one).collect();
        running
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_default())
            .collect()
    });
    trials.sort_by_key(|(seed, _)| *seed);
    Played {
        arm,
        trials: trials.into_iter().map(|(_, trial)| trial).collect(),
    }
}

/// The figures of all arms, the gates first.
pub(crate) fn rows(seeds: u64, quick: bool) -> Vec<Row> {
    let model = Model::default();
    let seeds = if quick { seeds.min(2) } else { seeds };
    let arms: Vec<Played> = Arm::ALL
        .into_iter()
        .map(|arm| play(&model, arm, seeds))
        .collect();
    let [cdn, single, multi, central, _, ours] = arms.as_slice() else {
        return Vec::new();
    };
    let gates = gates::all(&model, &cdn.sum(), &single.sum());
    let claimed = gates.iter().all(Gate::passes);
    let mut rows: Vec<Row> = gates.iter().flat_map(gate_rows).collect();
    rows.extend(arms.iter().flat_map(|arm| arm_rows(arm, cdn)));
    rows.extend(bars(claimed, cdn, single, multi, central, ours));
    rows
}

/// A gate has two sides.
fn gate_rows(gate: &Gate) -> Vec<Row> {
    let row = |side: &str| {
        Row::new(
            format!("gate: {}{side}", gate.what),
            gate.measured,
            gate.unit,
        )
    };
    vec![
        row("").at_least(gate.least),
        row(", at most").at_most(gate.most),
    ]
}

type Of = fn(&Figures) -> f64;

fn arm_rows(played: &Played, cdn: &Played) -> Vec<Row> {
    let sum = played.sum();
    let mut figures: Vec<(&str, Of, &'static str)> = vec![
        ("stalls in 100 s", Figures::stalls_per_100_s, ""),
        ("standing in an hour", Figures::stalled_s_per_hour, "s"),
        ("latency", Figures::latency_ms, "ms"),
        ("bitrate", Figures::kbps, "kb/s"),
        ("CDN bytes per byte played", Figures::cdn_share, ""),
        ("equivalent traffic", Figures::equivalent_traffic, ""),
    ];
    if played.arm != Arm::Cdn {
        figures.extend::<[(&str, Of, &'static str); 5]>([
            ("traffic expansion", Figures::expansion, "x"),
            ("sent again", Figures::retransmitted, ""),
            ("twice", Figures::duplicates, ""),
            ("useless relays of those tried", Figures::invalid_share, ""),
            ("frames out of order", |f| f.out_of_order, ""),
        ]);
    }
    let each = |played: &Played, of: Of| played.trials.iter().map(of).collect::<Vec<f64>>();
    figures
        .into_iter()
        .map(|(what, of, unit)| {
            let title = format!("{}: {what}", played.arm.name());
            let row = Row::new(title, of(&sum), unit);
            match played.arm == Arm::Cdn || of(&cdn.sum()).is_nan() {
                true => row,
                false => row.beside_each("CDN only", &each(played, of), &each(cdn, of)),
            }
        })
        .collect()
}

/// The ratio of two arms, with its interval over the seeds.
fn compared(what: &str, a: &Played, b: &Played, of: Of) -> Option<(Row, Ratio)> {
    let pairs: Vec<(f64, f64)> = a
        .trials
        .iter()
        .map(of)
        .zip(b.trials.iter().map(of))
        .collect();
    let found = ratio(&pairs)?;
    let row = Row::new(what, found.value, "x").within(found.low, found.high);
    Some((row, found))
}

fn bars(
    claimed: bool,
    cdn: &Played,
    single: &Played,
    multi: &Played,
    central: &Played,
    ours: &Played,
) -> Vec<Row> {
    let at_most = |bar: f64| move |row: Row| row.at_most(bar);
    let at_least = |bar: f64| move |row: Row| row.at_least(bar);
    let per_cdn_byte: Of = |figures| 1.0 / figures.cdn_share();
    type Bar = Box<dyn Fn(Row) -> Row>;
    let all: [(&str, &Played, &Played, Of, Bar); 8] = [
        (
            "stalls, ours / CDN only",
            ours,
            cdn,
            Figures::stalls_per_100_s,
            Box::new(at_most(0.85)),
        ),
        (
            "bitrate, ours / CDN only",
            ours,
            cdn,
            Figures::kbps,
            Box::new(at_least(1.1)),
        ),
        (
            "latency, ours / CDN only",
            ours,
            cdn,
            Figures::latency_ms,
            Box::new(at_most(1.06)),
        ),
        (
            "latency, multi / single source",
            multi,
            single,
            Figures::latency_ms,
            Box::new(at_most(0.88)),
        ),
        (
            "traffic expansion, ours / single source",
            ours,
            single,
            Figures::expansion,
            Box::new(at_least(2.0)),
        ),
        (
            "viewers per CDN byte, ours / CDN only",
            ours,
            cdn,
            per_cdn_byte,
            Box::new(at_least(3.0)),
        ),
        (
            "equivalent traffic, ours / CDN only",
            ours,
            cdn,
            Figures::equivalent_traffic,
            Box::new(at_most(0.92)),
        ),
        (
            "sent again, ours / central order",
            ours,
            central,
            Figures::retransmitted,
            Box::new(at_most(0.75)),
        ),
    ];
    all.into_iter()
        .filter_map(|(what, a, b, of, bar)| {
            let what = match claimed {
                true => what.to_owned(),
                false => format!("no claim: {what}"),
            };
            let (row, _) = compared(&what, a, b, of)?;
            Some(if claimed { bar(row) } else { row })
        })
        .collect()
}

/// How the ratio of stalls changes when each number that nobody has measured is half or one and a half times as large.
pub(crate) fn sensitivity(seeds: u64) -> Vec<Row> {
    let model = Model::default();
    let stalls: Of = Figures::stalls_per_100_s;
    let mut rows = Vec::new();
    for parameter in model.parameters() {
        if parameter.from == sim::model::From::Paper {
            continue;
        }
        for factor in [0.5, 1.5] {
            let Some(other) = model.with(parameter.name, parameter.value * factor) else {
                continue;
            };
            let cdn = play(&other, Arm::Cdn, seeds);
            let ours = play(&other, Arm::Ours, seeds);
            let what = format!("{} x {factor}: stalls, ours / CDN only", parameter.name);
            rows.extend(compared(&what, &ours, &cdn, stalls).map(|(row, _)| row));
        }
    }
    rows
}
