//! Relays that mean harm, with good keys, and strangers without: they are found out, and the stream is the origin's.

use media::substream::chain_crc;

use super::net::World;
use super::*;
use crate::wire::Keys;
use rand::RngCore as _;

/// What a relay does to what it sends.
#[derive(Debug)]
pub(super) enum Evil {
    /// It changes a byte of every so many packets.
    Corrupts(u32),
    /// It gives frames another name, with CRCs that fit.
    Renames,
    /// It says that another frame was before, with CRCs that fit.
    Inserts,
    /// It leaves the signature out.
    Strips,
    /// It sends everything again after a while.
    Replays,
    /// It sends frames of substreams that are not its own.
    Strays,
}

/// The chain as it would be if its frames had other headers: CRCs of a liar fit.
fn resealed(chain: &mut [Entry]) {
    for at in 2..chain.len() {
        let before = [Some(chain[at - 2].header), Some(chain[at - 1].header)];
        chain[at].crc = chain_crc(before, chain[at].header);
    }
}

impl Evil {
    /// What is sent instead of a datagram, and how much later.
    pub(super) fn spoil(&mut self, bytes: &[u8], keys: &[Keys]) -> Vec<(Duration, Vec<u8>)> {
        let honest = vec![(Duration::ZERO, bytes.to_vec())];
        if Kind::of(bytes) != Some(Kind::Data) {
            return honest;
        }
        let read = |keys| Some((data::read(bytes, keys).ok()?, keys));
        let Some((packet, keys)) = keys.iter().rev().find_map(read) else {
            panic!("a relay sends what is sealed");
        };
        let (mut head, mut chain) = (packet.head, packet.chain.clone());
        let mut payload = packet.payload.to_vec();
        let mut signature = packet.signature;
        match self {
            Self::Corrupts(every) => {
                if head.pseq.is_multiple_of(*every) {
                    payload[0] ^= 1;
                }
            }
            Self::Renames => {
                let last = chain.last_mut().expect("the frame");
                last.header.dts_ms ^= 1;
                resealed(&mut chain);
                head.entry = *chain.last().expect("the frame");
            }
            Self::Inserts => {
                if chain.len() >= 2 {
                    let before = chain.len() - 2;
                    chain[before].header.size += 1;
                    resealed(&mut chain);
                    head.entry = *chain.last().expect("the frame");
                }
            }
            Self::Strips => signature = None,
            Self::Replays => {
                let again = Duration::from_millis(700);
                return vec![honest[0].clone(), (again, bytes.to_vec())];
            }
            Self::Strays => head.entry.header.dts_ms = head.entry.header.dts_ms.wrapping_add(7),
        }
        let before = &chain[..chain.len() - 1];
        let written = match &signature {
            Some(signature) => data::write_signed(&head, before, signature, &payload, keys),
            None => data::write(&head, before, &payload, keys),
        };
        vec![(Duration::ZERO, written)]
    }
}

/// One of five relays means harm.
fn with_one(seed: u64, evil: Evil) -> (World, Stats) {
    let mut world = World::new(seed, vec![lossy(0.01); 5]);
    // The nearest, so that it is used.
    world.paths[2].delay_ms = 3;
    world.run(seconds(6));
    let used = |world: &World| world.relays[2].as_ref().is_some_and(|r| r.sessions() > 0);
    assert!(used(&world), "while it is honest");
    world.evil[2] = Some(evil);
    world.run(seconds(25));
    world.check();
    let stats = world.player.stats(world.now);
    assert_eq!((stats.stalls, stats.skips), (0, 0), "{stats:?}");
    assert!(world.behind() < 30, "{} frames behind", world.behind());
    (world, stats)
}

#[test]
fn who_spoils_frames_is_found_left_and_reported() {
    let spoils = [
        Evil::Corrupts(1),
        Evil::Corrupts(50),
        Evil::Renames,
        Evil::Inserts,
        Evil::Strips,
    ];
    for (seed, evil) in (20..).zip(spoils) {
        let what = format!("{evil:?}");
        let (world, stats) = with_one(seed, evil);
        // Another name often belongs to another substream.
        let found = stats.forged_frames + stats.bad_input;
        assert!(found >= 1, "{what}: {stats:?}");
        assert!(stats.forged_frames <= 6, "found at once: {what}: {stats:?}");
        assert_eq!(world.reported, [2], "{what}");
        let relay = world.relays[2].as_ref().expect("alive");
        assert_eq!(relay.sessions(), 0, "{what}");
        assert_eq!(relayed(&world), 4, "others do its part: {what}");
    }
}

#[test]
fn who_meddles_with_the_part_of_others_is_left() {
    let (world, stats) = with_one(30, Evil::Strays);
    assert!(stats.bad_input >= 3, "{stats:?}");
    assert_eq!(world.reported, [2]);
}

#[test]
fn what_is_played_again_changes_nothing() {
    let (world, stats) = with_one(31, Evil::Replays);
    assert!(stats.duplicate_bytes > 100_000, "{stats:?}");
    assert_eq!(stats.forged_frames, 0, "{stats:?}");
    assert_eq!(world.reported, [0_u64; 0]);
}

/// Datagrams from elsewhere, and from the right address without its key.
#[test]
fn strangers_are_not_heard() {
    let mut world = World::new(32, vec![GOOD; 4]);
    world.run(seconds(6));
    let address = world.player.stats(world.now).substreams[0].relay;
    let address = address.expect("a relay");
    let before = world.player.stats(world.now);
    let mut random = StdRng::from_seed([7; 32]);
    for n in 0..500_u32 {
        let mut bytes = vec![Kind::Data as u8 | 0x10; 200];
        random.fill_bytes(&mut bytes[1..]);
        let from = match n % 2 {
            0 => address,
            _ => SocketAddr::from(([192, 0, 2, 1], 5)),
        };
        let input = Input::Datagram(from, &bytes);
        world.player.handle(world.now, input);
    }
    let stats = world.player.stats(world.now);
    assert_eq!(stats.strange_datagrams, before.strange_datagrams + 500);
    world.run(seconds(6));
    world.check();
    let stats = world.player.stats(world.now);
    assert_eq!((stats.stalls, stats.bad_input), (0, 0), "{stats:?}");
}
