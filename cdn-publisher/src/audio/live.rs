//! The program's sound once more, as Opus packets of 20 ms for viewers in real time (RFC 7587).
//!
//! It is cut from the very samples that go to the AAC encoder, and exists only while somebody wants it. The bus runs ahead of
//! the program by what the AAC encoder looks ahead; packets wait here until the picture of the same moment is released.
//!
//! Invariants:
//! - Packets lie on a grid: each begins at a multiple of [`PACKET_SAMPLES`] of program time. None is missing, unless the
//!   encoder fails.
//! - At most [`MAX_WAITING`] packets wait; beyond that the oldest is dropped.

use std::collections::VecDeque;
use std::sync::Arc;

use media::{AccessUnit, Config, Rate, Timestamp, Track, opus};

use super::bus::AUDIO_TRACK;
use super::codec::{EncodePacket, Frame, PACKET_SAMPLES};

/// Half a second: many times what the AAC encoder looks ahead.
const MAX_WAITING: usize = 25;
const PACKET: i64 = PACKET_SAMPLES as i64;

/// Cuts packets and holds them until they are due.
#[derive(Debug)]
pub(crate) struct Live {
    encoder: Box<dyn EncodePacket>,
    track: Arc<Track>,
    /// Samples of a packet that is not full yet.
    pcm: Vec<Frame>,
    /// Program sample of the first of them.
    at: i64,
    waiting: VecDeque<AccessUnit>,
}

impl Live {
    /// Sound that begins with the first packet of the grid at or after program sample `position`.
    pub(crate) fn new(encoder: Box<dyn EncodePacket>, position: i64) -> Self {
        Self {
            encoder,
            track: Arc::new(Track {
                id: AUDIO_TRACK,
                config: Config::Opus(opus::Config { channels: 2 }),
                rate: Rate::AUDIO,
            }),
            pcm: Vec::with_capacity(PACKET_SAMPLES),
            at: next_on_grid(position),
            waiting: VecDeque::new(),
        }
    }

    /// Takes the block whose first sample is program sample `position`. Blocks follow each other without a gap.
    pub(crate) fn push(&mut self, position: i64, block: &[Frame]) {
        let next = self
            .at
            .saturating_add(i64::try_from(self.pcm.len()).unwrap_or(i64::MAX));
        let early = usize::try_from(next.saturating_sub(position)).unwrap_or(0);
        for frame in block.iter().skip(early) {
            self.pcm.push(*frame);
            if self.pcm.len() == PACKET_SAMPLES {
                self.encode();
            }
        }
    }

    fn encode(&mut self) {
        let at = Timestamp::new(self.at, Rate::AUDIO);
        match self.encoder.encode(&self.pcm) {
            Ok(data) => self.waiting.push_back(AccessUnit {
                track: Arc::clone(&self.track),
                pts: at,
                dts: at,
                keyframe: true,
                discontinuity: false,
                data,
            }),
            // Listeners conceal it like a lost packet.
            Err(error) => tracing::error!(%error, "a packet of live sound is left out"),
        }
        self.pcm.clear();
        self.at += PACKET;
        if self.waiting.len() > MAX_WAITING {
            self.waiting.pop_front();
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

fn next_on_grid(position: i64) -> i64 {
    position.saturating_add((PACKET - position.rem_euclid(PACKET)) % PACKET)
}

#[cfg(test)]
mod tests {
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
            let mut live = Live::new(Box::new(First), start);
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
    fn packets_wait_for_their_time_and_not_without_bound() {
        let mut live = Live::new(Box::new(First), 0);
        let frames: Vec<Frame> = (0..100 * 960).map(|n| [n as f32, 0.0]).collect();
        live.push(0, &frames);
        assert_eq!(live.waiting.len(), MAX_WAITING);
        let next = live.next_ns().unwrap();
        assert_eq!(next, 75 * 20_000_000);
        assert_eq!(live.pop(next - 1), None);
        assert!(live.pop(next).is_some());
    }
}
