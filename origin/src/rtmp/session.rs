//! The server's side of one RTMP connection after its handshake, sans-IO. Source: Adobe RTMP specification 1.0, §7.2.
//!
//! Bytes in; events and bytes to send out. Commands are answered the way encoders expect it; refusals are `onStatus`
//! or `_error` messages with a code and a reason before the connection closes.
//!
//! Invariant: media is passed on only between an accepted `publish` and its end, from the message stream it was
//! accepted on.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use media::flv::{Tag, TagKind};
use rml_rtmp::chunk_io::ChunkSerializer;
use rml_rtmp::messages::MessagePayload;
use rml_rtmp::time::RtmpTimestamp;

use super::chunks::{self, Message, Reader, be32, kind};
use super::query::{self, Query};
use crate::amf0::{self, Value};

/// Our chunk size.
const CHUNK_BYTES: u32 = 4_096;
/// How many bytes the peer may send before we must acknowledge, and the other way around.
const WINDOW_BYTES: u32 = 2_500_000;
/// The largest command or metadata message.
const MAX_COMMAND_BYTES: usize = 64 << 10;
/// The message stream that every `createStream` gets: one publication per connection.
const STREAM: u32 = 1;

/// What the connection has to react to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// A client wants to publish; answer with [`Session::accept`] or [`Session::refuse`].
    Publish {
        app: String,
        name: String,
        query: Query,
    },
    /// A client wants to play, which this server offers by HTTP only.
    Play,
    /// Media or metadata of the accepted publication.
    Tag(Tag),
    /// The publication has ended.
    Unpublish,
}

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Chunks(#[from] chunks::Error),
    #[error("a command is not AMF0, or exceeds {MAX_COMMAND_BYTES} bytes")]
    BadCommand,
    #[error("a message could not be written: {0}")]
    Write(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Fresh,
    Connected,
    /// `publish` was received and not answered.
    Asking,
    Publishing,
    Over,
}

pub(crate) struct Session {
    reader: Reader,
    writer: ChunkSerializer,
    out: Vec<u8>,
    events: VecDeque<Event>,
    state: State,
    app: String,
    /// Query of the application, where some encoders put the token.
    app_query: Query,
    received: u32,
    acknowledged: u32,
    window: u32,
}

impl Session {
    pub(crate) fn new(max_message_bytes: usize) -> Self {
        Self {
            reader: Reader::new(max_message_bytes),
            writer: ChunkSerializer::new(),
            out: Vec::new(),
            events: VecDeque::new(),
            state: State::Fresh,
            app: String::new(),
            app_query: Query::default(),
            received: 0,
            acknowledged: 0,
            window: WINDOW_BYTES,
        }
    }

    /// Takes bytes from the peer.
    ///
    /// # Errors
    /// [`Error`]: the connection must be closed, after what [`Session::take_output`] holds was sent.
    pub(crate) fn handle(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.received = self
            .received
            .wrapping_add(u32::try_from(bytes.len()).unwrap_or_default());
        if self.received.wrapping_sub(self.acknowledged) >= self.window {
            self.acknowledged = self.received;
            self.send(3, 0, Bytes::copy_from_slice(&self.received.to_be_bytes()))?;
        }
        self.reader.push(bytes);
        while let Some(message) = self.reader.next_message()? {
            self.message(message)?;
        }
        Ok(())
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes to send to the peer.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Accepts the publication that was asked for.
    pub(crate) fn accept(&mut self) -> Result<(), Error> {
        self.state = State::Publishing;
        self.stream_begin(STREAM)?;
        self.status("status", "NetStream.Publish.Start", "publishing")
    }

    /// Refuses or ends the publication with a code and a reason.
    pub(crate) fn refuse(&mut self, code: &str, reason: &str) -> Result<(), Error> {
        self.state = State::Over;
        self.status("error", code, reason)
    }

    fn message(&mut self, message: Message) -> Result<(), Error> {
        match message.kind {
            kind::WINDOW_ACK_SIZE => {
                self.window = be32(&message.body)
                    .unwrap_or(WINDOW_BYTES)
                    .clamp(4_096, 1 << 30);
                Ok(())
            }
            kind::AUDIO => self.tag(TagKind::Audio, message),
            kind::VIDEO => self.tag(TagKind::Video, message),
            kind::DATA => self.data(message),
            kind::DATA_AMF3 => self.data(without_amf3_mark(message)),
            kind::COMMAND => self.command(&message),
            kind::COMMAND_AMF3 => self.command(&without_amf3_mark(message)),
            kind::AGGREGATE => {
                self.aggregate(&message);
                Ok(())
            }
            // Acknowledgements, pings and the like need no answer here.
            _ => Ok(()),
        }
    }

    fn tag(&mut self, kind: TagKind, message: Message) -> Result<(), Error> {
        if self.state == State::Publishing && message.stream == STREAM {
            self.events.push_back(Event::Tag(Tag {
                kind,
                timestamp_ms: message.timestamp_ms,
                body: message.body,
            }));
        }
        Ok(())
    }

    /// `@setDataFrame onMetaData {…}` and plain `onMetaData {…}`.
    fn data(&mut self, mut message: Message) -> Result<(), Error> {
        const SET_DATA_FRAME: &[u8] = b"\x02\x00\x0d@setDataFrame";
        if message.body.len() > MAX_COMMAND_BYTES {
            return Err(Error::BadCommand);
        }
        if message.body.starts_with(SET_DATA_FRAME) {
            message.body = message.body.slice(SET_DATA_FRAME.len()..);
        }
        const ON_META_DATA: &[u8] = b"\x02\x00\x0aonMetaData";
        if message.body.starts_with(ON_META_DATA) {
            return self.tag(TagKind::Script, message);
        }
        Ok(())
    }

    /// Several tags in one message (§7.1.6): their times are relative to the first.
    fn aggregate(&mut self, message: &Message) {
        let mut rest = message.body.clone();
        let mut first = None;
        while let Some(&[kind, s0, s1, s2, t0, t1, t2, t3, ..]) = rest.get(..11) {
            let size = usize::try_from(u32::from_be_bytes([0, s0, s1, s2])).unwrap_or(usize::MAX);
            if rest.len() < 11 + size {
                return;
            }
            let time = u32::from_be_bytes([t3, t0, t1, t2]);
            let base = *first.get_or_insert(time);
            let kind = match kind {
                8 => Some(TagKind::Audio),
                9 => Some(TagKind::Video),
                _ => None,
            };
            if let Some(kind) = kind.filter(|_| self.state == State::Publishing) {
                self.events.push_back(Event::Tag(Tag {
                    kind,
                    timestamp_ms: message.timestamp_ms.wrapping_add(time.wrapping_sub(base)),
                    body: rest.slice(11..11 + size),
                }));
            }
            rest = rest.slice((11 + size + 4).min(rest.len())..);
        }
    }

    fn command(&mut self, message: &Message) -> Result<(), Error> {
        if message.body.len() > MAX_COMMAND_BYTES {
            return Err(Error::BadCommand);
        }
        let values = amf0::read(&message.body).ok_or(Error::BadCommand)?;
        let mut values = values.into_iter();
        let name = values.next();
        let name = name.as_ref().and_then(Value::as_text);
        let transaction = values.next().and_then(|value| value.as_number());
        let transaction = transaction.unwrap_or_default();
        let object = values.next().unwrap_or(Value::Null);
        let first = values.next();
        match name {
            Some("connect") => self.connect(transaction, &object),
            Some("createStream") => {
                self.result(transaction, Value::Null, Value::Number(f64::from(STREAM)))
            }
            Some("publish") => self.publish(first.as_ref()),
            Some("play") => {
                self.events.push_back(Event::Play);
                Ok(())
            }
            Some("FCUnpublish" | "deleteStream" | "closeStream") => {
                if self.state == State::Publishing {
                    self.state = State::Connected;
                    self.events.push_back(Event::Unpublish);
                }
                Ok(())
            }
            Some("releaseStream" | "FCPublish") => {
                self.result(transaction, Value::Null, Value::Null)
            }
            // Anything else, also answers to commands we never sent, changes nothing.
            Some(_) => Ok(()),
            None => Err(Error::BadCommand),
        }
    }

    fn connect(&mut self, transaction: f64, object: &Value) -> Result<(), Error> {
        if self.state != State::Fresh {
            return Ok(());
        }
        let app = object
            .get("app")
            .and_then(Value::as_text)
            .unwrap_or_default();
        let (app, query) = query::split(app);
        self.app = app.trim_matches('/').to_owned();
        self.app_query = query;
        self.state = State::Connected;
        let window = Bytes::copy_from_slice(&WINDOW_BYTES.to_be_bytes());
        self.send(kind::WINDOW_ACK_SIZE, 0, window.clone())?;
        let mut bandwidth = BytesMut::from(window.as_ref());
        bandwidth.extend_from_slice(&[2]);
        self.send(6, 0, bandwidth.freeze())?;
        let packet = self
            .writer
            .set_max_chunk_size(CHUNK_BYTES, RtmpTimestamp::new(0))
            .map_err(|error| Error::Write(error.to_string()))?;
        self.out.extend(packet.bytes);
        let properties = Value::Object(vec![
            ("fmsVer".to_owned(), Value::text("FMS/3,5,7,7009")),
            ("capabilities".to_owned(), Value::Number(31.0)),
        ]);
        let mut information = status_object(
            "status",
            "NetConnection.Connect.Success",
            "connection accepted",
        );
        information.push(("objectEncoding".to_owned(), Value::Number(0.0)));
        self.result(transaction, properties, Value::Object(information))
    }

    fn publish(&mut self, name: Option<&Value>) -> Result<(), Error> {
        let Some(name) = name.and_then(Value::as_text) else {
            return self.refuse("NetStream.Publish.BadName", "publish needs a stream name");
        };
        match self.state {
            State::Connected => {}
            State::Fresh => {
                return self.refuse("NetStream.Publish.Failed", "connect comes before publish");
            }
            State::Asking | State::Publishing | State::Over => {
                return self.refuse("NetStream.Publish.Failed", "one publication per connection");
            }
        }
        let (name, mut query) = query::split(name);
        query.extend(&self.app_query);
        self.state = State::Asking;
        self.events.push_back(Event::Publish {
            app: self.app.clone(),
            name: name.to_owned(),
            query,
        });
        Ok(())
    }

    fn result(&mut self, transaction: f64, object: Value, value: Value) -> Result<(), Error> {
        self.send_command(
            0,
            &[
                Value::text("_result"),
                Value::Number(transaction),
                object,
                value,
            ],
        )
    }

    fn status(&mut self, level: &str, code: &str, description: &str) -> Result<(), Error> {
        let information = Value::Object(status_object(level, code, description));
        self.send_command(
            STREAM,
            &[
                Value::text("onStatus"),
                Value::Number(0.0),
                Value::Null,
                information,
            ],
        )
    }

    fn stream_begin(&mut self, stream: u32) -> Result<(), Error> {
        let mut body = BytesMut::from(&[0u8, 0][..]);
        body.extend_from_slice(&stream.to_be_bytes());
        self.send(4, 0, body.freeze())
    }

    fn send_command(&mut self, stream: u32, values: &[Value]) -> Result<(), Error> {
        let mut body = BytesMut::new();
        amf0::write(values, &mut body);
        self.send(kind::COMMAND, stream, body.freeze())
    }

    fn send(&mut self, type_id: u8, message_stream_id: u32, data: Bytes) -> Result<(), Error> {
        let payload = MessagePayload {
            timestamp: RtmpTimestamp::new(0),
            type_id,
            message_stream_id,
            data,
        };
        let packet = self
            .writer
            .serialize(&payload, false, false)
            .map_err(|error| Error::Write(error.to_string()))?;
        self.out.extend(packet.bytes);
        Ok(())
    }
}

fn status_object(level: &str, code: &str, description: &str) -> Vec<(String, Value)> {
    [
        ("level", level),
        ("code", code),
        ("description", description),
    ]
    .map(|(name, value)| (name.to_owned(), Value::text(value)))
    .into()
}

/// AMF3 messages of encoders are AMF0 behind a zero byte.
fn without_amf3_mark(mut message: Message) -> Message {
    if message.body.first() == Some(&0) {
        message.body = message.body.slice(1..);
    }
    message
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
