//! RTMP ingest: publishers' connections on TCP.
//!
//! The handshake and the chunk writer are the RTMP crate's; what reads from peers is our own ([`chunks`],
//! [`session`], [`crate::amf0`]) and total. Each connection runs in its own task: should one panic all the same, it
//! is counted and the others go on.

mod chunks;
mod connection;
mod session;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::hub::Hub;
use crate::metrics;

/// Pause after a failed accept, for example when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long connections may take to close after the server was told to stop.
const DRAIN: Duration = Duration::from_secs(1);

pub(crate) async fn serve(
    hub: Arc<Hub>,
    listener: TcpListener,
    cancel: CancellationToken,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(hub.config.rtmp_max_connections));
    let tracker = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = cancel.cancelled() => break,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept RTMP");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        ::metrics::counter!(metrics::CONNECTIONS).increment(1);
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            ::metrics::counter!(metrics::REFUSED, "reason" => "full").increment(1);
            continue;
        };
        let running = tokio::spawn(connection::run(
            Arc::clone(&hub),
            socket,
            peer,
            cancel.clone(),
        ));
        tracker.spawn(async move {
            let _place = place;
            if running.await.is_err_and(|error| error.is_panic()) {
                ::metrics::counter!(metrics::PANICS).increment(1);
                tracing::error!(%peer, "an RTMP connection panicked and was closed");
            }
        });
    }
    tracker.close();
    // Connections end by the same token; what does not is dropped with the runtime.
    let _ = tokio::time::timeout(DRAIN, tracker.wait()).await;
    Ok(())
}
