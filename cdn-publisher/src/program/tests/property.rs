//! Whatever comes in, the invariants hold.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::{Input, SourceId};
use super::support::*;

#[derive(Clone, Debug)]
enum Event {
    Attach(u64),
    Show(u64),
    Gain(u64, f32),
    Detach(u64),
    Picture {
        source: u64,
        at_ms: i64,
        key: bool,
        size: u8,
        lost: bool,
        slices: Vec<u8>,
    },
    Sound {
        source: u64,
        at_ms: i64,
        data: Vec<u8>,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let source = 0u64..4;
    prop_oneof![
        1 => source.clone().prop_map(Event::Attach),
        1 => source.clone().prop_map(Event::Show),
        1 => (source.clone(), 0.0f32..2.0).prop_map(|(id, gain)| Event::Gain(id, gain)),
        1 => source.clone().prop_map(Event::Detach),
        8 => (source.clone(), -500..2_000i64, any::<bool>(), 0u8..2, prop::bool::weighted(0.1), prop::collection::vec(any::<u8>(), 0..12))
            .prop_map(|(source, at_ms, key, size, lost, slices)| Event::Picture { source, at_ms, key, size, lost, slices }),
        8 => (source, -500..2_000i64, prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(source, at_ms, data)| Event::Sound { source, at_ms, data }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn timestamps_increase_and_nothing_panics(
        events in prop::collection::vec((0..100i64, event()), 0..200),
        real_codecs in any::<bool>(),
    ) {
        let mut sim = if real_codecs {
            Sim::new(Box::new(crate::audio::codec::RealCodecs), 1)
        } else {
            Sim::ramp()
        };
        let (tracks, opus) = ([video_track(0), video_track(1)], opus_track());
        let mut now_ms = 0;
        sim.on_air(0, SourceId(0));
        for (later_ms, event) in events {
            now_ms += later_ms;
            let at = |at_ms: i64| (now_ms + at_ms - 700) * 1_000_000;
            let input = match event {
                Event::Attach(id) => Input::Attach {
                    source: SourceId(id),
                    gain: 1.0,
                },
                Event::Show(id) => Input::Show {
                    source: SourceId(id),
                    gains: vec![(SourceId(id), 0.5)],
            not_before: None,
                },
                Event::Gain(id, gain) => Input::Gain {
                    source: SourceId(id),
                    gain,
                },
                Event::Detach(id) => Input::Detach { source: SourceId(id) },
                Event::Picture { source, at_ms, key, size, lost, slices } => {
                    let mut unit = picture(&tracks[usize::from(size)], at(at_ms), key, 7);
                    unit.discontinuity = lost;
                    if slices.len() > 8 {
                        unit.data = Bytes::from(slices);
                    }
                    Input::Unit { source: SourceId(source), unit }
                }
                Event::Sound { source, at_ms, data } => Input::Unit {
                    source: SourceId(source),
                    unit: unit(&opus, at(at_ms), true, Bytes::from(data)),
                },
            };
            sim.script(now_ms * 1_000_000, input);
        }
        let out = sim.collect((now_ms + 3_000) * 1_000_000);
        out.assert_invariants();
    }
}
