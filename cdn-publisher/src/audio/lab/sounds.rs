//! Speech and music made up from a seed: what the splicer is tried on, since no recording is ours to give away.

use std::f64::consts::TAU;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Frame;

/// Something like a voice: voiced sounds of three formants over a wandering pitch, hisses, stops and pauses, a little
/// different on the two sides.
#[must_use]
pub fn speech(seed: u64, rate_hz: u32, samples: usize) -> Vec<Frame> {
    let mut rng = StdRng::seed_from_u64(seed);
    let rate = f64::from(rate_hz);
    let mut out = Vec::with_capacity(samples);
    let mut formants = [Resonator::default(); 3];
    let (mut phase, mut pitch) = (0.0, rng.random_range(95.0..190.0));
    let mut level = 0.0;
    let mut past = [0.0; 16];
    while out.len() < samples {
        let kind = Phone::pick(&mut rng);
        let length = rng.random_range(0.05..0.16) * rate;
        let glide = rng.random_range(-60.0..60.0);
        let loud = kind.loudness() * rng.random_range(0.6..1.0);
        for (formant, (frequency, width)) in formants.iter_mut().zip(kind.formants(&mut rng)) {
            formant.tune(frequency / rate, width / rate);
        }
        for _ in 0..whole(length).min(samples - out.len()) {
            pitch = (pitch + glide / rate).clamp(80.0, 260.0);
            phase += pitch / rate;
            let pulse = if phase >= 1.0 { 1.0 } else { 0.0 };
            phase -= pulse;
            let breath = rng.random_range(-1.0..1.0);
            let source = match kind {
                Phone::Vowel => 9.0 * pulse + 0.02 * breath,
                Phone::Hiss => 0.5 * breath,
                Phone::Stop => 0.9 * breath,
                Phone::Pause => 0.002 * breath,
            };
            level += (loud - level) * 120.0 / rate;
            let voice: f64 = formants.iter_mut().map(|f| f.run(source)).sum();
            let left = 26_000.0 * level * voice;
            past.rotate_right(1);
            let [newest, .., oldest] = &mut past;
            *newest = left;
            out.push([
                single(left),
                single(0.7 * *oldest + 0.2 * left + 6.0 * breath),
            ]);
        }
    }
    out
}

#[derive(Clone, Copy)]
enum Phone {
    Vowel,
    Hiss,
    Stop,
    Pause,
}

impl Phone {
    fn pick(rng: &mut StdRng) -> Self {
        match rng.random_range(0..20) {
            0..12 => Self::Vowel,
            12..15 => Self::Hiss,
            15..18 => Self::Stop,
            _ => Self::Pause,
        }
    }

    fn loudness(self) -> f64 {
        match self {
            Self::Vowel => 1.0,
            Self::Hiss => 0.4,
            Self::Stop => 0.8,
            Self::Pause => 0.05,
        }
    }

    /// Centres and widths in Hz.
    fn formants(self, rng: &mut StdRng) -> [(f64, f64); 3] {
        match self {
            Self::Vowel | Self::Pause => [
                (rng.random_range(280.0..850.0), 80.0),
                (rng.random_range(900.0..2_300.0), 110.0),
                (rng.random_range(2_400.0..3_200.0), 170.0),
            ],
            Self::Hiss => [(4_500.0, 1_500.0), (6_500.0, 2_000.0), (8_500.0, 2_500.0)],
            Self::Stop => [(500.0, 600.0), (1_700.0, 900.0), (3_800.0, 1_500.0)],
        }
    }
}

/// A two-pole resonance of unit gain at its centre.
#[derive(Clone, Copy, Default)]
struct Resonator {
    gain: f64,
    a1: f64,
    a2: f64,
    y1: f64,
    y2: f64,
}

impl Resonator {
    /// Both in cycles per sample.
    fn tune(&mut self, centre: f64, width: f64) {
        let radius = (-std::f64::consts::PI * width).exp();
        self.a1 = 2.0 * radius * (TAU * centre).cos();
        self.a2 = -radius * radius;
        self.gain = (1.0 - radius)
            * (1.0 + radius * radius - 2.0 * radius * (2.0 * TAU * centre).cos()).sqrt();
    }

    fn run(&mut self, x: f64) -> f64 {
        let y = self.gain * x + self.a1 * self.y1 + self.a2 * self.y2;
        (self.y1, self.y2) = (y, self.y1);
        y
    }
}

/// Chords over a bass and a beat: tones with overtones that begin sharply and ring, drums of noise, spread over the two
/// sides.
#[must_use]
pub fn music(seed: u64, rate_hz: u32, samples: usize) -> Vec<Frame> {
    let mut rng = StdRng::seed_from_u64(seed);
    let rate = f64::from(rate_hz);
    let mut out = vec![[0.0; 2]; samples];
    let root = rng.random_range(100.0..180.0);
    let beat = rng.random_range(0.24..0.4) * rate;
    let wave = Wave::new();
    let mut start = 0.0;
    while whole(start) < samples {
        let degree = [0.0, 5.0, 7.0, 9.0][rng.random_range(0..4)];
        for interval in [0.0, 4.0, 7.0, 12.0] {
            let frequency = root * f64::powf(2.0, (degree + interval) / 12.0) / rate;
            let pan = rng.random_range(0.2..0.8);
            let phase = rng.random_range(0.0..1.0);
            let decay = rng.random_range(2.0..5.0) / rate;
            for (n, frame) in out
                .iter_mut()
                .skip(whole(start))
                .take(whole(3.0 * beat))
                .enumerate()
            {
                let n = n as f64;
                let attack = (n / (0.004 * rate)).min(1.0);
                let release = ((3.0 * beat - n) / (0.02 * rate)).clamp(0.0, 1.0);
                let envelope = 1_300.0 * attack * release * (-n * decay).exp();
                let tone = wave.at(frequency * n + phase);
                frame[0] += single(envelope * tone * (1.0 - pan));
                frame[1] += single(envelope * tone * pan);
            }
        }
        let drum = rng.random_range(600.0..2_500.0);
        for (n, frame) in out
            .iter_mut()
            .skip(whole(start))
            .take(whole(0.08 * rate))
            .enumerate()
        {
            let envelope = drum * (-(n as f64) / (0.015 * rate)).exp();
            frame[0] += single(envelope * rng.random_range(-1.0..1.0));
            frame[1] += single(envelope * rng.random_range(-1.0..1.0));
        }
        start += beat;
    }
    for frame in &mut out {
        for value in frame {
            *value += single(rng.random_range(-15.0..15.0));
        }
    }
    out
}

/// One period of a tone with five overtones.
struct Wave(Vec<f64>);

impl Wave {
    const POINTS: u32 = 8_192;

    fn new() -> Self {
        let value = |at: u32| {
            let angle = TAU * f64::from(at) / f64::from(Self::POINTS);
            (1..=6)
                .map(|k| (f64::from(k) * angle).sin() / f64::from(k))
                .sum()
        };
        Self((0..=Self::POINTS).map(value).collect())
    }

    /// At a number of periods.
    fn at(&self, periods: f64) -> f64 {
        let at = periods.rem_euclid(1.0) * f64::from(Self::POINTS);
        match self.0.get(whole(at)..) {
            Some([low, high, ..]) => low + (high - low) * at.fract(),
            _ => 0.0,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "lengths of sounds in memory; `as` saturates"
)]
fn whole(value: f64) -> usize {
    value as usize
}

#[expect(clippy::cast_possible_truncation, reason = "samples")]
fn single(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sounds_are_the_same_for_the_same_seed_and_neither_silent_nor_clipped() {
        for make in [speech, music] {
            let sound = make(7, 48_000, 96_000);
            assert_eq!(sound, make(7, 48_000, 96_000));
            assert_ne!(sound, make(8, 48_000, 96_000));
            let peak = sound.iter().flatten().fold(0.0f32, |a, b| a.max(b.abs()));
            let energy: f64 = sound.iter().flatten().map(|v| f64::from(*v).powi(2)).sum();
            let rms = (energy / 192_000.0).sqrt();
            println!("peak {peak:.0}, RMS {rms:.0}");
            assert!((4_000.0..32_000.0).contains(&peak), "{peak}");
            assert!(rms > 500.0, "{rms}");
        }
    }
}
