//! Start-up self-test: can a broadcaster reach the WebRTC port on the addresses that SDP answers advertise?
//!
//! Wrong `external_ips` and closed firewalls are the most common reasons for "it connects but no picture". The test
//! sends a STUN binding request (RFC 8489 §5) from a fresh socket to each advertised address and awaits any answer
//! with its transaction id. Behind a NAT without hairpinning a working address may stay silent, hence a warning and
//! a readiness note, never a refusal to start.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::Serialize;
use tokio::net::UdpSocket;

const TRIES: u32 = 3;
const WAIT: Duration = Duration::from_millis(300);
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const MAGIC_COOKIE: u32 = 0x2112_a442;

/// The result for one advertised address.
#[derive(Clone, Debug, Serialize)]
pub struct Reachability {
    /// What SDP answers advertise.
    pub address: SocketAddr,
    /// An answer came back.
    pub reachable: bool,
}

/// Probes every address, all at once.
pub async fn probe(addresses: Vec<SocketAddr>) -> Vec<Reachability> {
    let probes = addresses.into_iter().map(|address| async move {
        let reachable = probe_one(address).await.unwrap_or(false);
        Reachability { address, reachable }
    });
    futures_util::future::join_all(probes).await
}

async fn probe_one(address: SocketAddr) -> io::Result<bool> {
    let any: IpAddr = if address.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "the self-test is a shell with a socket of its own"
    )]
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(address).await?;
    let transaction: [u8; 12] = rand::random();
    let mut answer = [0; 256];
    for _ in 0..TRIES {
        socket.send(&binding_request(transaction)).await?;
        if let Ok(length) = tokio::time::timeout(WAIT, socket.recv(&mut answer)).await {
            let answer = answer.get(..length?).unwrap_or_default();
            if is_answer(answer, transaction) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn binding_request(transaction: [u8; 12]) -> [u8; 20] {
    let mut request = [0; 20];
    request[..2].copy_from_slice(&BINDING_REQUEST.to_be_bytes());
    request[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    request[8..].copy_from_slice(&transaction);
    request
}

fn is_answer(answer: &[u8], transaction: [u8; 12]) -> bool {
    answer.get(..2) == Some(&BINDING_SUCCESS.to_be_bytes())
        && answer.get(8..20) == Some(&transaction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answering_port_is_reachable_and_a_silent_one_is_not() {
        #[expect(clippy::disallowed_methods, reason = "a test peer")]
        let echo = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
        let address = echo.local_addr().expect("bound");
        #[expect(clippy::disallowed_methods, reason = "a test peer that never answers")]
        let silent = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
        let silent_address = silent.local_addr().expect("bound");
        let answer = tokio::spawn(async move {
            let mut request = [0; 64];
            let (length, from) = echo.recv_from(&mut request).await.expect("request");
            request[..2].copy_from_slice(&BINDING_SUCCESS.to_be_bytes());
            echo.send_to(&request[..length], from).await.expect("sent");
        });
        let results = probe(vec![address, silent_address]).await;
        answer.await.expect("answered");
        assert_eq!(
            results.iter().map(|r| r.reachable).collect::<Vec<_>>(),
            [true, false]
        );
    }
}
