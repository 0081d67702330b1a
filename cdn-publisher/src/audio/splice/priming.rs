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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::codec::{AacDecoder, AacEncoder, AacSettings, Decode};
    use crate::audio::lab::sounds;
    use media::aac::Config;

    const SLOT: i64 = 40;

    /// How well block [`SLOT`] and the next come out, when an encoder that was primed by `units` follows one that never
    /// stopped.
    fn snr(units: usize) -> f64 {
        let sound = sounds::music(4, 48_000, 60 * UNIT_SAMPLES);
        let at = |position: i64| sound[usize::try_from(position).unwrap()];
        let encoder = || AacEncoder::new(AacSettings::stereo_48k(192_000, true)).unwrap();
        let (mut old, mut new) = (encoder(), encoder());
        let delay = i64::from(old.delay_samples());
        let mut bits = Vec::new();
        let before = prime(&mut old, SLOT - 1, 30, at).unwrap();
        bits.extend([before.before.unwrap(), before.first]);
        bits.push(prime(&mut new, SLOT, units, at).unwrap().first);
        let next = start(SLOT + 1, delay, 0);
        let block: Vec<Frame> = (next..next + UNIT).map(at).collect();
        bits.push(new.encode(&block).unwrap());
        let mut decoder = AacDecoder::new(&Config::lc(48_000, 2).unwrap()).unwrap();
        let mut out = Vec::new();
        for unit in bits {
            decoder.decode(&unit, &mut out).unwrap();
        }
        let (mut signal, mut noise) = (0.0, 1e-9);
        for (heard, position) in out[2 * UNIT_SAMPLES..].iter().zip(SLOT * UNIT..) {
            for (heard, meant) in heard.iter().zip(at(position)) {
                signal += f64::from(meant).powi(2);
                noise += f64::from(heard - meant).powi(2);
            }
        }
        10.0 * (signal / noise).log10()
    }

    #[test]
    fn three_units_suffice_and_fewer_do_not() {
        let found: Vec<f64> = (0..=PRIMING_UNITS).map(snr).collect();
        println!("{found:.1?}");
        let settled = found[PRIMING_UNITS];
        assert!(settled > 25.0);
        assert!(found[0] < settled - 20.0);
        assert!(found[3..].iter().all(|snr| *snr > settled - 3.0));
    }
}
