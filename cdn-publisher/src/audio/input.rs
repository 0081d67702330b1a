//! The sound of one source, at its place on the program's timeline.
//!
//! Packets wait, in order of capture time, until the bus reads the samples that they hold: decoding as late as possible
//! gives the network the most time, and usually the packet behind a lost one is there for its error correction.
//! Decoded samples form a *run*: a contiguous stretch of the source's own samples, read at a rate that follows its clock
//! ([`Drift`]) from an anchor that is a whole program sample.
//!
//! What is missing inside a run is recovered, or concealed for at most [`CONCEAL_SAMPLES`] ([`DTX_CONCEAL_SAMPLES`] when the
//! sender fell silent on purpose); then the run fades out and ends, and the next packet starts a new one, faded in. Between
//! runs there is exact silence.
//!
//! *Lock.* Where the sound comes as AAC, its own units may be published in place of an encoder's ([`super::splice`]). Then the
//! run is brought onto the grid of the program's units ([`Rescale`]) and read sample by sample, whatever its clock does:
//! [`AudioInput::unit_at`] gives the coded unit, and [`AudioInput::error_samples`] what the program's clock has to make up for.
//!
//! While locked it may also *sleep*: units are taken in their order without being decoded. What is read then is nothing;
//! [`AudioInput::rewrite`] decodes the last of them after all, when their sound is wanted.
//!
//! Positions are counted in samples of the source's own rate; the bus may have another.
//!
//! Bound: [`MAX_PACKETS`] wait at a time; beyond, the oldest are dropped.

use std::collections::VecDeque;

use bytes::Bytes;
use media::{Rate, aac, opus};

use super::codec::{Decode, Frame};
use super::drift::Drift;
use super::resampler::HALF;
use super::run::{FADE_IN_SAMPLES, Run, SLIP_FADE_SAMPLES};
use super::splice::rescale::{MAX_DEVIATION, Rescale};
use crate::Error;

/// Most packets waiting: more than 2 s of usual packets, and 0.6 s of the shortest.
pub(crate) const MAX_PACKETS: usize = 256;
/// Longest concealment: 100 ms. Beyond, made-up sound is worse than silence.
pub(crate) const CONCEAL_SAMPLES: i64 = 4_800;
/// Longest concealment after a DTX packet: the sender refreshes its comfort noise every 400 ms (RFC 6716 §2.1.9).
pub(crate) const DTX_CONCEAL_SAMPLES: i64 = 24_000;
/// The shortest stretch that Opus makes up, in samples: 2.5 ms (RFC 6716 §2.1.4).
const SHORTEST: f64 = 120.0;
/// A packet of at most this many bytes announces that nothing will be sent for a while.
const DTX_PACKET_BYTES: usize = 2;
/// Samples kept behind the reading position, for jumps back.
const HISTORY_SAMPLES: i64 = 4_800;
/// The same while it is locked, for an encoder that must hear what came before.
const LOCKED_HISTORY_SAMPLES: i64 = 16 * AAC_UNIT;
/// Coded AAC units kept behind the reading position: a slot is published three units after its sound is read.
const CODED_UNITS: usize = 32;
const AAC_UNIT: i64 = aac::FRAME_SAMPLES as i64;

/// What happened to the sound of a source, in samples or packets since it was attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) concealed: u64,
    pub(crate) recovered: u64,
    pub(crate) dropped_packets: u64,
    pub(crate) bad_packets: u64,
    pub(crate) slips: u64,
}

#[derive(Debug)]
struct Packet {
    /// Where its first decoded sample belongs, in samples of program time.
    at: f64,
    samples: i64,
    data: Bytes,
}

/// How a run relates to the grid of the program's units.
#[derive(Debug)]
enum Lock {
    /// It follows its clock.
    Open,
    /// It is on its way to the grid.
    Closing(Rescale),
    /// Its units lie on the grid.
    Closed,
}

/// What the packets of a source are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Opus,
    /// Units of so many samples.
    Aac {
        unit_samples: i64,
    },
}

/// The sound of one source.
#[derive(Debug)]
pub(crate) struct AudioInput {
    decoder: Box<dyn Decode>,
    coding: Coding,
    /// Samples of the source per second.
    rate_hz: f64,
    /// Samples of the source per sample of the bus.
    ratio: f64,
    packets: VecDeque<Packet>,
    run: Option<Run>,
    drift: Drift,
    lock: Lock,
    lock_wanted: bool,
    /// Units are taken without being decoded.
    asleep: bool,
    /// Units of the run by the position of their first sample.
    coded: VecDeque<(i64, Bytes)>,
    /// While locked: how much too early the last unit is presented, in samples.
    locked_error: f64,
    scratch: Vec<Frame>,
    counters: Counters,
}

impl AudioInput {
    /// Sound at `rate` that is read by a bus at `bus_rate`.
    pub(crate) fn new(
        decoder: Box<dyn Decode>,
        coding: Coding,
        rate: Rate,
        bus_rate: Rate,
    ) -> Self {
        let mut input = Self {
            decoder,
            coding,
            rate_hz: f64::from(rate.hz()),
            ratio: 1.0,
            packets: VecDeque::new(),
            run: None,
            drift: Drift::default(),
            lock: Lock::Open,
            lock_wanted: false,
            asleep: false,
            coded: VecDeque::new(),
            locked_error: 0.0,
            scratch: Vec::new(),
            counters: Counters::default(),
        };
        input.set_bus_rate(bus_rate);
        input
    }

    /// The bus runs at another rate than was thought. Only before the first sample is read.
    pub(crate) fn set_bus_rate(&mut self, bus_rate: Rate) {
        self.ratio = self.rate_hz / f64::from(bus_rate.hz());
    }

    /// Takes a packet that was captured at these nanoseconds of program time.
    ///
    /// # Errors
    /// [`Error::Media`] when it is no Opus packet.
    pub(crate) fn push(&mut self, captured_ns: i64, data: Bytes) -> Result<(), Error> {
        let samples = match self.coding {
            Coding::Aac { unit_samples } => unit_samples,
            Coding::Opus => match opus::duration_samples(&data) {
                Ok(samples) => i64::from(samples),
                Err(error) => {
                    self.counters.bad_packets += 1;
                    return Err(error.into());
                }
            },
        };
        let captured = captured_ns as f64 * self.rate_hz * 1e-9;
        let at = captured - f64::from(self.decoder.delay_samples());
        let mut index = self.packets.len();
        while index > 0 && self.packets.get(index - 1).is_some_and(|p| p.at > at) {
            index -= 1;
        }
        let before = index.checked_sub(1).and_then(|at| self.packets.get(at));
        if before.is_some_and(|packet| packet.at == at && packet.data == data) {
            self.counters.dropped_packets += 1;
            return Ok(());
        }
        self.packets.insert(index, Packet { at, samples, data });
        if self.packets.len() > MAX_PACKETS {
            self.packets.pop_front();
            self.counters.dropped_packets += 1;
        }
        Ok(())
    }

    /// Adds the sound of the bus's samples from `position` on to `out`; `position` is where the previous call ended.
    /// Returns how many of them have no sound: not even a made-up one.
    pub(crate) fn read(&mut self, position: i64, out: &mut [Frame]) -> usize {
        let length = i64::try_from(out.len()).unwrap_or_default();
        let start = position as f64 * self.ratio;
        if self.run.is_none() && !self.start_run(start, length) {
            return out.len();
        }
        self.prepare(start, length);
        let settles = self.ratio == 1.0 && self.drift.is_settled();
        let Some(run) = &mut self.run else {
            return out.len();
        };
        let silent = match &mut self.lock {
            Lock::Closed => run.play(1.0, out),
            Lock::Closing(rescale) => {
                let frames = out.iter_mut();
                let silent = frames.map(|at| run.play(rescale.step(), std::slice::from_mut(at)));
                let silent = silent.sum();
                if rescale.is_done() {
                    run.settle();
                    self.drift.make_exact();
                    self.lock = Lock::Closed;
                }
                silent
            }
            // Once the clocks agree, this block ends at a whole position.
            Lock::Open if settles => {
                let whole = run.fraction.round() - run.fraction;
                let silent = run.play(1.0 + whole / length as f64, out);
                run.settle();
                self.drift.make_exact();
                silent
            }
            Lock::Open => run.play(self.ratio * self.drift.step(), out),
        };
        if run.ending && run.whole >= run.end() + HALF {
            self.end_run();
        } else {
            run.forget_history(match self.lock {
                Lock::Closed => LOCKED_HISTORY_SAMPLES,
                Lock::Open | Lock::Closing(_) => HISTORY_SAMPLES,
            });
        }
        silent
    }

    fn end_run(&mut self) {
        self.run = None;
        self.coded.clear();
        self.lock = Lock::Open;
        self.asleep = false;
    }

    /// Brings the units onto the grid on which the block that is read next begins, or lets them go their way again.
    ///
    /// Only sound at the bus's rate can be brought there.
    pub(crate) fn set_locked(&mut self, wanted: bool) {
        self.lock_wanted = wanted && self.ratio == 1.0;
        if !self.lock_wanted {
            if !matches!(self.lock, Lock::Open) {
                self.set_asleep(false);
                self.lock = Lock::Open;
                self.drift.restart();
            }
            return;
        }
        let (Lock::Open, Some(run), Some((unit, _))) = (&self.lock, &self.run, self.coded.back())
        else {
            return;
        };
        if run.slip.is_some() || run.ending {
            return;
        }
        let offset = Rescale::to_grid((unit - run.whole) as f64 - run.fraction);
        self.locked_error = 0.0;
        self.lock = if offset == 0.0 {
            Lock::Closed
        } else {
            Lock::Closing(Rescale::new(offset))
        };
    }

    /// Sleeps while it is locked and this is wanted; when it wakes up, its decoder is ready for the next unit.
    pub(crate) fn set_asleep(&mut self, wanted: bool) {
        let asleep = wanted && self.is_locked();
        if self.asleep && !asleep {
            self.rewrite(1);
        }
        self.asleep = asleep;
    }

    /// Decodes the last `units` of the run once more, into their places.
    pub(crate) fn rewrite(&mut self, units: usize) {
        let Some(run) = &mut self.run else {
            return;
        };
        // One more, whose sound is spoilt because the decoder has not seen the one before it.
        let skipped = self.coded.len().saturating_sub(units + 1);
        for (n, (at, unit)) in self.coded.iter().skip(skipped).enumerate() {
            self.scratch.clear();
            let decoded = self.decoder.decode(unit, &mut self.scratch);
            if decoded.is_err() || n == 0 {
                continue;
            }
            let from = usize::try_from(at - run.base).unwrap_or(usize::MAX);
            let places = run.pcm.iter_mut().skip(from);
            for (place, frame) in places.zip(&self.scratch) {
                *place = *frame;
            }
        }
    }

    /// The last `samples` that were read, as they are now.
    pub(crate) fn past(&self, samples: i64) -> Vec<Frame> {
        let Some(run) = &self.run else {
            return Vec::new();
        };
        let read = run.whole - samples..run.whole;
        read.map(|position| run.sample(position)).collect()
    }

    /// Its units lie on the program's grid.
    pub(crate) fn is_locked(&self) -> bool {
        matches!(self.lock, Lock::Closed)
    }

    /// The coded unit whose first sample lies exactly this many samples before the one that is read next.
    pub(crate) fn unit_at(&self, before: i64) -> Option<Bytes> {
        let run = self.run.as_ref().filter(|_| self.is_locked())?;
        let wanted = run.whole - before;
        let unit = self.coded.iter().rev().find(|(at, _)| *at <= wanted)?;
        (unit.0 == wanted).then(|| unit.1.clone())
    }

    /// While locked: how much too early its sound is presented, in samples.
    pub(crate) fn error_samples(&self) -> f64 {
        if self.is_locked() {
            self.locked_error
        } else {
            0.0
        }
    }

    /// Starts a run if the next packet begins before the end of the `length` samples of the bus from `start` on.
    fn start_run(&mut self, start: f64, length: i64) -> bool {
        let stale = |packet: &Packet| packet.at + packet.samples as f64 <= start;
        while self.packets.front().is_some_and(stale) {
            self.packets.pop_front();
            self.counters.dropped_packets += 1;
        }
        let until = start + length as f64 * self.ratio + HALF as f64;
        let Some(first) = self.packets.front().filter(|first| first.at < until) else {
            return false;
        };
        // Exact at the bus's rate, where the start is a whole sample.
        let from = start - first.at.round();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "sample counts are far below 2^53"
        )]
        let whole = from.floor() as i64;
        self.drift.restart();
        let on_grid = matches!(self.coding, Coding::Aac { .. }) && whole.rem_euclid(AAC_UNIT) == 0;
        self.lock = match self.lock_wanted && on_grid {
            true => Lock::Closed,
            false => Lock::Open,
        };
        self.locked_error = 0.0;
        self.run = Some(Run {
            pcm: Vec::new(),
            base: 0,
            first_heard: whole.max(0),
            whole,
            fraction: from - from.floor(),
            next_at: first.at,
            packet_samples: first.samples,
            concealed: 0,
            conceal_max: CONCEAL_SAMPLES,
            ending: false,
            slip: None,
        });
        true
    }

    /// Decodes what the next `length` samples need, and starts a jump if the clocks call for one.
    fn prepare(&mut self, start: f64, length: i64) {
        let step = match self.lock {
            Lock::Open => self.ratio * self.drift.step(),
            Lock::Closing(_) => 1.0 + MAX_DEVIATION,
            Lock::Closed => 1.0,
        };
        let mut decoded = 0;
        while let Some(run) = &self.run {
            let ahead = run.slip.map_or(0, |(distance, _)| distance.max(0));
            let reach = (length as f64 * step).ceil();
            #[expect(clippy::cast_possible_truncation, reason = "a block and a bit")]
            let needed = run.whole + reach as i64 + ahead + HALF + 1;
            if run.ending || run.end() >= needed {
                break;
            }
            self.decode_next(start);
            if let Some(slip) = self
                .drift
                .slip()
                .filter(|_| matches!(self.lock, Lock::Open))
            {
                self.jump(slip);
            }
            decoded += 1;
            if decoded > 4 * MAX_PACKETS {
                // Cannot happen while every step decodes or ends; a bound all the same.
                break;
            }
        }
    }

    /// Moves the reading position by `-samples` and fades the old one out.
    fn jump(&mut self, samples: f64) {
        let Some(run) = self.run.as_mut().filter(|run| run.slip.is_none()) else {
            return;
        };
        #[expect(clippy::cast_possible_truncation, reason = "bounded just below")]
        let back = (samples as i64).clamp(
            -HISTORY_SAMPLES,
            (run.whole - run.base - HALF).clamp(0, HISTORY_SAMPLES),
        );
        run.whole -= back;
        run.slip = Some((back, SLIP_FADE_SAMPLES));
        self.counters.slips += 1;
        self.drift.slipped(back as f64);
    }

    /// Appends the next packet to the run, or what replaces it.
    fn decode_next(&mut self, start: f64) {
        let Some(run) = &mut self.run else {
            return;
        };
        let Some(next) = self.packets.front() else {
            let samples = run.packet_samples;
            self.conceal(samples, None);
            return;
        };
        let gap = next.at - run.next_at;
        let packet = next.samples as f64;
        // The rest of a hole that has begun is filled too.
        let within = self.coding == Coding::Opus && run.concealed > 0 && gap >= SHORTEST;
        if gap >= 0.5 * packet || within {
            let samples = match self.coding {
                Coding::Opus => fits(gap).min(next.samples),
                Coding::Aac { .. } => next.samples,
            };
            // Its error correction covers what was lost just before it, and no more.
            let recoverable = (gap < 1.5 * packet).then(|| next.data.clone());
            self.conceal(samples, recoverable);
            return;
        }
        let Some(next) = self.packets.pop_front() else {
            return;
        };
        if gap < -0.5 * packet {
            self.counters.dropped_packets += 1;
            return;
        }
        let ahead = (run.end() - run.whole) as f64 - run.fraction;
        match self.lock {
            Lock::Open => {
                let predicted = start + ahead / self.drift.step();
                self.drift.update(next.at - predicted, packet);
            }
            Lock::Closing(_) | Lock::Closed => self.locked_error = next.at - start - ahead,
        }
        if let Coding::Aac { .. } = self.coding {
            self.coded.push_back((run.end(), next.data.clone()));
            if self.coded.len() > CODED_UNITS {
                self.coded.pop_front();
            }
        }
        run.next_at = next.at + packet;
        run.packet_samples = next.samples;
        run.concealed = 0;
        let dtx = next.data.len() <= DTX_PACKET_BYTES;
        run.conceal_max = if dtx {
            DTX_CONCEAL_SAMPLES
        } else {
            CONCEAL_SAMPLES
        };
        self.scratch.clear();
        let decoded = self.asleep || self.decoder.decode(&next.data, &mut self.scratch).is_ok();
        if !decoded {
            self.counters.bad_packets += 1;
            self.counters.concealed += next.samples.unsigned_abs();
            self.scratch.clear();
            let length = usize::try_from(next.samples).unwrap_or_default();
            let _ = self.decoder.conceal(length, &mut self.scratch);
        } else if self.scratch.len() as i64 == 2 * next.samples {
            // Spectral band replication that began later: the time is right without what it adds.
            let (pairs, _) = self.scratch.as_chunks::<2>();
            let halved = pairs
                .iter()
                .map(|[a, b]| [0, 1].map(|at| f32::midpoint(a[at], b[at])));
            self.scratch = halved.collect();
        }
        self.append(next.samples);
    }

    /// Appends `samples` made from nothing, or from the packet that follows them; ends the run when that was long enough.
    fn conceal(&mut self, samples: i64, next: Option<Bytes>) {
        let Some(run) = &mut self.run else {
            return;
        };
        run.next_at += samples as f64;
        run.concealed += samples;
        let last = run.concealed >= run.conceal_max && next.is_none();
        self.scratch.clear();
        let length = usize::try_from(samples).unwrap_or_default();
        let made = if let Some(next) = next {
            self.counters.recovered += length as u64;
            self.decoder.recover(&next, length, &mut self.scratch)
        } else {
            self.counters.concealed += length as u64;
            self.decoder.conceal(length, &mut self.scratch)
        };
        if made.is_err() {
            self.scratch.clear();
        }
        self.append(samples);
        if let Some(run) = self.run.as_mut().filter(|_| last) {
            run.fade_out();
        }
    }

    /// Moves exactly `samples` from the scratch buffer to the run.
    fn append(&mut self, samples: i64) {
        let length = usize::try_from(samples).unwrap_or_default();
        self.scratch.resize(length, Frame::default());
        if let Some(run) = &mut self.run {
            let from = run.end();
            run.pcm.append(&mut self.scratch);
            if from < run.first_heard + FADE_IN_SAMPLES {
                run.fade_in(from);
            }
        }
    }

    /// Sound is coming, or still there to be read.
    pub(crate) fn is_active(&self) -> bool {
        self.run.is_some() || !self.packets.is_empty()
    }

    /// Where the first waiting packet's sound belongs, in nanoseconds of program time.
    pub(crate) fn first_ns(&self) -> Option<i64> {
        let at = self.packets.front()?.at / self.rate_hz * 1e9;
        #[expect(clippy::cast_possible_truncation, reason = "`as` saturates")]
        Some(at as i64)
    }

    /// Forgets everything that waits.
    pub(crate) fn clear(&mut self) {
        self.packets.clear();
        self.end_run();
        self.drift.restart();
    }

    /// How early the sound is presented against its capture time, in milliseconds, smoothed.
    pub(crate) fn early_ms(&self) -> f64 {
        let samples = match self.lock {
            Lock::Open => self.drift.error(),
            Lock::Closing(_) | Lock::Closed => self.locked_error,
        };
        samples / self.rate_hz * 1e3
    }

    /// The rate of the source's clock that is being followed, in parts per million.
    pub(crate) fn ppm(&self) -> f64 {
        self.drift.ppm()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }
}

/// The length nearest to a gap that Opus can make up, in samples. A gap that is no whole packet, as where a clip starts over,
/// must not leave the sound beside its place.
fn fits(gap: f64) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "`as` saturates, and a packet bounds it"
    )]
    let samples = ((gap / SHORTEST).round() * SHORTEST) as i64;
    samples
}

impl std::ops::Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            concealed: self.concealed + other.concealed,
            recovered: self.recovered + other.recovered,
            dropped_packets: self.dropped_packets + other.dropped_packets,
            bad_packets: self.bad_packets + other.bad_packets,
            slips: self.slips + other.slips,
        }
    }
}
