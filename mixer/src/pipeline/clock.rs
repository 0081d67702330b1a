//! A GStreamer clock that shows program time, bent as the estimate of the anchor's clock says.

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::clock::Calibration;

/// GStreamer's clock times are unsigned and program time may be negative: the clock shows program time plus this, in
/// nanoseconds (eleven days).
const SHIFT_NS: i64 = 1_000_000_000_000_000;

/// Program time for a pipeline.
#[derive(Clone, Debug)]
pub(crate) struct ProgramClock {
    clock: gst::SystemClock,
}

impl ProgramClock {
    /// A clock of its own, not the one that all of GStreamer shares.
    pub(crate) fn new() -> Self {
        Self {
            clock: gst::SystemClock::new(Some("program"), gst::ClockType::Monotonic),
        }
    }

    /// The mixer's own clock, unbent, in nanoseconds.
    pub(crate) fn mixer_ns(&self) -> i64 {
        nanos(self.clock.internal_time())
    }

    /// Program time, in nanoseconds; nonsense before the first calibration.
    pub(crate) fn program_ns(&self) -> i64 {
        nanos(self.clock.time()) - SHIFT_NS
    }

    /// Follows a new estimate.
    pub(crate) fn calibrate(&self, line: Calibration) {
        const MILLION: i64 = 1_000_000;
        let rate = u64::try_from(MILLION + line.slew_ppm).unwrap_or(1);
        self.clock.set_calibration(
            clock_time(line.mixer_ns),
            clock_time(line.program_ns.saturating_add(SHIFT_NS)),
            rate,
            MILLION.unsigned_abs(),
        );
    }

    /// What this clock shows at a program time.
    pub(super) fn shown_at(program_ns: i64) -> gst::ClockTime {
        clock_time(program_ns.saturating_add(SHIFT_NS))
    }

    pub(super) fn gst(&self) -> &gst::SystemClock {
        &self.clock
    }
}

/// Nanoseconds of a clock time, saturating.
pub(super) fn nanos(time: gst::ClockTime) -> i64 {
    i64::try_from(time.nseconds()).unwrap_or(i64::MAX)
}

/// A clock time of nanoseconds; zero for negative ones.
pub(super) fn clock_time(nanos: i64) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(u64::try_from(nanos).unwrap_or(0))
}
