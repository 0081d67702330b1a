//! One RTP stream of a publisher: its receive buffer and its measurements.

use std::time::{Duration, Instant};

use media::Rate;

use super::policy;
use crate::sfu::packet::RtpPacket;
use crate::sfu::receive::{Counters, Policy, Receiver};
use crate::sfu::sdp::Taken;
use crate::sfu::types::StreamStats;

/// Rates are measured over about this long.
const METER: Duration = Duration::from_secs(1);

/// A stream; SSRC and buffer change when the sender starts it over.
#[derive(Debug)]
pub(super) struct Stream {
    rate: Rate,
    /// Payload types whose sender repairs, and whether it makes keyframes on request.
    policy: Policy,
    has_pli: bool,
    ssrc: Option<u32>,
    receiver: Receiver,
    /// Counters of buffers that were replaced.
    before: Counters,
    jitter: Jitter,
    meter: Meter,
    bytes: u64,
    units: u64,
    keyframes: u64,
}

impl Stream {
    pub(super) fn new(taken: Option<&Taken>, rate: Rate) -> Self {
        let policy = taken.map_or(Policy::UNREPAIRED, |taken| {
            let nack = taken.codecs.iter().any(|codec| codec.has_nack());
            policy(taken.media, nack)
        });
        let has_pli = taken.is_some_and(|taken| {
            taken
                .codecs
                .iter()
                .any(|codec| codec.feedback.contains(&"nack pli"))
        });
        Self {
            rate,
            policy,
            has_pli,
            ssrc: None,
            receiver: Receiver::new(policy),
            before: Counters::default(),
            jitter: Jitter::default(),
            meter: Meter::default(),
            bytes: 0,
            units: 0,
            keyframes: 0,
        }
    }

    /// Notes which stream the next packet is of; true when it replaces another.
    pub(super) fn enter(&mut self, ssrc: u32) -> bool {
        let replaces = self.ssrc.is_some_and(|held| held != ssrc);
        if replaces {
            self.before = self.totals();
            self.receiver = Receiver::new(self.policy);
            self.jitter = Jitter::default();
        }
        self.ssrc = Some(ssrc);
        replaces
    }

    pub(super) fn ssrc(&self) -> Option<u32> {
        self.ssrc
    }

    pub(super) fn has_pli(&self) -> bool {
        self.has_pli
    }

    pub(super) fn receiver(&mut self) -> &mut Receiver {
        &mut self.receiver
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.receiver.poll_timeout()
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        self.receiver.rtt()
    }

    /// Measures a packet that came by the direct way, `arrived` in nanoseconds.
    pub(super) fn measure(&mut self, packet: &RtpPacket, arrived: i64) {
        self.jitter.add(packet.timestamp, arrived, self.rate);
        let bytes = packet.payload.len() as u64;
        self.bytes += bytes;
        self.meter.add(packet.arrived, bytes, 0);
    }

    pub(super) fn count_unit(&mut self, now: Instant, keyframe: bool) {
        self.units += 1;
        self.keyframes += u64::from(keyframe);
        self.meter.add(now, 0, 1);
    }

    pub(super) fn totals(&self) -> Counters {
        let now = self.receiver.counters();
        Counters {
            packets: self.before.packets + now.packets,
            duplicates: self.before.duplicates + now.duplicates,
            lost: self.before.lost + now.lost,
            nacks: self.before.nacks + now.nacks,
            recovered: self.before.recovered + now.recovered,
            restarts: self.before.restarts + now.restarts,
        }
    }

    /// What is known; none before the first packet.
    pub(super) fn stats(&self, now: Instant) -> Option<StreamStats> {
        self.ssrc?;
        let totals = self.totals();
        let (bitrate_bps, fps) = self.meter.rates(now);
        Some(StreamStats {
            bitrate_bps,
            fps,
            packets: totals.packets,
            bytes: self.bytes,
            lost: totals.lost,
            recovered: totals.recovered,
            duplicates: totals.duplicates,
            nacks: totals.nacks,
            jitter_ms: self.jitter.millis,
            units: self.units,
            keyframes: self.keyframes,
            ..StreamStats::default()
        })
    }
}

/// Inter-arrival jitter (RFC 3550 §6.4.1).
#[derive(Debug, Default)]
struct Jitter {
    last: Option<(u32, i64)>,
    millis: f64,
}

impl Jitter {
    fn add(&mut self, timestamp: u32, arrived: i64, rate: Rate) {
        if let Some((last_timestamp, last_arrived)) = self.last.replace((timestamp, arrived)) {
            let ticks = timestamp.wrapping_sub(last_timestamp).cast_signed();
            let media_ms = f64::from(ticks) * 1_000.0 / f64::from(rate.hz());
            let elapsed = Duration::from_nanos(arrived.abs_diff(last_arrived));
            let arrived_ms = elapsed.as_secs_f64() * 1_000.0;
            self.millis += ((arrived_ms - media_ms).abs() - self.millis) / 16.0;
        }
    }
}

/// Rates over the last full second.
#[derive(Debug, Default)]
struct Meter {
    since: Option<Instant>,
    bytes: u64,
    units: u32,
    last: Option<(Instant, u64, f64)>,
}

impl Meter {
    fn add(&mut self, now: Instant, bytes: u64, units: u32) {
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= METER {
            let millis = u64::try_from(elapsed.as_millis())
                .unwrap_or(u64::MAX)
                .max(1);
            let bits = self.bytes.saturating_mul(8_000) / millis;
            let fps = f64::from(self.units) / elapsed.as_secs_f64();
            self.last = Some((now, bits, fps));
            (self.since, self.bytes, self.units) = (Some(now), 0, 0);
        }
        self.bytes += bytes;
        self.units += units;
    }

    fn rates(&self, now: Instant) -> (u64, f64) {
        self.last
            .filter(|(at, ..)| now.saturating_duration_since(*at) < METER * 3)
            .map_or((0, 0.0), |(_, bits, fps)| (bits, fps))
    }
}
