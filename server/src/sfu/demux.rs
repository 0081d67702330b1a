//! Whose datagram is it? One socket serves all sessions, so every datagram is sorted here first (RFC 7983).
//!
//! By source address once STUN has proved it; by the local user fragment in STUN's user name before that; by SSRC for media
//! that suddenly comes from elsewhere (a NAT that rebinds). Nothing is trusted: STUN is authenticated by the engine,
//! media by SRTP, and an address is learnt only when the engine has answered a check from it.
//!
//! Also kept from the engine here: STUN that is not well-formed, and checks by a peer that claims to be controlled, on
//! which the engine would swap roles before authenticating.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::remote::plain;
use super::types::SessionId;

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const USERNAME: u16 = 0x0006;
const USE_CANDIDATE: u16 = 0x0025;
const ICE_CONTROLLED: u16 = 0x8029;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];
/// Most attributes of a STUN message.
const MAX_ATTRIBUTES: usize = 32;

/// What a datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Datagram<'a> {
    /// A well-formed STUN binding request.
    Check(Check<'a>),
    /// A well-formed answer to a check of the engine's own: it checks back before it believes in a pair.
    Answer,
    /// DTLS.
    Dtls,
    /// RTP or RTCP of this SSRC.
    Media(u32),
    /// Nothing that is served here.
    Other,
}

/// A STUN binding request (RFC 8445 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Check<'a> {
    /// Its transaction id.
    pub(crate) transaction: [u8; 12],
    /// The receiver's user fragment; none for plain STUN.
    pub(crate) ufrag: Option<&'a str>,
    /// The sender nominates the pair.
    pub(crate) nominates: bool,
}

/// Sorts a datagram.
pub(crate) fn classify(datagram: &[u8]) -> Datagram<'_> {
    match datagram.first() {
        Some(0..=3) => stun(datagram).unwrap_or(Datagram::Other),
        // A DTLS record header has 13 bytes (RFC 6347 §4.1).
        Some(20..=63) if datagram.len() >= 13 => Datagram::Dtls,
        Some(128..=191) => media(datagram).map_or(Datagram::Other, Datagram::Media),
        _ => Datagram::Other,
    }
}

fn media(datagram: &[u8]) -> Option<u32> {
    // RTCP has its sender's SSRC second, RTP third (RFC 5761 §4).
    let at = match datagram.get(1)? {
        192..=223 => 4,
        _ => 8,
    };
    let ssrc = datagram.get(at..at + 4)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*ssrc))
}

fn stun(datagram: &[u8]) -> Option<Datagram<'_>> {
    let (header, mut rest) = datagram.split_first_chunk::<20>()?;
    let (&[kind @ .., _, _], rest_of_header) = header.split_first_chunk::<4>()?;
    let length = usize::from(u16::from_be_bytes([*header.get(2)?, *header.get(3)?]));
    let cookie = rest_of_header.first_chunk::<4>()?;
    if *cookie != MAGIC_COOKIE || length != rest.len() || !length.is_multiple_of(4) {
        return None;
    }
    let mut check = Check {
        transaction: *header.last_chunk::<12>()?,
        ufrag: None,
        nominates: false,
    };
    for _ in 0..MAX_ATTRIBUTES {
        let Some((&[a, b, c, d], body)) = rest.split_first_chunk::<4>() else {
            let whole = rest.is_empty();
            return match kind {
                BINDING_REQUEST if whole => Some(Datagram::Check(check)),
                BINDING_SUCCESS if whole => Some(Datagram::Answer),
                _ => None,
            };
        };
        let length = usize::from(u16::from_be_bytes([c, d]));
        let value = body.get(..length)?;
        match u16::from_be_bytes([a, b]) {
            USERNAME => {
                let name = std::str::from_utf8(value).ok()?;
                check.ufrag = Some(name.split_once(':')?.0);
            }
            USE_CANDIDATE => check.nominates = true,
            ICE_CONTROLLED => return None,
            _ => {}
        }
        rest = body.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// Whether an outgoing datagram shows that the engine has authenticated the check `transaction`: it answers it, or
/// checks back (which it does first when the check nominates).
pub(crate) fn is_proof(datagram: &[u8], transaction: &[u8; 12]) -> bool {
    let answers =
        datagram.starts_with(&BINDING_SUCCESS) && datagram.get(8..20) == Some(transaction);
    answers || datagram.starts_with(&BINDING_REQUEST)
}

/// The answer to plain STUN (RFC 8489 §7.3.1): what reachability probes ask for. Hardly longer than the request.
pub(crate) fn binding_response(transaction: &[u8; 12], from: SocketAddr) -> Vec<u8> {
    let from = plain(from);
    let mut mask = MAGIC_COOKIE.to_vec();
    mask.extend_from_slice(transaction);
    let (family, address) = match from.ip() {
        std::net::IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        std::net::IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let mut value = vec![0, family];
    let port = from.port().to_be_bytes();
    let plain = port.iter().zip(MAGIC_COOKIE.iter());
    value.extend(plain.map(|(byte, mask)| byte ^ mask));
    value.extend(address.iter().zip(&mask).map(|(byte, mask)| byte ^ mask));
    let length = u16::try_from(value.len()).unwrap_or(0);
    let mut out = BINDING_SUCCESS.to_vec();
    out.extend_from_slice(&(length + 4).to_be_bytes());
    out.extend_from_slice(&mask);
    out.extend_from_slice(&XOR_MAPPED_ADDRESS.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&value);
    out
}

/// Who owns what. Every entry belongs to a live session, which bounds the tables.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    addresses: HashMap<SocketAddr, SessionId>,
    ufrags: HashMap<String, SessionId>,
    /// None when two sessions use the same SSRC: then it tells nothing.
    ssrcs: HashMap<u32, Option<SessionId>>,
}

impl Routes {
    /// The session that a datagram belongs to.
    pub(crate) fn find(&self, from: SocketAddr, datagram: &Datagram<'_>) -> Option<SessionId> {
        match datagram {
            Datagram::Check(check) => self.ufrags.get(check.ufrag?).copied(),
            Datagram::Dtls | Datagram::Answer => self.addresses.get(&from).copied(),
            Datagram::Media(ssrc) => {
                let by_address = self.addresses.get(&from).copied();
                by_address.or_else(|| self.ssrcs.get(ssrc).copied().flatten())
            }
            Datagram::Other => None,
        }
    }

    /// A session answers to this user fragment.
    pub(crate) fn add_ufrag(&mut self, ufrag: String, session: SessionId) {
        self.ufrags.insert(ufrag, session);
    }

    /// A user fragment is no longer in use.
    pub(crate) fn remove_ufrag(&mut self, ufrag: &str) {
        self.ufrags.remove(ufrag);
    }

    /// The engine has answered a check from this address.
    pub(crate) fn add_address(&mut self, address: SocketAddr, session: SessionId) {
        self.addresses.insert(address, session);
    }

    /// Whether an address speaks for a session.
    pub(crate) fn has_address(&self, address: SocketAddr) -> bool {
        self.addresses.contains_key(&address)
    }

    /// An address is no longer in use, unless another session has taken it over.
    pub(crate) fn remove_address(&mut self, address: SocketAddr, session: SessionId) {
        if self.addresses.get(&address) == Some(&session) {
            self.addresses.remove(&address);
        }
    }

    /// Media of a session has this SSRC.
    pub(crate) fn add_ssrc(&mut self, ssrc: u32, session: SessionId) {
        let owner = self.ssrcs.entry(ssrc).or_insert(Some(session));
        if *owner != Some(session) {
            *owner = None;
        }
    }

    /// A session with this SSRC is over.
    pub(crate) fn remove_ssrc(&mut self, ssrc: u32) {
        self.ssrcs.remove(&ssrc);
    }

    /// Entries in all tables, for bounds and metrics.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.addresses.len() + self.ufrags.len() + self.ssrcs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, value) in attributes {
            body.extend_from_slice(&kind.to_be_bytes());
            body.extend_from_slice(&u16::try_from(value.len()).expect("short").to_be_bytes());
            body.extend_from_slice(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut out = vec![0, 1];
        out.extend_from_slice(&u16::try_from(body.len()).expect("short").to_be_bytes());
        out.extend_from_slice(&MAGIC_COOKIE);
        out.extend_from_slice(&[7; 12]);
        out.extend_from_slice(&body);
        out
    }

    #[test]
    fn a_check_tells_its_receiver() {
        let bytes = request(&[
            (0x24, &[0; 4]),
            (USERNAME, b"ours:theirs"),
            (USE_CANDIDATE, b""),
        ]);
        let expected = Check {
            transaction: [7; 12],
            ufrag: Some("ours"),
            nominates: true,
        };
        assert_eq!(classify(&bytes), Datagram::Check(expected));
    }

    #[test]
    fn what_the_engine_must_not_see_is_refused() {
        let controlled = request(&[(USERNAME, b"ours:theirs"), (ICE_CONTROLLED, &[0; 8])]);
        assert_eq!(classify(&controlled), Datagram::Other);
        let mut truncated = request(&[(USERNAME, b"ours:theirs")]);
        truncated.pop();
        assert_eq!(classify(&truncated), Datagram::Other);
        let mut response = request(&[]);
        response[..2].copy_from_slice(&BINDING_SUCCESS);
        assert_eq!(classify(&response), Datagram::Answer);
        response[1] = 0x11;
        assert_eq!(classify(&response), Datagram::Other);
    }

    #[test]
    fn plain_stun_is_answered_with_the_mapped_address() {
        let from: SocketAddr = "192.0.2.7:4660".parse().expect("address");
        let answer = binding_response(&[7; 12], from);
        assert!(is_proof(&answer, &[7; 12]));
        assert_eq!(answer.len(), 32);
        assert_eq!(answer[24..26], [0, 1]);
        assert_eq!(u16::from_be_bytes([answer[26], answer[27]]) ^ 0x2112, 4_660);
        assert_eq!(answer[28] ^ 0x21, 192);
    }

    #[test]
    fn an_ssrc_of_two_sessions_tells_nothing() {
        let (a, b) = (
            SessionId(uuid::Uuid::from_u128(1)),
            SessionId(uuid::Uuid::from_u128(2)),
        );
        let from: SocketAddr = "192.0.2.7:4660".parse().expect("address");
        let mut routes = Routes::default();
        routes.add_ssrc(5, a);
        assert_eq!(routes.find(from, &Datagram::Media(5)), Some(a));
        routes.add_ssrc(5, b);
        assert_eq!(routes.find(from, &Datagram::Media(5)), None);
    }

    proptest! {
        #[test]
        fn noise_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = classify(&bytes);
        }

        #[test]
        fn mutated_checks_are_survived(at in 0_usize..60, value in any::<u8>(), cut in 0_usize..60) {
            let mut bytes = request(&[(USERNAME, b"ours:theirs"), (0x8, &[0; 20])]);
            if let Some(byte) = bytes.get_mut(at) { *byte = value; }
            let _ = classify(&bytes);
            bytes.truncate(cut);
            let _ = classify(&bytes);
        }
    }
}
