//! Whole publishing sessions with damage: nothing that a peer sends may panic, or make the session keep more than it may.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const LIMIT: usize = 1 << 16;

/// What an encoder sends after the handshake: connect, createStream, publish, sequence headers, sound and pictures.
fn publishing() -> Vec<u8> {
    let mut writer = ChunkSerializer::new();
    let mut out = Vec::new();
    let mut send = |type_id, at, stream, data: Bytes| {
        let payload = MessagePayload {
            timestamp: RtmpTimestamp::new(at),
            type_id,
            message_stream_id: stream,
            data,
        };
        let packet = writer.serialize(&payload, false, false);
        out.extend(packet.expect("a message").bytes);
    };
    let command = |values: &[Value]| {
        let mut body = BytesMut::new();
        amf0::write(values, &mut body);
        body.freeze()
    };
    let app = Value::Object(vec![("app".to_owned(), Value::text("live"))]);
    let connect = [Value::text("connect"), Value::Number(1.0), app];
    send(kind::COMMAND, 0, 0, command(&connect));
    let create = [Value::text("createStream"), Value::Number(2.0), Value::Null];
    send(kind::COMMAND, 0, 0, command(&create));
    let publish = [
        Value::text("publish"),
        Value::Number(3.0),
        Value::Null,
        Value::text("demo?token=t"),
        Value::text("live"),
    ];
    send(kind::COMMAND, 0, STREAM, command(&publish));
    send(
        kind::AUDIO,
        0,
        STREAM,
        Bytes::from_static(&[0xaf, 0, 0x11, 0x90]),
    );
    for frame in 0..6_u32 {
        let mut picture = BytesMut::from(&[if frame == 0 { 0x17 } else { 0x27 }, 1, 0, 0, 0][..]);
        picture.put_bytes(7, 700);
        send(kind::VIDEO, frame * 33, STREAM, picture.freeze());
        let sound = Bytes::from(vec![0xaf, 1, 9, 9, 9]);
        send(kind::AUDIO, frame * 33 + 5, STREAM, sound);
    }
    out
}

/// Feeds bytes in pieces, accepting what asks to be; gives how many tags came out.
fn feed(bytes: &[u8], piece: usize) -> usize {
    let mut session = Session::new(LIMIT);
    let mut tags = 0;
    for piece in bytes.chunks(piece) {
        let result = session.handle(piece);
        while let Some(event) = session.poll_event() {
            match event {
                Event::Publish { .. } => session.accept().expect("an answer"),
                Event::Tag(tag) => {
                    assert!(tag.body.len() <= LIMIT);
                    tags += 1;
                }
                Event::Play | Event::Unpublish => {}
            }
        }
        assert!(session.take_output().len() <= LIMIT);
        if result.is_err() {
            break;
        }
    }
    tags
}

fn command(writer: &mut ChunkSerializer, stream: u32, values: &[Value]) -> Vec<u8> {
    let mut body = BytesMut::new();
    amf0::write(values, &mut body);
    message(writer, kind::COMMAND, stream, body.freeze())
}

fn message(writer: &mut ChunkSerializer, type_id: u8, stream: u32, data: Bytes) -> Vec<u8> {
    let payload = MessagePayload {
        timestamp: RtmpTimestamp::new(0),
        type_id,
        message_stream_id: stream,
        data,
    };
    let packet = writer.serialize(&payload, false, false);
    packet.expect("a message").bytes
}

/// The commands in what the session sends, with their transaction.
fn answers(reader: &mut Reader, session: &mut Session) -> Vec<(String, f64, Vec<Value>)> {
    reader.push(&session.take_output());
    let mut answers = Vec::new();
    while let Some(message) = reader.next_message().expect("valid") {
        if message.kind == kind::COMMAND {
            let values = amf0::read(&message.body).expect("AMF0");
            let name = values[0].as_text().expect("a name").to_owned();
            answers.push((name, values[1].as_number().expect("a number"), values));
        }
    }
    answers
}

/// What OBS Studio sends, in its order: token in the stream key, metadata by `@setDataFrame`.
#[test]
fn obs_publishes() {
    let (mut session, mut reader) = (Session::new(LIMIT), Reader::new(LIMIT));
    let mut writer = ChunkSerializer::new();
    let connect = Value::Object(vec![
        ("app".to_owned(), Value::text("live")),
        ("type".to_owned(), Value::text("nonprivate")),
        (
            "flashVer".to_owned(),
            Value::text("FMLE/3.0 (compatible; FMSc/1.0)"),
        ),
        (
            "tcUrl".to_owned(),
            Value::text("rtmp://127.0.0.1:1936/live"),
        ),
        (
            "fourCcList".to_owned(),
            Value::List(vec![Value::text("av01"), Value::text("hvc1")]),
        ),
    ]);
    let mut send = |session: &mut Session, stream, name: &str, transaction, rest: &[Value]| {
        let mut values = vec![Value::text(name), Value::Number(transaction)];
        values.extend_from_slice(rest);
        session
            .handle(&command(&mut writer, stream, &values))
            .expect("understood");
    };
    send(&mut session, 0, "connect", 1.0, &[connect]);
    let got = answers(&mut reader, &mut session);
    assert_eq!((got[0].0.as_str(), got[0].1), ("_result", 1.0));
    let key = Value::text("demo?token=t%20t&participant=ann");
    send(
        &mut session,
        0,
        "releaseStream",
        2.0,
        &[Value::Null, key.clone()],
    );
    send(
        &mut session,
        0,
        "FCPublish",
        3.0,
        &[Value::Null, key.clone()],
    );
    send(&mut session, 0, "createStream", 4.0, &[Value::Null]);
    send(&mut session, 0, "_checkbw", 5.0, &[Value::Null]);
    let got = answers(&mut reader, &mut session);
    let got: Vec<_> = got.iter().map(|(name, n, _)| (name.as_str(), *n)).collect();
    assert_eq!(got, [("_result", 2.0), ("_result", 3.0), ("_result", 4.0)]);
    send(
        &mut session,
        STREAM,
        "publish",
        5.0,
        &[Value::Null, key, Value::text("live")],
    );
    let Some(Event::Publish { app, name, query }) = session.poll_event() else {
        panic!("no wish to publish");
    };
    assert_eq!((app.as_str(), name.as_str()), ("live", "demo"));
    assert_eq!(query.token(), Some("t t"));
    assert_eq!(query.get("participant"), Some("ann"));
    session.accept().expect("an answer");
    let got = answers(&mut reader, &mut session);
    assert_eq!(got[0].0, "onStatus");
    assert_eq!(
        got[0].2[3].get("code").and_then(Value::as_text),
        Some("NetStream.Publish.Start")
    );

    let mut body = BytesMut::new();
    let properties = Value::Object(vec![("encoder".to_owned(), Value::text("obs"))]);
    let values = [
        Value::text("@setDataFrame"),
        Value::text("onMetaData"),
        properties,
    ];
    amf0::write(&values, &mut body);
    let data = message(&mut writer, kind::DATA, STREAM, body.freeze());
    session.handle(&data).expect("understood");
    let Some(Event::Tag(tag)) = session.poll_event() else {
        panic!("no metadata");
    };
    assert_eq!(tag.kind, TagKind::Script);
    assert_eq!(
        amf0::read(&tag.body).expect("AMF0")[0].as_text(),
        Some("onMetaData")
    );
    let mut send = |name: &str, transaction, rest: &[Value]| {
        let mut values = vec![Value::text(name), Value::Number(transaction), Value::Null];
        values.extend_from_slice(rest);
        let bytes = command(&mut writer, 0, &values);
        session.handle(&bytes).expect("understood");
    };
    send("FCUnpublish", 6.0, &[Value::text("demo")]);
    send("deleteStream", 7.0, &[Value::Number(1.0)]);
    assert_eq!(session.poll_event(), Some(Event::Unpublish));
    assert_eq!(session.poll_event(), None);
}

#[test]
fn the_undamaged_session_publishes() {
    // Byte by byte: what arrives together with the question to publish comes before the answer.
    assert_eq!(feed(&publishing(), 1), 13);
}

proptest! {
    #[test]
    fn damage_is_survived(
        damage in proptest::collection::vec((any::<Index>(), 0_u8..6, any::<u8>()), 1..12),
        piece in 1_usize..400,
    ) {
        let mut bytes = publishing();
        for (at, what, value) in damage {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            let end = (at + usize::from(value)).min(bytes.len());
            match what {
                0 => bytes[at] = value,
                1 => bytes[at] ^= 1 << (value % 8),
                2 => bytes[at] = 0xff,
                3 => drop(bytes.drain(at..end)),
                4 => {
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(at..at, copy);
                }
                _ => bytes.truncate(at),
            }
        }
        feed(&bytes, piece);
    }
}
