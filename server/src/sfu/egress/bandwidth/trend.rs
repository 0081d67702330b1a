//! Whether a queue grows on the way: the slope of the delay over the newest groups of packets, against a threshold that
//! adapts to the path (draft-ietf-rmcat-gcc-02 §5.1, §5.4; the slope by least squares instead of a Kalman filter, as the
//! browsers have done since).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Packets sent within this are one group: delay lies between groups, not in them.
const GROUP: Duration = Duration::from_millis(5);
/// A group that arrives at once after a wait was held up somewhere; such groups count as one up to this long.
const MAX_BURST_US: i64 = 100_000;
/// Groups that the slope is drawn through.
const GROUPS: usize = 20;
/// Weight of the past in the smoothed delay.
const SMOOTHING: f64 = 0.9;
/// The slope is scaled by this, and by the number of groups up to [`MAX_WEIGHT`], before it is compared.
const GAIN: f64 = 4.0;
const MAX_WEIGHT: u32 = 60;
/// A queue must grow for so long.
const OVERUSE_MS: f64 = 10.0;
/// Ways of the threshold: up when the slope is beyond it, down when it is not, per millisecond.
const UP: f64 = 0.0087;
const DOWN: f64 = 0.039;
/// A jump of the receiver's clock.
const MAX_JUMP_US: i64 = 3_000_000;

/// What the path is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Usage {
    /// Delay stays as it is.
    #[default]
    Normal,
    /// A queue grows.
    Over,
    /// A queue drains.
    Under,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    first_sent: Instant,
    last_sent: Instant,
    first_us: i64,
    last_us: i64,
    bytes: u32,
}

/// The detector.
#[derive(Debug)]
pub(super) struct Trend {
    current: Option<Group>,
    previous: Option<Group>,
    /// Milliseconds since the first group.
    arrived_ms: f64,
    accumulated_ms: f64,
    smoothed_ms: f64,
    points: VecDeque<(f64, f64)>,
    count: u32,
    threshold: f64,
    over_ms: Option<f64>,
    over_count: u32,
    last_slope: f64,
    usage: Usage,
}

impl Default for Trend {
    fn default() -> Self {
        Self {
            current: None,
            previous: None,
            arrived_ms: 0.0,
            accumulated_ms: 0.0,
            smoothed_ms: 0.0,
            points: VecDeque::new(),
            count: 0,
            threshold: 12.5,
            over_ms: None,
            over_count: 0,
            last_slope: 0.0,
            usage: Usage::Normal,
        }
    }
}

impl Trend {
    /// What the path is doing.
    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// Takes a packet that arrived at `arrived_us` on the receiver's clock; what the path does when that has become
    /// clearer.
    pub(super) fn add(&mut self, sent: Instant, arrived_us: i64, bytes: u32) -> Option<Usage> {
        let fresh = Group {
            first_sent: sent,
            last_sent: sent,
            first_us: arrived_us,
            last_us: arrived_us,
            bytes,
        };
        let Some(group) = &mut self.current else {
            self.current = Some(fresh);
            return None;
        };
        if sent < group.first_sent {
            return None; // of a group that has been dealt with
        }
        if (arrived_us - group.last_us).abs() > MAX_JUMP_US {
            *self = Self {
                current: Some(fresh),
                ..Self::default()
            };
            return None;
        }
        let sent_us = sent.saturating_duration_since(group.last_sent).as_micros();
        let sent_us = i64::try_from(sent_us).unwrap_or(i64::MAX);
        let apart_us = arrived_us - group.last_us;
        let is_burst =
            apart_us <= 5_000 && apart_us < sent_us && arrived_us - group.first_us < MAX_BURST_US;
        if sent.saturating_duration_since(group.first_sent) <= GROUP || is_burst {
            group.last_sent = group.last_sent.max(sent);
            group.last_us = group.last_us.max(arrived_us);
            group.bytes = group.bytes.saturating_add(bytes);
            return None;
        }
        let closed = std::mem::replace(group, fresh);
        let previous = self.previous.replace(closed)?;
        let sent_ms = millis(
            closed
                .last_sent
                .saturating_duration_since(previous.last_sent),
        );
        let arrived_ms = micros(closed.last_us - previous.last_us);
        if arrived_ms < 0.0 {
            return None; // overtaken on the way
        }
        Some(self.measure(sent_ms, arrived_ms))
    }

    fn measure(&mut self, sent_ms: f64, arrived_ms: f64) -> Usage {
        self.count = (self.count + 1).min(1_000);
        self.arrived_ms += arrived_ms;
        self.accumulated_ms += arrived_ms - sent_ms;
        self.smoothed_ms = SMOOTHING * self.smoothed_ms + (1.0 - SMOOTHING) * self.accumulated_ms;
        self.points.push_back((self.arrived_ms, self.smoothed_ms));
        if self.points.len() > GROUPS {
            self.points.pop_front();
        }
        let slope = match self.points.len() < GROUPS {
            true => self.last_slope,
            false => slope(&self.points).unwrap_or(self.last_slope),
        };
        self.detect(slope, sent_ms, arrived_ms);
        self.usage
    }

    fn detect(&mut self, slope: f64, sent_ms: f64, arrived_ms: f64) {
        let scaled = f64::from(self.count.min(MAX_WEIGHT)) * slope * GAIN;
        if self.count < 2 {
            return;
        }
        if scaled > self.threshold {
            let over = self.over_ms.map_or(sent_ms / 2.0, |over| over + sent_ms);
            self.over_ms = Some(over);
            self.over_count += 1;
            if over > OVERUSE_MS && self.over_count > 1 && slope >= self.last_slope {
                self.over_ms = Some(0.0);
                self.over_count = 0;
                self.usage = Usage::Over;
            }
        } else {
            self.over_ms = None;
            self.over_count = 0;
            self.usage = match scaled < -self.threshold {
                true => Usage::Under,
                false => Usage::Normal,
            };
        }
        self.last_slope = slope;
        self.adapt(scaled.abs(), arrived_ms);
    }

    /// A path that trembles is given more room, so that it is not taken for one that fills; a spike is not.
    fn adapt(&mut self, magnitude: f64, passed_ms: f64) {
        if magnitude > self.threshold + 15.0 {
            return;
        }
        let gain = if magnitude < self.threshold { DOWN } else { UP };
        let step = gain * (magnitude - self.threshold) * passed_ms.min(100.0);
        self.threshold = (self.threshold + step).clamp(6.0, 600.0);
    }
}

/// The slope of the line through the points by least squares; none when they lie at one place.
fn slope(points: &VecDeque<(f64, f64)>) -> Option<f64> {
    let count = f64::from(u32::try_from(points.len()).ok()?);
    let (sum_x, sum_y) = points
        .iter()
        .fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), (x, y)| {
        let dx = x - mean_x;
        (above + dx * (y - mean_y), below + dx * dx)
    });
    (below > 0.0).then(|| above / below)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn micros(micros: i64) -> f64 {
    let bounded = micros.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
    i32::try_from(bounded).map_or(0.0, |micros| f64::from(micros) / 1_000.0)
}
