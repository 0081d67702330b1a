//! The way between one peer and the socket. The engine believes in one remote address for ever; this translates.
//!
//! The engine sees every datagram as coming from the first address that passed a check (the *virtual* one). Answers to a
//! check go back to where the check came from; everything else goes to the *return address*, which moves
//! - to an address that media or DTLS come from, when that address has passed a check;
//! - to an address whose check nominates the pair (RFC 8445 §7.3.1.5), when the present one sends no media.
//!
//! So a peer that changes its network, or whose NAT rebinds, keeps its session without the engine noticing.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::remote::plain;

/// Most addresses of one session; the oldest is forgotten first.
pub(crate) const MAX_ADDRESSES: usize = 16;
/// After this long without media or DTLS from the return address, a nomination moves it.
const QUIET: Duration = Duration::from_millis(500);

/// Addresses of one peer.
#[derive(Debug, Default)]
pub(crate) struct Path {
    virtual_address: Option<SocketAddr>,
    return_address: Option<SocketAddr>,
    /// When media or DTLS last came from the return address.
    heard: Option<Instant>,
    proven: VecDeque<SocketAddr>,
}

impl Path {
    /// The address that the engine is to see for a datagram from `from`.
    pub(crate) fn to_engine(&self, from: SocketAddr) -> SocketAddr {
        plain(self.virtual_address.unwrap_or(from))
    }

    /// Where the engine's datagrams go.
    pub(crate) fn return_address(&self) -> Option<SocketAddr> {
        self.return_address
    }

    /// Addresses that have passed a check.
    pub(crate) fn proven(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.proven.iter().copied()
    }

    /// The engine has answered a check from `from`; gives an address that is forgotten for it.
    pub(crate) fn handle_proof(
        &mut self,
        now: Instant,
        from: SocketAddr,
        nominates: bool,
    ) -> Option<SocketAddr> {
        self.virtual_address.get_or_insert(from);
        let quiet = self
            .heard
            .is_none_or(|heard| now.saturating_duration_since(heard) >= QUIET);
        if self.return_address.is_none() || nominates && quiet {
            self.move_to(from);
        }
        if self.proven.contains(&from) {
            return None;
        }
        self.proven.push_back(from);
        if self.proven.len() <= MAX_ADDRESSES {
            return None;
        }
        let in_use = self.return_address;
        let oldest = self.proven.iter().position(|held| Some(*held) != in_use)?;
        self.proven.remove(oldest)
    }

    /// Media or DTLS came from `from`.
    pub(crate) fn handle_media(&mut self, now: Instant, from: SocketAddr) {
        if self.return_address != Some(from) {
            if !self.proven.contains(&from) {
                return;
            }
            self.move_to(from);
        }
        self.heard = Some(now);
    }

    fn move_to(&mut self, address: SocketAddr) {
        if self.return_address != Some(address) {
            self.return_address = Some(address);
            self.heard = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn checks_of_other_candidates_do_not_move_a_path_that_carries_media() {
        #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
        let t = Instant::now();
        let mut path = Path::default();
        path.handle_proof(t, address(1), false);
        path.handle_proof(t, address(2), true);
        assert_eq!(path.return_address(), Some(address(2)));
        path.handle_media(t, address(2));
        path.handle_proof(t + QUIET / 2, address(1), true);
        assert_eq!(path.return_address(), Some(address(2)));
        assert_eq!(
            path.to_engine(address(2)),
            address(1),
            "the engine sees the first"
        );
    }

    #[test]
    fn a_rebinding_moves_the_path_after_its_check() {
        #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
        let t = Instant::now();
        let mut path = Path::default();
        path.handle_proof(t, address(1), true);
        path.handle_media(t, address(1));
        path.handle_media(t + QUIET, address(9));
        assert_eq!(path.return_address(), Some(address(1)), "not proven");
        path.handle_proof(t + QUIET, address(9), true);
        assert_eq!(path.return_address(), Some(address(9)));
    }

    #[test]
    fn addresses_are_bounded() {
        #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
        let t = Instant::now();
        let mut path = Path::default();
        for port in 0..100 {
            path.handle_proof(t, address(port), false);
        }
        assert_eq!(path.proven().count(), MAX_ADDRESSES);
        assert!(
            path.proven().any(|held| held == address(0)),
            "the one in use stays"
        );
    }
}
