//! Player and relays together, on virtual time: whatever happens on the way, what is played is the stream.

mod evil;
mod net;

use proptest::prelude::*;

use super::*;
use crate::relay::{self, Relay};
use net::{Path, World};

const GOOD: Path = Path {
    delay_ms: 15,
    jitter_ms: 4,
    loss: 0.0,
};

fn lossy(loss: f64) -> Path {
    Path { loss, ..GOOD }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn relayed(world: &World) -> usize {
    let stats = world.player.stats(world.now);
    let substreams = stats.substreams.iter();
    substreams.filter(|s| s.source == "relay").count()
}

#[test]
fn every_substream_comes_from_a_relay_and_the_feed_is_given_back() {
    let mut world = World::new(1, vec![GOOD; 4]);
    world.run(seconds(10));
    world.check();
    assert_eq!(relayed(&world), 4);
    let before = world.player.stats(world.now);
    world.run(seconds(20));
    world.check();
    let stats = world.player.stats(world.now);
    assert_eq!(stats.origin_bytes, before.origin_bytes, "{stats:?}");
    assert_eq!((stats.stalls, stats.fallbacks), (0, 0), "{stats:?}");
    assert_eq!(stats.duplicate_bytes, before.duplicate_bytes, "{stats:?}");
    assert!(world.behind() < 8, "{} frames behind", world.behind());
}

#[test]
fn lost_packets_are_sent_again_by_relays() {
    let mut world = World::new(2, vec![lossy(0.03); 4]);
    world.run(seconds(30));
    world.check();
    let stats = world.player.stats(world.now);
    assert_eq!((stats.stalls, stats.skips), (0, 0), "{stats:?}");
    assert!(stats.nacked_packets > 50, "{stats:?}");
    assert!(stats.relay_bytes > 5 * stats.origin_bytes, "{stats:?}");
}

#[test]
fn a_dead_relay_is_replaced_without_a_stall() {
    let mut world = World::new(3, vec![lossy(0.01); 5]);
    world.run(seconds(8));
    assert_eq!(relayed(&world), 4);
    world.kill(0);
    world.run(seconds(2));
    world.check();
    world.run(seconds(10));
    world.check();
    let stats = world.player.stats(world.now);
    assert_eq!(relayed(&world), 4, "{stats:?}");
    assert_eq!((stats.stalls, stats.skips), (0, 0), "{stats:?}");
}

#[test]
fn without_relays_everything_comes_from_the_origin() {
    let mut world = World::new(4, vec![GOOD; 3]);
    world.run(seconds(5));
    (0..3).for_each(|relay| world.kill(relay));
    world.run(seconds(20));
    world.check();
    let stats = world.player.stats(world.now);
    assert_eq!((relayed(&world), stats.stalls), (0, 0), "{stats:?}");
    assert!(world.behind() < 8, "{} frames behind", world.behind());
}

/// Relays that send nothing for more than a second: the origin takes over before the picture stops, and they get their
/// part back only when the buffer has been full for a while.
#[test]
fn relays_that_stall_are_bridged_by_the_origin_before_the_viewer_notices() {
    let mut world = World::new(6, vec![lossy(0.01); 4]);
    world.run(seconds(8));
    assert_eq!(relayed(&world), 4);
    for path in &mut world.paths {
        path.loss = 1.0;
    }
    world.run(Duration::from_millis(500));
    assert!(!world.player.stats(world.now).fallback, "there is time yet");
    world.run(Duration::from_millis(250));
    let stats = world.player.stats(world.now);
    assert!(stats.fallback && stats.playing, "{stats:?}");
    world.run(Duration::from_millis(450));
    for path in &mut world.paths {
        path.loss = 0.01;
    }
    world.run(seconds(4));
    let during = world.player.stats(world.now);
    assert!(during.fallback, "not before it is stable: {during:?}");
    assert_eq!(relayed(&world), 0, "who has failed is left");
    world.run(seconds(10));
    let after = world.player.stats(world.now);
    assert!(!after.fallback, "{after:?}");
    assert_eq!(relayed(&world), 4, "{after:?}");
    world.run(seconds(10));
    world.check();
    let stats = world.player.stats(world.now);
    let counts = (stats.stalls, stats.skips, stats.fallbacks);
    assert_eq!(counts, (0, 0, 1), "{stats:?}");
    let from_origin = stats.origin_bytes - after.origin_bytes;
    assert!(
        from_origin < 200_000,
        "the feed is given back: {from_origin}"
    );
    let all = stats.relay_bytes + stats.origin_bytes;
    let percent = 100 * stats.duplicate_bytes / all;
    assert!(percent < 3, "{percent} % come twice: {stats:?}");
}

/// Relays that stall again and again are trusted again after an ever longer time.
#[test]
fn relays_that_stutter_do_not_make_the_player_flap() {
    let mut world = World::new(7, vec![GOOD; 4]);
    world.run(seconds(8));
    for _ in 0..10 {
        world.paths.iter_mut().for_each(|path| path.loss = 1.0);
        world.run(Duration::from_millis(1_000));
        world.paths.iter_mut().for_each(|path| path.loss = 0.0);
        world.run(Duration::from_millis(2_500));
    }
    world.check();
    let stats = world.player.stats(world.now);
    assert_eq!((stats.stalls, stats.skips), (0, 0), "{stats:?}");
    // 35 s of it: at the beginning, and when they are asked again after 10 s and more.
    assert!((1..=3).contains(&stats.fallbacks), "{stats:?}");
}

/// What comes twice is a small part, although packets are lost and a relay is replaced.
#[test]
fn little_comes_twice() {
    for seed in 0..4 {
        let mut world = World::new(100 + seed, vec![lossy(0.02); 5]);
        world.run(seconds(20));
        world.kill(0);
        world.run(seconds(20));
        world.check();
        let stats = world.player.stats(world.now);
        let all = stats.relay_bytes + stats.origin_bytes;
        let percent = 100 * stats.duplicate_bytes / all;
        assert!(percent < 3, "{percent} % come twice: {stats:?}");
    }
}

/// The origin is away for a while: relays cannot send either, and everything is there when it is back.
#[test]
fn an_outage_of_everything_ends_in_the_right_place() {
    let mut world = World::new(5, vec![GOOD; 4]);
    world.run(seconds(8));
    world.set_origin(false);
    world.run(seconds(3));
    world.set_origin(true);
    world.run(seconds(10));
    world.check();
    let stats = world.player.stats(world.now);
    assert!(stats.stalls >= 1, "{stats:?}");
    assert!(
        world.behind() < 8,
        "{} frames behind: {stats:?}",
        world.behind()
    );
}

/// Three are asked for each substream, only those chosen have anything to do with it.
#[test]
fn who_is_asked_in_vain_opens_no_session() {
    let mut world = World::new(8, vec![GOOD; 6]);
    world.run(seconds(10));
    let stats = world.player.stats(world.now);
    assert_eq!((relayed(&world), stats.probes), (4, 12), "{stats:?}");
    let relays: Vec<_> = world.relays.iter().flatten().collect();
    let opened: u64 = relays.iter().map(|relay| relay.counters.sessions).sum();
    assert_eq!(opened, 4);
    let carrying = relays.iter().filter(|relay| relay.sessions() > 0).count();
    assert_eq!(carrying, 4, "each another substream");
}

/// A relay that becomes far is left for one that is near, and nothing is lost or stops.
#[test]
fn a_far_relay_is_left_for_a_near_one_without_a_gap() {
    let mut world = World::new(9, vec![GOOD; 6]);
    world.run(seconds(8));
    let far: Vec<_> = (0..6)
        .filter(|n| world.relays[*n].as_ref().is_some_and(|r| r.sessions() > 0))
        .collect();
    far.iter().for_each(|n| world.paths[*n].delay_ms = 90);
    world.run(seconds(90));
    world.check();
    let stats = world.player.stats(world.now);
    assert!(stats.switches >= 4, "{stats:?}");
    let near = |rtt: Option<f64>| rtt.is_some_and(|rtt| rtt < 60.0);
    assert!(stats.substreams.iter().all(|s| near(s.rtt_ms)), "{stats:?}");
    let counts = (stats.stalls, stats.fallbacks, stats.fetched_frames);
    assert_eq!(counts, (0, 0, 0), "{stats:?}");
    let all = stats.relay_bytes + stats.origin_bytes;
    assert!(100 * stats.duplicate_bytes < all, "{stats:?}");
}

/// A relay that is to be shut down says so; its players are elsewhere before it ends.
#[test]
fn a_relay_that_leaves_is_left_in_time() {
    let mut world = World::new(11, vec![GOOD; 6]);
    world.run(seconds(8));
    let uses = |world: &World, n: usize| world.relays[n].as_ref().map(Relay::sessions);
    let leaver = (0..6)
        .find(|n| uses(&world, *n) == Some(1))
        .expect("one in use");
    let relay = world.relays[leaver].as_mut().expect("alive");
    relay.handle(world.now, relay::Input::Drain);
    world.run(seconds(2));
    assert_eq!(uses(&world, leaver), Some(0));
    world.kill(leaver);
    world.run(seconds(5));
    world.check();
    let stats = world.player.stats(world.now);
    assert_eq!((relayed(&world), stats.suggestions), (4, 1), "{stats:?}");
    let counts = (stats.switches, stats.stalls, stats.fetched_frames);
    assert_eq!(counts, (1, 0, 0), "{stats:?}");
}

/// Relays that are all alike, far and unsteady, are not exchanged all the time.
#[test]
fn noise_is_no_reason_to_change() {
    let unsteady = Path {
        delay_ms: 60,
        jitter_ms: 60,
        loss: 0.01,
    };
    let mut world = World::new(10, vec![unsteady; 8]);
    world.run(seconds(120));
    world.check();
    let stats = world.player.stats(world.now);
    assert_eq!(stats.stalls, 0, "{stats:?}");
    assert!(stats.switches <= 4 * 120 / 60, "{stats:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Paths of any kind, some dead, relays that die: always the stream, without gaps.
    #[test]
    fn always_the_stream(
        seed in any::<u64>(),
        signed in any::<bool>(),
        paths in proptest::collection::vec((1..120_u64, 0..60_u64, prop_oneof![Just(0.0), 0.0..0.2, Just(1.0)]), 1..6),
        deaths in proptest::collection::vec((any::<proptest::sample::Index>(), 1..6_u64), 0..4),
    ) {
        let paths: Vec<Path> = paths.into_iter().map(|(delay_ms, jitter_ms, loss)| Path { delay_ms, jitter_ms, loss }).collect();
        let count = paths.len();
        let mut world = World::with(seed, paths, signed);
        world.run(seconds(4));
        for (relay, after) in deaths {
            world.kill(relay.index(count));
            world.run(seconds(after));
        }
        world.run(seconds(3));
        world.check();
        let stats = world.player.stats(world.now);
        prop_assert_eq!(stats.skips, 0, "{:?}", stats);
        prop_assert!(world.behind() < 120, "{} frames behind: {:?}", world.behind(), stats);
    }
}
