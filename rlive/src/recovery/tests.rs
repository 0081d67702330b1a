//! The quick solution is the best one, and it does what one would do.

use proptest::prelude::*;

use super::*;

const ALL: [Action; 5] = [
    Action::GiveUp,
    Action::Packets,
    Action::Frame,
    Action::Substream,
    Action::Stream,
];

/// The loss of any assignment of actions.
fn loss(lost: &[Lost], actions: &[Action], moving: &Moving, prices: &Prices) -> f64 {
    let mut total = 0.0;
    for (lost, action) in lost.iter().zip(actions) {
        let risk = prices.frame * lost.risk;
        total += match action {
            Action::GiveUp => risk,
            Action::Packets => match lost.late_from_relay {
                Some(late) => prices.relay_byte * lost.missing_bytes + late * risk,
                None => f64::INFINITY,
            },
            Action::Frame => prices.request + lost.bytes + lost.late_from_origin * risk,
            Action::Substream | Action::Stream => lost.late_from_origin * risk,
        };
    }
    for (substream, price) in (0..).zip(&moving.substreams) {
        let moved = lost
            .iter()
            .zip(actions)
            .any(|(lost, action)| lost.substream == substream && *action == Action::Substream);
        total += if moved { *price } else { 0.0 };
    }
    if actions.contains(&Action::Stream) {
        total += moving.stream;
    }
    total
}

fn brute_force(lost: &[Lost], moving: &Moving, prices: &Prices) -> f64 {
    let mut best = f64::INFINITY;
    for code in 0..ALL.len().pow(u32::try_from(lost.len()).expect("few")) {
        let mut code = code;
        let actions: Vec<Action> = lost
            .iter()
            .map(|_| {
                let action = ALL[code % ALL.len()];
                code /= ALL.len();
                action
            })
            .collect();
        best = best.min(loss(lost, &actions, moving, prices));
    }
    best
}

fn lost() -> impl Strategy<Value = Lost> {
    (
        0..3_u8,
        prop_oneof![Just(8.0), Just(1.0), Just(2.0)],
        proptest::option::of(0.0..1.0),
        0.0..1.0,
        0.0..20_000.0,
        0.0..20_000.0,
    )
        .prop_map(
            |(substream, risk, late_from_relay, late_from_origin, missing_bytes, more)| Lost {
                substream,
                risk,
                late_from_relay,
                late_from_origin,
                missing_bytes,
                bytes: missing_bytes + more,
            },
        )
}

proptest! {
    #[test]
    fn the_plan_is_the_best_of_all(
        lost in proptest::collection::vec(lost(), 0..6),
        substreams in proptest::collection::vec(0.0..100_000.0, 3),
        stream in 0.0..200_000.0,
        frame in prop_oneof![Just(1e3), Just(1e5), Just(1e6)],
    ) {
        let moving = Moving { substreams, stream };
        let prices = Prices { frame, ..Prices::default() };
        let plan = decide(&lost, &moving, &prices);
        let best = brute_force(&lost, &moving, &prices);
        prop_assert!((plan.loss - best).abs() <= best.abs() * 1e-9 + 1e-6, "{plan:?} against {best}");
        let real = loss(&lost, &plan.actions, &moving, &prices);
        prop_assert!((real - best).abs() <= best.abs() * 1e-9 + 1e-6, "{plan:?} costs {real}, not {best}");
    }
}

fn frame(substream: u8, late_from_relay: Option<f64>, late_from_origin: f64) -> Lost {
    Lost {
        substream,
        risk: 1.0,
        late_from_relay,
        late_from_origin,
        missing_bytes: 1_072.0,
        bytes: 8_000.0,
    }
}

fn moving() -> Moving {
    Moving {
        substreams: vec![150_000.0; 4],
        stream: 500_000.0,
    }
}

#[test]
fn every_action_has_its_case() {
    let decide = |lost: &[Lost]| decide(lost, &moving(), &Prices::default()).actions;
    // Time enough: the relay is cheaper.
    assert_eq!(decide(&[frame(0, Some(0.001), 0.0)]), [Action::Packets]);
    // The relay would be late.
    assert_eq!(decide(&[frame(0, Some(0.5), 0.01)]), [Action::Frame]);
    // Nobody can help.
    assert_eq!(decide(&[frame(0, Some(1.0), 1.0)]), [Action::GiveUp]);
    // A whole substream is silent.
    assert_eq!(decide(&[frame(2, None, 0.01); 20]), [Action::Substream; 20]);
    // All are.
    let all: Vec<Lost> = (0..80).map(|n| frame(n % 4, None, 0.01)).collect();
    assert_eq!(decide(&all), [Action::Stream; 80]);
}
