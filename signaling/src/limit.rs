//! How fast one peer may open sessions: a token bucket per address. Sans-IO.
//!
//! Invariants: at most [`MAX_PEERS`] buckets are kept. Full buckets carry no information and are forgotten
//! first; when none is full, peers that are not known share one bucket, so that a flood from many addresses
//! costs newcomers their share and known peers nothing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

/// Most addresses remembered.
const MAX_PEERS: usize = 16_384;
/// The shared bucket is this many times as large and as fast as one of its own.
const SHARED_FACTOR: f64 = 16.0;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// Tokens at `now`, never more than `burst`. Time that runs backwards adds none.
    fn level(&self, now: Instant, burst: f64, rate_per_s: f64) -> f64 {
        let since_s = now.saturating_duration_since(self.at).as_secs_f64();
        (self.tokens + since_s * rate_per_s).min(burst)
    }

    /// Takes a token, or says in how many seconds there is one.
    fn take(&mut self, now: Instant, burst: f64, rate_per_s: f64) -> Result<(), u64> {
        self.tokens = self.level(now, burst, rate_per_s);
        self.at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let wait_s = ((1.0 - self.tokens) / rate_per_s).ceil().clamp(1.0, 3600.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 1..=3600"
        )]
        Err(wait_s as u64)
    }
}

/// Token buckets of all peers.
#[derive(Debug)]
pub struct Limiter {
    burst: f64,
    rate_per_s: f64,
    peers: HashMap<IpAddr, Bucket>,
    shared: Option<Bucket>,
    max_peers: usize,
}

impl Limiter {
    /// `burst` sessions at once, and `rate_per_s` in the long run.
    #[must_use]
    pub fn new(burst: u32, rate_per_s: f64) -> Self {
        Self {
            burst: f64::from(burst.max(1)),
            rate_per_s: rate_per_s.max(0.001),
            peers: HashMap::new(),
            shared: None,
            max_peers: MAX_PEERS,
        }
    }

    /// Lets one more session of `peer` in, or says in how many seconds to come back.
    ///
    /// # Errors
    /// That many seconds.
    pub fn admit(&mut self, now: Instant, peer: IpAddr) -> Result<(), u64> {
        let (burst, rate) = (self.burst, self.rate_per_s);
        let peer = network(peer);
        if !self.peers.contains_key(&peer) && self.peers.len() >= self.max_peers {
            self.peers
                .retain(|_, bucket| bucket.level(now, burst, rate) < burst);
        }
        let fresh = |factor: f64| Bucket {
            tokens: burst * factor,
            at: now,
        };
        if self.peers.contains_key(&peer) || self.peers.len() < self.max_peers {
            return self
                .peers
                .entry(peer)
                .or_insert_with(|| fresh(1.0))
                .take(now, burst, rate);
        }
        let shared = self.shared.get_or_insert_with(|| fresh(SHARED_FACTOR));
        shared.take(now, burst * SHARED_FACTOR, rate * SHARED_FACTOR)
    }
}

/// One customer has a whole IPv6 /64: its addresses are one peer.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "an arbitrary origin for virtual time"
)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn ip(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn burst_then_rate() {
        let start = Instant::now();
        let mut limiter = Limiter::new(3, 2.0);
        let results: Vec<_> = (0..4).map(|_| limiter.admit(start, ip(1))).collect();
        assert_eq!(results, [Ok(()), Ok(()), Ok(()), Err(1)]);
        assert_eq!(
            limiter.admit(start, ip(2)),
            Ok(()),
            "another peer is not concerned"
        );
        let later = start + Duration::from_millis(500);
        assert_eq!(limiter.admit(later, ip(1)), Ok(()));
        assert_eq!(limiter.admit(later, ip(1)), Err(1));
    }

    #[test]
    fn an_ipv6_network_is_one_peer() {
        let start = Instant::now();
        let mut limiter = Limiter::new(1, 1.0);
        assert!(limiter.admit(start, "2001:db8::1".parse().unwrap()).is_ok());
        assert!(
            limiter
                .admit(start, "2001:db8::2".parse().unwrap())
                .is_err()
        );
        assert!(
            limiter
                .admit(start, "2001:db8:0:1::1".parse().unwrap())
                .is_ok()
        );
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_and_spares_known_peers() {
        let start = Instant::now();
        let mut limiter = Limiter::new(2, 1.0);
        limiter.max_peers = 8;
        for n in 0..8 {
            limiter.admit(start, ip(n)).unwrap();
        }
        let admitted = (100..1000)
            .filter(|n| limiter.admit(start, ip(*n)).is_ok())
            .count();
        assert_eq!(admitted, 32, "newcomers share one bucket");
        assert_eq!(limiter.peers.len(), 8);
        assert!(limiter.admit(start, ip(3)).is_ok());
        assert!(
            limiter
                .admit(start + Duration::from_secs(10), ip(5000))
                .is_ok(),
            "idle peers make room"
        );
    }

    proptest! {
        #[test]
        fn never_more_than_burst_plus_rate(steps in proptest::collection::vec(0u64..800, 1..200)) {
            let start = Instant::now();
            let mut limiter = Limiter::new(5, 3.0);
            let (mut now, mut admitted) = (start, 0.0);
            for step in steps {
                now += Duration::from_millis(step);
                admitted += f64::from(u8::from(limiter.admit(now, ip(7)).is_ok()));
                let bound = 5.0 + 3.0 * now.duration_since(start).as_secs_f64();
                prop_assert!(admitted <= bound + 1e-6);
            }
        }
    }
}
