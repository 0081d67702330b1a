//! Answers to checks of a restarted ICE session (RFC 8445 §9, RFC 9725 §4.3.2), in place of the engine's agent.
//!
//! A restart of the agent would drop media until the peer nominates again, which Chromium takes seconds for. An ICE-lite
//! side needs no agent for it: it authenticates checks and answers them. The engine keeps its pair, media goes on, and
//! the path moves when the peer does.

use std::net::SocketAddr;

use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{BINDING_SUCCESS, Message};
use rtc::stun::xoraddr::XorMappedAddress;

/// The answer to a check from `from` (well-formed, as `demux` lets through); none unless it was made with `password`.
pub(crate) fn answer(check: &[u8], from: SocketAddr, password: &str) -> Option<Vec<u8>> {
    let provider = rtc::crypto::default_provider().ok()?;
    let crypto = provider.crypto();
    let mut request = Message::new();
    request.unmarshal_binary(check).ok()?;
    MessageIntegrity::check(&mut request, password.as_bytes(), crypto).ok()?;
    let mapped = XorMappedAddress {
        ip: from.ip(),
        port: from.port(),
    };
    let integrity =
        MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto);
    let mut response = Message::new();
    response
        .build(&[
            Box::new(request.clone()),
            Box::new(BINDING_SUCCESS),
            Box::new(mapped),
            Box::new(integrity),
            Box::new(FINGERPRINT),
        ])
        .ok()?;
    Some(response.raw)
}
