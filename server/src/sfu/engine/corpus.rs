//! What clients really send, mutated: the seeds are in `corpus/`, one datagram in hexadecimal per line.
//!
//! STUN and DTLS go to an engine that waits for its peer; RTP and RTCP to the tap and the outlet, behind SRTP, where no key is
//! needed. SDP has its own seeds and tests (`sdp/offers`). Data channels are refused in the answer, so SCTP has no association
//! that could take anything. To fuzz for longer, set `PROPTEST_CASES`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use rtc::interceptor::{AttributedPacket, Packet, TaggedPacket};
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::marshal::Unmarshal;

use super::outlet::Outlet;
use super::tap::{MAX_EVENTS, Shared, Tap};
use super::{Engine, Identity};
use crate::sfu::demux::{Datagram, classify};
use crate::sfu::sdp::{Direction, Offer};

const STUN: &str = include_str!("corpus/stun.hex");
const DTLS: &str = include_str!("corpus/dtls.hex");
const RTP: &str = include_str!("corpus/rtp.hex");
const RTCP: &str = include_str!("corpus/rtcp.hex");
const CHROMIUM: &str = include_str!("../sdp/offers/chromium.sdp");

/// One change: where, to what, how.
type Edit = (Index, u8, u8);

fn seeds(text: &str) -> Vec<Vec<u8>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(pair, 16).expect("hexadecimal")
    };
    lines
        .map(|line| line.as_bytes().chunks(2).map(byte).collect())
        .collect()
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    proptest::collection::vec((any::<Index>(), any::<u8>(), 0_u8..5), 0..6)
}

/// A seed with those changes.
fn mutated(text: &str, which: &Index, edits: &[Edit]) -> Vec<u8> {
    let seeds = seeds(text);
    let mut bytes = which.get(&seeds).clone();
    for (at, value, how) in edits {
        if bytes.is_empty() {
            break;
        }
        let at = at.index(bytes.len());
        match how {
            0 | 1 => bytes[at] = *value,
            2 => bytes.insert(at, *value),
            3 => bytes.truncate(at),
            _ => bytes.extend_from_within(at..),
        }
        bytes.truncate(1_500);
    }
    bytes
}

fn offer(direction: Direction) -> Offer {
    let way = match direction {
        Direction::Publish => "a=sendonly",
        Direction::Play => "a=recvonly",
    };
    Offer::parse(&CHROMIUM.replace("a=sendonly", way), direction).expect("accepted")
}

#[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
fn origin() -> Instant {
    Instant::now()
}

fn tagged(now: Instant, packet: Packet) -> TaggedPacket {
    TaggedPacket {
        now,
        transport: TransportContext::default(),
        message: AttributedPacket::new(packet),
    }
}

#[test]
fn seeds_are_what_they_are_said_to_be() {
    for seed in seeds(STUN) {
        // Checks of the controlled side are kept from the engine.
        let is_other = matches!(classify(&seed), Datagram::Dtls | Datagram::Media(_));
        assert!(!is_other, "{seed:02x?}");
    }
    for seed in seeds(DTLS) {
        assert!(matches!(classify(&seed), Datagram::Dtls), "{seed:02x?}");
    }
    for seed in seeds(RTP) {
        rtc::rtp::Packet::unmarshal(&mut Bytes::from(seed)).expect("RTP");
    }
    for seed in seeds(RTCP) {
        rtc::rtcp::packet::unmarshal(&mut Bytes::from(seed)).expect("RTCP");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(64)
    ))]

    /// Before the handshake is over: nothing is believed, nothing grows.
    #[test]
    fn mutated_handshakes_are_survived(datagrams in proptest::collection::vec((any::<bool>(), any::<Index>(), edits()), 1..24)) {
        static IDENTITY: std::sync::LazyLock<Identity> =
            std::sync::LazyLock::new(|| Identity::generate().expect("identity"));
        let mut now = origin();
        let (mut engine, _) = Engine::accept(now, &offer(Direction::Publish), &IDENTITY).expect("accepted");
        let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
        for (is_stun, which, edits) in datagrams {
            let text = if is_stun { STUN } else { DTLS };
            engine.handle_datagram(now, peer, &mutated(text, &which, &edits));
            let mut sent = 0;
            while engine.poll_transmit().is_some() {
                sent += 1;
                prop_assert!(sent < 100, "a datagram for a datagram");
            }
            while engine.poll_event().is_some() {}
            prop_assert!(!engine.connected);
            now += Duration::from_millis(20);
            engine.handle_timeout(now);
        }
    }

    /// What a publisher sends.
    #[test]
    fn mutated_media_is_survived(packets in proptest::collection::vec((any::<bool>(), any::<Index>(), edits()), 1..60)) {
        let now = origin();
        let shared = Arc::new(Shared::default());
        let mut tap = Tap::new(&offer(Direction::Publish), Arc::clone(&shared));
        for (is_rtp, which, edits) in packets {
            let text = if is_rtp { RTP } else { RTCP };
            let mut bytes = Bytes::from(mutated(text, &which, &edits));
            let packet = if is_rtp {
                rtc::rtp::Packet::unmarshal(&mut bytes).map(Packet::Rtp)
            } else {
                rtc::rtcp::packet::unmarshal(&mut bytes).map(Packet::Rtcp)
            };
            if let Ok(packet) = packet {
                let _ = tap.handle_read(tagged(now, packet));
            }
        }
        let mut events = 0;
        while shared.take().is_some() {
            events += 1;
        }
        prop_assert!(events <= MAX_EVENTS);
    }

    /// What a subscriber says.
    #[test]
    fn mutated_feedback_is_survived(packets in proptest::collection::vec((any::<Index>(), edits()), 1..60)) {
        let now = origin();
        let shared = Arc::new(Shared::default());
        let mut outlet = Outlet::new(Arc::clone(&shared));
        for (which, edits) in packets {
            let mut bytes = Bytes::from(mutated(RTCP, &which, &edits));
            if let Ok(packets) = rtc::rtcp::packet::unmarshal(&mut bytes) {
                let _ = outlet.handle_read(tagged(now, Packet::Rtcp(packets)));
            }
        }
        while shared.take().is_some() {}
    }
}
