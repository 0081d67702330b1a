//! One publisher's media, from packets to access units: receive buffers, depacketizers, clock, requests. Sans-IO.
//!
//! Video is track 0, audio track 1, both at nanoseconds. A change of the parameter sets is a new [`Track`] with the same
//! id. What could not be delivered shows as `discontinuity` on the next unit of its track.
//!
//! A picture may come in several layers. Each is repaired and put in order by itself, and subscribers choose among all of
//! them. Units are those of the largest layer that is sent, or of the smallest that is large enough where a height is asked
//! for; another takes over with a keyframe, never before.

mod keyframes;
mod layer;
mod stream;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::{AccessUnit, Clock, Config as Codec, Rate, Timestamp, Track, TrackId, opus};

use self::layer::{Layer, h264_config};
use self::stream::Stream;
use super::depacketize::{self, h264};
use super::ingress_clock::{Capture, IngressClock, Media, Which};
use super::packet::{Relayed, RtpPacket};
use super::receive::{Output as Received, Policy};
use super::sdp::Offer;
use super::types::{LayerStats, SessionStats, StreamStats};

/// Track ids of every session.
const VIDEO: TrackId = TrackId(0);
const AUDIO: TrackId = TrackId(1);

/// Times of units lie at least so far apart where layers may change, in nanoseconds.
const APART: i64 = 1_000_000;

/// A picture may be shown larger than it is by this part of it.
const ENLARGED: u32 = 10;

/// What the owner is to do.
#[derive(Debug)]
pub(crate) enum Output {
    /// Deliver a unit.
    Unit(AccessUnit),
    /// Ask for packets again.
    Nack {
        /// Of this stream.
        ssrc: u32,
        /// These sequence numbers.
        sequences: Vec<u16>,
    },
    /// Let subscribers have a packet.
    Relay(Relayed),
    /// Ask for a keyframe of this stream.
    Pli {
        /// The video stream.
        ssrc: u32,
    },
}

/// The media of one publisher.
#[derive(Debug)]
pub(crate) struct Ingest {
    clock: Clock,
    ingress: IngressClock,
    /// In the order of the offer; one at least.
    layers: Vec<Layer>,
    /// The layer that the units are of.
    program: usize,
    /// Lines that units need at most; everything there is when absent.
    height: Option<u32>,
    /// Capture time of its newest unit.
    newest: i64,
    audio: Stream,
    video_track: Option<Arc<Track>>,
    audio_track: Arc<Track>,
    audio_lost: bool,
    /// Somebody wants the packets too.
    is_relayed: bool,
    /// An RTP time and its capture time, of the newest sound.
    captured: Option<(u32, i64)>,
    outputs: VecDeque<Output>,
    malformed: u64,
}

impl Ingest {
    /// For a publisher with this offer. `interval` is the keyframe schedule (zero: none), `spacing` the shortest
    /// distance between two requests.
    pub(crate) fn new(offer: &Offer, clock: Clock, interval: Duration, spacing: Duration) -> Self {
        let taken = offer.taken(Media::Video);
        let names = taken.map(|taken| taken.layers.as_slice());
        let names = names.unwrap_or_default().iter().map(String::as_str);
        let plain = names.len() == 0;
        let parameter_sets = taken.map(|taken| taken.parameter_sets.as_slice());
        let layers: Vec<Layer> = names
            .chain(plain.then_some(""))
            .map(|rid| {
                let sets = parameter_sets.unwrap_or_default();
                Layer::new(taken, rid, sets, interval, spacing)
            })
            .collect();
        Self {
            clock,
            ingress: IngressClock::new(Rate::VIDEO.hz(), layers.len(), Rate::AUDIO.hz()),
            layers,
            program: 0,
            height: None,
            newest: i64::MIN,
            audio: Stream::new(offer.taken(Media::Audio), Rate::AUDIO),
            video_track: None,
            audio_track: Arc::new(Track {
                id: AUDIO,
                config: Codec::Opus(opus::Config { channels: 2 }),
                rate: Rate::NANOS,
            }),
            audio_lost: false,
            is_relayed: false,
            captured: None,
            outputs: VecDeque::new(),
            malformed: 0,
        }
    }

    /// Takes a packet.
    pub(crate) fn handle_packet(
        &mut self,
        now: Instant,
        which: Which,
        ssrc: u32,
        packet: RtpPacket,
    ) {
        let arrived = self.clock.timestamp(packet.arrived).as_nanos();
        let sound = (which.media == Media::Audio && self.is_relayed).then(|| packet.clone());
        let Some(stream) = self.stream(which) else {
            return;
        };
        let is_other = stream.enter(ssrc);
        let is_direct = !packet.repaired;
        if is_direct {
            stream.measure(&packet, arrived);
        }
        let (timestamp, is_padding) = (packet.timestamp, packet.payload.is_empty());
        if is_other {
            self.start_over(which);
        }
        if is_direct && !is_padding {
            self.ingress.handle_packet(which, timestamp, arrived);
        }
        let stream = self.stream(which);
        let is_new = stream.is_some_and(|stream| stream.receiver().handle_packet(now, packet));
        match which.media {
            Media::Video => {
                if let Some(layer) = self.layers.get_mut(which.layer) {
                    layer.keyframes.begin(now);
                    // Retransmissions and padding look for room, also on layers that are left out.
                    if is_direct && !is_padding {
                        layer.activity.heard(now);
                    }
                }
                self.drain_layer(now, which.layer);
                self.prefer(now);
            }
            Media::Audio => {
                if let Some(packet) = sound.filter(|_| is_new) {
                    self.relay_sound(packet);
                }
                self.drain_sound(now);
            }
        }
        self.ask(now);
    }

    /// The sender has started a stream over.
    fn start_over(&mut self, which: Which) {
        self.ingress.reset_track(which);
        match (which.media, self.layers.get_mut(which.layer)) {
            (Media::Video, Some(layer)) => {
                layer.pictures.handle_loss();
                layer.captured = None;
            }
            (Media::Video, None) => {}
            (Media::Audio, _) => {
                self.audio_lost = true;
                self.captured = None;
            }
        }
    }

    /// Whether [`Output::Relay`] is wanted.
    pub(crate) fn set_relayed(&mut self, is_relayed: bool) {
        self.is_relayed = is_relayed;
    }

    fn stream(&mut self, which: Which) -> Option<&mut Stream> {
        match which.media {
            Media::Video => self
                .layers
                .get_mut(which.layer)
                .map(|layer| &mut layer.stream),
            Media::Audio => Some(&mut self.audio),
        }
    }

    fn relay_sound(&mut self, packet: RtpPacket) {
        if let Some(ssrc) = self.audio.ssrc() {
            self.outputs.push_back(Output::Relay(Relayed {
                media: Media::Audio,
                ssrc,
                layer: 0,
                layers: 1,
                captured: self.captured,
                config: None,
                packet,
            }));
        }
    }

    fn relay_picture(&mut self, index: usize, packet: RtpPacket) {
        let layers = u8::try_from(self.layers.len()).unwrap_or(u8::MAX);
        let Some(layer) = self.layers.get_mut(index) else {
            return;
        };
        let Some(ssrc) = layer.stream.ssrc() else {
            return;
        };
        self.outputs.push_back(Output::Relay(Relayed {
            media: Media::Video,
            ssrc,
            layer: u8::try_from(index).unwrap_or(u8::MAX),
            layers,
            captured: layer.captured,
            config: layer.pictures.config().cloned(),
            packet,
        }));
    }

    /// Units are shown at this height, in pixels; none: as large as they come.
    pub(crate) fn set_height(&mut self, height: Option<u32>) {
        self.height = height;
    }

    /// The layer that units should be of, among those that are sent at the moment.
    fn best(&self, now: Instant) -> Option<usize> {
        let active = || {
            let all = self.layers.iter().enumerate();
            all.filter(|(_, layer)| layer.activity.is_active(now))
        };
        let is_enough = |(_, layer): &(usize, &Layer)| {
            let height = self.height.map(|height| height - height / ENLARGED);
            height.is_some_and(|height| layer.height() >= height)
        };
        let enough = active().filter(is_enough);
        let nearest = enough.min_by_key(|(_, layer)| layer.area());
        let best = nearest.or_else(|| active().max_by_key(|(_, layer)| layer.area()));
        best.map(|(index, _)| index)
    }

    /// Asks for a keyframe of the layer that the units should be of.
    fn prefer(&mut self, now: Instant) {
        if self.layers.len() < 2 {
            return;
        }
        let best = self.best(now).filter(|best| *best != self.program);
        if let Some(layer) = best.and_then(|best| self.layers.get_mut(best)) {
            layer.keyframes.want();
        }
    }

    /// Takes a sender report.
    pub(crate) fn handle_sender_report(
        &mut self,
        which: Which,
        ntp: u64,
        rtp: u32,
        arrived: Instant,
    ) {
        let arrived = self.clock.timestamp(arrived).as_nanos();
        self.ingress.handle_sender_report(which, ntp, rtp, arrived);
    }

    /// Somebody downstream needs a keyframe: of a layer, or of the one that the units are of.
    pub(crate) fn request_keyframe(&mut self, now: Instant, layer: Option<u8>) {
        self.want_keyframe(layer);
        self.ask(now);
    }

    /// Like [`Self::request_keyframe`], at the next occasion.
    pub(crate) fn want_keyframe(&mut self, layer: Option<u8>) {
        let index = layer.map_or(self.program, usize::from);
        if let Some(layer) = self.layers.get_mut(index) {
            layer.keyframes.want();
        }
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for index in 0..self.layers.len() {
            if let Some(layer) = self.layers.get_mut(index) {
                layer.stream.receiver().handle_timeout(now);
            }
            self.drain_layer(now, index);
        }
        self.audio.receiver().handle_timeout(now);
        self.drain_sound(now);
        self.ask(now);
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let layers = self.layers.iter().flat_map(|layer| {
            let requests = layer.keyframes.poll_timeout();
            let requests = requests.filter(|_| layer.stream.has_pli());
            [layer.stream.poll_timeout(), requests]
        });
        let all = layers.chain([self.audio.poll_timeout()]);
        all.flatten().min()
    }

    /// What to do next.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Fills in what is known about the media.
    pub(crate) fn stats(&self, now: Instant, stats: &mut SessionStats) {
        let track = self.video_track.as_ref();
        let current = track.and_then(|track| h264_config(&track.config));
        for (index, layer) in self.layers.iter().enumerate() {
            let is_current = index == self.program;
            let config = layer.sizes.as_deref();
            let config = if is_current {
                current.or(config)
            } else {
                config
            };
            let Some(stream) = layer.stats(now, config) else {
                continue;
            };
            stats.video = Some(match stats.video.take() {
                Some(held) => joined(held, &stream, is_current),
                None => stream.clone(),
            });
            if !layer.rid.is_empty() {
                stats.layers.push(LayerStats {
                    rid: layer.rid.clone(),
                    active: layer.activity.is_active(now),
                    on_program: is_current,
                    stream,
                });
            }
        }
        let mut audio = self.audio.stats(now);
        if let Some(audio) = &mut audio {
            "opus".clone_into(&mut audio.codec);
        }
        let mut trips = self.layers.iter().filter_map(|layer| layer.stream.rtt());
        stats.rtt_ms = trips.next().map(|rtt| rtt.as_secs_f64() * 1_000.0);
        stats.audio = audio;
        stats.plis = self.plis();
        stats.malformed = self.malformed;
    }

    fn plis(&self) -> u64 {
        let layers = self.layers.iter();
        layers.map(|layer| layer.keyframes.requests()).sum()
    }

    /// Totals that process-wide counters are fed from.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals {
            plis: self.plis(),
            malformed: self.malformed,
            rejected_reports: self.ingress.rejected_reports(),
            placed_anew: self.ingress.placed_anew(),
            ..Totals::default()
        };
        let streams = self.layers.iter().map(|layer| &layer.stream);
        for stream in streams.chain([&self.audio]) {
            let counters = stream.totals();
            totals.packets += counters.packets;
            totals.duplicates += counters.duplicates;
            totals.lost += counters.lost;
            totals.nacks += counters.nacks;
            totals.recovered += counters.recovered;
        }
        for layer in &self.layers {
            totals.freezes += layer.freezes.totals().0;
        }
        totals
    }

    fn drain_layer(&mut self, now: Instant, index: usize) {
        while let Some(output) = self
            .layers
            .get_mut(index)
            .and_then(|layer| layer.stream.receiver().poll_output())
        {
            self.handle_video(now, index, output);
        }
    }

    fn drain_sound(&mut self, now: Instant) {
        while let Some(output) = self.audio.receiver().poll_output() {
            self.handle_audio(now, output);
        }
    }

    fn handle_video(&mut self, now: Instant, index: usize, output: Received) {
        let Some(layer) = self.layers.get_mut(index) else {
            return;
        };
        match output {
            Received::Lost => layer.pictures.handle_loss(),
            Received::Packet(packet) => {
                let is_usable = layer.pictures.handle_packet(&packet).is_ok();
                self.malformed += u64::from(!is_usable);
                let arrived = self.clock.timestamp(packet.arrived).as_nanos();
                if self.is_relayed && is_usable {
                    self.relay_picture(index, packet);
                }
                while let Some(picture) = self
                    .layers
                    .get_mut(index)
                    .and_then(|layer| layer.pictures.poll_picture())
                {
                    self.handle_picture(now, index, picture, arrived);
                }
            }
        }
        if let Some(layer) = self.layers.get_mut(index)
            && layer.pictures.is_awaiting_idr()
        {
            layer.keyframes.want();
        }
    }

    fn handle_picture(&mut self, now: Instant, index: usize, picture: h264::Picture, arrived: i64) {
        let which = Which {
            media: Media::Video,
            layer: index,
        };
        let capture = self.ingress.capture(which, picture.timestamp, arrived);
        for (other, layer) in self.layers.iter_mut().enumerate() {
            if other != index {
                layer.activity.missed();
            }
        }
        if let Some(layer) = self.layers.get_mut(index) {
            if picture.keyframe {
                layer.keyframes.handle_keyframe(now);
                layer.sizes = Some(Arc::clone(&picture.config));
            }
            layer.captured = Some((picture.timestamp, capture.nanos));
            layer.stream.count_unit(now, picture.keyframe);
            layer.freezes.add(capture.nanos);
        }
        let mut is_other = false;
        if index != self.program {
            let takes_over = picture.keyframe && self.best(now) == Some(index);
            if !takes_over {
                return;
            }
            self.program = index;
            is_other = self.video_track.is_some();
        }
        self.deliver_picture(picture, capture, is_other);
    }

    fn deliver_picture(&mut self, picture: h264::Picture, capture: Capture, is_other: bool) {
        // Layers of one picture have one capture time, or nearly; none may be left out, the next ones are made of it.
        let nanos = match self.layers.len() {
            1 => capture.nanos,
            _ => capture.nanos.max(self.newest.saturating_add(APART)),
        };
        self.newest = nanos;
        let at = Timestamp::from_nanos(nanos);
        let track = self.video_track(&picture);
        self.outputs.push_back(Output::Unit(AccessUnit {
            track,
            pts: at,
            dts: at,
            keyframe: picture.keyframe,
            discontinuity: picture.discontinuity || capture.broken || is_other,
            data: picture.data,
        }));
    }

    fn video_track(&mut self, picture: &h264::Picture) -> Arc<Track> {
        let unchanged = self
            .video_track
            .as_ref()
            .filter(|track| matches!(&track.config, Codec::H264(held) if *held == *picture.config));
        if let Some(track) = unchanged {
            return Arc::clone(track);
        }
        let track = Arc::new(Track {
            id: VIDEO,
            config: Codec::H264(picture.config.as_ref().clone()),
            rate: Rate::NANOS,
        });
        self.video_track = Some(Arc::clone(&track));
        track
    }

    fn handle_audio(&mut self, now: Instant, output: Received) {
        let packet = match output {
            Received::Lost => {
                self.audio_lost = true;
                return;
            }
            Received::Packet(packet) => packet,
        };
        let data = match depacketize::opus::packet(&packet) {
            Ok(Some(data)) => data,
            Ok(None) => return,
            Err(_) => {
                self.malformed += 1;
                self.audio_lost = true;
                return;
            }
        };
        let arrived = self.clock.timestamp(packet.arrived).as_nanos();
        let capture = self
            .ingress
            .capture(Media::Audio, packet.timestamp, arrived);
        self.captured = Some((packet.timestamp, capture.nanos));
        let at = Timestamp::from_nanos(capture.nanos);
        self.audio.count_unit(now, true);
        self.outputs.push_back(Output::Unit(AccessUnit {
            track: Arc::clone(&self.audio_track),
            pts: at,
            dts: at,
            keyframe: true,
            discontinuity: std::mem::take(&mut self.audio_lost) || capture.broken,
            data,
        }));
    }

    /// Queues what is due to be asked for.
    fn ask(&mut self, now: Instant) {
        let program = self.program;
        for (index, layer) in self.layers.iter_mut().enumerate() {
            let Some(ssrc) = layer.stream.ssrc() else {
                continue;
            };
            let sequences = layer.stream.receiver().poll_nacks(now);
            if !sequences.is_empty() {
                self.outputs.push_back(Output::Nack { ssrc, sequences });
            }
            layer.keyframes.set_scheduled(index == program);
            if layer.stream.has_pli() && layer.keyframes.poll_request(now) {
                self.outputs.push_back(Output::Pli { ssrc });
            }
        }
        if let Some(ssrc) = self.audio.ssrc() {
            let sequences = self.audio.receiver().poll_nacks(now);
            if !sequences.is_empty() {
                self.outputs.push_back(Output::Nack { ssrc, sequences });
            }
        }
    }
}

/// Two layers as one stream: counted together, described as the one that is on program.
fn joined(held: StreamStats, stream: &StreamStats, is_current: bool) -> StreamStats {
    let (shown, other) = if is_current {
        (stream, &held)
    } else {
        (&held, stream)
    };
    StreamStats {
        bitrate_bps: shown.bitrate_bps + other.bitrate_bps,
        packets: shown.packets + other.packets,
        bytes: shown.bytes + other.bytes,
        lost: shown.lost + other.lost,
        recovered: shown.recovered + other.recovered,
        duplicates: shown.duplicates + other.duplicates,
        nacks: shown.nacks + other.nacks,
        plis: shown.plis + other.plis,
        ..shown.clone()
    }
}

/// Totals of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) packets: u64,
    pub(crate) duplicates: u64,
    pub(crate) lost: u64,
    pub(crate) nacks: u64,
    pub(crate) recovered: u64,
    pub(crate) plis: u64,
    pub(crate) malformed: u64,
    pub(crate) rejected_reports: u64,
    pub(crate) placed_anew: u64,
    pub(crate) freezes: u64,
}

/// The receive policy that a stream with these properties gets.
fn policy(media: Media, nack: bool) -> Policy {
    match media {
        Media::Video if nack => Policy::REPAIRED,
        Media::Video | Media::Audio => Policy::UNREPAIRED,
    }
}

#[cfg(test)]
pub(super) mod layer_tests;
#[cfg(test)]
mod tests;
