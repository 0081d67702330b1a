//! HLS, sans-IO: units on the viewers' timeline in, segments and playlists out.
//!
//! Always on while a stream lives: copying each unit once costs less than deciding when to begin, and the first
//! request finds a playlist. Segments begin at keyframes, so each can be decoded alone.
//!
//! Invariants: decoding times in the segments increase per track over the life of the stream; a new configuration or
//! a break in time begins a segment marked as a discontinuity; sound lies on the grid of its access units wherever
//! the publisher's milliseconds agree with it.
//!
//! Bounds: `list_size` + [`KEPT_SEGMENTS`] segments; the open segment is given up beyond [`MAX_SEGMENT_BYTES`] or
//! [`MAX_SEGMENT_MS`], until the next keyframe.

mod fmp4;
mod playlist;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use media::{AccessUnit, Config, Kind, Track, aac};

use crate::HlsConfig;
use fmp4::{Run, Sample};
use playlist::{Head, Item};

/// Segments that stay available after they have left the playlist.
const KEPT_SEGMENTS: usize = 3;
/// A segment without a keyframe for this long is given up.
const MAX_SEGMENT_MS: i64 = 30_000;
/// A segment of more bytes is given up.
const MAX_SEGMENT_BYTES: usize = 64 << 20;
/// A keyframe this long after the picture before it begins a discontinuity.
const GAP_MS: i64 = 1_000;
/// A segment may end this much before its nominal length, so that rounding does not cost a whole group of pictures.
const EARLY_MS: i64 = 50;
/// Sound further than this from its grid is put where its milliseconds say.
const GRID_SLACK_MS: i64 = 20;
/// Ticks of video per millisecond.
const VIDEO_TICKS_PER_MS: i64 = 90;

type Tracks = [Option<Arc<Track>>; 2];

struct Segment {
    number: u64,
    item: Item,
    bytes: Bytes,
}

struct Open {
    tracks: Tracks,
    discontinuity: bool,
    begins_at: SystemTime,
    start_ms: i64,
    bytes: usize,
    video: Vec<Timed>,
    audio: Run,
    /// Decoding time after the last audio sample.
    audio_end: u64,
}

struct Timed {
    dts_ms: i64,
    sample: Sample,
}

/// Cuts one stream into segments.
pub(crate) struct Packager {
    config: HlsConfig,
    /// Makes file names differ from those of earlier streams of the same name.
    instance: String,
    open: Option<Open>,
    /// The next segment does not continue the one before.
    broken: bool,
    segments: VecDeque<Segment>,
    inits: VecDeque<(String, Tracks, Bytes)>,
    next_number: u64,
    next_init: u64,
    /// Discontinuities that have left the list.
    passed_discontinuities: u64,
    target_s: u64,
    /// Wall time of a point on the timeline, in milliseconds.
    anchor: Option<(i64, SystemTime)>,
    /// Where the next sound lies if it continues the last, in its ticks.
    grid: Option<u64>,
    text: Bytes,
    ended: bool,
}

impl Packager {
    pub(crate) fn new(config: HlsConfig, instance: String) -> Self {
        Self {
            target_s: config.segment_ms.div_ceil(1_000).max(1),
            config,
            instance,
            open: None,
            broken: false,
            segments: VecDeque::new(),
            inits: VecDeque::new(),
            next_number: 0,
            next_init: 0,
            passed_discontinuities: 0,
            anchor: None,
            grid: None,
            text: Bytes::new(),
            ended: false,
        }
    }

    /// Takes a unit; `tracks` (video, audio) are those of the stream at this moment. True when the playlist changed.
    pub(crate) fn push(&mut self, wall: SystemTime, unit: &AccessUnit, tracks: &Tracks) -> bool {
        let dts_ms = unit.dts.as_millis().max(0);
        let before = self.next_number;
        match unit.kind() {
            Kind::Video => self.video(wall, unit, tracks, dts_ms),
            Kind::Audio => self.audio(wall, unit, tracks, dts_ms),
        }
        self.next_number != before
    }

    /// The stream is over: the open segment is finished and the playlist says so. True when there is a playlist.
    pub(crate) fn end(&mut self) -> bool {
        self.close(None);
        self.ended = true;
        self.write_playlist();
        !self.segments.is_empty()
    }

    /// The playlist, once there is a segment; `suffix` (a query) is appended to its URIs.
    pub(crate) fn playlist(&self, suffix: &str) -> Option<Bytes> {
        if self.segments.is_empty() {
            return None;
        }
        Some(match suffix {
            "" => self.text.clone(),
            suffix => self.render(suffix).into(),
        })
    }

    /// A segment or initialisation segment by its name.
    pub(crate) fn file(&self, name: &str) -> Option<Bytes> {
        let segment = self
            .segments
            .iter()
            .find(|segment| segment.item.uri == name)
            .map(|segment| segment.bytes.clone());
        segment.or_else(|| {
            self.inits
                .iter()
                .find(|(uri, ..)| uri == name)
                .map(|(.., bytes)| bytes.clone())
        })
    }

    fn video(&mut self, wall: SystemTime, unit: &AccessUnit, tracks: &Tracks, dts_ms: i64) {
        if unit.discontinuity {
            self.give_up_continuity();
        }
        if unit.keyframe {
            self.keyframe(wall, tracks, dts_ms);
        }
        let overlong = self.open.as_ref().is_some_and(|open| {
            dts_ms - open.start_ms > MAX_SEGMENT_MS || open.bytes > MAX_SEGMENT_BYTES
        });
        if overlong {
            self.open = None;
            self.broken = true;
        }
        let Some(open) = self.open.as_mut().filter(|open| carries(open, unit, 0)) else {
            return;
        };
        let composition_ms = unit.pts.as_millis().saturating_sub(unit.dts.as_millis());
        open.bytes += unit.data.len();
        open.video.push(Timed {
            dts_ms,
            sample: Sample {
                duration: 0,
                composition: i32::try_from(composition_ms * VIDEO_TICKS_PER_MS).unwrap_or_default(),
                keyframe: unit.keyframe,
                data: unit.data.clone(),
            },
        });
    }

    /// Ends the open segment here when it is long enough, or when what follows cannot be in it.
    fn keyframe(&mut self, wall: SystemTime, tracks: &Tracks, dts_ms: i64) {
        // A publisher whose sound comes a moment before its first picture is no stream without pictures: what there is
        // so far is not worth a segment, with an initialisation segment of its own, that players would have to change from.
        let sound_so_far = |open: &Open| open.tracks[0].is_none();
        if self.segments.is_empty() && self.open.as_ref().is_some_and(sound_so_far) {
            self.open = None;
            self.anchor = None;
        }
        if let Some(open) = &self.open {
            let last_ms = open.video.last().map_or(open.start_ms, |last| last.dts_ms);
            let gap = dts_ms - last_ms > GAP_MS;
            let changed = !same_tracks(&open.tracks, tracks);
            if gap || changed {
                self.close(if gap { None } else { Some(dts_ms) });
                self.broken = true;
            } else if dts_ms - open.start_ms >= self.segment_ms() - EARLY_MS {
                self.close(Some(dts_ms));
            } else {
                return;
            }
        }
        self.begin(wall, tracks, dts_ms);
    }

    fn audio(&mut self, wall: SystemTime, unit: &AccessUnit, tracks: &Tracks, dts_ms: i64) {
        if unit.discontinuity {
            self.grid = None;
        }
        if tracks[0].is_none() {
            if unit.discontinuity {
                self.give_up_continuity();
            }
            self.audio_only(wall, tracks, dts_ms);
        }
        let Config::Aac(config) = &unit.track.config else {
            return;
        };
        let Some(open) = self.open.as_mut().filter(|open| carries(open, unit, 1)) else {
            self.grid = None;
            return;
        };
        let base = place_on_grid(self.grid, dts_ms, config.sample_rate_hz);
        self.grid = Some(base + u64::from(aac::FRAME_SAMPLES));
        let duration = aac::FRAME_SAMPLES;
        match open.audio.samples.last_mut() {
            None => open.audio.base = base,
            // What is missing is bridged by the sample before it.
            Some(last) => {
                let late = base.saturating_sub(open.audio_end);
                last.duration = last
                    .duration
                    .saturating_add(u32::try_from(late).unwrap_or_default());
            }
        }
        open.audio_end = base + u64::from(duration);
        open.bytes += unit.data.len();
        open.audio.samples.push(Sample {
            duration,
            composition: 0,
            keyframe: true,
            data: unit.data.clone(),
        });
    }

    /// A stream without pictures is cut by time alone.
    fn audio_only(&mut self, wall: SystemTime, tracks: &Tracks, dts_ms: i64) {
        if let Some(open) = &self.open {
            let changed = !same_tracks(&open.tracks, tracks);
            if !changed && dts_ms - open.start_ms < self.segment_ms() {
                return;
            }
            self.close(Some(dts_ms));
            self.broken |= changed;
        }
        self.begin(wall, tracks, dts_ms);
    }

    fn give_up_continuity(&mut self) {
        self.close(None);
        self.broken = true;
        self.anchor = None;
    }

    fn segment_ms(&self) -> i64 {
        i64::try_from(self.config.segment_ms).unwrap_or(i64::MAX)
    }

    fn begin(&mut self, wall: SystemTime, tracks: &Tracks, dts_ms: i64) {
        let (anchor_ms, anchor) = *self.anchor.get_or_insert((dts_ms, wall));
        let since = u64::try_from(dts_ms - anchor_ms).unwrap_or_default();
        self.open = Some(Open {
            tracks: tracks.clone(),
            discontinuity: std::mem::take(&mut self.broken),
            begins_at: anchor + Duration::from_millis(since),
            start_ms: dts_ms,
            bytes: 0,
            video: Vec::new(),
            audio: Run::default(),
            audio_end: 0,
        });
    }

    /// Finishes the open segment. `end_ms` is where the next one begins, if it continues this one.
    fn close(&mut self, end_ms: Option<i64>) {
        let Some(open) = self.open.take() else {
            return;
        };
        let end_ms = end_ms.unwrap_or_else(|| own_end_ms(&open));
        let duration_ms = u64::try_from(end_ms - open.start_ms).unwrap_or_default();
        if duration_ms == 0 || (open.video.is_empty() && open.audio.samples.is_empty()) {
            self.broken |= open.discontinuity;
            return;
        }
        let init_uri = match self.init_for(&open.tracks) {
            Ok(uri) => uri,
            Err(error) => {
                tracing::warn!(%error, "HLS segment lost");
                return;
            }
        };
        let number = self.next_number;
        let video = video_run(open.video, end_ms);
        let sequence = u32::try_from(number % (1 << 31)).unwrap_or_default() + 1;
        let bytes = match fmp4::segment(sequence, &video, &open.audio) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(%error, "HLS segment lost");
                return;
            }
        };
        self.next_number += 1;
        self.target_s = self.target_s.max((duration_ms + 500) / 1_000);
        self.segments.push_back(Segment {
            number,
            item: Item {
                uri: format!("{}-{number}.m4s", self.instance),
                init_uri,
                duration: Duration::from_millis(duration_ms),
                begins_at: open.begins_at,
                discontinuity: open.discontinuity,
            },
            bytes,
        });
        self.trim();
        self.write_playlist();
    }

    /// The initialisation segment for these tracks, written when they are new.
    fn init_for(&mut self, tracks: &Tracks) -> Result<String, fmp4::Error> {
        if let Some((uri, ..)) = self
            .inits
            .back()
            .filter(|(_, known, _)| same_tracks(known, tracks))
        {
            return Ok(uri.clone());
        }
        let video = tracks[0].as_ref().and_then(|track| match &track.config {
            Config::H264(config) => Some(config),
            Config::Aac(_) | Config::Opus(_) => None,
        });
        let audio = tracks[1].as_ref().and_then(|track| match &track.config {
            Config::Aac(config) => Some(config),
            Config::H264(_) | Config::Opus(_) => None,
        });
        let bytes = fmp4::init(video, audio)?;
        let uri = format!("{}-init-{}.mp4", self.instance, self.next_init);
        self.next_init += 1;
        self.inits.push_back((uri.clone(), tracks.clone(), bytes));
        Ok(uri)
    }

    fn trim(&mut self) {
        let (list, kept) = (self.config.list_size, self.config.list_size + KEPT_SEGMENTS);
        if self.segments.len() > list {
            let leaving = self.segments.len() - list - 1;
            let discontinuity = self
                .segments
                .get(leaving)
                .is_some_and(|segment| segment.item.discontinuity);
            self.passed_discontinuities += u64::from(discontinuity);
        }
        while self.segments.len() > kept {
            self.segments.pop_front();
        }
        let segments = &self.segments;
        let newest = self.inits.back().map(|(uri, ..)| uri.clone());
        self.inits.retain(|(uri, ..)| {
            Some(uri) == newest.as_ref()
                || segments.iter().any(|segment| segment.item.init_uri == *uri)
        });
    }

    fn write_playlist(&mut self) {
        self.text = self.render("").into();
    }

    fn render(&self, suffix: &str) -> String {
        let skip = self.segments.len().saturating_sub(self.config.list_size);
        let head = Head {
            target_s: self.target_s,
            media_sequence: self.segments.get(skip).map_or(0, |first| first.number),
            discontinuity_sequence: self.passed_discontinuities,
            ended: self.ended,
        };
        let items = self.segments.iter().skip(skip).map(|segment| &segment.item);
        playlist::render(head, items, suffix)
    }
}

fn same_tracks(a: &Tracks, b: &Tracks) -> bool {
    a.iter().zip(b).all(|(a, b)| match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    })
}

/// Whether the segment's initialisation segment decodes this unit.
fn carries(open: &Open, unit: &AccessUnit, lane: usize) -> bool {
    open.tracks
        .get(lane)
        .and_then(Option::as_ref)
        .is_some_and(|track| Arc::ptr_eq(track, &unit.track) || *track == unit.track)
}

/// Where the segment ends when nothing continues it: one picture (or one sound) after its last.
fn own_end_ms(open: &Open) -> i64 {
    let mut newest = open.video.iter().rev().map(|timed| timed.dts_ms);
    let video_end = newest.next().map(|last| {
        let step = newest.next().map_or(40, |before| last - before);
        last + step.clamp(1, GAP_MS)
    });
    let audio_end = open.tracks[1].as_ref().map(|track| {
        let rate = i64::from(track.rate.hz().max(1));
        i64::try_from(open.audio_end).unwrap_or_default() * 1_000 / rate
    });
    video_end.or(audio_end).unwrap_or(open.start_ms)
}

/// Durations are the steps between decoding times, the last one up to `end_ms`.
fn video_run(timed: Vec<Timed>, end_ms: i64) -> Run {
    let ticks = |ms: i64| u64::try_from(ms * VIDEO_TICKS_PER_MS).unwrap_or_default();
    let ends: Vec<i64> = timed
        .iter()
        .skip(1)
        .map(|next| next.dts_ms)
        .chain([end_ms])
        .collect();
    Run {
        base: timed.first().map_or(0, |first| ticks(first.dts_ms)),
        samples: timed
            .into_iter()
            .zip(ends)
            .map(|(timed, end)| Sample {
                duration: u32::try_from(ticks(end - timed.dts_ms)).unwrap_or_default(),
                ..timed.sample
            })
            .collect(),
    }
}

/// Milliseconds to samples: on the grid of the units before where it agrees, else where the milliseconds say.
fn place_on_grid(grid: Option<u64>, dts_ms: i64, rate_hz: u32) -> u64 {
    let rate = i64::from(rate_hz);
    let told = (dts_ms * rate + 500) / 1_000;
    let told = u64::try_from(told).unwrap_or_default();
    let slack = u64::try_from(GRID_SLACK_MS * rate / 1_000).unwrap_or_default();
    match grid {
        Some(grid) if grid.abs_diff(told) <= slack => grid,
        // Never back over what is written already.
        Some(grid) => told.max(grid),
        None => told,
    }
}

#[cfg(test)]
mod tests;
