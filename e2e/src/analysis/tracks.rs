//! The tracks of a recorded FLV: timestamps and continuity.

use anyhow::{bail, ensure};
use bytes::Bytes;
use media::flv::{AudioBody, Tag, TagKind, VideoBody};

/// One access unit with its time in the recording.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Decoding time in milliseconds, as on the wire.
    pub dts_ms: i64,
    /// Presentation time in milliseconds.
    pub pts_ms: i64,
    /// Video: an IDR picture.
    pub keyframe: bool,
    /// AVCC NAL units, or a raw AAC frame.
    pub data: Bytes,
}

impl Unit {
    /// Presentation time in seconds.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "recordings are far shorter than 2^52 ms"
    )]
    pub fn pts_s(&self) -> f64 {
        self.pts_ms as f64 / 1_000.0
    }
}

/// Audio and video of a recording, in order of arrival.
#[derive(Clone, Debug, Default)]
pub struct Tracks {
    /// Pictures.
    pub video: Vec<Unit>,
    /// AAC frames.
    pub audio: Vec<Unit>,
    /// Sequence headers of the video, with the index of the picture that follows.
    pub video_headers: Vec<(usize, Bytes)>,
    /// Sequence headers of the audio, with the index of the frame that follows.
    pub audio_headers: Vec<(usize, Bytes)>,
}

impl Tracks {
    /// Sorts tags into tracks.
    ///
    /// # Errors
    /// When a tag does not parse, or a unit comes before its sequence header.
    pub fn of(tags: &[Tag]) -> anyhow::Result<Self> {
        let mut tracks = Self::default();
        for tag in tags {
            let dts_ms = i64::from(tag.timestamp_ms);
            match tag.kind {
                TagKind::Script => {}
                TagKind::Video => tracks.push_video(dts_ms, VideoBody::parse(&tag.body)?)?,
                TagKind::Audio => tracks.push_audio(dts_ms, AudioBody::parse(&tag.body)?)?,
            }
        }
        Ok(tracks)
    }

    fn push_video(&mut self, dts_ms: i64, body: VideoBody) -> anyhow::Result<()> {
        match body {
            VideoBody::AvcConfig(record) => self.video_headers.push((self.video.len(), record)),
            VideoBody::Avc {
                keyframe,
                composition_ms,
                data,
            } => {
                ensure!(
                    !self.video_headers.is_empty(),
                    "a picture at {dts_ms} ms before any sequence header"
                );
                let pts_ms = dts_ms + i64::from(composition_ms);
                self.video.push(Unit {
                    dts_ms,
                    pts_ms,
                    keyframe,
                    data,
                });
            }
            VideoBody::AvcEnd => {}
        }
        Ok(())
    }

    fn push_audio(&mut self, dts_ms: i64, body: AudioBody) -> anyhow::Result<()> {
        match body {
            AudioBody::AacConfig(asc) => self.audio_headers.push((self.audio.len(), asc)),
            AudioBody::Aac(data) => {
                ensure!(
                    !self.audio_headers.is_empty(),
                    "sound at {dts_ms} ms before any sequence header"
                );
                self.audio.push(Unit {
                    dts_ms,
                    pts_ms: dts_ms,
                    keyframe: true,
                    data,
                });
            }
        }
        Ok(())
    }
}

/// Fails unless decoding times strictly increase.
///
/// # Errors
/// With the first pair that does not.
pub fn strictly_increasing(units: &[Unit]) -> anyhow::Result<()> {
    for (index, pair) in units.windows(2).enumerate() {
        if let [before, after] = pair
            && after.dts_ms <= before.dts_ms
        {
            bail!(
                "unit {} at {} ms follows {} ms",
                index + 1,
                after.dts_ms,
                before.dts_ms
            );
        }
    }
    Ok(())
}

/// Fails unless frame `i` lies at exactly `(n + i)·1024` samples of 48 kHz for one `n`, rounded to milliseconds:
/// contiguous, without a gap or an overlap of a single sample.
///
/// # Errors
/// With the first frame that lies elsewhere.
pub fn on_the_sample_clock(audio: &[Unit]) -> anyhow::Result<()> {
    let Some(first) = audio.first() else {
        bail!("there is no sound")
    };
    // A frame lasts 64/3 ms.
    let number = (first.dts_ms * 3 + 32).div_euclid(64);
    for (index, unit) in (number..).zip(audio) {
        let expected = (index * 64 * 2 + 3).div_euclid(6);
        ensure!(
            unit.dts_ms == expected,
            "audio frame {} lies at {} ms, not at {expected} ms",
            index - number,
            unit.dts_ms
        );
    }
    Ok(())
}

/// Fails unless frames follow each other every 1024 samples of 48 kHz, wherever the first lies: what is left of
/// [`on_the_sample_clock`] when somebody else has moved the whole timeline.
///
/// # Errors
/// With the first frame that is off by more than rounding to milliseconds explains.
pub fn contiguous(audio: &[Unit]) -> anyhow::Result<()> {
    let Some(first) = audio.first() else {
        bail!("there is no sound")
    };
    for (index, unit) in (0..).zip(audio) {
        // In thirds of a millisecond, in which a frame lasts a whole number: 64.
        let off = (unit.dts_ms - first.dts_ms) * 3 - index * 64;
        ensure!(
            off.abs() <= 3,
            "audio frame {index} lies {off}/3 ms from where it should"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use media::{Rate, Timestamp};

    fn frames(numbers: impl Iterator<Item = i64>) -> Vec<Unit> {
        numbers
            .map(|n| {
                let dts_ms = Timestamp::new(n * 1024, Rate::AUDIO).as_millis();
                Unit {
                    dts_ms,
                    pts_ms: dts_ms,
                    keyframe: true,
                    data: Bytes::new(),
                }
            })
            .collect()
    }

    #[test]
    fn contiguous_frames_are_on_the_clock_wherever_they_start() {
        for start in 0..300 {
            on_the_sample_clock(&frames(start..start + 300)).unwrap();
        }
    }

    #[test]
    fn a_missing_frame_and_a_late_one_are_found() {
        let missing = frames((0..50).chain(51..100));
        assert!(on_the_sample_clock(&missing).is_err());
        assert!(contiguous(&missing).is_err());
        assert!(contiguous(&frames(7..100)).is_ok());
        let mut late = frames(0..50);
        late[30].dts_ms += 1;
        assert!(on_the_sample_clock(&late).is_err());
        assert!(strictly_increasing(&late).is_ok());
        late[31].dts_ms = late[30].dts_ms;
        assert!(strictly_increasing(&late).is_err());
    }
}
