//! One trial: a host's bitstream, what is to be heard from the bus, and what comes of joining them.

use serde::Serialize;

use super::judge::{Reference, Verdict, judge};
use super::{
    Frame, Joint, Settings, Side, Spliced, Stream, Techniques, UNIT, Wish, join_naively, splice,
};
use crate::Error;

/// Everything about one trial.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// The joined stream.
    pub spliced: Spliced,
    /// What should be heard: the decoded host and the mix, faded at the joints.
    pub ideal: Vec<Frame>,
    /// The joined stream, decoded.
    pub heard: Vec<Frame>,
    /// `ideal` through the encoder and back without a joint: the noise that is nobody's fault.
    pub plain: Vec<Frame>,
    /// The first joint made naively at the same slot, decoded.
    pub naive: Vec<Frame>,
    /// The joints, judged.
    pub joints: Vec<Judged>,
    settings: Settings,
}

/// A joint and what can be heard of it.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// Where and how.
    #[serde(flatten)]
    pub joint: Joint,
    /// When, in seconds of the stream.
    pub at_s: f64,
    /// Of the worse channel.
    pub verdict: Verdict,
    /// The criteria that do not hold, in words.
    pub faults: Vec<String>,
    /// The same for a naive joint at this slot; to the bus only.
    pub naive: Option<Verdict>,
}

impl Experiment {
    /// Runs it.
    ///
    /// # Errors
    /// [`Error::Codec`], and [`Error::Media`] when the host cannot be spliced.
    pub fn run(
        host: &Stream,
        mix: &[Frame],
        settings: Settings,
        wishes: &[Wish],
        techniques: Techniques,
    ) -> Result<Self, Error> {
        let sound = host.decode()?;
        let spliced = splice(host, mix, settings, wishes, techniques)?;
        let ideal: Vec<Frame> = (0..)
            .zip(&sound)
            .map(|(at, host)| {
                let share = spliced.share(at);
                let mix = usize::try_from(at).ok().and_then(|at| mix.get(at));
                let [left, right] = mix.copied().unwrap_or_default();
                [
                    host[0] + (left - host[0]) * share,
                    host[1] + (right - host[1]) * share,
                ]
            })
            .collect();
        let plain = Stream::encode(&ideal, settings)?.decode()?;
        let first = spliced.joints.iter().find(|joint| joint.to == Side::Bus);
        let slot = first.map_or(0, |joint| usize::try_from(joint.slot).unwrap_or_default());
        let naive = join_naively(host, mix, settings, slot)?.decode()?;
        let mut experiment = Self {
            heard: spliced.stream.decode()?,
            spliced,
            ideal,
            plain,
            naive,
            joints: Vec::new(),
            settings,
        };
        experiment.joints = experiment.judged();
        Ok(experiment)
    }

    fn judged(&self) -> Vec<Judged> {
        let mut naive = Some(&self.naive);
        let rate = f64::from(self.settings.sample_rate_hz);
        let joints = self.spliced.joints.iter().map(|joint| {
            let verdict = self.verdict(&self.heard, joint);
            Judged {
                joint: *joint,
                at_s: Self::block_start(joint) as f64 / rate,
                faults: verdict.faults(),
                verdict,
                naive: match joint.to {
                    Side::Bus => naive.take().map(|heard| self.verdict(heard, joint)),
                    Side::Host => None,
                },
            }
        });
        joints.collect()
    }

    /// The first sample of the block in which both encoders add up.
    #[must_use]
    pub fn block_start(joint: &Joint) -> usize {
        usize::try_from(joint.slot).unwrap_or_default() * UNIT
    }

    fn verdict(&self, heard: &[Frame], joint: &Joint) -> Verdict {
        let of = |side: usize| {
            let plain = [channel(&self.plain, side)];
            let reference = Reference {
                rate_hz: self.settings.sample_rate_hz,
                ideal: &channel(&self.ideal, side),
                plain: &plain,
            };
            let at = Self::block_start(joint) + UNIT / 2;
            judge(reference, &channel(heard, side), at)
        };
        let (left, right) = (of(0), of(1));
        if left.missed_by_db() < right.missed_by_db() {
            right
        } else {
            left
        }
    }

    /// In Hz.
    #[must_use]
    pub fn rate_hz(&self) -> u32 {
        self.settings.sample_rate_hz
    }
}

/// One side of a sound, with full scale at ±1.
#[must_use]
pub fn channel(sound: &[Frame], side: usize) -> Vec<f64> {
    let value = |frame: &Frame| frame.get(side).copied().unwrap_or_default();
    sound
        .iter()
        .map(|frame| f64::from(value(frame)) / 32_768.0)
        .collect()
}
