//! Which media thread a session belongs to.
//!
//! Every channel has one: all its broadcasters and all who watch them, so packets never change threads. A session's id tells
//! its thread, for requests that name the session only. Each thread has a port of its own, the first the configured one and
//! the others those after it: a datagram reaches the thread that owns its session without anybody looking at it before.

use std::net::SocketAddr;

use tokio::sync::mpsc;
use uuid::Uuid;

use super::sdp::candidate::Candidate;
use super::socket::Command;
use super::types::SessionId;

/// One media thread, from outside.
pub(super) struct Shard {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) local: SocketAddr,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) candidates: Vec<Candidate>,
}

/// The thread of a channel among so many: FNV-1a, mixed once more, because names differ in their last letters. Nobody gains
/// from choosing a name.
pub(super) fn of_channel(channel: &str, threads: usize) -> usize {
    let hash = channel
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let [a, b, ..] = mixed.to_be_bytes();
    usize::from(u16::from_be_bytes([a, b])) % threads.max(1)
}

/// The thread of a session.
pub(super) fn of_session(id: SessionId, threads: usize) -> usize {
    let [.., last] = *id.0.as_bytes();
    usize::from(last) % threads.max(1)
}

/// A new session of a thread.
pub(super) fn new_session(thread: usize, threads: usize) -> SessionId {
    loop {
        let id = SessionId(Uuid::new_v4());
        if threads < 2 || of_session(id, threads) == thread {
            return id;
        }
    }
}

/// What one of so many threads may have of `limit`.
pub(super) fn share(limit: usize, threads: usize) -> usize {
    limit.div_ceil(threads.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_spread_and_sessions_tell_their_thread() {
        for threads in [1, 2, 3, 16] {
            let mut channels = vec![0; threads];
            for number in 0..1_600 {
                let thread = of_channel(&format!("channel-{number}"), threads);
                channels[thread] += 1;
                assert_eq!(of_session(new_session(thread, threads), threads), thread);
            }
            let fair = 1_600 / threads;
            assert!(
                channels
                    .iter()
                    .all(|count| (fair / 2..=2 * fair).contains(count)),
                "{channels:?}"
            );
        }
    }
}
