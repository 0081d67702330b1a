//! One subscriber's media: a participant's packets as two streams of our own. Sans-IO.
//!
//! Payloads go out as they came in; everything around them is ours: SSRCs, sequence numbers, timestamps, payload types
//! of the subscriber's offer, no header extensions, reports by the capture clock. So the participant may come back with
//! another session, and the subscriber sees a picture that goes on with a keyframe.
//!
//! Pictures are taken behind the receive buffer, in order and repaired: a decoder could not use them earlier, and what
//! was lost for good shows as a gap. Sound is taken as it arrives, each packet once: the listener's jitter buffer
//! knows best how long a missing packet is worth waiting for.
//!
//! Pictures begin with a keyframe, which the participant is asked for. Lost packets are repeated from a bounded history.
//!
//! Of a picture in several layers [`layers`] chooses one. Where the subscriber reports arrivals, [`bandwidth`] estimates
//! what its path carries. Packets leave as [`pacer`] allows: sound at once, then repetitions, then pictures, which wait in
//! [`backlog`] without numbers and are dropped up to a keyframe when they have waited for too long.
//!
//! Invariants:
//! - At most [`MAX_QUEUED`] packets wait for the engine. Beyond it sound is dropped packet by packet, pictures wait.
//! - Most packets and the longest time that pictures wait are bounded by the backlog; it says what is dropped.
//! - A subscriber's own requests for keyframes reach the participant at most every [`KEYFRAME_SPACING`].

mod backlog;
mod bandwidth;
mod gate;
mod history;
mod layers;
mod line;
mod pacer;
mod probe;
mod rewrite;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use media::{Clock, Rate};

use self::backlog::{Backlog, Waiting};
use self::bandwidth::Bandwidth;
use self::gate::Gate;
pub(crate) use self::gate::may_begin_keyframe;
use self::layers::Layers;
use self::line::{Line, fixed_point};
use self::pacer::Pacer;
use self::probe::Probe;
use super::ingress_clock::Media;
use super::packet::{Feedback, Outgoing, Relayed, Report};
use super::sdp::Offer;
use super::types::{SessionId, SessionStats};

pub(crate) use self::line::Seed;

/// Most packets that wait; the session takes them after every packet that comes in.
const MAX_QUEUED: usize = 512;
/// Most repetitions that wait for their turn; who asks for more will ask again.
const MAX_REPEATS: usize = 512;
/// What goes out around a payload: RTP with its extension, authentication, UDP and IP.
const OVERHEAD: usize = 58;
/// Dropping pictures asks for a keyframe no more often than this: everybody pays for it, and one comes by schedule.
const SHED_SPACING: Duration = Duration::from_secs(4);
/// The same where layers are chosen: only one of them has a schedule.
const LAYER_SPACING: Duration = Duration::from_secs(1);
/// With more losses than this nobody looks for room.
const CALM_LOSS: f64 = 0.05;
/// The stream's rate is measured over so long.
const METER: Duration = Duration::from_secs(1);
/// Shortest time between two of a subscriber's requests that are passed on.
const KEYFRAME_SPACING: Duration = Duration::from_secs(1);
/// A longer round trip is a mistake.
const MAX_RTT: Duration = Duration::from_secs(5);

/// What the owner is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Send a packet.
    Send(Outgoing),
    /// Send a sender report.
    Report(Report),
    /// Ask the participant for a keyframe: of this layer, or of the one that the program is made of.
    WantKeyframe(Option<u8>),
}

/// Totals of one subscriber.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Packets sent, repetitions not counted.
    pub(crate) packets: u64,
    /// Packets repeated.
    pub(crate) repeated: u64,
    /// Packets dropped because too many waited, or for too long.
    pub(crate) dropped: u64,
    /// Packets sent to see what the path carries.
    pub(crate) padded: u64,
    /// How often another layer was sent.
    pub(crate) switches: u64,
    /// How often pictures were left out up to a keyframe because the path is too thin.
    pub(crate) shed: u64,
}

/// What a subscriber is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limits {
    /// Where the estimate of its path begins, in bits per second.
    pub(crate) start_bps: f64,
    /// The largest picture that it asks for, in pixels.
    pub(crate) max_height: Option<u32>,
}

/// Bits per second that are published.
#[derive(Debug, Default)]
struct Meter {
    since: Option<Instant>,
    bytes: u32,
    last: f64,
}

impl Meter {
    fn add(&mut self, now: Instant, bytes: usize) {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since);
        if passed >= METER {
            self.last = f64::from(self.bytes) * 8.0 / passed.as_secs_f64();
            (self.since, self.bytes) = (Some(now), 0);
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Of the last whole second, or more when this one has more already.
    fn bps(&self) -> f64 {
        self.last.max(f64::from(self.bytes) * 8.0)
    }
}

/// The media of one subscriber.
#[derive(Debug)]
pub(crate) struct Egress {
    clock: Clock,
    video: Option<Line>,
    audio: Option<Line>,
    gate: Gate,
    bandwidth: Bandwidth,
    pacer: Pacer,
    probe: Probe,
    backlog: Backlog,
    /// Sequence numbers of our pictures to send again.
    repeats: VecDeque<u16>,
    layers: Layers,
    /// When what waits may go.
    release: Option<Instant>,
    outputs: VecDeque<Output>,
    rtt: Option<Duration>,
    /// Bits per second, when it was last looked at.
    estimate_bps: Option<u64>,
    asked: Option<Instant>,
    shed: Option<Instant>,
    /// Pictures were left out, and none of those that wait can be shown.
    needs_keyframe: bool,
    totals: Totals,
}

impl Egress {
    /// For a subscriber with this offer.
    pub(crate) fn new(
        offer: &Offer,
        clock: Clock,
        video: Seed,
        audio: Seed,
        limits: Limits,
    ) -> Self {
        let line = |media, rate: Rate, seed| {
            offer
                .taken(media)
                .map(|taken| Line::new(taken, rate.hz(), seed))
        };
        Self {
            clock,
            video: line(Media::Video, Rate::VIDEO, video),
            audio: line(Media::Audio, Rate::AUDIO, audio),
            gate: Gate::default(),
            bandwidth: Bandwidth::new(limits.start_bps),
            pacer: Pacer::default(),
            probe: Probe::default(),
            backlog: Backlog::default(),
            repeats: VecDeque::new(),
            layers: Layers::new(limits.max_height),
            release: None,
            outputs: VecDeque::new(),
            rtt: None,
            estimate_bps: None,
            asked: None,
            shed: None,
            needs_keyframe: false,
            totals: Totals::default(),
        }
    }

    /// Notes a packet of the participant's session `from`; whether it is to be sent, as far as is known.
    fn note(&mut self, now: Instant, from: SessionId, relayed: &Relayed) -> bool {
        if relayed.media == Media::Audio || self.video.is_none() {
            return self.audio.is_some() && relayed.media == Media::Audio;
        }
        self.layers.note(now, from, relayed);
        if relayed.layers > 1 {
            let estimate = self.bandwidth.estimate_bps(now);
            if let Some(layer) = self.layers.choose(now, estimate) {
                self.outputs.push_back(Output::WantKeyframe(Some(layer)));
                // So that the request is taken now; a packet that has no use goes no further.
                return true;
            }
        }
        self.layers.wants(relayed)
    }

    /// Takes packets of the participant's session `from`.
    pub(crate) fn handle_packets(&mut self, now: Instant, from: SessionId, packets: &[Relayed]) {
        let (mut is_touched, mut has_pictures) = (false, false);
        for relayed in packets {
            if !self.note(now, from, relayed) {
                continue;
            }
            is_touched = true;
            if relayed.media == Media::Audio {
                self.handle_sound(now, from, relayed.clone());
            } else {
                has_pictures = true;
                let backlog = &mut self.backlog;
                let push = |relayed| backlog.push(now, from, relayed);
                self.layers.handle(now, relayed.clone(), push);
            }
        }
        // Once for all that came together.
        if has_pictures {
            self.work(now);
        }
        if is_touched {
            self.report(now);
        }
    }

    fn handle_sound(&mut self, now: Instant, from: SessionId, relayed: Relayed) {
        let Some(line) = &mut self.audio else { return };
        line.enter(from, &relayed);
        if relayed.packet.payload.is_empty() {
            return;
        }
        if self.outputs.len() >= MAX_QUEUED {
            self.totals.dropped += 1;
            return;
        }
        let packet = line.forward(relayed.packet);
        let id = line.transport_id();
        self.totals.packets += 1;
        self.send(now, id, packet, false);
    }

    /// Lets go what may go.
    fn work(&mut self, now: Instant) {
        let estimate = self.bandwidth.estimate_bps(now);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number, far below the limits"
        )]
        let whole = estimate.map(|bps| bps as u64);
        self.estimate_bps = whole;
        let stream = self.layers.current_bps();
        let is_full = self.bandwidth.is_full(stream);
        self.pacer.refill(now, estimate, stream, is_full);
        while self.outputs.len() < MAX_QUEUED && self.pacer.may_send() && self.pacer.may_repeat() {
            let Some(sequence) = self.repeats.pop_front() else {
                break;
            };
            self.repeat(now, sequence);
        }
        while self.outputs.len() < MAX_QUEUED && self.pacer.may_send() {
            let Some(waiting) = self.backlog.pop() else {
                break;
            };
            self.handle_picture(now, waiting);
        }
        let sending = self.video.as_ref().and_then(Line::sending);
        if self.backlog.is_overdue(now, sending) {
            self.shed(sending);
        }
        self.go_on(now);
        self.fill(now, estimate);
        let waits = !self.backlog.is_empty() || !self.repeats.is_empty();
        self.release = (waits || self.probe.is_active()).then(|| self.pacer.next(now));
    }

    /// The path is too thin: pictures are left out up to a keyframe.
    fn shed(&mut self, sending: Option<u32>) {
        let (count, has_keyframe) = self.backlog.shed(sending);
        self.totals.dropped += count;
        self.totals.shed += u64::from(count > 0);
        self.needs_keyframe |= count > 0 && !has_keyframe;
    }

    /// Asks for the keyframe that pictures go on with.
    fn go_on(&mut self, now: Instant) {
        let spacing = match self.layers.has_choice() {
            true => LAYER_SPACING,
            false => SHED_SPACING,
        };
        let is_early = self
            .shed
            .is_some_and(|shed| now.saturating_duration_since(shed) < spacing);
        if self.needs_keyframe && !is_early {
            self.shed = Some(now);
            let layer = self.layers.current();
            self.outputs.push_back(Output::WantKeyframe(layer));
        }
    }

    /// Looks for room when the path is known to carry less than there is to send.
    fn fill(&mut self, now: Instant, estimate: Option<f64>) {
        let Some(estimate) = estimate else { return };
        let is_calm = !self.bandwidth.is_congested() && self.bandwidth.lost() < CALM_LOSS;
        if is_calm && self.probe.want(now, self.layers.wanted_bps(now), estimate) {
            self.bandwidth.begin_probe();
        }
        while self.outputs.len() < MAX_QUEUED && self.probe.poll(now) {
            let Some(line) = &mut self.video else { return };
            let id = line.transport_id();
            let Some(packet) = line.pad() else { return };
            self.totals.padded += 1;
            self.send(now, id, packet, false);
        }
    }

    fn handle_picture(&mut self, now: Instant, waiting: Waiting) {
        let Waiting { from, relayed, .. } = waiting;
        let Some(line) = &mut self.video else { return };
        if waiting.dropped.is_some() && self.gate.is_open() {
            line.interrupt();
            self.gate.close(waiting.dropped);
        }
        let is_same = line.is_of(from);
        if line.enter(from, &relayed) {
            self.gate.close(None);
            // Another layer begins with a keyframe in any case, and so does what was kept for who comes late.
            if !is_same && !may_begin_keyframe(&relayed.packet.payload) {
                self.outputs
                    .push_back(Output::WantKeyframe(Some(relayed.layer)));
            }
        }
        let packet = relayed.packet;
        if packet.payload.is_empty() {
            line.leave_out(&packet);
            return;
        }
        let id = line.transport_id();
        if self.gate.is_open() {
            // The way of nearly every packet.
            let packet = line.forward(packet);
            self.totals.packets += 1;
            self.send(now, id, packet, false);
            return;
        }
        let (made, through) = self.gate.handle(packet, relayed.config.as_ref());
        self.needs_keyframe &= !self.gate.is_open();
        if let Some(config) = &relayed.config {
            line.choose(config.profile_level());
        }
        let mut ready = Vec::with_capacity(made.len() + through.len());
        if let Some(first) = through.first().cloned() {
            // Made packets take the numbers before the first, the earliest first.
            let count = u16::try_from(made.len()).unwrap_or(0);
            for (payload, back) in made.into_iter().zip((0..count).rev()) {
                let mut before = first.clone();
                before.sequence = first.sequence.wrapping_sub(back);
                ready.push(line.prepend(payload, &before));
            }
        }
        ready.extend(through.into_iter().map(|packet| line.forward(packet)));
        for packet in ready {
            self.totals.packets += 1;
            self.send(now, id, packet, false);
        }
    }

    /// Sends a packet with its number in the session.
    fn send(&mut self, now: Instant, id: Option<u8>, mut packet: Outgoing, is_repeat: bool) {
        let bytes = packet.payload.len() + OVERHEAD;
        self.pacer.spend(bytes, is_repeat);
        self.probe.spend(bytes);
        let is_probe = self.probe.is_active();
        packet.transport = id.map(|id| (id, self.bandwidth.sent(now, bytes, is_probe)));
        self.outputs.push_back(Output::Send(packet));
    }

    /// Takes what the subscriber says.
    pub(crate) fn handle_feedback(&mut self, now: Instant, feedback: Feedback) {
        match feedback {
            Feedback::Nack { ssrc, sequences } => {
                if self.video.as_ref().is_some_and(|line| line.ssrc() == ssrc) {
                    let room = MAX_REPEATS.saturating_sub(self.repeats.len());
                    self.repeats.extend(sequences.into_iter().take(room));
                    self.work(now);
                }
            }
            Feedback::Arrivals(arrivals) => {
                self.bandwidth.handle_arrivals(now, &arrivals);
                self.work(now);
            }
            Feedback::Keyframe { ssrc } => {
                let is_ours = self.video.as_ref().is_some_and(|line| line.ssrc() == ssrc);
                let is_early = self
                    .asked
                    .is_some_and(|asked| now.saturating_duration_since(asked) < KEYFRAME_SPACING);
                if is_ours && !is_early {
                    self.asked = Some(now);
                    let layer = self.layers.current();
                    self.outputs.push_back(Output::WantKeyframe(layer));
                }
            }
            Feedback::Reception {
                last_report, delay, ..
            } => self.measure(now, last_report, delay),
        }
    }

    fn repeat(&mut self, now: Instant, sequence: u16) {
        let Some(line) = &mut self.video else { return };
        let id = line.transport_id();
        let rtt = self.rtt.or(self.bandwidth.rtt());
        if let Some(packet) = line.repeat(now, sequence, rtt) {
            self.totals.repeated += 1;
            self.send(now, id, packet, true);
        }
    }

    /// The round trip: now − last report − the time that the subscriber held it (RFC 3550 §6.4.1).
    fn measure(&mut self, now: Instant, last_report: u32, delay: u32) {
        if last_report == 0 {
            return;
        }
        let present = fixed_point(self.clock.timestamp(now).as_nanos());
        let [_, _, a, b, c, d, _, _] = present.to_be_bytes();
        let middle = u32::from_be_bytes([a, b, c, d]);
        let units = middle.wrapping_sub(last_report).wrapping_sub(delay);
        let rtt = Duration::from_micros((u64::from(units) * 1_000_000) >> 16);
        // A clock that runs a little slow makes it negative: a huge number here.
        if rtt <= MAX_RTT {
            self.rtt = Some(self.rtt.map_or(rtt, |held| (held * 7 + rtt) / 8));
        }
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.release.is_some_and(|at| at <= now) {
            self.work(now);
        }
        self.report(now);
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let lines = self.video.iter().chain(&self.audio);
        let lines = lines.filter_map(Line::poll_timeout);
        lines.chain(self.release).min()
    }

    /// What to do next.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Fills in what is known.
    pub(crate) fn stats(&self, stats: &mut SessionStats) {
        stats.rtt_ms = self.rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0);
        stats.sink_drops = self.totals.dropped;
        stats.estimate_bps = self.estimate_bps;
        (stats.shown, stats.layer_switches) = self.layers.shown();
    }

    /// Totals that process-wide counters are fed from.
    pub(crate) fn totals(&self) -> Totals {
        let (_, switches) = self.layers.shown();
        Totals {
            switches,
            ..self.totals
        }
    }

    fn report(&mut self, now: Instant) {
        for line in self.video.iter_mut().chain(&mut self.audio) {
            if let Some(report) = line.poll_report(now, self.clock) {
                self.outputs.push_back(Output::Report(report));
            }
        }
    }
}

#[cfg(test)]
pub(crate) use self::link_tests::config as test_config;

#[cfg(test)]
mod layer_tests;
#[cfg(test)]
mod link_tests;
#[cfg(test)]
mod tests;
