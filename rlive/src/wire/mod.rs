//! What relays and players say to each other by UDP. docs/rlive.md has the diagrams.
//!
//! [`data`] carries frames, [`control`] the handshake and the session, [`heartbeat`] what relays tell a scheduler. Every datagram fits into 1200 bytes, so that it
//! passes any path of IPv6's least MTU (1280 − 40 − 8, and some room).
//!
//! Invariants: what belongs to a session ends with a MAC, which is checked before anything else is read; parsers are
//! total; the answer to an address that has not proved itself is never larger than what came from it.

pub mod advice;
pub mod control;
pub mod data;
pub mod heartbeat;

use aws_lc_rs::hmac;
use bytes::Buf;
use media::ticket::Key;

/// The largest datagram.
pub const MAX_DATAGRAM_BYTES: usize = 1_200;
/// Bytes of the MAC at the end of a datagram.
pub const MAC_BYTES: usize = 8;

const VERSION: u8 = 1;

/// The types of datagrams, with their number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A packet of a frame.
    Data = 1,
    /// A player asks for substreams.
    Subscribe = 2,
    /// Prove your address first.
    Challenge = 3,
    /// The session is open.
    Accept = 4,
    /// It is not.
    Refuse = 5,
    /// A relay tells a scheduler how it is.
    Heartbeat = 6,
    /// Packets are missing.
    Nack = 7,
    /// The player lives, and how it fares.
    Report = 8,
    /// A scheduler tells a relay how full others are.
    Advice = 9,
    /// The answer to a report.
    Pong = 10,
    /// A relay suggests to go elsewhere.
    Suggest = 11,
    /// The end, from either side.
    Bye = 12,
    /// Where do you see me?
    Where = 13,
    /// There.
    Seen = 14,
    /// Opens the way through translators of addresses.
    Punch = 15,
}

impl Kind {
    pub(crate) fn byte(self) -> u8 {
        (VERSION << 4) | self as u8
    }

    /// The type of a datagram; `None` when it is not of this protocol.
    #[must_use]
    pub fn of(datagram: &[u8]) -> Option<Self> {
        let byte = datagram.first()?;
        [
            Self::Data,
            Self::Subscribe,
            Self::Challenge,
            Self::Accept,
            Self::Refuse,
            Self::Heartbeat,
            Self::Nack,
            Self::Report,
            Self::Advice,
            Self::Pong,
            Self::Suggest,
            Self::Bye,
            Self::Where,
            Self::Seen,
            Self::Punch,
        ]
        .into_iter()
        .find(|kind| kind.byte() == *byte)
    }
}

/// Why a datagram is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is shorter than it says.
    #[error("the datagram is truncated")]
    Truncated,
    /// A field has a value that the protocol forbids.
    #[error("the datagram is invalid: {0}")]
    Invalid(&'static str),
    /// It does not come from whom it says.
    #[error("the MAC is wrong")]
    Forged,
}

/// The keys of one session, one for each direction.
#[derive(Clone)]
pub struct Keys {
    up: hmac::Key,
    down: hmac::Key,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From player to relay.
    Up,
    /// From relay to player.
    Down,
}

impl Keys {
    /// The keys that a ticket's session key stands for.
    #[must_use]
    pub fn new(session: &Key) -> Self {
        let key = |purpose| hmac_key(&session.for_purpose(purpose));
        Self {
            up: key("up"),
            down: key("down"),
        }
    }

    fn key(&self, direction: Direction) -> &hmac::Key {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    /// Appends the MAC of all that is there.
    pub fn seal(&self, direction: Direction, datagram: &mut Vec<u8>) {
        seal(self.key(direction), datagram);
    }

    /// The datagram without its MAC.
    ///
    /// # Errors
    /// [`Error::Forged`].
    pub fn open<'a>(&self, direction: Direction, datagram: &'a [u8]) -> Result<&'a [u8], Error> {
        open(self.key(direction), datagram)
    }
}

pub(crate) fn hmac_key(key: &Key) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes())
}

pub(crate) fn seal(key: &hmac::Key, datagram: &mut Vec<u8>) {
    let mac = hmac::sign(key, datagram);
    datagram.extend_from_slice(mac.as_ref().get(..MAC_BYTES).unwrap_or_default());
}

pub(crate) fn open<'a>(key: &hmac::Key, datagram: &'a [u8]) -> Result<&'a [u8], Error> {
    let at = datagram
        .len()
        .checked_sub(MAC_BYTES)
        .ok_or(Error::Truncated)?;
    let (body, mac) = datagram.split_at(at);
    let expected = hmac::sign(key, body);
    let expected = expected.as_ref().get(..MAC_BYTES).unwrap_or_default();
    aws_lc_rs::constant_time::verify_slices_are_equal(expected, mac).map_err(|_| Error::Forged)?;
    Ok(body)
}

impl From<bytes::TryGetError> for Error {
    fn from(_: bytes::TryGetError) -> Self {
        Self::Truncated
    }
}

impl From<media::Error> for Error {
    fn from(error: media::Error) -> Self {
        match matches!(error, media::Error::Truncated { .. }) {
            true => Self::Truncated,
            false => Self::Invalid("an entry"),
        }
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Error> {
    let mut out = [0; N];
    bytes.try_copy_to_slice(&mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests;
