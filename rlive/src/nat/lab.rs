//! A network of translators of every kind, on virtual time.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{Filtering, Mapping, Nat};

/// One translator, with one machine behind it.
pub(super) struct Gate {
    pub(super) nat: Nat,
    pub(super) public: Ipv4Addr,
    random: StdRng,
    next_port: u16,
    /// Of which socket towards whom, as far as the mapping tells them apart: the public port.
    mapped: HashMap<(SocketAddr, Option<IpAddr>, Option<u16>), u16>,
    sockets: HashMap<u16, SocketAddr>,
    /// Whom each public port has sent something.
    sent: HashSet<(u16, SocketAddr)>,
    /// Who came before he was asked.
    shut: HashSet<(u16, SocketAddr)>,
}

impl Gate {
    pub(super) fn new(seed: u64, nat: Nat, public: Ipv4Addr) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        Self {
            nat,
            public,
            next_port: random.random_range(20_000..30_000),
            random,
            mapped: HashMap::new(),
            sockets: HashMap::new(),
            sent: HashSet::new(),
            shut: HashSet::new(),
        }
    }

    fn new_port(&mut self) -> u16 {
        let step = self.nat.step();
        loop {
            let port = match step {
                Some(step) => {
                    self.next_port = self.next_port.wrapping_add_signed(i16::from(step));
                    self.next_port
                }
                None => self.random.random_range(1_024..=u16::MAX),
            };
            if !self.sockets.contains_key(&port) {
                return port;
            }
        }
    }

    /// A datagram goes out: from where others see it come; whether it gets as far as the other's gate is not asked here.
    pub(super) fn out(&mut self, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        if self.nat.mapping == Mapping::None {
            self.sockets.insert(from.port(), from);
            self.sent.insert((from.port(), to));
            return from;
        }
        let mut key = match self.nat.mapping {
            Mapping::None | Mapping::Independent => (from, None, None),
            Mapping::Address { .. } => (from, Some(to.ip()), None),
            Mapping::AddressAndPort { .. } => (from, Some(to.ip()), Some(to.port())),
        };
        let known = self.mapped.get(&key).copied();
        if known.is_some_and(|port| self.shut.contains(&(port, to))) {
            // What is taken by a datagram that has come before goes out elsewhere, as Linux has it.
            key = (from, Some(to.ip()), Some(to.port()));
        }
        let port = match self.mapped.get(&key) {
            Some(port) => *port,
            None => {
                let port = self.new_port();
                self.mapped.insert(key, port);
                self.sockets.insert(port, from);
                port
            }
        };
        self.sent.insert((port, to));
        SocketAddr::from((self.public, port))
    }

    /// A datagram comes to a public port: the socket that gets it.
    pub(super) fn come(&mut self, from: SocketAddr, port: u16) -> Option<SocketAddr> {
        let socket = *self.sockets.get(&port)?;
        let mut sent = self.sent.iter();
        let may = match self.nat.filtering {
            Filtering::Independent => true,
            Filtering::Address => sent.any(|(p, to)| *p == port && to.ip() == from.ip()),
            Filtering::AddressAndPort | Filtering::Sequential => self.sent.contains(&(port, from)),
        };
        if !may && self.nat.filtering == Filtering::Sequential {
            self.shut.insert((port, from));
        }
        may.then_some(socket)
    }
}
