//! What an independent receiver recorded of a WebRTC stream, on one clock: that of the sender reports.

use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, ensure};

use crate::clip::SAMPLE_RATE;

/// A picture that was decoded.
#[derive(Clone, Copy, Debug)]
pub struct Picture {
    /// When it is to be shown, in seconds on the clock of the sender reports.
    pub at: f64,
    /// Its drawn number.
    pub number: Option<u32>,
    /// It carries the flash.
    pub is_lit: bool,
    /// When it was decoded, in seconds on the receiver's clock.
    pub decoded: f64,
}

/// A recording of `aiortc_record.py`.
#[derive(Debug)]
pub struct Recording {
    /// Every picture, in order.
    pub pictures: Vec<Picture>,
    /// Left and right.
    pub sound: Vec<[f64; 2]>,
    /// When the first sample is to be heard, in seconds on the clock of the sender reports.
    pub sound_start: f64,
    /// Steps of sound whose RTP time does not follow that of the step before.
    pub sound_breaks: usize,
}

impl Recording {
    /// Reads a recording.
    ///
    /// # Errors
    /// When it is incomplete: nothing decoded, or no sender report.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let lines = |name: &str| -> anyhow::Result<Vec<Vec<String>>> {
            let text = std::fs::read_to_string(folder.join(name))?;
            let fields = |line: &str| line.split(' ').map(str::to_owned).collect();
            Ok(text.lines().map(fields).collect())
        };
        let reports = lines("reports")?;
        // An RTP time as seconds, by the last report: the streams have one clock, whichever report is taken.
        let clock = |kind: &str, hz: f64| -> anyhow::Result<(f64, f64, f64)> {
            let mut of_kind = reports.iter().rev();
            let last = of_kind.find(|report| report.first().is_some_and(|name| name == kind));
            let last = last.with_context(|| format!("no sender report for {kind}"))?;
            Ok((field(last, 1)?, field(last, 2)?, hz))
        };
        let seconds = |rtp: f64, (ntp, reported, hz): (f64, f64, f64)| {
            // The difference of times that wrap, in either direction.
            let wrap = f64::from(u32::MAX) + 1.0;
            let ahead = (rtp - reported).rem_euclid(wrap);
            let ahead = if ahead > wrap / 2.0 {
                ahead - wrap
            } else {
                ahead
            };
            ntp + ahead / hz
        };
        let video = clock("video", 90_000.0)?;
        let mut pictures = Vec::new();
        for line in lines("pictures")? {
            pictures.push(Picture {
                at: seconds(field(&line, 0)?, video),
                number: line.get(1).and_then(|number| number.parse().ok()),
                is_lit: field::<u8>(&line, 2)? == 1,
                decoded: field(&line, 3)?,
            });
        }
        let mut times = Vec::new();
        for line in lines("sounds")? {
            times.push((field::<i64>(&line, 0)?, field::<i64>(&line, 1)?));
        }
        ensure!(!pictures.is_empty() && !times.is_empty(), "nothing decoded");
        let breaks = times.windows(2).filter(|pair| {
            let [(before, samples), (after, _)] = pair else {
                return false;
            };
            after != &(before + samples)
        });
        let bytes = std::fs::read(folder.join("sound.raw"))?;
        let sample = |pair: &[u8]| match pair {
            &[low, high] => f64::from(i16::from_le_bytes([low, high])) / 32_768.0,
            _ => 0.0,
        };
        let (frames, _) = bytes.as_chunks::<4>();
        let first: f64 = field(lines("sounds")?.first().context("sound")?, 0)?;
        Ok(Self {
            pictures,
            sound: frames
                .iter()
                .map(|frame| [sample(&frame[..2]), sample(&frame[2..])])
                .collect(),
            sound_start: seconds(first, clock("audio", f64::from(SAMPLE_RATE))?),
            sound_breaks: breaks.count(),
        })
    }

    /// One channel of the sound.
    #[must_use]
    pub fn channel(&self, index: usize) -> Vec<f64> {
        let of = |frame: &[f64; 2]| frame.get(index).copied().unwrap_or_default();
        self.sound.iter().map(of).collect()
    }
}

fn field<T: FromStr>(line: &[String], at: usize) -> anyhow::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = line.get(at).context("a line is too short")?;
    text.parse().with_context(|| format!("{text:?}"))
}
