//! One stream, sans-IO: tags of its publishers in, shared batches of FLV for its viewers out.
//!
//! Life: *waiting* (viewers came first) → *live* → *grace* (the publisher is away) → *live* … → *ended*. Viewers read
//! through a [`Cursor`]; [`Output::Wake`] says that there is something to read.
//!
//! Invariants:
//! - Viewers start at the newest keyframe, behind metadata and the sequence headers of all tracks; a stream becomes
//!   startable only when its tracks are known (or have had [`TRACKS_WAIT`] to appear).
//! - Per track DTS strictly increase over publishers ([`timeline`]); after a change of publisher the first media is a
//!   keyframe.
//! - The sequence header of a new configuration precedes its first unit, for viewers who are there already too; one of
//!   the same size and profile reaches those in its keyframes instead ([`codec::Header::keyframe`]).
//!
//! Queues: the batch ring is bounded by its `Limits` (old batches go, slow viewers skip to the newest keyframe);
//! outputs are drained by the shell after every call.

mod batcher;
mod codec;
mod frames;
mod meter;
mod report;
mod ring;
pub(crate) mod timeline;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::flv::{Tag, TagKind, file_header};
use media::substream::sign::Signer;
use media::{AccessUnit, Timestamp, Track};

use crate::{Config, StreamState};
use batcher::Batcher;
use codec::{Body, Codecs, Header, wrap_ms};
use meter::Meter;
use ring::{Limits, Ring};
use timeline::{Lane, Timeline};

pub(crate) use frames::{Cursor as FeedCursor, FeedRead, FrameLog, From, Limits as FrameLimits};
pub(crate) use ring::{Cursor, Read};

/// How long a startable picture waits for the other track to appear.
const TRACKS_WAIT: Duration = Duration::from_millis(400);
/// After this much sound without a picture the stream is taken for sound only.
const SOUND_ONLY_AFTER: Duration = Duration::from_millis(1_000);
/// A stream without pictures gets a start point this often.
const SOUND_START_MS: i64 = 1_000;

/// Identifies a publisher's connection within the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PublisherId(pub(crate) u64);

/// What happens to a stream.
#[derive(Debug)]
pub(crate) enum Input {
    /// A publisher asks for the stream.
    Publish(PublisherId),
    /// A publisher's tag.
    Tag(PublisherId, Tag),
    /// A publisher has gone.
    Unpublish(PublisherId),
    /// The stream ends now, whatever its state.
    End,
}

/// What the shell has to do.
#[derive(Debug)]
pub(crate) enum Output {
    /// Viewers have something to read.
    Wake,
    /// Who reads the stream in substreams has something to read.
    Frame,
    /// A unit on the viewers' timeline, for packagers.
    Unit(AccessUnit),
    /// The stream is over; what is in the ring can still be read.
    Ended,
}

/// Why an input was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// Somebody else is publishing.
    #[error("the stream is being published already")]
    Busy,
    /// The tag is not from the present publisher: it has been replaced.
    #[error("another publisher has taken over")]
    Replaced,
    /// The stream has ended.
    #[error("the stream has ended")]
    Ended,
    /// A configuration or tag that cannot be carried.
    #[error(transparent)]
    Media(#[from] media::Error),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting { until: Instant },
    Live(Live),
    Grace { until: Instant },
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Live {
    publisher: PublisherId,
    since: Instant,
    heard: Instant,
}

/// A keyframe that waits for the stream's tracks to become known.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    seq: u64,
    /// Number of the keyframe among the frames.
    frame: u64,
    dts_ms: i64,
    until: Instant,
}

/// Counters of a stream, since its start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    pub(crate) publishers: u64,
    pub(crate) bytes_in: u64,
    pub(crate) tags_dropped: u64,
    pub(crate) timestamps_corrected: u64,
    pub(crate) viewer_skips: u64,
}

/// The state machine of one stream.
#[derive(Debug)]
pub(crate) struct Stream {
    config: Arc<Config>,
    phase: Phase,
    codecs: Codecs,
    timeline: Timeline,
    ring: Ring,
    frames: FrameLog,
    batcher: Batcher,
    candidate: Option<Candidate>,
    /// The newest start point, exposed or not: (batch, dts).
    gop: Option<(u64, i64)>,
    /// Sound from before this time would be older than what viewers of the group before started with.
    floor_ms: Option<i64>,
    /// Pictures are held back until a keyframe.
    gated: bool,
    /// Sound is held back until a picture passes, or has been long awaited.
    sound_gated: bool,
    /// When sound began while a picture was awaited.
    sound_since: Option<Instant>,
    /// The next unit of each lane does not continue the one before.
    broken: [bool; 2],
    started: bool,
    outputs: VecDeque<Output>,
    video_meter: Meter,
    audio_meter: Meter,
    pub(crate) counters: Counters,
}

impl Stream {
    /// A stream that waits for its first publisher.
    pub(crate) fn new(now: Instant, config: Arc<Config>, epoch: u16) -> Self {
        let limits = Limits {
            gop_ms: i64::try_from(config.gop_cache_max_ms).unwrap_or(i64::MAX),
            gop_bytes: u64::try_from(config.gop_cache_max_bytes).unwrap_or(u64::MAX),
            lag: Duration::from_millis(config.viewer_max_lag_ms),
            lag_bytes: u64::try_from(config.viewer_max_lag_bytes).unwrap_or(u64::MAX),
        };
        Self {
            phase: Phase::Waiting {
                until: now + config.await_publisher(),
            },
            ring: Ring::new(limits),
            frames: FrameLog::new(epoch, config.substreams.split(), config.frame_limits()),
            batcher: Batcher::new(config.write_coalescing()),
            config,
            codecs: Codecs::default(),
            timeline: Timeline::default(),
            candidate: None,
            gop: None,
            floor_ms: None,
            gated: true,
            sound_gated: true,
            sound_since: None,
            broken: [false; 2],
            started: false,
            outputs: VecDeque::new(),
            video_meter: Meter::default(),
            audio_meter: Meter::default(),
            counters: Counters::default(),
        }
    }

    /// Frames for relays are signed.
    pub(crate) fn sign_with(&mut self, signer: Signer) {
        self.frames.sign_with(signer);
    }

    /// Takes an input.
    ///
    /// # Errors
    /// [`Error`]; the stream goes on unharmed.
    pub(crate) fn handle(&mut self, now: Instant, input: Input) -> Result<(), Error> {
        match input {
            Input::Publish(publisher) => self.publish(now, publisher),
            Input::Tag(publisher, tag) => self.tag(now, publisher, &tag),
            Input::Unpublish(publisher) => {
                self.unpublish(now, publisher);
                Ok(())
            }
            Input::End => {
                self.end(now);
                Ok(())
            }
        }
    }

    /// Lets time pass.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Waiting { until } | Phase::Grace { until } if until <= now => self.end(now),
            Phase::Waiting { .. } | Phase::Grace { .. } | Phase::Live(_) | Phase::Ended => {}
        }
        self.offer_start(now);
        if self.batcher.is_due(now) {
            self.flush(now);
        }
    }

    /// What the shell has to do next.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Stream::handle_timeout`] must be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Waiting { until } | Phase::Grace { until } => Some(until),
            Phase::Live(_) | Phase::Ended => None,
        };
        let candidate = self.candidate.map(|candidate| candidate.until);
        [phase, candidate, self.batcher.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next bytes of a viewer.
    pub(crate) fn read(&mut self, now: Instant, cursor: &mut Cursor) -> Option<Read> {
        let read = self.ring.read(now, cursor);
        match read {
            Read::Pending if self.phase == Phase::Ended => return None,
            Read::Skipped(_) => self.counters.viewer_skips += 1,
            Read::Pending | Read::Data(_) => {}
        }
        Some(read)
    }

    /// The FLV file header for a viewer who comes now. Before the tracks are known it announces both; the metadata
    /// that follows says which ones come.
    pub(crate) fn file_header(&self) -> Bytes {
        if self.ring.can_start() {
            file_header(self.codecs.audio.is_some(), self.codecs.video.is_some())
        } else {
            file_header(true, true)
        }
    }

    /// The stream by frames.
    pub(crate) fn frames(&self) -> &FrameLog {
        &self.frames
    }

    /// The tracks as they are now: video, audio.
    pub(crate) fn tracks(&self) -> [Option<Arc<Track>>; 2] {
        let track =
            |header: &Option<Header>| header.as_ref().map(|header| Arc::clone(&header.track));
        [track(&self.codecs.video), track(&self.codecs.audio)]
    }

    pub(crate) fn state(&self) -> StreamState {
        match self.phase {
            Phase::Waiting { .. } => StreamState::Waiting,
            Phase::Live(_) => StreamState::Live,
            Phase::Grace { .. } => StreamState::Grace,
            Phase::Ended => StreamState::Ended,
        }
    }

    /// When the present publisher was accepted.
    pub(crate) fn publisher_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Live(live) => Some(live.since),
            Phase::Waiting { .. } | Phase::Grace { .. } | Phase::Ended => None,
        }
    }

    fn publish(&mut self, now: Instant, publisher: PublisherId) -> Result<(), Error> {
        match self.phase {
            Phase::Ended => return Err(Error::Ended),
            Phase::Live(live) => {
                let silent = now.saturating_duration_since(live.heard);
                if !self.config.takeover && silent < self.config.publisher_timeout() {
                    return Err(Error::Busy);
                }
                self.flush(now);
            }
            Phase::Waiting { .. } | Phase::Grace { .. } => {}
        }
        self.phase = Phase::Live(Live {
            publisher,
            since: now,
            heard: now,
        });
        self.counters.publishers += 1;
        self.timeline.restart();
        self.codecs.forget_promise();
        self.gated = true;
        self.sound_gated = true;
        self.sound_since = None;
        Ok(())
    }

    fn unpublish(&mut self, now: Instant, publisher: PublisherId) {
        if matches!(self.phase, Phase::Live(live) if live.publisher == publisher) {
            self.flush(now);
            self.phase = Phase::Grace {
                until: now + self.config.publish_grace(),
            };
        }
    }

    fn end(&mut self, now: Instant) {
        if self.phase != Phase::Ended {
            self.flush(now);
            self.phase = Phase::Ended;
            self.outputs.push_back(Output::Wake);
            self.outputs.push_back(Output::Ended);
        }
    }

    fn tag(&mut self, now: Instant, publisher: PublisherId, tag: &Tag) -> Result<(), Error> {
        match &mut self.phase {
            Phase::Live(live) if live.publisher == publisher => live.heard = now,
            Phase::Live(_) | Phase::Waiting { .. } | Phase::Grace { .. } => {
                return Err(Error::Replaced);
            }
            Phase::Ended => return Err(Error::Ended),
        }
        self.counters.bytes_in += u64::try_from(tag.body.len()).unwrap_or_default();
        match codec::sort(&mut self.codecs, tag) {
            Ok(None) => {}
            Ok(Some(body)) => self.media(now, tag, body),
            Err(error @ (media::Error::Unsupported { .. } | media::Error::TooLarge { .. })) => {
                return Err(error.into());
            }
            Err(error) => {
                // A damaged tag is the publisher's loss, not the viewers'.
                tracing::debug!(%error, "tag dropped");
                self.counters.tags_dropped += 1;
            }
        }
        self.offer_start(now);
        if self.batcher.is_due(now) {
            self.flush(now);
        }
        Ok(())
    }

    fn media(&mut self, now: Instant, tag: &Tag, body: Body) {
        let (lane, keyframe) = match &body {
            Body::Video { keyframe, .. } => (Lane::Video, *keyframe),
            Body::Audio(_) => (Lane::Audio, false),
        };
        let known = match lane {
            Lane::Video => self.codecs.video.is_some(),
            Lane::Audio => self.codecs.audio.is_some(),
        };
        if !known || !self.passes_gate(now, lane, keyframe) {
            self.counters.tags_dropped += 1;
            return;
        }
        let placed = self.timeline.place(now, lane, tag.timestamp_ms);
        self.counters.timestamps_corrected += u64::from(placed.corrected);
        if placed.rebased {
            self.broken = [true; 2];
        }
        if lane == Lane::Audio && self.floor_ms.is_some_and(|floor| placed.dts_ms < floor) {
            self.counters.tags_dropped += 1;
            return;
        }
        let begins = match lane {
            Lane::Video => keyframe,
            Lane::Audio => {
                self.codecs.video.is_none()
                    && self
                        .gop
                        .is_none_or(|(_, dts)| placed.dts_ms - dts >= SOUND_START_MS)
            }
        };
        let meter = match lane {
            Lane::Video => &mut self.video_meter,
            Lane::Audio => &mut self.audio_meter,
        };
        meter.count(now, tag.body.len());
        self.write_header(now, lane, placed.dts_ms);
        if begins {
            self.begin_gop(now, placed.dts_ms);
        }
        let sets = self.codecs.video.as_ref();
        let written = match sets.filter(|_| lane == Lane::Video && keyframe) {
            Some(header) => &header.keyframe(&tag.body),
            None => &tag.body,
        };
        self.write(now, lane, placed.dts_ms, tag.kind, written);
        self.emit_unit(lane, placed.dts_ms, body);
    }

    /// After a change of publisher, media waits for the first keyframe; where no picture is to come, for nothing.
    fn passes_gate(&mut self, now: Instant, lane: Lane, keyframe: bool) -> bool {
        match lane {
            Lane::Video => {
                self.gated &= !keyframe;
                self.sound_gated &= self.gated;
                !self.gated
            }
            Lane::Audio if self.sound_gated => {
                let since = *self.sound_since.get_or_insert(now);
                let waited = now.saturating_duration_since(since) >= SOUND_ONLY_AFTER;
                let alone = self.codecs.complete() && !self.codecs.expects_video();
                self.sound_gated = !(waited || alone);
                !self.sound_gated
            }
            Lane::Audio => true,
        }
    }

    /// Sends a new configuration to the viewers who are here already.
    fn write_header(&mut self, now: Instant, lane: Lane, dts_ms: i64) {
        let header = match lane {
            Lane::Video => self.codecs.video.as_mut(),
            Lane::Audio => self.codecs.audio.as_mut(),
        };
        let Some(header) = header.filter(|header| header.pending) else {
            return;
        };
        header.pending = false;
        if header.in_band {
            return;
        }
        let body = header.body.clone();
        // Before the first start there is nobody to tell: the prelude brings it.
        if self.gop.is_some() {
            let kind = match lane {
                Lane::Video => TagKind::Video,
                Lane::Audio => TagKind::Audio,
            };
            self.write(now, lane, dts_ms, kind, &body);
        }
    }

    fn begin_gop(&mut self, now: Instant, dts_ms: i64) {
        self.cut(now);
        let seq = self.ring.next_seq();
        self.floor_ms = self.gop.map(|(_, start_ms)| start_ms);
        self.gop = Some((seq, dts_ms));
        self.candidate = Some(Candidate {
            seq,
            frame: self.frames.next_number(),
            dts_ms,
            until: now + TRACKS_WAIT,
        });
    }

    /// Lets viewers start at the candidate once the tracks are known.
    fn offer_start(&mut self, now: Instant) {
        let Some(candidate) = self.candidate else {
            return;
        };
        if !(self.started || self.codecs.complete() || candidate.until <= now) {
            return;
        }
        if !std::mem::replace(&mut self.started, true) {
            // Everybody gets these in the prelude.
            self.codecs.announced();
        }
        self.candidate = None;
        let prelude = self.codecs.prelude(candidate.dts_ms);
        self.frames.set_start(candidate.frame, prelude.clone());
        let first = !self.ring.can_start();
        self.ring
            .set_start(candidate.seq, candidate.dts_ms, prelude);
        if first {
            self.outputs.push_back(Output::Wake);
        }
    }

    fn write(&mut self, now: Instant, lane: Lane, dts_ms: i64, kind: TagKind, body: &Bytes) {
        let lead_of = self
            .gop
            .filter(|(_, start_ms)| lane == Lane::Audio && dts_ms < *start_ms)
            .map(|(seq, _)| seq);
        if lead_of != self.batcher.lead_of {
            self.cut(now);
            self.batcher.lead_of = lead_of;
        }
        let tag = Tag {
            kind,
            timestamp_ms: wrap_ms(dts_ms),
            body: body.clone(),
        };
        self.batcher.push(now, &tag, lane == Lane::Video);
        if self.config.substreams.enabled {
            self.frames.push(now, &tag);
            self.outputs.push_back(Output::Frame);
        }
    }

    /// Ends the batch being built; viewers are told when it is due.
    fn cut(&mut self, now: Instant) {
        if let Some(bytes) = self.batcher.cut() {
            let newest = self
                .timeline
                .newest(Lane::Video)
                .max(self.timeline.newest(Lane::Audio));
            self.ring
                .push(now, bytes, newest.unwrap_or_default(), self.batcher.lead_of);
        }
    }

    fn flush(&mut self, now: Instant) {
        self.cut(now);
        self.batcher.flushed(now);
        self.outputs.push_back(Output::Wake);
    }

    fn emit_unit(&mut self, lane: Lane, dts_ms: i64, body: Body) {
        let (header, broken) = match lane {
            Lane::Video => (&self.codecs.video, &mut self.broken[1]),
            Lane::Audio => (&self.codecs.audio, &mut self.broken[0]),
        };
        let Some(track) = header.as_ref().map(|header| Arc::clone(&header.track)) else {
            return;
        };
        let (keyframe, composition_ms, data) = match body {
            Body::Video {
                keyframe,
                composition_ms,
                data,
            } => (keyframe, composition_ms, data),
            Body::Audio(data) => (true, 0, data),
        };
        self.outputs.push_back(Output::Unit(AccessUnit {
            track,
            dts: Timestamp::from_millis(dts_ms),
            pts: Timestamp::from_millis(dts_ms + i64::from(composition_ms)),
            keyframe,
            discontinuity: std::mem::take(broken),
            data,
        }));
    }
}

#[cfg(test)]
mod tests;
