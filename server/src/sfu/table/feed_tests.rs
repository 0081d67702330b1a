//! Participants who publish without a session, and those who watch them, on virtual time with real engines.

use super::forward_tests::{World, assert_continuous, key};
use super::program_tests::Show;
use crate::sfu::config::Config;
use crate::sfu::types::OfferError;

const SECONDS_TO_WAIT: u32 = 3;

fn publisher(world: &mut World, id: u128) -> Show {
    let show = Show::of(world, 64, id, key());
    world.table.open_feed(world.now, show.feed.link().clone());
    show
}

#[test]
fn a_publisher_without_a_session_is_watched_and_comes_back() {
    let mut world = World::new(Config::default());
    assert_eq!(world.subscribe(), Err(OfferError::UnknownStream));
    let mut first = publisher(&mut world, 71);
    first.run(&mut world, 500);
    assert_eq!(first.viewers(), 0);
    let viewer = world.subscribe().expect("room");
    assert_eq!(first.viewers(), 1);
    first.run(&mut world, SECONDS_TO_WAIT * 1_000);
    let before = world.media(viewer, 100).len();
    assert!(before > 60, "{before} packets");
    // The connection breaks; the same subscriber goes on with its successor.
    let id = first.feed.link().id;
    world.table.end_feed(world.now, id, true);
    first.run(&mut world, 2_000);
    assert_eq!(world.table.len(), 1, "the subscriber waits");
    let mut second = publisher(&mut world, 72);
    assert_eq!(second.viewers(), 1, "it is told at once");
    second.run(&mut world, SECONDS_TO_WAIT * 1_000);
    let video = world.media(viewer, 100);
    assert!(video.len() > before + 60);
    assert_continuous(&video);
    assert_continuous(&world.media(viewer, 102));
    // Who leaves for good takes the audience along.
    world
        .table
        .end_feed(world.now, second.feed.link().id, false);
    assert_eq!((world.table.len(), world.table.feeds.len()), (0, 0));
}

#[test]
fn one_that_cannot_be_watched_says_why() {
    let mut world = World::new(Config::default());
    let mut show = publisher(&mut world, 71);
    world.subscribe().expect("room");
    show.run(&mut world, 500);
    let id = show.feed.link().id;
    world.table.refuse_feed(world.now, id, "B-frames");
    assert_eq!(world.table.len(), 0, "who watched is sent away");
    assert_eq!(world.subscribe(), Err(OfferError::NotPlayable("B-frames")));
    world.table.end_feed(world.now, id, false);
    assert_eq!(world.subscribe(), Err(OfferError::UnknownStream));
    let mut other = publisher(&mut world, 72);
    world
        .subscribe()
        .expect("another publisher, another verdict");
    other.run(&mut world, 500);
    assert_eq!(other.viewers(), 1);
}
