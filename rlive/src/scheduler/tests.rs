//! Recommendations: near before far, those that have it before those that must ask, nobody too often.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::wire::heartbeat::{Served, region_tag};

const WALL_S: u32 = 1_700_000_000;
const SECRET: &[u8] = b"secret";
const PLAYER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3));

struct Bench {
    now: Instant,
    seconds: u32,
    scheduler: Scheduler,
}

fn heartbeat(relay: u64) -> Heartbeat {
    let [.., high, low] = relay.to_be_bytes();
    Heartbeat {
        relay,
        wall_s: WALL_S,
        seq: 0,
        address: SocketAddr::from(([10, 9, high, low], 4_000)),
        region: 0,
        capacity_kbps: 0,
        used_kbps: 0,
        sessions: 0,
        max_sessions: 100,
        cpu: 0,
        memory: 0,
        expansion: 0,
        asks: false,
        leaving: false,
        served: Vec::new(),
    }
}

fn serving(relay: u64, substream: u8) -> Heartbeat {
    let served = Served {
        stream: stream_tag("demo"),
        substream,
        players: 1,
    };
    Heartbeat {
        served: vec![served],
        ..heartbeat(relay)
    }
}

fn request(failed: &[u64]) -> Request<'_> {
    Request {
        stream: "demo",
        substreams: 4,
        address: PLAYER,
        region: 0,
        count: 3,
        failed,
    }
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "any instant will do in a test")]
    fn new(explore: f64) -> Self {
        let config = Config {
            explore,
            ..Config::default()
        };
        Self {
            now: Instant::now(),
            seconds: 0,
            scheduler: Scheduler::new(config, SECRET.to_vec(), HashSet::from([66]), [7; 32]),
        }
    }

    fn hear(&mut self, heartbeat: &Heartbeat) {
        let heartbeat = Heartbeat {
            wall_s: WALL_S + self.seconds,
            ..heartbeat.clone()
        };
        let key = Heartbeat::key(&Key::of_relay(SECRET, heartbeat.relay));
        let datagram = heartbeat.write(&key);
        let wall_s = WALL_S + self.seconds;
        self.scheduler.handle(self.now, wall_s, &datagram);
    }

    fn wait(&mut self, seconds: u32) {
        self.seconds += seconds;
        self.now += Duration::from_secs(seconds.into());
        self.scheduler.handle_timeout(self.now);
    }

    /// Relays for each substream.
    fn ask(&mut self, request: &Request<'_>) -> Vec<Vec<u64>> {
        let found = self.scheduler.recommend(self.now, request);
        let ids = |relays: &Vec<Recommended>| relays.iter().map(|r| r.relay).collect();
        found.iter().map(ids).collect()
    }
}

#[test]
fn who_has_the_substream_comes_first_then_who_is_near() {
    let mut bench = Bench::new(0.0);
    assert_eq!(bench.ask(&request(&[])), vec![Vec::<u64>::new(); 4]);
    for relay in 1..=20 {
        bench.hear(&heartbeat(relay));
    }
    // 30 and 31 have substream 2; 31 is in the player's network, and so is 40, which has nothing.
    bench.hear(&serving(30, 2));
    let near = |heartbeat: Heartbeat, last: u8| Heartbeat {
        address: SocketAddr::from(([10, 1, 200, last], 4_000)),
        ..heartbeat
    };
    bench.hear(&near(serving(31, 2), 31));
    bench.hear(&near(heartbeat(40), 40));
    let found = bench.ask(&request(&[]));
    let mut best = found[2][..2].to_vec();
    best.sort_unstable();
    assert_eq!(best, [30, 31]);
    assert!(
        [31, 40].contains(&found[0][0]),
        "one that is near: {found:?}"
    );
    assert!(found.iter().all(|relays| relays.len() == 3), "{found:?}");

    // In another region than everybody, with one relay there.
    let region = region_tag("north");
    bench.hear(&Heartbeat {
        region,
        ..heartbeat(50)
    });
    let there = Request {
        region,
        address: IpAddr::from([172, 16, 0, 1]),
        ..request(&[])
    };
    assert_eq!(bench.ask(&there)[0][0], 50);
}

#[test]
fn substreams_are_first_asked_of_different_relays() {
    let mut bench = Bench::new(0.0);
    for relay in 1..=4 {
        bench.hear(&heartbeat(relay));
    }
    for _ in 0..20 {
        let mut first: Vec<u64> = bench.ask(&request(&[])).iter().map(|r| r[0]).collect();
        first.sort_unstable();
        first.dedup();
        assert!(first.len() >= 3, "{first:?}");
    }
}

/// A thousand players come between two heartbeats: nobody is promised more than it has room for.
#[test]
fn a_crowd_does_not_go_to_the_same_relays() {
    let mut bench = Bench::new(0.0);
    for relay in 1..=60 {
        bench.hear(&heartbeat(relay));
    }
    let mut promised = BTreeMap::<u64, u32>::new();
    for _ in 0..1_000 {
        for relays in bench.ask(&request(&[])) {
            *promised.entry(relays[0]).or_default() += 1;
        }
    }
    let most = promised.values().max().copied().unwrap_or_default();
    assert_eq!(promised.len(), 60);
    assert!(most <= 100, "{most} sessions for a relay with room for 100");
    // 4000 sessions over 60 relays are 67 each.
    assert!(most <= 80, "{most} of 67 if shared evenly");
    // The next heartbeat tells how it really is.
    bench.hear(&Heartbeat {
        seq: 1,
        sessions: 100,
        ..heartbeat(1)
    });
    let all = bench.ask(&Request {
        count: 10,
        ..request(&[])
    });
    assert!(!all.concat().contains(&1), "it is full");
}

#[test]
fn who_is_silent_leaving_full_or_excluded_is_not_recommended() {
    let mut bench = Bench::new(0.0);
    for relay in 1..=4 {
        bench.hear(&heartbeat(relay));
    }
    bench.wait(1);
    let (leaving, full) = (true, 1_000);
    bench.hear(&Heartbeat {
        leaving,
        ..heartbeat(1)
    });
    bench.hear(&Heartbeat {
        capacity_kbps: full,
        used_kbps: full,
        ..heartbeat(2)
    });
    let found = bench.ask(&request(&[3])).concat();
    assert_eq!(found, [4; 4]);
    // Silence: all but 4 are forgotten, and with them everything about them.
    bench.wait(20);
    bench.hear(&heartbeat(4));
    bench.wait(20);
    assert_eq!(bench.scheduler.counters().relays, 1);
    bench.wait(30);
    assert_eq!(bench.scheduler.counters().relays, 0);
    assert!(bench.scheduler.index.is_empty());
    assert_eq!(bench.scheduler.poll_timeout(), None);
}

#[test]
fn a_relay_is_blocked_by_players_of_several_networks_only() {
    let mut bench = Bench::new(0.0);
    bench.hear(&heartbeat(1));
    let from = |third: u8, failed: &'static [u64]| Request {
        address: IpAddr::from([10, third, 0, 1]),
        ..request(failed)
    };
    for _ in 0..50 {
        bench.ask(&from(1, &[1]));
    }
    assert_eq!(bench.ask(&from(5, &[]))[0], [1], "one network's word");
    bench.ask(&from(2, &[1]));
    bench.ask(&from(3, &[1]));
    assert!(bench.ask(&from(5, &[]))[0].is_empty());
    assert_eq!(bench.scheduler.counters().blocked, 1);
    for _ in 0..7 {
        bench.wait(10);
        bench.hear(&heartbeat(1));
    }
    assert_eq!(bench.ask(&from(5, &[]))[0], [1], "forgiven after a minute");
}

#[test]
fn unknown_relays_get_their_turn() {
    let mut bench = Bench::new(0.3);
    for substream in 0..4 {
        (1..=8)
            .for_each(|relay| bench.hear(&serving(relay + 10 * u64::from(substream), substream)));
    }
    (100..110).for_each(|relay| bench.hear(&heartbeat(relay)));
    let (mut idle, mut all, mut first) = (0, 0, 0);
    for _ in 0..300 {
        for relays in bench.ask(&request(&[])) {
            all += relays.len();
            idle += relays.iter().filter(|id| **id >= 100).count();
            first += usize::from(relays[0] >= 100);
        }
    }
    assert!(idle * 20 > all, "{idle} of {all}");
    assert!(first * 3 < 1_200, "{first} of 1200 first places");
}

#[test]
fn forged_old_and_repeated_heartbeats_do_not_count() {
    let mut bench = Bench::new(0.0);
    let key = |relay| Heartbeat::key(&Key::of_relay(SECRET, relay));
    let (now, good) = (bench.now, heartbeat(1));
    let datagram = good.write(&key(1));
    let scheduler = &mut bench.scheduler;
    scheduler.handle(now, WALL_S, &good.write(&key(2)));
    scheduler.handle(now, WALL_S + 61, &datagram);
    scheduler.handle(now, WALL_S, &[0x16; 20]);
    scheduler.handle(now, WALL_S, &heartbeat(66).write(&key(66)));
    assert_eq!(scheduler.counters().relays, 0, "the last one is revoked");
    scheduler.handle(now, WALL_S, &datagram);
    scheduler.handle(now, WALL_S, &datagram);
    let older = Heartbeat {
        wall_s: WALL_S - 1,
        seq: 9,
        ..good
    };
    scheduler.handle(now, WALL_S, &older.write(&key(1)));
    let counters = scheduler.counters();
    assert_eq!(
        (
            counters.relays,
            counters.heartbeats,
            counters.bad_heartbeats
        ),
        (1, 1, 6)
    );
}

/// More substreams than fit into one heartbeat are named in turns, and all are known.
#[test]
fn substreams_named_in_turns_are_all_known() {
    let mut bench = Bench::new(0.0);
    let served = |from: u8, count: u8| -> Vec<Served> {
        let stream = stream_tag("demo");
        let one = |substream| Served {
            stream,
            substream,
            players: 1,
        };
        (from..from + count).map(one).collect()
    };
    let named = |served| Heartbeat {
        served,
        ..heartbeat(1)
    };
    bench.hear(&named(served(0, 14)));
    bench.wait(5);
    bench.hear(&named(served(14, 14)));
    let known = |bench: &Bench| {
        bench
            .scheduler
            .nodes
            .iter()
            .next()
            .expect("one")
            .served
            .len()
    };
    assert_eq!(known(&bench), 28);
    bench.wait(5);
    bench.hear(&named(served(3, 2)));
    assert_eq!(known(&bench), 2, "fewer than fit: that is all");
}

/// Who asks is told how full the others are that have what it has.
#[test]
fn a_relay_that_asks_is_told_how_full_others_are() {
    let mut bench = Bench::new(0.0);
    let used = |relay, sessions| Heartbeat {
        sessions,
        ..serving(relay, 1)
    };
    bench.hear(&used(1, 10));
    bench.hear(&used(2, 40));
    bench.hear(&used(3, 60));
    assert_eq!(bench.scheduler.take_advice(), None, "nobody has asked");
    bench.seconds += 1;
    bench.hear(&Heartbeat {
        asks: true,
        ..used(1, 10)
    });
    let wire = bench.scheduler.take_advice().expect("an answer");
    let key = Heartbeat::key(&Key::of_relay(SECRET, 1));
    let advice = Advice::read(&wire, &key).expect("sealed for it");
    assert_eq!((advice.relay, advice.others.len()), (1, 1));
    let others = advice.others[0];
    assert_eq!((others.substream, others.relays), (1, 2));
    assert!((others.load - 0.5).abs() < 0.01, "{others:?}");
}

#[test]
fn the_busiest_are_shown_first() {
    let mut bench = Bench::new(0.0);
    for (relay, sessions) in [(1, 5), (2, 90), (3, 40)] {
        bench.hear(&Heartbeat {
            sessions,
            expansion: 37,
            ..serving(relay, 2)
        });
    }
    let shown = bench.scheduler.overview(bench.now, 2);
    let order: Vec<u64> = shown.iter().map(|shown| shown.relay).collect();
    assert_eq!(order, [2, 3]);
    assert_eq!(shown[0].served, [(stream_tag("demo"), 2)]);
    assert_eq!((shown[0].sessions, shown[0].expansion), (90, 37));
    assert!((shown[0].load - 0.9).abs() < 0.01 && !shown[0].blocked);
    assert_eq!(bench.scheduler.overview(bench.now, 0), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever relays say and players ask: only who may be is recommended, nobody twice for one substream, and the sets
    /// hold exactly those who have room.
    #[test]
    fn recommendations_are_sound(
        steps in proptest::collection::vec((0..30_u64, 0..6_u8, 0..130_u16, any::<bool>(), 0..12_u32), 1..120),
        count in 0..20_usize, substreams in 0..6_u8,
    ) {
        let mut bench = Bench::new(0.2);
        for (seq, (relay, substream, sessions, leaving, wait)) in (0_u32..).zip(steps) {
            bench.hear(&Heartbeat { seq, sessions, leaving: leaving && sessions > 100, ..serving(relay, substream) });
            bench.wait(wait);
            let failed = [relay ^ 1];
            let asked = Request { count, substreams, failed: &failed, ..request(&[]) };
            for relays in bench.ask(&asked) {
                prop_assert!(relays.len() <= MAX_COUNT);
                let mut ids = relays.clone();
                ids.sort_unstable();
                ids.dedup();
                prop_assert_eq!(ids.len(), relays.len());
                for id in relays {
                    let slot = bench.scheduler.nodes.find(id).expect("known");
                    let known = bench.scheduler.nodes.get(slot).expect("known");
                    prop_assert!(id != failed[0] && !known.leaving && known.load < 1.0);
                    prop_assert!(silent(known, bench.scheduler.clock_ms(bench.now)) < LIFETIME);
                }
            }
            let listed = bench.scheduler.nodes.iter().filter(|n| n.listed).count();
            let room = bench.scheduler.nodes.iter().filter(|n| !n.leaving && n.load < 1.0).count();
            prop_assert_eq!(listed, room);
        }
    }
}
