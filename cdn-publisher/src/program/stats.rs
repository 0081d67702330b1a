//! What the console and `/metrics` want to know about a program.

use std::time::{Duration, Instant};

use serde::Serialize;

/// A snapshot of a program. Rates are over the last second or so.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProgramStats {
    /// The first access unit was published.
    pub started: bool,
    /// The picture.
    pub video: VideoStats,
    /// The sound.
    pub audio: AudioStats,
    /// Presented sound minus presented picture against their capture times, in milliseconds: positive when the sound
    /// is late.
    pub av_offset_ms: f64,
}

/// The picture of a program.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VideoStats {
    /// Pictures per second.
    pub fps: f64,
    /// Bits per second.
    pub bitrate_bps: f64,
    /// Width of the current sequence in luma samples; 0 before the first.
    pub width: u32,
    /// Height of the current sequence in luma samples; 0 before the first.
    pub height: u32,
    /// Time between the last two IDR pictures, in milliseconds.
    pub keyframe_interval_ms: Option<u64>,
    /// Pictures published.
    pub units: u64,
    /// Pictures not published: undecodable after a loss, duplicates, stale, or over a bound.
    pub dropped: u64,
    /// Pictures whose DTS had to be moved to keep increasing, or whose PTS not to step back at a cut.
    pub moved: u64,
}

/// The sound of a program.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AudioStats {
    /// Highest sample of the last 100 ms or more, in dB below full scale; at least [`crate::audio::FLOOR_DBFS`].
    pub peak_dbfs: f32,
    /// RMS of the same time, in dB below full scale (a full-scale square wave is 0).
    pub rms_dbfs: f32,
    /// Bits per second.
    pub bitrate_bps: f64,
    /// AAC access units published.
    pub units: u64,
    /// A host's own AAC units are published.
    pub passes: bool,
    /// Joints between a host's own AAC and encoded sound.
    pub splices: u64,
    /// Those among them that were made where the streams did not fit.
    pub forced_splices: u64,
    /// Samples of exact silence in place of missing input, since the source on air first brought sound.
    pub silence_inserted_samples: u64,
    /// Samples made up by loss concealment.
    pub concealed_samples: u64,
    /// Samples recovered by in-band forward error correction.
    pub fec_samples: u64,
    /// Packets dropped: late, duplicate, or over a bound.
    pub dropped_packets: u64,
    /// Packets that the decoder refused.
    pub bad_packets: u64,
    /// The rate of the source's clock against the anchor's, as followed by the resampler, in parts per million.
    pub resample_ppm: f64,
    /// Cross-faded jumps, when the source's timeline moved faster than the resampler may follow.
    pub reanchors: u64,
}

/// Counts events and bytes and turns them into rates once per window.
#[derive(Debug, Default)]
pub(crate) struct RateMeter {
    since: Option<Instant>,
    count: u64,
    bytes: u64,
    per_second: f64,
    bits_per_second: f64,
}

impl RateMeter {
    const WINDOW: Duration = Duration::from_secs(1);

    /// One event of `bytes` bytes.
    pub(crate) fn add(&mut self, now: Instant, bytes: usize) {
        self.roll(now);
        self.count += 1;
        self.bytes += bytes as u64;
    }

    /// Closes the window when it is full.
    fn roll(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= Self::WINDOW {
            let seconds = elapsed.as_secs_f64();
            self.per_second = self.count as f64 / seconds;
            self.bits_per_second = self.bytes as f64 * 8.0 / seconds;
            (self.count, self.bytes) = (0, 0);
            self.since = Some(now);
        }
    }

    /// Events per second and bits per second; both fall to zero when nothing has come for two windows.
    pub(crate) fn rates(&self, now: Instant) -> (f64, f64) {
        let stale = self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= 2 * Self::WINDOW);
        if stale {
            (0.0, 0.0)
        } else {
            (self.per_second, self.bits_per_second)
        }
    }
}
