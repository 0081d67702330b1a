//! Who may ask a relay for a stream, and which relays the origin feeds: keys, tickets and passes.
//!
//! The origin has one secret. Each relay gets a key of its own, derived from that secret and its id, so a relay that is
//! taken over gives nobody else away. The origin seals a [`Ticket`] for a player and one relay; the relay can check it
//! alone. Both ends derive the key of their session from it: the player is given the key beside the ticket, the relay
//! computes it, and on the wire the ticket without the key is worth nothing. A [`Pass`] is what a relay shows the origin.
//!
//! All are HMAC-SHA-256 (RFC 2104), truncated to 16 bytes in tickets and passes and to 8 in packets. Expiry is seconds of
//! wall-clock time since 1970.

use aws_lc_rs::{constant_time, hmac};
use bytes::{Buf, BufMut, Bytes};

/// The longest name of a stream in a ticket, in bytes.
pub const MAX_STREAM_NAME_BYTES: usize = 128;
/// The longest ticket, in bytes.
pub const MAX_TICKET_BYTES: usize = MAX_STREAM_NAME_BYTES + 34;

const VERSION: u8 = 1;
const MAC_BYTES: usize = 16;

/// Why a ticket or pass is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not what it should be at all.
    #[error("it is malformed")]
    Malformed,
    /// Its seal is not ours.
    #[error("it was not sealed with this key")]
    Forged,
    /// It was good once.
    #[error("it has expired")]
    Expired,
}

/// A 256-bit key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

/// Keys stay out of logs.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// The key of a relay, derived from the origin's secret.
    #[must_use]
    pub fn of_relay(secret: &[u8], relay: u64) -> Self {
        Self::derive(secret, &[b"anchornet relay 1", &relay.to_be_bytes()])
    }

    /// The key of the scheduler, derived from the origin's secret: the origin seals tickets with it that players show there.
    #[must_use]
    pub fn of_scheduler(secret: &[u8]) -> Self {
        Self::derive(secret, &[b"anchornet scheduler 1"])
    }

    /// What a stream's frames are signed from in one of its lives, derived from the origin's secret.
    #[must_use]
    pub fn of_stream(secret: &[u8], stream: &str, epoch: u16) -> Self {
        Self::derive(
            secret,
            &[
                b"anchornet frames 1",
                &epoch.to_be_bytes(),
                stream.as_bytes(),
            ],
        )
    }

    /// The key of the session that a sealed ticket opens.
    #[must_use]
    pub fn of_session(&self, sealed: &[u8]) -> Self {
        Self::derive(&self.0, &[b"session", sealed])
    }

    /// A key for one purpose, derived from this one.
    #[must_use]
    pub fn for_purpose(&self, purpose: &str) -> Self {
        Self::derive(&self.0, &[purpose.as_bytes()])
    }

    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        from_hex(text)?.try_into().ok().map(Self)
    }

    /// 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        to_hex(&self.0)
    }

    /// The raw key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn derive(key: &[u8], parts: &[&[u8]]) -> Self {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        parts.iter().for_each(|part| context.update(part));
        let mut out = [0; 32];
        for (to, from) in out.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        Self(out)
    }

    fn seal(&self, mut body: Vec<u8>) -> Vec<u8> {
        let Self(mac) = Self::derive(&self.0, &[b"seal", &body]);
        body.extend_from_slice(mac.get(..MAC_BYTES).unwrap_or_default());
        body
    }

    fn open<'a>(&self, sealed: &'a [u8]) -> Result<&'a [u8], Refused> {
        let at = sealed
            .len()
            .checked_sub(MAC_BYTES)
            .ok_or(Refused::Malformed)?;
        let (body, mac) = sealed.split_at(at);
        let Self(expected) = Self::derive(&self.0, &[b"seal", body]);
        let expected = expected.get(..MAC_BYTES).unwrap_or_default();
        constant_time::verify_slices_are_equal(expected, mac).map_err(|_| Refused::Forged)?;
        Ok(body)
    }
}

/// What a player may ask of one relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The stream.
    pub stream: String,
    /// Until when a session can be opened.
    pub expires_s: u32,
    /// What the relay may send to the player, in kilobits per second.
    pub max_kbps: u32,
    /// Makes every ticket, and so every session key, another one.
    pub nonce: u64,
}

impl Ticket {
    /// The ticket for the relay of this key.
    #[must_use]
    pub fn seal(&self, relay: &Key) -> Vec<u8> {
        let name = self.stream.as_bytes();
        let name = name.get(..MAX_STREAM_NAME_BYTES).unwrap_or(name);
        let mut body = vec![VERSION, u8::try_from(name.len()).unwrap_or_default()];
        body.put_slice(name);
        body.put_u32(self.expires_s);
        body.put_u32(self.max_kbps);
        body.put_u64(self.nonce);
        relay.seal(body)
    }

    /// Opens a ticket for the relay of this key.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn open(relay: &Key, sealed: &[u8], now_s: u32) -> Result<Self, Refused> {
        let mut body = relay.open(sealed)?;
        let malformed = |_| Refused::Malformed;
        if body.try_get_u8().map_err(malformed)? != VERSION {
            return Err(Refused::Malformed);
        }
        let name_bytes = usize::from(body.try_get_u8().map_err(malformed)?);
        let (name, mut rest) = body
            .split_at_checked(name_bytes)
            .ok_or(Refused::Malformed)?;
        let stream = std::str::from_utf8(name).map_err(|_| Refused::Malformed)?;
        let ticket = Self {
            stream: stream.to_owned(),
            expires_s: rest.try_get_u32().map_err(malformed)?,
            max_kbps: rest.try_get_u32().map_err(malformed)?,
            nonce: rest.try_get_u64().map_err(malformed)?,
        };
        match ticket.expires_s > now_s {
            true => Ok(ticket),
            false => Err(Refused::Expired),
        }
    }
}

/// A relay's proof to the origin of who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The relay.
    pub relay: u64,
    /// Until when it can be shown.
    pub expires_s: u32,
}

impl Pass {
    /// As text, for a request's head.
    #[must_use]
    pub fn seal(&self, relay: &Key) -> String {
        let mut body = self.relay.to_be_bytes().to_vec();
        body.put_u32(self.expires_s);
        to_hex(&relay.seal(body))
    }

    /// Checks a pass against the key that the relay it names must have.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn open(secret: &[u8], text: &str, now_s: u32) -> Result<Self, Refused> {
        let sealed = Bytes::from(from_hex(text).ok_or(Refused::Malformed)?);
        let relay = sealed.clone().try_get_u64();
        let relay = relay.map_err(|_| Refused::Malformed)?;
        let mut body = Key::of_relay(secret, relay).open(&sealed)?;
        body.advance(8.min(body.len()));
        let expires_s = body.try_get_u32().map_err(|_| Refused::Malformed)?;
        match expires_s > now_s {
            true => Ok(Self { relay, expires_s }),
            false => Err(Refused::Expired),
        }
    }
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| {
        char::from(
            DIGITS
                .get(usize::from(value & 15))
                .copied()
                .unwrap_or_default(),
        )
    };
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
        .collect()
}

/// Reads hexadecimal digits in pairs; `None` for anything else.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u32 = 1_700_000_000;

    fn ticket() -> Ticket {
        Ticket {
            stream: "demo".into(),
            expires_s: NOW + 60,
            max_kbps: 8_000,
            nonce: 7,
        }
    }

    #[test]
    fn a_ticket_is_good_at_its_relay_until_it_expires() {
        let (relay, other) = (Key::of_relay(b"secret", 1), Key::of_relay(b"secret", 2));
        let sealed = ticket().seal(&relay);
        assert!(sealed.len() <= MAX_TICKET_BYTES);
        assert_eq!(Ticket::open(&relay, &sealed, NOW), Ok(ticket()));
        assert_eq!(Ticket::open(&other, &sealed, NOW), Err(Refused::Forged));
        assert_eq!(
            Ticket::open(&relay, &sealed, NOW + 60),
            Err(Refused::Expired)
        );
        assert_ne!(relay.of_session(&sealed), other.of_session(&sealed));
    }

    #[test]
    fn a_pass_names_its_relay() {
        let pass = Pass {
            relay: 9,
            expires_s: NOW + 60,
        };
        let text = pass.seal(&Key::of_relay(b"secret", 9));
        assert_eq!(Pass::open(b"secret", &text, NOW), Ok(pass));
        assert_eq!(Pass::open(b"another", &text, NOW), Err(Refused::Forged));
        let stolen = pass.seal(&Key::of_relay(b"secret", 8));
        assert_eq!(Pass::open(b"secret", &stolen, NOW), Err(Refused::Forged));
        assert_eq!(
            Pass::open(b"secret", &text, NOW + 61),
            Err(Refused::Expired)
        );
        assert_eq!(Pass::open(b"secret", "0g", NOW), Err(Refused::Malformed));
    }

    proptest! {
        #[test]
        fn any_change_is_found(at in any::<proptest::sample::Index>(), bit in 0_u8..8) {
            let relay = Key::of_relay(b"secret", 1);
            let mut sealed = ticket().seal(&relay);
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert_eq!(Ticket::open(&relay, &sealed, NOW), Err(Refused::Forged));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..80), text in "\\PC{0,60}") {
            let relay = Key::of_relay(b"secret", 1);
            prop_assert!(Ticket::open(&relay, &bytes, NOW).is_err());
            // Sealed by the right key, but not a ticket.
            let _ = Ticket::open(&relay, &relay.seal(bytes.clone()), NOW);
            prop_assert!(Pass::open(b"secret", &text, NOW).is_err());
            prop_assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        }
    }
}
