//! A contiguous stretch of one source's own samples, and the place in it that is read.
//!
//! Reading at a whole position with step 1 gives the samples themselves, bit for bit; elsewhere it interpolates. What lies
//! outside the stretch is exact silence.

use super::codec::Frame;
use super::resampler::{HALF, TAPS, interpolate};

/// Fade at both ends of a run: 5 ms in, and the last concealed 20 ms out.
pub(super) const FADE_IN_SAMPLES: i64 = 240;
pub(super) const FADE_OUT_SAMPLES: usize = 960;
/// Cross-fade over a jump: 10 ms.
pub(super) const SLIP_FADE_SAMPLES: i64 = 480;
/// A contiguous stretch of decoded sound. Positions are counted in its own samples.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) pcm: Vec<Frame>,
    /// Position of `pcm`'s first frame.
    pub(super) base: i64,
    /// Position that is read next: whole part and fraction in [0, 1).
    pub(super) whole: i64,
    pub(super) fraction: f64,
    /// Where the next decoded sample belongs by the last packet's timestamp, in samples of program time.
    pub(super) next_at: f64,
    /// Length of the last packet.
    pub(super) packet_samples: i64,
    /// Concealed since the last packet, and at most.
    pub(super) concealed: i64,
    pub(super) conceal_max: i64,
    /// Nothing more is decoded; what is left is played.
    pub(super) ending: bool,
    /// The first position that is heard: 0, or later when the run starts late.
    pub(super) first_heard: i64,
    /// A second reading position that is being faded out after a jump: distance to the first, samples left.
    pub(super) slip: Option<(i64, i64)>,
}

impl Run {
    pub(super) fn end(&self) -> i64 {
        self.base + i64::try_from(self.pcm.len()).unwrap_or(i64::MAX)
    }

    pub(super) fn sample(&self, position: i64) -> Frame {
        usize::try_from(position - self.base)
            .ok()
            .and_then(|at| self.pcm.get(at))
            .copied()
            .unwrap_or_default()
    }

    /// The sound at `whole + offset + fraction`.
    fn read(&self, offset: i64) -> Frame {
        let whole = self.whole + offset;
        if self.fraction == 0.0 {
            return self.sample(whole);
        }
        let first = whole + 1 - HALF;
        let window = usize::try_from(first - self.base)
            .ok()
            .and_then(|at| self.pcm.get(at..)?.first_chunk::<TAPS>());
        if let Some(window) = window {
            return interpolate(window, self.fraction);
        }
        let mut edge = [Frame::default(); TAPS];
        for (position, frame) in (first..).zip(&mut edge) {
            *frame = self.sample(position);
        }
        interpolate(&edge, self.fraction)
    }

    fn advance(&mut self, step: f64) {
        self.fraction += step;
        // At most twice: steps are close to 1.
        while self.fraction >= 1.0 {
            self.fraction -= 1.0;
            self.whole += 1;
        }
        if let Some((_, left)) = &mut self.slip {
            *left -= 1;
            if *left <= 0 {
                self.slip = None;
            }
        }
    }

    /// Adds the next samples to `out`, advancing by `step` for each. Returns how many were outside the run.
    pub(super) fn play(&mut self, step: f64, out: &mut [Frame]) -> usize {
        if step == 1.0 && self.fraction == 0.0 && self.slip.is_none() {
            return self.play_exactly(out);
        }
        let mut silent = 0;
        for frame in out {
            silent += usize::from(self.whole < 0 || self.whole >= self.end());
            let mut sound = self.read(0);
            if let Some((distance, left)) = self.slip {
                let old = self.read(distance);
                let weight = left as f32 / SLIP_FADE_SAMPLES as f32;
                for (new, old) in sound.iter_mut().zip(old) {
                    *new += (old - *new) * weight;
                }
            }
            add(frame, sound);
            self.advance(step);
        }
        silent
    }

    fn play_exactly(&mut self, out: &mut [Frame]) -> usize {
        let length = i64::try_from(out.len()).unwrap_or_default();
        let from = usize::try_from(self.whole - self.base).ok();
        let block = from.and_then(|from| self.pcm.get(from..)?.get(..out.len()));
        let mut silent = 0;
        if let Some(block) = block.filter(|_| self.whole >= 0) {
            for (frame, sound) in out.iter_mut().zip(block) {
                add(frame, *sound);
            }
        } else {
            for (position, frame) in (self.whole..).zip(out) {
                silent += usize::from(position < 0 || position >= self.end());
                add(frame, self.sample(position));
            }
        }
        self.whole += length;
        silent
    }

    /// Moves to the whole position that is next to the present one.
    pub(super) fn settle(&mut self) {
        if self.fraction > 0.5 {
            self.whole += 1;
        }
        self.fraction = 0.0;
    }

    pub(super) fn forget_history(&mut self, samples: i64) {
        let keep_from = self.whole - samples;
        let count = usize::try_from(keep_from - self.base).unwrap_or_default();
        let count = count.min(self.pcm.len());
        // What is kept is moved, so that is worth doing only when as much can go.
        if count.saturating_mul(2) < self.pcm.len() {
            return;
        }
        self.pcm.drain(..count);
        self.base += i64::try_from(count).unwrap_or_default();
    }

    /// Fades in what was appended from position `from` on.
    pub(super) fn fade_in(&mut self, from: i64) {
        let start = usize::try_from(from - self.base).unwrap_or(usize::MAX);
        for (position, frame) in (from..).zip(self.pcm.iter_mut().skip(start)) {
            let age = position - self.first_heard;
            if age >= FADE_IN_SAMPLES {
                break;
            }
            let gain = age.max(0) as f32 / FADE_IN_SAMPLES as f32;
            *frame = frame.map(|sample| sample * gain);
        }
    }

    pub(super) fn fade_out(&mut self) {
        let length = self.pcm.len().min(FADE_OUT_SAMPLES);
        for (left, frame) in self.pcm.iter_mut().rev().take(length).enumerate() {
            let gain = left as f32 / length as f32;
            *frame = frame.map(|sample| sample * gain);
        }
        self.ending = true;
    }
}

fn add(frame: &mut Frame, sound: Frame) {
    for (sum, sound) in frame.iter_mut().zip(sound) {
        *sum += sound;
    }
}
