//! One source of a program: its picture and its sound on their way to their time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use media::{AccessUnit, Config, Rate, Timestamp, aac};

use super::SourceId;
use super::video::{Picture, Verdict, VideoInput, is_avcc};
use crate::Error;
use crate::audio::bus::{LevelMeter, Levels};
use crate::audio::codec::{Codecs, Frame, UNIT_SAMPLES};
use crate::audio::gain::Gain;
use crate::audio::input::{AudioInput, Coding, Counters};

/// Shortest time between two requests for a keyframe.
pub(super) const KEYFRAME_REQUEST_INTERVAL: Duration = Duration::from_millis(500);

/// Above this rate, nobody sends spectral band replication without saying so.
const MAX_IMPLICIT_SBR_HZ: u32 = 24_000;

/// Sound in one coding.
#[derive(Debug)]
struct Line {
    audio: AudioInput,
    /// It comes as AAC, configured like this.
    aac: Option<aac::Config>,
}

/// How AAC that begins with this unit comes out. Spectral band replication doubles the rate, and the samples of a unit
/// with it; at low rates it may be there without being signalled (ISO/IEC 14496-3 §1.6.5.3).
fn coding_of(config: &aac::Config, unit: &[u8], codecs: &dyn Codecs) -> (Coding, Rate) {
    let (core_hz, samples) = (config.sample_rate_hz, config.frame_samples);
    let doubles = match config.sbr_rate_hz {
        Some(rate_hz) => rate_hz > core_hz,
        None if core_hz > MAX_IMPLICIT_SBR_HZ => false,
        None => {
            let found = codecs.aac_samples(config, unit).unwrap_or_default();
            u32::try_from(found) == Ok(samples.saturating_mul(2))
        }
    };
    let factor = if doubles { 2 } else { 1 };
    let rate = Rate::new(core_hz.saturating_mul(factor)).unwrap_or(Rate::AUDIO);
    let unit_samples = samples.saturating_mul(factor).into();
    (Coding::Aac { unit_samples }, rate)
}

/// An attached source, or one that is gone but whose last units still wait for their time.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) id: SourceId,
    pub(super) video: VideoInput,
    /// Its sound, and what follows that in another coding.
    line: Option<Line>,
    coming: Option<Line>,
    /// What the bus reads its sound at.
    bus_rate: Rate,
    gain: Gain,
    meter: LevelMeter,
    scratch: Vec<Frame>,
    /// Counters of inputs that were replaced.
    past: Counters,
    /// Program time at which it was detached, in nanoseconds.
    pub(super) detached_ns: Option<i64>,
    /// An IDR is needed; asked for at this time.
    needs_keyframe: bool,
    requested_at: Option<Instant>,
}

impl Source {
    pub(super) fn new(id: SourceId, gain: f32, bus_rate: Rate) -> Self {
        Self {
            id,
            video: VideoInput::default(),
            line: None,
            coming: None,
            bus_rate,
            gain: Gain::new(gain),
            meter: LevelMeter::default(),
            scratch: Vec::new(),
            past: Counters::default(),
            detached_ns: None,
            needs_keyframe: false,
            requested_at: None,
        }
    }

    /// Takes a unit captured at these nanoseconds of program time. Returns how many pictures were dropped.
    ///
    /// # Errors
    /// [`Error::Media`] for bad Opus; [`Error::Codec`] when the decoder cannot be made.
    pub(super) fn push(
        &mut self,
        unit: AccessUnit,
        dts_ns: i64,
        pts_ns: i64,
        codecs: &dyn Codecs,
    ) -> Result<u64, Error> {
        let config = match &unit.track.config {
            Config::H264(_) => {
                return Ok(self.push_picture(Picture {
                    dts_ns,
                    pts_ns,
                    unit,
                }));
            }
            Config::Opus(_) => None,
            Config::Aac(config) => Some(config),
        };
        let known = |line: &Option<Line>| {
            let line = line.as_ref();
            line.is_some_and(|line| line.aac.as_ref() == config)
        };
        let line = match (known(&self.line), &self.coming) {
            (true, None) => &mut self.line,
            (false, None) if self.line.is_none() => &mut self.line,
            // What came before is still to be heard.
            _ => &mut self.coming,
        };
        if !known(line) {
            let (decoder, coding, rate) = match config {
                Some(config) => {
                    let (coding, rate) = coding_of(config, &unit.data, codecs);
                    (codecs.aac_decoder(config)?, coding, rate)
                }
                None => (codecs.opus_decoder()?, Coding::Opus, Rate::AUDIO),
            };
            let audio = AudioInput::new(decoder, coding, rate, self.bus_rate);
            let aac = config.cloned();
            *line = Some(Line { audio, aac });
        }
        if let Some(line) = line {
            line.audio.push(pts_ns, unit.data)?;
        }
        Ok(0)
    }

    /// Sound that is coded otherwise takes over when its first packet is due.
    fn take_over(&mut self, position: i64, length: usize) {
        let Some(coming) = &self.coming else {
            return;
        };
        let end = position.saturating_add(i64::try_from(length).unwrap_or(i64::MAX));
        let end_ns = Timestamp::new(end, self.bus_rate).as_nanos();
        let due = coming.audio.first_ns().is_some_and(|first| first < end_ns);
        if due && let Some(past) = std::mem::replace(&mut self.line, self.coming.take()) {
            self.past = self.past + past.audio.counters();
        }
    }

    fn audio(&self) -> Option<&AudioInput> {
        self.line.as_ref().map(|line| &line.audio)
    }

    fn audio_mut(&mut self) -> Option<&mut AudioInput> {
        self.line.as_mut().map(|line| &mut line.audio)
    }

    fn push_picture(&mut self, picture: Picture) -> u64 {
        let data = &picture.unit.data;
        if data.len() > media::h264::MAX_ACCESS_UNIT_BYTES || !is_avcc(data) {
            self.needs_keyframe = true;
            return 1 + self.video.clear();
        }
        match self.video.push(picture) {
            Verdict::Queued => 0,
            Verdict::Dropped {
                count,
                needs_keyframe,
            } => {
                self.needs_keyframe |= needs_keyframe;
                count
            }
        }
    }

    /// An IDR is wanted for another reason than a loss.
    pub(super) fn want_keyframe(&mut self) {
        self.needs_keyframe = true;
    }

    /// Whether to ask for an IDR now. Asking again needs a new reason and [`KEYFRAME_REQUEST_INTERVAL`].
    pub(super) fn take_keyframe_request(&mut self, now: Instant) -> bool {
        let recently = self
            .requested_at
            .is_some_and(|at| now.saturating_duration_since(at) < KEYFRAME_REQUEST_INTERVAL);
        if !self.needs_keyframe || recently || self.detached_ns.is_some() {
            return false;
        }
        self.needs_keyframe = false;
        self.requested_at = Some(now);
        true
    }

    pub(super) fn set_gain(&mut self, gain: f32) {
        self.gain.set(gain);
    }

    /// Adds its sound to `out`; returns how many samples have none to be heard.
    ///
    /// A silent source is read all the same: its decoder and its clock stay where they would be, and its level is shown.
    pub(super) fn read(&mut self, position: i64, metered: bool, out: &mut [Frame]) -> usize {
        self.take_over(position, out.len());
        let Some(Line { audio, .. }) = &mut self.line else {
            return out.len();
        };
        self.scratch.clear();
        self.scratch.resize(out.len(), Frame::default());
        let silent = audio.read(position, &mut self.scratch);
        if metered {
            self.meter.add(&self.scratch);
        }
        if self.gain.mix(&self.scratch, out) {
            silent
        } else {
            out.len()
        }
    }

    /// Its level before the gain; `None` before its first sound.
    pub(super) fn levels(&self) -> Option<Levels> {
        self.line.as_ref().map(|_| self.meter.levels())
    }

    /// The bus reads at another rate than was thought. Only before it reads.
    pub(super) fn set_bus_rate(&mut self, rate: Rate) {
        self.bus_rate = rate;
        for line in [&mut self.line, &mut self.coming].into_iter().flatten() {
            line.audio.set_bus_rate(rate);
        }
    }

    /// How its AAC is configured, if that is what it sends.
    pub(super) fn aac(&self) -> Option<&aac::Config> {
        self.line.as_ref()?.aac.as_ref()
    }

    /// It is heard unchanged, or is about to be.
    pub(super) fn is_unchanged(&self) -> bool {
        self.gain.is_unity()
    }

    /// See [`AudioInput::set_locked`].
    pub(super) fn set_locked(&mut self, wanted: bool) {
        if let Some(audio) = self.audio_mut() {
            audio.set_locked(wanted);
        }
    }

    /// Its units lie on the program's grid.
    pub(super) fn is_locked(&self) -> bool {
        self.audio().is_some_and(AudioInput::is_locked)
    }

    /// See [`AudioInput::set_asleep`].
    pub(super) fn set_asleep(&mut self, wanted: bool) {
        if let Some(audio) = self.audio_mut() {
            audio.set_asleep(wanted);
        }
    }

    /// Its sound of the last `samples` that were read, before the gain, as if it had not slept.
    pub(super) fn recall(&mut self, samples: i64) -> Vec<Frame> {
        let Some(audio) = self.audio_mut() else {
            return Vec::new();
        };
        let units = usize::try_from(samples).unwrap_or_default() / UNIT_SAMPLES;
        audio.rewrite(units + 1);
        audio.past(samples)
    }

    /// It brings sound, heard or not.
    pub(super) fn is_audible(&self) -> bool {
        self.line.is_some()
    }

    /// See [`AudioInput::unit_at`].
    pub(super) fn unit_at(&self, before: i64) -> Option<Bytes> {
        self.audio()?.unit_at(before)
    }

    /// See [`AudioInput::error_samples`].
    pub(super) fn error_samples(&self) -> f64 {
        self.audio().map_or(0.0, AudioInput::error_samples)
    }

    /// The sound that the last [`Source::read`] read, before the gain.
    pub(super) fn last_read(&self) -> &[Frame] {
        &self.scratch
    }

    /// It is heard.
    pub(super) fn has_sound(&self) -> bool {
        self.line.is_some() && !self.gain.is_silent()
    }

    /// It is heard, and no gain is about to change that.
    pub(super) fn stays_heard(&self) -> bool {
        self.line.is_some() && !self.gain.ends_silent()
    }

    /// Capture time of the first packet of sound that waits, in nanoseconds of program time.
    pub(super) fn first_sound_ns(&self) -> Option<i64> {
        self.audio()?.first_ns()
    }

    /// Something of it can still be published.
    pub(super) fn is_draining(&self) -> bool {
        self.video.next_due_ns().is_some() || self.audio().is_some_and(AudioInput::is_active)
    }

    /// How early its sound is presented, in milliseconds.
    pub(super) fn early_ms(&self) -> f64 {
        self.audio().map_or(0.0, AudioInput::early_ms)
    }

    pub(super) fn ppm(&self) -> f64 {
        self.audio().map_or(0.0, AudioInput::ppm)
    }

    pub(super) fn audio_counters(&self) -> Counters {
        let now = self.audio().map(AudioInput::counters);
        self.past + now.unwrap_or_default()
    }

    /// Forgets everything that waits; what comes next starts with an IDR.
    pub(super) fn clear(&mut self) -> u64 {
        self.coming = None;
        if let Some(audio) = self.audio_mut() {
            audio.clear();
        }
        self.video.clear()
    }
}
