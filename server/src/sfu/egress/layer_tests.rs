//! A picture in three layers to one subscriber on a simulated link: which it gets, and that it never sees a broken one.

use super::link_tests::{Layer, Link, World};

fn world(link: Link) -> World {
    let mut world = World::new(link);
    world.layers = vec![
        Layer::new(150, Some((320, 176))),
        Layer::new(600, Some((640, 352))),
        Layer::new(2_500, Some((1_280, 704))),
    ];
    world
}

/// Shares of the layers among the pictures made from `from_ms` on, in percent.
fn shares(world: &World, from_ms: u32) -> [usize; 3] {
    let layers = world.pictures.values().filter(|p| p.made_ms >= from_ms);
    let mut counts = [0; 3];
    for picture in layers {
        counts[usize::from(picture.layer)] += 1;
    }
    let all: usize = counts.iter().sum();
    counts.map(|count| count * 100 / all.max(1))
}

/// The longest time without a picture that can be shown, of those made from `from_ms` on.
fn longest_gap(world: &World, from_ms: u32) -> u32 {
    let shown = world.shown(from_ms);
    let gaps = shown.windows(2).map(|pair| pair[1].0 - pair[0].0);
    gaps.max().unwrap_or(u32::MAX)
}

/// Every picture is whole, and follows its predecessor of the same layer unless it is a keyframe.
fn assert_unbroken(world: &World) {
    let mut previous: Option<(u8, u16)> = None;
    // The newest may be on its way.
    let complete = world.pictures.len() - 1;
    for picture in world.pictures.values().take(complete) {
        let (Some(first), Some(last)) = (picture.first, picture.last) else {
            panic!("a picture of {} ms without an end", picture.made_ms);
        };
        let count = usize::from(last.wrapping_sub(first)) + 1;
        assert_eq!(picture.packets.len(), count, "at {} ms", picture.made_ms);
        let follows = previous
            .is_some_and(|(layer, last)| layer == picture.layer && last.wrapping_add(1) == first);
        assert!(picture.idr || follows, "at {} ms", picture.made_ms);
        previous = Some((picture.layer, last));
    }
}

#[test]
fn a_wide_path_gets_the_largest_layer() {
    let mut world = world(Link {
        bps: 20e6,
        ..Link::default()
    });
    world.run(20);
    assert_unbroken(&world);
    let [low, middle, high] = shares(&world, 6_000);
    assert!(
        high >= 95,
        "{low} {middle} {high}, {:.0} kb/s",
        world.estimate_kbps()
    );
    assert!(longest_gap(&world, 1_000) <= 200);
}

#[test]
fn a_thin_path_gets_what_fits() {
    for (bps, fitting) in [(1.2e6, 1), (4e5, 0)] {
        let mut world = world(Link {
            bps,
            ..Link::default()
        });
        world.run(10);
        world.sound_delays.clear();
        world.run(50);
        let shares = shares(&world, 10_000);
        let switches = world.egress.layers.shown().1;
        let said = format!(
            "{bps}: {shares:?} %, {switches} changes, {:.0} kb/s",
            world.estimate_kbps()
        );
        assert!(shares[fitting] >= 80, "{said}");
        assert!(switches <= 12, "{said}");
        let gap = longest_gap(&world, 10_000);
        assert!(gap <= 800, "{gap} ms without a picture, {said}");
        let p95 = world.sound_p95();
        assert!(p95 <= 250, "sound {p95} ms, {said}");
    }
}

#[test]
fn who_becomes_thin_gets_less_and_more_again_later() {
    let mut world = world(Link {
        bps: 10e6,
        ..Link::default()
    });
    world.run(10);
    world.link.bps = 4e5;
    world.run(20);
    let [low, ..] = shares(&world, 15_000);
    assert!(low >= 90, "{low} %");
    world.link.bps = 10e6;
    world.run(40);
    let [.., high] = shares(&world, 55_000);
    assert!(high >= 90, "{high} %, {:.0} kb/s", world.estimate_kbps());
    let gap = longest_gap(&world, 1_000);
    // To a twenty-fifth at once: what waits on the way has to drain, and the estimate has to follow.
    assert!(gap <= 3_500, "{gap} ms without a picture");
}

#[test]
fn nobody_gets_more_than_asked_for_or_waits_without_reports() {
    let mut small = world(Link {
        bps: 20e6,
        max_height: Some(360),
        ..Link::default()
    });
    small.run(10);
    let [low, middle, high] = shares(&small, 2_000);
    assert!(middle >= 95 && high == 0, "{low} {middle} {high}");
    assert_unbroken(&small);
    let mut silent = world(Link {
        bps: 20e6,
        reports: false,
        ..Link::default()
    });
    silent.run(10);
    let [.., high] = shares(&silent, 500);
    assert!(high >= 95, "{high}");
    assert_unbroken(&silent);
}

#[test]
fn a_layer_that_is_not_sent_any_more_is_replaced() {
    let mut world = world(Link {
        bps: 20e6,
        ..Link::default()
    });
    world.run(8);
    world.layers[2].is_on = false;
    world.run(8);
    let [_, middle, high] = shares(&world, 10_000);
    assert!(middle >= 95 && high == 0, "{middle} {high}");
    let gap = longest_gap(&world, 1_000);
    assert!(gap <= 900, "{gap} ms without a picture");
    world.layers[2].is_on = true;
    world.run(12);
    let [.., high] = shares(&world, 24_000);
    assert!(high >= 95, "{high}");
    assert_unbroken(&world);
}
