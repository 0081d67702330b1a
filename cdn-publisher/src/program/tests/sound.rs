//! What listeners hear, with the real codecs, judged against a direct encode of what the host sent.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::ProgramStats;
use super::support::*;
use crate::audio::codec::{
    AacDecoder, AacEncoder, AacSettings, BrowserEncoder, Encode, Frame, OpusDecoder,
};
use crate::audio::codec::{Decode, RealCodecs, UNIT_SAMPLES};

const SECOND: i64 = 1_000_000_000;
const SETTINGS: AacSettings = AacSettings {
    sample_rate_hz: 48_000,
    channels: 2,
    bitrate_bps: 128_000,
    afterburner: false,
};
/// Program sample of the first captured sample: not on the grid of AAC units.
const START: i64 = 48_000 + 333;
const SECONDS: usize = 8;

/// A tone with syllables of coloured noise, different left and right, so that shifts cannot hide.
fn speech_like() -> Vec<Frame> {
    let mut rng = StdRng::seed_from_u64(7);
    let mut low = [0.0f32; 2];
    (0..SECONDS * 48_000)
        .map(|n| {
            let t = n as f32 / 48_000.0;
            let syllable = (t * std::f32::consts::TAU * 3.7).sin().max(0.0);
            let tone = 3_000.0 * (t * std::f32::consts::TAU * 441.3).sin();
            for value in &mut low {
                *value += 0.2 * (rng.random_range(-12_000.0..12_000.0) - *value);
            }
            low.map(|noise| tone + noise * syllable)
        })
        .collect()
}

fn opus_packets(pcm: &[Frame], fec: bool) -> Vec<Bytes> {
    let mut encoder = BrowserEncoder::new(96_000, fec, false);
    assert_eq!(encoder.lookahead(), 312);
    pcm.chunks_exact(960)
        .map(|frames| encoder.encode(frames))
        .collect()
}

fn opus_decoded(packets: &[Bytes]) -> Vec<Frame> {
    let mut decoder = OpusDecoder::new().unwrap();
    let mut out = Vec::new();
    for packet in packets {
        decoder.decode(packet, &mut out).unwrap();
    }
    out
}

fn aac_decoded(units: &[Bytes]) -> Vec<Frame> {
    let config = media::aac::Config::lc(48_000, 2).unwrap();
    let mut decoder = AacDecoder::new(&config).unwrap();
    let mut out = Vec::new();
    for unit in units {
        decoder.decode(unit, &mut out).unwrap();
    }
    out
}

/// `pcm` through the encoder and a decoder, nothing else.
fn direct(pcm: &[Frame]) -> Vec<Frame> {
    let mut encoder = AacEncoder::new(SETTINGS).unwrap();
    let units: Vec<Bytes> = pcm
        .chunks_exact(UNIT_SAMPLES)
        .map(|block| encoder.encode(block).unwrap())
        .collect();
    let decoded = aac_decoded(&units);
    decoded[usize::try_from(encoder.delay_samples()).unwrap()..].to_vec()
}

/// `packets` through a program (those that `lost` names do not arrive); what is heard from program sample [`START`] on.
fn program(packets: &[Bytes], lost: impl Fn(usize) -> bool) -> (Vec<Frame>, ProgramStats) {
    program_with_hole(packets, lost, (usize::MAX, 0))
}

/// The same; packets from `hole.0` on are captured `hole.1` samples later than they would be.
fn program_with_hole(
    packets: &[Bytes],
    lost: impl Fn(usize) -> bool,
    hole: (usize, i64),
) -> (Vec<Frame>, ProgramStats) {
    let mut sim = Sim::new(Box::new(RealCodecs), 3);
    sim.on_air(0, SOURCE);
    let (video, audio) = (video_track(0), opus_track());
    let start_ns = START * 1_000_000 / 48;
    for n in 0..SECONDS * 30 {
        let at = start_ns + i64::try_from(n).unwrap() * SECOND / 30;
        sim.arrives(SOURCE, picture(&video, at, n % 30 == 0, 0), 0);
    }
    for (n, data) in packets.iter().enumerate().filter(|(n, _)| !lost(*n)) {
        let later = if n >= hole.0 { hole.1 } else { 0 };
        let sample = i64::try_from(n).unwrap() * 960 + later;
        let at = start_ns + sample * 1_000_000 / 48;
        let after = sim.jitter(100_000_000);
        sim.arrives(SOURCE, unit(&audio, at, true, data.clone()), after);
    }
    let end = i64::try_from(SECONDS).unwrap() * SECOND;
    let out = sim.collect(end);
    out.assert_invariants();
    let first = out.audio[0].1.dts.ticks();
    let units: Vec<Bytes> = out
        .audio
        .iter()
        .map(|(_, unit)| unit.data.clone())
        .collect();
    let pcm = aac_decoded(&units);
    let skip = usize::try_from(START - first).unwrap();
    (pcm[skip..].to_vec(), sim.program.stats(sim.at(end)))
}

/// The worst error energy of any 5 ms, in dB, leaving the fades at the ends out.
fn worst_error_db(heard: &[Frame], meant: &[Frame]) -> f64 {
    let pairs: Vec<_> = heard.iter().zip(meant).skip(2_400).collect();
    let windows = pairs[..pairs.len() - 4_800].chunks_exact(240);
    let energy = |window: &[(&Frame, &Frame)]| -> f64 {
        let errors = window.iter().flat_map(|(a, b)| a.iter().zip(b.iter()));
        errors.map(|(a, b)| f64::from(a - b).powi(2)).sum()
    };
    10.0 * windows.map(energy).fold(1.0, f64::max).log10()
}

#[test]
fn sound_is_as_good_as_a_direct_encode_and_the_measure_can_tell() {
    let packets = opus_packets(&speech_like(), false);
    let decoded = opus_decoded(&packets);
    // The program takes the encoder's lookahead out.
    let meant = &decoded[312..];
    let (heard, stats) = program(&packets, |_| false);
    assert_eq!(stats.audio.concealed_samples, 0);
    let reference = worst_error_db(&direct(&decoded), &decoded);
    let excess = |heard: &[Frame]| worst_error_db(heard, meant) - reference;
    println!(
        "excess {:.2} dB, one sample off {:.2} dB",
        excess(&heard),
        excess(&heard[1..])
    );
    assert!(excess(&heard) <= 1.0, "{:.2} dB", excess(&heard));

    // The same sound one sample off, and with one packet missing, must not pass.
    assert!(excess(&heard[1..]) > 3.0, "{:.2} dB", excess(&heard[1..]));
    let mut hole = heard.clone();
    hole[96_000..96_960].fill([0.0; 2]);
    assert!(excess(&hole) > 3.0, "{:.2} dB", excess(&hole));
}

#[test]
fn sound_is_presented_at_its_capture_time() {
    let captured = speech_like();
    let (heard, _) = program(&opus_packets(&captured, false), |_| false);
    let correlation = |lag: i64| -> f64 {
        (48_000..96_000i64)
            .map(|n| {
                let heard = heard[usize::try_from(n + lag).unwrap()];
                let captured = captured[usize::try_from(n).unwrap()];
                f64::from(heard[0] * captured[0])
            })
            .sum()
    };
    let best = (-1_000..1_000).max_by(|a, b| correlation(*a).total_cmp(&correlation(*b)));
    let lag = best.unwrap();
    println!("lag {lag} samples");
    assert!(lag.abs() <= 24, "{lag} samples");
}

#[test]
fn forward_error_correction_and_concealment_are_heard() {
    let packets = opus_packets(&speech_like(), true);
    let decoded = opus_decoded(&packets);
    let meant = &decoded[312..];
    let (heard, stats) = program(&packets, |n| n % 10 == 7);
    assert!(stats.audio.fec_samples + stats.audio.concealed_samples > 30 * 960);
    assert_eq!(stats.audio.silence_inserted_samples, 0);
    let mut holes = meant.to_vec();
    for n in (0..packets.len()).filter(|n| n % 10 == 7) {
        let from = n * 960 - 312;
        holes[from..from + 960].fill([0.0; 2]);
    }
    let error = |pcm: &[Frame]| -> f64 {
        let pairs = pcm.iter().zip(meant).skip(2_400).take(6 * 48_000);
        pairs.map(|(a, b)| f64::from(a[0] - b[0]).powi(2)).sum()
    };
    assert!(error(&heard) < error(&holes), "no better than silence");
}

#[test]
fn a_hole_of_no_whole_packet_leaves_the_sound_in_its_place() {
    // Where a clip starts over, ffmpeg leaves 12 ms out.
    let packets = opus_packets(&speech_like(), false);
    let decoded = opus_decoded(&packets);
    for later in [576, 700, 1_300] {
        let hole = (100, later);
        let (heard, stats) = program_with_hole(&packets, |_| false, hole);
        assert_eq!(stats.audio.silence_inserted_samples, 0);
        // A second later, and from then on.
        let from = 110 * 960;
        let likeness = |lag: i64| -> f64 {
            let at = usize::try_from(from + later + lag).unwrap();
            let pairs = heard[at..at + 48_000]
                .iter()
                .zip(&decoded[from as usize + 312..]);
            pairs.map(|(a, b)| f64::from(a[0] * b[0])).sum()
        };
        let best = (-900..900).max_by(|a, b| likeness(*a).total_cmp(&likeness(*b)));
        let lag = best.unwrap();
        assert!(lag.abs() <= 60, "a hole of {later} samples leaves {lag}");
    }
}

#[test]
fn a_sender_that_falls_silent_on_purpose_does_not_drift() {
    // DTX: half a second of tone, then packets only every 400 ms, as RFC 6716 §2.1.9 describes.
    let mut encoder = BrowserEncoder::new(24_000, false, true);
    let mut packets = Vec::new();
    for n in 0..SECONDS * 50 {
        let loud = n % 200 < 50;
        let frames: Vec<Frame> = (0..960)
            .map(|k| {
                let t = (n * 960 + k) as f32 / 48_000.0;
                let tone = (t * std::f32::consts::TAU * 300.0).sin();
                [if loud { 8_000.0 * tone } else { 0.0 }; 2]
            })
            .collect();
        packets.push(encoder.encode(&frames));
    }
    let sent = packets.iter().filter(|packet| packet.len() > 2).count();
    assert!(
        sent < packets.len() * 3 / 4,
        "the encoder sent {sent} of {}",
        packets.len()
    );
    // The first of a row of empty packets is sent, the others are not.
    let skipped: Vec<bool> = (0..packets.len())
        .map(|n| n > 0 && packets[n].len() <= 2 && packets[n - 1].len() <= 2)
        .collect();
    let (heard, stats) = program(&packets, |n| skipped[n]);
    assert_eq!(stats.audio.reanchors, 0);
    assert!(stats.audio.resample_ppm.abs() < 1.0);
    // The tone returns exactly in its time.
    let level = |from: usize| {
        heard[from..from + 960]
            .iter()
            .map(|f| f[0].abs())
            .fold(0.0, f32::max)
    };
    for second in [0, 4] {
        assert!(level(second * 48_000 + 9_600) > 4_000.0);
        assert!(level(second * 48_000 + 72_000) < 500.0);
        assert!(level(second * 48_000 + 120_000) < 500.0);
    }
}
