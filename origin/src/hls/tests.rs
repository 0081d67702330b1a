//! The packager on streams made by hand.

use std::time::UNIX_EPOCH;

use media::{Rate, Timestamp, TrackId, h264};
use mp4_atom::{Decode, Moof, Moov};

use super::*;

const SPS: &[u8] = &[
    0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01,
    0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2e, 0x48,
];
const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];

fn tracks() -> Tracks {
    let avc = h264::Config::new(Bytes::from_static(SPS), vec![Bytes::from_static(PPS)]).unwrap();
    let aac = aac::Config::lc(48_000, 2).unwrap();
    [
        (TrackId(0), Config::H264(avc), Rate::VIDEO),
        (TrackId(1), Config::Aac(aac), Rate::AUDIO),
    ]
    .map(|(id, config, rate)| Some(Arc::new(Track { id, config, rate })))
}

fn unit(tracks: &Tracks, lane: usize, dts_ms: i64, keyframe: bool) -> AccessUnit {
    let at = Timestamp::from_millis(dts_ms);
    AccessUnit {
        track: tracks[lane].clone().unwrap(),
        pts: at,
        dts: at,
        keyframe,
        discontinuity: false,
        data: Bytes::from_static(&[0, 0, 0, 1, 0x65]),
    }
}

fn packager() -> Packager {
    Packager::new(HlsConfig::default(), "x".to_owned())
}

/// 25 pictures and about 47 sounds per second, a keyframe every second.
fn feed(packager: &mut Packager, tracks: &Tracks, from_ms: i64, to_ms: i64) {
    let mut sound = from_ms * 48 / 1_024;
    for dts_ms in (from_ms..to_ms).step_by(40) {
        packager.push(
            UNIX_EPOCH,
            &unit(tracks, 0, dts_ms, dts_ms % 1_000 == 0),
            tracks,
        );
        while sound * 1_024 / 48 < dts_ms + 40 {
            // Rounded as RTMP rounds.
            let ms = (sound * 1_024 + 24) / 48;
            packager.push(UNIX_EPOCH, &unit(tracks, 1, ms, true), tracks);
            sound += 1;
        }
    }
}

fn moof(segment: &Bytes) -> Moof {
    let mut input = segment.as_ref();
    mp4_atom::Styp::decode(&mut input).unwrap();
    Moof::decode(&mut input).unwrap()
}

#[test]
fn segments_follow_each_other_on_the_sample_clock() {
    let (mut packager, tracks) = (packager(), tracks());
    feed(&mut packager, &tracks, 0, 11_000);
    let lists: Vec<_> = (0..5)
        .map(|n| moof(&packager.file(&format!("x-{n}.m4s")).unwrap()))
        .collect();
    let mut next = [0u64, 0];
    for moof in &lists {
        for (lane, traf) in moof.traf.iter().enumerate() {
            let base = traf.tfdt.as_ref().unwrap().base_media_decode_time;
            assert_eq!(base, next[lane], "lane {lane} has no gap");
            let run = &traf.trun[0].samples;
            let durations: Vec<u64> = run.iter().map(|s| u64::from(s.duration.unwrap())).collect();
            let expected = [40 * 90, 1_024][lane];
            assert!(durations.iter().all(|d| *d == expected), "{durations:?}");
            next[lane] += durations.iter().sum::<u64>();
        }
    }
    assert_eq!(next[0], 10_000 * 90);
}

#[test]
fn playlist_is_a_window_over_the_segments() {
    let (mut packager, tracks) = (packager(), tracks());
    feed(&mut packager, &tracks, 0, 30_000);
    let text = packager.playlist("").unwrap();
    let text = std::str::from_utf8(&text).unwrap();
    assert_eq!(text.matches("#EXTINF:2.000").count(), 6);
    assert!(text.contains("#EXT-X-TARGETDURATION:2\n"), "{text}");
    assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:8\n"), "{text}");
    assert!(packager.file("x-5.m4s").is_some(), "kept behind the window");
    assert!(packager.file("x-4.m4s").is_none(), "freed");
}

#[test]
fn a_new_configuration_is_a_discontinuity_with_its_own_map() {
    let (mut packager, old) = (packager(), tracks());
    feed(&mut packager, &old, 0, 3_000);
    let mut new = old.clone();
    let aac = aac::Config::lc(44_100, 1).unwrap();
    new[1] = Some(Arc::new(Track {
        id: TrackId(1),
        config: Config::Aac(aac),
        rate: Rate::new(44_100).unwrap(),
    }));
    feed(&mut packager, &new, 3_000, 6_000);
    packager.end();
    let text = packager.playlist("").unwrap();
    let text = std::str::from_utf8(&text).unwrap();
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{text}");
    assert_eq!(text.matches("#EXT-X-MAP").count(), 2, "{text}");
    let init = packager.file("x-init-1.mp4").unwrap();
    let mut input = init.as_ref();
    mp4_atom::Ftyp::decode(&mut input).unwrap();
    let moov = Moov::decode(&mut input).unwrap();
    assert_eq!(moov.trak[1].mdia.mdhd.timescale, 44_100);
}

#[test]
fn sound_before_the_first_picture_is_no_segment_of_its_own() {
    let (mut packager, tracks) = (packager(), tracks());
    let only_sound = [None, tracks[1].clone()];
    packager.push(UNIX_EPOCH, &unit(&tracks, 1, 998, true), &only_sound);
    feed(&mut packager, &tracks, 1_000, 6_000);
    let text = packager.playlist("").unwrap();
    let text = std::str::from_utf8(&text).unwrap();
    assert_eq!(text.matches("#EXT-X-MAP").count(), 1, "{text}");
    assert!(!text.contains("#EXT-X-DISCONTINUITY\n"), "{text}");
}

#[test]
fn a_break_in_time_is_a_discontinuity_and_not_a_long_segment() {
    let (mut packager, tracks) = (packager(), tracks());
    feed(&mut packager, &tracks, 0, 2_520);
    feed(&mut packager, &tracks, 9_000, 12_000);
    let text = packager.playlist("").unwrap();
    let text = std::str::from_utf8(&text).unwrap();
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{text}");
    assert!(text.contains("#EXTINF:0.520,"), "{text}");
}

#[test]
fn discontinuities_that_leave_the_window_are_counted() {
    let (mut packager, tracks) = (packager(), tracks());
    feed(&mut packager, &tracks, 0, 2_520);
    feed(&mut packager, &tracks, 9_000, 60_000);
    let text = packager.playlist("").unwrap();
    let text = std::str::from_utf8(&text).unwrap();
    assert!(text.contains("#EXT-X-DISCONTINUITY-SEQUENCE:1\n"), "{text}");
}

#[test]
fn sound_keeps_its_grid_through_jitter_and_leaves_it_at_a_gap() {
    assert_eq!(place_on_grid(None, 1_000, 48_000), 48_000);
    assert_eq!(place_on_grid(Some(48_000), 1_003, 48_000), 48_000);
    assert_eq!(place_on_grid(Some(48_000), 1_100, 48_000), 52_800);
    assert_eq!(place_on_grid(Some(48_000), 900, 48_000), 48_000);
}
