//! The ingress clock on virtual time: skewed senders, wraps, lies and lip sync.

use proptest::prelude::*;

use super::{
    AUDIO_SLEW_PPM, Capture, DEAD_BAND, EARLY_FOR, IngressClock, LATE, LATE_FOR, MAX_LEAD, Media,
    OFFSET_SLEW_PPM, SECOND, VIDEO_CATCH_UP_PPM,
};

const MS: i64 = 1_000_000;

/// A sender with its own idea of time, and the network to the anchor.
#[derive(Clone, Debug)]
struct Sender {
    /// How fast its clocks run, in parts per million off.
    skew_ppm: i64,
    /// NTP of the anchor's time zero, 32.32 fixed point.
    ntp: u64,
    video_base: u32,
    audio_base: u32,
    /// Time from capture to sending.
    video_encode: i64,
    audio_encode: i64,
    latency: i64,
    jitter: i64,
    /// Time of the first report.
    first_report: i64,
}

impl Sender {
    fn plain() -> Self {
        Self {
            skew_ppm: 0,
            ntp: 0xE000_0000_0000_0000,
            video_base: 0,
            audio_base: 0,
            video_encode: 30 * MS,
            audio_encode: 5 * MS,
            latency: 20 * MS,
            jitter: 0,
            first_report: SECOND,
        }
    }

    /// The sender's clock at true time `at`.
    fn clock(&self, at: i64) -> i64 {
        at + at / 1_000_000 * self.skew_ppm
    }

    fn rtp(&self, media: Media, at: i64) -> u32 {
        let (hz, base) = match media {
            Media::Video => (90_000, self.video_base),
            Media::Audio => (48_000, self.audio_base),
        };
        let ticks = i128::from(self.clock(at)) * hz / i128::from(SECOND);
        base.wrapping_add(u32::try_from(ticks.rem_euclid(1 << 32)).expect("in range"))
    }

    fn ntp(&self, at: i64) -> u64 {
        let fixed = (i128::from(self.clock(at)) << 32) / i128::from(SECOND);
        self.ntp
            .wrapping_add(u64::try_from(fixed).expect("after zero"))
    }
}

/// What came out for a unit captured at `at`.
#[derive(Clone, Copy, Debug)]
struct Seen {
    media: Media,
    at: i64,
    nanos: i64,
    broken: bool,
}

/// Runs a sender for `seconds`; jitter comes from `noise`, in turn.
fn run(clock: &mut IngressClock, sender: &Sender, seconds: i64, noise: &[i64]) -> Vec<Seen> {
    let mut noise = noise.iter().copied().cycle();
    let mut seen = Vec::new();
    let mut events: Vec<(i64, Media, i64)> = Vec::new();
    for (media, period, encode) in [
        (Media::Video, SECOND / 30, sender.video_encode),
        (Media::Audio, SECOND / 50, sender.audio_encode),
    ] {
        let mut at = 10 * MS;
        let mut last = 0;
        while at < seconds * SECOND {
            let jitter = noise.next().unwrap_or(0) * sender.jitter / 100;
            last = (at + encode + sender.latency + jitter).max(last + 1);
            events.push((last, media, at));
            at += period;
        }
    }
    events.sort_unstable_by_key(|(arrived, ..)| *arrived);
    let mut next_report = sender.first_report;
    for (arrived, media, at) in events {
        while next_report + sender.latency <= arrived {
            for media in [Media::Video, Media::Audio] {
                clock.handle_sender_report(
                    media,
                    sender.ntp(next_report),
                    sender.rtp(media, next_report),
                    next_report + sender.latency,
                );
            }
            next_report += SECOND;
        }
        let timestamp = sender.rtp(media, at);
        clock.handle_packet(media, timestamp, arrived);
        let capture = clock.capture(media, timestamp, arrived);
        seen.push(Seen {
            media,
            at,
            nanos: capture.nanos,
            broken: capture.broken,
        });
    }
    seen
}

/// Difference between the tracks in how late capture times are, over the last tenth of the run.
fn lip_sync_error(seen: &[Seen]) -> i64 {
    let tail = seen.get(seen.len() * 9 / 10..).expect("in range");
    let late = |media| {
        let errors: Vec<i64> = tail
            .iter()
            .filter(|unit| unit.media == media)
            .map(|unit| unit.nanos - unit.at)
            .collect();
        errors.iter().sum::<i64>() / i64::try_from(errors.len()).expect("few")
    };
    (late(Media::Video) - late(Media::Audio)).abs()
}

fn assert_strictly_increasing(seen: &[Seen]) {
    for media in [Media::Video, Media::Audio] {
        let times: Vec<i64> = seen
            .iter()
            .filter(|u| u.media == media)
            .map(|u| u.nanos)
            .collect();
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
    }
}

/// Between two units, capture time moves like true time but for skew, slew and rounding.
fn assert_slewed(seen: &[Seen], skew_ppm: i64) {
    for (media, ppm) in [
        (Media::Video, VIDEO_CATCH_UP_PPM),
        (Media::Audio, AUDIO_SLEW_PPM),
    ] {
        let units: Vec<&Seen> = seen.iter().filter(|unit| unit.media == media).collect();
        for pair in units.windows(2) {
            let expected = pair[1].at - pair[0].at;
            let moved = pair[1].nanos - pair[0].nanos;
            let most = expected * (ppm + skew_ppm.abs()) / 1_000_000 + 50_000;
            assert!(!pair[1].broken);
            assert!(
                (moved - expected).abs() <= most,
                "{media:?} moved {moved} in {expected}"
            );
        }
    }
}

fn clock() -> IngressClock {
    IngressClock::new(90_000, 1, 48_000)
}

#[test]
fn lip_sync_is_restored_by_the_first_report_without_a_jump() {
    let mut clock = clock();
    let sender = Sender {
        first_report: 5 * SECOND,
        ..Sender::plain()
    };
    let before = run(
        &mut clock,
        &Sender {
            first_report: 100 * SECOND,
            ..sender.clone()
        },
        5,
        &[0],
    );
    let error = lip_sync_error(&before) - 25 * MS;
    assert!(
        error.abs() < MS / 10,
        "arrival times see the encoders' delays"
    );
    let mut clock = self::clock();
    let seen = run(&mut clock, &sender, 20, &[0]);
    assert!(lip_sync_error(&seen) < MS / 10);
    assert_slewed(&seen, 0);
    // Audio is the one that stays.
    let audio: Vec<&Seen> = seen
        .iter()
        .filter(|unit| unit.media == Media::Audio)
        .collect();
    assert!(
        audio
            .iter()
            .all(|unit| (unit.nanos - unit.at - 25 * MS).abs() < MS / 10)
    );
}

#[test]
fn a_large_offset_of_picture_to_sound_is_gone_a_second_after_the_first_report() {
    let mut clock = clock();
    let sender = Sender {
        video_encode: 120 * MS,
        audio_encode: 10 * MS,
        first_report: 2 * SECOND,
        ..Sender::plain()
    };
    let seen = run(&mut clock, &sender, 4, &[0]);
    assert_slewed(&seen, 0);
    let late: Vec<&Seen> = seen.iter().filter(|u| u.at > 3 * SECOND).collect();
    assert!(late.iter().all(|unit| {
        let error = unit.nanos - unit.at - 30 * MS;
        error.abs() <= 20 * MS
    }));
}

#[test]
fn two_hours_of_skew_are_tracked() {
    for skew_ppm in [200, -200] {
        let mut clock = clock();
        let sender = Sender {
            skew_ppm,
            jitter: 30 * MS,
            ..Sender::plain()
        };
        let noise: Vec<i64> = (0..997).map(|i| (i * 7919) % 101).collect();
        let seen = run(&mut clock, &sender, 7_200, &noise);
        assert_strictly_increasing(&seen);
        assert_slewed(&seen[2_000..], skew_ppm);
        assert!(lip_sync_error(&seen) < 2 * MS);
        let last = seen.last().expect("some");
        let late = last.nanos - last.at;
        assert!(
            (0..60 * MS).contains(&late),
            "capture is {late} ns late after two hours at {skew_ppm} ppm"
        );
    }
}

#[test]
fn wraps_of_rtp_and_ntp_go_unnoticed() {
    let mut plain = clock();
    let expected = run(&mut plain, &Sender::plain(), 12, &[0]);
    let mut wrapping = clock();
    let sender = Sender {
        ntp: 0u64.wrapping_sub(5 << 32),
        video_base: 0u32.wrapping_sub(5 * 90_000),
        audio_base: 0u32.wrapping_sub(6 * 48_000),
        ..Sender::plain()
    };
    let seen = run(&mut wrapping, &sender, 12, &[0]);
    assert!(wrapping.is_locked(Media::Video) && wrapping.is_locked(Media::Audio));
    for (a, b) in expected.iter().zip(&seen) {
        assert!((a.nanos - b.nanos).abs() < 100_000);
    }
}

#[test]
fn bogus_reports_are_rejected() {
    let mut clock = clock();
    let sender = Sender::plain();
    let before = run(&mut clock, &sender, 5, &[0]);
    let last = before.last().expect("some").at;
    for (ntp, rtp) in [
        (0, 0),
        (u64::MAX, 0),
        (1, u32::MAX),
        (sender.ntp(last) + (9 << 32), sender.rtp(Media::Video, last)),
    ] {
        clock.handle_sender_report(Media::Video, ntp, rtp, last);
    }
    assert_eq!(clock.rejected_reports(), 4);
    let at = last + SECOND / 30;
    let capture = clock.capture(Media::Video, sender.rtp(Media::Video, at), at + 50 * MS);
    assert!((capture.nanos - at - 25 * MS).abs() < MS);
}

#[test]
fn a_sender_that_sets_its_clock_is_followed_without_a_jump() {
    let mut clock = clock();
    let sender = Sender::plain();
    run(&mut clock, &sender, 5, &[0]);
    // Same media, another NTP: an hour on.
    let set = Sender {
        ntp: sender.ntp + (3_600 << 32),
        ..sender
    };
    let mut seen = Vec::new();
    for second in 5..15 {
        let at = second * SECOND;
        for media in [Media::Video, Media::Audio] {
            clock.handle_sender_report(media, set.ntp(at), set.rtp(media, at), at + 20 * MS);
        }
        for step in 0..50 {
            let at = at + step * 20 * MS;
            let timestamp = set.rtp(Media::Audio, at);
            clock.handle_packet(Media::Audio, timestamp, at + 25 * MS);
            let capture = clock.capture(Media::Audio, timestamp, at + 25 * MS);
            seen.push(Seen {
                media: Media::Audio,
                at,
                nanos: capture.nanos,
                broken: capture.broken,
            });
        }
    }
    assert_slewed(&seen, 0);
    assert!(
        clock.is_locked(Media::Audio),
        "locked again on the new clock"
    );
}

#[test]
fn a_restarted_rtp_clock_is_a_break_that_arrival_times_bridge() {
    let mut clock = clock();
    let sender = Sender::plain();
    run(&mut clock, &sender, 5, &[0]);
    for jump in [1_000_000_000_u32, 0u32.wrapping_sub(1_000_000_000)] {
        let mut clock = self::clock();
        run(&mut clock, &sender, 5, &[0]);
        let at = 5 * SECOND;
        let timestamp = sender.rtp(Media::Video, at).wrapping_add(jump);
        clock.handle_packet(Media::Video, timestamp, at + 50 * MS);
        let capture = clock.capture(Media::Video, timestamp, at + 50 * MS);
        assert!(capture.broken);
        assert_eq!(capture.nanos, at + 50 * MS);
        let next = timestamp.wrapping_add(3_000);
        clock.handle_packet(Media::Video, next, at + 84 * MS);
        assert!(!clock.capture(Media::Video, next, at + 84 * MS).broken);
    }
}

#[test]
fn a_stall_of_the_network_does_not_move_capture_times() {
    let mut clock = clock();
    let sender = Sender::plain();
    run(&mut clock, &sender, 5, &[0]);
    // Five seconds of audio arrive at once.
    let arrived = 10 * SECOND;
    for step in 0..250 {
        let at = 5 * SECOND + step * 20 * MS;
        let timestamp = sender.rtp(Media::Audio, at);
        clock.handle_packet(Media::Audio, timestamp, arrived);
        let capture = clock.capture(Media::Audio, timestamp, arrived);
        assert!(!capture.broken && (capture.nanos - at - 25 * MS).abs() < MS);
    }
}

/// Sound and pictures of a sender, `late(media, at)` later than usual, with reports; RTP times of sound may be behind.
fn run_late(
    clock: &mut IngressClock,
    seconds: i64,
    late: impl Fn(Media, i64) -> i64,
    behind: impl Fn(i64) -> i64,
) -> Vec<(Seen, i64)> {
    let sender = Sender::plain();
    let mut seen = Vec::new();
    for step in 1..seconds * 50 {
        let at = step * 20 * MS;
        for media in [Media::Video, Media::Audio] {
            let held = match media {
                Media::Video => 0,
                Media::Audio => behind(at),
            };
            let timestamp = sender.rtp(media, at - held);
            let arrived = at + 40 * MS + late(media, at);
            if step % 50 == 0 {
                clock.handle_sender_report(media, sender.ntp(at), timestamp, arrived);
            }
            clock.handle_packet(media, timestamp, arrived);
            let capture = clock.capture(media, timestamp, arrived);
            let (nanos, broken) = (capture.nanos, capture.broken);
            let unit = Seen {
                media,
                at,
                nanos,
                broken,
            };
            seen.push((unit, arrived));
        }
    }
    seen
}

#[test]
fn sound_that_stood_still_at_its_source_is_heard_again() {
    // A browser's sound stops for 700 ms while the machine is busy, and goes on where it was: later by as much from then on.
    let mut clock = clock();
    let stalls = 10 * SECOND;
    let behind = |at| if at > stalls { 700 * MS } else { 0 };
    let seen = run_late(&mut clock, 40, |_, _| 0, behind);
    assert_eq!(clock.placed_anew(), 1);
    for (unit, arrived) in &seen {
        let late = arrived - unit.nanos;
        let is_judged = unit.at > stalls + LATE_FOR + 100 * MS;
        assert!(!is_judged || late <= LATE, "{unit:?} is {late} late");
    }
    // And lips fit it again: what is captured now has one time on both tracks.
    let tail: Vec<Seen> = seen.iter().map(|(unit, _)| *unit).collect();
    assert!(lip_sync_error(&tail) < MS);
}

#[test]
fn what_a_queue_took_is_given_back_when_it_is_gone() {
    let mut clock = clock();
    let queue = |_, at| {
        if (10 * SECOND..20 * SECOND).contains(&at) {
            600 * MS
        } else {
            0
        }
    };
    let seen = run_late(&mut clock, 40, queue, |_| 0);
    for (unit, arrived) in &seen {
        let since_full = unit.at - 10 * SECOND;
        let is_full = since_full > LATE_FOR + 600 * MS && unit.at < 20 * SECOND;
        let is_over = unit.at > 20 * SECOND + EARLY_FOR + 700 * MS;
        let late = arrived - unit.nanos;
        let is_sound = unit.media == Media::Audio;
        assert!(
            !(is_full && is_sound) || late <= LATE,
            "{unit:?} is {late} late"
        );
        let is_back = (unit.nanos - unit.at - 40 * MS).abs() <= DEAD_BAND;
        assert!(
            !is_over || is_back,
            "{unit:?} is still where the queue put it"
        );
    }
    let units: Vec<Seen> = seen.iter().map(|(unit, _)| *unit).collect();
    assert_strictly_increasing(&units);
}

#[test]
fn equal_clocks_leave_the_sound_alone() {
    // Pictures travel faster than sound, and both jitter: no sample is bent for it.
    let mut clock = clock();
    let sender = Sender {
        video_encode: 5 * MS,
        audio_encode: 40 * MS,
        jitter: 15 * MS,
        ..Sender::plain()
    };
    let noise: Vec<i64> = (0..97).map(|i| (i * 37) % 101).collect();
    let seen = run(&mut clock, &sender, 60, &noise);
    let audio = seen.iter().filter(|unit| unit.media == Media::Audio);
    let biases: Vec<i64> = audio.map(|unit| unit.nanos - unit.at).collect();
    let (least, most) = (biases.iter().min(), biases.iter().max());
    let moved = most.expect("some") - least.expect("some");
    assert!(moved < MS / 10, "the sound was moved by {moved} ns");
}

#[test]
fn a_burst_at_the_start_stays_in_order_and_is_not_a_break() {
    let mut clock = clock();
    let mut last = i64::MIN;
    // 1.2 s of sound at once, then real time.
    for step in 0..400_i64 {
        let media_time = step * 20 * MS;
        let arrived = 10 * SECOND + (media_time - 1_200 * MS).max(0);
        let timestamp = u32::try_from(step * 960).expect("small");
        clock.handle_packet(Media::Audio, timestamp, arrived);
        let capture = clock.capture(Media::Audio, timestamp, arrived);
        assert!(!capture.broken && capture.nanos > last);
        assert!(capture.nanos <= arrived + MAX_LEAD + 1_000);
        last = capture.nanos;
    }
}

/// Sound and pictures that come `ahead` earlier than the first, but for what jitter there is; with reports.
fn run_ahead(ahead: i64, seconds: i64) -> Vec<Seen> {
    let mut clock = clock();
    let sender = Sender::plain();
    let mut seen = Vec::new();
    for step in 0..seconds * 50 {
        let at = SECOND + step * 20 * MS;
        let arrived = (at - ahead).max(SECOND) + (step * 7 % 13) * MS;
        for media in [Media::Audio, Media::Video] {
            let timestamp = sender.rtp(media, at);
            if step % 250 == 240 {
                clock.handle_sender_report(media, sender.ntp(at), timestamp, arrived);
            }
            clock.handle_packet(media, timestamp, arrived);
            let Capture { nanos, broken } = clock.capture(media, timestamp, arrived);
            seen.push(Seen {
                media,
                at,
                nanos,
                broken,
            });
        }
    }
    seen
}

#[test]
fn what_a_sender_is_ahead_by_from_the_start_it_stays_ahead_by() {
    // ffmpeg's -re sends the first half second at once.
    let seen = run_ahead(500 * MS, 600);
    assert!(seen.iter().all(|unit| (unit.nanos - unit.at).abs() < MS));
    // First packets that were held up are no burst: what they cost is taken back.
    let seen = run_ahead(150 * MS, 600);
    let last = seen.last().expect("units");
    assert!((last.nanos - last.at + 150 * MS).abs() < DEAD_BAND);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever sender and network: strictly increasing, slewed, in step.
    #[test]
    fn the_contract_holds(
        skew_ppm in -200_i64..=200,
        ntp in any::<u64>(),
        video_base in any::<u32>(),
        audio_base in any::<u32>(),
        video_encode in 0_i64..200,
        audio_encode in 0_i64..60,
        latency in 0_i64..300,
        jitter in 0_i64..80,
        first_report in 500_i64..8_000,
        noise in proptest::collection::vec(0_i64..=100, 20..200),
    ) {
        let sender = Sender {
            skew_ppm, ntp, video_base, audio_base,
            video_encode: video_encode * MS,
            audio_encode: audio_encode * MS,
            latency: latency * MS,
            jitter: jitter * MS,
            first_report: first_report * MS,
        };
        let mut clock = clock();
        let seen = run(&mut clock, &sender, 60, &noise);
        assert_strictly_increasing(&seen);
        assert_slewed(&seen, skew_ppm);
        prop_assert!(lip_sync_error(&seen) < 2 * MS, "{}", lip_sync_error(&seen));
        prop_assert_eq!(clock.rejected_reports(), 0);
    }

    /// Any numbers at all: no panic, and time increases.
    #[test]
    fn noise_is_survived(events in proptest::collection::vec((0_u8..6, any::<u32>(), any::<u64>(), any::<i64>()), 0..200)) {
        let mut clock = clock();
        let mut last = [i64::MIN; 2];
        for (what, rtp, ntp, arrived) in events {
            let (media, index) = if what % 2 == 0 { (Media::Video, 0) } else { (Media::Audio, 1) };
            match what / 2 {
                0 => clock.handle_packet(media, rtp, arrived),
                1 => clock.handle_sender_report(media, ntp, rtp, arrived),
                _ => {
                    let nanos = clock.capture(media, rtp, arrived).nanos;
                    prop_assert!(nanos > last[index] || nanos == i64::MAX);
                    last[index] = nanos;
                }
            }
        }
    }

    /// The offset cannot outrun its limit.
    #[test]
    fn slew_is_bounded(value in any::<i32>(), target in any::<i32>(), progress in -10_i64..2_000_000_000) {
        let moved = super::slew(value.into(), target.into(), progress, OFFSET_SLEW_PPM);
        let most = progress.clamp(0, SECOND) * OFFSET_SLEW_PPM / 1_000_000;
        prop_assert!((moved - i64::from(value)).abs() <= most);
    }
}
