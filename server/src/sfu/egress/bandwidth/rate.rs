//! What delay allows: up carefully, down at once (draft-ietf-rmcat-gcc-02 §5.5).

use std::time::{Duration, Instant};

use super::trend::Usage;

/// An estimate never sinks below this: sound and a trickle of pictures.
pub(super) const MIN_BPS: f64 = 50_000.0;
/// Nor does it rise above this.
const MAX_BPS: f64 = 100_000_000.0;
/// What remains of what arrived when a queue grows.
const BACK_OFF: f64 = 0.85;
/// Growth per second far from where a queue grew last.
const GROWTH: f64 = 1.08;
/// An estimate grows to this many times what arrives.
const HEADROOM: f64 = 1.5;
/// Near where a queue grew last: within this share of it.
const NEAR: f64 = 0.2;
/// Bits of the packet by which it grows there, per round trip.
const PACKET_BITS: f64 = 9_600.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Hold,
    Increase,
}

/// The rate.
#[derive(Debug)]
pub(super) struct Control {
    bps: f64,
    state: State,
    /// What arrived when a queue grew, smoothed.
    capacity: Option<f64>,
    changed: Option<Instant>,
    decreased: Option<Instant>,
}

impl Control {
    pub(super) fn new(start_bps: f64) -> Self {
        Self {
            bps: start_bps.clamp(MIN_BPS, MAX_BPS),
            state: State::Hold,
            capacity: None,
            changed: None,
            decreased: None,
        }
    }

    pub(super) fn bps(&self) -> f64 {
        self.bps
    }

    /// Takes the state of the path, and what arrives: now, and at most in the last seconds.
    pub(super) fn update(
        &mut self,
        now: Instant,
        usage: Usage,
        arriving: Option<(f64, f64)>,
        rtt: Duration,
    ) {
        let (arriving, peak) = arriving.unzip();
        let passed = self
            .changed
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.changed = Some(now);
        match usage {
            Usage::Over => self.decrease(now, arriving, rtt),
            // The queue drains: what is sent now is right.
            Usage::Under => self.state = State::Hold,
            Usage::Normal if self.state == State::Hold => self.state = State::Increase,
            Usage::Normal => self.increase(passed, peak, rtt),
        }
    }

    fn decrease(&mut self, now: Instant, arriving: Option<f64>, rtt: Duration) {
        self.state = State::Hold;
        let Some(arriving) = arriving else { return };
        // One decrease has to show before the next, unless what arrives is far below.
        let pause = rtt.clamp(Duration::from_millis(50), Duration::from_millis(300));
        let is_early = self
            .decreased
            .is_some_and(|at| now.saturating_duration_since(at) < pause);
        if is_early && arriving > self.bps / 2.0 {
            return;
        }
        self.decreased = Some(now);
        self.capacity = Some(match self.capacity {
            // Far from what was known: the path has changed.
            Some(known) if (known - arriving).abs() < known * NEAR * 2.0 => {
                known * 0.9 + arriving * 0.1
            }
            Some(_) | None => arriving,
        });
        self.bps = self.bps.min(arriving * BACK_OFF).max(MIN_BPS);
    }

    fn increase(&mut self, passed: Duration, peak: Option<f64>, rtt: Duration) {
        let Some(arriving) = peak else { return };
        let seconds = passed.as_secs_f64().min(1.0);
        let is_near = |known: f64| (arriving - known).abs() < known * NEAR;
        if self
            .capacity
            .is_some_and(|known| arriving > known * (1.0 + NEAR))
        {
            self.capacity = None;
        }
        let raised = if self.capacity.is_some_and(is_near) {
            let response = (rtt + Duration::from_millis(100)).as_secs_f64();
            self.bps + PACKET_BITS * seconds / response
        } else {
            (self.bps * GROWTH.powf(seconds)).max(self.bps + 1_000.0 * seconds)
        };
        let limit = arriving * HEADROOM + 10_000.0;
        if self.bps < limit {
            self.bps = raised.min(limit).min(MAX_BPS);
        }
    }

    /// A probe has shown so much.
    pub(super) fn believe(&mut self, now: Instant, bps: f64) {
        if bps > self.bps {
            self.bps = bps.min(MAX_BPS);
            self.capacity = None;
            self.changed = Some(now);
            self.state = State::Hold;
        }
    }
}
