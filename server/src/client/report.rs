//! What the publishers have done: counters they share with a reporter that prints a line every few seconds.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

/// Time between two lines.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// Counters of one publisher.
#[derive(Debug, Default)]
pub(super) struct Stats {
    /// Whether media flows now.
    pub(super) live: AtomicBool,
    /// Wall clock of media time zero, in microseconds since 1970: when the first picture was "captured". 0: not yet.
    pub(super) epoch_unix_us: AtomicU64,
    /// Pictures sent.
    pub(super) frames: AtomicU64,
    /// RTP payload sent, in bytes.
    pub(super) bytes: AtomicU64,
    /// Sessions lost and begun again.
    pub(super) reconnects: AtomicU64,
    /// Last round trip measured, in microseconds; 0: not yet.
    pub(super) rtt_us: AtomicU64,
    /// Last loss reported by the receiver, in millionths.
    pub(super) loss_ppm: AtomicU64,
    /// The latest that a unit was sent after its time since the last line, in microseconds.
    pub(super) late_us: AtomicU64,
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// No lines.
    Quiet,
    /// For people.
    Text,
    /// One JSON object per line, for programs.
    Json,
}

/// One line: the last interval, summed or worst over all publishers.
#[derive(Debug, Default, Serialize)]
struct Line {
    at_s: f64,
    publishers: usize,
    live: usize,
    fps: f64,
    kbps: f64,
    rtt_ms: f64,
    loss_percent: f64,
    late_ms: f64,
    reconnects: u64,
    frames: u64,
    /// When the first picture of the first publisher was captured, in microseconds since 1970.
    first_picture_unix_us: u64,
}

/// Prints what happened between two calls.
#[derive(Debug)]
pub(super) struct Reporter {
    style: Style,
    publishers: Vec<Arc<Stats>>,
    elapsed: Duration,
    frames: u64,
    bytes: u64,
}

impl Reporter {
    /// A reporter over all publishers of this process.
    pub(super) fn new(style: Style, publishers: Vec<Arc<Stats>>) -> Self {
        Self {
            style,
            publishers,
            elapsed: Duration::ZERO,
            frames: 0,
            bytes: 0,
        }
    }

    /// Prints one line; `elapsed` is the time since the start.
    pub(super) fn tick(&mut self, elapsed: Duration) {
        let line = self.measure(elapsed);
        let text = match self.style {
            Style::Quiet => return,
            Style::Json => serde_json::to_string(&line).unwrap_or_default(),
            Style::Text => line.to_string(),
        };
        // Nobody reading is no reason to stop publishing
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// A remark for people.
    pub(super) fn say(&self, text: &str) {
        if self.style == Style::Text {
            let _ = writeln!(std::io::stdout().lock(), "{text}");
        }
    }

    fn measure(&mut self, elapsed: Duration) -> Line {
        let sum = |of: fn(&Stats) -> &AtomicU64| -> u64 {
            self.publishers
                .iter()
                .map(|stats| of(stats).load(Relaxed))
                .sum()
        };
        let worst = |of: fn(&Stats) -> &AtomicU64| -> u64 {
            let values = self.publishers.iter().map(|stats| of(stats).load(Relaxed));
            values.max().unwrap_or(0)
        };
        let late = self
            .publishers
            .iter()
            .map(|stats| stats.late_us.swap(0, Relaxed));
        let late_us = late.max().unwrap_or(0);
        let (frames, bytes) = (sum(|stats| &stats.frames), sum(|stats| &stats.bytes));
        let first = self.publishers.first();
        let span = elapsed
            .saturating_sub(self.elapsed)
            .as_secs_f64()
            .max(0.001);
        let live = self
            .publishers
            .iter()
            .filter(|stats| stats.live.load(Relaxed));
        let line = Line {
            at_s: (elapsed.as_secs_f64() * 10.0).round() / 10.0,
            publishers: self.publishers.len(),
            live: live.count(),
            fps: float(frames - self.frames) / span,
            kbps: float(bytes - self.bytes) * 8.0 / 1_000.0 / span,
            rtt_ms: float(worst(|stats| &stats.rtt_us)) / 1_000.0,
            loss_percent: float(worst(|stats| &stats.loss_ppm)) / 10_000.0,
            late_ms: float(late_us) / 1_000.0,
            reconnects: sum(|stats| &stats.reconnects),
            frames,
            first_picture_unix_us: first.map_or(0, |stats| stats.epoch_unix_us.load(Relaxed)),
        };
        (self.elapsed, self.frames, self.bytes) = (elapsed, frames, bytes);
        line
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match (self.publishers, self.live) {
            (1, 1) => "live".to_owned(),
            (1, _) => "away".to_owned(),
            (all, live) => format!("{live}/{all} live"),
        };
        write!(
            f,
            "{:>7.0} s  {state}  {:.1} fps  {:.2} Mb/s  rtt {:.1} ms  loss {:.1} %  late {:.1} ms  reconnects {}",
            self.at_s,
            self.fps,
            self.kbps / 1_000.0,
            self.rtt_ms,
            self.loss_percent,
            self.late_ms,
            self.reconnects
        )
    }
}

/// Counters as floating point: exact up to 2^53, which no counter here reaches.
#[expect(clippy::cast_precision_loss, reason = "counters stay far below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_the_rate_of_its_own_interval() {
        let stats = Arc::new(Stats::default());
        stats.live.store(true, Relaxed);
        let mut reporter = Reporter::new(Style::Text, vec![Arc::clone(&stats)]);
        stats.frames.store(150, Relaxed);
        let first = reporter.measure(Duration::from_secs(5));
        stats.frames.store(151, Relaxed);
        stats.bytes.store(1_000_000, Relaxed);
        let second = reporter.measure(Duration::from_secs(6));
        assert!((first.fps - 30.0).abs() < 1e-9 && (second.fps - 1.0).abs() < 1e-9);
        assert!((second.kbps - 8_000.0).abs() < 1e-9);
        assert!(first.to_string().contains("live  30.0 fps"), "{first}");
    }
}
