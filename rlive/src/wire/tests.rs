//! Every message round-trips, and survives damage.

use media::substream::{Entry, PACKET_PAYLOAD_BYTES};
use proptest::prelude::*;

use super::control::{Accept, Advised, Fare, Message, Missing, Reason, Replay, Subscribe};
use super::*;

fn keys() -> Keys {
    Keys::new(&Key::of_relay(b"test", 1))
}

fn entry() -> impl Strategy<Value = Entry> {
    (any::<u32>(), 0..4_000_u32, any::<u32>()).prop_map(|(dts, size, crc)| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&dts.to_be_bytes());
        bytes[8..12].copy_from_slice(&size.to_be_bytes());
        bytes[12..].copy_from_slice(&crc.to_be_bytes());
        Entry::read(&mut &bytes[..]).expect("valid")
    })
}

fn head(entry: Entry, index: u16, pseq: u32) -> data::Head {
    data::Head {
        resent: pseq.is_multiple_of(2),
        substream: 3,
        conn: 77,
        pseq,
        epoch: 5,
        index,
        entry,
        relay_ms: 1,
        held_ms: 2,
    }
}

fn message() -> impl Strategy<Value = Message> {
    let missing = (any::<u32>(), any::<u32>(), any::<u16>(), any::<u32>()).prop_map(
        |(dts_ms, crc, base, mask)| Missing {
            dts_ms,
            crc,
            base,
            mask,
        },
    );
    let fare = (any::<u8>(), any::<u32>(), any::<u16>()).prop_map(|(substream, pseq, lost)| Fare {
        substream,
        pseq,
        lost,
    });
    prop_oneof![
        proptest::collection::vec(missing, 0..=control::MAX_NACKS).prop_map(Message::Nack),
        (
            any::<u16>(),
            any::<u16>(),
            proptest::collection::vec(fare, 0..8)
        )
            .prop_map(|(player_ms, buffer_ms, fares)| Message::Report {
                player_ms,
                buffer_ms,
                fares
            }),
        Just(Message::Bye),
    ]
}

proptest! {
    #[test]
    fn packets_round_trip(chain in proptest::collection::vec(entry(), 1..=5), pseq in any::<u32>(), byte in any::<u8>()) {
        let (entry, before) = chain.split_last().expect("not empty");
        let frame = vec![byte; usize::try_from(entry.header.size).expect("small")];
        for index in 0..entry.header.packets() {
            let head = head(*entry, index, pseq);
            let wire = data::write(&head, before, data::part(&frame, index), &keys());
            prop_assert!(wire.len() <= MAX_DATAGRAM_BYTES);
            prop_assert_eq!(data::conn_of(&wire), Some(77));
            let packet = data::read(&wire, &keys()).expect("valid");
            prop_assert_eq!(&packet.chain, &chain);
            prop_assert_eq!(packet.head, head);
            prop_assert_eq!(packet.payload.len(), frame.len().saturating_sub(usize::from(index) * PACKET_PAYLOAD_BYTES).min(PACKET_PAYLOAD_BYTES));
        }
    }

    #[test]
    fn messages_round_trip(message in message(), seq in any::<u32>()) {
        let wire = message.write(5, seq, &keys());
        prop_assert!(wire.len() <= MAX_DATAGRAM_BYTES);
        prop_assert_eq!(Message::read(&wire, &keys()), Ok((seq, message)));
    }

    #[test]
    fn subscriptions_round_trip(nonce in any::<u64>(), mask in any::<u64>(), cookie in any::<[u8; 24]>(), ticket in proptest::collection::vec(any::<u8>(), 1..160)) {
        let subscribe = Subscribe { nonce, mask, cookie, ticket };
        let wire = subscribe.write(&keys());
        prop_assert_eq!(wire.len(), MAX_DATAGRAM_BYTES);
        prop_assert!(keys().open(Direction::Up, &wire).is_ok());
        prop_assert_eq!(Subscribe::read(&wire), Ok(subscribe));
        let challenge = control::write_challenge(nonce, &cookie);
        prop_assert!(challenge.len() * 3 <= wire.len());
        prop_assert_eq!(control::read_challenge(&challenge), Ok((nonce, cookie)));
    }

    /// Whatever is changed on the way, it is refused.
    #[test]
    fn damage_is_found(message in message(), at in any::<proptest::sample::Index>(), bit in 0_u8..8) {
        let mut wire = message.write(5, 1, &keys());
        let at = at.index(wire.len());
        wire[at] ^= 1 << bit;
        prop_assert!(Message::read(&wire, &keys()).is_err());
    }

    /// Bytes that come with a good MAC, as from a relay that means harm.
    #[test]
    fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), sealed in any::<bool>()) {
        if sealed {
            keys().seal(Direction::Down, &mut bytes);
        }
        let _ = Kind::of(&bytes);
        let _ = data::read(&bytes, &keys());
        let _ = Accept::read(&bytes, &keys());
        let _ = control::read_challenge(&bytes);
        let _ = control::read_refuse(&bytes);
        let _ = control::read_pong(&bytes, &keys());
        let _ = control::read_bye(&bytes, &keys());
        let _ = control::read_suggest(&bytes, &keys());
        let _ = Subscribe::read(&bytes);
        bytes.truncate(bytes.len().saturating_sub(MAC_BYTES));
        for kind in [Kind::Nack, Kind::Report, Kind::Bye] {
            let mut bytes = bytes.clone();
            if let Some(first) = bytes.first_mut() {
                *first = kind.byte();
            }
            keys().seal(Direction::Up, &mut bytes);
            let _ = Message::read(&bytes, &keys());
        }
    }

    #[test]
    fn no_number_is_taken_twice(seqs in proptest::collection::vec(0..200_u32, 0..400)) {
        let (mut replay, mut taken) = (Replay::default(), std::collections::HashSet::new());
        for seq in seqs {
            if replay.is_new(seq) {
                prop_assert!(taken.insert(seq));
            }
        }
    }
}

#[test]
fn answers_round_trip() {
    let accept = Accept {
        nonce: 1,
        conn: 2,
        mask: 3,
        lease_ms: 5_000,
    };
    assert_eq!(Accept::read(&accept.write(&keys()), &keys()), Ok(accept));
    let refuse = control::write_refuse(9, Reason::Full);
    assert_eq!(control::read_refuse(&refuse), Ok((9, Reason::Full)));
    assert_eq!(
        control::read_pong(&control::write_pong(1, 500, &keys()), &keys()),
        Ok(500)
    );
    let bye = control::write_bye(1, Reason::Leaving, &keys());
    assert_eq!(control::read_bye(&bye, &keys()), Ok(Reason::Leaving));
    for advised in [Advised::Cost, Advised::Quality, Advised::Leaving] {
        let wire = control::write_suggest(1, advised, &keys());
        assert_eq!(control::read_suggest(&wire, &keys()), Ok(advised));
    }
    // What one side says is not taken for what the other says.
    let other = Message::Bye.write(1, 1, &keys());
    assert_eq!(control::read_bye(&other, &keys()), Err(Error::Forged));
}

#[test]
fn packets_in_order_are_new_and_late_ones_too_once() {
    let mut replay = Replay::default();
    assert!(replay.is_new(10) && replay.is_new(12) && replay.is_new(11));
    assert!(!replay.is_new(11) && !replay.is_new(12));
    assert!(replay.is_new(100));
    assert!(!replay.is_new(36), "older than the window");
    assert!(replay.is_new(37));
}

/// A packet may not claim another length than its frame's size implies.
#[test]
fn a_payload_of_the_wrong_length_is_refused() {
    let mut bytes = [0; 16];
    bytes[8..12].copy_from_slice(&2_000_u32.to_be_bytes());
    let entry = Entry::read(&mut &bytes[..]).expect("valid");
    let frame = vec![1; 2_000];
    for (index, payload) in [(0, &frame[..1_071]), (1, &frame[..929]), (2, &frame[..0])] {
        let wire = data::write(&head(entry, index, 1), &[], payload, &keys());
        assert!(matches!(data::read(&wire, &keys()), Err(Error::Invalid(_))));
    }
}
