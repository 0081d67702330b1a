//! Floods and noise against all sessions.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use media::Clock;
use proptest::prelude::*;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Table;
use crate::sfu::config::Config;
use crate::sfu::delivery::Delivery;
use crate::sfu::engine::Identity;
use crate::sfu::sdp::{Direction, Offer, candidate};
use crate::sfu::session::Session;
use crate::sfu::types::{CloseReason, Ingress, OfferError, SessionId};

const OFFER: &str = include_str!("../sdp/offers/ffmpeg.sdp");

#[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
fn origin() -> Instant {
    Instant::now()
}

fn address(n: u32) -> SocketAddr {
    let [_, a, b, c] = n.to_be_bytes();
    SocketAddr::from(([10, a, b, c], 4_000))
}

struct Flood {
    table: Table,
    config: Config,
    identity: Identity,
    sink: crate::sfu::Sink,
    opened: u128,
}

impl Flood {
    fn new(config: Config) -> (Self, mpsc::Receiver<(SessionId, Ingress)>) {
        let (sink, source) = mpsc::channel(100_000);
        let flood = Self {
            table: Table::new(&config, candidate::all(&[address(1)], false)),
            config,
            identity: Identity::generate().expect("identity"),
            sink,
            opened: 0,
        };
        (flood, source)
    }

    fn open(&mut self, now: Instant) -> Result<SessionId, OfferError> {
        let offer = Offer::parse(OFFER, Direction::Publish)?;
        let session = Session::publish(now, Clock::new(now), offer, &self.identity, &self.config)
            .map_err(|error| OfferError::Engine(error.to_string()))?;
        self.opened += 1;
        let id = SessionId(Uuid::from_u128(self.opened));
        self.table
            .open_publisher(now, id, session, Delivery::new(id, self.sink.clone()), None)?;
        Ok(id)
    }
}

#[test]
fn ten_thousand_half_open_sessions_cost_what_two_hundred_do() {
    let t = origin();
    let (mut flood, mut source) = Flood::new(Config::default());
    for n in 0..10_000_u32 {
        let now = t + Duration::from_millis(1) * n;
        flood.open(now).expect("there is always room for one more");
        flood.table.handle_timeout(now);
        while flood.table.poll_transmit().is_some() {}
    }
    let limit = flood.config.max_half_open;
    assert_eq!(flood.table.len(), limit);
    assert_eq!(flood.table.routes_len(), limit, "a user fragment each");
    let mut closed = 0;
    while let Ok((_, ingress)) = source.try_recv() {
        assert_eq!(ingress, Ingress::Closed(CloseReason::NeverConnected));
        closed += 1;
    }
    assert_eq!(closed, 10_000 - limit);
    // Those who never connect go after a while, and leave nothing behind.
    let end = t + Duration::from_secs(60);
    while let Some(at) = flood.table.poll_timeout().filter(|at| *at < end) {
        flood.table.handle_timeout(at);
    }
    assert_eq!((flood.table.len(), flood.table.routes_len()), (0, 0));
    assert!(
        flood.table.poll_timeout().is_none(),
        "no deadlines are left"
    );
}

#[test]
fn a_closed_session_leaves_nothing_behind() {
    let t = origin();
    let (mut flood, mut source) = Flood::new(Config::default());
    let id = flood.open(t).expect("room");
    flood.table.close(t, id, CloseReason::Requested);
    assert_eq!((flood.table.len(), flood.table.routes_len()), (0, 0));
    let last = source.try_recv().expect("told");
    assert_eq!(last, (id, Ingress::Closed(CloseReason::Requested)));
    assert!(source.try_recv().is_err(), "told once");
}

#[test]
fn a_receiver_that_is_gone_ends_the_session() {
    let t = origin();
    let (mut flood, source) = Flood::new(Config::default());
    flood.open(t).expect("room");
    drop(source);
    for step in 0..100 {
        flood
            .table
            .handle_timeout(t + Duration::from_millis(20) * step);
    }
    assert_eq!(flood.table.len(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Datagrams of any kind from anywhere at half-open sessions: no panic, no state.
    #[test]
    fn noise_leaves_no_trace(
        datagrams in proptest::collection::vec((0_u32..4, prop_oneof![Just(0_u8), Just(1), Just(22), Just(128), any::<u8>()], proptest::collection::vec(any::<u8>(), 0..120)), 0..60),
    ) {
        let t = origin();
        let (mut flood, _source) = Flood::new(Config::default());
        flood.open(t).expect("room");
        let routes = flood.table.routes_len();
        for (from, first, mut datagram) in datagrams {
            datagram.insert(0, first);
            flood.table.handle_datagram(t, address(from), &datagram);
            flood.table.handle_timeout(t);
        }
        prop_assert_eq!(flood.table.routes_len(), routes);
        prop_assert_eq!(flood.table.len(), 1);
    }
}
