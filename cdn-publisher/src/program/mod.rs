//! The program: the channel's single continuous output.
//!
//! Access units of the source that is on air come in with their capture time on the anchor's clock; H.264 and AAC units
//! come out on the program's timeline, whose zero is the channel epoch. The contract (`docs/timestamps.md`):
//!
//! - *Constant delay.* A unit is released at its capture time + [`Config::program_delay`], sound and picture alike, so
//!   that two sources that show the same moment are interchangeable. Picture that comes later than that is released at
//!   once with its true timestamp; sound that comes later than that is lost.
//! - *Sound is the master.* Audio units follow each other every 1024 samples; from the first on, none is ever missing.
//!   Missing input is concealed, then silence.
//! - *A host's AAC passes through* where it is all that is heard, at its own loudness, in the program's configuration: the
//!   bytes are the host's. What comes before and after is joined to it without a seam ([`crate::audio::splice`]). Any other
//!   sound goes over the bus and one encoder.
//! - *Picture passes through.* Slices are byte-identical. Every IDR carries SPS and PPS, except those of a source that sends
//!   them out of band while nothing else was ever shown: its units are untouched. What cannot be decoded after a loss is
//!   dropped until the next IDR. DTS strictly increases, by at least 1 ms.
//! - *Sources come and go.* The program goes on; a source enters the picture at its first keyframe.
//! - *One picture, many voices.* One source is shown at a time; every attached source is heard with its own gain. A cut to
//!   another source ([`Input::Show`]) happens at an IDR of that source which is later than everything published, and the
//!   picture that is there goes on until then: it never jumps back. Gains move over [`GAIN_RAMP`], and nothing else
//!   about a voice changes: a host is heard by the very same samples alone and among guests.
//!
//! Start: the first IDR of the source to be shown is the first picture, and the audio unit that covers its capture time the
//! first sound. A source that brings sound but no picture is waited for [`START_WAIT`] only. A source without
//! sound gets silence, since players of this stream expect both tracks.
//!
//! Sans-IO: `handle`, `handle_timeout`, `poll_output`, `poll_timeout`.

mod sound;
mod source;
mod stats;
mod video;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use media::{AccessUnit, Clock, Config as Codec, Timestamp};

pub use stats::{AudioStats, ProgramStats, VideoStats};

pub use crate::audio::bus::Levels;
pub use video::{MAX_QUEUED_BYTES, MAX_QUEUED_UNITS};

use self::source::Source;
use self::stats::RateMeter;
use self::video::VideoTimeline;
use crate::Error;
use crate::audio::bus::Bus;
use crate::audio::codec::{AacSettings, Codecs, RealCodecs};
use crate::audio::input::Counters;
use crate::audio::splice::{Joint, Side};

/// Most sources attached at a time, counting those whose last units still wait.
pub const MAX_SOURCES: usize = 64;

/// How long the start of the program waits for a first picture once there is sound.
pub const START_WAIT: Duration = Duration::from_secs(1);

/// A capture time further ahead of now than this is refused. Some lead is normal: a sender that begins with a burst is
/// ahead of its arrivals.
pub const MAX_LEAD: Duration = Duration::from_secs(2);

/// How long a gain takes to change.
pub const GAIN_RAMP: Duration = Duration::from_millis(10);

/// Pictures of two sources that are nearer to each other than this show the same moment, in nanoseconds: FLV counts
/// milliseconds.
const SAME_MOMENT_NS: i64 = 1_000_000;
/// Most audio units made in one call, when the caller was away for long.
const MAX_UNITS_PER_CALL: usize = 256;

/// A source that was detached this long ago has nothing more to give.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Identifies a source of one program: a session of a broadcaster. Never reused within a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u64);

/// What can be set about a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// From capture to release. Must exceed network jitter + 64 ms, which the AAC encoder looks ahead.
    pub program_delay: Duration,
    /// AAC bit rate in bits per second.
    pub aac_bitrate_bps: u32,
    /// fdk-aac's analysis by synthesis: a little better sound for twice the CPU time.
    pub aac_afterburner: bool,
    /// Bit rate of [`Output::LiveSound`] in bits per second.
    pub opus_bitrate_bps: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            program_delay: Duration::from_millis(300),
            aac_bitrate_bps: 128_000,
            aac_afterburner: false,
            opus_bitrate_bps: 96_000,
        }
    }
}

/// What happens to a program.
#[derive(Clone, Debug)]
pub enum Input {
    /// A source is there; it is heard at this gain.
    Attach {
        /// The new source.
        source: SourceId,
        /// Linear gain of its sound: 0 is silent, 1 is unchanged.
        gain: f32,
    },
    /// This source's picture is wanted: from its next IDR on, with what is shown now until then.
    Show {
        /// An attached source.
        source: SourceId,
        /// The gains that belong to that picture: they are set at the cut. Sources left out keep theirs.
        gains: Vec<(SourceId, f32)>,
        /// Pictures captured earlier do not count: they show something else. On the anchor's clock.
        not_before: Option<Timestamp>,
    },
    /// A source is heard at another gain, reached over [`GAIN_RAMP`].
    Gain {
        /// An attached source.
        source: SourceId,
        /// Linear gain of its sound.
        gain: f32,
    },
    /// A source delivers: `pts` and `dts` are capture times on the anchor's clock.
    Unit {
        /// An attached source.
        source: SourceId,
        /// H.264 (AVCC, SPS and PPS in the track), Opus or AAC.
        unit: AccessUnit,
    },
    /// A source is gone. What it delivered is still published in its time.
    Detach {
        /// The source.
        source: SourceId,
    },
    /// Viewers in real time are there, or no longer: [`Output::LiveSound`] is wanted for them.
    LiveSound(bool),
    /// A viewer can show nothing before the next IDR of what is on air: it is asked for.
    WantKeyframe,
}

/// What a program wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Publish this H.264 or AAC unit, now.
    Unit(AccessUnit),
    /// An Opus packet of 20 ms of the same sound, for viewers in real time; released with the picture of the same moment.
    LiveSound(AccessUnit),
    /// The next picture is the first of another source.
    Cut {
        /// The source that is shown from now on.
        source: SourceId,
        /// DTS of its first picture.
        video_dts: Timestamp,
        /// Program time of the first sample at which the gains that belong to it move.
        audio_at: Timestamp,
        /// How the sound before and after becomes one.
        method: SpliceMethod,
    },
    /// Ask this source for an IDR. Throttled to one per 500 ms and source.
    RequestKeyframe {
        /// The source to ask.
        source: SourceId,
    },
}

/// How the sound before and after a cut becomes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpliceMethod {
    /// One encoder goes on; gains move over [`GAIN_RAMP`].
    Crossfade,
    /// A host's own AAC ends or begins: two bitstreams are joined.
    Bitstream,
}

/// The program of one channel. See the module documentation.
#[derive(Debug)]
pub struct Program {
    delay_ns: i64,
    clock: Clock,
    epoch_ns: i64,
    codecs: Box<dyn Codecs>,
    /// In the order in which they were attached.
    sources: Vec<Source>,
    /// Whose pictures are wanted.
    wanted: Option<SourceId>,
    /// Those that were captured earlier are not.
    not_before_ns: Option<i64>,
    /// What is set when they come.
    gains: Vec<(SourceId, f32)>,
    /// Whose pictures are being published: `wanted` from its first IDR on.
    live: Option<SourceId>,
    /// Where all voices meet; none before the start.
    bus: Option<Box<Bus>>,
    /// Whose own AAC units are published, or about to be.
    passing: Option<SourceId>,
    /// How the bus is encoded where no host's AAC decides.
    settings: AacSettings,
    /// Viewers in real time are there.
    wants_live_sound: bool,
    opus_bitrate_bps: u32,
    timeline: VideoTimeline,
    outputs: VecDeque<Output>,
    meters: Meters,
}

#[derive(Debug, Default)]
struct Meters {
    video: RateMeter,
    audio: RateMeter,
    stats: ProgramStats,
    /// Counters of sources that are gone.
    past: Counters,
    heard: bool,
    last_keyframe_ms: Option<i64>,
}

impl Program {
    /// A program whose time zero is `epoch` on the anchor's `clock`.
    ///
    /// # Errors
    /// [`Error::Codec`] when the AAC encoder refuses its configuration.
    pub fn new(config: Config, clock: Clock, epoch: Timestamp) -> Result<Self, Error> {
        Self::with_codecs(&config, clock, epoch, Box::new(RealCodecs))
    }

    fn with_codecs(
        config: &Config,
        clock: Clock,
        epoch: Timestamp,
        codecs: Box<dyn Codecs>,
    ) -> Result<Self, Error> {
        // What the encoder refuses is known now, and not when the program starts.
        let (bitrate_bps, afterburner) = (config.aac_bitrate_bps, config.aac_afterburner);
        let settings = AacSettings::stereo_48k(bitrate_bps, afterburner);
        drop(codecs.aac_encoder(settings)?);
        Ok(Self {
            delay_ns: nanos(config.program_delay),
            clock,
            epoch_ns: epoch.as_nanos(),
            codecs,
            sources: Vec::new(),
            wanted: None,
            not_before_ns: None,
            gains: Vec::new(),
            live: None,
            bus: None,
            passing: None,
            settings,
            wants_live_sound: false,
            opus_bitrate_bps: config.opus_bitrate_bps,
            timeline: VideoTimeline::default(),
            outputs: VecDeque::new(),
            meters: Meters::default(),
        })
    }

    /// Takes an input in, and releases what is due at `now`.
    ///
    /// # Errors
    /// [`Error::UnknownSource`], [`Error::TooManySources`], [`Error::Unit`], [`Error::Media`]: the input is ignored and
    /// the program goes on.
    pub fn handle(&mut self, now: Instant, input: Input) -> Result<(), Error> {
        let result = match input {
            Input::Attach { source, gain } => self.attach(source, gain),
            Input::Show {
                source,
                gains,
                not_before,
            } => self.show(source, gains, not_before),
            Input::Gain { source, gain } => self.attached(source).map(|s| s.set_gain(gain)),
            Input::Unit { source, unit } => self.unit(now, source, unit),
            Input::Detach { source } => self.detach(now, source),
            Input::LiveSound(wanted) => {
                self.wants_live_sound = wanted;
                self.set_live_sound();
                Ok(())
            }
            Input::WantKeyframe => {
                let shown = self.live.or(self.wanted);
                if let Some(source) = self.sources.iter_mut().find(|s| Some(s.id) == shown) {
                    source.want_keyframe();
                }
                Ok(())
            }
        };
        self.handle_timeout(now);
        result
    }

    /// Releases what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        let horizon = self.program_ns(now).saturating_sub(self.delay_ns);
        self.start(now, horizon);
        for _ in 0..MAX_UNITS_PER_CALL {
            self.cut(now, horizon);
            let sound = self.next_sound_ns().filter(|due| *due <= horizon);
            let picture = self.next_picture_ns().filter(|due| *due <= horizon);
            match (sound, picture) {
                (Some(sound), Some(picture)) if picture < sound => self.publish_picture(now),
                (None, Some(_)) => self.publish_picture(now),
                (Some(_), _) => self.publish_sound(now),
                (None, None) => break,
            }
        }
        if let Some(bus) = &mut self.bus
            && let Some(live) = bus.live_mut()
        {
            while let Some(unit) = live.pop(horizon) {
                self.outputs.push_back(Output::LiveSound(unit));
            }
        }
        self.remove_drained(horizon);
        self.request_keyframes(now);
    }

    fn request_keyframes(&mut self, now: Instant) {
        let waits = self.live != self.wanted && self.entry_ns().is_none();
        for source in &mut self.sources {
            let wanted = Some(source.id) == self.wanted;
            if wanted && waits {
                source.want_keyframe();
            }
            let shown = wanted || Some(source.id) == self.live;
            if shown && source.take_keyframe_request(now) {
                self.outputs
                    .push_back(Output::RequestKeyframe { source: source.id });
            }
        }
    }

    /// The next thing to do; drain after every `handle` and `handle_timeout`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Program::handle_timeout`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (cut, start) = match &self.bus {
            // By the same picture as in `start`: an IDR behind it may be older.
            None => {
                let picture = self.source(self.wanted);
                let sound = self.first_sound_ns();
                (
                    picture.and_then(|source| source.video.next_due_ns()),
                    sound.map(|at| at.saturating_add(nanos(START_WAIT))),
                )
            }
            Some(_) => (self.entry_ns().filter(|_| self.live != self.wanted), None),
        };
        let live = self.bus.as_ref().and_then(|bus| bus.next_live_ns());
        [
            self.next_sound_ns(),
            self.next_picture_ns(),
            live,
            cut,
            start,
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|due| self.instant(due.saturating_add(self.delay_ns)))
    }

    /// A snapshot for the console and for metrics.
    #[must_use]
    pub fn stats(&self, now: Instant) -> ProgramStats {
        let mut stats = self.meters.stats.clone();
        (stats.video.fps, stats.video.bitrate_bps) = self.meters.video.rates(now);
        (_, stats.audio.bitrate_bps) = self.meters.audio.rates(now);
        stats.video.moved = self.timeline.moved;
        stats.audio.peak_dbfs = crate::audio::FLOOR_DBFS;
        stats.audio.rms_dbfs = crate::audio::FLOOR_DBFS;
        if let Some(bus) = &self.bus {
            stats.audio.passes = bus.passes();
            let levels = bus.levels();
            stats.audio.peak_dbfs = levels.peak_dbfs;
            stats.audio.rms_dbfs = levels.rms_dbfs;
        }
        let total = self.sources.iter().fold(self.meters.past, |sum, source| {
            sum + source.audio_counters()
        });
        stats.audio.concealed_samples = total.concealed;
        stats.audio.fec_samples = total.recovered;
        stats.audio.dropped_packets = total.dropped_packets;
        stats.audio.bad_packets = total.bad_packets;
        stats.audio.reanchors = total.slips;
        if let Some(source) = self.sources.iter().find(|s| s.has_sound()) {
            stats.audio.resample_ppm = source.ppm();
            stats.av_offset_ms = -source.early_ms();
        }
        stats
    }

    /// The level of every source that has brought sound, before its gain.
    pub fn levels(&self) -> impl Iterator<Item = (SourceId, Levels)> + '_ {
        let sources = self.sources.iter().filter(|s| s.detached_ns.is_none());
        sources.filter_map(|source| Some((source.id, source.levels()?)))
    }

    fn attach(&mut self, id: SourceId, gain: f32) -> Result<(), Error> {
        if self.source(Some(id)).is_some() {
            return Ok(());
        }
        if self.sources.len() >= MAX_SOURCES {
            return Err(Error::TooManySources {
                source_id: id,
                limit: MAX_SOURCES,
            });
        }
        self.sources.push(Source::new(id, gain, self.rate()));
        Ok(())
    }

    fn show(
        &mut self,
        id: SourceId,
        gains: Vec<(SourceId, f32)>,
        not_before: Option<Timestamp>,
    ) -> Result<(), Error> {
        self.attached(id)?;
        self.wanted = Some(id);
        self.not_before_ns = not_before.map(|at| at.as_nanos().saturating_sub(self.epoch_ns));
        self.gains = gains;
        if self.live == self.wanted {
            self.set_gains();
        }
        Ok(())
    }

    fn set_gains(&mut self) {
        for (id, gain) in self.gains.drain(..) {
            if let Some(source) = self.sources.iter_mut().find(|s| s.id == id) {
                source.set_gain(gain);
            }
        }
    }

    fn detach(&mut self, now: Instant, id: SourceId) -> Result<(), Error> {
        let at = self.program_ns(now);
        let source = self.attached(id)?;
        source.detached_ns = Some(at);
        if self.wanted == Some(id) {
            self.wanted = None;
        }
        Ok(())
    }

    fn unit(&mut self, now: Instant, id: SourceId, unit: AccessUnit) -> Result<(), Error> {
        let latest = self.program_ns(now).saturating_add(nanos(MAX_LEAD));
        let epoch = self.epoch_ns;
        let source = self.attached(id)?;
        let refuse = |why| Error::Unit { source_id: id, why };
        let program_ns = |at: Timestamp| {
            at.as_nanos()
                .checked_sub(epoch)
                .filter(|at| (0..=latest).contains(at))
                .ok_or(refuse(
                    "its capture time is before the channel's epoch or in the future",
                ))
        };
        let times = program_ns(unit.dts).and_then(|dts| Ok((dts, program_ns(unit.pts)?)));
        let is_video = matches!(unit.track.config, Codec::H264(_));
        let (dts, pts) = match times {
            Ok(times) => times,
            Err(error) => {
                if is_video {
                    // Later pictures refer to this one.
                    source.want_keyframe();
                    let dropped = 1 + source.video.clear();
                    self.drop_pictures(dropped);
                }
                return Err(error);
            }
        };
        let source = self
            .sources
            .iter_mut()
            .find(|source| source.id == id)
            .ok_or(Error::UnknownSource { source_id: id })?;
        let dropped = source.push(unit, dts, pts.max(dts), self.codecs.as_ref())?;
        self.drop_pictures(dropped);
        Ok(())
    }

    fn drop_pictures(&mut self, count: u64) {
        if count > 0 {
            self.meters.stats.video.dropped += count;
            metrics::counter!("anchornet_program_video_dropped_units_total").increment(count);
        }
    }

    /// Moves the picture to the wanted source when the IDR at which it can enter is due, and everything before it is out.
    fn cut(&mut self, now: Instant, horizon: i64) {
        let Some(bus) = &self.bus else {
            return;
        };
        let audio_at = Timestamp::new(bus.position(), bus.rate());
        let passed = bus.passes();
        let Some(entry) = self.entry_ns().filter(|entry| *entry <= horizon) else {
            return;
        };
        if self.live == self.wanted || self.next_picture_ns().is_some_and(|next| next < entry) {
            return;
        }
        let (old, new) = (self.live, self.wanted);
        // The old source keeps what waits: the IDR at which it can be shown again may be among it.
        if let Some(source) = self.sources.iter_mut().find(|s| Some(s.id) == new) {
            source.video.skip_to(entry);
        }
        tracing::debug!(?old, ?new, at = ?now, "cut");
        self.live = new;
        self.timeline.change_source();
        self.set_gains();
        let method = match passed || self.soon_passable().is_some() {
            true => SpliceMethod::Bitstream,
            false => SpliceMethod::Crossfade,
        };
        if let Some(source) = new {
            self.outputs.push_back(Output::Cut {
                source,
                video_dts: Timestamp::from_nanos(entry),
                audio_at,
                method,
            });
        }
    }

    /// When the wanted source can enter: at its first queued IDR that is later than every published picture and shows what
    /// is wanted.
    fn entry_ns(&self) -> Option<i64> {
        let too_early = self.not_before_ns.map(|at| at.saturating_sub(1));
        let after = self.timeline.latest_ns().max(too_early);
        self.source(self.wanted)?.video.keyframe_after(after)
    }

    /// When the next picture of the source on air is due. One with which the wanted source enters is left to that: both show
    /// the same moment.
    fn next_picture_ns(&self) -> Option<i64> {
        let next = self.source(self.live)?.video.next_due_ns()?;
        let entry = self.entry_ns().filter(|_| self.live != self.wanted);
        let is_left = entry.is_some_and(|entry| (0..SAME_MOMENT_NS).contains(&(entry - next)));
        (!is_left).then_some(next)
    }

    fn publish_picture(&mut self, now: Instant) {
        let live = self.live;
        let Some(source) = self.sources.iter_mut().find(|s| Some(s.id) == live) else {
            return;
        };
        let Some(picture) = source.video.pop() else {
            return;
        };
        // Who sends AAC sends headers apart from the stream: by RTMP.
        let out_of_band = source.aac().is_some();
        let Some(unit) = self.timeline.place(&picture, out_of_band) else {
            source.want_keyframe();
            let dropped = 1 + source.video.clear();
            self.drop_pictures(dropped);
            return;
        };
        metrics::counter!("anchornet_program_video_units_total").increment(1);
        self.meters.video.add(now, unit.data.len());
        self.meters.picture(&unit);
        self.outputs.push_back(Output::Unit(unit));
    }

    fn remove_drained(&mut self, horizon: i64) {
        let (live, wanted, meters) = (&mut self.live, self.wanted, &mut self.meters);
        self.sources.retain_mut(|source| {
            if Some(source.id) != *live && Some(source.id) != wanted {
                source.video.forget_until(horizon);
            }
            let Some(detached) = source.detached_ns else {
                return true;
            };
            let over = detached.saturating_add(nanos(DRAIN_TIME)) <= horizon;
            if source.is_draining() && !over {
                return true;
            }
            source.clear();
            meters.past = meters.past + source.audio_counters();
            if *live == Some(source.id) {
                *live = None;
            }
            false
        });
    }

    fn source(&self, id: Option<SourceId>) -> Option<&Source> {
        self.sources.iter().find(|source| Some(source.id) == id)
    }

    fn attached(&mut self, id: SourceId) -> Result<&mut Source, Error> {
        self.sources
            .iter_mut()
            .find(|source| source.id == id && source.detached_ns.is_none())
            .ok_or(Error::UnknownSource { source_id: id })
    }

    fn program_ns(&self, now: Instant) -> i64 {
        let now = self.clock.timestamp(now).as_nanos();
        now.saturating_sub(self.epoch_ns)
    }

    fn instant(&self, program_ns: i64) -> Instant {
        let at = program_ns.saturating_add(self.epoch_ns);
        self.clock.instant(Timestamp::from_nanos(at))
    }
}

impl Meters {
    fn joint(&mut self, joint: &Joint) {
        let stats = &mut self.stats.audio;
        stats.splices += 1;
        stats.forced_splices += u64::from(!joint.is_clean());
        let to = match joint.to {
            Side::Bus => "bus",
            Side::Host => "host",
        };
        let clean = if joint.is_clean() { "yes" } else { "no" };
        metrics::counter!("anchornet_program_splices_total", "to" => to, "clean" => clean)
            .increment(1);
        tracing::info!(?joint, "bitstreams joined");
    }

    fn picture(&mut self, unit: &AccessUnit) {
        let stats = &mut self.stats.video;
        stats.units += 1;
        if !unit.keyframe {
            return;
        }
        let at = unit.dts.as_millis();
        let interval = self.last_keyframe_ms.map(|last| at.saturating_sub(last));
        stats.keyframe_interval_ms = interval.and_then(|ms| u64::try_from(ms).ok());
        self.last_keyframe_ms = Some(at);
        if let Codec::H264(config) = &unit.track.config {
            (stats.width, stats.height) = (config.width, config.height);
        }
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Describes the metrics of the program.
pub(crate) fn describe_metrics() {
    metrics::describe_counter!(
        "anchornet_program_video_dropped_units_total",
        metrics::Unit::Count,
        "Pictures not published: undecodable after a loss, duplicates, late, or over a bound"
    );
    metrics::describe_counter!(
        "anchornet_program_encoder_errors_total",
        metrics::Unit::Count,
        "Audio units replaced by silence because the AAC encoder failed"
    );
    metrics::describe_counter!(
        "anchornet_program_silence_samples_total",
        metrics::Unit::Count,
        "Samples of silence published in place of missing input"
    );
    metrics::describe_counter!(
        "anchornet_program_audio_units_total",
        metrics::Unit::Count,
        "AAC access units published"
    );
    metrics::describe_counter!(
        "anchornet_program_splices_total",
        metrics::Unit::Count,
        "Joints between a host's own AAC and encoded sound, by where they lead and whether all conditions held"
    );
    metrics::describe_counter!(
        "anchornet_program_video_units_total",
        metrics::Unit::Count,
        "Pictures published"
    );
}

#[cfg(test)]
mod tests;
