//! Sounds whose defects can be measured.

use std::f64::consts::TAU;

/// Samples per second of every clip.
pub const SAMPLE_RATE: u32 = 48_000;
/// The continuous tone in the left channel.
pub const TONE_HZ: f64 = 1_000.0;
/// The beep in the right channel, 100 ms at each whole second.
pub const BEEP_HZ: f64 = 600.0;

/// The guest's tone, in the right channel.
pub const GUEST_HZ: f64 = 2_400.0;

/// What is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sound {
    /// Left: 1 kHz without end, for clicks and gaps. Right: a beep at each whole second, for the A/V offset.
    ToneAndBeeps,
    /// Left: nothing. Right: 2.4 kHz without end. Beside [`Sound::ToneAndBeeps`] both can be told apart, and the left
    /// channel stays a pure tone.
    GuestTone,
    /// Notes with overtones and a hiss, the same in both channels, for alignment and quality: unlike a tone it
    /// correlates with itself at one offset only.
    Music,
}

/// `seconds` of interleaved stereo.
#[must_use]
pub fn samples(sound: Sound, seconds: u32) -> Vec<[f32; 2]> {
    let count = seconds * SAMPLE_RATE;
    match sound {
        Sound::ToneAndBeeps => (0..count).map(tone_and_beeps).collect(),
        Sound::GuestTone => (0..count)
            .map(|n| [0.0, single(0.2 * (TAU * GUEST_HZ * seconds_of(n)).sin())])
            .collect(),
        Sound::Music => {
            let mut hiss = Hiss(0x2545_f491_4f6c_dd1d);
            (0..count).map(|n| music(n, &mut hiss)).collect()
        }
    }
}

fn seconds_of(n: u32) -> f64 {
    f64::from(n) / f64::from(SAMPLE_RATE)
}

fn tone_and_beeps(n: u32) -> [f32; 2] {
    let t = seconds_of(n);
    let beep = if n % SAMPLE_RATE < SAMPLE_RATE / 10 {
        0.4
    } else {
        0.0
    };
    [
        single(0.4 * (TAU * TONE_HZ * t).sin()),
        single(beep * (TAU * BEEP_HZ * t).sin()),
    ]
}

fn music(n: u32, hiss: &mut Hiss) -> [f32; 2] {
    const NOTES: [f64; 8] = [220.0, 277.18, 329.63, 440.0, 369.99, 293.66, 246.94, 493.88];
    let t = seconds_of(n);
    let step = usize::try_from(n / (SAMPLE_RATE / 4)).unwrap_or_default();
    let since = t - f64::from(n / (SAMPLE_RATE / 4)) * 0.25;
    let note = NOTES[(step * 5 + step / 8) % NOTES.len()];
    let envelope = (since / 0.01).min(1.0) * (-since * 6.0).exp();
    let voice: f64 = (1..=5)
        .map(|k| (TAU * note * f64::from(k) * t).sin() / f64::from(k * k))
        .sum();
    let bass = (TAU * note / 4.0 * t).sin() * 0.2;
    let value = single(0.25 * envelope * voice + 0.3 * bass + 0.01 * hiss.next());
    [value, value]
}

/// Deterministic white noise in −1..1 (xorshift).
struct Hiss(u64);

impl Hiss {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        f64::from(u32::try_from(self.0 >> 32).unwrap_or_default()) / f64::from(u32::MAX) * 2.0 - 1.0
    }
}

#[expect(clippy::cast_possible_truncation, reason = "samples lie in -1..1")]
fn single(value: f64) -> f32 {
    value as f32
}
