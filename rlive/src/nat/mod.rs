//! Translators of addresses on the way: which kind, and how two who are behind them reach each other.
//!
//! [`classify`] finds out the kind with the help of a server of two addresses and two ports each (RFC 5780 §4), and two
//! traits beyond: ports that are given out in steps, and filters that shut against whoever came before he was asked.
//! [`punch`] opens the way between two, told about each other by somebody whom both reach. [`plan`] says whether that can
//! work. All are sans-IO; [`lab`] is the world they are tried in.
//!
//! Invariants: an answer is never larger than its question; nothing is sent more often than the schedules here say,
//! whatever comes.

pub mod classify;
#[cfg(test)]
mod lab;
pub mod punch;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// How a translator chooses the public port of a socket (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mapping {
    /// There is no translator.
    None,
    /// One for all destinations.
    Independent,
    /// Another one for each address.
    Address {
        /// How far the next one is from the last; 0: nobody knows.
        step: i8,
    },
    /// Another one for each address and port.
    AddressAndPort {
        /// How far the next one is from the last; 0: nobody knows.
        step: i8,
    },
}

/// From whom it lets datagrams in (RFC 4787 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filtering {
    /// From everybody.
    Independent,
    /// From addresses that were sent something.
    Address,
    /// From addresses and ports that were sent something.
    AddressAndPort,
    /// As before; but who has sent something before he was sent something is shut out.
    Sequential,
}

/// The kind of a translator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nat {
    /// How it chooses ports.
    pub mapping: Mapping,
    /// Whom it lets in.
    pub filtering: Filtering,
}

/// How one reaches another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// It is enough to send.
    Direct,
    /// Both send to each other at the same time.
    Punch,
    /// They do not.
    Never,
}

impl Nat {
    /// Nothing is in the way.
    pub const OPEN: Self = Self {
        mapping: Mapping::None,
        filtering: Filtering::Independent,
    };

    /// As two bytes of a heartbeat: kinds, step.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 2] {
        let (mapping, step) = match self.mapping {
            Mapping::None => (0, 0),
            Mapping::Independent => (1, 0),
            Mapping::Address { step } => (2, step),
            Mapping::AddressAndPort { step } => (3, step),
        };
        let filtering = match self.filtering {
            Filtering::Independent => 0,
            Filtering::Address => 1,
            Filtering::AddressAndPort => 2,
            Filtering::Sequential => 3,
        };
        [mapping | (filtering << 2), step.cast_unsigned()]
    }

    /// Reads [`Nat::to_bytes`]; bits that mean nothing are ignored.
    #[must_use]
    pub fn from_bytes([kinds, step]: [u8; 2]) -> Self {
        let step = step.cast_signed();
        Self {
            mapping: match kinds & 3 {
                0 => Mapping::None,
                1 => Mapping::Independent,
                2 => Mapping::Address { step },
                _ => Mapping::AddressAndPort { step },
            },
            filtering: match (kinds >> 2) & 3 {
                0 => Filtering::Independent,
                1 => Filtering::Address,
                2 => Filtering::AddressAndPort,
                _ => Filtering::Sequential,
            },
        }
    }

    /// The step from one new port to the next, if ports are given out so.
    #[must_use]
    pub fn step(self) -> Option<i8> {
        match self.mapping {
            Mapping::None | Mapping::Independent => None,
            Mapping::Address { step } | Mapping::AddressAndPort { step } => {
                Some(step).filter(|step| *step != 0)
            }
        }
    }

    /// Whether it can be said beforehand from where somebody new will be sent something.
    fn is_predictable(self) -> bool {
        matches!(self.mapping, Mapping::None | Mapping::Independent) || self.step().is_some()
    }

    /// Whether datagrams come in from every port of an address that was sent something.
    fn is_lenient(self) -> bool {
        matches!(self.filtering, Filtering::Independent | Filtering::Address)
    }
}

/// How somebody behind `from` reaches somebody behind `to`.
#[must_use]
pub fn plan(from: Nat, to: Nat) -> Plan {
    let fixed = matches!(to.mapping, Mapping::None | Mapping::Independent);
    if fixed && to.filtering == Filtering::Independent {
        return Plan::Direct;
    }
    // Who cannot be predicted must be let in from any port.
    match (from.is_predictable(), to.is_predictable()) {
        (true, true) => Plan::Punch,
        (true, false) if from.is_lenient() => Plan::Punch,
        (false, true) if to.is_lenient() => Plan::Punch,
        _ => Plan::Never,
    }
}

/// An address in 16 bytes, those of IPv4 mapped (RFC 4291 §2.5.5.2).
fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn address(octets: [u8; 16], port: u16) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::from(octets).to_canonical(), port)
}

#[cfg(test)]
mod tests;
