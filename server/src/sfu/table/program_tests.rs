//! A program and its viewers on virtual time, with real engines.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use media::{AccessUnit, Config as Codec, Rate, Timestamp, Track, TrackId, h264};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::forward_tests::{PPS, SPS, World, assert_continuous, key, lossless};
use crate::sfu::config::Config;
use crate::sfu::program::{Demand, ProgramFeed, ProgramLink};
use crate::sfu::socket::Command;
use crate::sfu::types::{OfferError, SessionId, StreamKey};

/// A program of 25 pictures and 50 sounds per second, with a keyframe every second.
pub(super) struct Show {
    pub(super) feed: ProgramFeed,
    commands: mpsc::Receiver<Command>,
    demand: watch::Receiver<Demand>,
    began: Instant,
    /// The configuration of its pictures.
    config: h264::Config,
}

impl Show {
    fn new(world: &World, queue: usize) -> Self {
        let program = StreamKey {
            participant: None,
            ..key()
        };
        Self::of(world, queue, 77, program)
    }

    pub(super) fn of(world: &World, queue: usize, id: u128, key: StreamKey) -> Self {
        let (sender, commands) = mpsc::channel(queue);
        let (demand, needs) = watch::channel(Demand::default());
        let link = ProgramLink {
            id: SessionId(Uuid::from_u128(id)),
            key,
            demand: Arc::new(demand),
        };
        Self {
            feed: ProgramFeed::new(link, sender),
            commands,
            demand: needs,
            began: world.now,
            config: config(SPS),
        }
    }

    pub(super) fn viewers(&self) -> usize {
        self.demand.borrow().viewers
    }

    fn publish(&mut self, now: Instant) {
        let at = i64::try_from((now - self.began).as_millis()).expect("short");
        // Program time is what passed since it began, and it began 5 s after the anchor.
        let epoch = Timestamp::from_nanos(5_000_000_000);
        let mut send = |config: Codec, rate: Rate, keyframe, data| {
            let pts = Timestamp::from_nanos(at * 1_000_000).rescale(rate);
            let unit = AccessUnit {
                track: Arc::new(Track {
                    id: TrackId(0),
                    config,
                    rate,
                }),
                pts,
                dts: pts,
                keyframe,
                discontinuity: false,
                data,
            };
            self.feed.send(now, &unit, epoch);
        };
        if at % 40 == 0 {
            let idr = at % 1_000 == 0;
            let mut slice = vec![if idr { 0x65 } else { 0x41 }, 0x88];
            slice.resize(3_000, 7);
            let data = h264::to_avcc([&slice[..]]);
            send(Codec::H264(self.config.clone()), Rate::VIDEO, idr, data);
        }
        if at % 20 == 0 {
            let opus = Codec::Opus(media::opus::Config { channels: 2 });
            send(opus, Rate::AUDIO, true, Bytes::from_static(&[0xfc; 40]));
        }
    }

    /// Goes on for `ms`; what is published goes to `world`.
    pub(super) fn run(&mut self, world: &mut World, ms: u32) {
        for _ in 0..ms {
            world.step(&mut lossless());
            self.publish(world.now);
            while let Ok(command) = self.commands.try_recv() {
                let Command::Program { id, packets } = command else {
                    panic!("only units");
                };
                for packet in packets {
                    world.table.relay(world.now, id, [packet]);
                }
            }
        }
    }
}

fn config(sps: &'static [u8]) -> h264::Config {
    let pps = vec![Bytes::from_static(PPS)];
    h264::Config::new(Bytes::from_static(sps), pps).expect("valid")
}

#[test]
fn viewers_see_the_program_from_a_keyframe_on_over_a_change_of_its_source() {
    let mut world = World::new(Config::default());
    let mut show = Show::new(&world, 64);
    show.run(&mut world, 500);
    assert_eq!((show.viewers(), show.demand.borrow().keyframes), (0, 0));
    let first = world.watch(&show.feed.link().clone()).expect("room");
    assert_eq!(show.viewers(), 1);
    show.run(&mut world, 3_000);
    assert!(
        show.demand.borrow().keyframes >= 1,
        "the picture is asked for"
    );
    // Another source, with its own parameter sets.
    const OTHER: &[u8] = &[
        0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x00, 0x50, 0x05, 0xbb, 0x01, 0x6a, 0x02, 0x02, 0x02, 0x80,
        0x00, 0x00, 0x03, 0x00, 0x80, 0x00, 0x00, 0x1e, 0x07, 0x8c, 0x18, 0xcb,
    ];
    show.config = config(OTHER);
    let second = world.watch(&show.feed.link().clone()).expect("room");
    assert_eq!(show.viewers(), 2);
    show.run(&mut world, 3_000);
    for viewer in [first, second] {
        let video = world.media(viewer, 100);
        assert_eq!(video[0].payload[0] & 0x1f, 24, "parameter sets first");
        assert_continuous(&video);
        assert_continuous(&world.media(viewer, 102));
        let pictures = video.iter().filter(|packet| packet.marker).count();
        assert!(
            pictures > if viewer == first { 120 } else { 45 },
            "{pictures}"
        );
        // Picture and sound of one moment have one time.
        let seen = &world.subscribers[viewer].seen;
        let moment = |ssrc: u32, hz: i64| {
            let media = world.media(viewer, ssrc);
            let packet = media.last().expect("some");
            let reports = seen.reports.iter().map(|(_, report)| report);
            let report = reports.rev().find(|r| r.ssrc == ssrc).expect("reported");
            let ticks = packet.timestamp.wrapping_sub(report.rtp).cast_signed();
            let ntp_us = i64::try_from((u128::from(report.ntp) * 1_000_000) >> 32).expect("fits");
            ntp_us + i64::from(ticks) * 1_000_000 / hz
        };
        let off = (moment(100, 90_000) - moment(102, 48_000)).rem_euclid(20_000);
        assert!(!(50..=19_950).contains(&off), "{off} µs off the grid");
    }
    let carries = |sets: &[u8]| {
        let video = world.media(first, 100);
        let with_sets = video
            .iter()
            .filter(|packet| packet.payload.windows(sets.len()).any(|w| w == sets));
        with_sets.count()
    };
    assert!(carries(SPS) >= 2 && carries(OTHER) >= 2);
    let id = show.feed.link().id;
    world.table.end_program(world.now, id);
    assert_eq!(world.table.len(), 0, "all are sent away");
}

#[test]
fn a_program_that_nobody_watches_any_more_is_forgotten() {
    let mut world = World::new(Config::default());
    let mut show = Show::new(&world, 64);
    let viewer = world.watch(&show.feed.link().clone()).expect("room");
    show.run(&mut world, 1_500);
    world.subscribers[viewer].alive = false;
    show.run(&mut world, 11_000);
    assert_eq!((show.viewers(), world.table.len()), (0, 0));
    assert_eq!(world.table.feeds.len(), 0);
    // Whoever comes later starts it again.
    let viewer = world.watch(&show.feed.link().clone()).expect("room");
    show.run(&mut world, 1_500);
    assert!(!world.media(viewer, 100).is_empty());
}

#[test]
fn a_busy_media_thread_costs_pictures_up_to_the_next_keyframe() {
    let mut world = World::new(Config::default());
    let mut show = Show::new(&world, 8);
    let viewer = world.watch(&show.feed.link().clone()).expect("room");
    show.run(&mut world, 2_000);
    let wishes = show.demand.borrow().keyframes;
    for _ in 0..500 {
        world.step(&mut lossless());
        show.publish(world.now);
    }
    assert!(show.demand.borrow().keyframes > wishes);
    show.run(&mut world, 2_000);
    let video = world.media(viewer, 100);
    assert_continuous(&video);
    let times: Vec<u32> = video.iter().map(|packet| packet.timestamp).collect();
    let gaps = times
        .windows(2)
        .filter(|pair| pair[1].wrapping_sub(pair[0]) > 3_600);
    assert_eq!(gaps.count(), 1);
    // Lost sound shows as lost.
    let sounds = world.media(viewer, 102);
    let lost = sounds.windows(2).filter(|pair| {
        let step = pair[1].sequence.wrapping_sub(pair[0].sequence);
        pair[1].timestamp.wrapping_sub(pair[0].timestamp) != u32::from(step) * 960
    });
    assert_eq!(lost.count(), 0);
}

#[test]
fn viewers_are_limited_and_leave_room_for_broadcasters() {
    let mut world = World::new(Config {
        max_viewers_per_channel: 2,
        max_sessions: 4,
        ..Config::default()
    });
    let show = Show::new(&world, 64);
    let link = show.feed.link().clone();
    world.watch(&link).expect("room");
    world.watch(&link).expect("room");
    assert_eq!(
        world.watch(&link),
        Err(OfferError::ChannelFull { limit: 2 })
    );
    world.publish();
    let mut other = Show::new(&world, 64);
    other.feed = {
        let mut link = other.feed.link().clone();
        link.id = SessionId(Uuid::from_u128(78));
        link.key.channel = "other".into();
        ProgramFeed::new(link, mpsc::channel(1).0)
    };
    let link = other.feed.link().clone();
    assert_eq!(world.watch(&link), Err(OfferError::Full { limit: 3 }));
    world.subscribe().expect("broadcasters see each other");
    drop(other.demand);
    assert_eq!(world.watch(&link), Err(OfferError::UnknownStream));
}
