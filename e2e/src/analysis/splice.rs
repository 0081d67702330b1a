//! Whether a joint in a sound can be heard: the criteria of the splicer's workbench, shown able to fail.

pub use cdn_publisher::audio::lab::judge::{Reference, Verdict, judge};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::channel;
    use crate::analysis::codec::{ENCODER_DELAY, FRAME, decode_adts, encode, round_trip};
    use crate::clip::{Sound, samples};

    const SECONDS: u32 = 4;
    const KBPS: u32 = 128;

    struct Case {
        sound: Vec<[f32; 2]>,
        ideal: Vec<f64>,
        plain: Vec<Vec<f64>>,
    }

    impl Case {
        fn new() -> Self {
            let sound = samples(Sound::Music, SECONDS);
            let ideal = channel(&sound, 0);
            let plain = [KBPS, KBPS - 16]
                .map(|kbps| channel(&round_trip(&sound, kbps).unwrap(), 0))
                .to_vec();
            Self {
                sound,
                ideal,
                plain,
            }
        }

        fn judge(&self, candidate: &[f64], joint: usize) -> Verdict {
            let reference = Reference {
                rate_hz: crate::clip::SAMPLE_RATE,
                ideal: &self.ideal,
                plain: &self.plain,
            };
            judge(reference, candidate, joint)
        }

        /// Output frame `k` of an encoder begins at this sample of the sound.
        fn joint(frame: usize) -> usize {
            frame * FRAME - ENCODER_DELAY
        }
    }

    /// Joins frames `..at` of one encode with `second`, and decodes.
    fn spliced(first: &[Vec<u8>], at: usize, second: &[Vec<u8>]) -> Vec<f64> {
        let frames = [&first[..at], second].concat();
        channel(&decode_adts(&frames).unwrap()[ENCODER_DELAY..], 0)
    }

    const JOINTS: [usize; 4] = [50, 71, 88, 103];

    #[test]
    fn plain_encodes_pass_everywhere() {
        let case = Case::new();
        for frame in JOINTS {
            for encode in &case.plain {
                let verdict = case.judge(encode, Case::joint(frame));
                assert!(verdict.faults().is_empty(), "frame {frame}: {verdict:?}");
            }
        }
    }

    #[test]
    fn a_cold_second_encoder_fails_everywhere() {
        let case = Case::new();
        let first = encode(&case.sound, KBPS).unwrap();
        for frame in JOINTS {
            let second = encode(&case.sound[Case::joint(frame)..], KBPS).unwrap();
            let verdict = case.judge(&spliced(&first, frame, &second), Case::joint(frame));
            assert!(!verdict.faults().is_empty(), "frame {frame}: {verdict:?}");
        }
    }

    #[test]
    fn one_sample_of_misalignment_fails_everywhere() {
        let case = Case::new();
        let first = encode(&case.sound, KBPS).unwrap();
        let shifted = encode(&case.sound[1..], KBPS).unwrap();
        for frame in JOINTS {
            let candidate = spliced(&first, frame, &shifted[frame..]);
            let verdict = case.judge(&candidate, Case::joint(frame));
            assert_ne!(verdict.drift_samples, Some(0), "frame {frame}: {verdict:?}");
        }
    }

    #[test]
    fn a_click_of_one_sample_fails() {
        let case = Case::new();
        let mut candidate = case.plain[0].clone();
        // Between two notes: the onset of a note is a click of its own.
        candidate[100_000] += 0.5;
        let verdict = case.judge(&candidate, 100_000);
        assert!(!verdict.faults().is_empty(), "{verdict:?}");
    }
}
