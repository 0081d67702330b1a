//! The PCM bus of a program, and the units that come of it.
//!
//! Every voice is summed here, block by block; the [`Splicer`] turns blocks into units, or publishes a host's own units as
//! long as they sound the same. The bus reads ahead of the unit that is published next by what the encoder looks ahead.
//!
//! Invariants:
//! - Unit `n` presents exactly the samples `n·1024 .. (n+1)·1024` of the output; none is missing or doubled.
//! - Output and program time differ by a constant, [`Bus::offset`], except while a host's own units are published: its clock
//!   cannot be resampled, so the offset follows it, by at most one sample per unit.

use std::sync::Arc;

use bytes::Bytes;
use media::{AccessUnit, Config, Rate, Timestamp, Track, TrackId, aac};

use super::FLOOR_DBFS;
use super::codec::AacSettings;
use super::codec::{Codecs, Frame, UNIT_SAMPLES};
use super::limiter::Limiter;
use super::live::Live;
use super::splice::{Joint, PRIMING_UNITS, Side, Splicer};
use crate::Error;

/// The program's audio track.
pub(crate) const AUDIO_TRACK: TrackId = TrackId(1);
const UNIT: i64 = UNIT_SAMPLES as i64;
/// An error of the host's clock within which program time does not move, in samples.
const FOLLOW_SAMPLES: f64 = 1.0;
const FULL_SCALE: f64 = 32_768.0;
/// Samples that are measured side by side.
const LANES: usize = 8;
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

/// Sums sound into blocks of one unit, and makes units of them.
#[derive(Debug)]
pub(crate) struct Bus {
    splicer: Splicer,
    track: Arc<Track>,
    mix: Vec<Frame>,
    host: Vec<Frame>,
    /// Program time of output sample 0, in samples.
    offset: i64,
    /// Blocks before this position were read from a host that sleeps.
    slept_until: i64,
    meter: LevelMeter,
    limiter: Limiter,
    live: Option<Box<Live>>,
}

impl Bus {
    /// A bus whose first unit is the one that covers `start`, a sample of program time; some unit begins at `grid`. Its
    /// units are configured like those of `host`, if there is one, or else as the encoder likes.
    ///
    /// # Errors
    /// [`Error::Codec`] when the encoder refuses its settings; [`Error::Media`] when it says nonsense about itself.
    pub(crate) fn new(
        codecs: &dyn Codecs,
        settings: AacSettings,
        host: Option<&aac::Config>,
        start: i64,
        grid: i64,
    ) -> Result<Self, Error> {
        let offset = grid.rem_euclid(UNIT);
        let first = start.saturating_sub(offset).div_euclid(UNIT);
        let splicer = Splicer::new(codecs, settings, first)?;
        let config = match host {
            Some(config) => config.clone(),
            None => aac::Config::parse(splicer.config())?,
        };
        let track = Arc::new(Track {
            id: AUDIO_TRACK,
            rate: Rate::new(config.sample_rate_hz).unwrap_or(Rate::AUDIO),
            config: Config::Aac(config),
        });
        Ok(Self {
            splicer,
            track,
            mix: vec![Frame::default(); UNIT_SAMPLES],
            host: Vec::new(),
            offset,
            slept_until: i64::MIN,
            meter: LevelMeter::default(),
            limiter: Limiter::default(),
            live: None,
        })
    }

    /// Samples of program time per second.
    pub(crate) fn rate(&self) -> Rate {
        self.track.rate
    }

    /// Units of this configuration may be published among those of the bus.
    pub(crate) fn takes(&self, config: &aac::Config) -> bool {
        matches!(&self.track.config, Config::Aac(own) if own.splices_with(config))
    }

    /// The sound for viewers in real time, cut from the same blocks; none is made while there is none.
    pub(crate) fn live_mut(&mut self) -> &mut Option<Box<Live>> {
        &mut self.live
    }

    /// Program time of the next packet for viewers in real time, in nanoseconds.
    pub(crate) fn next_live_ns(&self) -> Option<i64> {
        self.live.as_ref()?.next_ns()
    }

    /// A host's own units are published.
    pub(crate) fn passes(&self) -> bool {
        self.splicer.side() == Side::Host
    }

    /// Start of the next unit, in samples of program time.
    pub(crate) fn next_start(&self) -> i64 {
        self.splicer.next_slot() * UNIT + self.offset
    }

    /// Where the next block is read from, in samples of program time.
    pub(crate) fn position(&self) -> i64 {
        self.splicer.position() + self.offset
    }

    /// Which of the units comes next, for what is done now and then.
    pub(crate) fn slot(&self) -> i64 {
        self.splicer.next_slot()
    }

    /// Whether another block must be read before the next unit can be made.
    pub(crate) fn wants_block(&self) -> bool {
        self.splicer.position() < self.splicer.needs()
    }

    /// Reads the next block: `read` adds what is to be heard to its second argument, and puts what the host alone sounds
    /// like, unchanged, into its third if its own units are or may be published. The block is nothing that anybody hears if
    /// the host is `asleep`.
    pub(crate) fn read(
        &mut self,
        asleep: bool,
        read: impl FnOnce(i64, &mut [Frame], &mut Vec<Frame>),
    ) {
        self.mix.fill(Frame::default());
        self.host.clear();
        let position = self.position();
        read(position, &mut self.mix, &mut self.host);
        self.limiter.limit(&mut self.mix);
        if !asleep {
            self.meter.add(&self.mix);
        }
        if let Some(live) = &mut self.live {
            live.push(position, &self.mix);
        }
        let host = (!self.host.is_empty()).then_some(self.host.as_slice());
        self.splicer.feed(host, &self.mix);
        if asleep {
            self.slept_until = self.splicer.position();
        }
    }

    /// How much of what was read last has to be told again by [`Bus::tell_again`] before an encoder can take over.
    pub(crate) fn forgotten_samples(&self) -> i64 {
        let needed = PRIMING_UNITS as i64 * UNIT + 2 * UNIT;
        match self.slept_until > self.splicer.position() - needed {
            true => needed,
            false => 0,
        }
    }

    /// What the host alone sounded like in the last blocks, which slept.
    pub(crate) fn tell_again(&mut self, host: &[Frame]) {
        self.splicer.feed_again(host);
        self.slept_until = i64::MIN;
    }

    /// The next unit. `host` gives the host's own unit whose first sample lies this many samples before
    /// [`Bus::position`].
    pub(crate) fn next_unit(
        &mut self,
        codecs: &dyn Codecs,
        want: Side,
        host: impl Fn(i64) -> Option<Bytes>,
    ) -> (AccessUnit, Option<Joint>) {
        let at = Timestamp::new(self.next_start(), self.rate());
        let read = self.splicer.position();
        let unit = self
            .splicer
            .next_unit(codecs, want, &|slot| host(read - slot * UNIT));
        let joint = unit.joint;
        let unit = AccessUnit {
            track: Arc::clone(&self.track),
            pts: at,
            dts: at,
            keyframe: true,
            discontinuity: false,
            data: unit.data,
        };
        (unit, joint)
    }

    /// The host whose own units are published is presented `error` samples too early: program time moves with it, by at
    /// most one sample.
    pub(crate) fn follow(&mut self, error: f64) {
        if self.passes() && error.abs() > FOLLOW_SAMPLES {
            self.offset += if error > 0.0 { 1 } else { -1 };
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
            // Lanes of their own, so that the compiler can use vector registers.
            let (mut peaks, mut sums) = ([0.0f32; LANES], [0.0f32; LANES]);
            let (whole, rest) = frames.as_flattened().as_chunks::<LANES>();
            let mut last = [0.0; LANES];
            for (to, from) in last.iter_mut().zip(rest) {
                *to = *from;
            }
            for samples in whole.iter().chain(std::iter::once(&last)) {
                for lane in 0..LANES {
                    let level = samples[lane].abs();
                    peaks[lane] = if level > peaks[lane] {
                        level
                    } else {
                        peaks[lane]
                    };
                    sums[lane] += level * level;
                }
            }
            self.peak = peaks.into_iter().fold(self.peak, f32::max);
            self.energy += f64::from(sums.iter().sum::<f32>());
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
