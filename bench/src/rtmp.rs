//! Viewers by RTMP, for peers that do not speak HTTP-FLV (nginx with its RTMP module).

use std::time::Instant;

use anyhow::Context;
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::viewer::{Picture, Seen, Watch, number};

const READ_BYTES: usize = 128 << 10;

/// Plays `live/bench` until the measurement is over.
pub(crate) async fn watch_rtmp(port: u16, watch: Watch) -> anyhow::Result<Seen> {
    let begun = Instant::now();
    let mut seen = Seen::default();
    let mut over = watch.over.clone();
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.set_nodelay(true)?;
    let mut buffer = vec![0; READ_BYTES];
    let left = shake_hands(&mut socket, &mut buffer).await?;
    let (mut session, mut results) = ClientSession::new(ClientSessionConfig::new())?;
    results.push(session.request_connection("live".into())?);
    results.extend(session.handle_input(&left)?);
    loop {
        let now = Instant::now();
        for result in std::mem::take(&mut results) {
            match result {
                ClientSessionResult::OutboundResponse(packet) => {
                    socket.write_all(&packet.bytes).await?;
                }
                ClientSessionResult::RaisedEvent(ClientSessionEvent::ConnectionRequestAccepted) => {
                    results.push(session.request_playback("bench".into())?);
                }
                ClientSessionResult::RaisedEvent(ClientSessionEvent::VideoDataReceived {
                    timestamp,
                    data,
                }) => {
                    if data.get(1) == Some(&1) {
                        let keyframe = data.first().is_some_and(|frame| frame >> 4 == 1);
                        let picture = Picture {
                            timestamp_ms: timestamp.value,
                            keyframe,
                            number: number(&data),
                        };
                        seen.note(picture, begun, now, &watch);
                    }
                }
                ClientSessionResult::RaisedEvent(_)
                | ClientSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
        if !results.is_empty() {
            continue;
        }
        let length = tokio::select! {
            _ = over.wait_for(|over| *over) => return Ok(seen),
            length = socket.read(&mut buffer) => length?,
        };
        anyhow::ensure!(length > 0, "the server closed the connection of a viewer");
        results = session.handle_input(buffer.get(..length).unwrap_or_default())?;
    }
}

/// The RTMP handshake; returns what the server sent after it.
async fn shake_hands(socket: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<Vec<u8>> {
    let mut handshake = Handshake::new(PeerType::Client);
    socket
        .write_all(&handshake.generate_outbound_p0_and_p1()?)
        .await?;
    loop {
        let length = socket.read(buffer).await?;
        anyhow::ensure!(length > 0, "no RTMP handshake");
        let bytes = buffer.get(..length).context("a read beyond its buffer")?;
        match handshake.process_bytes(bytes)? {
            HandshakeProcessResult::InProgress { response_bytes } => {
                socket.write_all(&response_bytes).await?
            }
            HandshakeProcessResult::Completed {
                response_bytes,
                remaining_bytes,
            } => {
                socket.write_all(&response_bytes).await?;
                return Ok(remaining_bytes);
            }
        }
    }
}
