//! What those who watch a participant by WebRTC get of an RTMP publisher: pictures in order, and sound as Opus, both
//! made only while somebody watches.

use std::time::Instant;

use cdn_publisher::audio::transcode::Transcoder;
use media::{AccessUnit, Config, Kind, Timestamp, aac};
use tracing::{debug, info, warn};

use super::reorder::{Reorder, Verdict};
use crate::config::BFrames;
use crate::sfu::{Feed, Sfu};

/// Why this publisher cannot be watched by WebRTC, and what helps.
const REFUSAL: &str = "this participant publishes by RTMP with B-frames, which WebRTC cannot show: in the encoder's \
    settings, turn B-frames off (OBS: bframes=0; ffmpeg: -bf 0, or at least -x264-params b-pyramid=none)";
/// The same when they could have been left out.
const STRICT_REFUSAL: &str = "this participant publishes by RTMP with B-frames, which this server does not take for \
    WebRTC: in the encoder's settings, turn B-frames off (OBS: bframes=0; ffmpeg: -bf 0)";

/// A co-broadcaster listens: voice and music alike.
const OPUS_BITRATE_BPS: u32 = 96_000;

/// The way of one publisher to those who watch it.
pub(super) struct Relay {
    sfu: Sfu,
    feed: Feed,
    policy: BFrames,
    reorder: Reorder,
    is_refused: bool,
    sound: Sound,
    packets: Vec<AccessUnit>,
}

/// The way from AAC to Opus.
enum Sound {
    /// Nobody listens.
    Idle,
    Running(Box<Transcoder>),
    /// This cannot be decoded.
    Failed(aac::Config),
}

impl Relay {
    pub(super) fn new(sfu: Sfu, feed: Feed, policy: BFrames) -> Self {
        Self {
            sfu,
            feed,
            policy,
            reorder: Reorder::default(),
            is_refused: false,
            sound: Sound::Idle,
            packets: Vec::new(),
        }
    }

    /// Takes a unit that arrived at `now`.
    pub(super) fn handle(&mut self, now: Instant, unit: &AccessUnit) {
        if self.is_refused {
            return;
        }
        match unit.kind() {
            Kind::Video => self.picture(now, unit),
            Kind::Audio => self.sound(now, unit),
        }
    }

    fn picture(&mut self, now: Instant, unit: &AccessUnit) {
        let why = match (self.reorder.judge(unit), self.policy) {
            (Verdict::Forward, _) => return self.feed.send(now, unit, Timestamp::from_nanos(0)),
            (Verdict::LeaveOut, BFrames::Drop) => return,
            (Verdict::LeaveOut, BFrames::Refuse) => STRICT_REFUSAL,
            (Verdict::Impossible, BFrames::Drop | BFrames::Refuse) => REFUSAL,
        };
        self.is_refused = true;
        info!("B-frames: nobody can watch this participant by WebRTC");
        self.feed.refuse(why);
    }

    fn sound(&mut self, now: Instant, unit: &AccessUnit) {
        let Config::Aac(config) = &unit.track.config else {
            return;
        };
        if !self.feed.is_watched() {
            self.sound = Sound::Idle;
            return;
        }
        let is_other = match &self.sound {
            Sound::Idle => true,
            Sound::Running(transcoder) => !transcoder.takes(config),
            Sound::Failed(failed) => failed != config,
        };
        if is_other {
            self.sound = match Transcoder::new(config, OPUS_BITRATE_BPS) {
                Ok(transcoder) => Sound::Running(Box::new(transcoder)),
                Err(error) => {
                    warn!(%error, "those who watch this participant by WebRTC do not hear it");
                    Sound::Failed(config.clone())
                }
            };
        }
        let Sound::Running(transcoder) = &mut self.sound else {
            return;
        };
        if let Err(error) = transcoder.push(unit, &mut self.packets) {
            debug!(%error, "a unit of sound is left out");
        }
        for packet in self.packets.drain(..) {
            self.feed.send(now, &packet, Timestamp::from_nanos(0));
        }
    }

    /// The publisher has gone; `returns` when its connection just broke.
    pub(super) fn end(self, returns: bool) {
        let Self { sfu, feed, .. } = self;
        debug!(returns, "the feed ends");
        tokio::spawn(async move { sfu.end_feed(feed, returns).await });
    }
}
