//! How much the path to one subscriber carries: an estimate from the arrivals that it reports (draft-ietf-rmcat-gcc-02,
//! draft-holmer-rmcat-transport-wide-cc-extensions-01). Sans-IO.
//!
//! Every packet of the session gets a number; feedback says when each number arrived. [`trend`] tells from the arrivals
//! whether a queue grows on the way, [`rate`] steers by that, [`loss`] steps in where packets vanish without a queue. The
//! estimate is the lower of the two.
//!
//! What is sent is what somebody publishes, not what the path would bear, so an estimate grows to half as much again as
//! what arrives and not further. A *probe* (a burst of repetitions, marked when sent) shows whether there is room for a
//! larger layer: what of it arrives, as fast as it arrives, is believed at once.
//!
//! Invariants:
//! - There is no estimate before [`WARM_UP`] of feedback, and none after [`SILENCE`] without: who does not report is not
//!   slowed down.
//! - At most [`history::CAPACITY`] packets are remembered.

mod history;
mod loss;
mod queue;
mod rate;
mod trend;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::history::History;
use self::loss::Loss;
use self::queue::Queue;
use self::rate::Control;
use self::trend::Trend;
use crate::sfu::packet::Arrivals;

/// Feedback for so long makes an estimate.
const WARM_UP: Duration = Duration::from_millis(500);
/// After so long without feedback there is none any more.
const SILENCE: Duration = Duration::from_secs(3);
/// What arrives is measured over so long: a burst of pictures shows the path's rate, a longer time the stream's.
const WINDOW_US: i64 = 200_000;
/// The most that has arrived counts for so long: streams come in bursts, with a keyframe every few seconds.
const PEAK: Duration = Duration::from_secs(3);
/// Fewer packets of a probe than this tell nothing.
const MIN_PROBE: usize = 5;
/// A probe is judged when so much time has passed since its last packet was sent, or earlier when all have arrived.
const PROBE_WAIT: Duration = Duration::from_millis(500);
/// A path on which packets wait for longer is full.
const FULL_MS: i64 = 150;

/// What has arrived lately, by the receiver's clock.
#[derive(Debug, Default)]
struct Window {
    arrivals: VecDeque<(i64, u32)>,
    bytes: u64,
}

impl Window {
    fn add(&mut self, arrived_us: i64, bytes: u32) {
        self.arrivals.push_back((arrived_us, bytes));
        self.bytes += u64::from(bytes);
        while let Some((at, old)) = self.arrivals.front().copied() {
            if at >= arrived_us - WINDOW_US && self.arrivals.len() <= history::CAPACITY {
                return;
            }
            self.arrivals.pop_front();
            self.bytes -= u64::from(old);
        }
    }

    /// Bits per second; none before there is half a window.
    fn bps(&self) -> Option<f64> {
        let (first, (last, _)) = (self.arrivals.front()?.0, *self.arrivals.back()?);
        let micros = last - first;
        (micros >= WINDOW_US / 4).then(|| per_second(self.bytes, micros))
    }
}

fn per_second(bytes: u64, micros: i64) -> f64 {
    let micros = u32::try_from(micros.max(1)).unwrap_or(u32::MAX);
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    f64::from(bytes) * 8_000_000.0 / f64::from(micros)
}

/// A probe that is on its way.
#[derive(Debug)]
struct Probe {
    /// Number of its first packet.
    first: u64,
    packets: usize,
    began: Instant,
    ended: Instant,
    bytes: u64,
    /// Of those that have arrived: count, bytes, first and last arrival.
    arrived: usize,
    arrived_bytes: u64,
    first_us: i64,
    last_us: i64,
}

/// The estimate for one subscriber.
#[derive(Debug)]
pub(super) struct Bandwidth {
    history: History,
    trend: Trend,
    queue: Queue,
    control: Control,
    loss: Loss,
    window: Window,
    /// The most that has arrived lately, and when.
    peak: Option<(f64, Instant)>,
    probe: Option<Probe>,
    /// First and newest feedback.
    heard: Option<(Instant, Instant)>,
    rtt: Duration,
}

impl Bandwidth {
    /// Begins at `start_bps`.
    pub(super) fn new(start_bps: f64) -> Self {
        Self {
            history: History::default(),
            trend: Trend::default(),
            queue: Queue::default(),
            control: Control::new(start_bps),
            loss: Loss::default(),
            window: Window::default(),
            peak: None,
            probe: None,
            heard: None,
            rtt: Duration::from_millis(100),
        }
    }

    /// A packet of so many bytes goes out; its number.
    pub(super) fn sent(&mut self, now: Instant, bytes: usize, is_probe: bool) -> u16 {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let number = self.history.add(now, bytes);
        if is_probe {
            let probe = self.probe.get_or_insert(Probe {
                first: number,
                packets: 0,
                began: now,
                ended: now,
                bytes: 0,
                arrived: 0,
                arrived_bytes: 0,
                first_us: i64::MAX,
                last_us: i64::MIN,
            });
            probe.packets += 1;
            probe.ended = now;
            // The last packet of a burst says nothing about how long it took to send.
            probe.bytes += u64::from(bytes);
        }
        history::wire(number)
    }

    /// Takes feedback.
    pub(super) fn handle_arrivals(&mut self, now: Instant, arrivals: &Arrivals) {
        let (mut lost, mut total) = (0_u32, 0_u32);
        let mut usage = None;
        for (number, time) in arrivals.iter() {
            let Some(micros) = time else {
                if self.history.miss(number) {
                    lost += 1;
                    total += 1;
                }
                continue;
            };
            let Some((index, sent)) = self.history.take(number) else {
                continue;
            };
            total += 1;
            let passed = now.saturating_duration_since(sent.at);
            self.rtt = (self.rtt * 7 + passed.min(Duration::from_secs(2))) / 8;
            self.window.add(micros, sent.bytes);
            self.queue.add(sent.at, micros);
            if let Some(probe) = &mut self.probe
                && index >= probe.first
                && index < probe.first + probe.packets as u64
            {
                probe.arrived += 1;
                probe.arrived_bytes += u64::from(sent.bytes);
                probe.first_us = probe.first_us.min(micros);
                probe.last_us = probe.last_us.max(micros);
            }
            usage = self.trend.add(sent.at, micros, sent.bytes).or(usage);
        }
        if total == 0 {
            return;
        }
        let began = self.heard.map_or(now, |(began, last)| {
            let resumed = now.saturating_duration_since(last) > SILENCE;
            if resumed { now } else { began }
        });
        self.heard = Some((began, now));
        let arriving = self.window.bps();
        let usage = usage.unwrap_or(self.trend.usage());
        let held = self.peak.filter(|(bps, at)| {
            let is_old = now.saturating_duration_since(*at) > PEAK;
            !is_old && arriving.is_none_or(|arriving| arriving < *bps)
        });
        self.peak = held.or(arriving.map(|arriving| (arriving, now)));
        let peak = self.peak.map(|(bps, _)| bps);
        self.control
            .update(now, usage, arriving.zip(peak), self.rtt);
        let held = self.control.bps();
        self.loss.update(now, lost, total, held, self.rtt);
        self.judge_probe(now);
    }

    fn judge_probe(&mut self, now: Instant) {
        let Some(probe) = &self.probe else { return };
        let is_over = now.saturating_duration_since(probe.ended) > PROBE_WAIT;
        if probe.arrived < probe.packets && !is_over {
            return;
        }
        if probe.arrived >= MIN_PROBE && probe.arrived * 5 >= probe.packets * 4 {
            let took = probe.ended.saturating_duration_since(probe.began);
            let micros = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
            // Between the first and the last packet passes the time that all but one of them take.
            let share = |bytes: u64, count: usize| bytes - bytes / count.max(1) as u64;
            let sent = per_second(share(probe.bytes, probe.packets), micros);
            let arrived = per_second(
                share(probe.arrived_bytes, probe.arrived),
                probe.last_us - probe.first_us,
            );
            // What is held back on the way has shown the path's end.
            let shown = if arrived < sent * 0.9 {
                arrived * 0.95
            } else {
                sent.min(arrived)
            };
            self.control.believe(now, shown);
            self.loss.forget();
        }
        self.probe = None;
    }

    /// A probe begins; one that is on its way is given up.
    pub(super) fn begin_probe(&mut self) {
        self.probe = None;
    }

    /// Bits per second that the path carries, if that is known.
    pub(super) fn estimate_bps(&self, now: Instant) -> Option<f64> {
        let (began, last) = self.heard?;
        let is_fresh = now.saturating_duration_since(last) <= SILENCE;
        let is_warm = last.saturating_duration_since(began) >= WARM_UP;
        let bps = self.loss.limit().min(self.control.bps());
        (is_fresh && is_warm).then_some(bps)
    }

    /// The path shows that it does not carry `bps`: packets wait for long, or more of them vanish than are repaired.
    pub(super) fn is_full(&self, bps: f64) -> bool {
        self.queue.ms() > FULL_MS || self.loss.limit() < bps
    }

    /// The queue on the way grows.
    pub(super) fn is_congested(&self) -> bool {
        self.trend.usage() == trend::Usage::Over
    }

    /// The share of packets that is lost.
    pub(super) fn lost(&self) -> f64 {
        self.loss.fraction()
    }

    /// The time from sending to feedback, smoothed; what the receiver waits with its feedback is part
    /// of it. None before the first.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.heard.map(|_| self.rtt)
    }
}

#[cfg(test)]
mod tests;
