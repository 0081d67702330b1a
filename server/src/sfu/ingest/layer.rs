//! One layer of a publisher's picture: its receive buffer, its depacketizer, its requests. A picture that is sent in one
//! stream has one layer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::{Config, Rate, h264};

use super::keyframes::Keyframes;
use super::stream::Stream;
use crate::sfu::activity::Activity;
use crate::sfu::depacketize::h264::Depacketizer;
use crate::sfu::sdp::Taken;
use crate::sfu::types::StreamStats;

/// The layer.
#[derive(Debug)]
pub(super) struct Layer {
    /// Its name in the offer; empty when there is one stream.
    pub(super) rid: String,
    pub(super) stream: Stream,
    pub(super) pictures: Depacketizer,
    pub(super) keyframes: Keyframes,
    /// An RTP time and its capture time, of the newest picture.
    pub(super) captured: Option<(u32, i64)>,
    pub(super) activity: Activity,
    pub(super) freezes: Freezes,
    /// Parameter sets of its newest keyframe.
    pub(super) sizes: Option<Arc<h264::Config>>,
}

impl Layer {
    pub(super) fn new(
        taken: Option<&Taken>,
        rid: &str,
        parameter_sets: &[Bytes],
        interval: Duration,
        spacing: Duration,
    ) -> Self {
        Self {
            rid: rid.to_owned(),
            stream: Stream::new(taken, Rate::VIDEO),
            pictures: Depacketizer::new(parameter_sets),
            keyframes: Keyframes::new(interval, spacing),
            captured: None,
            activity: Activity::default(),
            freezes: Freezes::default(),
            sizes: None,
        }
    }

    /// Luma samples of a picture; 0 before the first keyframe.
    pub(super) fn area(&self) -> u64 {
        self.sizes.as_ref().map_or(0, |config| {
            u64::from(config.width) * u64::from(config.height)
        })
    }

    /// Lines of a picture; 0 before the first keyframe.
    pub(super) fn height(&self) -> u32 {
        self.sizes.as_ref().map_or(0, |config| config.height)
    }

    /// What is known; none before the first packet. `config` are its parameter sets.
    pub(super) fn stats(&self, now: Instant, config: Option<&h264::Config>) -> Option<StreamStats> {
        let mut stats = self.stream.stats(now)?;
        if let Some(config) = config {
            let [profile, constraints, level] = config.profile_level();
            stats.codec = format!("H264 {profile:02x}{constraints:02x}{level:02x}");
            (stats.width, stats.height) = (config.width, config.height);
        }
        stats.undecodable = self.pictures.undecodable();
        stats.plis = self.keyframes.requests();
        (stats.freezes, stats.frozen_ms) = self.freezes.totals();
        stats.frozen_ratio = self.freezes.ratio();
        Some(stats)
    }
}

/// The parameter sets of a track.
pub(super) fn h264_config(config: &Config) -> Option<&h264::Config> {
    match config {
        Config::H264(config) => Some(config),
        Config::Opus(_) | Config::Aac(_) => None,
    }
}

/// Times without a picture, as the W3C statistics count them (`freezeCount`): longer than three times what is usual and
/// than what is usual and 150 ms.
#[derive(Debug, Default)]
pub(super) struct Freezes {
    last: Option<i64>,
    /// From the first picture to the last.
    media_ms: u64,
    /// What is usual between two pictures, smoothed, in nanoseconds.
    usual: i64,
    count: u64,
    frozen_ms: u64,
}

impl Freezes {
    /// A picture that can be shown, captured at `nanos`.
    pub(super) fn add(&mut self, nanos: i64) {
        const MS: i64 = 1_000_000;
        let Some(last) = self.last.replace(nanos) else {
            return;
        };
        let apart = nanos.saturating_sub(last).max(0);
        self.media_ms += u64::try_from(apart / MS).unwrap_or(0);
        if self.usual == 0 {
            self.usual = apart;
        } else if apart > (self.usual * 3).max(self.usual + 150 * MS) {
            self.count += 1;
            self.frozen_ms += u64::try_from((apart - self.usual) / MS).unwrap_or(0);
        } else {
            self.usual += (apart - self.usual) / 8;
        }
    }

    /// The share of the time.
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub(super) fn ratio(&self) -> f64 {
        match self.media_ms {
            0 => 0.0,
            media_ms => self.frozen_ms as f64 / media_ms as f64,
        }
    }

    /// How often, and for how long together.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.count, self.frozen_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_a_freeze_and_a_slow_picture_is_not() {
        let mut freezes = Freezes::default();
        for n in 0..50 {
            freezes.add(n * 40_000_000);
        }
        freezes.add(50 * 40_000_000 + 100_000_000);
        assert_eq!(freezes.totals(), (0, 0));
        freezes.add(50 * 40_000_000 + 640_000_000);
        let (count, frozen_ms) = freezes.totals();
        assert_eq!(count, 1);
        assert!((480..=500).contains(&frozen_ms), "{frozen_ms}");
    }
}
