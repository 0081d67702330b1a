//! When a relay tells the scheduler about itself, and what.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use media::ticket::Key;

use super::Relay;
use crate::wire::heartbeat::{Heartbeat, MAX_SERVED};

/// How often a relay with sessions says how it is.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often one without sessions does.
pub const HEARTBEAT_IDLE: Duration = Duration::from_secs(10);

/// What a relay says of itself in every heartbeat.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) relay: u64,
    pub(crate) key: Key,
    pub(crate) address: SocketAddr,
    pub(crate) region: u32,
    pub(crate) capacity_kbps: u32,
}

/// The heartbeat of a relay.
#[derive(Debug)]
pub(crate) struct Pulse {
    identity: Identity,
    key: Key,
    seq: u32,
    due: Instant,
    /// Whether there were sessions, and whether it was leaving, at the last one.
    state: (bool, bool),
    /// Bytes that had been sent at the last one, and when that was.
    sent: (u64, Instant),
    /// Bytes that had come from the origin.
    received: u64,
    /// Which substream is named first.
    turn: usize,
}

impl Pulse {
    /// The first heartbeat is due now.
    pub(crate) fn new(now: Instant, identity: Identity) -> Self {
        Self {
            key: Heartbeat::key(&identity.key),
            identity,
            seq: 0,
            due: now,
            state: (false, false),
            sent: (0, now),
            received: 0,
            turn: 0,
        }
    }

    /// The next heartbeat, if it is due: in time, or because the relay is not idle any more, or leaves.
    pub(crate) fn poll(&mut self, now: Instant, wall_s: u32, relay: &Relay) -> Option<Vec<u8>> {
        let state = (relay.sessions() > 0, relay.is_leaving());
        if self.due > now && state == self.state {
            return None;
        }
        self.state = state;
        self.due = now
            + match state {
                (true, _) => HEARTBEAT,
                (false, _) => HEARTBEAT_IDLE,
            };
        self.seq = self.seq.wrapping_add(1);
        Some(self.heartbeat(now, wall_s, relay).write(&self.key))
    }

    fn heartbeat(&mut self, now: Instant, wall_s: u32, relay: &Relay) -> Heartbeat {
        let counters = &relay.counters;
        let sent = counters.sent_bytes + counters.resent_bytes;
        let (before, at) = std::mem::replace(&mut self.sent, (sent, now));
        let ms = now.saturating_duration_since(at).as_millis().max(1);
        let kbps = u128::from(sent.saturating_sub(before)) * 8 / ms;
        let received = counters.received_bytes;
        let got = received.saturating_sub(std::mem::replace(&mut self.received, received));
        let tenths = sent.saturating_sub(before) * 10 / got.max(1);
        let tenths = if got == 0 { 0 } else { tenths };
        let mut served = relay.served();
        if served.len() > MAX_SERVED {
            self.turn %= served.len();
            served.rotate_left(self.turn);
            served.truncate(MAX_SERVED);
            self.turn += MAX_SERVED;
        }
        let small = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        Heartbeat {
            relay: self.identity.relay,
            wall_s,
            seq: self.seq,
            address: self.identity.address,
            region: self.identity.region,
            capacity_kbps: self.identity.capacity_kbps,
            used_kbps: u32::try_from(kbps).unwrap_or(u32::MAX),
            sessions: small(relay.sessions()),
            max_sessions: small(relay.max_sessions()),
            cpu: percent(relay.usage().cpu),
            memory: percent(relay.usage().memory),
            expansion: u8::try_from(tenths).unwrap_or(u8::MAX),
            asks: relay.asks(now),
            leaving: relay.is_leaving(),
            served,
        }
    }
}

/// A part as percent, rounded down.
fn percent(part: f32) -> u8 {
    (0..100)
        .find(|percent| f32::from(percent + 1) > part * 100.0)
        .unwrap_or(100)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do in a test")]
mod tests {
    use super::super::{Config, Input};
    use super::*;

    #[test]
    fn it_beats_in_time_and_when_the_relay_leaves() {
        let (now, key) = (Instant::now(), Key::of_relay(b"secret", 7));
        let mut relay = Relay::new(now, Config::default(), key.clone(), [0; 32]);
        let identity = Identity {
            relay: 7,
            key: key.clone(),
            address: SocketAddr::from(([10, 0, 0, 1], 4_000)),
            region: 3,
            capacity_kbps: 1_000,
        };
        let mut pulse = Pulse::new(now, identity);
        let read = |bytes: Option<Vec<u8>>| {
            Heartbeat::read(&bytes.expect("due"), &Heartbeat::key(&key)).expect("sealed")
        };
        let first = read(pulse.poll(now, 5, &relay));
        assert_eq!((first.relay, first.seq, first.wall_s), (7, 1, 5));
        let soon = now + HEARTBEAT_IDLE - Duration::from_millis(1);
        assert_eq!(pulse.poll(soon, 15, &relay), None);
        relay.counters.sent_bytes = 1_250_000;
        let second = read(pulse.poll(now + HEARTBEAT_IDLE, 15, &relay));
        assert_eq!((second.seq, second.used_kbps), (2, 1_000));
        assert!((second.load() - 1.0).abs() < 0.01, "its bandwidth is used");
        relay.handle(now, Input::Leave);
        let last = read(pulse.poll(now + HEARTBEAT_IDLE, 15, &relay));
        assert!(last.leaving);
    }
}
