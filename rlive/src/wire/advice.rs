//! What a scheduler answers a relay that asks in its heartbeat: how full others are that have the same substreams.
//!
//! It is sealed with the key of the relay's heartbeats and names the heartbeat that it answers; it is not larger.

use bytes::{Buf, BufMut};
use media::ticket::Key;

use super::heartbeat::MAX_SERVED;
use super::{Error, Kind, hmac_key, open, seal};

/// Others that have one substream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Others {
    /// The stream: [`super::heartbeat::stream_tag`].
    pub stream: u32,
    /// The substream.
    pub substream: u8,
    /// How many; 255 stands for more.
    pub relays: u8,
    /// How full they are on average, 0 to 1; in steps of 1/255 on the wire.
    pub load: f32,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// The relay that has asked.
    pub relay: u64,
    /// The number of its heartbeat.
    pub seq: u32,
    /// For the substreams that it has named.
    pub others: Vec<Others>,
}

impl Advice {
    /// The datagram.
    #[must_use]
    pub fn write(&self, key: &Key) -> Vec<u8> {
        let others = self.others.get(..MAX_SERVED).unwrap_or(&self.others);
        let count = u8::try_from(others.len()).unwrap_or_default();
        let mut out = vec![Kind::Advice.byte(), count, 0, 0];
        out.put_u64(self.relay);
        out.put_u32(self.seq);
        for others in others {
            out.put_u32(others.stream);
            out.put_u8(others.substream);
            out.put_u8(others.relays);
            out.put_u8(to_byte(others.load));
        }
        seal(&hmac_key(key), &mut out);
        out
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`Error`].
    pub fn read(datagram: &[u8], key: &Key) -> Result<Self, Error> {
        if Kind::of(datagram) != Some(Kind::Advice) {
            return Err(Error::Invalid("not an advice"));
        }
        let mut body = open(&hmac_key(key), datagram)?;
        body.try_get_u8()?;
        let count = usize::from(body.try_get_u8()?);
        body.try_get_u16()?;
        let (relay, seq) = (body.try_get_u64()?, body.try_get_u32()?);
        if count > MAX_SERVED {
            return Err(Error::Invalid("too many substreams"));
        }
        let mut others = Vec::with_capacity(count);
        for _ in 0..count {
            others.push(Others {
                stream: body.try_get_u32()?,
                substream: body.try_get_u8()?,
                relays: body.try_get_u8()?,
                load: f32::from(body.try_get_u8()?) / 255.0,
            });
        }
        Ok(Self { relay, seq, others })
    }
}

/// A part in 255 steps.
fn to_byte(part: f32) -> u8 {
    let steps = (part.clamp(0.0, 1.0) * 255.0).round();
    (0..=u8::MAX)
        .find(|step| f32::from(*step) >= steps)
        .unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> Key {
        Key::of_relay(b"secret", 7)
    }

    proptest! {
        #[test]
        fn advice_round_trips_and_damage_is_found(
            relay in any::<u64>(), seq in any::<u32>(), load in any::<u8>(), count in 0..=MAX_SERVED, at in any::<proptest::sample::Index>(),
        ) {
            let others = Others { stream: seq ^ 5, substream: 3, relays: 9, load: f32::from(load) / 255.0 };
            let advice = Advice { relay, seq, others: vec![others; count] };
            let mut wire = advice.write(&key());
            prop_assert!(wire.len() <= 64 + 7 * count);
            prop_assert_eq!(Advice::read(&wire, &key()), Ok(advice));
            let at = at.index(wire.len());
            wire[at] ^= 1;
            prop_assert!(Advice::read(&wire, &key()).is_err());
        }

        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Some(first) = bytes.first_mut() {
                *first = Kind::Advice.byte();
            }
            seal(&hmac_key(&key()), &mut bytes);
            let _ = Advice::read(&bytes, &key());
        }
    }
}
