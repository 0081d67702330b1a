//! One publishing session: from the first byte of the handshake to `deleteStream`.
//!
//! The handshake is the simple one (Adobe RTMP 1.0 §5.2): every server takes it.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};
use media::flv::{Tag, TagKind};
use media::{Config, Track};
use rml_rtmp::messages::{MessagePayload, RtmpMessage, UserControlEventType};
use rml_rtmp::rml_amf0::{self, Amf0Value};
use rml_rtmp::time::RtmpTimestamp;

use super::chunk::{self, Message, Reader};
use super::url::RtmpUrl;
use crate::Error;

const HANDSHAKE_BYTES: usize = 1_536;
/// A picture rarely needs more than one chunk of this size.
const CHUNK_BYTES: u32 = 65_536;
/// AMF0 is read recursively; at this length nesting cannot get deep.
const MAX_COMMAND_BYTES: usize = 4 << 10;
/// Chunk streams by use, as encoders choose them.
const CONTROL_CHUNKS: u8 = 2;
const COMMAND_CHUNKS: u8 = 3;
const AUDIO_CHUNKS: u8 = 4;
const VIDEO_CHUNKS: u8 = 6;
/// Transactions, numbered as they are sent.
const CONNECT: f64 = 1.0;
const RELEASE: f64 = 2.0;
const FC_PUBLISH: f64 = 3.0;
const CREATE_STREAM: f64 = 4.0;

/// What a session reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The server takes media now.
    Publishing,
    /// The server says no: code and description.
    Refused(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for S0, S1 and S2.
    Handshake,
    Connect,
    CreateStream,
    Publish,
    Publishing,
    Over,
}

/// The client of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    url: RtmpUrl,
    phase: Phase,
    handshake: BytesMut,
    reader: Reader,
    out: BytesMut,
    stream: u32,
    received: u32,
    acknowledged: u32,
    window: u32,
    /// Sequence headers that the server has: audio, video.
    headers: [Option<Bytes>; 2],
}

impl Session {
    /// Begins; `random` fills the handshake.
    pub(crate) fn new(url: RtmpUrl, random: u64) -> Self {
        let mut out = BytesMut::with_capacity(1 + HANDSHAKE_BYTES);
        out.put_u8(3);
        out.put_u64(0);
        let mut state = random | 1;
        while out.len() < 1 + HANDSHAKE_BYTES {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            out.put_u64(state);
        }
        Self {
            url,
            phase: Phase::Handshake,
            handshake: BytesMut::new(),
            reader: Reader::default(),
            out,
            stream: 0,
            received: 0,
            acknowledged: 0,
            window: 0,
            headers: [None, None],
        }
    }

    /// Bytes to send; the caller takes what it could send off the front.
    pub(crate) fn output(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// `publish` was sent, and the server has not answered.
    pub(crate) fn is_waiting_for_permission(&self) -> bool {
        self.phase == Phase::Publish
    }

    /// Takes bytes from the server.
    ///
    /// # Errors
    /// [`Error::Protocol`]; the connection must be closed.
    pub(crate) fn handle(&mut self, bytes: &[u8]) -> Result<Option<Event>, Error> {
        if self.phase == Phase::Handshake {
            self.handshake.extend_from_slice(bytes);
            if self.handshake.first().is_some_and(|version| *version != 3) {
                return Err(Error::Protocol("the server does not speak RTMP".to_owned()));
            }
            if self.handshake.len() <= 2 * HANDSHAKE_BYTES {
                return Ok(None);
            }
            let mut answer = std::mem::take(&mut self.handshake);
            let rest = answer.split_off(1 + 2 * HANDSHAKE_BYTES);
            // C2 repeats S1.
            let s1 = answer.get(1..=HANDSHAKE_BYTES).unwrap_or_default();
            self.out.extend_from_slice(s1);
            self.connect()?;
            return self.messages(&rest);
        }
        self.messages(bytes)
    }

    fn messages(&mut self, bytes: &[u8]) -> Result<Option<Event>, Error> {
        self.reader.push(bytes);
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.received = self.received.wrapping_add(count);
        let mut event = None;
        while let Some(message) = self.reader.next_message()? {
            event = self.message(message)?.or(event);
        }
        if self.window > 0 && self.received.wrapping_sub(self.acknowledged) >= self.window / 2 {
            self.acknowledged = self.received;
            self.control(RtmpMessage::Acknowledgement {
                sequence_number: self.received,
            })?;
        }
        Ok(event)
    }

    fn message(&mut self, message: Message) -> Result<Option<Event>, Error> {
        let is_command = matches!(message.kind, 17 | 20);
        let is_control = matches!(message.kind, 1..=6);
        if !is_command && !is_control || message.payload.len() > MAX_COMMAND_BYTES {
            return Ok(None);
        }
        if is_command {
            // A malformed notification is not worth a reconnection.
            let Some((name, transaction, object, info)) = command_of(&message) else {
                return Ok(None);
            };
            return self.command(&name, transaction, object, info);
        }
        let payload = MessagePayload {
            timestamp: RtmpTimestamp::new(message.timestamp_ms),
            type_id: message.kind,
            message_stream_id: message.stream,
            data: message.payload,
        };
        let Ok(parsed) = payload.to_rtmp_message() else {
            return Ok(None);
        };
        match parsed {
            RtmpMessage::SetChunkSize { size } => self.reader.set_chunk_bytes(size),
            RtmpMessage::WindowAcknowledgement { size } => self.window = size,
            RtmpMessage::UserControl {
                event_type: UserControlEventType::PingRequest,
                timestamp,
                ..
            } => self.control(RtmpMessage::UserControl {
                event_type: UserControlEventType::PingResponse,
                stream_id: None,
                buffer_length: None,
                timestamp,
            })?,
            RtmpMessage::Unknown { .. }
            | RtmpMessage::Abort { .. }
            | RtmpMessage::Acknowledgement { .. }
            | RtmpMessage::Amf0Command { .. }
            | RtmpMessage::Amf0Data { .. }
            | RtmpMessage::AudioData { .. }
            | RtmpMessage::SetPeerBandwidth { .. }
            | RtmpMessage::UserControl { .. }
            | RtmpMessage::VideoData { .. } => {}
        }
        Ok(None)
    }

    fn command(
        &mut self,
        name: &str,
        transaction: f64,
        object: Amf0Value,
        info: Option<Amf0Value>,
    ) -> Result<Option<Event>, Error> {
        match (name, self.phase) {
            ("_result", Phase::Connect) if transaction == CONNECT => {
                self.create_stream()?;
                Ok(None)
            }
            ("_result", Phase::CreateStream) if transaction == CREATE_STREAM => {
                let Some(Amf0Value::Number(stream)) = info else {
                    return Err(Error::Protocol("createStream gave no stream".to_owned()));
                };
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "`as` saturates"
                )]
                {
                    self.stream = stream as u32;
                }
                self.publish()?;
                Ok(None)
            }
            ("_error", Phase::Connect) if transaction == CONNECT => {
                Ok(Some(self.refused(info.as_ref().unwrap_or(&object))))
            }
            ("_error", Phase::CreateStream) if transaction == CREATE_STREAM => {
                Ok(Some(self.refused(info.as_ref().unwrap_or(&object))))
            }
            ("onStatus", _) => Ok(self.status(&info.unwrap_or(object))),
            ("close", _) => Err(Error::Protocol("the server closed the session".to_owned())),
            _ => Ok(None),
        }
    }

    fn status(&mut self, info: &Amf0Value) -> Option<Event> {
        let code = text(info, "code");
        if code == "NetStream.Publish.Start" && self.phase == Phase::Publish {
            self.phase = Phase::Publishing;
            return Some(Event::Publishing);
        }
        let harmless = code.starts_with("NetStream.Unpublish") || self.phase == Phase::Over;
        (text(info, "level") == "error" && !harmless).then(|| self.refused(info))
    }

    fn refused(&mut self, info: &Amf0Value) -> Event {
        self.phase = Phase::Over;
        let (code, description) = (text(info, "code"), text(info, "description"));
        let mut why = format!("{code} {description}").trim().to_owned();
        if why.is_empty() {
            "the server gave no reason".clone_into(&mut why);
        }
        if description.contains("authmod") {
            why.push_str(" (authentication by user name is not supported)");
        }
        // Servers like to repeat what they were asked for.
        let name = self.url.key.split('?').next().unwrap_or_default();
        let why = why.replace(&self.url.key, "***").replace(name, "***");
        Event::Refused(why.chars().filter(|c| !c.is_control()).take(200).collect())
    }

    fn connect(&mut self) -> Result<(), Error> {
        let size = RtmpMessage::SetChunkSize { size: CHUNK_BYTES };
        self.control(size)?;
        let string = |text: &str| Amf0Value::Utf8String(text.to_owned());
        let object = HashMap::from([
            ("app".to_owned(), string(&self.url.app)),
            ("type".to_owned(), string("nonprivate")),
            (
                "flashVer".to_owned(),
                string("FMLE/3.0 (compatible; AnchorNet)"),
            ),
            ("tcUrl".to_owned(), string(&self.url.tc_url())),
        ]);
        self.phase = Phase::Connect;
        self.send_command(0, "connect", CONNECT, Amf0Value::Object(object), None)
    }

    fn create_stream(&mut self) -> Result<(), Error> {
        let key = Amf0Value::Utf8String(self.url.key.clone());
        self.phase = Phase::CreateStream;
        self.send_command(
            0,
            "releaseStream",
            RELEASE,
            Amf0Value::Null,
            Some(key.clone()),
        )?;
        self.send_command(0, "FCPublish", FC_PUBLISH, Amf0Value::Null, Some(key))?;
        self.send_command(0, "createStream", CREATE_STREAM, Amf0Value::Null, None)
    }

    fn publish(&mut self) -> Result<(), Error> {
        self.phase = Phase::Publish;
        let message = RtmpMessage::Amf0Command {
            command_name: "publish".to_owned(),
            transaction_id: 5.0,
            command_object: Amf0Value::Null,
            additional_arguments: vec![
                Amf0Value::Utf8String(self.url.key.clone()),
                Amf0Value::Utf8String("live".to_owned()),
            ],
        };
        self.send(COMMAND_CHUNKS, self.stream, 0, message)
    }

    /// Says what the streams are: `onMetaData`.
    ///
    /// # Errors
    /// [`Error::Protocol`] when AMF0 cannot express it.
    pub(crate) fn send_metadata(
        &mut self,
        timestamp_ms: u32,
        tracks: [Option<&Track>; 2],
    ) -> Result<(), Error> {
        let mut values = HashMap::new();
        let mut put = |name: &str, value: f64| {
            values.insert(name.to_owned(), Amf0Value::Number(value));
        };
        for track in tracks.into_iter().flatten() {
            match &track.config {
                Config::H264(config) => {
                    put("videocodecid", 7.0);
                    put("width", config.width.into());
                    put("height", config.height.into());
                }
                Config::Aac(config) => {
                    put("audiocodecid", 10.0);
                    put("audiosamplerate", config.sample_rate_hz.into());
                    put("audiochannels", config.channels.into());
                    put("audiosamplesize", 16.0);
                }
                Config::Opus(_) => {}
            }
        }
        values.insert(
            "encoder".to_owned(),
            Amf0Value::Utf8String("AnchorNet".to_owned()),
        );
        let values = vec![
            Amf0Value::Utf8String("@setDataFrame".to_owned()),
            Amf0Value::Utf8String("onMetaData".to_owned()),
            Amf0Value::Object(values),
        ];
        let data = RtmpMessage::Amf0Data { values };
        self.send(COMMAND_CHUNKS, self.stream, timestamp_ms, data)
    }

    /// Sends a unit, with its sequence header when the server does not have that one.
    pub(crate) fn send_unit(&mut self, header: &Bytes, tag: &Tag) {
        let known = match tag.kind {
            TagKind::Audio => self.headers.first_mut(),
            TagKind::Video => self.headers.last_mut(),
            TagKind::Script => None,
        };
        if let Some(known) = known {
            if known.as_ref() != Some(header) {
                *known = Some(header.clone());
                self.write_tag(tag, header.clone());
            }
            self.write_tag(tag, tag.body.clone());
        }
    }

    /// Whether the server lacks this sequence header.
    pub(crate) fn is_new(&self, kind: TagKind, header: &Bytes) -> bool {
        let known = match kind {
            TagKind::Audio => self.headers.first(),
            TagKind::Video | TagKind::Script => self.headers.last(),
        };
        known.and_then(Option::as_ref) != Some(header)
    }

    /// Whether any unit was sent.
    pub(crate) fn has_headers(&self) -> bool {
        self.headers.iter().any(Option::is_some)
    }

    fn write_tag(&mut self, tag: &Tag, payload: Bytes) {
        let id = if tag.kind == TagKind::Audio {
            AUDIO_CHUNKS
        } else {
            VIDEO_CHUNKS
        };
        let message = Message {
            kind: tag.kind.number(),
            stream: self.stream,
            timestamp_ms: tag.timestamp_ms,
            payload,
        };
        chunk::write(&mut self.out, id, CHUNK_BYTES as usize, &message);
    }

    /// Ends the stream properly.
    ///
    /// # Errors
    /// [`Error::Protocol`] when AMF0 cannot express the stream key.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        if self.phase == Phase::Publishing {
            let key = Amf0Value::Utf8String(self.url.key.clone());
            self.send_command(0, "FCUnpublish", 6.0, Amf0Value::Null, Some(key))?;
            let stream = Amf0Value::Number(self.stream.into());
            self.send_command(0, "deleteStream", 7.0, Amf0Value::Null, Some(stream))?;
        }
        self.phase = Phase::Over;
        Ok(())
    }

    fn send_command(
        &mut self,
        stream: u32,
        name: &str,
        transaction_id: f64,
        command_object: Amf0Value,
        argument: Option<Amf0Value>,
    ) -> Result<(), Error> {
        let message = RtmpMessage::Amf0Command {
            command_name: name.to_owned(),
            transaction_id,
            command_object,
            additional_arguments: argument.into_iter().collect(),
        };
        self.send(COMMAND_CHUNKS, stream, 0, message)
    }

    fn control(&mut self, message: RtmpMessage) -> Result<(), Error> {
        let is_chunk_size = matches!(message, RtmpMessage::SetChunkSize { .. });
        debug_assert!(!is_chunk_size || self.phase == Phase::Handshake);
        self.send(CONTROL_CHUNKS, 0, 0, message)
    }

    fn send(
        &mut self,
        chunks: u8,
        stream: u32,
        timestamp_ms: u32,
        message: RtmpMessage,
    ) -> Result<(), Error> {
        let payload = message
            .into_message_payload(RtmpTimestamp::new(timestamp_ms), stream)
            .map_err(|error| Error::Protocol(error.to_string()))?;
        let message = Message {
            kind: payload.type_id,
            stream,
            timestamp_ms,
            payload: payload.data,
        };
        chunk::write(&mut self.out, chunks, CHUNK_BYTES as usize, &message);
        Ok(())
    }
}

fn text(info: &Amf0Value, name: &str) -> String {
    if let Amf0Value::Object(values) = info
        && let Some(Amf0Value::Utf8String(text)) = values.get(name)
    {
        return text.clone();
    }
    String::new()
}

/// Name, transaction, object and first argument of a command; `None` when it is none. Read value by value: the library's own
/// reader of commands panics where there are fewer than three.
fn command_of(message: &Message) -> Option<(String, f64, Amf0Value, Option<Amf0Value>)> {
    // What is said to be AMF3 is AMF0 behind a zero.
    let marked = message.payload.strip_prefix(&[0]);
    let amf0 = marked
        .filter(|_| message.kind == 17)
        .unwrap_or(&message.payload);
    let mut values = rml_amf0::deserialize(&mut std::io::Cursor::new(amf0))
        .ok()?
        .into_iter();
    match (values.next()?, values.next()?, values.next()?) {
        (Amf0Value::Utf8String(name), Amf0Value::Number(transaction), object) => {
            Some((name, transaction, object, values.next()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn session() -> Session {
        let url = RtmpUrl::parse("rtmp://h/live/secret?token=t0ken").unwrap();
        Session::new(url, 1)
    }

    /// A server's command in one chunk.
    fn command(name: &str, transaction_id: f64, info: Amf0Value) -> Vec<u8> {
        let payload = RtmpMessage::Amf0Command {
            command_name: name.to_owned(),
            transaction_id,
            command_object: Amf0Value::Null,
            additional_arguments: vec![info],
        };
        let payload = payload
            .into_message_payload(RtmpTimestamp::new(0), 0)
            .unwrap();
        let message = Message {
            kind: 20,
            stream: 0,
            timestamp_ms: 0,
            payload: payload.data,
        };
        let mut out = BytesMut::new();
        chunk::write(&mut out, 3, 128, &message);
        out.to_vec()
    }

    fn info(level: &str, code: &str, description: &str) -> Amf0Value {
        let values = [
            ("level", level),
            ("code", code),
            ("description", description),
        ];
        let values =
            values.map(|(name, text)| (name.to_owned(), Amf0Value::Utf8String(text.to_owned())));
        Amf0Value::Object(HashMap::from(values))
    }

    fn shaken() -> Session {
        let mut session = session();
        session.handle(&[3; 1 + 2 * HANDSHAKE_BYTES]).unwrap();
        session
    }

    #[test]
    fn the_dialogue_of_an_encoder() {
        let mut session = shaken();
        session
            .handle(&command("_result", CONNECT, Amf0Value::Null))
            .unwrap();
        session
            .handle(&command("_result", CREATE_STREAM, Amf0Value::Number(1.0)))
            .unwrap();
        assert!(session.is_waiting_for_permission());
        let start = command(
            "onStatus",
            0.0,
            info("status", "NetStream.Publish.Start", ""),
        );
        let event = session.handle(&start).unwrap();
        assert_eq!(event, Some(Event::Publishing));
    }

    #[test]
    fn a_refusal_is_reported_without_the_key() {
        let mut session = shaken();
        let no = info(
            "error",
            "NetConnection.Connect.Rejected",
            "no live/secret?token=t0ken here",
        );
        let event = session.handle(&command("_error", CONNECT, no)).unwrap();
        let Some(Event::Refused(why)) = event else {
            panic!("{event:?}")
        };
        assert!(why.contains("NetConnection.Connect.Rejected"), "{why}");
        assert!(!why.contains("secret") && !why.contains("t0ken"), "{why}");
    }

    #[test]
    fn pings_are_answered() {
        let mut session = shaken();
        session.output().clear();
        session
            .handle(&[2, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0, 6, 1, 2, 3, 4])
            .unwrap();
        assert_eq!(
            session.output().as_ref(),
            [2, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0, 7, 1, 2, 3, 4]
        );
    }

    #[test]
    fn a_command_that_says_nothing_is_ignored() {
        let mut session = shaken();
        for kind in [17, 20] {
            let empty = [3, 0, 0, 0, 0, 0, 0, kind, 0, 0, 0, 0];
            assert!(matches!(session.handle(&empty), Ok(None)));
        }
    }

    proptest! {
        #[test]
        fn any_server_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..300), command_name in "[a-z_]{0,8}", number in any::<f64>()) {
            let mut session = shaken();
            let _ = session.handle(&command(&command_name, number, Amf0Value::Number(number)));
            let _ = session.handle(&command("_result", CONNECT, Amf0Value::Null));
            let _ = session.handle(&bytes);
        }
    }
}
