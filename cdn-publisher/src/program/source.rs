//! One source of a program: its picture and its sound on their way to their time.

use std::time::{Duration, Instant};

use media::{AccessUnit, Config};

use super::SourceId;
use super::video::{Picture, Verdict, VideoInput, is_avcc};
use crate::Error;
use crate::audio::bus::{LevelMeter, Levels};
use crate::audio::codec::{Codecs, Frame};
use crate::audio::gain::Gain;
use crate::audio::input::{AudioInput, Counters};

/// Shortest time between two requests for a keyframe.
pub(super) const KEYFRAME_REQUEST_INTERVAL: Duration = Duration::from_millis(500);

/// An attached source, or one that is gone but whose last units still wait for their time.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) id: SourceId,
    pub(super) video: VideoInput,
    audio: Option<AudioInput>,
    gain: Gain,
    meter: LevelMeter,
    scratch: Vec<Frame>,
    /// Program time at which it was detached, in nanoseconds.
    pub(super) detached_ns: Option<i64>,
    /// An IDR is needed; asked for at this time.
    needs_keyframe: bool,
    requested_at: Option<Instant>,
}

impl Source {
    pub(super) fn new(id: SourceId, gain: f32) -> Self {
        Self {
            id,
            video: VideoInput::default(),
            audio: None,
            gain: Gain::new(gain),
            meter: LevelMeter::default(),
            scratch: Vec::new(),
            detached_ns: None,
            needs_keyframe: false,
            requested_at: None,
        }
    }

    /// Takes a unit captured at these nanoseconds of program time. Returns how many pictures were dropped.
    ///
    /// # Errors
    /// [`Error::Unit`] for AAC; [`Error::Media`] for bad Opus; [`Error::Codec`] when the decoder cannot be made.
    pub(super) fn push(
        &mut self,
        unit: AccessUnit,
        dts_ns: i64,
        pts_ns: i64,
        codecs: &dyn Codecs,
    ) -> Result<u64, Error> {
        match unit.track.config {
            Config::H264(_) => Ok(self.push_picture(Picture {
                dts_ns,
                pts_ns,
                unit,
            })),
            Config::Opus(_) => {
                let audio = match &mut self.audio {
                    Some(audio) => audio,
                    None => self.audio.insert(AudioInput::new(codecs.opus_decoder()?)),
                };
                audio.push(pts_ns as f64 * 48e-6, unit.data)?;
                Ok(0)
            }
            Config::Aac(_) => Err(Error::Unit {
                source_id: self.id,
                why: "AAC is not decoded; sources bring Opus",
            }),
        }
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
    pub(super) fn read(&mut self, position: i64, out: &mut [Frame]) -> usize {
        let Some(audio) = &mut self.audio else {
            return out.len();
        };
        self.scratch.clear();
        self.scratch.resize(out.len(), Frame::default());
        let silent = audio.read(position, &mut self.scratch);
        self.meter.add(&self.scratch);
        if self.gain.mix(&self.scratch, out) {
            silent
        } else {
            out.len()
        }
    }

    /// Its level before the gain; `None` before its first sound.
    pub(super) fn levels(&self) -> Option<Levels> {
        self.audio.as_ref().map(|_| self.meter.levels())
    }

    /// It is heard.
    pub(super) fn has_sound(&self) -> bool {
        self.audio.is_some() && !self.gain.is_silent()
    }

    /// Capture time of the first packet of sound that waits, in nanoseconds of program time.
    pub(super) fn first_sound_ns(&self) -> Option<i64> {
        let at = self.audio.as_ref()?.first_at()?;
        #[expect(clippy::cast_possible_truncation, reason = "`as` saturates")]
        Some((at / 48e-6) as i64)
    }

    /// Something of it can still be published.
    pub(super) fn is_draining(&self) -> bool {
        self.video.next_due_ns().is_some() || self.audio.as_ref().is_some_and(AudioInput::is_active)
    }

    /// How early its sound is presented, in samples.
    pub(super) fn early_samples(&self) -> f64 {
        self.audio.as_ref().map_or(0.0, AudioInput::early_samples)
    }

    pub(super) fn ppm(&self) -> f64 {
        self.audio.as_ref().map_or(0.0, AudioInput::ppm)
    }

    pub(super) fn audio_counters(&self) -> Counters {
        self.audio
            .as_ref()
            .map_or_else(Counters::default, AudioInput::counters)
    }

    /// Forgets everything that waits; what comes next starts with an IDR.
    pub(super) fn clear(&mut self) -> u64 {
        if let Some(audio) = &mut self.audio {
            audio.clear();
        }
        self.video.clear()
    }
}
