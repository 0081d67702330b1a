//! Two hours with clocks that disagree.

use super::super::Output;
use super::support::*;

const SECOND: i64 = 1_000_000_000;
/// Program time of the sender's first sample.
const START: i64 = 4 * SECOND;

/// Two hours of a sender whose clock is off by `ppm`: every second of its media is captured within 1 s + `ppm` µs.
fn two_hours(ppm: i64) {
    let mut sim = Sim::ramp();
    let (video, audio) = (video_track(0), opus_track());
    // Later than the script is written, also at the end of the fast one.
    let stretch = |ns: i64| ns + ns / 1_000_000 * ppm + START;
    sim.on_air(0, SOURCE);
    let (mut worst_ms, mut last_video, mut last_audio) = (0.0f64, i64::MIN, None);
    let (mut pictures, mut heard, mut video_off_ms) = (0u32, 0u32, 0.0f64);
    for second in 0..7_200 {
        for n in second * 30..second * 30 + 30 {
            let unit = picture(&video, stretch(n * SECOND / 30), n % 60 == 0, n as u32);
            let after = sim.jitter(60_000_000);
            sim.arrives(SOURCE, unit, after);
        }
        for n in second * 50..second * 50 + 50 {
            let wobble = sim.jitter(2_000_000) - 1_000_000;
            let unit = packet(&audio, stretch(n * 20_000_000) + wobble, n * 960);
            let after = sim.jitter(100_000_000);
            sim.arrives(SOURCE, unit, after);
        }
        // What was just scripted is in the future even if the sender is fast.
        sim.run((second + 2) * SECOND, |_, output| {
            let Output::Unit(unit) = output else { return };
            if unit.kind() == media::Kind::Video {
                assert!(unit.dts.as_millis() > last_video);
                last_video = unit.dts.as_millis();
                assert_eq!(picture_number(&unit), pictures);
                let captured = stretch(i64::from(pictures) * SECOND / 30);
                video_off_ms = (unit.dts.as_nanos() - captured) as f64 / 1e6;
                pictures += 1;
                return;
            }
            let at = unit.dts.ticks();
            assert!(last_audio.is_none_or(|last| at - last == 1_024));
            last_audio = Some(at);
            let frame = ramp_frames(&unit)[0];
            let (scale, start) = (1.0 + ppm as f64 * 1e-6, START as f64 * 48e-6);
            let Some(index) = unramp(frame[0], (at as f64 - start) / scale) else {
                return;
            };
            if (frame[1] - 1.0).abs() > 1e-3 {
                return;
            }
            let audio_off_ms = (at as f64 - index * scale - start) / 48.0;
            heard += 1;
            worst_ms = worst_ms.max((audio_off_ms - video_off_ms).abs());
        });
    }
    let stats = sim.program.stats(sim.at(7_200 * SECOND));
    println!("{ppm} ppm: worst offset {worst_ms:.2} ms");
    assert!(worst_ms < 5.0, "{ppm} ppm: {worst_ms:.2} ms, {stats:?}");
    assert!(pictures > 215_000 && heard > 200_000, "{pictures}, {heard}");
    assert_eq!(stats.video.dropped, 0);
    assert_eq!(stats.audio.silence_inserted_samples, 0);
    assert_eq!(stats.audio.concealed_samples, 0);
    assert_eq!(stats.audio.reanchors, 0);
    let error = (stats.audio.resample_ppm - ppm as f64).abs();
    assert!(error < 15.0, "{:.1} ppm", stats.audio.resample_ppm);
}

#[test]
fn two_hours_of_a_slow_sender() {
    two_hours(200);
}

#[test]
fn two_hours_of_a_fast_sender() {
    two_hours(-200);
}
