use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::{Error, h264};

const SPS: &[u8] = &[
    0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01,
    0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2e, 0x48,
];
const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];

fn config() -> h264::Config {
    h264::Config::new(Bytes::from_static(SPS), vec![Bytes::from_static(PPS)]).expect("valid")
}

fn picture() -> impl Strategy<Value = Picture> {
    let data = proptest::collection::vec(any::<u8>(), 0..300);
    (any::<(i64, i64, bool, bool)>(), data).prop_map(
        |((pts_ns, dts_ns, keyframe, discontinuity), data)| Picture {
            pts_ns,
            dts_ns,
            keyframe,
            discontinuity,
            data: Bytes::from(data),
        },
    )
}

fn image() -> impl Strategy<Value = ImageRef> {
    prop_oneof![
        any::<u32>().prop_map(ImageRef::Sent),
        ".*".prop_map(ImageRef::File)
    ]
}

fn scene() -> impl Strategy<Value = Scene> {
    let names = [
        LayoutName::Grid,
        LayoutName::SideBySide,
        LayoutName::Speaker,
        LayoutName::Pip,
        LayoutName::Custom,
    ];
    let fit = prop_oneof![Just(Fit::Cover), Just(Fit::Contain)];
    let tile = (any::<u32>(), 0f32..1.0, 0f32..1.0, fit).prop_map(|(input, x, y, fit)| Tile {
        input,
        x,
        y,
        width: 1.0 - x,
        height: 1.0 - y,
        fit,
    });
    (
        proptest::sample::select(names.to_vec()),
        proptest::collection::vec(tile, 0..4),
        proptest::collection::vec(any::<u32>(), 0..16),
        proptest::option::of("#[0-9a-f]{6}"),
        proptest::option::of(image()),
        proptest::option::of((proptest::option::of(".*"), proptest::option::of(image()))),
        any::<bool>(),
    )
        .prop_map(
            |(name, tiles, order, background, background_image, slate, at_once)| Scene {
                layout: Layout { name, tiles },
                order,
                background,
                background_image,
                slate: slate.map(|(text, image)| Slate { text, image }),
                at_once,
            },
        )
}

fn to_mixer() -> impl Strategy<Value = ToMixer> {
    let level = (any::<u32>(), -100f32..0.0).prop_map(|(input, dbfs)| Level { input, dbfs });
    prop_oneof![
        any::<u16>().prop_map(|version| ToMixer::Hello { version }),
        "[0-9a-f]{64}".prop_map(|mac| ToMixer::Authenticate { mac }),
        (any::<i64>(), any::<u32>()).prop_map(|(phase_ns, hold_ms)| {
            ToMixer::Configure(Configure {
                phase_ns,
                hold_ms,
                speed: Some("veryfast".into()),
                ..Configure::default()
            })
        }),
        (any::<u32>(), ".*").prop_map(|(input, name)| ToMixer::Add { input, name }),
        any::<u32>().prop_map(|input| ToMixer::Remove { input }),
        any::<u32>().prop_map(|input| ToMixer::VideoConfig {
            input,
            config: config()
        }),
        (any::<u32>(), picture()).prop_map(|(input, unit)| ToMixer::Picture { input, unit }),
        (any::<u32>(), proptest::collection::vec(any::<u8>(), 0..300)).prop_map(
            |(number, data)| ToMixer::Image {
                number,
                data: data.into()
            }
        ),
        scene().prop_map(ToMixer::Scene),
        proptest::collection::vec(level, 0..16).prop_map(|levels| ToMixer::Levels { levels }),
        any::<i64>().prop_map(|phase_ns| ToMixer::Phase { phase_ns }),
        Just(ToMixer::Keyframe),
        any::<(u64, i64)>().prop_map(|(id, program_ns)| ToMixer::Ping { id, program_ns }),
        Just(ToMixer::Bye),
    ]
}

fn from_mixer() -> impl Strategy<Value = FromMixer> {
    prop_oneof![
        "[0-9a-f]{32}".prop_map(|nonce| FromMixer::Challenge { nonce }),
        (any::<u16>(), ".*").prop_map(|(version, gstreamer)| FromMixer::Hello {
            version,
            encoders: vec!["x264enc".into()],
            gstreamer,
        }),
        Just(FromMixer::VideoConfig(config())),
        picture().prop_map(FromMixer::Picture),
        any::<(u64, i64, i64)>().prop_map(|(id, program_ns, mixer_ns)| FromMixer::Pong {
            id,
            program_ns,
            mixer_ns
        }),
        any::<(u64, u64, Option<u32>)>().prop_map(|(frames, late, speaker)| {
            FromMixer::Stats(Stats {
                frames,
                late,
                speaker,
                inputs: vec![InputStats {
                    input: 3,
                    state: InputState::Held,
                    pictures: 9,
                    late_pictures: 1,
                    dropped_pictures: 0,
                }],
                ..Stats::default()
            })
        }),
        ".*".prop_map(|message| FromMixer::Error { message }),
    ]
}

fn bytes_of<M: Message>(messages: &[M]) -> BytesMut {
    let mut out = BytesMut::new();
    for message in messages {
        message.encode(&mut out).expect("within bounds");
    }
    out
}

/// Feeds `bytes` in chunks of the given sizes, over and over; the messages, and the error that ended them.
fn decode<M: Message>(bytes: &[u8], chunks: &[usize]) -> (Vec<M>, Option<Error>) {
    let mut decoder = Decoder::new();
    let mut messages = Vec::new();
    let mut rest = bytes;
    for size in chunks.iter().cycle() {
        let (chunk, after) = rest.split_at((*size).min(rest.len()));
        decoder.feed(chunk);
        rest = after;
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.next_message().err(), Some(error.clone()), "final");
                    return (messages, Some(error));
                }
            }
        }
        if rest.is_empty() {
            return (messages, None);
        }
    }
    unreachable!("chunks is not empty")
}

#[test]
fn a_frame_on_the_wire() {
    let unit = Picture {
        pts_ns: 0x0102,
        dts_ns: -1,
        keyframe: true,
        discontinuity: false,
        data: Bytes::from_static(&[0xaa, 0xbb]),
    };
    let bytes = bytes_of(&[ToMixer::Picture { input: 7, unit }]);
    let expected = [
        0, 0, 0, 24, 1, 0, 0, 0, 7, 1, 0, 0, 0, 0, 0, 0, 1, 2, 255, 255, 255, 255, 255, 255, 255,
        255, 0xaa, 0xbb,
    ];
    assert_eq!(bytes[..], expected);
    let bytes = bytes_of(&[ToMixer::Ping {
        id: 1,
        program_ns: 2,
    }]);
    assert_eq!(bytes[5..], br#"{"type":"ping","id":1,"program_ns":2}"#[..]);
    assert_eq!(bytes[..5], [0, 0, 0, 38, 0]);
}

#[test]
fn silence_has_a_number() {
    let levels = vec![Level {
        input: 1,
        dbfs: f32::NEG_INFINITY,
    }];
    let bytes = bytes_of(&[ToMixer::Levels { levels }]);
    let (messages, error) = decode::<ToMixer>(&bytes, &[1000]);
    assert_eq!(error, None);
    assert!(
        matches!(&messages[..], [ToMixer::Levels { levels }] if levels[0].dbfs == -200.0),
        "{messages:?}"
    );
}

#[test]
fn an_announced_giant_is_refused_before_it_comes() {
    let length = u32::try_from(MAX_FRAME_BYTES).expect("fits") + 1;
    let (messages, error) = decode::<ToMixer>(&length.to_be_bytes(), &[4]);
    assert_eq!(messages, []);
    assert!(matches!(error, Some(Error::TooLarge { .. })), "{error:?}");
}

#[test]
fn an_oversized_picture_is_not_written() {
    let mut out = BytesMut::new();
    let unit = Picture {
        pts_ns: 0,
        dts_ns: 0,
        keyframe: false,
        discontinuity: false,
        data: Bytes::from(vec![0; h264::MAX_ACCESS_UNIT_BYTES + 1]),
    };
    assert!(FromMixer::Picture(unit).encode(&mut out).is_err());
    assert!(out.is_empty());
}

#[test]
fn an_oversized_image_is_not_written_and_not_read() {
    let image = |size| ToMixer::Image {
        number: 1,
        data: Bytes::from(vec![0; size]),
    };
    let mut out = BytesMut::new();
    assert!(image(MAX_IMAGE_BYTES + 1).encode(&mut out).is_err());
    assert!(out.is_empty());
    let mut body = BytesMut::from(&[3, 0, 0, 0, 1][..]);
    body.resize(5 + MAX_IMAGE_BYTES, 0);
    assert!(ToMixer::from_body(body.clone().freeze()).is_ok());
    assert!(FromMixer::from_body(body.clone().freeze()).is_err());
    body.put_u8(0);
    assert!(ToMixer::from_body(body.freeze()).is_err());
}

#[test]
fn a_mixer_has_one_output() {
    let mut body = BytesMut::new();
    body.put_slice(&[2, 0, 0, 0, 1]);
    body.put_slice(&config().to_avcc());
    assert!(FromMixer::from_body(body.clone().freeze()).is_err());
    assert!(ToMixer::from_body(body.freeze()).is_ok());
}

#[test]
fn pictures_are_not_json() {
    let json = br#"{"type":"picture","input":1,"unit":{}}"#;
    let body = Bytes::from([&[0], &json[..]].concat());
    let error = ToMixer::from_body(body).expect_err("refused").to_string();
    assert!(error.contains("unknown variant `picture`"), "{error}");
}

proptest! {
    #[test]
    fn commands_round_trip(
        messages in proptest::collection::vec(to_mixer(), 0..8),
        chunks in proptest::collection::vec(1..200usize, 1..6),
    ) {
        let (read, error) = decode::<ToMixer>(&bytes_of(&messages), &chunks);
        prop_assert_eq!(error, None);
        prop_assert_eq!(read, messages);
    }

    #[test]
    fn answers_round_trip(
        messages in proptest::collection::vec(from_mixer(), 0..8),
        chunks in proptest::collection::vec(1..200usize, 1..6),
    ) {
        let (read, error) = decode::<FromMixer>(&bytes_of(&messages), &chunks);
        prop_assert_eq!(error, None);
        prop_assert_eq!(read, messages);
    }

    #[test]
    fn random_bytes_are_an_error_at_worst(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode::<ToMixer>(&bytes, &[7]);
        let _ = decode::<FromMixer>(&bytes, &[7]);
        let body = Bytes::from(bytes);
        let _ = ToMixer::from_body(body.clone());
        let _ = FromMixer::from_body(body);
    }

    #[test]
    fn mutated_streams_are_an_error_at_worst(
        commands in proptest::collection::vec(to_mixer(), 1..4),
        answers in proptest::collection::vec(from_mixer(), 1..4),
        mutations in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mutate = |mut bytes: BytesMut| {
            for (at, value) in &mutations {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            bytes
        };
        let _ = decode::<ToMixer>(&mutate(bytes_of(&commands)), &[11]);
        let _ = decode::<FromMixer>(&mutate(bytes_of(&answers)), &[11]);
    }
}
