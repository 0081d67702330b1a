//! Fragmented MP4: initialisation and media segments. Sources: ISO/IEC 14496-12 (boxes), 14496-14 (esds),
//! 14496-15 (avcC), 23000-19 (CMAF).
//!
//! One file carries both tracks: video is track 1 at 90 kHz, audio track 2 at its sampling rate.

use bytes::{BufMut, Bytes, BytesMut};
use media::{aac, h264};
use mp4_atom::{
    Audio, Avc1, Avcc, Codec, Dinf, Dref, Encode, Ftyp, Hdlr, Mdhd, Mdia, Mfhd, Minf, Moof, Moov,
    Mp4a, Mvex, Mvhd, Smhd, Stbl, Stco, Stsd, Styp, Tfdt, Tfhd, Tkhd, Traf, Trak, Trex, Trun,
    TrunEntry, Url, Visual, Vmhd, esds,
};

const VIDEO_TRACK: u32 = 1;
const AUDIO_TRACK: u32 = 2;
/// A sample that decoding can start from (sample_depends_on = 2).
const SYNC_FLAGS: u32 = 0x0200_0000;
/// A sample that depends on others and is no sync sample.
const DELTA_FLAGS: u32 = 0x0101_0000;
/// Size and type of the box around the samples.
const MDAT_HEADER_BYTES: usize = 8;

/// One coded frame of a fragment.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// In ticks of its track.
    pub(crate) duration: u32,
    /// Presentation − decoding time, in ticks of its track.
    pub(crate) composition: i32,
    pub(crate) keyframe: bool,
    pub(crate) data: Bytes,
}

/// The samples of one track in a fragment.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// Decoding time of the first sample, in ticks of its track.
    pub(crate) base: u64,
    pub(crate) samples: Vec<Sample>,
}

/// Why a segment could not be written.
#[derive(Debug, thiserror::Error)]
#[error("a segment could not be written: {0}")]
pub(crate) struct Error(String);

impl From<mp4_atom::Error> for Error {
    fn from(error: mp4_atom::Error) -> Self {
        Self(error.to_string())
    }
}

/// The initialisation segment of the tracks that there are.
pub(crate) fn init(
    video: Option<&h264::Config>,
    audio: Option<&aac::Config>,
) -> Result<Bytes, Error> {
    let mut out = Vec::new();
    Ftyp {
        major_brand: b"iso6".into(),
        minor_version: 0,
        compatible_brands: vec![b"iso6".into(), b"cmfc".into(), b"mp41".into()],
    }
    .encode(&mut out)?;
    let trex = |track_id| Trex {
        track_id,
        default_sample_description_index: 1,
        ..Default::default()
    };
    let mut tracks = Vec::new();
    let mut extends = Vec::new();
    if let Some(config) = video {
        tracks.push(video_track(config));
        extends.push(trex(VIDEO_TRACK));
    }
    if let Some(config) = audio {
        tracks.push(audio_track(config));
        extends.push(trex(AUDIO_TRACK));
    }
    Moov {
        mvhd: Mvhd {
            timescale: 1_000,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: 3,
            ..Default::default()
        },
        mvex: Some(Mvex {
            trex: extends,
            ..Default::default()
        }),
        trak: tracks,
        ..Default::default()
    }
    .encode(&mut out)?;
    Ok(out.into())
}

fn video_track(config: &h264::Config) -> Trak {
    let size = |length: u32| u16::try_from(length).unwrap_or(u16::MAX);
    let (width, height) = (size(config.width), size(config.height));
    let [profile, compatibility, level] = config.profile_level();
    let entry = Avc1 {
        visual: Visual {
            data_reference_index: 1,
            width,
            height,
            horizresolution: 72.into(),
            vertresolution: 72.into(),
            frame_count: 1,
            compressor: "".into(),
            depth: 24,
        },
        avcc: Avcc {
            configuration_version: 1,
            avc_profile_indication: profile,
            profile_compatibility: compatibility,
            avc_level_indication: level,
            length_size: 4,
            sequence_parameter_sets: vec![config.sps.to_vec()],
            picture_parameter_sets: config.pps.iter().map(|pps| pps.to_vec()).collect(),
            ext: None,
        },
        btrt: None,
        colr: None,
        pasp: None,
        taic: None,
        fiel: None,
        spatial: Default::default(),
    };
    let mut track = track(VIDEO_TRACK, b"vide", 90_000, entry.into());
    track.tkhd.width = width.into();
    track.tkhd.height = height.into();
    track.mdia.minf.vmhd = Some(Vmhd::default());
    track
}

fn audio_track(config: &aac::Config) -> Trak {
    let entry = Mp4a {
        audio: Audio {
            data_reference_index: 1,
            channel_count: u16::from(config.channels.max(1)),
            sample_size: 16,
            sample_rate: u16::try_from(config.sample_rate_hz).unwrap_or(0).into(),
        },
        esds: esds::Esds {
            es_desc: esds::EsDescriptor {
                es_id: 2,
                dec_config: esds::DecoderConfig {
                    object_type_indication: 0x40,
                    stream_type: 5,
                    dec_specific: Some(esds::DecoderSpecific {
                        profile: config.object_type,
                        freq_index: 0,
                        chan_conf: config.channels,
                        raw: config.asc.to_vec(),
                    }),
                    ..Default::default()
                },
                sl_config: esds::SLConfig {},
                ..Default::default()
            },
        },
        btrt: None,
        taic: None,
    };
    let mut track = track(AUDIO_TRACK, b"soun", config.sample_rate_hz, entry.into());
    track.tkhd.volume = 1.into();
    track.mdia.minf.smhd = Some(Smhd::default());
    track
}

fn track(track_id: u32, handler: &[u8; 4], timescale: u32, entry: Codec) -> Trak {
    Trak {
        tkhd: Tkhd {
            track_id,
            enabled: true,
            in_movie: true,
            ..Default::default()
        },
        mdia: Mdia {
            mdhd: Mdhd {
                timescale,
                language: "und".into(),
                ..Default::default()
            },
            hdlr: Hdlr {
                handler: handler.into(),
                name: "AnchorNet".into(),
            },
            minf: Minf {
                dinf: Dinf {
                    dref: Dref {
                        entries: vec![Url::default().into()],
                    },
                },
                stbl: Stbl {
                    stsd: Stsd {
                        codecs: vec![entry],
                    },
                    stco: Some(Stco::default()),
                    ..Default::default()
                },
                ..Default::default()
            },
        },
        ..Default::default()
    }
}

/// A media segment with one fragment.
pub(crate) fn segment(number: u32, video: &Run, audio: &Run) -> Result<Bytes, Error> {
    let runs = [(VIDEO_TRACK, video), (AUDIO_TRACK, audio)];
    let sizes = runs.map(|(_, run)| payload_bytes(run));
    // The offsets of the samples count from the moof, whose size they do not change.
    let moof_bytes = encoded(&moof(number, &runs, [0; 2]))?.len();
    let first = moof_bytes + MDAT_HEADER_BYTES;
    let offset = |bytes: usize| i32::try_from(bytes).map_err(|_| Error("too large".to_owned()));
    let moof = encoded(&moof(
        number,
        &runs,
        [offset(first)?, offset(first + sizes[0])?],
    ))?;
    let mdat_bytes = MDAT_HEADER_BYTES + sizes[0] + sizes[1];
    let mdat_size = u32::try_from(mdat_bytes).map_err(|_| Error("too large".to_owned()))?;
    let styp = encoded(&Styp {
        major_brand: b"msdh".into(),
        minor_version: 0,
        compatible_brands: vec![b"msdh".into(), b"msix".into(), b"cmfs".into()],
    })?;
    let mut out = BytesMut::with_capacity(styp.len() + moof.len() + mdat_bytes);
    out.put_slice(&styp);
    out.put_slice(&moof);
    out.put_u32(mdat_size);
    out.put_slice(b"mdat");
    for (_, run) in runs {
        for sample in &run.samples {
            out.put_slice(&sample.data);
        }
    }
    Ok(out.freeze())
}

fn encoded(atom: &impl Encode) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    atom.encode(&mut out)?;
    Ok(out)
}

fn payload_bytes(run: &Run) -> usize {
    run.samples.iter().map(|sample| sample.data.len()).sum()
}

fn moof(number: u32, runs: &[(u32, &Run); 2], offsets: [i32; 2]) -> Moof {
    let traf = runs
        .iter()
        .zip(offsets)
        .filter(|((_, run), _)| !run.samples.is_empty())
        .map(|(&(track, run), offset)| traf(track, run, offset))
        .collect();
    Moof {
        mfhd: Mfhd {
            sequence_number: number,
        },
        traf,
    }
}

fn traf(track_id: u32, run: &Run, data_offset: i32) -> Traf {
    let entries: Vec<TrunEntry> = run
        .samples
        .iter()
        .map(|sample| TrunEntry {
            duration: Some(sample.duration),
            size: u32::try_from(sample.data.len()).ok(),
            flags: Some(if sample.keyframe {
                SYNC_FLAGS
            } else {
                DELTA_FLAGS
            }),
            cts: (track_id == VIDEO_TRACK).then_some(i64::from(sample.composition)),
        })
        .collect();
    Traf {
        tfhd: Tfhd {
            track_id,
            default_base_is_moof: true,
            ..Default::default()
        },
        tfdt: Some(Tfdt {
            base_media_decode_time: run.base,
        }),
        trun: vec![Trun {
            data_offset: Some(data_offset),
            samples: entries.into(),
        }],
        ..Default::default()
    }
}
