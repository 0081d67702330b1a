//! What several tests say about a recording.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use e2e::analysis::tracks::{Tracks, Unit};
use e2e::analysis::{channel, decode, tone};
use e2e::capture::write_flv;
use media::flv::Tag;
use tempfile::TempDir;

/// Long enough for anything that happens at once, on a busy machine with the dev profile.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// A recording in a file, for decoders.
pub(crate) struct Recording {
    pub(crate) file: PathBuf,
    pub(crate) tracks: Tracks,
    _folder: TempDir,
}

impl Recording {
    pub(crate) fn of(tags: &[Tag]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("recording.flv");
        std::fs::write(&file, write_flv(tags))?;
        Ok(Self {
            file,
            tracks: Tracks::of(tags)?,
            _folder: folder,
        })
    }

    /// Decoded sound of one channel; sample 0 lies at [`Recording::sound_start_s`].
    pub(crate) fn sound(&self, index: usize) -> anyhow::Result<Vec<f64>> {
        Ok(channel(&decode::sound(&self.file)?, index))
    }

    pub(crate) fn sound_start_s(&self) -> anyhow::Result<f64> {
        Ok(self.tracks.audio.first().context("no sound")?.pts_s())
    }

    /// The tone's defects between two moments of the program.
    pub(crate) fn tone_between(&self, seconds: Range<f64>) -> anyhow::Result<tone::Defects> {
        let sound = self.sound(0)?;
        let start = self.sound_start_s()?;
        let index = |at: f64| samples(at - start).min(sound.len());
        Ok(tone::listen(
            &sound[..index(seconds.end)],
            index(seconds.start),
        ))
    }
}

/// Seconds as a whole number of samples; nothing for times before zero.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped by `as`, by definition"
)]
pub(crate) fn samples(seconds: f64) -> usize {
    (seconds * 48_000.0).round() as usize
}

/// The largest step between the decoding times of two neighbours, in milliseconds.
pub(crate) fn largest_step_ms(units: &[Unit]) -> i64 {
    units
        .windows(2)
        .map(|pair| pair[1].dts_ms - pair[0].dts_ms)
        .max()
        .unwrap_or_default()
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Seconds as a whole number of samples.
#[expect(
    clippy::cast_possible_truncation,
    reason = "clamped by `as`, by definition"
)]
pub(crate) fn signed_samples(seconds: f64) -> isize {
    (seconds * 48_000.0).round() as isize
}
