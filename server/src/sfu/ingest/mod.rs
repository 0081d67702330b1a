//! One publisher's media, from packets to access units: receive buffers, depacketizers, clock, requests. Sans-IO.
//!
//! Video is track 0, audio track 1, both at nanoseconds. A change of the parameter sets is a new [`Track`] with the same
//! id. What could not be delivered shows as `discontinuity` on the next unit of its track.

mod keyframes;
mod stream;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::{AccessUnit, Clock, Config as Codec, Rate, Timestamp, Track, TrackId, opus};

use self::keyframes::Keyframes;
use self::stream::Stream;
use super::depacketize::{self, h264};
use super::ingress_clock::{IngressClock, Media};
use super::packet::{Relayed, RtpPacket};
use super::receive::{Output as Received, Policy};
use super::sdp::Offer;
use super::types::SessionStats;

/// Track ids of every session.
const VIDEO: TrackId = TrackId(0);
const AUDIO: TrackId = TrackId(1);

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
    video: Stream,
    audio: Stream,
    pictures: h264::Depacketizer,
    video_track: Option<Arc<Track>>,
    audio_track: Arc<Track>,
    audio_lost: bool,
    /// Somebody wants the packets too.
    is_relayed: bool,
    /// An RTP time and its capture time, of the newest picture and of the newest sound.
    captured: [Option<(u32, i64)>; 2],
    keyframes: Keyframes,
    outputs: VecDeque<Output>,
    malformed: u64,
}

impl Ingest {
    /// For a publisher with this offer. `interval` is the keyframe schedule (zero: none), `spacing` the shortest
    /// distance between two requests.
    pub(crate) fn new(offer: &Offer, clock: Clock, interval: Duration, spacing: Duration) -> Self {
        let parameter_sets = offer
            .taken(Media::Video)
            .map(|taken| taken.parameter_sets.clone())
            .unwrap_or_default();
        Self {
            clock,
            ingress: IngressClock::new(Rate::VIDEO.hz(), Rate::AUDIO.hz()),
            video: Stream::new(offer.taken(Media::Video), Rate::VIDEO),
            audio: Stream::new(offer.taken(Media::Audio), Rate::AUDIO),
            pictures: h264::Depacketizer::new(&parameter_sets),
            video_track: None,
            audio_track: Arc::new(Track {
                id: AUDIO,
                config: Codec::Opus(opus::Config { channels: 2 }),
                rate: Rate::NANOS,
            }),
            audio_lost: false,
            is_relayed: false,
            captured: [None; 2],
            keyframes: Keyframes::new(interval, spacing),
            outputs: VecDeque::new(),
            malformed: 0,
        }
    }

    /// Takes a packet.
    pub(crate) fn handle_packet(
        &mut self,
        now: Instant,
        media: Media,
        ssrc: u32,
        packet: RtpPacket,
    ) {
        let stream = self.stream(media);
        if stream.enter(ssrc) {
            self.ingress.reset_track(media);
            match media {
                Media::Video => self.pictures.handle_loss(),
                Media::Audio => self.audio_lost = true,
            }
            *self.captured_of(media) = None;
        }
        if !packet.repaired {
            let arrived = self.clock.timestamp(packet.arrived).as_nanos();
            let stream = self.stream(media);
            stream.measure(&packet, arrived);
            if !packet.payload.is_empty() {
                self.ingress.handle_packet(media, packet.timestamp, arrived);
            }
        }
        let sound = (media == Media::Audio && self.is_relayed).then(|| packet.clone());
        let is_new = self.stream(media).receiver().handle_packet(now, packet);
        if let Some(packet) = sound.filter(|_| is_new) {
            self.relay(media, packet);
        }
        if media == Media::Video {
            self.keyframes.begin(now);
        }
        self.drain(now, media);
        self.ask(now);
    }

    /// Whether [`Output::Relay`] is wanted.
    pub(crate) fn set_relayed(&mut self, is_relayed: bool) {
        self.is_relayed = is_relayed;
    }

    fn stream(&mut self, media: Media) -> &mut Stream {
        match media {
            Media::Video => &mut self.video,
            Media::Audio => &mut self.audio,
        }
    }

    fn captured_of(&mut self, media: Media) -> &mut Option<(u32, i64)> {
        let [video, audio] = &mut self.captured;
        match media {
            Media::Video => video,
            Media::Audio => audio,
        }
    }

    fn relay(&mut self, media: Media, packet: RtpPacket) {
        let Some(ssrc) = self.stream(media).ssrc() else {
            return;
        };
        let relayed = Relayed {
            media,
            ssrc,
            captured: *self.captured_of(media),
            config: match media {
                Media::Video => self.pictures.config().cloned(),
                Media::Audio => None,
            },
            packet,
        };
        self.outputs.push_back(Output::Relay(relayed));
    }

    /// Takes a sender report.
    pub(crate) fn handle_sender_report(
        &mut self,
        media: Media,
        ntp: u64,
        rtp: u32,
        arrived: Instant,
    ) {
        let arrived = self.clock.timestamp(arrived).as_nanos();
        self.ingress.handle_sender_report(media, ntp, rtp, arrived);
    }

    /// Somebody downstream needs a keyframe.
    pub(crate) fn request_keyframe(&mut self, now: Instant) {
        self.keyframes.want();
        self.ask(now);
    }

    /// Like [`Self::request_keyframe`], at the next occasion.
    pub(crate) fn want_keyframe(&mut self) {
        self.keyframes.want();
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for media in [Media::Video, Media::Audio] {
            match media {
                Media::Video => self.video.receiver().handle_timeout(now),
                Media::Audio => self.audio.receiver().handle_timeout(now),
            }
            self.drain(now, media);
        }
        self.ask(now);
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [
            self.video.poll_timeout(),
            self.audio.poll_timeout(),
            self.keyframes
                .poll_timeout()
                .filter(|_| self.video.has_pli()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What to do next.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Fills in what is known about the media.
    pub(crate) fn stats(&self, now: Instant, stats: &mut SessionStats) {
        let mut video = self.video.stats(now);
        let mut audio = self.audio.stats(now);
        if let (Some(video), Some(track)) = (&mut video, &self.video_track)
            && let Codec::H264(config) = &track.config
        {
            let [profile, constraints, level] = config.profile_level();
            video.codec = format!("H264 {profile:02x}{constraints:02x}{level:02x}");
            (video.width, video.height) = (config.width, config.height);
            video.undecodable = self.pictures.undecodable();
        }
        if let Some(audio) = &mut audio {
            "opus".clone_into(&mut audio.codec);
        }
        stats.rtt_ms = self.video.rtt().map(|rtt| rtt.as_secs_f64() * 1_000.0);
        stats.video = video;
        stats.audio = audio;
        stats.plis = self.keyframes.requests();
        stats.malformed = self.malformed;
    }

    /// Totals that process-wide counters are fed from.
    pub(crate) fn totals(&self) -> Totals {
        let (video, audio) = (self.video.totals(), self.audio.totals());
        Totals {
            packets: video.packets + audio.packets,
            duplicates: video.duplicates + audio.duplicates,
            lost: video.lost + audio.lost,
            nacks: video.nacks + audio.nacks,
            recovered: video.recovered + audio.recovered,
            plis: self.keyframes.requests(),
            malformed: self.malformed,
            rejected_reports: self.ingress.rejected_reports(),
        }
    }

    fn drain(&mut self, now: Instant, media: Media) {
        match media {
            Media::Video => {
                while let Some(output) = self.video.receiver().poll_output() {
                    self.handle_video(now, output);
                }
            }
            Media::Audio => {
                while let Some(output) = self.audio.receiver().poll_output() {
                    self.handle_audio(now, output);
                }
            }
        }
    }

    fn handle_video(&mut self, now: Instant, output: Received) {
        match output {
            Received::Lost => self.pictures.handle_loss(),
            Received::Packet(packet) => {
                let is_usable = self.pictures.handle_packet(&packet).is_ok();
                self.malformed += u64::from(!is_usable);
                let arrived = self.clock.timestamp(packet.arrived).as_nanos();
                if self.is_relayed && is_usable {
                    self.relay(Media::Video, packet);
                }
                while let Some(picture) = self.pictures.poll_picture() {
                    self.deliver_picture(now, picture, arrived);
                }
            }
        }
        if self.pictures.is_awaiting_idr() {
            self.keyframes.want();
        }
    }

    fn deliver_picture(&mut self, now: Instant, picture: h264::Picture, arrived: i64) {
        if picture.keyframe {
            self.keyframes.handle_keyframe(now);
        }
        let capture = self
            .ingress
            .capture(Media::Video, picture.timestamp, arrived);
        *self.captured_of(Media::Video) = Some((picture.timestamp, capture.nanos));
        let at = Timestamp::from_nanos(capture.nanos);
        self.video.count_unit(now, picture.keyframe);
        let track = self.video_track(&picture);
        self.outputs.push_back(Output::Unit(AccessUnit {
            track,
            pts: at,
            dts: at,
            keyframe: picture.keyframe,
            discontinuity: picture.discontinuity || capture.broken,
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
        *self.captured_of(Media::Audio) = Some((packet.timestamp, capture.nanos));
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
        for stream in [&mut self.video, &mut self.audio] {
            let Some(ssrc) = stream.ssrc() else { continue };
            let sequences = stream.receiver().poll_nacks(now);
            if !sequences.is_empty() {
                self.outputs.push_back(Output::Nack { ssrc, sequences });
            }
        }
        if let Some(ssrc) = self.video.ssrc()
            && self.video.has_pli()
            && self.keyframes.poll_request(now)
        {
            self.outputs.push_back(Output::Pli { ssrc });
        }
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
}

/// The receive policy that a stream with these properties gets.
fn policy(media: Media, nack: bool) -> Policy {
    match media {
        Media::Video if nack => Policy::REPAIRED,
        Media::Video | Media::Audio => Policy::UNREPAIRED,
    }
}

#[cfg(test)]
mod tests;
