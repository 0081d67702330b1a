//! Start, delay, losses, hosts that leave and return, changes of resolution, disorder.

use super::super::{Input, SourceId};
use super::support::*;
use media::{Config, h264};

const SECOND: i64 = 1_000_000_000;

#[test]
fn first_picture_and_first_sound_come_together_after_the_program_delay() {
    let mut sim = Sim::ramp();
    sim.host(SOURCE, 7 * SECOND, 3, 80_000_000);
    let out = sim.collect(12 * SECOND);
    out.assert_invariants();
    let (released, first) = &out.video[0];
    assert_eq!(released - 7 * SECOND, DELAY_NS);
    assert_eq!(first.dts.as_millis(), 7_000);
    let (sound_released, sound) = &out.audio[0];
    assert_eq!(sound_released, released);
    assert!((first.dts.as_millis() - sound.dts.as_millis()).abs() <= 22);
}

#[test]
fn every_unit_is_released_at_capture_plus_delay() {
    let mut sim = Sim::ramp();
    sim.host(SOURCE, SECOND, 3, 80_000_000);
    let out = sim.collect(4 * SECOND);
    assert!((81..=82).contains(&out.video.len()));
    for (released, unit) in out.video.iter().chain(&out.audio).skip(1) {
        let late = released - unit.dts.as_nanos() - DELAY_NS;
        assert!((-12_000..=21_400_000).contains(&late), "{late} ns");
    }
}

#[test]
fn samples_lie_at_their_capture_time_bit_exactly() {
    let mut sim = Sim::ramp();
    sim.host(SOURCE, SECOND, 5, 80_000_000);
    let out = sim.collect(5 * SECOND);
    for (_, unit) in &out.audio[2..150] {
        for (n, frame) in ramp_frames(unit).iter().enumerate() {
            let index = unit.dts.ticks() + 64 * n as i64 - 48_000;
            assert_eq!(*frame, [ramp(index), 1.0], "sample {index}");
        }
    }
    let stats = sim.program.stats(sim.at(5 * SECOND));
    assert_eq!(stats.audio.silence_inserted_samples, 0);
    assert_eq!(stats.audio.concealed_samples, 0);
    assert_eq!(stats.audio.resample_ppm, 0.0);
    assert!((stats.video.fps - 30.0).abs() < 1.5, "{}", stats.video.fps);
    assert_eq!(stats.video.keyframe_interval_ms, Some(1_000));
}

#[test]
fn slices_pass_untouched_and_idrs_carry_their_parameter_sets() {
    let mut sim = Sim::ramp();
    sim.host(SOURCE, 0, 2, 0);
    for (n, (_, unit)) in sim.collect(2 * SECOND).video.iter().enumerate() {
        let nals: Vec<_> = h264::avcc_nals(&unit.data).map(Result::unwrap).collect();
        let kinds: Vec<u8> = nals.iter().map(|nal| h264::nal_unit_type(nal)).collect();
        assert_eq!(
            kinds,
            if unit.keyframe {
                vec![7, 8, 5]
            } else {
                vec![1]
            }
        );
        let sent = picture(&unit.track, 0, unit.keyframe, n as u32);
        assert_eq!(nals.last(), Some(&sent.data.slice(4..)));
    }
}

#[test]
fn a_host_without_sound_gets_silence() {
    let mut sim = Sim::ramp();
    let track = video_track(0);
    sim.on_air(0, SOURCE);
    for n in 0..60 {
        let unit = picture(&track, n * SECOND / 30, n == 0, n as u32);
        sim.arrives(SOURCE, unit, 0);
    }
    let out = sim.collect(2 * SECOND);
    out.assert_invariants();
    assert!(out.audio.len() > 78);
    assert!(
        out.audio
            .iter()
            .flat_map(|(_, unit)| ramp_frames(unit))
            .all(|f| f == [0.0; 2])
    );
}

#[test]
fn a_host_without_picture_is_heard_after_a_while() {
    let mut sim = Sim::ramp();
    let track = opus_track();
    sim.on_air(0, SOURCE);
    for n in 0..150 {
        sim.arrives(SOURCE, packet(&track, n * 20_000_000, n * 960), 0);
    }
    let out = sim.collect(3 * SECOND);
    let first = out.audio[0].1.dts.as_millis();
    assert!((980..=1_030).contains(&first), "{first}");
    assert!(ramp_frames(&out.audio[3].1).iter().all(|f| f[1] == 1.0));
}

#[test]
fn a_host_that_returns_continues_the_program() {
    let mut sim = Sim::ramp();
    sim.host(SOURCE, SECOND, 4, 50_000_000);
    sim.script(5 * SECOND, Input::Detach { source: SOURCE });
    sim.host(SourceId(2), 10 * SECOND, 4, 50_000_000);
    let out = sim.collect(13 * SECOND);
    out.assert_invariants();
    let gap = out
        .video
        .windows(2)
        .find(|pair| pair[1].1.dts.as_millis() > 9_000)
        .unwrap();
    assert_eq!(gap[0].1.dts.as_millis(), 4_967);
    assert_eq!(gap[1].1.dts.as_millis(), 10_000);
    assert!(gap[1].1.keyframe);
    let silent = out
        .audio
        .iter()
        .filter(|(_, unit)| (5_300..9_900).contains(&unit.dts.as_millis()));
    for (_, unit) in silent {
        assert!(ramp_frames(unit).iter().all(|frame| *frame == [0.0; 2]));
    }
    let back = out
        .audio
        .iter()
        .find(|(_, unit)| unit.dts.as_millis() > 10_100)
        .unwrap();
    let index = back.1.dts.ticks() - 480_000;
    assert_eq!(ramp_frames(&back.1)[0], [ramp(index), 1.0]);
}

#[test]
fn a_new_resolution_is_a_new_configuration_at_an_idr() {
    let mut sim = Sim::ramp();
    sim.on_air(0, SOURCE);
    let tracks = [video_track(0), video_track(1)];
    for n in 0..90u32 {
        // The new size starts at 40; its first IDR is lost, the next comes at 50.
        let track = &tracks[usize::from(n >= 40)];
        let key = n == 0 || n == 50;
        sim.arrives(
            SOURCE,
            picture(track, i64::from(n) * SECOND / 30, key, n),
            0,
        );
    }
    let out = sim.collect(4 * SECOND);
    out.assert_invariants();
    let numbers: Vec<u32> = out
        .video
        .iter()
        .map(|(_, unit)| picture_number(unit))
        .collect();
    let expected: Vec<u32> = (0..40).chain(50..90).collect();
    assert_eq!(numbers, expected);
    let widths: Vec<u32> = out
        .video
        .iter()
        .map(|(_, unit)| match &unit.track.config {
            Config::H264(config) => config.width,
            Config::Aac(_) | Config::Opus(_) => 0,
        })
        .collect();
    assert_eq!((widths[39], widths[40]), (640, 1_280));
    assert!(
        out.keyframe_requests.len() >= 2,
        "{:?}",
        out.keyframe_requests
    );
}

#[test]
fn after_a_loss_nothing_undecodable_is_shown_and_requests_are_throttled() {
    let mut sim = Sim::ramp();
    sim.on_air(0, SOURCE);
    let track = video_track(0);
    for n in 0..120u32 {
        let mut unit = picture(&track, i64::from(n) * SECOND / 30, n == 0 || n == 90, n);
        unit.discontinuity = n == 31;
        sim.arrives(SOURCE, unit, 0);
    }
    let out = sim.collect(5 * SECOND);
    let numbers: Vec<u32> = out
        .video
        .iter()
        .map(|(_, unit)| picture_number(unit))
        .collect();
    assert_eq!(numbers, (0..31).chain(90..120).collect::<Vec<u32>>());
    let asked: Vec<i64> = out.keyframe_requests.iter().map(|(at, _)| *at).collect();
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= SECOND / 2));
    assert!((4..=6).contains(&asked.len()), "{asked:?}");
}

#[test]
fn swapped_and_repeated_units_are_put_right() {
    let mut sim = Sim::ramp();
    sim.on_air(0, SOURCE);
    let (video, audio) = (video_track(0), opus_track());
    for n in 0..60u32 {
        let late = if n % 7 == 3 { 80_000_000 } else { 0 };
        let unit = picture(&video, i64::from(n) * SECOND / 30, n == 0, n);
        sim.arrives(SOURCE, unit.clone(), late);
        sim.arrives(SOURCE, unit, late + 3_000_000);
    }
    for n in 0..100 {
        let late = if n % 5 == 2 { 90_000_000 } else { 0 };
        let unit = packet(&audio, n * 20_000_000, n * 960);
        sim.arrives(SOURCE, unit.clone(), late);
        sim.arrives(SOURCE, unit, late + 3_000_000);
    }
    let out = sim.collect(2 * SECOND);
    out.assert_invariants();
    let numbers: Vec<u32> = out
        .video
        .iter()
        .map(|(_, unit)| picture_number(unit))
        .collect();
    assert_eq!(numbers, (0..numbers.len() as u32).collect::<Vec<u32>>());
    assert!(numbers.len() > 50);
    for (_, unit) in &out.audio[2..70] {
        assert_eq!(ramp_frames(unit)[5], [ramp(unit.dts.ticks() + 320), 1.0]);
    }
}

#[test]
fn lost_packets_are_concealed_in_place() {
    let mut sim = Sim::ramp();
    sim.host(SOURCE, 0, 0, 0);
    let track = opus_track();
    for n in 0..500 {
        if !(n % 11 == 3 || (200..203).contains(&n)) {
            sim.arrives(SOURCE, packet(&track, n * 20_000_000, n * 960), 0);
        }
    }
    let out = sim.collect(9 * SECOND);
    for (_, unit) in &out.audio[2..340] {
        assert_eq!(ramp_frames(unit)[0], [ramp(unit.dts.ticks()), 1.0]);
    }
    let stats = sim.program.stats(sim.at(9 * SECOND)).audio;
    assert_eq!(stats.silence_inserted_samples, 0);
    assert!(stats.fec_samples > 30 * 960, "{stats:?}");
    assert_eq!(stats.concealed_samples, 2 * 960, "{stats:?}");
}

#[test]
fn a_long_gap_fades_to_silence_and_back() {
    let mut sim = Sim::ramp();
    sim.host(SOURCE, 0, 1, 0);
    let track = opus_track();
    for n in 100..200 {
        sim.arrives(SOURCE, packet(&track, n * 20_000_000, n * 960), 0);
    }
    let out = sim.collect(4 * SECOND);
    out.assert_invariants();
    let sound_at = |ms: i64| {
        let unit = out
            .audio
            .iter()
            .find(|(_, unit)| unit.dts.as_millis() >= ms);
        ramp_frames(&unit.unwrap().1)[0][1]
    };
    assert_eq!(
        [
            sound_at(900),
            sound_at(1_040),
            sound_at(1_150),
            sound_at(2_050)
        ],
        [1.0, 1.0, 0.0, 1.0]
    );
    let stats = sim.program.stats(sim.at(4 * SECOND)).audio;
    assert_eq!(stats.concealed_samples, 4_800);
}

/// A source whose capture times slide by `slide_ms` within six seconds, faster than the resampler may follow.
fn sliding(slide_ms: i64) {
    let mut sim = Sim::ramp();
    sim.host(SOURCE, 0, 1, 0);
    let track = opus_track();
    let slid = |n: i64| (n - 100).clamp(0, 300) * slide_ms * 1_000_000 / 300;
    for n in 50..1_000 {
        let at = n * 20_000_000 + slid(n);
        sim.arrives(SOURCE, packet(&track, at, n * 960), 0);
    }
    let out = sim.collect(19 * SECOND);
    out.assert_invariants();
    let mut judged = 0;
    for (_, unit) in &out.audio[2..] {
        let at = unit.dts.ticks();
        // The slide that was in force when this was captured, to a packet or two.
        let captured_at = at as f64 - slid(at / 960) as f64 * 48e-6;
        let frame = ramp_frames(unit)[0];
        let Some(index) = unramp(frame[0], captured_at).filter(|_| (frame[1] - 1.0).abs() < 1e-3)
        else {
            continue;
        };
        let off_ms = (index - captured_at) / 48.0;
        assert!(off_ms.abs() < 20.0, "{off_ms:.1} ms at sample {at}");
        judged += 1;
    }
    assert!(judged > 600, "{judged}");
    let stats = sim.program.stats(sim.at(19 * SECOND)).audio;
    assert!((1..=4).contains(&stats.reanchors), "{stats:?}");
    assert_eq!(stats.silence_inserted_samples, 0);
}

#[test]
fn a_timeline_that_slides_is_followed_by_cross_faded_jumps() {
    sliding(40);
    sliding(-40);
}
