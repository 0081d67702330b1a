//! FLV tags in, access units with capture times on the anchor's clock out. Sans-IO.
//!
//! Video is track 0 at nanoseconds, audio track 1 at its sampling rate. A change of configuration is a new [`Track`] with
//! the same id. Composition times are carried through: `pts ≥ dts` where there are B-frames.
//!
//! Invariants:
//! - DTS of a track strictly increase. A capture time is at most [`super::timeline::MAX_LEAD_NS`] ahead of its arrival,
//!   but for what that takes.
//! - A unit is well-formed: pictures are NAL units in AVCC form, `keyframe` says that one of them is an IDR slice.
//! - At most [`MAX_HELD`] units wait while the timeline settles.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use media::flv::{AudioBody, Tag, TagKind, VideoBody, enhanced};
use media::h264::{self, nal_type, nal_unit_type};
use media::{AccessUnit, Config, Rate, Timestamp, Track, TrackId, aac};

use super::grid::Grid;
use super::timeline::{Change, Media, Timeline};

const VIDEO: TrackId = TrackId(0);
const AUDIO: TrackId = TrackId(1);
/// Units that wait while the timeline settles; with that many it has.
const MAX_HELD: usize = 128;
/// The largest distance from decoding to presentation, in ms: 16 pictures at 5 per second.
const MAX_COMPOSITION_MS: i32 = 3_200;

/// What a publisher cannot be taken with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// A codec, or a form of one.
    #[error(transparent)]
    Media(#[from] media::Error),
    /// A picture.
    #[error("a picture does not consist of NAL units behind their lengths")]
    NotAvcc,
}

/// A unit whose RTMP time is known.
#[derive(Debug)]
struct Frame {
    track: Arc<Track>,
    /// Unwrapped.
    ms: i64,
    composition_ms: i32,
    keyframe: bool,
    discontinuity: bool,
    data: Bytes,
}

/// One publisher's media.
#[derive(Debug, Default)]
pub(super) struct Intake {
    timeline: Timeline,
    video: Option<Arc<Track>>,
    audio: Option<(Arc<Track>, Grid)>,
    /// The next unit of the track does not continue the one before.
    video_breaks: bool,
    audio_breaks: bool,
    last_dts_ns: Option<i64>,
    last_sample: Option<(Rate, i64)>,
    held: VecDeque<Frame>,
    outputs: VecDeque<AccessUnit>,
}

impl Intake {
    /// For a publisher who was let in at `accepted_ns` on the anchor's clock.
    pub(super) fn new(accepted_ns: i64) -> Self {
        Self {
            timeline: Timeline::new(accepted_ns),
            ..Self::default()
        }
    }

    /// Takes a tag that arrived at `now_ns` on the anchor's clock.
    ///
    /// # Errors
    /// [`Error`]: nothing more can be made of this publisher.
    pub(super) fn handle(&mut self, now_ns: i64, tag: &Tag) -> Result<(), Error> {
        let Some(body) = enhanced::plain(tag.kind, &tag.body)? else {
            return Ok(());
        };
        match tag.kind {
            TagKind::Script => {}
            // Encoders send empty tags to mark things.
            TagKind::Video if body.len() < 2 => {}
            TagKind::Audio if body.len() < 2 => {}
            TagKind::Video => self.video(now_ns, tag.timestamp_ms, &body)?,
            TagKind::Audio => self.audio(now_ns, tag.timestamp_ms, &body)?,
        }
        if self.timeline.offset_ns().is_some() {
            self.release();
        }
        Ok(())
    }

    /// The next unit.
    pub(super) fn poll_output(&mut self) -> Option<AccessUnit> {
        self.outputs.pop_front()
    }

    fn video(&mut self, now_ns: i64, timestamp_ms: u32, body: &Bytes) -> Result<(), Error> {
        // Frame type 5 is a command to the player, not a picture.
        if body.first().is_some_and(|first| first >> 4 == 5) {
            return Ok(());
        }
        match VideoBody::parse(body)? {
            VideoBody::AvcConfig(record) => {
                let config = Config::H264(h264::Config::from_avcc(&record)?);
                if self.video.as_ref().is_none_or(|held| held.config != config) {
                    self.video = Some(track(VIDEO, config, Rate::NANOS));
                }
                Ok(())
            }
            VideoBody::Avc {
                composition_ms,
                data,
                ..
            } => {
                let Some(track) = self.video.clone() else {
                    return Ok(());
                };
                let Some(keyframe) = picture(&data)? else {
                    return Ok(());
                };
                let (ms, change) = self.timeline.note(now_ns, Media::Video, timestamp_ms);
                self.changed(change);
                let frame = Frame {
                    track,
                    ms,
                    composition_ms: composition_ms.clamp(0, MAX_COMPOSITION_MS),
                    keyframe,
                    discontinuity: std::mem::take(&mut self.video_breaks),
                    data,
                };
                self.hold(frame);
                Ok(())
            }
            VideoBody::AvcEnd => Ok(()),
        }
    }

    fn audio(&mut self, now_ns: i64, timestamp_ms: u32, body: &Bytes) -> Result<(), Error> {
        match AudioBody::parse(body)? {
            AudioBody::AacConfig(asc) => {
                let aac = aac::Config::parse(asc)?;
                let rate = Rate::new(aac.sample_rate_hz).unwrap_or(Rate::AUDIO);
                let unit_samples = aac.frame_samples;
                let config = Config::Aac(aac);
                if self
                    .audio
                    .as_ref()
                    .is_none_or(|(held, _)| held.config != config)
                {
                    self.audio_breaks |= self.audio.is_some();
                    let grid = Grid::new(rate, unit_samples);
                    self.audio = Some((track(AUDIO, config, rate), grid));
                }
                Ok(())
            }
            AudioBody::Aac(data) => {
                let Some((track, _)) = &self.audio else {
                    return Ok(());
                };
                let track = Arc::clone(track);
                let (ms, change) = self.timeline.note(now_ns, Media::Audio, timestamp_ms);
                self.changed(change);
                let frame = Frame {
                    track,
                    ms,
                    composition_ms: 0,
                    keyframe: true,
                    discontinuity: std::mem::take(&mut self.audio_breaks),
                    data,
                };
                self.hold(frame);
                Ok(())
            }
        }
    }

    fn changed(&mut self, change: Change) {
        if change == Change::None {
            return;
        }
        // What still waits belongs to a timeline that never settled.
        self.held.clear();
        if let Some((_, grid)) = &mut self.audio {
            grid.restart();
        }
        self.audio_breaks = true;
        self.video_breaks |= change == Change::Break;
    }

    fn hold(&mut self, frame: Frame) {
        self.held.push_back(frame);
        if self.held.len() >= MAX_HELD {
            self.timeline.settle();
        }
    }

    fn release(&mut self) {
        let Some(offset_ns) = self.timeline.offset_ns() else {
            return;
        };
        while let Some(frame) = self.held.pop_front() {
            let unit = match frame.track.id {
                AUDIO => self.sound(offset_ns, frame),
                _ => self.picture(offset_ns, frame),
            };
            self.outputs.extend(unit);
        }
    }

    fn picture(&mut self, offset_ns: i64, frame: Frame) -> Option<AccessUnit> {
        let ns = |ms: i64| ms.saturating_mul(1_000_000).saturating_add(offset_ns);
        let wanted = ns(frame.ms);
        let earliest = self
            .last_dts_ns
            .map_or(i64::MIN, |last| last.saturating_add(1));
        let dts = wanted.max(earliest);
        self.last_dts_ns = Some(dts);
        let pts = ns(frame.ms.saturating_add(i64::from(frame.composition_ms))).max(dts);
        Some(AccessUnit {
            track: frame.track,
            pts: Timestamp::from_nanos(pts),
            dts: Timestamp::from_nanos(dts),
            keyframe: frame.keyframe,
            discontinuity: frame.discontinuity,
            data: frame.data,
        })
    }

    fn sound(&mut self, offset_ns: i64, frame: Frame) -> Option<AccessUnit> {
        let (_, grid) = self.audio.as_mut()?;
        let place = grid.next(frame.ms);
        let rate = grid.rate();
        let start = Timestamp::from_nanos(place.start_ns.saturating_add(offset_ns)).rescale(rate);
        let wanted = start.ticks().saturating_add(place.samples);
        let earliest = self.last_sample.map_or(i64::MIN, |(held, last)| {
            let last = Timestamp::new(last, held).rescale(rate).ticks();
            last.saturating_add(1)
        });
        let at = wanted.max(earliest);
        self.last_sample = Some((rate, at));
        let at = Timestamp::new(at, rate);
        Some(AccessUnit {
            track: frame.track,
            pts: at,
            dts: at,
            keyframe: true,
            discontinuity: frame.discontinuity || place.is_break,
            data: frame.data,
        })
    }
}

/// Whether a picture is an IDR; `None` when there is none.
fn picture(data: &Bytes) -> Result<Option<bool>, Error> {
    let (mut has_slices, mut is_idr) = (false, false);
    for nal in h264::avcc_nals(data) {
        let nal = nal.map_err(|_| Error::NotAvcc)?;
        let kind = nal_unit_type(&nal);
        if nal.is_empty() {
            return Err(Error::NotAvcc);
        }
        has_slices |= (nal_type::SLICE..=nal_type::IDR).contains(&kind);
        is_idr |= kind == nal_type::IDR;
    }
    Ok(has_slices.then_some(is_idr))
}

fn track(id: TrackId, config: Config, rate: Rate) -> Arc<Track> {
    Arc::new(Track { id, config, rate })
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
