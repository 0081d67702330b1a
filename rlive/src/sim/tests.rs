//! Small worlds: the machines hold together, trials repeat, and what is frozen is frozen.

use super::*;

const SMALL: Scale = Scale {
    viewers: 4,
    relays: 16,
    seconds: 20.0,
};

/// Whoever changes a number of the model has to measure everything again.
#[test]
fn the_model_is_frozen() {
    assert_eq!(
        Model::default().hash(),
        0x0ce3_755f_c22e_c853,
        "{:#x}",
        Model::default().hash()
    );
    let other = Model::default().with("delay_ms", 26.0).expect("known");
    assert_ne!(other.hash(), Model::default().hash());
    assert_eq!(Model::default().with("nothing", 1.0), None);
}

#[test]
fn a_seed_gives_the_same_figures_bit_by_bit() {
    let model = Model::default();
    for arm in Arm::ALL {
        let first = trial(&model, arm, SMALL, 7);
        assert_eq!(first, trial(&model, arm, SMALL, 7), "{}", arm.name());
        assert_ne!(first, trial(&model, arm, SMALL, 8), "{}", arm.name());
    }
}

#[test]
fn what_is_played_is_the_stream_in_its_order_by_every_way() {
    let model = Model::default();
    for arm in Arm::ALL {
        let figures = trial(&model, arm, SMALL, 3);
        assert!(figures.watched_s > 60.0, "{figures:?}");
        assert_eq!(figures.out_of_order, 0.0, "{} {figures:?}", arm.name());
        assert!(figures.kbps() > 1_500.0, "{} {figures:?}", arm.name());
        let relayed = figures.relay_bytes > 0.2 * figures.played_bytes;
        assert_eq!(relayed, arm != Arm::Cdn, "{} {figures:?}", arm.name());
    }
}

/// A world without trouble: nobody stalls, and almost nothing is asked for again.
#[test]
fn without_trouble_nothing_is_lost() {
    let quiet = Model {
        cdn_load: 0.5,
        bad_share: 0.0,
        loss_good: 0.0,
        loss_bad: 0.0,
        congested_most_ms: 0.0,
        congested_least_ms: 0.0,
        outage_every_s: 1e9,
        life_median_s: 1e9,
        weak_share: 0.0,
        ..Model::default()
    };
    for arm in [Arm::Cdn, Arm::Ours] {
        let figures = trial(&quiet, arm, SMALL, 5);
        assert_eq!((figures.stalls, figures.skips), (0.0, 0.0), "{figures:?}");
        assert!(
            figures.relay_resent < 0.01 * figures.relay_sent + 1.0,
            "{figures:?}"
        );
    }
}

/// Relays that lose much and get slow often: with four of them, and the origin behind, pictures stand less than with one
/// of the best.
#[test]
fn ours_stands_less_than_a_single_source_when_relays_are_bad() {
    let bad = Model {
        cdn_load: 0.5,
        bad_share: 0.3,
        congested_every_s: 5.0,
        congested_least_ms: 500.0,
        congested_most_ms: 1_500.0,
        ..Model::default()
    };
    let both = [Arm::Single, Arm::Ours].map(|arm| {
        (1..=3)
            .map(|seed| trial(&bad, arm, SMALL, seed))
            .fold(Figures::default(), |sum, figures| sum.and(&figures))
    });
    let [single, ours] = both;
    assert!(single.stalls > 0.0, "{single:?}");
    assert!(ours.stalls < 0.7 * single.stalls, "{ours:?} {single:?}");
}
