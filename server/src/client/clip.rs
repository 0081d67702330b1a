//! A clip in memory: access units as ready RTP payloads, shared by every publisher that loops it.
//!
//! A clip may still grow while it is played: ffmpeg's output is read in the background. Readers wait for the unit they
//! need. Once it is complete, its loop length is known, and playing past the end starts over.
//!
//! Invariants: units are in order of their time; the length of the loop is a whole number of samples and of 90 kHz
//! ticks, so that video and audio repeat with exactly the same period.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use media::{Kind, h264};
use tokio::sync::watch;

/// Video RTP clock, ticks per second (RFC 6184 §5.1).
pub(super) const VIDEO_RATE: u64 = 90_000;
/// Audio RTP clock, ticks per second (RFC 7587 §4.1).
pub(super) const AUDIO_RATE: u64 = 48_000;
/// The most that a clip may occupy, in bytes.
pub(super) const MAX_CLIP_BYTES: usize = 2 << 30;

/// One access unit, ready to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// Picture or sound.
    pub(super) kind: Kind,
    /// Presentation time from the start of the clip, in ticks of the kind's RTP clock.
    pub(super) ticks: u64,
    /// How long it lasts, in the same ticks.
    pub(super) duration: u64,
    /// Whether decoding can start here.
    pub(super) keyframe: bool,
    /// RTP payloads, in order.
    pub(super) payloads: Vec<Bytes>,
}

impl Unit {
    /// Presentation time from the start of the clip.
    pub(super) fn at(&self) -> Duration {
        ticks_to_duration(self.ticks, rate(self.kind))
    }

    fn end(&self) -> Duration {
        ticks_to_duration(self.ticks + self.duration, rate(self.kind))
    }

    fn bytes(&self) -> usize {
        self.payloads.iter().map(Bytes::len).sum()
    }
}

/// RTP clock of a kind, in ticks per second.
pub(super) fn rate(kind: Kind) -> u64 {
    match kind {
        Kind::Video => VIDEO_RATE,
        Kind::Audio => AUDIO_RATE,
    }
}

/// `ticks` of a clock of `rate` Hz as a duration, rounded down to nanoseconds.
pub(super) fn ticks_to_duration(ticks: u64, rate: u64) -> Duration {
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// How much of a clip is there.
#[derive(Clone, Debug)]
enum Progress {
    /// More may come.
    Growing,
    /// All there; the loop lasts that many samples at 48 kHz.
    Complete { loop_samples: u64 },
    /// It cannot be read further.
    Failed(String),
}

/// What follows in a clip.
#[derive(Clone, Debug)]
pub(super) enum Next {
    /// This unit.
    Unit(Arc<Unit>),
    /// Nothing: the clip ends, and lasts that many samples at 48 kHz.
    End {
        /// Length of the loop.
        loop_samples: u64,
    },
}

/// A shared clip.
#[derive(Debug)]
pub(super) struct Clip {
    config: h264::Config,
    units: RwLock<Vec<Arc<Unit>>>,
    bytes: AtomicUsize,
    progress: watch::Sender<Progress>,
}

impl Clip {
    /// An empty clip of pictures with these parameter sets.
    pub(super) fn new(config: h264::Config) -> Self {
        Self {
            config,
            units: RwLock::default(),
            bytes: AtomicUsize::new(0),
            progress: watch::Sender::new(Progress::Growing),
        }
    }

    /// Size, profile and level of the picture.
    pub(super) fn config(&self) -> &h264::Config {
        &self.config
    }

    /// Adds units, which must follow the ones before in time.
    ///
    /// # Errors
    /// When the clip exceeds [`MAX_CLIP_BYTES`].
    pub(super) fn extend(&self, more: impl IntoIterator<Item = Unit>) -> anyhow::Result<()> {
        let mut units = self.units.write().unwrap_or_else(PoisonError::into_inner);
        for unit in more {
            self.bytes.fetch_add(unit.bytes(), Ordering::Relaxed);
            units.push(Arc::new(unit));
        }
        drop(units);
        anyhow::ensure!(
            self.bytes.load(Ordering::Relaxed) <= MAX_CLIP_BYTES,
            "the clip is larger than {} MB: it is held in memory, cut it shorter",
            MAX_CLIP_BYTES >> 20
        );
        self.progress.send_replace(Progress::Growing);
        Ok(())
    }

    /// Nothing follows: works out the loop.
    ///
    /// The loop ends with the last audio packet that ends with the picture (or up to half a frame later); what is
    /// later is dropped. So sound has no gap at the joint, and only the last picture may be shorter than the others.
    ///
    /// # Errors
    /// When a track is empty.
    pub(super) fn complete(&self) -> anyhow::Result<()> {
        let mut units = self.units.write().unwrap_or_else(PoisonError::into_inner);
        let last_video = units.iter().rev().find(|unit| unit.kind == Kind::Video);
        let Some(video) = last_video else {
            anyhow::bail!("the clip has no picture");
        };
        let slack = ticks_to_duration(video.duration / 2, VIDEO_RATE);
        let latest = video.end() + slack;
        let fits = |unit: &&Arc<Unit>| unit.kind == Kind::Audio && unit.end() <= latest;
        let Some(audio) = units.iter().rev().find(fits) else {
            anyhow::bail!("the clip has no sound");
        };
        // 8 samples at 48 kHz are 15 ticks at 90 kHz: a multiple of 8 is whole in both
        let loop_samples = (audio.ticks + audio.duration) & !7;
        let length = ticks_to_duration(loop_samples, AUDIO_RATE);
        units.retain(|unit| unit.at() < length);
        drop(units);
        self.progress
            .send_replace(Progress::Complete { loop_samples });
        Ok(())
    }

    /// The rest cannot be read: readers that reach the end get this error.
    pub(super) fn fail(&self, why: String) {
        self.progress.send_replace(Progress::Failed(why));
    }

    /// Unit `index`; waits for it while the clip is still growing.
    ///
    /// # Errors
    /// The reason given to [`Clip::fail`], once the units before are used up.
    pub(super) async fn get(&self, index: usize) -> anyhow::Result<Next> {
        loop {
            let mut progress = self.progress.subscribe();
            let state = progress.borrow_and_update().clone();
            let unit = {
                let units = self.units.read().unwrap_or_else(PoisonError::into_inner);
                units.get(index).cloned()
            };
            match (unit, state) {
                (Some(unit), _) => return Ok(Next::Unit(unit)),
                (None, Progress::Complete { loop_samples }) => {
                    return Ok(Next::End { loop_samples });
                }
                (None, Progress::Failed(why)) => anyhow::bail!("{why}"),
                (None, Progress::Growing) => progress.changed().await?,
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn config() -> h264::Config {
        let sps = [
            0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03,
            0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2e, 0x48,
        ];
        let pps = Bytes::from_static(&[0x68, 0xcb, 0x83, 0xcb, 0x20]);
        h264::Config::new(Bytes::copy_from_slice(&sps), vec![pps]).expect("valid")
    }

    fn unit(kind: Kind, ticks: u64, duration: u64) -> Unit {
        Unit {
            kind,
            ticks,
            duration,
            keyframe: ticks == 0,
            payloads: vec![Bytes::from_static(b"x")],
        }
    }

    #[tokio::test]
    async fn the_loop_ends_with_a_whole_audio_packet() {
        let clip = Clip::new(config());
        // 1 s of picture, 1.1 s of sound
        clip.extend((0..30).map(|n| unit(Kind::Video, n * 3_000, 3_000)))
            .expect("small");
        clip.extend((0..55).map(|n| unit(Kind::Audio, n * 960, 960)))
            .expect("small");
        clip.complete().expect("both tracks");
        let Ok(Next::End { loop_samples }) = clip.get(80).await else {
            panic!("30 + 50 units");
        };
        assert_eq!(loop_samples, 48_000);
    }

    #[tokio::test]
    async fn a_reader_waits_for_a_growing_clip() {
        let clip = Arc::new(Clip::new(config()));
        let reader = tokio::spawn({
            let clip = Arc::clone(&clip);
            async move { clip.get(0).await }
        });
        tokio::task::yield_now().await;
        clip.extend([unit(Kind::Video, 0, 3_000)]).expect("small");
        assert!(matches!(reader.await.expect("no panic"), Ok(Next::Unit(_))));
        clip.fail("broken pipe".into());
        let error = clip.get(1).await.expect_err("failed");
        assert_eq!(error.to_string(), "broken pipe");
    }
}
