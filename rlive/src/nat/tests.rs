//! Every kind is recognised, and every pair meets that can.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use media::ticket::Key;
use proptest::prelude::*;

use super::classify::{self, Classifier, Found, How, Servers};
use super::lab::Gate;
use super::punch::{Peer, Punch, State};
use super::*;

const fn nat(mapping: Mapping, filtering: Filtering) -> Nat {
    Nat { mapping, filtering }
}

const RANDOM: Mapping = Mapping::AddressAndPort { step: 0 };
const STEPS: Mapping = Mapping::AddressAndPort { step: 1 };

/// The kinds of papers on NAT: none, full cone, restricted, port restricted, symmetric; and those that RLIVE adds.
const KINDS: [(&str, Nat); 10] = [
    ("public", Nat::OPEN),
    (
        "full cone",
        nat(Mapping::Independent, Filtering::Independent),
    ),
    ("restricted", nat(Mapping::Independent, Filtering::Address)),
    (
        "port restricted",
        nat(Mapping::Independent, Filtering::AddressAndPort),
    ),
    (
        "sequential",
        nat(Mapping::Independent, Filtering::Sequential),
    ),
    ("symmetric", nat(RANDOM, Filtering::AddressAndPort)),
    ("symmetric, in steps", nat(STEPS, Filtering::AddressAndPort)),
    (
        "symmetric, down by two",
        nat(
            Mapping::AddressAndPort { step: -2 },
            Filtering::AddressAndPort,
        ),
    ),
    (
        "by address",
        nat(Mapping::Address { step: 0 }, Filtering::Address),
    ),
    ("symmetric, lenient", nat(RANDOM, Filtering::Address)),
];

fn servers() -> Servers {
    let at = |last, port| SocketAddr::from(([203, 0, 113, last], port));
    Servers {
        a: [at(1, 3_478), at(1, 3_479)],
        b: [at(2, 3_478), at(2, 3_479)],
    }
}

fn other(servers: &Servers, asked: SocketAddr, how: How) -> SocketAddr {
    let [here, there] = match servers.a.contains(&asked) {
        true => [servers.a, servers.b],
        false => [servers.b, servers.a],
    };
    let second = usize::from(here[0] == asked);
    match how {
        How::Plain => asked,
        How::OtherPort => here[second],
        How::OtherAddress => there[second],
    }
}

fn behind(gate: &Gate, port: u16) -> SocketAddr {
    let host = match gate.nat.mapping {
        Mapping::None => gate.public,
        Mapping::Independent | Mapping::Address { .. } | Mapping::AddressAndPort { .. } => {
            Ipv4Addr::new(10, 0, 0, 2)
        }
    };
    SocketAddr::from((host, port))
}

#[expect(clippy::disallowed_methods, reason = "any instant will do in a test")]
fn start() -> Instant {
    Instant::now()
}

/// Asks through a gate, and loses some.
fn classify(gate: &mut Gate, local: SocketAddr, lose: &mut impl FnMut() -> bool) -> Option<Found> {
    let (mut now, servers) = (start(), servers());
    let mut machine = Classifier::new(now, servers, local, 77);
    let mut questions = 0;
    while let Some(due) = machine.poll_timeout() {
        now = now.max(due);
        machine.handle_timeout(now);
        while let Some((to, bytes)) = machine.poll_output() {
            questions += 1;
            let seen = gate.out(local, to);
            if lose() {
                continue;
            }
            let (how, nonce) = classify::read_question(&bytes).expect("valid");
            let answer = classify::write_answer(nonce, seen);
            assert!(answer.len() < bytes.len());
            let from = other(&servers, to, how);
            if gate.come(from, seen.port()) == Some(local) && !lose() {
                now += Duration::from_millis(20);
                assert!(machine.handle(now, &answer));
            }
        }
    }
    assert!(questions <= 18 && now - start() < Duration::from_secs(5));
    machine.found()
}

#[test]
fn every_kind_is_recognised() {
    for (name, kind) in KINDS {
        for seed in 0..20 {
            let mut gate = Gate::new(seed, kind, Ipv4Addr::new(198, 51, 100, 1));
            let local = behind(&gate, 5_000);
            let found = classify(&mut gate, local, &mut || false).expect("reached");
            assert_eq!(found.nat, kind, "{name}");
            assert_eq!(found.public.ip(), IpAddr::from(gate.public), "{name}");
        }
    }
    let mut gate = Gate::new(1, KINDS[3].1, Ipv4Addr::new(198, 51, 100, 1));
    let local = behind(&gate, 5_000);
    assert_eq!(classify(&mut gate, local, &mut || true), None);
}

/// Two behind gates of two kinds: whether they meet. The shorter way is 20 ms.
fn meet(seed: u64, kinds: [Nat; 2], skew: Duration) -> bool {
    let mut gates = [1, 2].map(|n: u8| {
        let public = Ipv4Addr::new(198, 51, 100, n);
        Gate::new(seed + u64::from(n), kinds[usize::from(n) - 1], public)
    });
    let begin = start();
    let locals = [behind(&gates[0], 5_000), behind(&gates[1], 6_000)];
    let key = Key::of_relay(b"lab", 1);
    let peers: Vec<Peer> = gates
        .iter_mut()
        .zip(locals)
        .map(|(gate, local)| {
            let found = classify(gate, local, &mut || false).expect("reached");
            // The newest port is looked at again, from another socket: only who gives ports in steps has moved.
            let fresh = gate.out(
                SocketAddr::new(local.ip(), local.port() + 1),
                servers().a[0],
            );
            let port = match found.nat.step() {
                Some(_) => fresh.port(),
                None => found.public.port(),
            };
            Peer {
                seen: SocketAddr::new(found.public.ip(), port),
                nat: found.nat,
            }
        })
        .collect();
    let mut machines = [
        Punch::new(begin, peers[1], &key),
        Punch::new(begin + skew, peers[0], &key),
    ];
    let mut mail: Vec<(Instant, usize, SocketAddr, SocketAddr, Vec<u8>)> = Vec::new();
    let mut now = begin;
    let mut most = [0; 2];
    loop {
        for n in 0..2 {
            if now >= begin + skew || n == 0 {
                machines[n].handle_timeout(now);
            }
            while let Some(output) = machines[n].poll_output() {
                most[n] += 1;
                let seen = gates[n].out(locals[n], output.to);
                if output.hops.is_none() {
                    let at = now + Duration::from_millis(20);
                    mail.push((at, 1 - n, seen, output.to, output.bytes));
                }
            }
        }
        let (due, later): (Vec<_>, Vec<_>) = mail.into_iter().partition(|(at, ..)| *at <= now);
        mail = later;
        for (_, to, from, at, bytes) in due {
            let reached = IpAddr::from(gates[to].public) == at.ip();
            if reached && gates[to].come(from, at.port()) == Some(locals[to]) {
                assert!(machines[to].handle(from, &bytes));
            }
        }
        if machines
            .iter()
            .all(|m| matches!(m.state(), State::Reached(_)))
        {
            assert!(most.iter().all(|sent| *sent <= 8 * 3 + 8), "{most:?}");
            return true;
        }
        if machines.iter().any(|m| m.state() == State::Failed) {
            return false;
        }
        now += Duration::from_millis(5);
    }
}

/// The plan tells exactly who meets, whatever the kinds, when both begin within a tenth of a second.
#[test]
fn who_can_meet_does() {
    let (mut met, mut plain) = (0, 0);
    for (a, left) in KINDS {
        for (b, right) in KINDS {
            for (seed, skew_ms) in [(1, 0), (2, 30), (3, 90)] {
                let skew = Duration::from_millis(skew_ms);
                let together = meet(seed, [left, right], skew);
                let can = plan(left, right) != Plan::Never;
                assert_eq!(together, can, "{a} and {b}, {skew_ms} ms apart");
            }
            met += u32::from(plan(left, right) != Plan::Never);
            // What is left without steps, sequential filters and address-dependent mapping.
            let classic = |nat: Nat| Nat {
                mapping: match nat.mapping {
                    Mapping::Address { .. } | Mapping::AddressAndPort { .. } => RANDOM,
                    mapping @ (Mapping::None | Mapping::Independent) => mapping,
                },
                ..nat
            };
            plain += u32::from(plan(classic(left), classic(right)) != Plan::Never);
        }
    }
    assert!(
        met > plain,
        "prediction opens {met} pairs instead of {plain}"
    );
}

/// Losses make it slower or let it fail, but never wrong.
#[test]
fn a_forged_punch_is_not_heard() {
    let now = start();
    let peer = Peer {
        seen: SocketAddr::from(([198, 51, 100, 1], 4_000)),
        nat: Nat::OPEN,
    };
    let mut machine = Punch::new(now, peer, &Key::of_relay(b"lab", 1));
    let mut thief = Punch::new(now, peer, &Key::of_relay(b"lab", 2));
    thief.handle_timeout(now);
    let forged = thief.poll_output().expect("a datagram").bytes;
    assert!(!machine.handle(peer.seen, &forged));
    assert_eq!(machine.state(), State::Sending);
}

proptest! {
    #[test]
    fn questions_and_answers_round_trip(nonce in any::<u64>(), ip in any::<u32>(), v6 in any::<u128>(), port in any::<u16>(), six in any::<bool>()) {
        let ip = if six { IpAddr::from((v6 | 1 << 127).to_be_bytes()) } else { IpAddr::from(Ipv4Addr::from(ip)) };
        let seen = SocketAddr::new(ip, port);
        prop_assert_eq!(classify::read_answer(&classify::write_answer(nonce, seen)), Some((nonce, seen)));
        for how in [How::Plain, How::OtherPort, How::OtherAddress] {
            prop_assert_eq!(classify::read_question(&classify::write_question(how, nonce)), Some((how, nonce)));
        }
    }

    #[test]
    fn kinds_round_trip(bytes in any::<[u8; 2]>()) {
        let nat = Nat::from_bytes(bytes);
        prop_assert_eq!(Nat::from_bytes(nat.to_bytes()), nat);
    }

    #[test]
    fn any_datagram_is_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..60), kind in 13..16_u8) {
        if let Some(first) = bytes.first_mut() {
            *first = 0x10 | kind;
        }
        let _ = classify::read_question(&bytes);
        let _ = classify::read_answer(&bytes);
        let now = start();
        let mut machine = Classifier::new(now, servers(), servers().a[0], 1);
        machine.handle(now, &bytes);
        prop_assert!(machine.found().is_none());
    }

    /// Lost datagrams never make it see less of a filter than there is.
    #[test]
    fn losses_are_survived(seed in any::<u64>(), kind in 0..KINDS.len(), every in 3..9_u32) {
        let (_, kind) = KINDS[kind];
        let mut gate = Gate::new(seed, kind, Ipv4Addr::new(198, 51, 100, 1));
        let mut count = 0;
        let mut lose = || { count += 1; count % every == 0 };
        let local = behind(&gate, 5_000);
        if let Some(found) = classify(&mut gate, local, &mut lose) {
            prop_assert_eq!(found.public.ip(), IpAddr::from(gate.public));
        }
    }
}
