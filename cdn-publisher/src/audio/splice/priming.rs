//! *Extra priming*: an encoder that starts knows nothing of what came before, and its first units are spoilt by that.
//!
//! A new encoder is fed from several units before the one that is wanted, with the sound that was heard there, and what it
//! makes of them is thrown away. Three units suffice (two lack 26 dB); the rest settles its rate control.

use bytes::Bytes;

use crate::Error;
use crate::audio::codec::{Encode, Frame, UNIT_SAMPLES};

/// Units that are thrown away.
pub(crate) const PRIMING_UNITS: usize = 8;

const UNIT: i64 = UNIT_SAMPLES as i64;

/// Where an encoder with this delay is fed from, so that its output `units` is the unit of `slot`.
pub(super) fn start(slot: i64, delay: i64, units: usize) -> i64 {
    let units = i64::try_from(units).unwrap_or_default();
    (slot - units) * UNIT + delay
}

/// What an encoder makes around its first published unit.
#[derive(Debug)]
pub(super) struct Primed {
    /// The last unit that is thrown away.
    pub(super) before: Option<Bytes>,
    pub(super) first: Bytes,
}

/// Feeds an encoder `sound` (by position), up to what it needs for the unit of `slot`.
pub(super) fn prime(
    encoder: &mut dyn Encode,
    slot: i64,
    units: usize,
    sound: impl Fn(i64) -> Frame,
) -> Result<Primed, Error> {
    let mut position = start(slot, encoder.delay_samples().into(), units);
    let mut block = [Frame::default(); UNIT_SAMPLES];
    let mut next = || {
        for (at, frame) in (position..).zip(&mut block) {
            *frame = sound(at);
        }
        position += UNIT;
        encoder.encode(&block)
    };
    let mut before = None;
    for _ in 0..units {
        before = Some(next()?);
    }
    Ok(Primed {
        before,
        first: next()?,
    })
}
