//! What a viewer notices.

use media::substream::Entry;

use super::figures::Figures;
use crate::player::Stats;

/// A viewer of the simulator.
#[derive(Debug, Default)]
pub(super) struct Viewer {
    pub(super) joined: bool,
    /// The picture has moved once.
    started: bool,
    watched_us: u64,
    stalled_us: u64,
    latency_s: f64,
    looks: f64,
    newest_ms: u32,
    last: Option<usize>,
    skips: u64,
    played_bytes: f64,
    out_of_order: f64,
}

impl Viewer {
    /// A frame has left the player; `at` is its number in the stream.
    pub(super) fn take(&mut self, at: Option<usize>, entry: &Entry, bytes: usize) {
        self.newest_ms = self.newest_ms.max(entry.header.dts_ms);
        self.played_bytes += f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        let follows = match (self.last, at) {
            (_, None) => false,
            (None, Some(_)) => true,
            // Behind a skip it goes on with any later keyframe.
            (Some(last), Some(at)) => at == last + 1 || (at > last && entry.header.kind.is_key()),
        };
        // The first frames of sound from before the first picture do not leave.
        let beginning = self.played_bytes < 1e5;
        self.out_of_order += f64::from(u8::from(!follows && !beginning));
        self.last = at.or(self.last);
    }

    /// The viewer is looked at, every so often.
    pub(super) fn look(&mut self, stats: &Stats, now_us: u64, every_us: u64) {
        self.started |= stats.playing;
        if !self.started {
            return;
        }
        self.watched_us += every_us;
        if !stats.playing {
            self.stalled_us += every_us;
        }
        let head_ms = i64::from(self.newest_ms) - stats.buffer_ms;
        let now_ms = i64::try_from(now_us / 1_000).unwrap_or_default();
        let behind = u32::try_from(now_ms - head_ms).unwrap_or_default();
        self.latency_s += f64::from(behind) / 1_000.0;
        self.looks += 1.0;
        self.skips = stats.skips;
    }

    /// Adds to the figures of the trial.
    pub(super) fn add(&self, figures: &mut Figures, stats: &Stats) {
        let float = |value: u64| f64::from(u32::try_from(value).unwrap_or(u32::MAX));
        let seconds = |us: u64| float(us / 1_000) / 1_000.0;
        figures.watched_s += seconds(self.watched_us);
        figures.stalls += float(stats.stalls);
        figures.stalled_s += seconds(self.stalled_us);
        figures.latency_s += self.latency_s;
        figures.looks += self.looks;
        figures.played_bytes += self.played_bytes;
        figures.out_of_order += self.out_of_order;
        figures.skips += float(stats.skips);
        figures.fallbacks += float(stats.fallbacks);
        figures.relay_bytes += float(stats.relay_bytes);
        figures.duplicate_bytes += float(stats.duplicate_bytes);
        figures.fetched_frames += float(stats.fetched_frames);
        figures.moved += float(stats.moved_substreams);
    }
}
