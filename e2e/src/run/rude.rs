//! Bad neighbours: bytes that no honest client sends, from a seed, so that a failure can be repeated.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket};

/// Deterministic randomness (xorshift).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The same seed gives the same bytes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`; 0 when that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11)
            .unwrap_or_default()
            .checked_rem(end)
            .unwrap_or_default()
    }

    /// Random bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length)
            .map(|_| u8::try_from(self.below(256)).unwrap_or_default())
            .collect()
    }

    /// `bytes` with something wrong: bits flipped, cut short, doubled, or with a run replaced.
    pub fn damage(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut damaged = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(damaged.len());
            match self.below(5) {
                0 | 1 => {
                    if let Some(byte) = damaged.get_mut(at) {
                        *byte ^= 1 << self.below(8);
                    }
                }
                2 => damaged.truncate(at),
                3 => damaged.extend_from_within(at..),
                _ => {
                    let noise = self.bytes(8);
                    for (byte, noise) in damaged.iter_mut().skip(at).zip(noise) {
                        *byte = noise;
                    }
                }
            }
        }
        damaged
    }
}

/// Honest beginnings to damage, of what arrives at a WebRTC port: STUN (RFC 8489), a DTLS 1.2 ClientHello's record
/// (RFC 6347 §4.1), RTP (RFC 3550 §5.1) and RTCP.
#[must_use]
pub fn datagrams() -> Vec<Vec<u8>> {
    let stun = [
        &[
            0, 1, 0, 16, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
        ][..],
        &[0, 6, 0, 9][..],
        b"abcd:efgh\0\0\0",
    ]
    .concat();
    let dtls = [
        &[
            22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 52, 0, 0, 0, 0, 0, 0, 0, 52, 254,
            253,
        ][..],
        &[7; 50][..],
    ]
    .concat();
    let rtp = [
        &[
            0x80, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0x78, 0, 3, 0x67, 0x42,
        ][..],
        &[9; 100][..],
    ]
    .concat();
    let rtcp = vec![
        0x80, 200, 0, 6, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1,
    ];
    vec![stun, dtls, rtp, rtcp]
}

/// Sends `count` datagrams, damaged and random, to a UDP port of loopback.
///
/// # Errors
/// When no socket can be opened.
#[expect(clippy::disallowed_methods, reason = "the shell of the tests")]
pub async fn pelt_udp(port: u16, count: usize, mut dice: Dice) -> std::io::Result<()> {
    let honest = datagrams();
    let mut socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    for number in 0..count {
        if number % 100 == 99 {
            // Another address: a session of its own for the server.
            socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        }
        let choice = dice.below(honest.len() + 1);
        let datagram = match honest.get(choice) {
            Some(honest) => dice.damage(honest),
            None => {
                let length = dice.below(1_500);
                dice.bytes(length)
            }
        };
        // A full buffer loses it, as any network may.
        let _ = socket.send_to(&datagram, (Ipv4Addr::LOCALHOST, port)).await;
        if number % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Opens `count` connections one after another, each with one of `beginnings` damaged, then random bytes.
///
/// # Errors
/// Never on what the server does; when the system refuses a socket.
#[expect(clippy::disallowed_methods, reason = "the shell of the tests")]
pub async fn pelt_tcp(
    port: u16,
    count: usize,
    beginnings: &[Vec<u8>],
    mut dice: Dice,
) -> std::io::Result<()> {
    for _ in 0..count {
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
            continue;
        };
        let choice = dice.below(beginnings.len() + 1);
        let bytes = match beginnings.get(choice) {
            Some(honest) if dice.below(4) > 0 => dice.damage(honest),
            Some(honest) => honest.clone(),
            None => Vec::new(),
        };
        let length = dice.below(4_000);
        let noise = dice.bytes(length);
        let sent = async {
            stream.write_all(&bytes).await?;
            stream.write_all(&noise).await
        };
        // A server that has hung up, or does not read, is within its rights.
        let _ = tokio::time::timeout(Duration::from_millis(200), sent).await;
    }
    Ok(())
}

/// Opens connections that say nothing (or only `beginning`), and holds them.
#[expect(clippy::disallowed_methods, reason = "the shell of the tests")]
pub async fn hold_tcp(port: u16, count: usize, beginning: &[u8]) -> Vec<TcpStream> {
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
            let _ = stream.write_all(beginning).await;
            held.push(stream);
        }
    }
    held
}

/// A complete offer as a browser makes it, with H.264 and Opus. Nobody stands behind it: its session stays half open.
#[must_use]
pub fn offer(number: usize) -> String {
    let lines = [
        "v=0",
        &format!("o=- {number} 2 IN IP4 127.0.0.1"),
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0 1",
        "a=msid-semantic: WMS stream",
        "m=video 9 UDP/TLS/RTP/SAVPF 102",
        "c=IN IP4 0.0.0.0",
        "a=rtcp:9 IN IP4 0.0.0.0",
        &format!("a=ice-ufrag:u{number:06}"),
        "a=ice-pwd:abcdefghijklmnopqrstuvwx",
        "a=ice-options:trickle",
        "a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF",
        "a=setup:actpass",
        "a=mid:0",
        "a=sendonly",
        "a=msid:stream video",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        "a=rtpmap:102 H264/90000",
        "a=rtcp-fb:102 nack",
        "a=rtcp-fb:102 nack pli",
        "a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        &format!("a=ssrc:{} cname:one", 1_000 + number),
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "c=IN IP4 0.0.0.0",
        "a=rtcp:9 IN IP4 0.0.0.0",
        &format!("a=ice-ufrag:u{number:06}"),
        "a=ice-pwd:abcdefghijklmnopqrstuvwx",
        "a=ice-options:trickle",
        "a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF",
        "a=setup:actpass",
        "a=mid:1",
        "a=sendonly",
        "a=msid:stream audio",
        "a=rtcp-mux",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        &format!("a=ssrc:{} cname:one", 500_000 + number),
        "",
    ];
    lines.join("\r\n")
}
