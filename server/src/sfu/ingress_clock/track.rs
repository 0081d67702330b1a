//! One track's share of the ingress clock: unwrapped RTP time, its sender reports, and its bias.

use media::time::unwrap_u32;

use super::astray::{Astray, LATE, Side};
use super::minimum::WindowedMinimum;
use super::{
    BREAK, BURST, BURST_FOR, Capture, DeadBand, EARLY, EARLY_FOR, LATE_FOR, LIP_SYNC, MAX_LEAD,
    OFFSET_SLEW_PPM, SECOND, slew,
};

/// How far a report may be from what its predecessor predicts: a fixed part and a part per elapsed time.
const REPORT_TOLERANCE: i64 = 100_000_000;
const REPORT_TOLERANCE_PPM: i64 = 1_000;
/// How far from its own arrival a first report may place the present.
const REPORT_PRESENT: i64 = 2 * SECOND;
/// Reports that agree with each other but not with the past, before they are believed.
const REPORTS_TO_MOVE: u32 = 3;

/// Picture or sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Media {
    /// The picture.
    Video,
    /// The sound.
    Audio,
}

/// Which track: a picture may be sent in several layers, each with its own RTP time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Which {
    /// Picture or sound.
    pub(crate) media: Media,
    /// Of a picture, its place among the layers of the offer; 0 when there is one stream, and for sound.
    pub(crate) layer: usize,
}

impl From<Media> for Which {
    fn from(media: Media) -> Self {
        Self { media, layer: 0 }
    }
}

/// What a track makes of a sender report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Believed.
    Accepted,
    /// Believed, and the first: the track is locked now.
    Locked,
    /// Nothing can be said yet, no media has come.
    Ignored,
    /// Not believed.
    Rejected,
    /// The sender's clock was set.
    Moved,
}

/// The same moment in both times, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Report {
    media: i64,
    ntp: i64,
}

impl Report {
    /// NTP − RTP time.
    fn difference(self) -> i64 {
        self.ntp.saturating_sub(self.media)
    }

    /// Both speak of the same clocks.
    fn agrees(self, new: Self) -> bool {
        let elapsed = new.ntp.saturating_sub(self.ntp).saturating_abs();
        let tolerance = REPORT_TOLERANCE + elapsed / 1_000_000 * REPORT_TOLERANCE_PPM;
        let error = new.difference().saturating_sub(self.difference());
        error.saturating_abs() <= tolerance
    }
}

/// A track of one sender.
#[derive(Debug)]
pub(super) struct Track {
    hz: i64,
    slew_ppm: i64,
    /// The same when it is far from where it should be.
    catch_up_ppm: i64,
    /// Newest unwrapped RTP time, in ticks.
    newest: Option<i64>,
    minimum: WindowedMinimum,
    report: Option<Report>,
    doubted: Option<(Report, u32)>,
    /// Capture time − RTP time; none before the first unit.
    bias: Option<i64>,
    /// RTP time and arrival of the last unit on this timeline, in nanoseconds.
    last: Option<(i64, i64)>,
    /// Capture time of the last unit.
    last_capture: Option<i64>,
    /// Arrival of the first packet.
    since: Option<i64>,
    /// How far ahead of their arrivals capture times stay, because the sender began with a burst.
    lead: i64,
    /// Of the bias, while free.
    dead_band: DeadBand,
    astray: Astray,
    /// By how much it was placed later because all of it came late.
    moved: i64,
}

impl Track {
    pub(super) fn new(hz: u32, slew_ppm: i64, catch_up_ppm: i64) -> Self {
        Self {
            hz: i64::from(hz.max(1)),
            slew_ppm,
            catch_up_ppm,
            newest: None,
            minimum: WindowedMinimum::default(),
            report: None,
            doubted: None,
            bias: None,
            last: None,
            last_capture: None,
            since: None,
            lead: 0,
            dead_band: DeadBand::default(),
            astray: Astray::default(),
            moved: 0,
        }
    }

    pub(super) fn is_locked(&self) -> bool {
        self.report.is_some()
    }

    pub(super) fn handle_packet(&mut self, timestamp: u32, arrived: i64) {
        let ticks = self.unwrap(timestamp);
        self.newest = Some(self.newest.map_or(ticks, |newest| newest.max(ticks)));
        let needed = arrived.saturating_sub(self.nanos(ticks));
        self.minimum.add(arrived, needed);
        let since = *self.since.get_or_insert(arrived);
        let ahead = self.bias.map_or(0, |bias| bias.saturating_sub(needed));
        if ahead > BURST && arrived.saturating_sub(since) < BURST_FOR {
            self.lead = self.lead.max(ahead.min(MAX_LEAD));
        }
    }

    /// How far ahead of their arrivals capture times stay.
    pub(super) fn lead(&self) -> i64 {
        self.lead
    }

    /// Notes how late a packet is; when all have been for long, sets the bias so that they are in time, and says by how much
    /// capture times are later than before.
    pub(super) fn place_anew(&mut self, timestamp: u32, arrived: i64) -> Option<i64> {
        let media = self.nanos(self.unwrap(timestamp));
        let needed = arrived.saturating_sub(media);
        let bias = self.bias?;
        let late = needed.saturating_sub(bias);
        // A lead that the sender began with stays; only what was taken is given back.
        let side = match late {
            late if late > LATE => Some(Side::Late),
            late if late < -EARLY && self.moved != 0 => Some(Side::Early),
            _ => None,
        };
        let patience = match side {
            Some(Side::Early) => EARLY_FOR,
            Some(Side::Late) | None => LATE_FOR,
        };
        let least = self.astray.note(arrived, side, needed, patience)?;
        let by = least.saturating_sub(bias).max(-self.moved);
        self.moved = self.moved.saturating_add(by);
        self.move_by(by);
        self.minimum.add(arrived, least);
        // Of a lead that was lost, what is taken back is a lead again.
        self.lead = bias.saturating_add(by).saturating_sub(least);
        Some(by)
    }

    /// Capture times are later by this from now on, whatever was seen before.
    pub(super) fn move_by(&mut self, by: i64) {
        self.bias = self.bias.map(|bias| bias.saturating_add(by));
        self.minimum = WindowedMinimum::default();
    }

    /// The sender's NTP time (relative to the first report) of an RTP time; none while free.
    pub(super) fn ntp_of(&self, timestamp: u32) -> Option<i64> {
        let media = self.nanos(self.unwrap(timestamp));
        self.report
            .map(|report| media.saturating_add(report.difference()))
    }

    pub(super) fn handle_report(
        &mut self,
        ntp: i64,
        rtp: u32,
        arrived: i64,
        offset: Option<i64>,
    ) -> Verdict {
        let Some(arrival_bias) = self.minimum.get() else {
            return Verdict::Ignored;
        };
        let new = Report {
            media: self.nanos(self.unwrap(rtp)),
            ntp,
        };
        let (believed, verdict) = match self.report {
            Some(old) => (old.agrees(new), Verdict::Accepted),
            None => {
                // It speaks of about now, and the other track puts that moment at about the same time.
                let present = new.media.saturating_add(arrival_bias);
                let now = present.abs_diff(arrived) <= REPORT_PRESENT.unsigned_abs();
                let same = offset.is_none_or(|offset| {
                    present.abs_diff(new.ntp.saturating_add(offset)) <= BREAK.unsigned_abs()
                });
                (now && same, Verdict::Locked)
            }
        };
        if believed {
            self.report = Some(new);
            self.doubted = None;
            return verdict;
        }
        self.doubt(new)
    }

    fn doubt(&mut self, new: Report) -> Verdict {
        let count = match self.doubted {
            Some((doubted, count)) if doubted.agrees(new) => count + 1,
            _ => 1,
        };
        self.doubted = Some((new, count));
        if count < REPORTS_TO_MOVE || self.report.is_none() {
            return Verdict::Rejected;
        }
        self.doubted = None;
        Verdict::Moved
    }

    /// The offset at which this locked track would have no error.
    pub(super) fn offset_without_error(&self) -> Option<i64> {
        let bias = self.bias.or(self.minimum.get())?;
        Some(bias.saturating_sub(self.report?.difference()))
    }

    /// Back to arrival times; the bias stays, so nothing moves.
    pub(super) fn unlock(&mut self) {
        self.report = None;
        self.doubted = None;
    }

    /// Forgets everything but that capture times increase.
    pub(super) fn start_over(&mut self) {
        self.unlock();
        self.newest = None;
        self.minimum = WindowedMinimum::default();
        self.bias = None;
        self.last = None;
        self.since = None;
        self.lead = 0;
        self.dead_band = DeadBand::default();
        self.astray = Astray::default();
        self.moved = 0;
    }

    pub(super) fn capture(&mut self, timestamp: u32, arrived: i64, offset: Option<i64>) -> Capture {
        let media = self.nanos(self.unwrap(timestamp));
        if self.is_break(media, arrived, offset) {
            self.start_over();
            self.handle_packet(timestamp, arrived);
        }
        let broken = self.last.is_none() && self.last_capture.is_some();
        // Starting over may have changed how RTP time is unwrapped.
        let media = self.nanos(self.unwrap(timestamp));
        let target = self.target(offset).unwrap_or(arrived.saturating_sub(media));
        let progress = self
            .last
            .map_or(0, |(previous, _)| media.saturating_sub(previous));
        // While free, both tracks follow their minimum at one speed.
        let off = self.bias.map_or(0, |bias| target.saturating_sub(bias));
        let moves = self.dead_band.moves(off);
        let ppm = match (self.report, off.saturating_abs() > LIP_SYNC) {
            (None, _) if moves => OFFSET_SLEW_PPM,
            (None, _) => 0,
            (Some(_), false) => self.slew_ppm,
            (Some(_), true) => self.catch_up_ppm,
        };
        let most = arrived.saturating_add(MAX_LEAD).saturating_sub(media);
        let bias = self
            .bias
            .map_or(target, |bias| slew(bias, target, progress, ppm))
            .min(most);
        let floor = self
            .last_capture
            .map_or(i64::MIN, |capture| capture.saturating_add(1));
        let nanos = media.saturating_add(bias).max(floor);
        self.bias = Some(bias);
        self.last = Some((media, arrived));
        self.last_capture = Some(nanos);
        Capture { nanos, broken }
    }

    /// What the bias should be.
    fn target(&self, offset: Option<i64>) -> Option<i64> {
        match (self.report, offset) {
            (Some(report), Some(offset)) => Some(report.difference().saturating_add(offset)),
            _ => Some(self.minimum.get()?.saturating_add(self.lead)),
        }
    }

    /// The timeline is not the one of the unit before: it steps back, leaps ahead, or slewing would take ages.
    fn is_break(&self, media: i64, arrived: i64, offset: Option<i64>) -> bool {
        let (Some(bias), Some(target), Some((previous, heard))) =
            (self.bias, self.target(offset), self.last)
        else {
            return false;
        };
        let elapsed = arrived.saturating_sub(heard).max(0);
        let ahead = media.saturating_add(bias).saturating_sub(arrived);
        let leaps = media > previous.saturating_add(elapsed).saturating_add(BREAK);
        let steps_back = media < previous.saturating_sub(BREAK);
        let hopeless = target.saturating_sub(bias) > BREAK;
        steps_back || leaps && ahead > BREAK || hopeless
    }

    /// RTP time without its wrap, nearest to the newest one.
    fn unwrap(&self, timestamp: u32) -> i64 {
        unwrap_u32(self.newest, timestamp)
    }

    /// Ticks in nanoseconds, rounded down.
    fn nanos(&self, ticks: i64) -> i64 {
        let nanos = i128::from(ticks) * i128::from(SECOND) / i128::from(self.hz);
        i64::try_from(nanos).unwrap_or(i64::MAX)
    }
}
