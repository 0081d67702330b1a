//! Cuts from one source to another, and voices that come and go.

use media::{AccessUnit, Timestamp};

use super::super::{Input, SourceId};
use super::support::*;

const SECOND: i64 = 1_000_000_000;
const FRAME: i64 = SECOND / 30;
const MIX: SourceId = SourceId(9);
const GUEST: SourceId = SourceId(2);

/// Pictures of a mix whose grid lies a quarter of a frame before the host's; IDRs at these frames.
fn mix(sim: &mut Sim, from_ns: i64, frames: i64, after_ns: i64, idrs: &[i64]) {
    mix_beside(sim, from_ns, frames, after_ns, idrs, -FRAME / 4);
}

/// The same with a grid that lies beside the host's by so much.
fn mix_beside(
    sim: &mut Sim,
    from_ns: i64,
    frames: i64,
    after_ns: i64,
    idrs: &[i64],
    beside_ns: i64,
) {
    let track = video_track(1);
    sim.script(
        from_ns,
        Input::Attach {
            source: MIX,
            gain: 0.0,
        },
    );
    for n in 0..frames {
        let at = from_ns + n * FRAME + beside_ns;
        let unit = picture(&track, at, idrs.contains(&n), 1_000_000 + n as u32);
        sim.arrives(MIX, unit, after_ns);
    }
}

fn largest_gap_ms(video: &[(i64, AccessUnit)]) -> i64 {
    let dts = |at: usize| video[at].1.dts.as_millis();
    (1..video.len())
        .map(|at| dts(at) - dts(at - 1))
        .max()
        .unwrap()
}

/// Which source every picture is of.
fn sources(video: &[(i64, AccessUnit)]) -> Vec<bool> {
    let is_mix = |unit: &AccessUnit| picture_number(unit) >= 1_000_000;
    video.iter().map(|(_, unit)| is_mix(unit)).collect()
}

#[test]
fn a_cut_waits_for_an_idr_and_leaves_no_gap_and_no_step_back() {
    let mut sim = Sim::ramp();
    sim.host(SOURCE, SECOND, 8, 20_000_000);
    mix(&mut sim, 2 * SECOND, 150, 200_000_000, &[0, 45, 110]);
    // Wanted after the first IDR was due: the cut is at the second one.
    sim.script(
        3 * SECOND,
        Input::Show {
            source: MIX,
            gains: Vec::new(),
            not_before: None,
        },
    );
    sim.script(
        5 * SECOND,
        Input::Show {
            source: SOURCE,
            gains: Vec::new(),
            not_before: None,
        },
    );
    let out = sim.collect(8 * SECOND);
    out.assert_invariants();
    assert!(largest_gap_ms(&out.video) <= 34);

    let of_mix = sources(&out.video);
    let changes: Vec<usize> = (1..of_mix.len())
        .filter(|at| of_mix[*at] != of_mix[*at - 1])
        .collect();
    assert_eq!(changes.len(), 2);
    for at in &changes {
        assert!(out.video[*at].1.keyframe);
    }
    let first_of_mix = &out.video[changes[0]].1;
    assert_eq!(picture_number(first_of_mix), 1_000_045);
    // The host's IDRs are a second apart; one that was captured before the request but not yet due will do.
    assert_eq!(out.video[changes[1]].1.dts.as_millis(), 5_000);
    let cuts: Vec<SourceId> = out.cuts.iter().map(|(_, source, _)| *source).collect();
    assert_eq!(cuts, [SOURCE, MIX, SOURCE]);
    // Every frame of the host up to the cut was shown.
    let host: Vec<u32> = out.video[..changes[0]]
        .iter()
        .map(|(_, unit)| picture_number(unit))
        .collect();
    assert!(host.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

#[test]
fn a_moment_that_both_sources_show_is_published_once() {
    for beside_ns in [-900_000, -1_000, 0, 1_000, 900_000] {
        let mut sim = Sim::ramp();
        sim.host(SOURCE, SECOND, 8, 20_000_000);
        mix_beside(&mut sim, 2 * SECOND, 150, 100_000_000, &[0, 45], beside_ns);
        for (at, source) in [(3, MIX), (5, SOURCE)] {
            let show = Input::Show {
                source,
                gains: Vec::new(),
                not_before: None,
            };
            sim.script(at * SECOND, show);
        }
        let out = sim.collect(8 * SECOND);
        out.assert_invariants();
        let dts: Vec<i64> = out.video.iter().map(|(_, u)| u.dts.as_millis()).collect();
        let changes = sources(&out.video)
            .windows(2)
            .filter(|p| p[0] != p[1])
            .count();
        assert_eq!(changes, 2);
        for pair in dts.windows(2) {
            let step = pair[1] - pair[0];
            assert!(
                (32..=35).contains(&step),
                "{beside_ns}: a step of {step} ms"
            );
        }
    }
}

#[test]
fn a_source_that_comes_too_late_is_not_shown_and_asked_again() {
    let mut sim = Sim::ramp();
    sim.host(SOURCE, SECOND, 6, 0);
    mix(&mut sim, 2 * SECOND, 90, 450_000_000, &[0, 30, 60]);
    sim.script(
        2 * SECOND,
        Input::Show {
            source: MIX,
            gains: Vec::new(),
            not_before: None,
        },
    );
    let out = sim.collect(5 * SECOND);
    out.assert_invariants();
    assert!(sources(&out.video).iter().all(|mix| !mix));
    assert!(
        out.keyframe_requests
            .iter()
            .filter(|(_, s)| *s == MIX)
            .count()
            >= 4
    );
    assert!(largest_gap_ms(&out.video) <= 34);
}

#[test]
fn the_picture_stays_while_the_new_one_is_awaited() {
    let mut sim = Sim::ramp();
    sim.host(SOURCE, SECOND, 6, 0);
    sim.script(
        2 * SECOND,
        Input::Attach {
            source: MIX,
            gain: 0.0,
        },
    );
    sim.script(
        2 * SECOND,
        Input::Show {
            source: MIX,
            gains: Vec::new(),
            not_before: None,
        },
    );
    let out = sim.collect(6 * SECOND);
    assert_eq!(out.cuts.len(), 1);
    assert!(out.video.last().unwrap().1.dts.as_millis() > 5_600);
}

#[test]
fn voices_come_and_go_over_ten_milliseconds_and_the_host_stays_bit_exact() {
    let mut sim = Sim::ramp();
    sim.host(SOURCE, SECOND, 6, 20_000_000);
    // A guest whose packets are of the same ramp, a whole lap later, so that sums stay exact.
    let audio = opus_track();
    sim.script(
        SECOND,
        Input::Attach {
            source: GUEST,
            gain: 0.0,
        },
    );
    for n in 0..300 {
        let unit = packet(&audio, SECOND + n * 20_000_000, n * PACKET_SAMPLES);
        sim.arrives(GUEST, unit, 5_000_000);
    }
    for (at, gain) in [(3 * SECOND, 0.9), (4 * SECOND, 0.5), (5 * SECOND, 0.0)] {
        sim.script(
            at,
            Input::Gain {
                source: GUEST,
                gain,
            },
        );
    }
    let out = sim.collect(6 * SECOND);
    out.assert_invariants();
    let mut steps = 0;
    let mut previous = None;
    for (_, unit) in out.audio.iter().skip(20) {
        for (at, frame) in ramp_frames(unit).into_iter().enumerate() {
            // The right channel tells the sum of the gains: 1 of the host and the guest's.
            let guest = frame[1] - 1.0;
            let index = unit.dts.ticks() + at as i64 * 64 - 48_000;
            assert!(
                (frame[0] - ramp(index) * (1.0 + guest)).abs() < 0.5,
                "{index}: {frame:?}"
            );
            if let Some(previous) = previous {
                let step: f32 = guest - previous;
                assert!(step.abs() <= 64.0 / 480.0 + 1e-4, "a step of {step}");
                steps += usize::from(step != 0.0);
            }
            previous = Some(guest);
        }
    }
    assert!((21..=27).contains(&steps), "{steps}");
}

#[test]
fn an_idr_that_waits_already_is_used() {
    // A host whose pictures come 0.8 s before their time, as after a burst; there and back within one of its GOPs.
    let mut sim = Sim::ramp();
    let video = video_track(0);
    sim.on_air(0, SOURCE);
    for n in 0..180 {
        let unit = picture(&video, SECOND + n * FRAME, n % 15 == 0, n as u32);
        sim.arrives(SOURCE, unit, -800_000_000);
    }
    mix(&mut sim, SECOND, 150, 100_000_000, &[0, 30, 32, 60]);
    sim.script(
        SECOND + SECOND + 200_000_000,
        Input::Show {
            source: MIX,
            gains: Vec::new(),
            not_before: None,
        },
    );
    sim.script(
        SECOND + SECOND + 310_000_000,
        Input::Show {
            source: SOURCE,
            gains: Vec::new(),
            not_before: None,
        },
    );
    let out = sim.collect(5 * SECOND);
    out.assert_invariants();
    let at: Vec<i64> = out.cuts.iter().map(|(now, _, _)| now / 1_000_000).collect();
    assert_eq!(out.cuts.len(), 3, "{at:?}");
    // At the first IDR that is later than what was published; without those that waited it would be 1.5 s.
    assert!(at[2] - at[1] <= 520, "{at:?}");
}

#[test]
fn gains_that_belong_to_a_picture_move_at_its_cut() {
    let mut sim = Sim::ramp();
    sim.host(SOURCE, SECOND, 5, 20_000_000);
    mix(&mut sim, SECOND, 120, 200_000_000, &[0, 60, 90]);
    let show = |source, gain| Input::Show {
        source,
        gains: vec![(SOURCE, gain)],
        not_before: None,
    };
    sim.script(2 * SECOND, show(MIX, 0.5));
    let out = sim.collect(5 * SECOND);
    out.assert_invariants();
    let (_, _, audio_at) = out.cuts[1];
    let half = |gain: f32| (gain - 0.5).abs() < 1e-3;
    for (_, unit) in out.audio.iter().skip(20) {
        for (at, frame) in ramp_frames(unit).into_iter().enumerate() {
            let sample = unit.dts.ticks() + at as i64 * 64;
            if sample < audio_at.ticks() {
                assert_eq!(frame[1], 1.0, "before the cut");
            } else if sample >= audio_at.ticks() + 480 && unit.dts.as_millis() < 5_000 {
                assert!(half(frame[1]), "after the fade: {frame:?}");
            }
        }
    }
}

#[test]
fn a_picture_from_before_what_is_wanted_is_not_shown() {
    let mut sim = Sim::ramp();
    sim.host(SOURCE, SECOND, 8, 20_000_000);
    // An IDR every half second; the mix shows what is wanted from 3.1 s on.
    let idrs: Vec<i64> = (0..10).map(|n| n * 15).collect();
    mix(&mut sim, 2 * SECOND, 150, 20_000_000, &idrs);
    sim.script(
        3 * SECOND + 110_000_000,
        Input::Show {
            source: MIX,
            gains: Vec::new(),
            not_before: Some(Timestamp::from_nanos(EPOCH_NS + 3 * SECOND + 100_000_000)),
        },
    );
    let out = sim.collect(6 * SECOND);
    out.assert_invariants();
    let first = sources(&out.video).iter().position(|of_mix| *of_mix);
    let at = out.video[first.expect("a cut")].1.dts.as_nanos();
    assert!((at - 3_500_000_000).abs() < 40_000_000, "{at}");
}

/// A host with two B-frames in a row: of every three pictures the last is sent first, and all are shown two frames late.
fn host_with_b_frames(sim: &mut Sim, from_ns: i64, frames: i64) {
    let track = video_track(0);
    sim.on_air(from_ns, SOURCE);
    for n in 0..frames {
        let shown = match n % 30 {
            0 => n,
            sent if sent % 3 == 1 => (n + 2).min(n - sent + 29),
            _ => n - 1,
        };
        let mut unit = picture(&track, from_ns + n * FRAME, n % 30 == 0, n as u32);
        unit.pts = Timestamp::from_nanos(EPOCH_NS + from_ns + (shown + 2) * FRAME);
        sim.arrives(SOURCE, unit, 5_000_000);
    }
}

/// Whatever the phase of the host's pictures to those of the mix.
#[test]
fn pictures_that_are_shown_later_than_sent_are_not_overtaken_at_a_cut() {
    for phase_ms in 0..34 {
        cuts_with_b_frames(phase_ms * SECOND / 1_000);
    }
}

fn cuts_with_b_frames(phase_ns: i64) {
    let mut sim = Sim::ramp();
    host_with_b_frames(&mut sim, SECOND + phase_ns, 300);
    mix(&mut sim, 2 * SECOND, 240, 200_000_000, &[0, 47, 110, 171]);
    let show = |source| Input::Show {
        source,
        gains: Vec::new(),
        not_before: None,
    };
    for (at, source) in [(3, MIX), (5, SOURCE), (6, MIX), (8, SOURCE)] {
        sim.script(at * SECOND, show(source));
    }
    let out = sim.collect(11 * SECOND);
    out.assert_invariants();
    assert_eq!(out.cuts.len(), 5, "phase {phase_ns}: {:?}", out.cuts);
    let of_mix = sources(&out.video);
    let pts = |at: usize| out.video[at].1.pts.ticks();
    let mut latest = i64::MIN;
    for at in 0..out.video.len() {
        if at > 0 && of_mix[at] != of_mix[at - 1] {
            latest = (0..at).map(pts).max().unwrap();
        }
        assert!(
            pts(at) > latest,
            "picture {at} is shown before the cut, at phase {phase_ns}"
        );
    }
    let mut shown: Vec<i64> = (0..out.video.len()).map(pts).collect();
    shown.sort_unstable();
    let steps: Vec<i64> = shown.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps.iter().all(|step| *step >= 90), "each has its moment");
    // On the way back the host's first picture is shown two frames after it is sent.
    assert!(
        steps.iter().all(|step| *step <= 3 * 3_000 + 750),
        "{steps:?}"
    );
    assert_eq!(largest_gap_ms(&out.video) / 34, 1);
}
