//! The stream's part of [`crate::StreamStats`].

use std::time::Instant;

use media::Config;

use super::timeline::Lane;
use super::{Header, Stream};
use crate::{AudioStats, StreamStats, VideoStats, Viewers};

impl Stream {
    /// What is known about the stream; viewers and bytes out belong to the shell.
    pub(crate) fn report(&mut self, now: Instant, name: &str) -> StreamStats {
        let since = self.publisher_since();
        StreamStats {
            name: name.to_owned(),
            state: self.state(),
            publisher_since_s: since
                .map(|since| now.saturating_duration_since(since).as_secs_f64()),
            publishers: self.counters.publishers,
            video: self.video_stats(now),
            audio: self.audio_stats(now),
            viewers: Viewers::default(),
            bytes_in: self.counters.bytes_in,
            bytes_out: 0,
            viewer_skips: self.counters.viewer_skips,
            viewer_disconnects: 0,
            tags_dropped: self.counters.tags_dropped,
            timestamps_corrected: self.counters.timestamps_corrected,
            video_dts_ms: self.timeline.newest(Lane::Video),
            audio_dts_ms: self.timeline.newest(Lane::Audio),
        }
    }

    fn video_stats(&mut self, now: Instant) -> Option<VideoStats> {
        let Config::H264(avc) = config(self.codecs.video.as_ref())? else {
            return None;
        };
        let [profile, constraints, level] = avc.profile_level();
        let (width, height) = (avc.width, avc.height);
        let rates = self.video_meter.rates(now);
        Some(VideoStats {
            codec: format!("avc1.{profile:02x}{constraints:02x}{level:02x}"),
            width,
            height,
            fps: rates.units_per_s,
            bitrate_kbps: rates.kbps,
        })
    }

    fn audio_stats(&mut self, now: Instant) -> Option<AudioStats> {
        let Config::Aac(aac) = config(self.codecs.audio.as_ref())? else {
            return None;
        };
        let (object_type, sample_rate_hz, channels) =
            (aac.object_type, aac.sample_rate_hz, aac.channels);
        Some(AudioStats {
            codec: format!("mp4a.40.{object_type}"),
            sample_rate_hz,
            channels,
            bitrate_kbps: self.audio_meter.rates(now).kbps,
        })
    }
}

fn config(header: Option<&Header>) -> Option<&Config> {
    header.map(|header| &header.track.config)
}
