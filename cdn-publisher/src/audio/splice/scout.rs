//! Where a joint is worth trying.
//!
//! A try costs as many units as priming takes. An encoder that merely goes on with the host's sound costs one unit per slot,
//! and mostly chooses the windows that a freshly primed one would choose: where its windows do not meet the host's, those
//! of a try would not either.

use super::priming::{PRIMING_UNITS, prime, start};
use super::window::{Window, peek};
use crate::Error;
use crate::audio::codec::{Encode, Frame, UNIT_SAMPLES};

/// An encoder of the host's sound alone.
#[derive(Debug)]
pub(super) struct Scout {
    encoder: Box<dyn Encode>,
    channels: u8,
    slot: i64,
    windows: Option<(Window, Window)>,
}

impl Scout {
    /// Begins at a slot.
    pub(super) fn new(
        mut encoder: Box<dyn Encode>,
        channels: u8,
        slot: i64,
        sound: impl Fn(i64) -> Frame,
    ) -> Result<Self, Error> {
        let primed = prime(encoder.as_mut(), slot, PRIMING_UNITS, sound)?;
        let before = primed.before.and_then(|unit| peek(&unit, channels));
        Ok(Self {
            windows: before.zip(peek(&primed.first, channels)),
            encoder,
            channels,
            slot,
        })
    }

    /// Goes on to the next slot.
    pub(super) fn advance(&mut self, sound: impl Fn(i64) -> Frame) -> Result<(), Error> {
        self.slot += 1;
        let from = start(self.slot, self.encoder.delay_samples().into(), 0);
        let mut block = [Frame::default(); UNIT_SAMPLES];
        for (at, frame) in (from..).zip(&mut block) {
            *frame = sound(at);
        }
        let unit = self.encoder.encode(&block)?;
        let (before, next) = (self.windows, peek(&unit, self.channels));
        self.windows = before.map(|(_, before)| before).zip(next);
        Ok(())
    }

    pub(super) fn slot(&self) -> i64 {
        self.slot
    }

    /// Of the unit before, and of the slot's.
    pub(super) fn windows(&self) -> Option<(Window, Window)> {
        self.windows
    }
}
