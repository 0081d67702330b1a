//! Free ports on loopback.
//!
//! A port is free at the moment it is picked; each caller gets other ports, so that one test never picks one twice.
//! `ANCHORNET_TEST_PORTS=first-last` keeps them in a range of the caller's choice.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::Context;

/// Ports below the range from which systems take ephemeral ones.
const DEFAULT_RANGE: (u16, u16) = (21_000, 29_999);

/// A port that is free for TCP and for UDP.
///
/// # Errors
/// When the whole range is taken.
#[expect(clippy::disallowed_methods, reason = "the shell of the tests")]
pub fn free() -> anyhow::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let (first, last) = range()?;
    let count = last - first + 1;
    // Tests are processes of their own: each starts elsewhere in the range.
    let start = u16::try_from(std::process::id() % u32::from(count)).unwrap_or_default();
    for _ in 0..count {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = first + (start.wrapping_add(step)) % count;
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no free port between {first} and {last}")
}

fn range() -> anyhow::Result<(u16, u16)> {
    let Ok(range) = std::env::var("ANCHORNET_TEST_PORTS") else {
        return Ok(DEFAULT_RANGE);
    };
    let (first, last) = range
        .split_once('-')
        .context("ANCHORNET_TEST_PORTS is first-last")?;
    Ok((first.parse()?, last.parse()?))
}
