//! When packets may go: a leaky bucket, so that a keyframe does not leave in one burst and fill the queues on the way.
//!
//! Sound never waits; it is counted. Repetitions go before pictures, but have only a share of the rate, so that a storm of
//! requests cannot crowd the stream out that it wants repaired. An ordinary picture fits into the bucket and leaves at
//! once; only what is larger is spread.
//!
//! The rate follows the estimate, with headroom unless the stream is too large for it. An estimate also sinks below what is sent
//! where everything fits (arrivals tremble, and what is sent comes in bursts), and what is left out costs viewers seconds, up to
//! the next keyframe. So a stream is thinned only when the path shows that it is full, and then until the stream fits the estimate. Without an estimate it is a multiple of the
//! stream's own rate: who does not report is not slowed down.

use std::time::{Duration, Instant};

/// The bucket holds what goes out in so long.
const DEPTH: Duration = Duration::from_millis(20);
/// The smallest bucket, in bytes.
const MIN_DEPTH: f64 = 4_000.0;
/// Packets that wait are served this often.
const QUANTUM: Duration = Duration::from_millis(5);
/// Times the estimate.
const HEADROOM: f64 = 1.5;
/// Times the estimate that a stream may have without being left out in parts.
const TOLERANCE: f64 = 1.25;
/// Times the stream's own rate, without an estimate, and at least this.
const MULTIPLE: f64 = 4.0;
const MIN_UNKNOWN_BPS: f64 = 12_000_000.0;
/// Share of the rate for repetitions, and at least this.
const REPEAT_SHARE: f64 = 0.25;
const MIN_REPEAT_BPS: f64 = 64_000.0;
/// Repetitions may save up for so long.
const REPEAT_DEPTH_S: f64 = 0.5;

/// The buckets, in bytes.
#[derive(Debug)]
pub(super) struct Pacer {
    bps: f64,
    credit: f64,
    repeats: f64,
    at: Option<Instant>,
    /// The stream is too large for the path, and left out in parts.
    thins: bool,
}

impl Default for Pacer {
    fn default() -> Self {
        let bps = MIN_UNKNOWN_BPS;
        Self {
            bps,
            credit: depth(bps),
            repeats: repeat_depth(bps),
            at: None,
            thins: false,
        }
    }
}

impl Pacer {
    /// Sets the rate and fills up to `now`. `stream_bps` is what is published; `is_full` tells whether the path shows that
    /// it does not carry that.
    pub(super) fn refill(
        &mut self,
        now: Instant,
        estimate_bps: Option<f64>,
        stream_bps: f64,
        is_full: bool,
    ) {
        let is_over = estimate_bps.is_some_and(|bps| stream_bps > bps * TOLERANCE);
        self.thins = is_over && (self.thins || is_full);
        self.bps = match estimate_bps {
            Some(bps) if self.thins => bps,
            Some(bps) => bps.max(stream_bps) * HEADROOM,
            None => (stream_bps * MULTIPLE).max(MIN_UNKNOWN_BPS),
        };
        let passed = self
            .at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.at = Some(now);
        let bytes = self.bps / 8.0 * passed.as_secs_f64();
        self.credit = (self.credit + bytes).min(depth(self.bps));
        let share = (self.bps * REPEAT_SHARE).max(MIN_REPEAT_BPS) / self.bps;
        self.repeats = (self.repeats + bytes * share).min(repeat_depth(self.bps));
    }

    /// A packet may go.
    pub(super) fn may_send(&self) -> bool {
        self.credit > 0.0
    }

    /// A repetition may go.
    pub(super) fn may_repeat(&self) -> bool {
        self.repeats > 0.0
    }

    /// So many bytes go.
    pub(super) fn spend(&mut self, bytes: usize, is_repeat: bool) {
        let bytes = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        // Sound goes in any case; its debt is bounded, so that pictures come through in the end.
        self.credit = (self.credit - bytes).max(-depth(self.bps));
        if is_repeat {
            self.repeats -= bytes;
        }
    }

    /// When something that waits may go.
    pub(super) fn next(&self, now: Instant) -> Instant {
        let seconds = (-self.credit).max(0.0) * 8.0 / self.bps;
        now + QUANTUM.max(Duration::from_secs_f64(seconds.min(1.0)))
    }
}

fn depth(bps: f64) -> f64 {
    (bps / 8.0 * DEPTH.as_secs_f64()).max(MIN_DEPTH)
}

fn repeat_depth(bps: f64) -> f64 {
    ((bps * REPEAT_SHARE).max(MIN_REPEAT_BPS) / 8.0 * REPEAT_DEPTH_S).max(MIN_DEPTH)
}
