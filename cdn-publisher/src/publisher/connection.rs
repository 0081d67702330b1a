//! One connection of one destination: sockets around [`Session`] and [`Machine`].

use std::sync::Arc;
use std::time::Instant;

use media::flv::TagKind;
use media::{Kind, Track};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::destination::{Failure, Input};
use super::task::Shared;
use super::tls;
use crate::Error;
use crate::rtmp::session::{Event, Session};
use crate::rtmp::url::RtmpUrl;

/// Items are put into the output until it holds this many bytes: enough for one system call, little enough that a slow
/// server keeps them in the queue, where they can be dropped.
const OUTPUT_BYTES: usize = 64 << 10;
const READ_BYTES: usize = 4 << 10;

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Connects, publishes until something ends it, and says what. `None`: all was sent and the stream was ended.
pub(crate) async fn run(shared: &Shared, url: &RtmpUrl, random: u64) -> Option<Failure> {
    let socket = match open(shared, url).await {
        Ok(socket) => socket,
        Err(error) => return Some(Failure::Broken(error.to_string())),
    };
    shared.handle(Input::Connected);
    let (reader, writer) = tokio::io::split(socket);
    let connection = Connection {
        shared,
        session: Session::new(url.clone(), random),
        reader,
        writer,
        tracks: [None, None],
        unflushed: false,
    };
    connection.run().await
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the shell that opens sockets"
)]
async fn open(shared: &Shared, url: &RtmpUrl) -> Result<Box<dyn Socket>, Error> {
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await?;
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(std::time::Duration::from_secs(15));
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    if !url.tls {
        return Ok(Box::new(stream));
    }
    let config = tls::client_config(shared.extra_ca_file()).await?;
    let name = ServerName::try_from(url.host.clone())
        .map_err(|_| Error::Tls("the host is not a valid server name".to_owned()))?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    Ok(Box::new(stream))
}

struct Connection<'a> {
    shared: &'a Shared,
    session: Session,
    reader: ReadHalf<Box<dyn Socket>>,
    writer: WriteHalf<Box<dyn Socket>>,
    /// What the server was told about: audio, video.
    tracks: [Option<Arc<Track>>; 2],
    /// TLS holds bytes back until it is flushed.
    unflushed: bool,
}

impl Connection<'_> {
    async fn run(mut self) -> Option<Failure> {
        let mut buffer = [0; READ_BYTES];
        loop {
            self.fill();
            if self.session.output().is_empty() && !self.unflushed && self.shared.is_drained() {
                return self.finish().await;
            }
            let step = self.step(&mut buffer).await;
            match step {
                Ok(Some(Event::Publishing)) => {
                    tracing::info!(
                        channel = self.shared.channel(),
                        destination = self.shared.name(),
                        "publishing"
                    );
                    self.tracks = self.shared.tracks();
                    self.shared.handle(Input::Accepted);
                }
                Ok(Some(Event::Refused(why))) => return Some(Failure::Refused(why)),
                Ok(None) => {}
                Err(_) if self.session.is_waiting_for_permission() => {
                    return Some(Failure::HungUpOnPublish);
                }
                Err(error) => return Some(Failure::Broken(error.to_string())),
            }
        }
    }

    /// Moves items from the queue to the output.
    fn fill(&mut self) {
        while self.session.output().len() < OUTPUT_BYTES {
            let Some(item) = self.shared.next_item() else {
                return;
            };
            if self.session.is_new(item.tag.kind, &item.header) {
                let slot = match item.track.kind() {
                    Kind::Audio => self.tracks.first_mut(),
                    Kind::Video => self.tracks.last_mut(),
                };
                if let Some(slot) = slot {
                    *slot = Some(Arc::clone(&item.track));
                }
                let is_first = !self.session.has_headers();
                if is_first || item.tag.kind == TagKind::Video {
                    let tracks = [0, 1].map(|at| self.tracks.get(at).and_then(Option::as_deref));
                    let _ = self.session.send_metadata(item.tag.timestamp_ms, tracks);
                }
            }
            self.session.send_unit(&item.header, &item.tag);
        }
    }

    /// Waits for one thing: bytes taken, bytes read, or more to do.
    async fn step(&mut self, buffer: &mut [u8]) -> Result<Option<Event>, Error> {
        let output = self.session.output();
        let has_output = !output.is_empty();
        if has_output {
            self.shared.handle(Input::WriteBlocked);
        }
        let (writer, unflushed) = (&mut self.writer, self.unflushed);
        let send = async {
            if has_output {
                writer.write(output).await
            } else {
                writer.flush().await.map(|()| 0)
            }
        };
        tokio::select! {
            sent = send, if has_output || unflushed => {
                let sent = sent?;
                if has_output && sent == 0 {
                    return Err(std::io::Error::from(std::io::ErrorKind::WriteZero).into());
                }
                self.unflushed = has_output;
                if has_output {
                    let _ = output.split_to(sent);
                    let more = !output.is_empty();
                    self.shared.handle(Input::Sent { bytes: sent, more });
                }
                Ok(None)
            }
            read = self.reader.read(buffer) => {
                let length = read?;
                if length == 0 {
                    return Err(Error::Protocol("the server hung up".to_owned()));
                }
                self.session.handle(buffer.get(..length).unwrap_or_default())
            }
            () = self.shared.item(), if !has_output => Ok(None),
        }
    }

    async fn finish(mut self) -> Option<Failure> {
        if self.session.finish().is_ok() {
            let output = self.session.output().split();
            let _ = self.writer.write_all(&output).await;
            let _ = self.writer.flush().await;
        }
        let _ = self.writer.shutdown().await;
        // The server has until the deadline of the shutdown to read on; closing earlier could reset the connection.
        let mut buffer = [0; READ_BYTES];
        let last = std::time::Duration::from_millis(200);
        let _ = tokio::time::timeout(last, async {
            while self.reader.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
        })
        .await;
        None
    }
}

/// Now, for the machines of this crate.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the shell that reads clocks"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
