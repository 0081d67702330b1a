//! Half an hour of guests who come and go while pictures and voices are switched, in the random order of a seed.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::{Input, SourceId};
use super::support::*;

const SECOND: i64 = 1_000_000_000;
const LENGTH_S: i64 = 1_800;
const MIX: SourceId = SourceId(9);

/// A guest's sessions: voice for a while, silence in the middle of some, then away.
fn guest(sim: &mut Sim, random: &mut StdRng, first_id: u64) {
    let audio = opus_track();
    let mut at = random.random_range(1..20) * SECOND;
    for id in first_id.. {
        let source = SourceId(id);
        let end = at + random.random_range(1..90) * SECOND;
        if end >= LENGTH_S * SECOND {
            return;
        }
        sim.script(at, Input::Attach { source, gain: 0.0 });
        let (mut packet_at, mut index) = (at, 0);
        while packet_at < end {
            // Mute, louder, off program: all of it is gain here.
            if random.random_bool(0.002) {
                let gain = [0.0, 0.3, 1.0][random.random_range(0..3)];
                sim.script(packet_at, Input::Gain { source, gain });
            }
            if random.random_bool(0.001) {
                packet_at += random.random_range(1..4) * SECOND;
            }
            let unit = packet(&audio, packet_at, index);
            let after = 5_000_000 + sim.jitter(30_000_000);
            sim.arrives(source, unit, after);
            packet_at += 20_000_000;
            index += PACKET_SAMPLES;
        }
        sim.script(packet_at + SECOND / 2, Input::Detach { source });
        at = end + random.random_range(1..10) * SECOND;
    }
}

#[test]
fn half_an_hour_of_guests_and_switches_leaves_no_trace() {
    let mut random = StdRng::seed_from_u64(3);
    let mut sim = Sim::ramp();
    sim.host(SOURCE, SECOND, LENGTH_S, 20_000_000);
    let track = video_track(1);
    sim.script(
        SECOND,
        Input::Attach {
            source: MIX,
            gain: 0.0,
        },
    );
    for n in 0..(LENGTH_S - 2) * 30 {
        let at = 2 * SECOND + n * SECOND / 30 - SECOND / 120;
        let unit = picture(&track, at, n % 60 == 0, 1_000_000 + n as u32);
        sim.arrives(MIX, unit, 180_000_000);
    }
    for n in 0..3 {
        guest(&mut sim, &mut random, 100 * (n + 1));
    }
    let (mut at, mut switches) = (5 * SECOND, 0);
    while at < (LENGTH_S - 10) * SECOND {
        switches += 1;
        let source = if switches % 2 == 1 { MIX } else { SOURCE };
        sim.script(
            at,
            Input::Show {
                source,
                gains: Vec::new(),
                not_before: None,
            },
        );
        at += random.random_range(2_500..9_000) * 1_000_000;
    }
    let out = sim.collect(LENGTH_S * SECOND);
    out.assert_invariants();
    // The first cut is the start.
    assert_eq!(out.cuts.len(), switches + 1, "every switch is a cut");
    let steps = out.video.windows(2);
    let largest_ms = steps.map(|pair| pair[1].1.dts.as_millis() - pair[0].1.dts.as_millis());
    assert!(largest_ms.max().is_some_and(|ms| ms <= 34));
    assert!(out.video.len() as i64 > (LENGTH_S - 5) * 30 - switches as i64);
}
