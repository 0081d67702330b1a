//! What runs beside the media: the self-test at the start, and regular upkeep.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::channel::manager::Manager;
use crate::selftest::{self, Reachability};

/// How often the node tells the registry how busy it is.
const REPORT: Duration = Duration::from_secs(2);

/// Probes the advertised addresses; the result appears in the returned cell.
pub(super) fn self_test(addresses: Vec<SocketAddr>) -> Arc<OnceLock<Vec<Reachability>>> {
    let cell = Arc::new(OnceLock::new());
    let result = Arc::clone(&cell);
    tokio::spawn(async move {
        let probed = selftest::probe(addresses).await;
        for Reachability { address, reachable } in &probed {
            if *reachable {
                info!(%address, "self-test: the WebRTC port answers");
            } else {
                warn!(
                    %address,
                    "self-test: the WebRTC port does not answer on this advertised address. If broadcasters cannot \
                     connect, check webrtc.external_ips and the firewall for this UDP port (behind some NATs the \
                     test fails although it works)"
                );
            }
        }
        let _ = result.set(probed);
    });
    cell
}

/// Reports to the registry and keeps metrics in shape until `stop`.
pub(super) fn upkeep(
    manager: Manager,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(REPORT);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let snapshots = manager.snapshots().await;
            let sessions = snapshots
                .iter()
                .map(|snapshot| snapshot.participants.len())
                .sum::<usize>();
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            manager
                .deps()
                .registry
                .report(count(snapshots.len()), count(sessions));
            metrics::gauge!("anchornet_channels").set(count(snapshots.len()));
            metrics::gauge!("anchornet_participants").set(count(sessions));
            metrics.run_upkeep();
        }
    })
}

/// Ends the channels that turn out to be another node's, until `stop`.
pub(super) fn end_lost_channels(manager: Manager, stop: CancellationToken) {
    let watching = async move {
        loop {
            let lost = manager.deps().registry.lost().await;
            let handle = lost.channel.parse().ok();
            let Some(handle) = handle.and_then(|channel| manager.local(&channel)) else {
                continue;
            };
            warn!(
                channel = lost.channel,
                owner = lost.owner,
                "ending the channel here: its broadcasters reconnect and are sent to the owner"
            );
            handle.close().await;
        }
    };
    tokio::spawn(stop.run_until_cancelled_owned(watching));
}
