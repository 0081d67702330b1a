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
