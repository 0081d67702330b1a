//! Viewers in real time: the same sound in Opus, with the picture, and only while somebody wants it.

use super::super::Input;
use super::support::*;

const SECOND: i64 = 1_000_000_000;
const MS: i64 = 1_000_000;

#[test]
fn live_sound_is_the_programs_own_and_comes_with_the_picture() {
    let mut sim = Sim::ramp();
    sim.host(SOURCE, SECOND, 10, 60 * MS);
    sim.script(3 * SECOND, Input::LiveSound(true));
    sim.script(8 * SECOND, Input::LiveSound(false));
    let out = sim.collect(12 * SECOND);
    out.assert_invariants();
    let first = out.live.first().unwrap().1.pts.as_nanos();
    let last = out.live.last().unwrap().1.pts.as_nanos();
    // From what was mixed next to what was released last: the bus runs ahead of the program.
    assert!(first < 3 * SECOND - DELAY_NS + 100 * MS, "{first}");
    assert!(last > 8 * SECOND - DELAY_NS - 30 * MS, "{last}");
    for pair in out.live.windows(2) {
        assert_eq!(pair[1].1.pts.ticks() - pair[0].1.pts.ticks(), 960);
    }
    for (released, unit) in &out.live {
        let at = unit.pts.ticks();
        assert_eq!(at % 960, 0);
        assert_eq!(*released, (unit.pts.as_nanos() + DELAY_NS).max(3 * SECOND));
        // Program sample n is number n − 48,000 of the ramp, which the host begins after a second.
        for (n, frame) in (0_i64..).zip(ramp_frames(unit)) {
            let expected = (at + 64 * n - 48_000) as f64;
            let found = unramp(frame[0], expected);
            assert!(
                found.is_none_or(|found| (found - expected).abs() < 0.5),
                "{found:?} instead of {expected}"
            );
        }
    }
}

#[test]
fn live_sound_may_be_wanted_before_there_is_any() {
    let mut sim = Sim::ramp();
    sim.script(0, Input::LiveSound(true));
    sim.host(SOURCE, SECOND, 2, 0);
    let out = sim.collect(3 * SECOND);
    let first = out.live.first().unwrap().1.pts.as_nanos();
    assert!((first - SECOND).abs() < 150 * MS, "{first}");
}

#[test]
fn a_keyframe_that_viewers_want_is_asked_of_what_is_shown() {
    let mut sim = Sim::ramp();
    sim.host(SOURCE, SECOND, 4, 0);
    for ms in [2_000, 2_100, 2_200, 3_000] {
        sim.script(ms * MS, Input::WantKeyframe);
    }
    let out = sim.collect(5 * SECOND);
    let asked = out.keyframe_requests.iter();
    let asked: Vec<i64> = asked
        .filter(|(at, source)| *at >= 2 * SECOND && *source == SOURCE)
        .map(|(at, _)| at / MS)
        .collect();
    assert_eq!(asked, [2_000, 2_500, 3_000]);
}
