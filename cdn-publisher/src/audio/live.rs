//! The program's sound once more, as Opus packets of 20 ms for viewers in real time (RFC 7587).
//!
//! It is cut from the very samples that go to the AAC encoder, and exists only while somebody wants it. The bus runs ahead of
//! the program by what the AAC encoder looks ahead; packets wait here until the picture of the same moment is released.
//!
//! Invariants:
//! - Packets lie on a grid: each begins at a multiple of 20 ms of program time at 48 kHz. None is missing,
//!   unless the encoder fails.
//! - A bus that follows a host's clock steps by a sample now and then; the sound here steps with it.
//! - At most [`MAX_WAITING`] packets wait; beyond that the oldest is dropped.

use std::collections::VecDeque;

use media::{AccessUnit, Rate, Timestamp};

use super::codec::{EncodePacket, Frame};
use super::packets::Packets;
use super::resampler::Converter;

/// Half a second: many times what the AAC encoder looks ahead.
const MAX_WAITING: usize = 25;

/// Cuts packets and holds them until they are due.
#[derive(Debug)]
pub(crate) struct Live {
    packets: Packets,
    /// To 48 kHz, where the bus has another rate.
    converter: Option<Converter>,
    /// Where the next block of the bus is expected, in its own samples.
    next: i64,
    scratch: Vec<Frame>,
    waiting: VecDeque<AccessUnit>,
}

impl Live {
    /// Sound that begins with the first packet of the grid at or after `position`, in samples of program time at `rate`.
    pub(crate) fn new(encoder: Box<dyn EncodePacket>, position: i64, rate: Rate) -> Self {
        let start = Timestamp::new(position, rate).rescale(Rate::AUDIO).ticks();
        Self {
            packets: Packets::new(encoder, start).on_grid(),
            converter: (rate != Rate::AUDIO).then(|| Converter::new(rate, Rate::AUDIO)),
            next: position,
            scratch: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Takes the block whose first sample is `position` of program time, at the bus's rate. Blocks follow each other without a
    /// gap, but for a step of a sample.
    pub(crate) fn push(&mut self, position: i64, block: &[Frame]) {
        let step = position.saturating_sub(self.next).clamp(-1, 1);
        let block = match (step, block) {
            (-1, [_, rest @ ..]) => rest,
            (1, [first, ..]) => {
                self.take(&[*first]);
                block
            }
            _ => block,
        };
        self.take(block);
        let length = i64::try_from(block.len()).unwrap_or(i64::MAX);
        self.next = position.saturating_add(length);
    }

    fn take(&mut self, frames: &[Frame]) {
        self.scratch.clear();
        match &mut self.converter {
            Some(converter) => converter.push(frames, &mut self.scratch),
            None => self.scratch.extend_from_slice(frames),
        }
        let waiting = &mut self.waiting;
        let encoded = self.packets.push(&self.scratch, |unit| {
            waiting.push_back(unit);
            if waiting.len() > MAX_WAITING {
                waiting.pop_front();
            }
        });
        if let Err(error) = encoded {
            tracing::error!(%error, "a packet of live sound is left out");
        }
    }

    /// Program time of the first sample of the next packet, in nanoseconds.
    pub(crate) fn next_ns(&self) -> Option<i64> {
        self.waiting.front().map(|unit| unit.pts.as_nanos())
    }

    /// The next packet, if it begins at or before `horizon_ns` of program time.
    pub(crate) fn pop(&mut self, horizon_ns: i64) -> Option<AccessUnit> {
        self.next_ns().filter(|next| *next <= horizon_ns)?;
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::PACKET_SAMPLES;
    use super::super::packets::PACKET;
    use super::*;
    use crate::Error;
    use bytes::Bytes;

    /// A packet says which sample it begins with.
    #[derive(Debug)]
    struct First;

    impl EncodePacket for First {
        fn encode(&mut self, pcm: &[Frame]) -> Result<Bytes, Error> {
            assert_eq!(pcm.len(), PACKET_SAMPLES);
            let [first, _] = pcm[0];
            assert!(pcm.windows(2).all(|pair| pair[1][0] == pair[0][0] + 1.0));
            Ok(Bytes::copy_from_slice(&first.to_be_bytes()))
        }
    }

    #[test]
    fn packets_hold_the_samples_of_their_place() {
        for start in [0_i64, 1, 333, 959, 960, -1_000] {
            let mut live = Live::new(Box::new(First), start, Rate::AUDIO);
            let mut last = None;
            for block in 0..20 {
                let position = start + block * 1_024;
                let frames: Vec<Frame> = (0..1_024).map(|n| [(position + n) as f32, 0.0]).collect();
                live.push(position, &frames);
                while let Some(unit) = live.pop(i64::MAX) {
                    let at = unit.pts.ticks();
                    assert_eq!(at % PACKET, 0);
                    assert_eq!(unit.data[..], (at as f32).to_be_bytes());
                    assert!(last.is_none_or(|last| at == last + PACKET));
                    last = Some(at);
                }
            }
            assert!(last.is_some_and(|last| last > start + 18 * 1_024));
        }
    }

    #[test]
    fn a_bus_that_steps_takes_its_listeners_along() {
        #[derive(Debug)]
        struct Silent;
        impl EncodePacket for Silent {
            fn encode(&mut self, _: &[Frame]) -> Result<Bytes, Error> {
                Ok(Bytes::from_static(b"x"))
            }
        }
        for (rate, step) in [(48_000, 1), (48_000, -1), (44_100, 1), (44_100, 0)] {
            let rate = Rate::new(rate).unwrap();
            let mut live = Live::new(Box::new(Silent), 0, rate);
            let (mut position, mut last) = (0, 0);
            for _ in 0..1_000 {
                live.push(position, &[[0.0; 2]; 1_024]);
                position += 1_024 + step;
                while let Some(unit) = live.pop(i64::MAX) {
                    last = unit.pts.as_nanos();
                }
            }
            let behind = Timestamp::new(position, rate).as_nanos() - last;
            assert!(
                (0..60_000_000).contains(&behind),
                "{rate:?} {step}: {behind}"
            );
        }
    }

    #[test]
    fn packets_wait_for_their_time_and_not_without_bound() {
        let mut live = Live::new(Box::new(First), 0, Rate::AUDIO);
        let frames: Vec<Frame> = (0..100 * 960).map(|n| [n as f32, 0.0]).collect();
        live.push(0, &frames);
        assert_eq!(live.waiting.len(), MAX_WAITING);
        let next = live.next_ns().unwrap();
        assert_eq!(next, 75 * 20_000_000);
        assert_eq!(live.pop(next - 1), None);
        assert!(live.pop(next).is_some());
    }
}
