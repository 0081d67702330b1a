//! The stream at its origin: 25 pictures per second with sizes as encoders make them, and sound.

use std::collections::HashMap;

use bytes::Bytes;
use media::flv::{Tag, TagKind};
use media::substream::feed::{MAX_PRIOR, Record, Start};
use media::substream::{Entry, Header, Sequencer, Split};

use super::dice::Dice;
use super::model::Model;

const PICTURES_PER_S: f64 = 25.0;
/// Bytes of a frame of sound: 64 kb/s.
const SOUND_BYTES: usize = 171;
/// Time between frames of sound: 1024 samples at 48 kHz.
const SOUND_US: u64 = 21_333;
const PICTURE_US: u64 = 40_000;
/// How long the origin keeps frames.
const HISTORY_MS: u32 = 10_000;

/// What the origin has.
pub(super) struct Stream {
    pub(super) split: Split,
    sequencer: Sequencer,
    dice: Dice,
    /// A frame of each kind, as large as any; frames are the beginnings of these.
    bodies: [Bytes; 3],
    picture_bytes: f64,
    keyframe_factor: f64,
    sigma: f64,
    pictures_per_gop: u64,
    pictures: u64,
    sounds: u64,
    frames: Vec<(Entry, Bytes)>,
    index: HashMap<(u32, u32), usize>,
    gop: usize,
}

impl Stream {
    pub(super) fn new(seed: u64, split: Split, model: &Model) -> Self {
        let body = |head: &[u8]| {
            let mut body = vec![0x5a; 1 << 20];
            for (to, from) in body.iter_mut().zip(head) {
                *to = *from;
            }
            Bytes::from(body)
        };
        let per_gop = (model.gop_s * PICTURES_PER_S).max(1.0);
        let mean = model.video_kbps * 125.0 / PICTURES_PER_S;
        Self {
            split,
            sequencer: Sequencer::default(),
            dice: Dice::new(seed, &[8]),
            bodies: [
                body(&[0x17, 1, 0, 0, 0]),
                body(&[0x27, 1, 0, 0, 0]),
                body(&[0xaf, 1]),
            ],
            // So that the mean over a group of pictures is right.
            picture_bytes: mean * per_gop
                / (per_gop - 1.0 + model.keyframe_factor)
                / (model.picture_sigma.powi(2) / 2.0).exp(),
            keyframe_factor: model.keyframe_factor,
            sigma: model.picture_sigma,
            pictures_per_gop: super::path::us(per_gop / 1e6).max(1),
            pictures: 0,
            sounds: 0,
            frames: Vec::new(),
            index: HashMap::new(),
            gop: 0,
        }
    }

    /// When the next frame is captured.
    pub(super) fn next_at(&self) -> u64 {
        (self.pictures * PICTURE_US).min(self.sounds * SOUND_US)
    }

    /// Makes it; gives its number.
    pub(super) fn make(&mut self) -> usize {
        let picture = self.pictures * PICTURE_US <= self.sounds * SOUND_US;
        let at = self.next_at();
        let [key, inter, sound] = &self.bodies;
        let is_key = picture && self.pictures.is_multiple_of(self.pictures_per_gop);
        let (kind, body) = match picture {
            true => {
                let factor = if is_key { self.keyframe_factor } else { 1.0 };
                let bytes = self.dice.log_normal(self.picture_bytes, self.sigma) * factor;
                let bytes = usize::try_from(super::path::us(bytes / 1e6)).unwrap_or_default();
                let of = if is_key { key } else { inter };
                (TagKind::Video, of.slice(..bytes.clamp(16, of.len())))
            }
            false => (TagKind::Audio, sound.slice(..SOUND_BYTES)),
        };
        if picture {
            self.pictures += 1;
        } else {
            self.sounds += 1;
        }
        let tag = Tag {
            kind,
            timestamp_ms: u32::try_from(at / 1_000).unwrap_or(u32::MAX),
            body,
        };
        let number = self.frames.len();
        if let Ok(header) = Header::of(&tag) {
            let entry = self.sequencer.next(header);
            self.index.insert((header.dts_ms, entry.crc), number);
            self.frames.push((entry, tag.body));
        }
        if is_key {
            self.gop = number;
        }
        number
    }

    /// The number of a frame that the origin still has.
    pub(super) fn find(&self, dts_ms: u32, crc: u32) -> Option<usize> {
        let newest = self.frames.last()?.0.header.dts_ms;
        let number = self.number(dts_ms, crc)?;
        (newest.saturating_sub(dts_ms) <= HISTORY_MS).then_some(number)
    }

    /// The number of a frame.
    pub(super) fn number(&self, dts_ms: u32, crc: u32) -> Option<usize> {
        self.index.get(&(dts_ms, crc)).copied()
    }

    /// The newest keyframe.
    pub(super) fn gop(&self) -> usize {
        self.gop
    }

    /// The newest keyframe up to a frame.
    pub(super) fn gop_until(&self, newest: usize) -> usize {
        let upto = self.frames.get(..=newest).unwrap_or(&self.frames);
        let key = upto
            .iter()
            .rposition(|(entry, _)| entry.header.kind.is_key());
        key.unwrap_or_default()
    }

    /// How many frames there are.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// What a feed begins with.
    pub(super) fn start(&self, at: usize) -> Record {
        let prior = self.frames.get(at.saturating_sub(MAX_PRIOR)..at);
        Record::Start(Start {
            epoch: 1,
            split: self.split,
            signer: None,
            prior: prior.unwrap_or_default().iter().map(|(e, _)| *e).collect(),
            prelude: Bytes::new(),
        })
    }

    /// What a feed with these substreams has of a frame.
    pub(super) fn record(&self, at: usize, mask: u64) -> Option<Record> {
        let (entry, body) = self.frames.get(at)?;
        Some(match mask & (1 << self.split.substream(&entry.header)) {
            0 => Record::Header(*entry),
            _ => Record::Frame(*entry, body.clone()),
        })
    }
}

/// Bytes of a record on its way.
pub(super) fn size(record: &Record) -> usize {
    match record {
        Record::Start(start) => 42 + start.prior.len() * Entry::BYTES,
        Record::Header(_) => 1 + Entry::BYTES,
        Record::Frame(_, body) => 1 + Entry::BYTES + body.len(),
        Record::Signed(_, _, body) => 65 + Entry::BYTES + body.len(),
    }
}
