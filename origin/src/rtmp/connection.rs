//! One publisher's connection: socket, handshake, session, stream.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::session::{self, Event, Session};
use crate::hub::{Closed, Hub, Publishing, is_name};
use crate::{Denied, metrics, stream};

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
    #[error("{code}: {reason}")]
    Refused { code: &'static str, reason: String },
    #[error(transparent)]
    Io(#[from] io::Error),
}

pub(crate) async fn run(
    hub: Arc<Hub>,
    socket: TcpStream,
    peer: SocketAddr,
    cancel: CancellationToken,
) {
    let mut connection = Connection {
        hub,
        socket,
        session: None,
        publishing: None,
        name: String::new(),
    };
    let end = tokio::select! {
        end = connection.serve() => end,
        () = cancel.cancelled() => Err(refused("NetConnection.Connect.Closed", "the server is shutting down")),
    };
    let Err(end) = end else { return };
    if let End::Refused { code, reason } = &end {
        ::metrics::counter!(metrics::REFUSED, "reason" => *code).increment(1);
        // The peer may be gone already; then it cannot be told.
        let _ = tokio::time::timeout(GOODBYE, connection.say_goodbye(code, reason)).await;
    }
    match &end {
        End::Peer => tracing::info!(%peer, channel = connection.name, "RTMP publisher left"),
        End::Session(_) | End::Handshake(_) => {
            ::metrics::counter!(metrics::BAD_INPUT).increment(1);
            tracing::warn!(%peer, channel = connection.name, error = %end, "RTMP connection closed");
        }
        End::Idle | End::Refused { .. } | End::Io(_) => {
            tracing::warn!(%peer, channel = connection.name, error = %end, "RTMP connection closed");
        }
    }
}

struct Connection {
    hub: Arc<Hub>,
    socket: TcpStream,
    session: Option<Session>,
    publishing: Option<Publishing>,
    /// The stream that is published, for the log.
    name: String,
}

fn refused(code: &'static str, reason: impl Into<String>) -> End {
    End::Refused {
        code,
        reason: reason.into(),
    }
}

impl Connection {
    async fn serve(&mut self) -> Result<(), End> {
        self.socket.set_nodelay(true)?;
        let patience = Duration::from_millis(self.hub.config.rtmp_handshake_timeout_ms);
        tokio::time::timeout(patience, self.begin())
            .await
            .map_err(|_| End::Idle)??;
        let idle = Duration::from_millis(self.hub.config.rtmp_idle_timeout_ms);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = tokio::time::timeout(idle, self.socket.read(&mut buffer));
            let count = read.await.map_err(|_| End::Idle)??;
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
        self.session = Some(Session::new(self.hub.config.rtmp_max_message_bytes));
        if !rest.is_empty() {
            self.input(&rest).await?;
        }
        while self.publishing.is_none() {
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
        let result = session.handle(bytes);
        while let Some(event) = self.session.as_mut().and_then(Session::poll_event) {
            self.event(event)?;
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

    fn event(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Publish { app, name, key } => self.publish(&app, &name, key.as_deref()),
            Event::Play => Err(refused(
                "NetStream.Play.Failed",
                "this server plays by HTTP-FLV and HLS, not by RTMP",
            )),
            Event::Tag(tag) => match &self.publishing {
                Some(publishing) => publishing.push(tag).map_err(|error| refusal(&error)),
                None => Ok(()),
            },
            Event::Unpublish => {
                self.publishing = None;
                Err(End::Peer)
            }
        }
    }

    fn publish(&mut self, app: &str, name: &str, key: Option<&str>) -> Result<(), End> {
        const BAD_NAME: &str = "NetStream.Publish.BadName";
        if app != self.hub.config.rtmp_app {
            let expected = &self.hub.config.rtmp_app;
            return Err(refused(
                BAD_NAME,
                format!("the application is not {expected}: publish to /{expected}/<stream>"),
            ));
        }
        if !is_name(name) {
            let rule = "a stream's name consists of letters, digits, - _ . ~ (at most 128)";
            return Err(refused(BAD_NAME, rule));
        }
        name.clone_into(&mut self.name);
        if let Err(denied) = self.hub.access.may_publish(name, key) {
            let code = match denied {
                Denied::Unauthorized => "NetStream.Publish.Unauthorized",
                Denied::Forbidden(_) => "NetStream.Publish.Denied",
            };
            return Err(refused(code, denied.to_string()));
        }
        let publishing = self.hub.publish(name).map_err(|closed| match closed {
            Closed::Stream(error) => refusal(&error),
            Closed::Full(_) | Closed::ShuttingDown | Closed::Unknown => {
                refused("NetStream.Publish.Failed", closed.to_string())
            }
        })?;
        self.publishing = Some(publishing);
        if let Some(session) = &mut self.session {
            session.accept()?;
        }
        tracing::info!(channel = name, "RTMP publisher accepted");
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

fn refusal(error: &stream::Error) -> End {
    let code = match error {
        stream::Error::Busy => "NetStream.Publish.BadName",
        stream::Error::Replaced => "NetStream.Unpublish.Success",
        stream::Error::Ended => "NetStream.Publish.Failed",
        stream::Error::Media(_) => "NetStream.Publish.Rejected",
    };
    refused(code, error.to_string())
}
