//! The PCM bus and the one AAC encoder of a program.
//!
//! Invariant: unit `n` presents exactly the program samples `n·1024 .. (n+1)·1024`. The encoder's delay is taken out by
//! feeding it ahead by that many samples; the units that precede the first wanted one are its priming and are discarded.

use std::sync::Arc;

use bytes::Bytes;
use media::{AccessUnit, Config, Rate, Timestamp, Track, TrackId, aac};

use super::FLOOR_DBFS;
use super::codec::{Encode, Frame, UNIT_SAMPLES};
use super::limiter::Limiter;
use super::live::Live;
use crate::Error;

/// The program's audio track.
pub(crate) const AUDIO_TRACK: TrackId = TrackId(1);
const UNIT: i64 = UNIT_SAMPLES as i64;
const FULL_SCALE: f64 = 32_768.0;
/// Samples over which levels are measured: at least 100 ms.
const LEVEL_SAMPLES: usize = 4_800;

/// Levels of the last measured stretch, in dB below full scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Levels {
    /// Highest sample; at least [`FLOOR_DBFS`].
    pub peak_dbfs: f32,
    /// RMS (a full-scale square wave is 0).
    pub rms_dbfs: f32,
}

/// Sums sound into blocks of one unit, and encodes them.
#[derive(Debug)]
pub(crate) struct Bus {
    encoder: Box<dyn Encode>,
    track: Arc<Track>,
    block: Vec<Frame>,
    /// Where the next block is read from, in samples of program time.
    position: i64,
    /// The unit that the encoder's next output is.
    next: i64,
    /// Published when the encoder fails: its first output, which is silence.
    fallback: Option<Bytes>,
    meter: LevelMeter,
    limiter: Limiter,
    live: Option<Box<Live>>,
}

impl Bus {
    /// A bus whose first unit is the one that covers program sample `start`.
    ///
    /// # Errors
    /// [`Error::Media`] when the encoder's configuration is not understood.
    pub(crate) fn new(encoder: Box<dyn Encode>, start: i64) -> Result<Self, Error> {
        let config = aac::Config::parse(encoder.config())?;
        let track = Arc::new(Track {
            id: AUDIO_TRACK,
            config: Config::Aac(config),
            rate: Rate::AUDIO,
        });
        let delay = i64::from(encoder.delay_samples());
        let first = start.div_euclid(UNIT);
        let priming = delay.div_euclid(UNIT) + i64::from(delay.rem_euclid(UNIT) != 0);
        Ok(Self {
            encoder,
            track,
            block: vec![Frame::default(); UNIT_SAMPLES],
            position: (first - priming) * UNIT + delay,
            next: first - priming,
            fallback: None,
            meter: LevelMeter::default(),
            limiter: Limiter::default(),
            live: None,
        })
    }

    /// The sound for viewers in real time, cut from the same blocks; none is made while there is none.
    pub(crate) fn live_mut(&mut self) -> &mut Option<Box<Live>> {
        &mut self.live
    }

    /// Program time of the next packet for viewers in real time, in nanoseconds.
    pub(crate) fn next_live_ns(&self) -> Option<i64> {
        self.live.as_ref()?.next_ns()
    }

    /// Start of the unit that the encoder's next output is, in samples of program time.
    pub(crate) fn next_start(&self) -> i64 {
        self.next * UNIT
    }

    /// Where the next block is read from, in samples of program time.
    pub(crate) fn position(&self) -> i64 {
        self.position
    }

    /// Reads the next block by `read` (which adds its sound to the block) and encodes it.
    pub(crate) fn encode(&mut self, mut read: impl FnMut(i64, &mut [Frame])) -> AccessUnit {
        self.block.fill(Frame::default());
        read(self.position, &mut self.block);
        self.limiter.limit(&mut self.block);
        self.meter.add(&self.block);
        if let Some(live) = &mut self.live {
            live.push(self.position, &self.block);
        }
        let data = match self.encoder.encode(&self.block) {
            Ok(data) => data,
            Err(error) => {
                tracing::error!(%error, "audio unit replaced by silence");
                metrics::counter!("anchornet_program_encoder_errors_total").increment(1);
                self.fallback.clone().unwrap_or_default()
            }
        };
        self.fallback.get_or_insert_with(|| data.clone());
        let at = Timestamp::new(self.next_start(), Rate::AUDIO);
        self.position += UNIT;
        self.next += 1;
        AccessUnit {
            track: Arc::clone(&self.track),
            pts: at,
            dts: at,
            keyframe: true,
            discontinuity: false,
            data,
        }
    }

    /// Peak and RMS.
    pub(crate) fn levels(&self) -> Levels {
        self.meter.levels()
    }
}

/// Measures stretches of [`LEVEL_SAMPLES`].
#[derive(Debug)]
pub(crate) struct LevelMeter {
    samples: usize,
    peak: f32,
    energy: f64,
    levels: Levels,
}

impl Default for LevelMeter {
    fn default() -> Self {
        let levels = Levels {
            peak_dbfs: FLOOR_DBFS,
            rms_dbfs: FLOOR_DBFS,
        };
        Self {
            samples: 0,
            peak: 0.0,
            energy: 0.0,
            levels,
        }
    }
}

impl LevelMeter {
    /// Of the last whole stretch.
    pub(crate) fn levels(&self) -> Levels {
        self.levels
    }

    pub(crate) fn add(&mut self, block: &[Frame]) {
        for frames in block.chunks(64) {
            let mut energy = 0.0f32;
            for [left, right] in frames {
                self.peak = self.peak.max(left.abs()).max(right.abs());
                energy += left * left + right * right;
            }
            self.energy += f64::from(energy);
        }
        self.samples += block.len();
        if self.samples >= LEVEL_SAMPLES {
            let rms = (self.energy / (2.0 * self.samples as f64)).sqrt();
            self.levels = Levels {
                peak_dbfs: dbfs(f64::from(self.peak)),
                rms_dbfs: dbfs(rms),
            };
            (self.samples, self.peak, self.energy) = (0, 0.0, 0.0);
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a level for a meter")]
fn dbfs(value: f64) -> f32 {
    (20.0 * (value / FULL_SCALE).log10()).max(f64::from(FLOOR_DBFS)) as f32
}
