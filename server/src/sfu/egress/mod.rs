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
//! Invariants:
//! - At most [`MAX_QUEUED`] packets wait for the engine. Beyond it sound is dropped packet by packet, pictures up to
//!   the next keyframe.
//! - A subscriber's own requests for keyframes reach the participant at most every [`KEYFRAME_SPACING`].

mod gate;
mod history;
mod line;
mod rewrite;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use media::{Clock, Rate};

use self::gate::Gate;
use self::line::{Line, fixed_point};
use super::ingress_clock::Media;
use super::packet::{Feedback, Outgoing, Relayed, Report};
use super::sdp::Offer;
use super::types::{SessionId, SessionStats};

pub(crate) use self::line::Seed;

/// Most packets that wait; the session takes them after every packet that comes in.
const MAX_QUEUED: usize = 512;
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
    /// Ask the participant for a keyframe.
    WantKeyframe,
}

/// Totals of one subscriber.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Packets sent, repetitions not counted.
    pub(crate) packets: u64,
    /// Packets repeated.
    pub(crate) repeated: u64,
    /// Packets dropped because too many waited.
    pub(crate) dropped: u64,
}

/// The media of one subscriber.
#[derive(Debug)]
pub(crate) struct Egress {
    clock: Clock,
    video: Option<Line>,
    audio: Option<Line>,
    gate: Gate,
    outputs: VecDeque<Output>,
    rtt: Option<Duration>,
    asked: Option<Instant>,
    totals: Totals,
}

impl Egress {
    /// For a subscriber with this offer.
    pub(crate) fn new(offer: &Offer, clock: Clock, video: Seed, audio: Seed) -> Self {
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
            outputs: VecDeque::new(),
            rtt: None,
            asked: None,
            totals: Totals::default(),
        }
    }

    /// Takes a packet of the participant's session `from`.
    pub(crate) fn handle_packet(&mut self, now: Instant, from: SessionId, relayed: Relayed) {
        match relayed.media {
            Media::Audio => self.handle_sound(from, relayed),
            Media::Video => self.handle_picture(from, relayed),
        }
        self.report(now);
    }

    fn handle_sound(&mut self, from: SessionId, relayed: Relayed) {
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
        self.totals.packets += 1;
        self.outputs.push_back(Output::Send(packet));
    }

    fn handle_picture(&mut self, from: SessionId, relayed: Relayed) {
        let Some(line) = &mut self.video else { return };
        if line.enter(from, &relayed) {
            self.gate.close(None);
            self.outputs.push_back(Output::WantKeyframe);
        }
        let packet = relayed.packet;
        if packet.payload.is_empty() {
            line.leave_out(&packet);
            return;
        }
        if self.outputs.len() >= MAX_QUEUED {
            self.totals.dropped += 1;
            if self.gate.is_open() {
                line.interrupt();
                self.gate.close(Some(packet.timestamp));
                self.outputs.push_back(Output::WantKeyframe);
            }
            return;
        }
        let was_open = self.gate.is_open();
        let (made, through) = self.gate.handle(packet, relayed.config.as_ref());
        if !was_open && let Some(config) = &relayed.config {
            line.choose(config.profile_level());
        }
        if let Some(first) = through.first().cloned() {
            // Made packets take the numbers before the first, the earliest first.
            let count = u16::try_from(made.len()).unwrap_or(0);
            for (payload, back) in made.into_iter().zip((0..count).rev()) {
                let mut before = first.clone();
                before.sequence = first.sequence.wrapping_sub(back);
                let packet = line.prepend(payload, &before);
                self.totals.packets += 1;
                self.outputs.push_back(Output::Send(packet));
            }
        }
        for packet in through {
            let packet = line.forward(packet);
            self.totals.packets += 1;
            self.outputs.push_back(Output::Send(packet));
        }
    }

    /// Takes what the subscriber says.
    pub(crate) fn handle_feedback(&mut self, now: Instant, feedback: Feedback) {
        match feedback {
            Feedback::Nack { ssrc, sequences } => self.repeat(now, ssrc, &sequences),
            Feedback::Keyframe { ssrc } => {
                let is_ours = self.video.as_ref().is_some_and(|line| line.ssrc() == ssrc);
                let is_early = self
                    .asked
                    .is_some_and(|asked| now.saturating_duration_since(asked) < KEYFRAME_SPACING);
                if is_ours && !is_early {
                    self.asked = Some(now);
                    self.outputs.push_back(Output::WantKeyframe);
                }
            }
            Feedback::Reception {
                last_report, delay, ..
            } => self.measure(now, last_report, delay),
        }
    }

    fn repeat(&mut self, now: Instant, ssrc: u32, sequences: &[u16]) {
        let Some(line) = self.video.as_mut().filter(|line| line.ssrc() == ssrc) else {
            return;
        };
        for sequence in sequences {
            if self.outputs.len() >= MAX_QUEUED {
                return;
            }
            if let Some(packet) = line.repeat(now, *sequence, self.rtt) {
                self.totals.repeated += 1;
                self.outputs.push_back(Output::Send(packet));
            }
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
        self.report(now);
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let lines = self.video.iter().chain(&self.audio);
        lines.filter_map(Line::poll_timeout).min()
    }

    /// What to do next.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Fills in what is known.
    pub(crate) fn stats(&self, stats: &mut SessionStats) {
        stats.rtt_ms = self.rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0);
        stats.sink_drops = self.totals.dropped;
    }

    /// Totals that process-wide counters are fed from.
    pub(crate) fn totals(&self) -> Totals {
        self.totals
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
mod tests;
