//! Fragmented MP4 as a stream: bytes in, access units out (ISO/IEC 14496-12 §8.8; Opus in ISOBMFF).
//!
//! One container is enough: the demo clip is stored in it, and ffmpeg turns everything else into it on a pipe. The
//! boxes are read by `mp4-atom`; this file joins them: which sample belongs to which track, when, and where its bytes are.
//!
//! Sans-IO and total: wrong or hostile files are errors. Edit lists are not applied; ffmpeg writes none in this form.

use bytes::{Buf, Bytes, BytesMut};
use media::{Kind, h264, opus};
use mp4_atom::{Codec, DecodeMaybe, FourCC, Header, Moof, Moov, Traf, Trun, TrunEntry};

use super::clip::{AUDIO_RATE, Unit, VIDEO_RATE};
use crate::sfu::h264_payloads;

/// The largest single box accepted, in bytes: a fragment of a few seconds.
const MAX_BOX_BYTES: usize = 256 << 20;
/// What containers that count in milliseconds may have rounded away, in samples at 48 kHz.
const ROUNDING_SAMPLES: u64 = 96;
const MOOV: FourCC = FourCC::new(b"moov");
const MOOF: FourCC = FourCC::new(b"moof");
const MDAT: FourCC = FourCC::new(b"mdat");

/// What the file says about its streams.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    /// Parameter sets, if there is H.264 video with out-of-band configuration.
    pub(super) video: Option<h264::Config>,
    /// Whether there is Opus audio, mono or stereo.
    pub(super) audio: bool,
}

#[derive(Clone, Copy, Debug)]
struct TrackInfo {
    id: u32,
    kind: Kind,
    timescale: u64,
    default_duration: u32,
    default_size: u32,
    default_flags: u32,
}

/// Reads a fragmented MP4 file from front to back.
#[derive(Debug, Default)]
pub(super) struct Reader {
    buffer: BytesMut,
    streams: Option<Streams>,
    tracks: Vec<TrackInfo>,
    fragment: Option<(Moof, usize)>,
    /// Units not yet given out, because another track may still bring earlier ones.
    pending: Vec<Unit>,
    reordered: bool,
    /// Where the newest packet of sound ends.
    sound_end: Option<u64>,
}

impl Reader {
    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// When this is not a fragmented MP4 file, or a box contradicts another.
    pub(super) fn push(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.buffer.extend_from_slice(bytes);
        while let Some((header, length, body)) = self.next_box()? {
            self.handle_box(header, length, &body)?;
        }
        Ok(())
    }

    /// The streams, once the header of the file has been read.
    pub(super) fn streams(&self) -> Option<&Streams> {
        self.streams.as_ref()
    }

    /// Whether pictures are stored in another order than shown (B-frames), which WebRTC receivers do not undo.
    pub(super) fn is_reordered(&self) -> bool {
        self.reordered
    }

    /// Units whose turn has come: nothing earlier can follow in any track.
    pub(super) fn take_ready(&mut self) -> Vec<Unit> {
        let latest = |kind: Kind| {
            let of_kind = self.pending.iter().filter(|unit| unit.kind == kind);
            of_kind.map(Unit::at).max()
        };
        let (Some(video), Some(audio)) = (latest(Kind::Video), latest(Kind::Audio)) else {
            return Vec::new();
        };
        let mark = video.min(audio);
        self.pending.sort_by_key(Unit::at);
        let ready = self.pending.partition_point(|unit| unit.at() < mark);
        self.pending.drain(..ready).collect()
    }

    /// All units that are left at the end of the file.
    pub(super) fn take_rest(&mut self) -> Vec<Unit> {
        self.pending.sort_by_key(Unit::at);
        std::mem::take(&mut self.pending)
    }

    /// The next complete box: header, length of the header, body.
    fn next_box(&mut self) -> anyhow::Result<Option<(Header, usize, Bytes)>> {
        let mut peek = &self.buffer[..];
        let Some(header) = Header::decode_maybe(&mut peek)? else {
            return Ok(None);
        };
        let length = self.buffer.len() - peek.remaining();
        let size = header
            .size
            .ok_or_else(|| anyhow::anyhow!("a box without length"))?;
        anyhow::ensure!(
            size <= MAX_BOX_BYTES,
            "a {} box of {size} bytes: this is not a fragmented MP4 file",
            header.kind
        );
        if peek.remaining() < size {
            return Ok(None);
        }
        self.buffer.advance(length);
        let body = self.buffer.split_to(size).freeze();
        Ok(Some((header, length, body)))
    }

    fn handle_box(
        &mut self,
        header: Header,
        header_bytes: usize,
        body: &Bytes,
    ) -> anyhow::Result<()> {
        match header.kind {
            MOOV => self.read_header(&decode::<Moov>(&header, body)?),
            MOOF => {
                self.fragment = Some((decode::<Moof>(&header, body)?, header_bytes + body.len()));
            }
            MDAT => {
                let Some((moof, moof_bytes)) = self.fragment.take() else {
                    anyhow::bail!("media data before its index: this MP4 file is not fragmented");
                };
                for traf in &moof.traf {
                    self.read_track(traf, body, moof_bytes + header_bytes)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn read_header(&mut self, moov: &Moov) {
        let mut streams = Streams {
            video: None,
            audio: false,
        };
        for trak in &moov.trak {
            let kind = match trak.mdia.minf.stbl.stsd.codecs.first() {
                Some(Codec::Avc1(avc1)) if streams.video.is_none() => {
                    let sets = |list: &[Vec<u8>]| list.iter().cloned().map(Bytes::from).collect();
                    let sps: Vec<Bytes> = sets(&avc1.avcc.sequence_parameter_sets);
                    let pps = sets(&avc1.avcc.picture_parameter_sets);
                    let config = sps
                        .into_iter()
                        .next()
                        .map(|sps| h264::Config::new(sps, pps));
                    let Some(Ok(config)) = config else { continue };
                    streams.video = (avc1.avcc.length_size == 4).then_some(config);
                    Kind::Video
                }
                Some(Codec::Opus(opus))
                    if !streams.audio && opus.dops.output_channel_count <= 2 =>
                {
                    streams.audio = true;
                    Kind::Audio
                }
                _ => continue,
            };
            let id = trak.tkhd.track_id;
            let defaults = moov.mvex.iter().flat_map(|mvex| &mvex.trex);
            let trex = defaults.into_iter().find(|trex| trex.track_id == id);
            self.tracks.push(TrackInfo {
                id,
                kind,
                timescale: u64::from(trak.mdia.mdhd.timescale).max(1),
                default_duration: trex.map_or(0, |trex| trex.default_sample_duration),
                default_size: trex.map_or(0, |trex| trex.default_sample_size),
                default_flags: trex.map_or(0, |trex| trex.default_sample_flags),
            });
        }
        self.streams = Some(streams);
    }

    fn read_track(&mut self, traf: &Traf, mdat: &Bytes, mdat_at: usize) -> anyhow::Result<()> {
        let Some(track) = self
            .tracks
            .iter()
            .find(|track| track.id == traf.tfhd.track_id)
        else {
            return Ok(());
        };
        let mut track = *track;
        let override_with = |value: &mut u32, given: Option<u32>| *value = given.unwrap_or(*value);
        override_with(
            &mut track.default_duration,
            traf.tfhd.default_sample_duration,
        );
        override_with(&mut track.default_size, traf.tfhd.default_sample_size);
        override_with(&mut track.default_flags, traf.tfhd.default_sample_flags);
        let mut time = traf
            .tfdt
            .as_ref()
            .map_or(0, |tfdt| tfdt.base_media_decode_time);
        for run in &traf.trun {
            time = self.read_run(track, run, time, mdat, mdat_at)?;
        }
        Ok(())
    }

    /// One run of samples that lie behind each other; returns the time after it.
    fn read_run(
        &mut self,
        track: TrackInfo,
        run: &Trun,
        mut time: u64,
        mdat: &Bytes,
        mdat_at: usize,
    ) -> anyhow::Result<u64> {
        let offset = run
            .data_offset
            .and_then(|offset| usize::try_from(offset).ok());
        let start = offset.and_then(|offset| offset.checked_sub(mdat_at));
        let mut at =
            start.ok_or_else(|| anyhow::anyhow!("a run of samples outside of its fragment"))?;
        for entry in run.samples.iter() {
            let size = usize::try_from(entry.size.unwrap_or(track.default_size))?;
            let end = at.checked_add(size).filter(|end| *end <= mdat.len());
            let end = end.ok_or_else(|| anyhow::anyhow!("a sample outside of its fragment"))?;
            let duration = u64::from(entry.duration.unwrap_or(track.default_duration));
            self.read_sample(track, &entry, time, duration, mdat.slice(at..end))?;
            time = time.saturating_add(duration);
            at = end;
        }
        Ok(time)
    }

    fn read_sample(
        &mut self,
        track: TrackInfo,
        entry: &TrunEntry,
        time: u64,
        duration: u64,
        data: Bytes,
    ) -> anyhow::Result<()> {
        let scale = |ticks: u64, rate: u64| {
            let scaled = u128::from(ticks) * u128::from(rate) / u128::from(track.timescale);
            u64::try_from(scaled)
        };
        let unit = match track.kind {
            Kind::Video => {
                let config = self
                    .streams
                    .as_ref()
                    .and_then(|streams| streams.video.as_ref());
                let Some(config) = config else { return Ok(()) };
                self.reordered |= entry.cts.is_some_and(|offset| offset != 0);
                // bit 16: sample_is_non_sync_sample (ISO/IEC 14496-12 §8.8.3.1)
                let flags = entry.flags.unwrap_or(track.default_flags);
                Unit {
                    kind: Kind::Video,
                    ticks: scale(time, VIDEO_RATE)?,
                    duration: scale(duration, VIDEO_RATE)?,
                    keyframe: flags & 0x1_0000 == 0,
                    payloads: h264_payloads(&data, config)?,
                }
            }
            Kind::Audio => {
                let duration = u64::from(opus::duration_samples(&data)?);
                let ticks = behind(self.sound_end, scale(time, AUDIO_RATE)?);
                self.sound_end = Some(ticks.saturating_add(duration));
                Unit {
                    kind: Kind::Audio,
                    ticks,
                    duration,
                    keyframe: true,
                    payloads: vec![data],
                }
            }
        };
        self.pending.push(unit);
        Ok(())
    }
}

/// Where sound begins that a container puts at `ticks`: exactly behind the sound before it, when that is what it means.
fn behind(end: Option<u64>, ticks: u64) -> u64 {
    end.filter(|end| end.abs_diff(ticks) <= ROUNDING_SAMPLES)
        .unwrap_or(ticks)
}

/// Decodes the body of a box.
fn decode<T: mp4_atom::DecodeAtom>(header: &Header, body: &Bytes) -> anyhow::Result<T> {
    let mut body = &body[..];
    T::decode_atom(header, &mut body)
        .map_err(|error| anyhow::anyhow!("a broken {} box: {error}", header.kind))
}

#[cfg(test)]
mod tests {
    use super::super::DEMO_CLIP;
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8], step: usize) -> (Reader, Vec<Unit>) {
        let mut reader = Reader::default();
        let mut units = Vec::new();
        for chunk in bytes.chunks(step) {
            reader.push(chunk).expect("valid");
            units.extend(reader.take_ready());
        }
        units.extend(reader.take_rest());
        (reader, units)
    }

    #[test]
    fn the_demo_clip_is_what_its_script_promises() {
        let (reader, units) = read(DEMO_CLIP, 100_000);
        let config = reader
            .streams()
            .and_then(|streams| streams.video.clone())
            .expect("H.264");
        assert_eq!((config.width, config.height), (1280, 720));
        assert_eq!(config.profile_level(), [0x42, 0xc0, 0x1f]);
        assert!(!reader.is_reordered());
        let ticks = |kind| {
            units
                .iter()
                .filter(move |unit| unit.kind == kind)
                .map(|unit| unit.ticks)
        };
        assert!(ticks(Kind::Video).eq((0..240).map(|n| n * 3_000)));
        assert!(ticks(Kind::Audio).eq((0..400).map(|n| n * 960)));
        assert!(units.is_sorted_by_key(Unit::at));
        let keyframes = units
            .iter()
            .filter(|unit| unit.kind == Kind::Video && unit.keyframe);
        assert!(
            keyframes
                .map(|unit| unit.ticks)
                .eq((0..8).map(|n| n * 90_000))
        );
    }

    #[test]
    fn sound_in_rounded_milliseconds_lies_on_its_samples_again() {
        // Matroska puts packets of 20 ms, the first half a millisecond early, at 0, 21, 41, …; a real hole stays.
        let said_ms = [0, 21, 41, 61, 300, 321];
        let mut end = None;
        let ticks = said_ms.map(|ms| {
            let at = behind(end, ms * 48);
            end = Some(at + 960);
            at
        });
        assert_eq!(ticks, [0, 960, 1_920, 2_880, 14_400, 15_360]);
    }

    #[test]
    fn the_size_of_the_reads_does_not_matter() {
        assert_eq!(read(DEMO_CLIP, DEMO_CLIP.len()).1, read(DEMO_CLIP, 7_001).1);
    }

    #[test]
    fn other_files_are_refused() {
        assert!(Reader::default().push(&[0x1a; 4_096]).is_err());
        assert!(Reader::default().push(b"\0\0\0\x10mdat12345678").is_err());
    }

    proptest! {
        #[test]
        fn damage_is_an_error_or_survived(at in 0_usize..30_000, value in any::<u8>()) {
            let mut bytes = DEMO_CLIP[..60_000].to_vec();
            bytes[at] = value;
            let mut reader = Reader::default();
            let _ = reader.push(&bytes);
            let _ = reader.take_rest();
        }
    }
}
