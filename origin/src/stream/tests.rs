//! The stream machine on virtual time: what viewers get, whatever publishers do.

use media::flv::{AudioBody, Item, Reader, VideoBody};
use proptest::prelude::*;

use super::*;

const AVCC: &[u8] = &[
    1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 25, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9,
    0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2e, 0x48,
    1, 0, 5, 0x68, 0xcb, 0x83, 0xcb, 0x20,
];

/// 320 × 180.
const SMALL_AVCC: &[u8] = &[
    0x01, 0x42, 0xc0, 0x0c, 0xff, 0xe1, 0x00, 0x17, 0x67, 0x42, 0xc0, 0x0c, 0xda, 0x05, 0x06, 0x7e,
    0x7c, 0x04, 0x40, 0x00, 0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x0c, 0x83, 0xc5, 0x0a, 0xa8, 0x01,
    0x00, 0x04, 0x68, 0xce, 0x0f, 0xc8,
];

fn start() -> Instant {
    crate::clock::now()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn tag(kind: TagKind, timestamp_ms: u32, body: Bytes) -> Tag {
    Tag {
        kind,
        timestamp_ms,
        body,
    }
}

fn video_header() -> Tag {
    let body = VideoBody::AvcConfig(Bytes::from_static(AVCC)).to_bytes();
    tag(TagKind::Video, 0, body)
}

fn audio_header(asc: &'static [u8]) -> Tag {
    let body = AudioBody::AacConfig(Bytes::from_static(asc)).to_bytes();
    tag(TagKind::Audio, 0, body)
}

fn picture(timestamp_ms: u32, keyframe: bool, bytes: usize) -> Tag {
    let body = VideoBody::Avc {
        keyframe,
        composition_ms: 0,
        data: vec![7; bytes].into(),
    };
    tag(TagKind::Video, timestamp_ms, body.to_bytes())
}

fn sound(timestamp_ms: u32) -> Tag {
    let body = AudioBody::Aac(Bytes::from_static(&[1, 2, 3])).to_bytes();
    tag(TagKind::Audio, timestamp_ms, body)
}

const P1: PublisherId = PublisherId(1);
const P2: PublisherId = PublisherId(2);

/// A stream with the clock of the test.
struct Rig {
    now: Instant,
    stream: Stream,
    units: Vec<AccessUnit>,
    wakes: usize,
}

impl Rig {
    fn new(config: Config) -> Self {
        let now = start();
        Self {
            now,
            stream: Stream::new(now, Arc::new(config), 7),
            units: Vec::new(),
            wakes: 0,
        }
    }

    /// Lets time pass, with every timeout at its moment.
    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(at) = self.stream.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.stream.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn drain(&mut self) {
        while let Some(output) = self.stream.poll_output() {
            match output {
                Output::Frame => {}
                Output::Wake => self.wakes += 1,
                Output::Unit(unit) => self.units.push(unit),
                Output::Ended => {}
            }
        }
    }

    fn handle(&mut self, input: Input) -> Result<(), Error> {
        let result = self.stream.handle(self.now, input);
        self.drain();
        result
    }

    fn tag(&mut self, publisher: PublisherId, tag: Tag) {
        self.handle(Input::Tag(publisher, tag)).expect("accepted");
    }

    fn publish(&mut self, publisher: PublisherId) {
        self.handle(Input::Publish(publisher)).expect("accepted");
        self.tag(publisher, video_header());
        self.tag(publisher, audio_header(&[0x11, 0x90]));
    }

    /// 25 pictures and 47 sounds per second from `from_ms` on; a keyframe every `gop_ms`.
    fn run(&mut self, publisher: PublisherId, from_ms: u32, to_ms: u32, gop_ms: u32) {
        let mut next_sound = from_ms;
        for at in (from_ms..to_ms).step_by(40) {
            self.tag(
                publisher,
                picture(at, (at - from_ms).is_multiple_of(gop_ms), 1_000),
            );
            while next_sound < at + 40 {
                self.tag(publisher, sound(next_sound));
                next_sound += 21;
            }
            self.advance(ms(40));
        }
    }
}

/// A viewer that can take its time.
#[derive(Default)]
struct Viewer {
    cursor: Cursor,
    reader: Reader,
    begun: bool,
    tags: Vec<Tag>,
    ended: bool,
}

impl Viewer {
    fn read(&mut self, rig: &mut Rig) {
        if !std::mem::replace(&mut self.begun, true) {
            self.reader.push(&rig.stream.file_header());
        }
        loop {
            match rig.stream.read(rig.now, &mut self.cursor) {
                Some(Read::Data(bytes) | Read::Skipped(bytes)) => self.reader.push(&bytes),
                Some(Read::Pending) => break,
                None => {
                    self.ended = true;
                    break;
                }
            }
        }
        while let Some(item) = self.reader.next_item().expect("FLV") {
            if let Item::Tag(tag) = item {
                self.tags.push(tag);
            }
        }
    }

    fn times(&self, kind: TagKind) -> Vec<u32> {
        self.tags
            .iter()
            .filter(|tag| tag.kind == kind && !tag.is_sequence_header())
            .map(|tag| tag.timestamp_ms)
            .collect()
    }

    /// The rules for every viewer.
    fn check(&self) {
        let Some(first) = self.tags.first() else {
            return;
        };
        assert_eq!(first.kind, TagKind::Script, "metadata comes first");
        let media: Vec<&Tag> = self
            .tags
            .iter()
            .filter(|tag| tag.kind != TagKind::Script && !tag.is_sequence_header())
            .collect();
        let headers = self.tags.iter().take(3).filter(|t| t.is_sequence_header());
        assert_eq!(headers.count(), 2, "both sequence headers before any media");
        if let Some(first) = media.first() {
            assert!(first.is_keyframe(), "{first:?}");
            let early = media
                .iter()
                .find(|tag| tag.timestamp_ms < first.timestamp_ms);
            assert_eq!(early, None, "nothing from before the first keyframe");
        }
        for kind in [TagKind::Audio, TagKind::Video] {
            let times = self.times(kind);
            assert!(times.is_sorted_by(|a, b| a < b), "{kind:?} {times:?}");
        }
    }
}

#[test]
fn a_viewer_who_comes_first_gets_the_first_picture_at_once() {
    let mut rig = Rig::new(Config::default());
    let mut viewer = Viewer::default();
    viewer.read(&mut rig);
    rig.publish(P1);
    rig.tag(P1, picture(0, true, 500));
    viewer.read(&mut rig);
    viewer.check();
    assert_eq!(viewer.times(TagKind::Video), [0]);
}

#[test]
fn a_late_viewer_starts_at_the_newest_keyframe() {
    let mut rig = Rig::new(Config::default());
    rig.publish(P1);
    rig.run(P1, 0, 2_600, 1_000);
    let mut viewer = Viewer::default();
    viewer.read(&mut rig);
    viewer.check();
    let first = viewer.times(TagKind::Video).first().copied();
    assert_eq!(first, Some(2_000));
}

#[test]
fn sound_from_before_the_keyframe_is_for_those_who_were_there() {
    let mut rig = Rig::new(Config::default());
    let mut early = Viewer::default();
    rig.publish(P1);
    rig.run(P1, 0, 1_000, 1_000);
    early.read(&mut rig);
    rig.tag(P1, picture(1_050, true, 500));
    rig.tag(P1, sound(1_020));
    rig.tag(P1, sound(1_041));
    rig.tag(P1, sound(1_062));
    rig.tag(P1, picture(1_090, false, 500));
    rig.advance(ms(60));
    let mut late = Viewer::default();
    for viewer in [&mut early, &mut late] {
        viewer.read(&mut rig);
        viewer.check();
    }
    assert_eq!(late.times(TagKind::Audio), [1_062]);
    assert!(
        early
            .times(TagKind::Audio)
            .ends_with(&[1_020, 1_041, 1_062])
    );
}

#[test]
fn a_stream_whose_sound_header_is_late_does_not_start_without_it() {
    let mut rig = Rig::new(Config::default());
    rig.handle(Input::Publish(P1)).expect("accepted");
    rig.tag(P1, video_header());
    rig.tag(P1, picture(0, true, 500));
    let mut viewer = Viewer::default();
    viewer.read(&mut rig);
    assert_eq!(viewer.tags, []);
    rig.advance(ms(100));
    rig.tag(P1, audio_header(&[0x11, 0x90]));
    rig.tag(P1, sound(10));
    rig.advance(ms(60));
    viewer.read(&mut rig);
    viewer.check();
}

#[test]
fn a_stream_without_sound_starts_all_the_same() {
    let mut rig = Rig::new(Config::default());
    rig.handle(Input::Publish(P1)).expect("accepted");
    rig.tag(P1, video_header());
    rig.tag(P1, picture(0, true, 500));
    let mut viewer = Viewer::default();
    rig.advance(TRACKS_WAIT);
    viewer.read(&mut rig);
    assert_eq!(viewer.times(TagKind::Video), [0]);
    assert_eq!(rig.stream.file_header(), file_header(false, true));
}

#[test]
fn a_stream_without_pictures_starts_all_the_same() {
    let mut rig = Rig::new(Config::default());
    rig.handle(Input::Publish(P1)).expect("accepted");
    rig.tag(P1, audio_header(&[0x11, 0x90]));
    for n in 0..120 {
        rig.tag(P1, sound(n * 21));
        rig.advance(ms(21));
    }
    let mut viewer = Viewer::default();
    viewer.read(&mut rig);
    let times = viewer.times(TagKind::Audio);
    assert!(times.len() > 10 && times.is_sorted(), "{times:?}");
    assert_eq!(rig.stream.file_header(), file_header(true, false));
}

#[test]
fn sound_rides_with_pictures_and_a_picture_leaves_at_once() {
    let mut rig = Rig::new(Config::default());
    rig.publish(P1);
    rig.run(P1, 0, 1_000, 1_000);
    let before = rig.wakes;
    rig.run(P1, 1_000, 2_000, 1_000);
    let wakes = rig.wakes - before;
    assert!((25..=27).contains(&wakes), "{wakes} writes for 25 pictures");
}

#[test]
fn coalescing_bounds_the_writes() {
    let mut rig = Rig::new(Config {
        write_coalescing_ms: 350,
        ..Config::default()
    });
    rig.publish(P1);
    rig.run(P1, 0, 7_000, 1_000);
    assert!(
        (18..=22).contains(&rig.wakes),
        "{} writes in 7 s",
        rig.wakes
    );
}

#[test]
fn a_second_publisher_is_refused_until_the_first_is_silent() {
    let mut rig = Rig::new(Config::default());
    rig.publish(P1);
    rig.run(P1, 0, 1_000, 1_000);
    assert_eq!(rig.handle(Input::Publish(P2)), Err(Error::Busy));
    rig.advance(ms(2_000));
    rig.publish(P2);
    assert_eq!(
        rig.handle(Input::Tag(P1, sound(1_000))),
        Err(Error::Replaced)
    );
    // The one that was replaced has nothing left to end.
    rig.handle(Input::Unpublish(P1)).expect("no effect");
    assert_eq!(rig.stream.state(), StreamState::Live);
}

#[test]
fn takeover_replaces_at_once() {
    let mut rig = Rig::new(Config {
        takeover: true,
        ..Config::default()
    });
    rig.publish(P1);
    rig.run(P1, 0, 1_000, 1_000);
    rig.publish(P2);
    assert_eq!(rig.stream.counters.publishers, 2);
}

#[test]
fn viewers_continue_with_the_next_publisher_and_end_with_the_grace() {
    let mut rig = Rig::new(Config::default());
    let mut viewer = Viewer::default();
    rig.publish(P1);
    rig.run(P1, 0, 1_000, 1_000);
    viewer.read(&mut rig);
    rig.handle(Input::Unpublish(P1)).expect("live");
    assert_eq!(rig.stream.state(), StreamState::Grace);
    rig.advance(ms(14_900));
    rig.publish(P2);
    rig.run(P2, 0, 1_000, 1_000);
    viewer.read(&mut rig);
    viewer.check();
    assert_eq!(viewer.times(TagKind::Video).len(), 50);
    rig.handle(Input::Unpublish(P2)).expect("live");
    rig.advance(ms(15_000));
    viewer.read(&mut rig);
    assert!(viewer.ended);
    assert_eq!(rig.handle(Input::Publish(P1)), Err(Error::Ended));
}

#[test]
fn a_returning_publisher_passes_no_picture_before_its_keyframe() {
    let mut rig = Rig::new(Config::default());
    let mut viewer = Viewer::default();
    rig.publish(P1);
    rig.run(P1, 0, 1_000, 1_000);
    rig.handle(Input::Unpublish(P1)).expect("live");
    rig.publish(P2);
    for at in (0..3_000).step_by(40) {
        rig.tag(P2, picture(at, at == 2_000, 500));
        rig.tag(P2, sound(at));
        rig.advance(ms(40));
    }
    viewer.read(&mut rig);
    let pictures = rig
        .units
        .iter()
        .filter(|unit| unit.kind() == media::Kind::Video);
    let mut second = pictures.skip(25);
    assert!(second.next().is_some_and(|unit| unit.keyframe));
    assert_eq!(second.count(), 24);
}

#[test]
fn a_new_configuration_reaches_viewers_inline_and_late_ones_in_the_prelude() {
    let mut rig = Rig::new(Config::default());
    let mut viewer = Viewer::default();
    rig.publish(P1);
    rig.run(P1, 0, 1_000, 1_000);
    viewer.read(&mut rig);
    rig.tag(P1, audio_header(&[0x12, 0x10]));
    rig.tag(P1, audio_header(&[0x12, 0x10]));
    rig.run(P1, 1_000, 2_000, 1_000);
    viewer.read(&mut rig);
    let mut late = Viewer::default();
    late.read(&mut rig);
    late.check();
    let headers = |viewer: &Viewer| {
        let audio = viewer.tags.iter().filter(|tag| tag.kind == TagKind::Audio);
        audio
            .filter(|tag| tag.is_sequence_header())
            .map(|tag| tag.body.slice(2..))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        headers(&viewer),
        [[0x11, 0x90], [0x12, 0x10]].map(|asc| Bytes::copy_from_slice(&asc))
    );
    assert!(
        headers(&late)
            .iter()
            .all(|asc| asc.as_ref() == [0x12, 0x10])
    );
}

/// Changes the configuration of the video; gives the sequence headers that a viewer has seen, those that one who comes
/// now sees, and the NAL unit types of the first picture of the new configuration.
fn change(record: &[u8]) -> (usize, Vec<Bytes>, Vec<u8>) {
    let mut rig = Rig::new(Config::default());
    let mut viewer = Viewer::default();
    rig.publish(P1);
    rig.run(P1, 0, 1_000, 1_000);
    viewer.read(&mut rig);
    let body = VideoBody::AvcConfig(Bytes::copy_from_slice(record)).to_bytes();
    rig.tag(P1, tag(TagKind::Video, 1_000, body));
    let slice = media::h264::to_avcc([&[0x65, 1, 2, 3][..]]);
    let idr = VideoBody::Avc {
        keyframe: true,
        composition_ms: 0,
        data: slice.clone(),
    };
    rig.tag(P1, tag(TagKind::Video, 1_000, idr.to_bytes()));
    rig.advance(ms(500));
    viewer.read(&mut rig);
    let mut late = Viewer::default();
    late.read(&mut rig);
    assert_eq!(rig.units.last().map(|unit| &unit.data), Some(&slice));
    let headers = |viewer: &Viewer| -> Vec<Bytes> {
        let video = viewer.tags.iter().filter(|tag| tag.kind == TagKind::Video);
        let headers = video.filter(|tag| tag.is_sequence_header());
        headers.map(|tag| tag.body.slice(5..)).collect()
    };
    let newest = viewer
        .tags
        .iter()
        .rfind(|tag| tag.kind == TagKind::Video && tag.timestamp_ms == 1_000)
        .expect("the picture");
    let Ok(VideoBody::Avc { data, .. }) = VideoBody::parse(&newest.body) else {
        panic!("a picture");
    };
    let kinds = media::h264::avcc_nals(&data)
        .map(|nal| media::h264::nal_unit_type(&nal.expect("NAL unit")))
        .collect();
    (headers(&viewer).len(), headers(&late), kinds)
}

#[test]
fn a_configuration_that_looks_the_same_comes_in_its_keyframes() {
    let mut other_level = AVCC.to_vec();
    (other_level[3], other_level[11]) = (0x1f, 0x1f);
    let (headers, late, kinds) = change(&other_level);
    assert_eq!(headers, 1, "no new sequence header");
    assert_eq!(kinds, [7, 8, 5], "parameter sets before the picture");
    assert_eq!(late, [other_level], "who comes now is told at the start");
}

#[test]
fn another_size_is_announced_by_a_sequence_header() {
    let (headers, late, kinds) = change(SMALL_AVCC);
    assert_eq!((headers, kinds), (2, vec![5]));
    assert_eq!(late, [SMALL_AVCC]);
}

#[test]
fn a_slow_viewer_skips_to_a_keyframe_and_memory_stays_bounded() {
    let mut rig = Rig::new(Config {
        viewer_max_lag_ms: 1_000,
        ..Config::default()
    });
    let mut viewer = Viewer::default();
    rig.publish(P1);
    rig.run(P1, 0, 1_000, 1_000);
    viewer.read(&mut rig);
    rig.run(P1, 1_000, 21_000, 1_000);
    viewer.read(&mut rig);
    assert_eq!(rig.stream.counters.viewer_skips, 1);
    let times = viewer.times(TagKind::Video);
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    assert!(times.contains(&20_000) && !times.contains(&5_000));
    assert!(rig.stream.ring.held() < 150, "{}", rig.stream.ring.held());
}

#[test]
fn an_endless_group_of_pictures_is_not_kept() {
    let mut rig = Rig::new(Config {
        gop_cache_max_bytes: 100_000,
        viewer_max_lag_ms: 1_000,
        ..Config::default()
    });
    rig.publish(P1);
    rig.run(P1, 0, 20_000, 100_000);
    assert!(rig.stream.ring.held() < 150, "{}", rig.stream.ring.held());
    let mut viewer = Viewer::default();
    viewer.read(&mut rig);
    assert_eq!(viewer.tags, [], "waits for the next keyframe");
    rig.run(P1, 20_000, 20_200, 1_000);
    viewer.read(&mut rig);
    assert_eq!(viewer.times(TagKind::Video).first(), Some(&20_000));
}

#[test]
fn other_codecs_are_refused_with_the_reason() {
    let mut rig = Rig::new(Config::default());
    rig.handle(Input::Publish(P1)).expect("accepted");
    let hevc = tag(TagKind::Video, 0, Bytes::from_static(b"\x90hvc1\x01"));
    let error = rig.handle(Input::Tag(P1, hevc)).expect_err("refused");
    assert!(error.to_string().contains("H.264"), "{error}");
}

/// One step of a publisher or a viewer.
#[derive(Debug, Clone)]
enum Step {
    Picture { keyframe: bool, forward_ms: u32 },
    Sound { forward_ms: u32 },
    Jump(u32),
    Restart { gap_ms: u64, at_ms: u32 },
    Config(u8),
    Join,
    Read(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<bool>(), 0u32..60).prop_map(|(keyframe, forward_ms)| Step::Picture { keyframe, forward_ms }),
        8 => (0u32..40).prop_map(|forward_ms| Step::Sound { forward_ms }),
        1 => prop_oneof![any::<u32>(), 0u32..5_000].prop_map(Step::Jump),
        1 => (0u64..20_000, prop_oneof![any::<u32>(), Just(0)]).prop_map(|(gap_ms, at_ms)| Step::Restart { gap_ms, at_ms }),
        1 => (0u8..3).prop_map(Step::Config),
        2 => Just(Step::Join),
        3 => (0usize..6).prop_map(Step::Read),
        4 => (1u64..400).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn viewers_get_what_can_be_played_whatever_happens(steps in proptest::collection::vec(step(), 1..250)) {
        let mut rig = Rig::new(Config { viewer_max_lag_ms: 700, publish_grace_s: 3_600, gop_cache_max_bytes: 9_000, ..Config::default() });
        let (mut viewers, mut publisher, mut time) = (Vec::<Viewer>::new(), 1, 0u32);
        rig.publish(PublisherId(publisher));
        for step in steps {
            let id = PublisherId(publisher);
            match step {
                Step::Picture { keyframe, forward_ms } => {
                    time = time.wrapping_add(forward_ms);
                    rig.tag(id, picture(time, keyframe, 200));
                }
                Step::Sound { forward_ms } => {
                    time = time.wrapping_add(forward_ms);
                    rig.tag(id, sound(time));
                }
                Step::Jump(to_ms) => time = to_ms,
                Step::Restart { gap_ms, at_ms } => {
                    rig.handle(Input::Unpublish(id)).expect("live");
                    rig.advance(ms(gap_ms));
                    publisher += 1;
                    time = at_ms;
                    rig.publish(PublisherId(publisher));
                }
                Step::Config(n) => rig.tag(id, audio_header([&[0x11, 0x90], &[0x12, 0x10], &[0x11, 0x88]][usize::from(n)])),
                Step::Join => viewers.push(Viewer::default()),
                Step::Read(n) => if let Some(viewer) = viewers.get_mut(n) { viewer.read(&mut rig) },
                Step::Wait(wait_ms) => rig.advance(ms(wait_ms)),
            }
        }
        rig.advance(ms(1_000));
        for viewer in &mut viewers {
            viewer.read(&mut rig);
            viewer.check();
        }
        for lane in [media::Kind::Audio, media::Kind::Video] {
            let times: Vec<i64> = rig.units.iter().filter(|unit| unit.kind() == lane).map(|unit| unit.dts.as_millis()).collect();
            prop_assert!(times.is_sorted_by(|a, b| a < b), "{:?} {:?}", lane, times);
        }
    }
}
