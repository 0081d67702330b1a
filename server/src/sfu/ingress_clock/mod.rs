//! Capture times: from the RTP time of each track to the anchor's clock (docs/timestamps.md, "Ingress").
//!
//! Every track has a *bias*: what is added to its RTP time to give the capture time. The bias is slewed towards
//! ```text
//! before the track's first sender report ("free"):   the windowed minimum of (arrival − RTP time)
//! after it ("locked"):                               (NTP − RTP time by the newest report) + offset
//! ```
//! where `offset`, the sender's NTP to the anchor's clock, is shared by all tracks. Whatever the network does moves
//! picture and sound together. A sender that begins with a burst of more than [`BURST`] is ahead of its arrivals by it, and
//! stays so: that *lead* is added to each minimum. When a track locks, the offset is set so that *audio* does not move; video takes the
//! difference. It stands still until it is off by more than [`DEAD_BAND`] from the windowed minimum of (arrival − NTP), of
//! the audio packets once audio is locked, and is slewed then: equal clocks are heard sample by sample.
//!
//! When the sound has come more than [`LATE`] behind its capture times for [`LATE_FOR`], nothing of it would be heard any
//! more: it is *placed anew* at once. Browsers whose sound stood still while the machine was busy go on later than before by
//! as much; queues of a thin uplink do the same. Once the path is fast again it is taken back, as far as it was moved.
//!
//! Invariants:
//! - Capture times of a track strictly increase.
//! - They are slewed, not jumped: per second of media the offset and the bias of a free track move by at most
//!   [`OFFSET_SLEW_PPM`], the bias of locked audio by [`AUDIO_SLEW_PPM`] (0.1 %, what the program's resampler can
//!   follow), of locked video by [`VIDEO_SLEW_PPM`], or [`VIDEO_CATCH_UP_PPM`] while lips and voice are visibly apart.
//! - What jumps is sound that is placed anew, and a break of the timeline itself (the sender restarts its RTP clock; an
//!   error beyond [`BREAK`]), which says so. A capture time never lies more than [`MAX_LEAD`] ahead of its arrival: a
//!   longer burst is compressed.
//! - A sender report that contradicts its predecessor, the other track or the arrival of media is ignored; three that
//!   agree with each other mean that the sender's clock was set, and start over from arrival times without a jump.

mod astray;
mod dead_band;
mod minimum;
mod track;

pub(crate) use self::astray::{Astray, LATE, Side};
#[cfg(test)]
pub(crate) use self::dead_band::DEAD_BAND;
pub(crate) use self::dead_band::DeadBand;
pub(crate) use self::minimum::WindowedMinimum;
pub(crate) use self::track::{Media, Which};
use self::track::{Track, Verdict};

/// Nanoseconds in a second.
const SECOND: i64 = 1_000_000_000;
/// How fast the shared offset may move, in parts per million of media time.
pub(crate) const OFFSET_SLEW_PPM: i64 = 500;
/// How fast the bias of audio may move.
pub(crate) const AUDIO_SLEW_PPM: i64 = 1_000;
/// How fast the bias of video may move.
pub(crate) const VIDEO_SLEW_PPM: i64 = 10_000;
/// The same while it is off by more than [`LIP_SYNC`]: pictures at 30 per second are 3 ms closer together or further
/// apart then, which nobody sees, and 100 ms are repaired in 0.8 s.
pub(crate) const VIDEO_CATCH_UP_PPM: i64 = 100_000;
/// An offset of picture to sound that may be seen, in nanoseconds.
const LIP_SYNC: i64 = 20_000_000;
/// For how long all of it must have come so late.
pub(crate) const LATE_FOR: i64 = SECOND;
/// Sound that was placed anew comes so much too early when what held it up is gone, and for so long.
pub(crate) const EARLY: i64 = 100_000_000;
pub(crate) const EARLY_FOR: i64 = 3 * SECOND;
/// Packets that come so much earlier than the first ones of their sender, this soon, show that it began with a burst.
pub(crate) const BURST: i64 = 200_000_000;
pub(crate) const BURST_FOR: i64 = 5 * SECOND;
/// An error that slewing cannot repair in reasonable time, in nanoseconds.
pub(crate) const BREAK: i64 = SECOND;
/// How far a capture time may lie ahead of its arrival. Senders that begin with a burst of what they have gathered are
/// ahead; nothing downstream should have to wait for longer.
pub(crate) const MAX_LEAD: i64 = 900_000_000;

/// When a unit was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capture {
    /// Nanoseconds on the anchor's clock.
    pub(crate) nanos: i64,
    /// The timeline broke before it.
    pub(crate) broken: bool,
}

/// The clock of one sender.
#[derive(Debug)]
pub(crate) struct IngressClock {
    /// The layers of the picture, one at least.
    video: Vec<Track>,
    audio: Track,
    /// Sender NTP to the anchor's clock; none before the first lock.
    offset: Option<i64>,
    minimum: WindowedMinimum,
    dead_band: DeadBand,
    /// Newest NTP time that has slewed the offset.
    slewed_to: i64,
    /// NTP times are kept relative to the first report.
    ntp_epoch: Option<u64>,
    rejected_reports: u64,
    placed_anew: u64,
}

impl IngressClock {
    /// A clock for a picture in so many layers and one audio track with these RTP rates, in hertz.
    pub(crate) fn new(video_hz: u32, layers: usize, audio_hz: u32) -> Self {
        let video = || Track::new(video_hz, VIDEO_SLEW_PPM, VIDEO_CATCH_UP_PPM);
        Self {
            video: (0..layers.max(1)).map(|_| video()).collect(),
            audio: Track::new(audio_hz, AUDIO_SLEW_PPM, AUDIO_SLEW_PPM),
            offset: None,
            minimum: WindowedMinimum::default(),
            dead_band: DeadBand::default(),
            slewed_to: i64::MIN,
            ntp_epoch: None,
            rejected_reports: 0,
            placed_anew: 0,
        }
    }

    /// A packet came by the direct way (not as a retransmission) at `arrived` on the anchor's clock.
    pub(crate) fn handle_packet(&mut self, which: impl Into<Which>, timestamp: u32, arrived: i64) {
        let which = which.into();
        self.track_mut(which).handle_packet(timestamp, arrived);
        if which.media == Media::Audio
            && let Some(by) = self.audio.place_anew(timestamp, arrived)
        {
            self.placed_anew += 1;
            // Pictures come after the sound; on the way back they jump too, or viewers would wait for them.
            for track in self.video.iter_mut().filter(|_| by < 0) {
                track.move_by(by);
            }
            self.unlock();
            return;
        }
        let track = self.track(which);
        if let Some(ntp) = track.ntp_of(timestamp)
            && (which.media == Media::Audio || !self.audio.is_locked())
        {
            self.minimum.add(arrived, arrived.saturating_sub(ntp));
        }
    }

    /// A sender report came at `arrived`: `ntp` (32.32 fixed point seconds) is the same moment as RTP time `rtp`.
    pub(crate) fn handle_sender_report(
        &mut self,
        which: impl Into<Which>,
        ntp: u64,
        rtp: u32,
        arrived: i64,
    ) {
        let which = which.into();
        if ntp == 0 {
            self.rejected_reports += 1;
            return;
        }
        let epoch = *self.ntp_epoch.get_or_insert(ntp);
        let ntp = fixed_point_nanos(ntp.wrapping_sub(epoch));
        let offset = self.offset;
        match self
            .track_mut(which)
            .handle_report(ntp, rtp, arrived, offset)
        {
            Verdict::Accepted => {}
            Verdict::Locked => self.lock(which),
            Verdict::Ignored => {}
            Verdict::Rejected => self.rejected_reports += 1,
            Verdict::Moved => {
                self.rejected_reports += 1;
                self.unlock();
            }
        }
    }

    /// The capture time of the next unit of a track, in decoding order; `arrived` is when its packet came.
    pub(crate) fn capture(
        &mut self,
        which: impl Into<Which>,
        timestamp: u32,
        arrived: i64,
    ) -> Capture {
        let which = which.into();
        if let Some(ntp) = self.track(which).ntp_of(timestamp) {
            self.slew_offset(ntp);
        }
        let offset = self.offset;
        self.track_mut(which).capture(timestamp, arrived, offset)
    }

    /// Starts a track over: its sender restarted it with another SSRC.
    pub(crate) fn reset_track(&mut self, which: impl Into<Which>) {
        self.track_mut(which.into()).start_over();
    }

    /// Sender reports that were not believed.
    pub(crate) fn rejected_reports(&self) -> u64 {
        self.rejected_reports
    }

    /// How often the sound was placed anew because all of it came too late, and back.
    pub(crate) fn placed_anew(&self) -> u64 {
        self.placed_anew
    }

    /// The track is mapped by sender reports.
    #[cfg(test)]
    pub(crate) fn is_locked(&self, media: Media) -> bool {
        self.track(media.into()).is_locked()
    }

    fn slew_offset(&mut self, ntp: i64) {
        let (Some(offset), Some(minimum)) = (self.offset, self.minimum.get()) else {
            return;
        };
        let leading = match (self.audio.is_locked(), self.video.first()) {
            (false, Some(video)) => video,
            _ => &self.audio,
        };
        let target = minimum.saturating_add(leading.lead());
        let error = target.saturating_sub(offset).saturating_abs();
        if error > BREAK {
            self.unlock();
            return;
        }
        if self.dead_band.moves(error) && self.slewed_to != i64::MIN {
            let progress = ntp.saturating_sub(self.slewed_to);
            self.offset = Some(slew(offset, target, progress, OFFSET_SLEW_PPM));
        }
        self.slewed_to = self.slewed_to.max(ntp);
    }

    /// A track got its first report: keep audio where it is and let video take the difference.
    fn lock(&mut self, which: Which) {
        let keep = if self.audio.is_locked() {
            Media::Audio.into()
        } else {
            which
        };
        // Of several layers the first decides, the others come to it.
        let locked = self.video.iter().filter(|track| track.is_locked());
        let is_first = which.media == Media::Audio || locked.count() < 2;
        if self.offset.is_none() || keep == which && is_first {
            self.offset = self.track(keep).offset_without_error();
        }
        if which.media == Media::Audio {
            // The picture's way is another: its packets would pull the sound along.
            self.minimum = WindowedMinimum::default();
        }
    }

    /// Back to arrival times for all tracks; their biases stay, so nothing moves.
    fn unlock(&mut self) {
        for track in &mut self.video {
            track.unlock();
        }
        self.audio.unlock();
        self.offset = None;
        self.minimum = WindowedMinimum::default();
        self.dead_band = DeadBand::default();
        self.slewed_to = i64::MIN;
    }

    /// A layer that does not exist is a mistake of ours; sound is there in any case.
    fn track(&self, which: Which) -> &Track {
        match which.media {
            Media::Video => self.video.get(which.layer).unwrap_or(&self.audio),
            Media::Audio => &self.audio,
        }
    }

    fn track_mut(&mut self, which: Which) -> &mut Track {
        match which.media {
            Media::Video => self.video.get_mut(which.layer).unwrap_or(&mut self.audio),
            Media::Audio => &mut self.audio,
        }
    }
}

/// `value` moved towards `target` by at most `ppm` of `progress` (nanoseconds of media, a second at most).
fn slew(value: i64, target: i64, progress: i64, ppm: i64) -> i64 {
    let most = progress.clamp(0, SECOND).saturating_mul(ppm) / 1_000_000;
    value.saturating_add(target.saturating_sub(value).clamp(-most, most))
}

/// Signed nanoseconds of a wrapped difference of NTP times in 32.32 fixed point.
fn fixed_point_nanos(difference: u64) -> i64 {
    let scaled = i128::from(difference.cast_signed()) * i128::from(SECOND);
    i64::try_from(scaled >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests;
