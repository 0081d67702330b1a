//! When a unit of an endless loop is due, and which RTP timestamp it carries. Pure arithmetic, no clock.
//!
//! Media time starts at zero with the publisher and never jumps: pass `n` of the loop is shifted by exactly `n` times its
//! length, which is a whole number of ticks of both clocks ([`super::clip`]).

use std::time::Duration;

use media::Kind;

use super::clip::{AUDIO_RATE, Unit, VIDEO_RATE, rate, ticks_to_duration};

/// A position in the endless repetition of a clip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Timeline {
    /// Index of the next unit within the clip.
    pub(super) index: usize,
    /// Samples at 48 kHz before this pass.
    offset_samples: u64,
    /// How often the clip was played to its end.
    pub(super) passes: u64,
}

impl Timeline {
    /// After the unit that was just played.
    pub(super) fn advance(&mut self) {
        self.index += 1;
    }

    /// The clip has ended: the next pass begins.
    pub(super) fn wrap(&mut self, loop_samples: u64) {
        self.index = 0;
        self.passes += 1;
        self.offset_samples += loop_samples;
    }

    /// Media time of `unit` in this pass.
    pub(super) fn due(&self, unit: &Unit) -> Duration {
        ticks_to_duration(self.offset_samples, AUDIO_RATE) + unit.at()
    }

    /// Ticks of the unit's RTP clock since media time zero; the RTP timestamp is this plus a random start, mod 2^32.
    pub(super) fn ticks(&self, unit: &Unit) -> u64 {
        let offset = match unit.kind {
            Kind::Audio => self.offset_samples,
            Kind::Video => self.offset_samples * VIDEO_RATE / AUDIO_RATE,
        };
        offset + unit.ticks
    }
}

/// Ticks of the RTP clock of `kind` at media time `at`: for sender reports.
pub(super) fn ticks_at(kind: Kind, at: Duration) -> u64 {
    let ticks = at.as_nanos() * u128::from(rate(kind)) / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// The low 32 bits, as RTP counts.
pub(super) fn wrap_u32(ticks: u64) -> u32 {
    u32::try_from(ticks & u64::from(u32::MAX)).unwrap_or(0)
}

/// NTP time (RFC 5905 §6: seconds since 1900 in 32.32 bits) of a time since the Unix epoch.
pub(super) fn ntp(since_unix_epoch: Duration) -> u64 {
    const UNIX_TO_NTP_S: u64 = 2_208_988_800;
    let seconds = since_unix_epoch.as_secs().wrapping_add(UNIX_TO_NTP_S);
    let fraction = (u64::from(since_unix_epoch.subsec_nanos()) << 32) / 1_000_000_000;
    seconds << 32 | fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(kind: Kind, ticks: u64) -> Unit {
        Unit {
            kind,
            ticks,
            duration: 960,
            keyframe: true,
            payloads: Vec::new(),
        }
    }

    #[test]
    fn neither_clock_jumps_nor_drifts_over_a_month_of_loops() {
        let mut timeline = Timeline::default();
        for _ in 0..300_000 {
            timeline.wrap(384_000);
        }
        let (video, audio) = (unit(Kind::Video, 0), unit(Kind::Audio, 0));
        assert_eq!(timeline.ticks(&audio), 300_000 * 384_000);
        assert_eq!(timeline.ticks(&video), 300_000 * 720_000);
        assert_eq!(timeline.due(&video), timeline.due(&audio));
        assert_eq!(timeline.due(&video), Duration::from_secs(2_400_000));
    }

    #[test]
    fn reports_agree_with_packets() {
        let mut timeline = Timeline::default();
        timeline.wrap(384_000);
        let unit = unit(Kind::Video, 45_000);
        assert_eq!(
            ticks_at(Kind::Video, timeline.due(&unit)),
            timeline.ticks(&unit)
        );
    }

    #[test]
    fn ntp_counts_from_1900_in_binary_fractions() {
        assert_eq!(
            ntp(Duration::from_millis(1_500)),
            (2_208_988_801 << 32) + (1 << 31)
        );
    }

    #[test]
    fn rtp_wraps() {
        assert_eq!(wrap_u32((1 << 32) + 5), 5);
    }
}
