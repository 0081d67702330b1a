//! Where a peer is. A UDP and a TCP endpoint may have the same numbers, so addresses over TCP carry a mark.
//!
//! Everything behind the socket knows peers by one [`SocketAddr`], which is a key there and nothing else. The mark is a scope
//! that no interface has, on the address as IPv6; addresses over UDP have no scope. What goes to a peer or into a report is
//! the [`plain`] address.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// No interface has this index.
const TCP_SCOPE: u32 = u32::MAX;

/// The key of a peer over TCP.
pub(crate) fn over_tcp(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    SocketAddrV6::new(ip, address.port(), 0, TCP_SCOPE).into()
}

/// Whether a key is that of a peer over TCP.
pub(crate) fn is_tcp(key: SocketAddr) -> bool {
    matches!(key, SocketAddr::V6(key) if key.scope_id() == TCP_SCOPE)
}

/// The address of a key; IPv4 as IPv4.
pub(crate) fn plain(key: SocketAddr) -> SocketAddr {
    SocketAddr::new(key.ip().to_canonical(), key.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_numbers_over_tcp_are_another_key() {
        for address in ["192.0.2.7:4660", "[2001:db8::1]:9"] {
            let udp: SocketAddr = address.parse().expect("an address");
            let tcp = over_tcp(udp);
            assert_ne!(tcp, udp);
            assert!(is_tcp(tcp) && !is_tcp(udp));
            assert_eq!((plain(tcp), plain(udp)), (udp, udp));
        }
    }
}
