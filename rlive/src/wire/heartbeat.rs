//! What a relay tells the scheduler about itself, in one datagram of at most 148 bytes.
//!
//! A relay that serves more substreams than [`MAX_SERVED`] names them in turns. The MAC is by a key that follows from the
//! relay's own; time and number keep an old heartbeat from being played again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BufMut};
use media::ticket::Key;

use super::{Error, Kind, MAC_BYTES, take};

/// Substreams that one heartbeat names.
pub const MAX_SERVED: usize = 14;
/// The longest heartbeat.
pub const MAX_BYTES: usize = FIXED_BYTES + MAX_SERVED * SERVED_BYTES + MAC_BYTES;

const FIXED_BYTES: usize = 56;
const SERVED_BYTES: usize = 6;
/// Flag: the relay is being shut down.
const LEAVING: u8 = 1;
/// Flag: it asks how full others are.
const ASKS: u8 = 2;

/// A stream's name in four bytes. Two streams of the same tag share recommendations, which costs a little and breaks
/// nothing.
#[must_use]
pub fn stream_tag(stream: &str) -> u32 {
    fnv1a(stream.as_bytes())
}

/// A region's name in four bytes; no name is 0.
#[must_use]
pub fn region_tag(region: &str) -> u32 {
    match region.is_empty() {
        true => 0,
        false => fnv1a(region.as_bytes()),
    }
}

/// FNV-1a with 32 bits.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// A substream that the relay has from the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Served {
    /// The stream: [`stream_tag`].
    pub stream: u32,
    /// The substream.
    pub substream: u8,
    /// Players that get it; 255 stands for more.
    pub players: u8,
}

/// How a relay is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Which relay.
    pub relay: u64,
    /// Seconds since 1970.
    pub wall_s: u32,
    /// Counts the relay's heartbeats.
    pub seq: u32,
    /// Where players reach it.
    pub address: SocketAddr,
    /// Where it is: [`region_tag`].
    pub region: u32,
    /// What it can send, in kilobits per second; 0: unknown.
    pub capacity_kbps: u32,
    /// What it sends now.
    pub used_kbps: u32,
    /// Sessions now.
    pub sessions: u16,
    /// Sessions at most.
    pub max_sessions: u16,
    /// How busy its processor is, in percent.
    pub cpu: u8,
    /// How much of its memory it takes, in percent.
    pub memory: u8,
    /// Bytes that it sends for one that it gets, in tenths; 255 stands for more.
    pub expansion: u8,
    /// It asks how full others are: see [`super::advice`].
    pub asks: bool,
    /// It takes nobody any more.
    pub leaving: bool,
    /// What it serves; more than [`MAX_SERVED`] are left out.
    pub served: Vec<Served>,
}

impl Heartbeat {
    /// The key that heartbeats of the relay with this key are sealed with.
    #[must_use]
    pub fn key(relay: &Key) -> Key {
        relay.for_purpose("heartbeat")
    }

    /// The datagram.
    #[must_use]
    pub fn write(&self, key: &Key) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_BYTES);
        out.put_u8(Kind::Heartbeat.byte());
        let leaving = if self.leaving { LEAVING } else { 0 };
        out.put_u8(leaving | if self.asks { ASKS } else { 0 });
        out.put_u16(self.address.port());
        out.put_u64(self.relay);
        out.put_u32(self.wall_s);
        out.put_u32(self.seq);
        let ip = match self.address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        out.put_slice(&ip.octets());
        out.put_u32(self.region);
        out.put_u32(self.capacity_kbps);
        out.put_u32(self.used_kbps);
        out.put_u16(self.sessions);
        out.put_u16(self.max_sessions);
        out.put_u8(self.cpu);
        let served = self.served.get(..MAX_SERVED).unwrap_or(&self.served);
        out.put_u8(u8::try_from(served.len()).unwrap_or_default());
        out.put_u8(self.memory);
        out.put_u8(self.expansion);
        for served in served {
            out.put_u32(served.stream);
            out.put_u8(served.substream);
            out.put_u8(served.players);
        }
        super::seal(&super::hmac_key(key), &mut out);
        out
    }

    /// Which relay a heartbeat says it is from; its MAC decides whether it is.
    #[must_use]
    pub fn relay_of(datagram: &[u8]) -> Option<u64> {
        if Kind::of(datagram) != Some(Kind::Heartbeat) {
            return None;
        }
        let bytes: [u8; 8] = datagram.get(4..12)?.try_into().ok()?;
        Some(u64::from_be_bytes(bytes))
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`Error`].
    pub fn read(datagram: &[u8], key: &Key) -> Result<Self, Error> {
        if Kind::of(datagram) != Some(Kind::Heartbeat) {
            return Err(Error::Invalid("not a heartbeat"));
        }
        let mut body = super::open(&super::hmac_key(key), datagram)?;
        body.try_get_u8()?;
        let flags = body.try_get_u8()?;
        let port = body.try_get_u16()?;
        let relay = body.try_get_u64()?;
        let wall_s = body.try_get_u32()?;
        let seq = body.try_get_u32()?;
        let ip = Ipv6Addr::from(take::<16>(&mut body)?);
        let ip = ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4);
        let region = body.try_get_u32()?;
        let capacity_kbps = body.try_get_u32()?;
        let used_kbps = body.try_get_u32()?;
        let sessions = body.try_get_u16()?;
        let max_sessions = body.try_get_u16()?;
        let cpu = body.try_get_u8()?;
        let count = usize::from(body.try_get_u8()?);
        let memory = body.try_get_u8()?;
        let expansion = body.try_get_u8()?;
        if count > MAX_SERVED || body.len() != count * SERVED_BYTES {
            return Err(Error::Invalid("a heartbeat of impossible length"));
        }
        if port == 0 || ip.is_unspecified() || ip.is_multicast() || ip == Ipv4Addr::BROADCAST {
            return Err(Error::Invalid("nobody can be reached there"));
        }
        let mut served = Vec::with_capacity(count);
        for _ in 0..count {
            served.push(Served {
                stream: body.try_get_u32()?,
                substream: body.try_get_u8()?,
                players: body.try_get_u8()?,
            });
        }
        Ok(Self {
            relay,
            wall_s,
            seq,
            address: SocketAddr::new(ip, port),
            region,
            capacity_kbps,
            used_kbps,
            sessions,
            max_sessions,
            cpu,
            memory,
            expansion,
            asks: flags & ASKS != 0,
            leaving: flags & LEAVING != 0,
            served,
        })
    }

    /// How full the relay is by what it has least of, 0 to 1.
    #[must_use]
    pub fn load(&self) -> f32 {
        let part = |used: u32, of: u32| match of {
            0 => 0.0,
            of => {
                let permille = u64::from(used) * 1_000 / u64::from(of);
                f32::from(u16::try_from(permille).unwrap_or(u16::MAX)) / 1_000.0
            }
        };
        let bandwidth = part(self.used_kbps, self.capacity_kbps);
        let sessions = match self.max_sessions {
            0 => 1.0,
            most => part(self.sessions.into(), most.into()),
        };
        let own = f32::from(self.cpu.max(self.memory)) / 100.0;
        bandwidth.max(sessions).max(own).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> Key {
        Heartbeat::key(&Key::of_relay(b"secret", 7))
    }

    fn any_heartbeat() -> impl Strategy<Value = Heartbeat> {
        let served = (any::<u32>(), any::<u8>(), any::<u8>());
        let served = served.prop_map(|(stream, substream, players)| Served {
            stream,
            substream,
            players,
        });
        let v4 = (1..=223_u8, any::<[u8; 3]>());
        let v4 = v4.prop_map(|(a, [b, c, d])| IpAddr::from([a, b, c, d]));
        let v6 = any::<[u8; 14]>().prop_map(|rest| {
            let mut bytes = [0x20; 16];
            bytes[2..].copy_from_slice(&rest);
            IpAddr::from(bytes)
        });
        let ip = prop_oneof![v4, v6];
        (
            (any::<u64>(), any::<u32>(), any::<u32>(), ip, 1..=u16::MAX),
            (any::<u32>(), any::<u32>(), any::<u32>()),
            (any::<u16>(), any::<u16>(), any::<u8>(), any::<bool>()),
            proptest::collection::vec(served, 0..=MAX_SERVED),
        )
            .prop_map(|(a, b, c, served)| Heartbeat {
                relay: a.0,
                wall_s: a.1,
                seq: a.2,
                address: SocketAddr::new(a.3, a.4),
                region: b.0,
                capacity_kbps: b.1,
                used_kbps: b.2,
                sessions: c.0,
                max_sessions: c.1,
                cpu: c.2,
                memory: c.2 ^ 0x1f,
                expansion: c.2 ^ 0xa2,
                asks: c.3 ^ (a.2 & 1 == 0),
                leaving: c.3,
                served,
            })
    }

    proptest! {
        #[test]
        fn heartbeats_round_trip_and_any_change_is_found(
            heartbeat in any_heartbeat(), at in any::<proptest::sample::Index>(), bit in 0_u8..8,
        ) {
            let mut wire = heartbeat.write(&key());
            prop_assert!(wire.len() <= 150);
            prop_assert!((0.0..=1.0).contains(&heartbeat.load()));
            prop_assert_eq!(Heartbeat::relay_of(&wire), Some(heartbeat.relay));
            prop_assert_eq!(Heartbeat::read(&wire, &key()), Ok(heartbeat));
            let at = at.index(wire.len());
            wire[at] ^= 1 << bit;
            prop_assert!(Heartbeat::read(&wire, &key()).is_err());
        }

        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), sealed in any::<bool>()) {
            if let Some(first) = bytes.first_mut() {
                *first = Kind::Heartbeat.byte();
            }
            if sealed {
                crate::wire::seal(&crate::wire::hmac_key(&key()), &mut bytes);
            }
            let _ = Heartbeat::relay_of(&bytes);
            let _ = Heartbeat::read(&bytes, &key());
        }
    }
}
