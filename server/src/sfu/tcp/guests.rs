//! Which connections are held. Sans-IO; the shell opens and closes them.
//!
//! A connection is *proven* while it speaks for a session: a check over it has been authenticated. Others are strangers.
//!
//! Invariants:
//! - At most `max` connections, of which at most [`MAX_STRANGERS`] are strangers, and at most [`MAX_STRANGERS_PER_IP`] of one
//!   address. The oldest stranger makes room for a new one; when all are proven, the new one is refused.
//! - A stranger is given up after [`STRANGER_PATIENCE`], a connection that says nothing after [`IDLE`].

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Most connections that do not speak for a session.
pub(super) const MAX_STRANGERS: usize = 128;
/// Most of them from one address.
pub(super) const MAX_STRANGERS_PER_IP: usize = 16;
/// How long a connection may stay a stranger: checks come at once when they come.
pub(super) const STRANGER_PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may be silent; a live one is checked every few seconds (RFC 7675 §5.1).
pub(super) const IDLE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
struct Guest {
    number: u64,
    /// Since when it has been a stranger; `None`: it is proven.
    stranger_since: Option<Instant>,
    heard: Instant,
}

/// What is to be done about a new connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Admission {
    /// It is taken, under this number.
    pub(super) number: Option<u64>,
    /// These are to be closed for it.
    pub(super) closed: Vec<SocketAddr>,
}

/// The connections.
#[derive(Debug)]
pub(super) struct Guests {
    max: usize,
    next: u64,
    held: HashMap<SocketAddr, Guest>,
}

impl Guests {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            next: 0,
            held: HashMap::new(),
        }
    }

    /// A peer has connected.
    pub(super) fn admit(&mut self, now: Instant, key: SocketAddr) -> Admission {
        let mut closed = Vec::new();
        // The same numbers again: the old connection is dead, whether or not it knows.
        if self.held.remove(&key).is_some() {
            closed.push(key);
        }
        let is_crowded = |count: usize, limit: usize| count >= limit.min(self.max);
        let of_ip = self.oldest_stranger(Some(key.ip()));
        let of_all = self.oldest_stranger(None);
        let makes_room = match (of_ip, of_all) {
            ((Some(oldest), count), _) if is_crowded(count, MAX_STRANGERS_PER_IP) => Some(oldest),
            (_, (Some(oldest), count)) if is_crowded(count, MAX_STRANGERS) => Some(oldest),
            (_, (oldest, _)) => oldest.filter(|_| self.held.len() >= self.max),
        };
        if let Some(oldest) = makes_room {
            self.held.remove(&oldest);
            closed.push(oldest);
        }
        let number = (self.held.len() < self.max).then(|| {
            self.next += 1;
            let guest = Guest {
                number: self.next,
                stranger_since: Some(now),
                heard: now,
            };
            self.held.insert(key, guest);
            self.next
        });
        Admission { number, closed }
    }

    /// The one that has been a stranger for longest (of an address), and how many strangers there are.
    fn oldest_stranger(&self, ip: Option<IpAddr>) -> (Option<SocketAddr>, usize) {
        let strangers = self
            .held
            .iter()
            .filter(|(key, _)| ip.is_none_or(|ip| key.ip() == ip))
            .filter_map(|(key, guest)| Some((guest.stranger_since?, guest.number, *key)));
        let oldest = strangers.clone().min().map(|(_, _, key)| key);
        (oldest, strangers.count())
    }

    /// A datagram came over a connection: whether that is held still.
    pub(super) fn note(&mut self, now: Instant, key: SocketAddr, number: u64) -> bool {
        let guest = self.held.get_mut(&key);
        let Some(guest) = guest.filter(|guest| guest.number == number) else {
            return false;
        };
        guest.heard = now;
        true
    }

    /// A connection has ended: whether it was held still.
    pub(super) fn remove(&mut self, key: SocketAddr, number: u64) -> bool {
        let is_held = self
            .held
            .get(&key)
            .is_some_and(|guest| guest.number == number);
        if is_held {
            self.held.remove(&key);
        }
        is_held
    }

    /// Learns which are proven; gives those to be closed. To be called about once a second.
    pub(super) fn sweep(
        &mut self,
        now: Instant,
        is_proven: impl Fn(SocketAddr) -> bool,
    ) -> Vec<SocketAddr> {
        let mut closed = Vec::new();
        self.held.retain(|key, guest| {
            if is_proven(*key) {
                guest.stranger_since = None;
            } else {
                guest.stranger_since.get_or_insert(now);
            }
            let is_strange = guest
                .stranger_since
                .is_some_and(|since| now.saturating_duration_since(since) >= STRANGER_PATIENCE);
            let stays = !is_strange && now.saturating_duration_since(guest.heard) < IDLE;
            if !stays {
                closed.push(*key);
            }
            stays
        });
        closed
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn key(ip: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, ip], port))
    }

    #[test]
    fn strangers_make_room_the_proven_do_not() {
        let t = origin();
        let mut guests = Guests::new(2);
        let first = guests.admit(t, key(1, 1)).number.expect("taken");
        guests.admit(t, key(2, 1));
        let third = guests.admit(t, key(3, 1));
        assert_eq!(third.closed, [key(1, 1)]);
        assert!(third.number.is_some());
        assert!(!guests.note(t, key(1, 1), first), "it has gone");
        assert!(guests.sweep(t, |_| true).is_empty());
        let refused = guests.admit(t, key(4, 1));
        assert_eq!(
            refused,
            Admission {
                number: None,
                closed: vec![]
            }
        );
    }

    #[test]
    fn one_address_cannot_have_all_the_room() {
        let t = origin();
        let mut guests = Guests::new(1_000);
        let mut closed = 0;
        for port in 0..200 {
            closed += guests.admit(t, key(1, port)).closed.len();
        }
        assert_eq!((closed, guests.len()), (200 - 16, 16));
        for ip in 2..255 {
            guests.admit(t, key(ip, 1));
        }
        assert_eq!(guests.len(), MAX_STRANGERS);
    }

    #[test]
    fn who_says_nothing_goes() {
        let t = origin();
        let mut guests = Guests::new(10);
        let second = Duration::from_secs(1);
        guests.admit(t, key(1, 1));
        let talks = guests.admit(t, key(2, 1)).number.expect("taken");
        let proven = |held: SocketAddr| held == key(2, 1);
        assert!(guests.sweep(t + 9 * second, proven).is_empty());
        assert_eq!(guests.sweep(t + 10 * second, proven), [key(1, 1)]);
        assert!(guests.note(t + 20 * second, key(2, 1), talks));
        assert!(guests.sweep(t + 49 * second, proven).is_empty());
        assert_eq!(guests.sweep(t + 50 * second, proven), [key(2, 1)]);
    }

    #[test]
    fn the_end_of_an_old_connection_does_not_end_its_successor() {
        let t = origin();
        let mut guests = Guests::new(10);
        let old = guests.admit(t, key(1, 1)).number.expect("taken");
        let again = guests.admit(t, key(1, 1));
        assert_eq!(again.closed, [key(1, 1)]);
        assert!(!guests.remove(key(1, 1), old));
        assert!(guests.remove(key(1, 1), again.number.expect("taken")));
    }

    proptest! {
        #[test]
        fn bounds_hold(max in 0_usize..40, steps in proptest::collection::vec((0_u8..6, 0_u16..20, any::<bool>()), 0..300)) {
            let t = origin();
            let mut guests = Guests::new(max);
            for (ip, port, proven) in steps {
                guests.admit(t, key(ip, port));
                prop_assert!(guests.len() <= max);
                if proven {
                    guests.sweep(t, |key| key.port() < 10);
                }
            }
        }
    }
}
