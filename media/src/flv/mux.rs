//! Access units to FLV tags and back.
//!
//! Invariants of the muxer: a sequence header precedes the first unit of every new configuration, with that unit's
//! timestamp; units of a codec that FLV cannot carry are refused, never silently dropped.

use std::sync::Arc;

use bytes::Bytes;

use super::{AudioBody, Tag, TagKind, VideoBody};
use crate::time::unwrap_u32;
use crate::{AccessUnit, Config, Error, Rate, Timestamp, Track, TrackId, aac, h264};

/// Turns access units of one audio and one video track into tags.
#[derive(Debug, Default)]
pub struct Muxer {
    audio: Option<Config>,
    video: Option<Config>,
}

impl Muxer {
    /// The tags of one access unit: its sequence header when the configuration is new, then the unit.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for Opus, which FLV has no number for.
    pub fn push(&mut self, unit: &AccessUnit) -> Result<Vec<Tag>, Error> {
        let timestamp_ms = wrap_ms(unit.dts);
        let config = &unit.track.config;
        let (kind, known, header, body) = match config {
            Config::H264(avc) => {
                let composition = unit.pts.as_millis().saturating_sub(unit.dts.as_millis());
                let composition_ms = i32::try_from(composition).unwrap_or_default();
                let body = VideoBody::Avc {
                    keyframe: unit.keyframe,
                    composition_ms,
                    data: unit.data.clone(),
                };
                let header = || VideoBody::AvcConfig(avc.to_avcc()).to_bytes();
                let new = self.video.as_ref() != Some(config);
                (
                    TagKind::Video,
                    &mut self.video,
                    new.then(header),
                    body.to_bytes(),
                )
            }
            Config::Aac(aac) => {
                let header = || AudioBody::AacConfig(aac.asc.clone()).to_bytes();
                let new = self.audio.as_ref() != Some(config);
                (
                    TagKind::Audio,
                    &mut self.audio,
                    new.then(header),
                    AudioBody::Aac(unit.data.clone()).to_bytes(),
                )
            }
            Config::Opus(_) => {
                return Err(Error::Unsupported {
                    what: "FLV",
                    why: "Opus has no place in it; encode to AAC",
                });
            }
        };
        let mut tags = Vec::with_capacity(2);
        if let Some(body) = header {
            *known = Some(config.clone());
            tags.push(Tag {
                kind,
                timestamp_ms,
                body,
            });
        }
        tags.push(Tag {
            kind,
            timestamp_ms,
            body,
        });
        Ok(tags)
    }

    /// Forgets the configurations, so that the next units bring their sequence headers again (a new connection).
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// FLV timestamps are milliseconds modulo 2³².
fn wrap_ms(timestamp: Timestamp) -> u32 {
    u32::try_from(timestamp.as_millis().rem_euclid(1 << 32)).unwrap_or_default()
}

/// Turns tags into access units; timestamps stay in milliseconds and are unwrapped past 2³².
#[derive(Debug, Default)]
pub struct Demuxer {
    audio: Option<Arc<Track>>,
    video: Option<Arc<Track>>,
    last_ms: Option<i64>,
}

impl Demuxer {
    /// The access unit of a tag; `None` for sequence headers, script tags and units before their sequence header.
    ///
    /// # Errors
    /// Whatever the body or the configuration parser finds.
    pub fn push(&mut self, tag: &Tag) -> Result<Option<AccessUnit>, Error> {
        let dts_ms = unwrap_u32(self.last_ms, tag.timestamp_ms);
        self.last_ms = Some(dts_ms);
        match tag.kind {
            TagKind::Script => Ok(None),
            TagKind::Video => match VideoBody::parse(&tag.body)? {
                VideoBody::AvcConfig(record) => {
                    let config = Config::H264(h264::Config::from_avcc(&record)?);
                    set_track(&mut self.video, TrackId(0), config);
                    Ok(None)
                }
                VideoBody::Avc {
                    keyframe,
                    composition_ms,
                    data,
                } => {
                    let pts_ms = dts_ms.saturating_add(i64::from(composition_ms));
                    Ok(unit(self.video.as_ref(), dts_ms, pts_ms, keyframe, data))
                }
                VideoBody::AvcEnd => Ok(None),
            },
            TagKind::Audio => match AudioBody::parse(&tag.body)? {
                AudioBody::AacConfig(asc) => {
                    let config = Config::Aac(aac::Config::parse(asc)?);
                    set_track(&mut self.audio, TrackId(1), config);
                    Ok(None)
                }
                AudioBody::Aac(data) => Ok(unit(self.audio.as_ref(), dts_ms, dts_ms, true, data)),
            },
        }
    }
}

fn set_track(track: &mut Option<Arc<Track>>, id: TrackId, config: Config) {
    if track.as_ref().is_none_or(|known| known.config != config) {
        *track = Some(Arc::new(Track {
            id,
            config,
            rate: Rate::MILLIS,
        }));
    }
}

fn unit(
    track: Option<&Arc<Track>>,
    dts_ms: i64,
    pts_ms: i64,
    keyframe: bool,
    data: Bytes,
) -> Option<AccessUnit> {
    let track = Arc::clone(track?);
    let (dts, pts) = (
        Timestamp::from_millis(dts_ms),
        Timestamp::from_millis(pts_ms),
    );
    Some(AccessUnit {
        track,
        pts,
        dts,
        keyframe,
        discontinuity: false,
        data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audio_unit(n: i64, channels: u8) -> AccessUnit {
        let config = Config::Aac(aac::Config::lc(48_000, channels).expect("standard"));
        let track = Arc::new(Track {
            id: TrackId(1),
            config,
            rate: Rate::AUDIO,
        });
        let at = Timestamp::new(n * 1024, Rate::AUDIO);
        AccessUnit {
            track,
            pts: at,
            dts: at,
            keyframe: true,
            discontinuity: false,
            data: Bytes::from_static(&[1, 2]),
        }
    }

    #[test]
    fn sequence_header_once_per_configuration() {
        let mut muxer = Muxer::default();
        let counts: Vec<usize> = [
            audio_unit(0, 2),
            audio_unit(1, 2),
            audio_unit(2, 1),
            audio_unit(3, 1),
        ]
        .iter()
        .map(|unit| muxer.push(unit).expect("AAC").len())
        .collect();
        assert_eq!(counts, [2, 1, 2, 1]);
        muxer.reset();
        assert_eq!(muxer.push(&audio_unit(4, 1)).expect("AAC").len(), 2);
    }

    #[test]
    fn timestamps_survive_the_wrap_of_32_bits() {
        let (mut muxer, mut demuxer) = (Muxer::default(), Demuxer::default());
        let start = (1i64 << 32) * 48 / 1024; // about the frame at which 32 bits of milliseconds end
        let mut expected = None;
        for n in start - 100..start + 100 {
            for tag in muxer.push(&audio_unit(n, 2)).expect("AAC") {
                if let Some(unit) = demuxer.push(&tag).expect("valid") {
                    let at = unit.dts.as_millis();
                    let step = expected.map(|last| at - last);
                    assert!(step.is_none_or(|step| step == 21 || step == 22), "{step:?}");
                    expected = Some(at);
                }
            }
        }
    }
}
