//! The picture of a program: what may be shown, in which order, with which timestamps.
//!
//! [`VideoInput`] belongs to a source: it lets through only what can be decoded (from an IDR on, without losses),
//! restores the order of units that come swapped, and holds them until they are due. [`VideoTimeline`] belongs to the
//! program: it puts parameter sets into IDRs and keeps DTS strictly increasing whatever comes in. Where another source
//! follows one whose pictures are shown later than they are sent (B-frames), the first of the new are shown 1 ms apart
//! behind the last of the old: they are needed by what follows, and nothing is shown out of order.
//!
//! Bounds: [`MAX_QUEUED_UNITS`] and [`MAX_QUEUED_BYTES`] per source. Policy: the queue is cut down to its newest keyframe;
//! without one it is emptied and the source is asked for one.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use media::h264::{self, nal_type, nal_unit_type};
use media::{AccessUnit, Config, Rate, Timestamp, Track, TrackId};

/// Most pictures waiting for their time, per source: more than 4 s at 60 pictures per second.
pub const MAX_QUEUED_UNITS: usize = 256;
/// Most bytes waiting for their time, per source.
pub const MAX_QUEUED_BYTES: usize = 32 << 20;
/// The program's video track.
pub(super) const VIDEO_TRACK: TrackId = TrackId(0);
/// The smallest step of DTS, in ticks of [`Rate::VIDEO`]: 1 ms, because FLV counts milliseconds.
const MIN_STEP_TICKS: i64 = 90;

/// A picture with its capture time, in nanoseconds of program time.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub(super) dts_ns: i64,
    pub(super) pts_ns: i64,
    pub(super) unit: AccessUnit,
}

/// What became of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It waits for its time.
    Queued,
    /// It was dropped, and perhaps others with it.
    Dropped {
        /// How many pictures are gone.
        count: u64,
        /// Nothing can be shown until the source sends an IDR.
        needs_keyframe: bool,
    },
}

/// The pictures of one source on their way to the program.
///
/// A *run* is an IDR and what can be decoded after it. Invariant of the queue: runs do not interleave, each begins with
/// its IDR unless that was taken already, and has one configuration.
#[derive(Debug, Default)]
pub(super) struct VideoInput {
    /// Each picture with the number of its run.
    queue: VecDeque<(u64, Picture)>,
    queued_bytes: usize,
    /// The track of the run that is coming in; `None` while waiting for an IDR.
    open: Option<Arc<Track>>,
    run: u64,
    /// The run before had the same configuration and no losses.
    previous_open: bool,
    /// The oldest and the newest DTS of that run.
    first_ns: i64,
    newest_ns: i64,
    /// DTS of the last picture that was taken.
    released_ns: Option<i64>,
}

impl VideoInput {
    /// Takes a picture in, or not.
    pub(super) fn push(&mut self, picture: Picture) -> Verdict {
        if self.is_duplicate(&picture) {
            return dropped(1, false);
        }
        if picture.unit.keyframe {
            return self.push_keyframe(picture);
        }
        let same_track = self.open.as_ref().is_some_and(|open| {
            Arc::ptr_eq(open, &picture.unit.track) || open.config == picture.unit.track.config
        });
        if !same_track || picture.unit.discontinuity {
            self.open = None;
            return dropped(1, true);
        }
        if picture.dts_ns <= self.first_ns {
            return self.push_overtaken(picture);
        }
        if picture.dts_ns <= self.newest_ns && self.released_ns >= Some(picture.dts_ns) {
            // Its successors were shown without it: whatever follows refers to a picture that was never decoded.
            return dropped(1 + self.clear(), true);
        }
        self.newest_ns = self.newest_ns.max(picture.dts_ns);
        let before =
            |(run, other): &(u64, Picture)| *run == self.run && other.dts_ns > picture.dts_ns;
        let later = self
            .queue
            .iter()
            .rev()
            .take_while(|entry| before(entry))
            .count();
        self.insert(later, self.run, picture)
    }

    /// A picture that was overtaken by the next IDR goes to the run before, if that one had no losses and is still here.
    fn push_overtaken(&mut self, picture: Picture) -> Verdict {
        let later = |(_, other): &&(u64, Picture)| other.dts_ns > picture.dts_ns;
        let later = self.queue.iter().rev().take_while(later).count();
        let at = self.queue.len() - later;
        let intact = self.previous_open && self.released_ns < Some(picture.dts_ns);
        let in_run = at.checked_sub(1).and_then(|at| self.queue.get(at));
        let in_run = in_run.is_some_and(|(run, _)| run + 1 == self.run);
        if !intact || !in_run {
            return dropped(1, false);
        }
        let run = self.run - 1;
        self.insert(later, run, picture)
    }

    /// An IDR starts a run. Pictures behind it that overtook it, of the same configuration, join that run.
    fn push_keyframe(&mut self, picture: Picture) -> Verdict {
        let open = self.open.as_ref();
        self.previous_open = open.is_some_and(|t| t.config == picture.unit.track.config);
        self.run += 1;
        self.first_ns = picture.dts_ns;
        self.newest_ns = picture.dts_ns;
        let late = self.released_ns >= Some(picture.dts_ns);
        let config = &picture.unit.track.config;
        let mut later = 0;
        for (run, other) in self.queue.iter_mut().rev() {
            let overtook = other.dts_ns > picture.dts_ns && !other.unit.keyframe;
            if late || !overtook || other.unit.track.config != *config {
                break;
            }
            *run = self.run;
            self.newest_ns = self.newest_ns.max(other.dts_ns);
            later += 1;
        }
        self.open = Some(Arc::clone(&picture.unit.track));
        self.insert(later, self.run, picture)
    }

    /// Capture DTS of the next picture, in nanoseconds of program time.
    pub(super) fn next_due_ns(&self) -> Option<i64> {
        self.queue.front().map(|(_, picture)| picture.dts_ns)
    }

    /// Takes the next picture.
    pub(super) fn pop(&mut self) -> Option<Picture> {
        let (_, picture) = self.queue.pop_front()?;
        self.queued_bytes -= picture.unit.data.len();
        self.released_ns = self.released_ns.max(Some(picture.dts_ns));
        Some(picture)
    }

    /// Capture DTS of the first waiting IDR that is later than `after`.
    pub(super) fn keyframe_after(&self, after: Option<i64>) -> Option<i64> {
        let enters = |picture: &Picture| picture.unit.keyframe && Some(picture.dts_ns) > after;
        let mut waiting = self.queue.iter().map(|(_, picture)| picture);
        waiting.find(|picture| enters(picture)).map(|p| p.dts_ns)
    }

    /// Forgets what waits before the IDR at `entry_ns`, whatever its time: runs may overlap.
    pub(super) fn skip_to(&mut self, entry_ns: i64) {
        let is_entry =
            |(_, picture): &(u64, Picture)| picture.unit.keyframe && picture.dts_ns == entry_ns;
        let count = self.queue.iter().position(is_entry).unwrap_or_default();
        self.forget_front(count);
    }

    /// Forgets what was due by `horizon_ns` while another source was shown.
    pub(super) fn forget_until(&mut self, horizon_ns: i64) {
        let due = |(_, picture): &&(u64, Picture)| picture.dts_ns <= horizon_ns;
        let count = self.queue.iter().take_while(due).count();
        self.forget_front(count);
    }

    fn forget_front(&mut self, count: usize) {
        for (_, picture) in self.queue.drain(..count.min(self.queue.len())) {
            self.queued_bytes -= picture.unit.data.len();
            self.released_ns = self.released_ns.max(Some(picture.dts_ns));
        }
    }

    /// Forgets everything that waits, and waits for an IDR. Returns how many pictures are gone.
    pub(super) fn clear(&mut self) -> u64 {
        let count = self.queue.len();
        self.queue.clear();
        self.queued_bytes = 0;
        self.open = None;
        count as u64
    }

    fn is_duplicate(&self, picture: &Picture) -> bool {
        self.queue.iter().any(|(_, other)| {
            other.dts_ns == picture.dts_ns && other.unit.data == picture.unit.data
        })
    }

    /// Puts a picture in front of the last `later` ones.
    fn insert(&mut self, later: usize, run: u64, picture: Picture) -> Verdict {
        self.queued_bytes += picture.unit.data.len();
        let at = self.queue.len().saturating_sub(later);
        self.queue.insert(at, (run, picture));
        if self.queue.len() <= MAX_QUEUED_UNITS && self.queued_bytes <= MAX_QUEUED_BYTES {
            return Verdict::Queued;
        }
        let count = self.cut_to_newest_keyframe();
        dropped(count, self.open.is_none())
    }

    /// Drops what waits before the newest keyframe; everything, if there is none or it is the oldest already.
    fn cut_to_newest_keyframe(&mut self) -> u64 {
        let newest = self
            .queue
            .iter()
            .rposition(|(_, picture)| picture.unit.keyframe)
            .filter(|at| *at > 0);
        let Some(at) = newest else {
            return self.clear();
        };
        self.queue.drain(..at);
        self.queued_bytes = self
            .queue
            .iter()
            .map(|(_, picture)| picture.unit.data.len())
            .sum();
        at as u64
    }
}

fn dropped(count: u64, needs_keyframe: bool) -> Verdict {
    Verdict::Dropped {
        count,
        needs_keyframe,
    }
}

/// Whether `data` is one or more NAL units in AVCC form.
pub(super) fn is_avcc(data: &Bytes) -> bool {
    !data.is_empty() && h264::avcc_nals(data).all(|nal| nal.is_ok_and(|nal| !nal.is_empty()))
}

/// Gives pictures their place on the program's timeline.
#[derive(Debug, Default)]
pub(super) struct VideoTimeline {
    /// The last DTS, in ticks of [`Rate::VIDEO`].
    last_dts: Option<i64>,
    /// The latest DTS that a picture came with, in nanoseconds of program time.
    latest_ns: Option<i64>,
    /// The program's track for the source's latest track.
    track: Option<(Arc<Track>, Arc<Track>)>,
    /// The latest PTS so far.
    latest_pts: Option<i64>,
    /// The latest of all that came before the source that is shown now, and of its own that were moved behind that.
    floor_pts: Option<i64>,
    /// More than one configuration was published: from then on every IDR brings its own, whatever a viewer has missed.
    varied: bool,
    /// Pictures whose DTS or PTS is not the one that they came with.
    pub(super) moved: u64,
}

impl VideoTimeline {
    /// Capture DTS of the latest picture, in nanoseconds of program time: not rounded, so that a picture that was captured
    /// with it or just behind it is told from one before it.
    pub(super) fn latest_ns(&self) -> Option<i64> {
        self.latest_ns
    }

    /// Another source follows.
    pub(super) fn change_source(&mut self) {
        self.floor_pts = self.latest_pts;
    }

    /// The access unit to publish; `None` when the picture is not valid AVCC or not H.264. Parameter sets are put into an
    /// IDR that lacks them, unless they are `out_of_band` for the source and nothing else was ever shown.
    pub(super) fn place(&mut self, picture: &Picture, out_of_band: bool) -> Option<AccessUnit> {
        let Config::H264(config) = &picture.unit.track.config else {
            return None;
        };
        let before = self.track.as_ref().map(|(known, _)| &known.config);
        self.varied |= before.is_some_and(|before| *before != picture.unit.track.config);
        let in_band = !out_of_band || self.varied || brings_sets(&picture.unit.data);
        let data = if picture.unit.keyframe && in_band {
            with_parameter_sets(config, &picture.unit.data)?
        } else {
            picture.unit.data.clone()
        };
        let ticks = |ns| Timestamp::from_nanos(ns).rescale(Rate::VIDEO).ticks();
        let wanted = ticks(picture.dts_ns);
        let earliest = self
            .last_dts
            .map_or(i64::MIN, |last| last.saturating_add(MIN_STEP_TICKS));
        let dts = wanted.max(earliest);
        self.last_dts = Some(dts);
        self.latest_ns = self.latest_ns.max(Some(picture.dts_ns));
        let own_pts = ticks(picture.pts_ns).max(dts);
        let pts = match self.floor_pts {
            Some(floor) if own_pts < floor.saturating_add(MIN_STEP_TICKS) => {
                let behind = floor.saturating_add(MIN_STEP_TICKS);
                self.floor_pts = Some(behind);
                behind
            }
            _ => own_pts,
        };
        self.latest_pts = self.latest_pts.max(Some(pts));
        self.moved += u64::from(dts != wanted || pts != own_pts);
        Some(AccessUnit {
            track: self.track_for(&picture.unit.track),
            pts: Timestamp::new(pts, Rate::VIDEO),
            dts: Timestamp::new(dts, Rate::VIDEO),
            keyframe: picture.unit.keyframe,
            discontinuity: picture.unit.discontinuity,
            data,
        })
    }

    /// The same configuration is the same track, over sources and sessions.
    fn track_for(&mut self, source: &Arc<Track>) -> Arc<Track> {
        if let Some((known, track)) = &mut self.track {
            if Arc::ptr_eq(known, source) {
                return Arc::clone(track);
            }
            if known.config == source.config {
                *known = Arc::clone(source);
                return Arc::clone(track);
            }
        }
        let track = Arc::new(Track {
            id: VIDEO_TRACK,
            config: source.config.clone(),
            rate: Rate::VIDEO,
        });
        self.track = Some((Arc::clone(source), Arc::clone(&track)));
        track
    }
}

fn brings_sets(data: &Bytes) -> bool {
    let mut nals = h264::avcc_nals(data).flatten();
    nals.any(|nal| matches!(nal_unit_type(&nal), nal_type::SPS | nal_type::PPS))
}

/// `data` with SPS and PPS before its first slice, behind an access unit delimiter if there is one. Parameter sets that it
/// brings itself are replaced. `None` unless `data` is valid AVCC.
fn with_parameter_sets(config: &h264::Config, data: &Bytes) -> Option<Bytes> {
    let nals: Vec<Bytes> = h264::avcc_nals(data).collect::<Result<_, _>>().ok()?;
    let sets_bytes: usize = config.pps.iter().map(|pps| pps.len() + 4).sum();
    let mut out = BytesMut::with_capacity(data.len() + config.sps.len() + 4 + sets_bytes);
    let mut put = |nal: &[u8]| {
        out.put_u32(u32::try_from(nal.len()).unwrap_or(u32::MAX));
        out.put_slice(nal);
    };
    let is = |nal: &Bytes, kind| nal_unit_type(nal) == kind;
    let delimiter = nals.iter().take_while(|nal| is(nal, nal_type::AUD));
    delimiter.for_each(|nal| put(nal));
    put(&config.sps);
    config.pps.iter().for_each(|pps| put(pps));
    nals.iter()
        .skip_while(|nal| is(nal, nal_type::AUD))
        .filter(|nal| !is(nal, nal_type::SPS) && !is(nal, nal_type::PPS))
        .for_each(|nal| put(nal));
    Some(out.freeze())
}
