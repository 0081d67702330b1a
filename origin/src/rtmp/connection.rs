//! One publisher's connection: socket, handshake, session, stream.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::session::{self, Event, Session};
use super::{Ingest, Publication, Refusal, Request, Settings, code};
use crate::clock;

/// Bytes read from the socket at a time.
const READ_BYTES: usize = 64 << 10;
/// How long a refusal may take to reach the peer before the connection closes.
const GOODBYE: Duration = Duration::from_millis(500);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the peer closed the connection")]
    Peer,
    #[error("no byte arrived in time")]
    Idle,
    #[error("the handshake failed: {0}")]
    Handshake(String),
    #[error(transparent)]
    Session(#[from] session::Error),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Io(#[from] io::Error),
}

pub(crate) async fn run<I: Ingest>(
    ingest: Arc<I>,
    settings: Arc<Settings>,
    socket: TcpStream,
    peer: SocketAddr,
    cancel: CancellationToken,
) {
    let mut connection = Connection {
        ingest,
        settings,
        peer,
        socket,
        session: None,
        publication: None,
        name: String::new(),
    };
    let end = tokio::select! {
        end = connection.serve() => end,
        () = cancel.cancelled() => {
            let reason = "the server is shutting down";
            Err(Refusal::new("NetConnection.Connect.Closed", reason).into())
        }
    };
    let Err(end) = end else { return };
    // Whoever publishes there next need not wait for the goodbye.
    connection.publication = None;
    if let End::Refused(Refusal { code, reason }) = &end {
        ::metrics::counter!(I::COUNTERS.refused, "reason" => *code).increment(1);
        // The peer may be gone already; then it cannot be told.
        let _ = tokio::time::timeout(GOODBYE, connection.say_goodbye(code, reason)).await;
    }
    match &end {
        End::Peer => tracing::info!(%peer, channel = connection.name, "RTMP publisher left"),
        End::Session(_) | End::Handshake(_) => {
            ::metrics::counter!(I::COUNTERS.bad_input).increment(1);
            tracing::warn!(%peer, channel = connection.name, error = %end, "RTMP connection closed");
        }
        End::Idle | End::Refused(_) | End::Io(_) => {
            tracing::warn!(%peer, channel = connection.name, error = %end, "RTMP connection closed");
        }
    }
}

struct Connection<I: Ingest> {
    ingest: Arc<I>,
    settings: Arc<Settings>,
    peer: SocketAddr,
    socket: TcpStream,
    session: Option<Session>,
    publication: Option<I::Publication>,
    /// The stream that is published, for the log.
    name: String,
}

impl<I: Ingest> Connection<I> {
    async fn serve(&mut self) -> Result<(), End> {
        self.socket.set_nodelay(true)?;
        tokio::time::timeout(self.settings.handshake_timeout, self.begin())
            .await
            .map_err(|_| End::Idle)??;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = self.socket.read(&mut buffer);
            let count = match &mut self.publication {
                Some(publication) => tokio::select! {
                    read = tokio::time::timeout(self.settings.idle_timeout, read) => read,
                    refusal = publication.ended() => return Err(refusal.into()),
                },
                None => return Err(End::Peer),
            };
            let count = count.map_err(|_| End::Idle)??;
            self.input(buffer.get(..count).unwrap_or_default()).await?;
        }
    }

    /// Handshake and commands, up to an accepted `publish`.
    async fn begin(&mut self) -> Result<(), End> {
        let mut handshake = Handshake::new(PeerType::Server);
        let mut buffer = vec![0; READ_BYTES];
        let rest = loop {
            let count = self.socket.read(&mut buffer).await?;
            if count == 0 {
                return Err(End::Peer);
            }
            let bytes = buffer.get(..count).unwrap_or_default();
            let result = handshake
                .process_bytes(bytes)
                .map_err(|error| End::Handshake(error.to_string()))?;
            match result {
                HandshakeProcessResult::InProgress { response_bytes } => {
                    self.socket.write_all(&response_bytes).await?;
                }
                HandshakeProcessResult::Completed {
                    response_bytes,
                    remaining_bytes,
                } => {
                    self.socket.write_all(&response_bytes).await?;
                    break remaining_bytes;
                }
            }
        };
        self.session = Some(Session::new(self.settings.max_message_bytes));
        if !rest.is_empty() {
            self.input(&rest).await?;
        }
        while self.publication.is_none() {
            let count = self.socket.read(&mut buffer).await?;
            self.input(buffer.get(..count).unwrap_or_default()).await?;
        }
        Ok(())
    }

    /// Bytes of the peer; none means that it has closed the connection.
    async fn input(&mut self, bytes: &[u8]) -> Result<(), End> {
        let Some(session) = &mut self.session else {
            return Err(End::Peer);
        };
        if bytes.is_empty() {
            return Err(End::Peer);
        }
        let now = clock::now();
        if let Some(publication) = &mut self.publication {
            publication.received(now, bytes.len())?;
        }
        let result = session.handle(bytes);
        while let Some(event) = self.session.as_mut().and_then(Session::poll_event) {
            self.event(now, event).await?;
        }
        self.send_output().await?;
        Ok(result?)
    }

    async fn send_output(&mut self) -> Result<(), End> {
        let output = self.session.as_mut().map(Session::take_output);
        if let Some(output) = output.filter(|output| !output.is_empty()) {
            self.socket.write_all(&output).await?;
        }
        Ok(())
    }

    async fn event(&mut self, now: Instant, event: Event) -> Result<(), End> {
        match event {
            Event::Publish { app, name, query } => {
                let request = Request {
                    stream: name,
                    query,
                    peer: self.peer,
                };
                self.publish(&app, request).await
            }
            Event::Play => {
                let reason = "this server plays by HTTP-FLV and HLS, not by RTMP";
                Err(Refusal::new("NetStream.Play.Failed", reason).into())
            }
            Event::Tag(tag) => match &mut self.publication {
                Some(publication) => Ok(publication.push(now, tag)?),
                None => Ok(()),
            },
            Event::Unpublish => {
                self.publication = None;
                Err(End::Peer)
            }
        }
    }

    async fn publish(&mut self, app: &str, request: Request) -> Result<(), End> {
        let expected = &self.settings.app;
        if app != expected {
            let reason =
                format!("the application is not {expected}: publish to /{expected}/<stream>");
            return Err(Refusal::new(code::BAD_NAME, reason).into());
        }
        request.stream.clone_into(&mut self.name);
        self.publication = Some(self.ingest.publish(request).await?);
        if let Some(session) = &mut self.session {
            session.accept()?;
        }
        tracing::info!(peer = %self.peer, channel = self.name, "RTMP publisher accepted");
        Ok(())
    }

    async fn say_goodbye(&mut self, code: &str, reason: &str) -> Result<(), End> {
        if let Some(session) = &mut self.session {
            session.refuse(code, reason)?;
        }
        self.send_output().await?;
        self.socket.shutdown().await?;
        // Closing with unread input would reset the connection and take the message with it.
        let mut sink = [0; 4_096];
        while self.socket.read(&mut sink).await? > 0 {}
        Ok(())
    }
}
