//! How a publisher's media arrives: totals, and rates over about the last second.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use media::{AccessUnit, Config, Kind};

use crate::sfu::{SessionStats, StreamStats};

/// Rates are made anew this often.
const PERIOD: Duration = Duration::from_secs(1);

/// The meter of one publisher.
#[derive(Debug)]
pub(super) struct Meter {
    stats: SessionStats,
    since: Instant,
    /// Bytes and units since then, of pictures and of sound.
    counted: [(u64, u32); 2],
}

impl Meter {
    pub(super) fn new(now: Instant, peer: SocketAddr) -> Self {
        Self {
            stats: SessionStats {
                connected: true,
                remote_address: Some(peer),
                ..SessionStats::default()
            },
            since: now,
            counted: [(0, 0); 2],
        }
    }

    /// Counts a unit; gives the measurements when they are to be published anew.
    pub(super) fn count(
        &mut self,
        now: Instant,
        unit: &AccessUnit,
        drops: u64,
    ) -> Option<SessionStats> {
        let bytes = u64::try_from(unit.data.len()).unwrap_or_default();
        let at = usize::from(unit.kind() == Kind::Audio);
        if let Some((counted, units)) = self.counted.get_mut(at) {
            *counted += bytes;
            *units += 1;
        }
        let stream = match unit.kind() {
            Kind::Video => &mut self.stats.video,
            Kind::Audio => &mut self.stats.audio,
        };
        let is_new = stream.is_none();
        let stream = stream.get_or_insert_default();
        stream.packets += 1;
        stream.units += 1;
        stream.bytes += bytes;
        if let Config::H264(avc) = &unit.track.config {
            stream.keyframes += u64::from(unit.keyframe);
            (stream.width, stream.height) = (avc.width, avc.height);
        }
        let passed = now.saturating_duration_since(self.since);
        if passed < PERIOD && !is_new {
            return None;
        }
        self.stats.sink_drops = drops;
        if is_new {
            stream.codec = codec_name(&unit.track.config);
        }
        if passed >= PERIOD {
            self.since = now;
            let counted = std::mem::take(&mut self.counted);
            let streams = [&mut self.stats.video, &mut self.stats.audio];
            for (stream, (bytes, units)) in streams.into_iter().zip(counted) {
                rate(stream.as_mut(), passed, bytes, units);
            }
        }
        Some(self.stats.clone())
    }
}

fn codec_name(config: &Config) -> String {
    match config {
        Config::H264(avc) => {
            let [profile, constraints, level] = avc.profile_level();
            format!("H264 {profile:02x}{constraints:02x}{level:02x}")
        }
        Config::Aac(aac) => format!("AAC mp4a.40.{}", aac.object_type),
        Config::Opus(_) => "opus".to_owned(),
    }
}

fn rate(stream: Option<&mut StreamStats>, passed: Duration, bytes: u64, units: u32) {
    let Some(stream) = stream else { return };
    let ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
    stream.bitrate_bps = bytes.saturating_mul(8_000) / ms;
    stream.fps = f64::from(units) / passed.as_secs_f64().max(0.001);
}
