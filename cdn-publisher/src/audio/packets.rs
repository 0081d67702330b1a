//! Opus packets of 20 ms (RFC 7587), cut from a contiguous sound at 48 kHz.
//!
//! Invariant: packets follow each other without a gap from one [`Packets::restart`] to the next. One that cannot be encoded is
//! left out, which listeners conceal like a loss.

use std::sync::Arc;

use media::{AccessUnit, Config, Rate, Timestamp, Track, opus};

use super::bus::AUDIO_TRACK;
use super::codec::{EncodePacket, Frame, PACKET_SAMPLES};
use crate::Error;

pub(crate) const PACKET: i64 = PACKET_SAMPLES as i64;

/// Collects samples until they fill a packet.
#[derive(Debug)]
pub(crate) struct Packets {
    encoder: Box<dyn EncodePacket>,
    track: Arc<Track>,
    /// Samples of a packet that is not full yet.
    pcm: Vec<Frame>,
    /// Time of the first of them, in samples.
    at: i64,
    /// Samples to be dropped before that.
    skip: usize,
}

impl Packets {
    /// Sound whose first sample lies at `at`.
    pub(crate) fn new(encoder: Box<dyn EncodePacket>, at: i64) -> Self {
        Self {
            encoder,
            track: Arc::new(Track {
                id: AUDIO_TRACK,
                config: Config::Opus(opus::Config { channels: 2 }),
                rate: Rate::AUDIO,
            }),
            pcm: Vec::with_capacity(PACKET_SAMPLES),
            at,
            skip: 0,
        }
    }

    /// Packets begin at multiples of their length: what comes before the first of them is dropped.
    pub(crate) fn on_grid(mut self) -> Self {
        let early = (PACKET - self.at.rem_euclid(PACKET)) % PACKET;
        self.skip = usize::try_from(early).unwrap_or_default();
        self.at = self.at.saturating_add(early);
        self
    }

    /// Sound begins anew at `at`; what does not fill a packet is dropped.
    pub(crate) fn restart(&mut self, at: i64) {
        self.pcm.clear();
        self.at = at;
        self.skip = 0;
    }

    /// Takes the sound that follows, and gives the packets that it completes.
    ///
    /// # Errors
    /// [`Error::Codec`] when a packet could not be encoded; the others are given all the same.
    pub(crate) fn push(
        &mut self,
        frames: &[Frame],
        mut give: impl FnMut(AccessUnit),
    ) -> Result<(), Error> {
        let skipped = self.skip.min(frames.len());
        self.skip -= skipped;
        let mut result = Ok(());
        for frame in frames.iter().skip(skipped) {
            self.pcm.push(*frame);
            if self.pcm.len() < PACKET_SAMPLES {
                continue;
            }
            let at = Timestamp::new(self.at, Rate::AUDIO);
            match self.encoder.encode(&self.pcm) {
                Ok(data) => give(AccessUnit {
                    track: Arc::clone(&self.track),
                    pts: at,
                    dts: at,
                    keyframe: true,
                    discontinuity: false,
                    data,
                }),
                Err(error) => result = Err(error),
            }
            self.pcm.clear();
            self.at += PACKET;
        }
        result
    }
}
