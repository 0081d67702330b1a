//! The HTTP shell: accepts connections and serves a router on them.
//!
//! axum's own `serve` hides the connection options that a public port needs: a deadline for request headers (slow
//! senders), a bound on connections, `TCP_NODELAY` (a media chunk must not wait for an acknowledgement), and an end
//! that waits for requests but not for endless streams.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

/// Options of the HTTP port.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections at once; more wait in the kernel's queue.
    pub max_connections: usize,
    /// A client that has not sent its request headers by then is disconnected.
    pub header_timeout: Duration,
    /// How long requests in flight may take to end at shutdown.
    pub drain: Duration,
}

/// Opens the listening socket.
///
/// # Errors
/// With the address in the message, since "address in use" alone helps nobody.
pub async fn bind(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    use anyhow::Context;
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the shell that opens the TCP ports"
    )]
    let listener = TcpListener::bind(address).await;
    let remedy = match listener.as_ref().map_err(std::io::Error::kind) {
        Err(std::io::ErrorKind::AddrInUse) => {
            "another program is on that port: stop it, or choose another port"
        }
        Err(std::io::ErrorKind::AddrNotAvailable) => {
            "this machine has no such address: choose one of its own, or 0.0.0.0 for all"
        }
        Err(std::io::ErrorKind::PermissionDenied) => {
            "ports below 1024 are reserved: choose another one"
        }
        Ok(_) | Err(_) => "choose another one",
    };
    listener.with_context(|| format!("cannot listen on {address} for {what}; {remedy}"))
}

/// Serves `router` until `stop` is cancelled, then lets requests in flight end for at most [`Options::drain`].
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: Options,
    stop: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(options.max_connections));
    let connections = TaskTracker::new();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, options, stop) = (router.clone(), options.clone(), stop.clone());
                connections.spawn(async move {
                    serve_connection(stream, peer, router, options, stop).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: give connections a moment to end instead of spinning.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    connections.close();
    if tokio::time::timeout(options.drain, connections.wait())
        .await
        .is_err()
    {
        debug!(
            open = connections.len(),
            "connections left open at shutdown"
        );
    }
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    options: Options,
    stop: CancellationToken,
) {
    let Ok(viewer) = origin::Connection::new(&stream, peer) else {
        return;
    };
    let media = viewer.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(media.clone());
        let router = router.clone();
        async move {
            use tower_service::Service;
            let mut router = router;
            Ok::<_, Infallible>(
                router
                    .call(request)
                    .await
                    .unwrap_or_else(|never| match never {}),
            )
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = viewer.cut_off() => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "HTTP connection ended");
    }
}
