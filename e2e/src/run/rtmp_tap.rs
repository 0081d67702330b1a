//! A wire tap in front of an RTMP server: it forwards bytes, keeps what the publisher sends, and tells how many
//! connections there were, from which ports, and what went over each with which timestamps.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use media::flv::{Tag, TagKind};
use rml_rtmp::chunk_io::ChunkDeserializer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// C0, C1 and C2 of the handshake (RTMP 1.0 §5.2).
const HANDSHAKE_BYTES: usize = 1 + 1536 + 1536;

/// One connection of the publisher.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The publisher's address: its port is the identity of the TCP connection.
    pub peer: SocketAddr,
    /// Everything the publisher sent.
    sent: Arc<Mutex<Vec<u8>>>,
    /// Neither side has closed it.
    pub open: bool,
}

/// The tap. Connections end when it is dropped.
#[derive(Debug)]
pub struct RtmpTap {
    port: u16,
    connections: Arc<Mutex<Vec<Connection>>>,
    task: JoinHandle<()>,
}

impl RtmpTap {
    /// Listens on a free port and forwards to `target` on loopback.
    ///
    /// # Errors
    /// When no port is free.
    #[expect(clippy::disallowed_methods, reason = "the shell of the tests")]
    pub async fn start(target: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let connections = Arc::<Mutex<Vec<Connection>>>::default();
        let task = tokio::spawn(accept(listener, target, Arc::clone(&connections)));
        Ok(Self {
            port,
            connections,
            task,
        })
    }

    /// Where to push.
    #[must_use]
    pub fn url(&self, stream: &str) -> String {
        format!("rtmp://127.0.0.1:{}/live/{stream}", self.port)
    }

    /// All connections so far that reached the server behind, in order.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for RtmpTap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// The media that the publisher sent, as FLV tags.
    ///
    /// # Errors
    /// When the bytes are not RTMP.
    pub fn tags(&self) -> anyhow::Result<Vec<Tag>> {
        let sent = self
            .sent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut bytes = sent.get(HANDSHAKE_BYTES..).unwrap_or_default();
        let mut reader = ChunkDeserializer::new();
        let mut tags = Vec::new();
        while let Some(message) = reader
            .get_next_message(bytes)
            .map_err(|error| anyhow!("{error}"))?
        {
            bytes = &[];
            let kind = match message.type_id {
                1 => {
                    let size: [u8; 4] = message.data.as_ref().try_into().context("a chunk size")?;
                    let size = usize::try_from(u32::from_be_bytes(size))?;
                    reader
                        .set_max_chunk_size(size)
                        .map_err(|error| anyhow!("{error}"))?;
                    continue;
                }
                8 => TagKind::Audio,
                9 => TagKind::Video,
                _ => continue,
            };
            let body = Bytes::copy_from_slice(&message.data);
            tags.push(Tag {
                kind,
                timestamp_ms: message.timestamp.value,
                body,
            });
        }
        Ok(tags)
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell of the tests")]
async fn accept(listener: TcpListener, target: u16, connections: Arc<Mutex<Vec<Connection>>>) {
    while let Ok((publisher, peer)) = listener.accept().await {
        // A server that is down shows as a connection that is closed at once, as behind a balancer.
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else {
            continue;
        };
        let sent = Arc::default();
        let index = {
            let mut list = connections.lock().unwrap_or_else(PoisonError::into_inner);
            list.push(Connection {
                peer,
                sent: Arc::clone(&sent),
                open: true,
            });
            list.len() - 1
        };
        let connections = Arc::clone(&connections);
        tokio::spawn(async move {
            let (from_publisher, to_publisher) = publisher.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                () = forward(from_publisher, to_server, Some(&sent)) => {}
                () = forward(from_server, to_publisher, None) => {}
            }
            if let Some(connection) = connections
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_mut(index)
            {
                connection.open = false;
            }
        });
    }
}

async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    kept: Option<&Mutex<Vec<u8>>>,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let bytes = buffer.get(..length).unwrap_or_default();
        if let Some(kept) = kept {
            kept.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(bytes);
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
