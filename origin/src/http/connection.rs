//! What a response of media needs from the connection that carries it.
//!
//! A response body is not polled while its socket is full, so it cannot end the connection of a viewer that has
//! stopped reading. The server that accepted the connection can: it puts a [`Connection`] into the extensions of
//! every request and drops the connection when [`Connection::cut_off`] returns.

use std::io;
use std::net::SocketAddr;

use axum::extract::Request;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// What the kernel may hold of a response that its peer's window and the network do not take yet.
const UNSENT_BYTES: u32 = 512 << 10;

/// A viewer's TCP connection. Cheap to clone; put it into the extensions of the connection's requests.
#[derive(Debug, Clone)]
pub struct Connection {
    peer: SocketAddr,
    cut: CancellationToken,
}

impl Connection {
    /// Prepares an accepted socket: writes leave at once (`TCP_NODELAY`), and what a viewer has not taken waits in
    /// this process, where it can be skipped, instead of in the kernel.
    ///
    /// # Errors
    /// When the kernel refuses an option, for example because the peer has closed already.
    pub fn new(socket: &TcpStream, peer: SocketAddr) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket2::SockRef::from(socket).set_tcp_notsent_lowat(UNSENT_BYTES)?;
        Ok(Self {
            peer,
            cut: CancellationToken::new(),
        })
    }

    /// Returns when the viewer on this connection has taken nothing for too long.
    pub async fn cut_off(&self) {
        self.cut.cancelled().await;
    }

    /// The peer of a request, if its server says.
    pub(crate) fn peer_of(request: &Request) -> Option<SocketAddr> {
        let connection: Option<&Self> = request.extensions().get();
        connection.map(|connection| connection.peer)
    }

    /// The handle that cuts a request's connection; one without effect when its server does not take part.
    pub(crate) fn cut_of(request: &Request) -> CancellationToken {
        let connection: Option<&Self> = request.extensions().get();
        connection.map_or_else(CancellationToken::new, |connection| connection.cut.clone())
    }
}
