//! Fan-out: one stream, many viewers; what each costs, how long pictures take, whether everyone gets everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::node::Node;
use crate::rtmp::watch_rtmp;
use crate::source::{FPS, Source};
use crate::viewer::{Seen, Watch, watch_flv};

/// Result of one round.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fanout {
    /// CPU of the server, milliseconds per viewer and second. Includes the ingest of the one stream.
    pub(crate) cpu_ms: f64,
    /// From handing a picture to the publisher to its last byte at a viewer.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Slowest first keyframe after connect.
    pub(crate) first_max_ms: f64,
    pub(crate) first_p50_ms: f64,
    /// Pictures per second of the viewer that got the fewest.
    pub(crate) least_fps: f64,
    /// Pictures per second that the server was given meanwhile, at most.
    pub(crate) sent_fps: f64,
}

/// `viewers` watch `node` for `duration`.
pub(crate) async fn fan_out(
    node: &Node,
    viewers: usize,
    duration: Duration,
) -> anyhow::Result<Fanout> {
    let source = Source::start(node.rtmp).await?;
    tokio::time::sleep(Duration::from_millis(1_500)).await; // a keyframe is in the cache
    let (end, over) = tokio::sync::watch::channel(false);
    let watch = Watch {
        times: source.times.clone(),
        counting: Arc::new(AtomicBool::new(false)),
        over,
    };
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..viewers {
        let watch = watch.clone();
        match node.http {
            0 => tasks.spawn(watch_rtmp(node.rtmp, watch)),
            port => tasks.spawn(watch_flv(port, "/live/bench.flv".into(), watch)),
        };
        // spread over time, as viewers come
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (cpu, begun) = (node.cpu_ms()?, Instant::now());
    watch.counting.store(true, Relaxed);
    tokio::time::sleep(duration).await;
    watch.counting.store(false, Relaxed);
    let (cpu, elapsed_s) = (node.cpu_ms()? - cpu, begun.elapsed().as_secs_f64());
    end.send_replace(true);
    let mut seen = Vec::new();
    while let Some(viewer) = tasks.join_next().await {
        seen.push(viewer??);
    }
    source.stop().await;
    Ok(summary(&seen, cpu, elapsed_s))
}

fn summary(seen: &[Seen], cpu_ms: f64, elapsed_s: f64) -> Fanout {
    let mut latencies: Vec<u64> = seen
        .iter()
        .flat_map(|seen| seen.latencies_us.iter().copied())
        .collect();
    latencies.sort_unstable();
    let mut firsts: Vec<u64> = seen
        .iter()
        .map(|seen| {
            seen.first.map_or(u64::MAX, |first| {
                u64::try_from(first.as_micros()).unwrap_or(u64::MAX)
            })
        })
        .collect();
    firsts.sort_unstable();
    let least = seen.iter().map(|seen| seen.pictures).min().unwrap_or(0);
    Fanout {
        cpu_ms: cpu_ms / float(u64::try_from(seen.len()).unwrap_or(1)) / elapsed_s,
        p50_ms: percentile(&latencies, 50) / 1_000.0,
        p99_ms: percentile(&latencies, 99) / 1_000.0,
        first_max_ms: percentile(&firsts, 100) / 1_000.0,
        first_p50_ms: percentile(&firsts, 50) / 1_000.0,
        least_fps: float(least) / elapsed_s,
        sent_fps: float(FPS),
    }
}

/// The value below which `percent` of the sorted values lie.
pub(crate) fn percentile(sorted: &[u64], percent: usize) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get(last * percent / 100)
        .map_or(f64::NAN, |value| float(*value))
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn float(value: u64) -> f64 {
    value as f64
}
