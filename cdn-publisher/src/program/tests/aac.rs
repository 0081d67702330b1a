//! Hosts that send AAC: their bytes pass through alone, and what is joined to them leaves no mark.

use std::sync::Arc;

use bytes::Bytes;
use fdk_aac::enc::{AudioObjectType, BitRate, ChannelMode, Encoder, EncoderParams, Transport};
use media::{Config as Codec, Rate, Track, TrackId, aac};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::{Input, SourceId, SpliceMethod};
use super::support::*;
use crate::audio::codec::{AacDecoder, AacEncoder, AacSettings, BrowserEncoder, Decode, Encode};
use crate::audio::codec::{Frame, RealCodecs, UNIT_SAMPLES};

const SECOND: i64 = 1_000_000_000;
const GUEST: SourceId = SourceId(2);
/// Program time of the host's first unit: on no grid.
const START_NS: i64 = 1_003_217_000;

/// A host's sound: what it sends, and what its own decoder makes of that.
struct Host {
    track: Arc<Track>,
    units: Vec<Bytes>,
    decoded: Vec<Frame>,
    rate_hz: u32,
}

impl Host {
    /// Not decoded. A unit is [`UNIT_SAMPLES`] of `rate_hz` long.
    fn new(config: aac::Config, units: Vec<Bytes>, rate_hz: u32) -> Self {
        Self {
            track: Arc::new(Track {
                id: TrackId(1),
                config: Codec::Aac(config),
                rate: Rate::NANOS,
            }),
            units,
            decoded: Vec::new(),
            rate_hz,
        }
    }
}

/// A melody over noise, the same on both sides.
fn sound(seconds: usize, rate_hz: u32) -> Vec<Frame> {
    let mut rng = StdRng::seed_from_u64(11);
    let mut low = 0.0f32;
    (0..seconds * rate_hz as usize)
        .map(|n| {
            let t = n as f32 / rate_hz as f32;
            let pitch = 220.0 + 110.0 * (t * 2.0).floor().rem_euclid(5.0);
            let tone = 6_000.0 * (t * std::f32::consts::TAU * pitch).sin();
            low += 0.6 * (rng.random_range(-4_000.0..4_000.0) - low);
            [tone + low; 2]
        })
        .collect()
}

fn host(seconds: usize, rate_hz: u32, channels: u8) -> Host {
    let mut encoder = AacEncoder::new(AacSettings {
        sample_rate_hz: rate_hz,
        channels,
        bitrate_bps: 128_000,
        afterburner: false,
    })
    .unwrap();
    let pcm = sound(seconds, rate_hz);
    let blocks = pcm.chunks_exact(UNIT_SAMPLES);
    let units: Vec<Bytes> = blocks.map(|block| encoder.encode(block).unwrap()).collect();
    let config = aac::Config::parse(encoder.config()).unwrap();
    let decoded = decode(&config, &units);
    Host {
        decoded,
        ..Host::new(config, units, rate_hz)
    }
}

fn decode(config: &aac::Config, units: &[Bytes]) -> Vec<Frame> {
    let mut decoder = AacDecoder::new(config).unwrap();
    let mut out = Vec::new();
    for unit in units {
        decoder.decode(unit, &mut out).unwrap();
    }
    out
}

impl Host {
    fn config(&self) -> &aac::Config {
        match &self.track.config {
            Codec::Aac(config) => config,
            Codec::H264(_) | Codec::Opus(_) => unreachable!("it sends AAC"),
        }
    }

    /// Nanoseconds from the first unit to the `n`th, by a clock that is slow by `ppm`.
    fn at(&self, n: usize, ppm: f64) -> i64 {
        let exact = n as f64 * 1_024.0 * 1e9 / f64::from(self.rate_hz);
        (exact * (1.0 + ppm * 1e-6)).round() as i64
    }

    /// Its units `from`, attached as `source` at `start_ns`, with a picture every 40 ms.
    fn plays(&self, sim: &mut Sim, source: SourceId, start_ns: i64, units: &[Bytes], ppm: f64) {
        sim.on_air(start_ns - 50_000_000, source);
        for (n, data) in units.iter().enumerate() {
            let data = data.clone();
            let unit = unit(&self.track, start_ns + self.at(n, ppm), true, data);
            let after = sim.jitter(60_000_000);
            sim.arrives(source, unit, after);
        }
        let (video, end) = (video_track(0), self.at(units.len(), ppm));
        for n in 0..end / 40_000_000 {
            let at = start_ns + (n as f64 * 40e6 * (1.0 + ppm * 1e-6)) as i64;
            sim.arrives(source, picture(&video, at, n % 25 == 0, n as u32), 0);
        }
    }
}

fn units(published: &Published) -> Vec<Bytes> {
    let units = published.audio.iter();
    units.map(|(_, unit)| unit.data.clone()).collect()
}

/// Units follow each other every 1024 samples, or one more or less.
fn assert_contiguous(published: &Published) {
    for pair in published.audio.windows(2) {
        let step = pair[1].1.dts.ticks() - pair[0].1.dts.ticks();
        assert!((1_023..=1_025).contains(&step), "{step}");
    }
}

/// Worst error energy of any 5 ms in dB.
fn worst_error_db(heard: &[Frame], meant: &[Frame]) -> f64 {
    let pairs: Vec<_> = heard.iter().zip(meant).collect();
    let energy = |window: &[(&Frame, &Frame)]| -> f64 {
        let errors = window.iter().map(|(a, b)| f64::from(a[0] - b[0]).powi(2));
        errors.sum()
    };
    let worst = pairs.chunks_exact(240).map(energy).fold(1.0, f64::max);
    10.0 * worst.log10()
}

#[test]
fn alone_the_host_is_published_byte_by_byte() {
    for (rate_hz, channels) in [(48_000, 2), (44_100, 2), (48_000, 1), (44_100, 1)] {
        let host = host(4, rate_hz, channels);
        let mut sim = Sim::new(Box::new(RealCodecs), 3);
        host.plays(&mut sim, SOURCE, START_NS, &host.units, 0.0);
        let out = sim.collect(START_NS + host.at(host.units.len(), 0.0) + DELAY_NS);
        assert_contiguous(&out);
        let published = units(&out);
        // The very last is waited for in vain to be decoded ahead.
        assert!(
            published.len() + 4 >= host.units.len(),
            "{}",
            published.len()
        );
        let same = published
            .iter()
            .zip(&host.units)
            .take_while(|(a, b)| a == b);
        assert!(same.count() + 4 >= host.units.len(), "{rate_hz} {channels}");
        let (first, config) = (&out.audio[0].1, host.config());
        assert_eq!(first.track.config, Codec::Aac(config.clone()));
        let error = (first.dts.as_nanos() - START_NS).abs();
        assert!(error < 1_000_000_000 / i64::from(rate_hz), "{error} ns");
    }
}

#[test]
fn joints_leave_no_mark() {
    // With a guest who says nothing; and alone, made softer by less than anybody hears, so that it slept before.
    for (rate_hz, channels, guest) in [(48_000, 2, true), (44_100, 1, true), (48_000, 2, false)] {
        let host = host(12, rate_hz, channels);
        let mut sim = Sim::new(Box::new(RealCodecs), 5);
        host.plays(&mut sim, SOURCE, START_NS, &host.units, 0.0);
        sim.script(
            0,
            Input::Attach {
                source: GUEST,
                gain: 0.0,
            },
        );
        let mut opus = BrowserEncoder::new(96_000, false, false);
        for n in 0..12 * 50 * i64::from(guest) {
            let silence = opus.encode(&[[0.0; 2]; 960]);
            sim.arrives(
                GUEST,
                unit(&opus_track(), START_NS + n * 20_000_000, true, silence),
                0,
            );
        }
        for n in 1..8 {
            let change = match guest {
                true => Input::Gain {
                    source: GUEST,
                    gain: (n % 2) as f32,
                },
                false => Input::Gain {
                    source: SOURCE,
                    gain: 1.0 - (n % 2) as f32 / 1e4,
                },
            };
            sim.script(START_NS + n * 1_300_000_000, change);
        }
        let out = sim.collect(START_NS + 12 * SECOND);
        assert_contiguous(&out);
        let published = units(&out);
        let theirs = published
            .iter()
            .zip(&host.units)
            .filter(|(a, b)| a == b)
            .count();
        let stats = sim.program.stats(sim.at(START_NS + 12 * SECOND));
        assert_eq!(stats.audio.splices, 7, "{:?}", stats.audio);
        assert_eq!(stats.audio.forced_splices, 0);
        // On their own for 5.2 s of 12, less what the joints wait for.
        let share = theirs as f64 / published.len() as f64;
        assert!((0.3..0.45).contains(&share), "{share}");

        let heard = decode(host.config(), &published);
        // An encode of the decoded sound, never spliced, is what it may sound like at worst.
        let mut encoder = AacEncoder::new(AacSettings {
            sample_rate_hz: rate_hz,
            channels,
            bitrate_bps: 128_000,
            afterburner: false,
        })
        .unwrap();
        let again: Vec<Bytes> = host
            .decoded
            .chunks_exact(UNIT_SAMPLES)
            .map(|block| encoder.encode(block).unwrap())
            .collect();
        let again = decode(host.config(), &again);
        let skip = 4 * UNIT_SAMPLES;
        let reference = worst_error_db(&again[2 * UNIT_SAMPLES + skip..], &host.decoded[skip..]);
        let worst = worst_error_db(&heard[skip..], &host.decoded[skip..]);
        println!("{rate_hz} Hz: worst {worst:.1} dB, unspliced {reference:.1} dB");
        assert!(
            worst <= reference + 6.0,
            "{worst:.1} dB against {reference:.1} dB"
        );
        assert!(worst_error_db(&heard[skip + 1..], &host.decoded[skip..]) > reference + 9.0);
    }
}

#[test]
fn the_program_follows_a_clock_that_it_cannot_bend() {
    for ppm in [200.0, -200.0] {
        let host = host(4, 48_000, 2);
        // Ten minutes of the same four seconds.
        let count = 600 * 48_000 / 1_024;
        let sent: Vec<Bytes> = host.units.iter().cycle().take(count).cloned().collect();
        let mut sim = Sim::new(Box::new(RealCodecs), 7);
        host.plays(&mut sim, SOURCE, START_NS, &sent, ppm);
        let end = START_NS + host.at(count, ppm) - SECOND;
        let out = sim.collect(end);
        assert_contiguous(&out);
        for (n, (_, unit)) in out.audio.iter().enumerate() {
            assert_eq!(unit.data, sent[n], "unit {n} at {ppm} ppm");
            let error = unit.dts.as_nanos() - START_NS - host.at(n, ppm);
            assert!(error.abs() < 500_000, "unit {n} is {error} ns off");
        }
        assert!(out.audio.len() > count - 100);
        assert_eq!(sim.program.stats(sim.at(end)).audio.splices, 0);
    }
}

#[test]
fn a_host_that_returns_off_the_grid_passes_again() {
    let host = host(20, 48_000, 2);
    let (first, second) = host.units.split_at(200);
    let mut sim = Sim::new(Box::new(RealCodecs), 9);
    host.plays(&mut sim, SOURCE, START_NS, first, 0.0);
    let left = START_NS + host.at(200, 0.0);
    sim.script(left + 100_000_000, Input::Detach { source: SOURCE });
    // 300 samples off the grid.
    let back = left + 2 * SECOND + 6_250_000;
    host.plays(&mut sim, GUEST, back, second, 0.0);
    let out = sim.collect(back + 10 * SECOND);
    assert_contiguous(&out);
    let published = units(&out);
    let last = published.last().unwrap();
    let at = host.units.iter().position(|unit| unit == last).unwrap();
    assert!(at > 200, "the second session passes");
    let since = published.iter().rev().zip(host.units[..=at].iter().rev());
    let passing = since.take_while(|(a, b)| a == b).count();
    assert!(passing > 5 * 48_000 / 1_024, "{passing} units of it passed");
    // Time has caught up with the content.
    let (_, unit) = out.audio.last().unwrap();
    let error = unit.dts.as_nanos() - back - host.at(at - 200, 0.0);
    assert!(error.abs() < 3_000_000, "{error} ns");
}

#[test]
fn other_sound_goes_over_the_bus() {
    let host = host(4, 32_000, 2);
    let mut sim = Sim::new(Box::new(RealCodecs), 9);
    host.plays(&mut sim, SOURCE, START_NS, &host.units, 0.0);
    let out = sim.collect(START_NS + 3 * SECOND);
    out.assert_invariants();
    let config = aac::Config::lc(48_000, 2).unwrap();
    let heard = decode(&config, &units(&out));
    let loud = heard.iter().filter(|frame| frame[0].abs() > 500.0).count();
    assert!(loud > heard.len() / 2, "{loud} of {} samples", heard.len());
}

#[test]
fn a_cut_says_how_the_sound_is_joined() {
    let host = host(6, 48_000, 2);
    let mut sim = Sim::new(Box::new(RealCodecs), 5);
    host.plays(&mut sim, SOURCE, START_NS, &host.units, 0.0);
    let mix = SourceId(9);
    sim.script(
        0,
        Input::Attach {
            source: mix,
            gain: 0.0,
        },
    );
    let video = video_track(0);
    for n in 0..150 {
        let at = START_NS + n * 40_000_000 + 7_000_000;
        sim.arrives(mix, picture(&video, at, n % 5 == 0, n as u32), 0);
    }
    // A guest who is heard in the mix only.
    sim.script(
        0,
        Input::Attach {
            source: GUEST,
            gain: 0.0,
        },
    );
    let mut opus = BrowserEncoder::new(96_000, false, false);
    for n in 0..6 * 50 {
        let at = START_NS + n * 20_000_000;
        let sound = opus.encode(&[[0.0; 2]; 960]);
        sim.arrives(GUEST, unit(&opus_track(), at, true, sound), 0);
    }
    let show = |source, gain| Input::Show {
        source,
        gains: vec![(GUEST, gain)],
        not_before: None,
    };
    sim.script(START_NS + 2 * SECOND, show(mix, 1.0));
    sim.script(START_NS + 4 * SECOND, show(SOURCE, 0.0));
    let mut methods = Vec::new();
    sim.run(START_NS + 6 * SECOND, |_, output| {
        if let super::super::Output::Cut { method, .. } = output {
            methods.push(method);
        }
    });
    assert_eq!(methods[methods.len() - 2..], [SpliceMethod::Bitstream; 2]);
}

/// What is published is contiguous, and the host's own bytes are published at the end.
fn assert_passes_at_the_end(out: &Published, host: &Host) {
    assert_contiguous(out);
    let published = units(out);
    let last = published.len() - 20;
    for unit in &published[last..] {
        assert!(host.units.contains(unit), "the host's own unit");
    }
}

#[test]
fn sound_that_stops_and_comes_back_is_silence_between() {
    let host = host(12, 48_000, 2);
    let mut sim = Sim::new(Box::new(RealCodecs), 9);
    host.plays(&mut sim, SOURCE, START_NS, &host.units[..150], 0.0);
    // The same session goes on two seconds later, off its own grid.
    let back = START_NS + host.at(150, 0.0) + 2 * SECOND + 4_321_000;
    for (n, data) in host.units[150..400].iter().enumerate() {
        let at = back + host.at(n, 0.0);
        sim.arrives(SOURCE, unit(&host.track, at, true, data.clone()), 0);
    }
    let out = sim.collect(back + host.at(250, 0.0));
    assert_passes_at_the_end(&out, &host);
    let stats = sim.program.stats(sim.at(back + 5 * SECOND));
    let silence_ms = stats.audio.silence_inserted_samples / 48;
    assert!((1_700..2_200).contains(&silence_ms), "{silence_ms} ms");
    assert_eq!((stats.audio.splices, stats.audio.passes), (2, true));
}

#[test]
fn a_configuration_that_changes_in_the_middle_loses_nothing() {
    let stereo = host(10, 48_000, 2);
    let mono = host(4, 44_100, 1);
    let mut sim = Sim::new(Box::new(RealCodecs), 9);
    stereo.plays(&mut sim, SOURCE, START_NS, &stereo.units[..100], 0.0);
    let change = START_NS + stereo.at(100, 0.0);
    for (n, data) in mono.units[..120].iter().enumerate() {
        let at = change + mono.at(n, 0.0);
        sim.arrives(SOURCE, unit(&mono.track, at, true, data.clone()), 0);
    }
    let back = change + mono.at(120, 0.0);
    for (n, data) in stereo.units[100..360].iter().enumerate() {
        let at = back + stereo.at(n, 0.0);
        sim.arrives(SOURCE, unit(&stereo.track, at, true, data.clone()), 0);
    }
    let out = sim.collect(back + stereo.at(250, 0.0));
    assert_passes_at_the_end(&out, &stereo);
    let published = units(&out);
    let first = published.iter().zip(&stereo.units);
    let first = first.take_while(|(a, b)| a == b).count();
    assert!(first >= 97, "{first} of the first hundred units");
    let stats = sim.program.stats(sim.at(back + 5 * SECOND));
    assert!(
        stats.audio.silence_inserted_samples < 4_800,
        "{} samples of silence",
        stats.audio.silence_inserted_samples
    );
}

/// HE-AAC at 24 kHz and 48 kHz, announced as such or as plain AAC-LC at 24 kHz.
fn high_efficiency(seconds: usize, announced: bool) -> Host {
    let rate_hz = 48_000;
    let encoder = Encoder::new(EncoderParams {
        bit_rate: BitRate::Cbr(48_000),
        sample_rate: rate_hz,
        transport: Transport::Adts,
        channels: ChannelMode::Stereo,
        audio_object_type: AudioObjectType::Mpeg4HeAac,
    })
    .unwrap();
    let pcm: Vec<i16> = sound(seconds, rate_hz)
        .iter()
        .flatten()
        .map(|value| *value as i16)
        .collect();
    let mut out = vec![0; 8_192];
    let mut units = Vec::new();
    for block in pcm.chunks_exact(2 * 2 * UNIT_SAMPLES) {
        let info = encoder.encode(block, &mut out).unwrap();
        assert_eq!(info.input_consumed, block.len());
        // Behind the header of ADTS, which is 7 bytes long where there is no checksum (ISO/IEC 13818-7 §6.2).
        if info.output_size > 0 {
            units.push(Bytes::copy_from_slice(&out[7..info.output_size]));
        }
    }
    let asc: &'static [u8] = match announced {
        // Object type 5, 24 kHz, 2 channels; 48 kHz, object type 2.
        true => &[0x2b, 0x11, 0x88, 0x00],
        false => &[0x13, 0x10],
    };
    let config = aac::Config::parse(Bytes::from_static(asc)).unwrap();
    assert_eq!(config.sbr_rate_hz, announced.then_some(48_000));
    // A unit lasts as long as 1024 samples of the core.
    Host::new(config, units, 24_000)
}

#[test]
fn high_efficiency_goes_over_the_bus_at_its_pace_and_pitch() {
    for announced in [true, false] {
        let host = high_efficiency(6, announced);
        let mut sim = Sim::new(Box::new(RealCodecs), 9);
        host.plays(&mut sim, SOURCE, START_NS, &host.units, 0.0);
        let out = sim.collect(START_NS + 5 * SECOND);
        out.assert_invariants();
        let config = aac::Config::lc(48_000, 2).unwrap();
        let heard = decode(&config, &units(&out));
        let meant = sound(6, 48_000);
        // The melody, wherever it begins: HE-AAC has its own delay.
        let heard = &heard[48_000..3 * 48_000];
        let likeness = |lag: usize| {
            let pairs = heard.iter().zip(&meant[lag..]);
            pairs.map(|(a, b)| f64::from(a[0] * b[0])).sum::<f64>()
        };
        let energy: f64 = heard.iter().map(|a| f64::from(a[0]).powi(2)).sum();
        let best = (40_000..56_000)
            .map(|lag| likeness(lag) / energy)
            .fold(0.0, f64::max);
        assert!(best > 0.9, "announced {announced}: {best:.3}");
        let stats = sim.program.stats(sim.at(START_NS + 5 * SECOND));
        assert!(!stats.audio.passes);
    }
}
