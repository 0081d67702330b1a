//! How much may be asked of a relay: buckets of tokens.
//!
//! Whose address is not proved can be anybody, so all of them share one bucket: a relay under a flood of forged addresses
//! answers [`CHALLENGES_PER_S`] of them, and players try again. Who has proved an address has a bucket of its own. At most
//! [`MAX_HOSTS`] of them are kept; those that are full again go first, and if none is, new hosts wait.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

/// Challenges to all who have not proved their address.
const CHALLENGES_PER_S: f64 = 2_000.0;
/// Subscriptions of one host that has.
const SUBSCRIPTIONS_PER_S: f64 = 50.0;
/// Hosts that are remembered.
const MAX_HOSTS: usize = 4_096;

/// Fills at a rate, up to what comes in one second.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn full(now: Instant, per_s: f64) -> Self {
        Self {
            tokens: per_s,
            at: now,
        }
    }

    fn fill(&mut self, now: Instant, per_s: f64) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * per_s).min(per_s);
        self.at = now;
        self.tokens
    }

    fn take(&mut self, now: Instant, per_s: f64) -> bool {
        let some = self.fill(now, per_s) >= 1.0;
        if some {
            self.tokens -= 1.0;
        }
        some
    }
}

#[derive(Debug)]
pub(super) struct Limits {
    challenges: Bucket,
    hosts: HashMap<u128, Bucket>,
}

impl Limits {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            challenges: Bucket::full(now, CHALLENGES_PER_S),
            hosts: HashMap::new(),
        }
    }

    /// Whether somebody may be challenged; it counts.
    pub(super) fn may_challenge(&mut self, now: Instant) -> bool {
        self.challenges.take(now, CHALLENGES_PER_S)
    }

    /// Whether somebody who has proved an address may subscribe; it counts.
    pub(super) fn may_subscribe(&mut self, now: Instant, ip: IpAddr) -> bool {
        let host = host_of(ip);
        if self.hosts.len() >= MAX_HOSTS && !self.hosts.contains_key(&host) {
            self.hosts
                .retain(|_, bucket| bucket.fill(now, SUBSCRIPTIONS_PER_S) < SUBSCRIPTIONS_PER_S);
            if self.hosts.len() >= MAX_HOSTS {
                return false;
            }
        }
        let bucket = self.hosts.entry(host);
        bucket
            .or_insert_with(|| Bucket::full(now, SUBSCRIPTIONS_PER_S))
            .take(now, SUBSCRIPTIONS_PER_S)
    }
}

/// What counts as one host: an address, or 64 bits of an address of IPv6, as one line has so many of them.
pub(super) fn host_of(ip: IpAddr) -> u128 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits() & !u128::from(u64::MAX),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do in a test")]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use super::*;

    fn host(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(n))
    }

    #[test]
    fn each_host_has_its_own_share() {
        let (now, mut limits) = (Instant::now(), Limits::new(Instant::now()));
        let asked = |limits: &mut Limits, now, host| {
            (0..200).filter(|_| limits.may_subscribe(now, host)).count()
        };
        assert_eq!(asked(&mut limits, now, host(1)), 50);
        assert_eq!(asked(&mut limits, now, host(2)), 50);
        let later = now + Duration::from_millis(100);
        assert_eq!(asked(&mut limits, later, host(1)), 5);
        let line = |last| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 0, 0, 0, last));
        assert_eq!(asked(&mut limits, now, line(1)), 50);
        assert_eq!(asked(&mut limits, now, line(2)), 0, "the same line");
    }

    #[test]
    fn floods_are_answered_in_part_and_memory_is_bounded() {
        let (now, mut limits) = (Instant::now(), Limits::new(Instant::now()));
        let challenged = (0..100_000).filter(|_| limits.may_challenge(now)).count();
        assert_eq!(challenged, 2_000);
        for n in 0..10_000 {
            limits.may_subscribe(now, host(n));
        }
        assert!(limits.hosts.len() <= MAX_HOSTS);
        assert!(!limits.may_subscribe(now, host(20_000)), "it waits");
        let later = now + Duration::from_secs(1);
        assert!(limits.may_subscribe(later, host(20_000)));
    }
}
