//! Finding room: now and then a short burst of repetitions on top of the stream, when more is published than the path is known
//! to carry. What of it arrives, and how fast, the estimate learns ([`super::bandwidth`]).
//!
//! Invariant: a burst lasts [`LENGTH`], or until it has enough packets to tell something, and asks for at most twice the
//! estimate. They are [`SPACING`] apart, further with each that found nothing.

use std::time::{Duration, Instant};

const LENGTH: Duration = Duration::from_millis(60);
/// A burst has as many bytes at least: ten packets.
const MIN_BYTES: f64 = 12_000.0;
const SPACING: Duration = Duration::from_secs(4);
const MAX_SPACING: Duration = Duration::from_secs(32);
/// Times the estimate.
const REACH: f64 = 2.0;
/// Times what is wanted.
const MARGIN: f64 = 1.25;

#[derive(Debug)]
struct Burst {
    until: Instant,
    at: Instant,
    bps: f64,
    credit: f64,
}

/// The schedule.
#[derive(Debug)]
pub(super) struct Probe {
    burst: Option<Burst>,
    next: Option<Instant>,
    spacing: Duration,
    /// The estimate when the last burst began.
    before: f64,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            burst: None,
            next: None,
            spacing: SPACING,
            before: 0.0,
        }
    }
}

impl Probe {
    /// `wanted_bps` could be sent over a path that is known to carry `estimate_bps`. True when a burst begins.
    pub(super) fn want(&mut self, now: Instant, wanted_bps: f64, estimate_bps: f64) -> bool {
        if self.burst.is_some() || wanted_bps <= estimate_bps {
            return false;
        }
        if *self.next.get_or_insert(now + SPACING / 2) > now {
            return false;
        }
        let has_found = estimate_bps > self.before * 1.2;
        self.spacing = match has_found {
            true => SPACING,
            false => (self.spacing * 2).min(MAX_SPACING),
        };
        self.before = estimate_bps;
        self.next = Some(now + self.spacing);
        let bps = (wanted_bps * MARGIN).min(estimate_bps * REACH);
        let seconds = (MIN_BYTES * 8.0 / bps).clamp(LENGTH.as_secs_f64(), 1.0);
        self.burst = Some(Burst {
            until: now + Duration::from_secs_f64(seconds),
            at: now,
            bps,
            credit: 0.0,
        });
        true
    }

    /// A burst is on its way; so is everything that is sent meanwhile.
    pub(super) fn is_active(&self) -> bool {
        self.burst.is_some()
    }

    /// Whether a packet is to be added now.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        let Some(burst) = &mut self.burst else {
            return false;
        };
        let passed = now.saturating_duration_since(burst.at).as_secs_f64();
        burst.at = now;
        burst.credit += burst.bps / 8.0 * passed;
        if now >= burst.until {
            self.burst = None;
            return false;
        }
        burst.credit >= 0.0
    }

    /// So many bytes have been sent.
    pub(super) fn spend(&mut self, bytes: usize) {
        if let Some(burst) = &mut self.burst {
            burst.credit -= f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
    }
}
