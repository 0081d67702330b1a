//! Enhanced RTMP: tags that name their codec by a FourCC. Source: Veovera, Enhancing RTMP and FLV, v1 and v2.
//!
//! H.264 and AAC may come this way too; [`plain`] gives such a tag the form that every player knows. Other codecs are
//! refused by name, so that a broadcaster learns what to change.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::TagKind;
use crate::Error;

const VIDEO: &str = "FLV video tag";
const AUDIO: &str = "FLV audio tag";

/// Packet types of video and audio (v2, table "ExVideoTagHeader" and "ExAudioTagHeader").
mod packet {
    pub(super) const SEQUENCE_START: u8 = 0;
    pub(super) const CODED_FRAMES: u8 = 1;
    pub(super) const SEQUENCE_END: u8 = 2;
    /// Coded frames without a composition time: it is zero.
    pub(super) const CODED_FRAMES_X: u8 = 3;
    /// Colour information (video), channel order (audio).
    pub(super) const METADATA: u8 = 4;
    pub(super) const MULTITRACK_AUDIO: u8 = 5;
    pub(super) const MULTITRACK_VIDEO: u8 = 6;
    /// A prefix that modifies what follows, such as nanoseconds of the timestamp.
    pub(super) const MOD_EX: u8 = 7;
}

/// The body of a tag as [`super::VideoBody`] and [`super::AudioBody`] read it: enhanced signalling of H.264 and AAC is
/// rewritten, everything else stays as it is. `None`: the tag says nothing that a decoder needs.
///
/// # Errors
/// [`Error::Unsupported`] names the codec and what to send instead; [`Error::Truncated`].
pub fn plain(kind: TagKind, body: &Bytes) -> Result<Option<Bytes>, Error> {
    let first = body.first().copied().unwrap_or_default();
    match kind {
        TagKind::Video if first & 0x80 != 0 => video(first, body.clone()),
        TagKind::Audio if first >> 4 == 9 => audio(first, body.clone()),
        TagKind::Video | TagKind::Audio | TagKind::Script => Ok(Some(body.clone())),
    }
}

fn video(first: u8, mut body: Bytes) -> Result<Option<Bytes>, Error> {
    body.advance(1);
    let kind = modifiers(VIDEO, first & 0x0f, &mut body)?;
    if kind == packet::MULTITRACK_VIDEO {
        return unsupported(VIDEO, "several video tracks are not accepted; send one");
    }
    let fourcc = take_fourcc(VIDEO, &mut body)?;
    if &fourcc != b"avc1" {
        let why = match &fourcc {
            b"hvc1" | b"hev1" => "HEVC is not accepted; set the encoder to H.264",
            b"av01" => "AV1 is not accepted; set the encoder to H.264",
            b"vp09" => "VP9 is not accepted; set the encoder to H.264",
            b"vp08" => "VP8 is not accepted; set the encoder to H.264",
            b"vvc1" => "VVC is not accepted; set the encoder to H.264",
            _ => "this codec is not accepted; set the encoder to H.264",
        };
        return unsupported(VIDEO, why);
    }
    let frame_type = (first >> 4) & 0x07;
    let (kind, composition): (u8, &[u8]) = match kind {
        packet::SEQUENCE_START => (0, &[0; 3]),
        packet::CODED_FRAMES => (1, &[]),
        packet::CODED_FRAMES_X => (1, &[0; 3]),
        packet::SEQUENCE_END => (2, &[0; 3]),
        packet::METADATA => return Ok(None),
        _ => return unsupported(VIDEO, "unknown packet type of enhanced RTMP"),
    };
    Ok(Some(joined(
        &[&[(frame_type << 4) | 7, kind], composition],
        &body,
    )))
}

fn audio(first: u8, mut body: Bytes) -> Result<Option<Bytes>, Error> {
    body.advance(1);
    let kind = modifiers(AUDIO, first & 0x0f, &mut body)?;
    if kind == packet::MULTITRACK_AUDIO {
        return unsupported(AUDIO, "several audio tracks are not accepted; send one");
    }
    let fourcc = take_fourcc(AUDIO, &mut body)?;
    if &fourcc != b"mp4a" {
        let why = match &fourcc {
            b"Opus" => "Opus by RTMP is not accepted; set the encoder to AAC, or publish by WHIP",
            b"ac-3" | b"ec-3" => "AC-3 is not accepted; set the encoder to AAC",
            b"fLaC" => "FLAC is not accepted; set the encoder to AAC",
            b".mp3" => "MP3 is not accepted; set the encoder to AAC",
            _ => "this codec is not accepted; set the encoder to AAC",
        };
        return unsupported(AUDIO, why);
    }
    let kind = match kind {
        packet::SEQUENCE_START => 0,
        packet::CODED_FRAMES => 1,
        packet::SEQUENCE_END | packet::METADATA => return Ok(None),
        _ => return unsupported(AUDIO, "unknown packet type of enhanced RTMP"),
    };
    Ok(Some(joined(&[&[0xaf, kind]], &body)))
}

/// Passes modifiers over; the packet type behind them. Each takes two bytes at least, so this ends.
fn modifiers(what: &'static str, mut kind: u8, body: &mut Bytes) -> Result<u8, Error> {
    while kind == packet::MOD_EX {
        let truncated = Error::Truncated { what, at: 0 };
        let mut size = usize::from(body.try_get_u8().map_err(|_| truncated.clone())?) + 1;
        if size == 256 {
            size = usize::from(body.try_get_u16().map_err(|_| truncated.clone())?) + 1;
        }
        if body.len() <= size {
            return Err(truncated);
        }
        body.advance(size);
        kind = body.get_u8() & 0x0f;
    }
    Ok(kind)
}

fn take_fourcc(what: &'static str, body: &mut Bytes) -> Result<[u8; 4], Error> {
    if body.len() < 4 {
        return Err(Error::Truncated {
            what,
            at: body.len(),
        });
    }
    let mut fourcc = [0; 4];
    body.copy_to_slice(&mut fourcc);
    Ok(fourcc)
}

fn joined(head: &[&[u8]], rest: &Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + rest.len());
    head.iter().for_each(|part| out.put_slice(part));
    out.put_slice(rest);
    out.freeze()
}

fn unsupported<T>(what: &'static str, why: &'static str) -> Result<T, Error> {
    Err(Error::Unsupported { what, why })
}

#[cfg(test)]
mod tests {
    use super::super::{AudioBody, VideoBody};
    use super::*;
    use proptest::prelude::*;

    fn bytes(parts: &[&[u8]]) -> Bytes {
        Bytes::from(parts.concat())
    }

    #[test]
    fn plain_tags_stay_as_they_are() {
        let body = bytes(&[&[0x17, 1, 0, 0, 7, 1, 2]]);
        assert_eq!(plain(TagKind::Video, &body), Ok(Some(body.clone())));
        let body = bytes(&[&[0xaf, 1, 9]]);
        assert_eq!(plain(TagKind::Audio, &body), Ok(Some(body.clone())));
    }

    #[test]
    fn h264_and_aac_become_plain() {
        let read = |body: Bytes| {
            let plain = plain(TagKind::Video, &body)
                .expect("accepted")
                .expect("a body");
            VideoBody::parse(&plain).expect("plain")
        };
        let nals = Bytes::from_static(&[0, 0, 0, 1, 0x65]);
        let with_time = read(bytes(&[&[0x91], b"avc1", &[0xff, 0xff, 0xf6], &nals]));
        let expected = |composition_ms| VideoBody::Avc {
            keyframe: true,
            composition_ms,
            data: nals.clone(),
        };
        assert_eq!(with_time, expected(-10));
        assert_eq!(read(bytes(&[&[0x93], b"avc1", &nals])), expected(0));
        // Behind a modifier of three bytes.
        let modified = bytes(&[&[0x97, 2, 1, 2, 3, 0x03], b"avc1", &nals]);
        assert_eq!(read(modified), expected(0));
        let record = Bytes::from_static(&[1, 2, 3]);
        let start = read(bytes(&[&[0x90], b"avc1", &record]));
        assert_eq!(start, VideoBody::AvcConfig(record));
        let sound = plain(TagKind::Audio, &bytes(&[&[0x91], b"mp4a", &[5, 6]]));
        let sound = AudioBody::parse(&sound.expect("accepted").expect("a body"));
        assert_eq!(sound, Ok(AudioBody::Aac(Bytes::from_static(&[5, 6]))));
    }

    #[test]
    fn others_are_refused_by_name() {
        let why = |kind, body: Bytes| plain(kind, &body).expect_err("refused").to_string();
        for (fourcc, name) in [(b"hvc1", "HEVC"), (b"av01", "AV1"), (b"vp09", "VP9")] {
            let why = why(TagKind::Video, bytes(&[&[0x90], fourcc, &[0]]));
            assert!(why.contains(name) && why.contains("H.264"), "{why}");
        }
        let opus = why(TagKind::Audio, bytes(&[&[0x90], b"Opus", &[0]]));
        assert!(opus.contains("Opus") && opus.contains("AAC"), "{opus}");
        let tracks = why(TagKind::Video, bytes(&[&[0x96, 0x00], b"avc1"]));
        assert!(tracks.contains("tracks"), "{tracks}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(
            first in prop_oneof![0x80_u8..=0xff, any::<u8>()],
            rest in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let body = bytes(&[&[first], &rest]);
            for kind in [TagKind::Video, TagKind::Audio, TagKind::Script] {
                let _ = plain(kind, &body);
            }
        }
    }
}
