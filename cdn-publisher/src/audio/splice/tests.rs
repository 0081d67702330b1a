//! The machine, with the real codecs. Whether a joint is heard is judged in the whole-system tests, over other encoders too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use super::*;
use crate::audio::codec::{AacDecoder, Decode, EncodePacket, RealCodecs};
use crate::audio::lab::{self, Stream};

const SETTINGS: lab::Settings = lab::Settings {
    sample_rate_hz: 48_000,
    channels: 2,
    bitrate_bps: 128_000,
};
const SLOTS: usize = 120;

fn encoder() -> AacSettings {
    AacSettings {
        sample_rate_hz: 48_000,
        channels: 2,
        bitrate_bps: 128_000,
        afterburner: true,
    }
}

/// Notes with overtones, one each quarter second, `transpose` higher.
fn notes(transpose: f32) -> Vec<Frame> {
    (0..SLOTS * UNIT_SAMPLES)
        .map(|n| {
            let t = n as f32 / 48_000.0;
            let note = 220.0 * transpose * [1.0, 1.25, 1.5, 1.125][(t * 4.0) as usize % 4];
            let since = t * 4.0 % 1.0;
            let envelope = (since * 40.0).min(1.0) * (-since * 1.5).exp();
            let voice: f32 = (1..6)
                .map(|k| (std::f32::consts::TAU * note * k as f32 * t).sin() / k as f32)
                .sum();
            [6_000.0 * envelope * voice, 5_000.0 * envelope * voice]
        })
        .collect()
}

fn host() -> Stream {
    Stream::encode(&notes(1.0), SETTINGS).unwrap()
}

fn decoded(units: &[Bytes]) -> Vec<Frame> {
    let mut decoder = AacDecoder::new(&media::aac::Config::lc(48_000, 2).unwrap()).unwrap();
    let mut out = Vec::new();
    for unit in units {
        decoder.decode(unit, &mut out).unwrap();
    }
    out
}

fn snr(heard: &[Frame], meant: &[Frame]) -> f64 {
    let (mut signal, mut noise) = (1e-9, 1e-9);
    for (heard, meant) in heard.iter().zip(meant) {
        for (heard, meant) in heard.iter().zip(meant) {
            signal += f64::from(*meant).powi(2);
            noise += f64::from(heard - meant).powi(2);
        }
    }
    10.0 * (signal / noise).log10()
}

#[test]
fn the_hosts_units_pass_untouched_and_the_bus_takes_over_where_it_may() {
    let host = host();
    let sound = host.decode().unwrap();
    let wishes = [
        lab::Wish {
            slot: 40,
            side: Side::Bus,
        },
        lab::Wish {
            slot: 80,
            side: Side::Host,
        },
    ];
    let out = lab::splice(&host, &sound, SETTINGS, &wishes, Techniques::default()).unwrap();
    assert_eq!(out.stream.units.len(), SLOTS);
    assert_eq!(out.joints.len(), 2, "{:?}", out.joints);
    let [to_bus, to_host] = [out.joints[0], out.joints[1]];
    assert!(to_bus.is_clean() && to_host.is_clean(), "{:?}", out.joints);
    assert!((40..60).contains(&to_bus.slot) && (85..100).contains(&to_host.slot));
    let own = |slot: usize| out.stream.units[slot] == host.units[slot];
    let (left, back) = (to_bus.slot as usize, to_host.slot as usize);
    assert!((0..left).all(own) && (back..SLOTS).all(own) && !(left..back).any(own));
    let heard = decoded(&out.stream.units);
    for slot in 4..SLOTS - 1 {
        let part = slot * UNIT_SAMPLES..(slot + 1) * UNIT_SAMPLES;
        let snr = snr(&heard[part.clone()], &sound[part]);
        assert!(
            snr > 15.0,
            "slot {slot}: {snr:.1} dB, joints {left} and {back}"
        );
    }
}

#[test]
fn a_channel_without_a_host_has_one_encoder_and_keeps_nothing() {
    let mut splicer = Splicer::new(&RealCodecs, encoder(), 1_000).unwrap();
    let sound = notes(1.0);
    let mut units = Vec::new();
    for n in 0..60 {
        let (from, to) = (splicer.position(), splicer.needs());
        assert_eq!(from, 1_000 * UNIT + if n == 0 { 0 } else { (n + 2) * UNIT });
        let at = |position: i64| (position - 1_000 * UNIT) as usize;
        splicer.feed(None, &sound[at(from)..at(to)]);
        let unit = splicer.next_unit(&RealCodecs, Side::Host, &|_| None);
        assert_eq!((unit.slot, unit.side), (1_000 + n, Side::Bus));
        assert_eq!(unit.joint, None);
        assert!(splicer.mix.is_empty() && splicer.host.is_empty());
        units.push(unit.data);
    }
    let heard = decoded(&units);
    assert!(snr(&heard[4_096..], &sound[4_096..]) > 25.0);
}

#[test]
fn a_host_that_stops_is_followed_at_once() {
    let host = host();
    let sound = host.decode().unwrap();
    let mix = notes(1.5);
    let mut splicer = Splicer::new(&RealCodecs, encoder(), 0).unwrap();
    let end = 50 * UNIT_SAMPLES;
    let mut joints = Vec::new();
    for slot in 0..100 {
        let (from, to) = (splicer.position() as usize, splicer.needs() as usize);
        for at in (from..to).step_by(UNIT_SAMPLES) {
            let part = at..at + UNIT_SAMPLES;
            let own = (part.end <= end).then(|| &sound[part.clone()]);
            splicer.feed(own, &mix[part.clone()]);
        }
        let unit = splicer.next_unit(&RealCodecs, Side::Host, &|slot| {
            (slot < 50).then(|| host.units[slot as usize].clone())
        });
        assert_eq!(unit.side, if slot < 50 { Side::Host } else { Side::Bus });
        joints.extend(unit.joint);
    }
    let [joint] = joints[..] else {
        panic!("{joints:?}")
    };
    assert_eq!((joint.slot, joint.method), (50, Method::Cut));
    assert!(splicer.host.is_empty(), "nothing is kept of who is gone");
}

#[test]
fn windows_that_never_meet_are_joined_after_a_while_one_way_and_never_the_other() {
    let host = host();
    let sound = host.decode().unwrap();
    let mut splicer = Splicer::new(&RealCodecs, encoder(), 0).unwrap();
    let mut joints = Vec::new();
    for slot in 0..SLOTS - 3 {
        let part = splicer.position() as usize..splicer.needs() as usize;
        splicer.feed(Some(&sound[part.clone()]), &sound[part]);
        let want = if (10..50).contains(&slot) {
            Side::Bus
        } else {
            Side::Host
        };
        // A unit that begins with a programme config element is not understood.
        let unit = splicer.next_unit(&RealCodecs, want, &|_| Some(Bytes::from_static(&[0xa0; 9])));
        joints.extend(unit.joint);
    }
    let [joint] = joints[..] else {
        panic!("{joints:?}")
    };
    assert_eq!((joint.method, joint.tries), (Method::Forced, MAX_TRIES));
    assert_eq!(joint.slot, 10 + i64::from(MAX_TRIES));
    assert!(matches!(splicer.state, State::Bus { .. }));
}

/// The real codecs, and how many units they encoded.
#[derive(Debug, Default)]
struct Counting(Arc<AtomicU32>);

#[derive(Debug)]
struct CountingEncoder(Box<dyn Encode>, Arc<AtomicU32>);

impl Encode for CountingEncoder {
    fn encode(&mut self, pcm: &[Frame]) -> Result<Bytes, Error> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.encode(pcm)
    }

    fn delay_samples(&self) -> u32 {
        self.0.delay_samples()
    }

    fn config(&self) -> Bytes {
        self.0.config()
    }
}

impl Codecs for Counting {
    fn opus_decoder(&self) -> Result<Box<dyn Decode>, Error> {
        RealCodecs.opus_decoder()
    }

    fn aac_encoder(&self, settings: AacSettings) -> Result<Box<dyn Encode>, Error> {
        let encoder = RealCodecs.aac_encoder(settings)?;
        Ok(Box::new(CountingEncoder(encoder, Arc::clone(&self.0))))
    }

    fn aac_decoder(&self, config: &media::aac::Config) -> Result<Box<dyn Decode>, Error> {
        RealCodecs.aac_decoder(config)
    }

    fn opus_encoder(&self, bitrate_bps: u32) -> Result<Box<dyn EncodePacket>, Error> {
        RealCodecs.opus_encoder(bitrate_bps)
    }
}

#[test]
fn many_tries_cost_little_more_than_one() {
    let sound = notes(1.0);
    // Eight short windows in every unit, which the encoder has no reason for.
    let short = Bytes::from_static(&[0b0010_0001, 0b0101_0000, 0, 0, 0, 0]);
    let codecs = Counting::default();
    let mut splicer = Splicer::new(&codecs, encoder(), 0).unwrap();
    let mut joint = None;
    for _ in 0..60 {
        let part = splicer.position() as usize..splicer.needs() as usize;
        splicer.feed(Some(&sound[part.clone()]), &sound[part]);
        let want = if splicer.next_slot() < 20 {
            Side::Host
        } else {
            Side::Bus
        };
        let before = codecs.0.load(Ordering::Relaxed);
        let unit = splicer.next_unit(&codecs, want, &|_| Some(short.clone()));
        let encoded = codecs.0.load(Ordering::Relaxed) - before;
        match (unit.slot, joint) {
            (..20, _) => assert_eq!(encoded, 0, "nothing is encoded while the host is wanted"),
            (20, _) => assert_eq!(encoded, 9, "a try"),
            (21, _) => assert!([9, 18, 27].contains(&encoded), "a scout, and maybe a try"),
            (_, None) => assert!([1, 10, 19].contains(&encoded), "{encoded}"),
            (_, Some(_)) => assert_eq!(encoded, 1),
        }
        joint = joint.or(unit.joint);
        if unit.joint.is_some() {
            let total = codecs.0.load(Ordering::Relaxed);
            println!("{} units for {:?}", total, unit.joint);
            assert!(total <= 80, "{total}");
        }
    }
    assert!(joint.is_some());
}
