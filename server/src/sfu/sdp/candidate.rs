//! Our ICE candidates: host candidates over UDP (RFC 8839 §5.1), and passive ones over TCP (RFC 6544 §4.5).

use std::fmt;
use std::net::SocketAddr;

/// Type preference of host candidates over UDP (RFC 8445 §5.1.2.2), and a lower one over TCP (RFC 6544 §4.2): who has both
/// uses UDP.
const UDP_PREFERENCE: u32 = 126;
const TCP_PREFERENCE: u32 = 90;
/// The direction preference of passive host candidates (RFC 6544 §4.2).
const PASSIVE: u32 = 4;

/// Where a client may send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    address: SocketAddr,
    is_tcp: bool,
    priority: u32,
    foundation: usize,
}

/// The candidates of these addresses; earlier ones are preferred. Those over UDP come first: some clients look at no other.
pub(crate) fn all(addresses: &[SocketAddr], tcp: bool) -> Vec<Candidate> {
    let rank = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    let priority = |kind: u32, local: u32| kind << 24 | local << 8 | 255;
    let udp = addresses.iter().enumerate().map(|(index, address)| {
        let local = 65_535_u32.saturating_sub(rank(index));
        (*address, false, priority(UDP_PREFERENCE, local))
    });
    let over_tcp = addresses.iter().enumerate().map(|(index, address)| {
        let local = PASSIVE << 13 | 8_191_u32.saturating_sub(rank(index));
        (*address, true, priority(TCP_PREFERENCE, local))
    });
    udp.chain(over_tcp.filter(|_| tcp))
        .zip(1..)
        .map(|((address, is_tcp, priority), foundation)| Candidate {
            address,
            is_tcp,
            priority,
            foundation,
        })
        .collect()
}

/// The line of an SDP without its end.
impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            is_tcp,
            priority,
            foundation,
        } = self;
        let (protocol, direction) = match is_tcp {
            true => ("tcp", " tcptype passive"),
            false => ("udp", ""),
        };
        let (ip, port) = (address.ip(), address.port());
        write!(
            f,
            "a=candidate:{foundation} 1 {protocol} {priority} {ip} {port} typ host{direction}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_comes_first_and_is_preferred() {
        let addresses = ["192.0.2.7:8189", "[2001:db8::1]:8189"]
            .map(|address| address.parse().expect("an address"));
        let lines: Vec<String> = all(&addresses, true)
            .iter()
            .map(Candidate::to_string)
            .collect();
        assert_eq!(
            lines,
            [
                "a=candidate:1 1 udp 2130706431 192.0.2.7 8189 typ host",
                "a=candidate:2 1 udp 2130706175 2001:db8::1 8189 typ host",
                "a=candidate:3 1 tcp 1520435199 192.0.2.7 8189 typ host tcptype passive",
                "a=candidate:4 1 tcp 1520434943 2001:db8::1 8189 typ host tcptype passive",
            ]
        );
        assert_eq!(all(&addresses, false).len(), 2);
    }
}
