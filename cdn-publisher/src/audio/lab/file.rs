//! AAC streams in files: ADTS, and the sound of an FLV.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use media::flv::{Demuxer, Item, Muxer, Reader, file_header};
use media::{AccessUnit, Config, Rate, Timestamp, Track, TrackId};

use super::{Stream, UNIT, adts};
use crate::Error;

/// How a file holds its units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// `.aac`
    Adts,
    /// `.flv`
    Flv,
}

impl Container {
    /// By the first bytes; `None` for anything else.
    #[must_use]
    pub fn of(file: &[u8]) -> Option<Self> {
        match file {
            [b'F', b'L', b'V', ..] => Some(Self::Flv),
            [0xff, second, ..] if second & 0xf6 == 0xf0 => Some(Self::Adts),
            _ => None,
        }
    }
}

fn unsupported(why: &'static str) -> Error {
    Error::Media(media::Error::Unsupported {
        what: "this file",
        why,
    })
}

/// Reads the AAC of a file.
///
/// # Errors
/// [`Error::Media`] when the file is neither ADTS nor FLV with AAC of one configuration.
pub fn read(file: &Bytes) -> Result<Stream, Error> {
    match Container::of(file) {
        Some(Container::Adts) => adts::read(file),
        Some(Container::Flv) => read_flv(file),
        None => Err(unsupported(
            "only ADTS (.aac) and FLV are read; convert it: ffmpeg -i FILE -vn -c:a copy out.aac",
        )),
    }
}

fn read_flv(file: &Bytes) -> Result<Stream, Error> {
    let mut reader = Reader::default();
    reader.push(file);
    let mut demuxer = Demuxer::default();
    let (mut config, mut units) = (None, Vec::new());
    while let Some(item) = reader.next_item()? {
        let Item::Tag(tag) = item else { continue };
        let Some(unit) = demuxer.push(&tag)? else {
            continue;
        };
        let Config::Aac(own) = &unit.track.config else {
            continue;
        };
        if config.get_or_insert_with(|| own.clone()) != own {
            return Err(unsupported("its AAC configuration changes on the way"));
        }
        units.push(unit.data);
    }
    let config = config.ok_or_else(|| unsupported("there is no AAC in it"))?;
    Ok(Stream { config, units })
}

/// Writes a stream as a file.
///
/// # Errors
/// [`Error::Media`] when a unit does not fit into the container.
pub fn write(stream: &Stream, container: Container) -> Result<Vec<u8>, Error> {
    match container {
        Container::Adts => adts::write(stream),
        Container::Flv => write_flv(stream),
    }
}

fn write_flv(stream: &Stream) -> Result<Vec<u8>, Error> {
    let rate = Rate::new(stream.config.sample_rate_hz).unwrap_or(Rate::AUDIO);
    let track = Arc::new(Track {
        id: TrackId(1),
        config: Config::Aac(stream.config.clone()),
        rate,
    });
    let mut out = BytesMut::from(file_header(true, false).as_ref());
    let mut muxer = Muxer::default();
    for (n, data) in stream.units.iter().enumerate() {
        let ticks = i64::try_from(n * UNIT).unwrap_or(i64::MAX);
        let at = Timestamp::new(ticks, rate);
        let unit = AccessUnit {
            track: Arc::clone(&track),
            pts: at,
            dts: at,
            keyframe: true,
            discontinuity: false,
            data: data.clone(),
        };
        for tag in muxer.push(&unit)? {
            tag.write(&mut out);
        }
    }
    Ok(out.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_containers_give_back_what_they_got() {
        let config = media::aac::Config::lc(44_100, 1).unwrap();
        let units = (1..50u8).map(|n| vec![n; usize::from(n)].into()).collect();
        let stream = Stream { config, units };
        for container in [Container::Adts, Container::Flv] {
            let file = Bytes::from(write(&stream, container).unwrap());
            assert_eq!(Container::of(&file), Some(container));
            assert_eq!(read(&file).unwrap(), stream);
        }
    }

    #[test]
    fn other_files_are_refused_with_what_to_do() {
        let error = read(&Bytes::from_static(b"\0\0\0\x20ftypM4A ")).unwrap_err();
        assert!(error.to_string().contains("ffmpeg -i"), "{error}");
    }

    proptest! {
        #[test]
        fn reading_is_total(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), flv in any::<bool>()) {
            if flv {
                bytes.splice(0..0, file_header(true, true));
            }
            let _ = read(&bytes.into());
        }
    }
}
