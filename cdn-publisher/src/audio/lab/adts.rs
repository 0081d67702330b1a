//! ADTS: AAC units with a header each, as in `.aac` files (ISO/IEC 14496-3 §1.A.3).

use bytes::Bytes;
use media::aac::Config;

use super::Stream;
use crate::Error;

const HEADER_BYTES: usize = 7;
const CRC_BYTES: usize = 2;

fn invalid(why: &'static str) -> Error {
    Error::Media(media::Error::Invalid { what: "ADTS", why })
}

/// Reads a whole file.
///
/// # Errors
/// [`Error::Media`] when it is not ADTS throughout, changes its configuration, or puts several units in a frame.
pub fn read(file: &Bytes) -> Result<Stream, Error> {
    let mut config = None;
    let mut units = Vec::new();
    let mut at = 0;
    while at < file.len() {
        let header: &[u8; HEADER_BYTES] = file
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .ok_or_else(|| invalid("a frame is cut off"))?;
        let [sync, flags, format, shared, middle, low, fullness] = *header;
        if sync != 0xff || flags & 0xf6 != 0xf0 {
            return Err(invalid("a frame does not begin with the sync word"));
        }
        if fullness & 3 != 0 {
            return Err(invalid("a frame holds more than one unit"));
        }
        let object_type = (format >> 6) + 1;
        let rate_index = (format >> 2) & 15;
        let channels = ((format & 1) << 2) | (shared >> 6);
        let asc = [
            (object_type << 3) | (rate_index >> 1),
            (rate_index << 7) | (channels << 3),
        ];
        let own = Config::parse(Bytes::copy_from_slice(&asc))?;
        if *config.get_or_insert_with(|| own.clone()) != own {
            return Err(invalid("the configuration changes within the file"));
        }
        let size = [shared & 3, middle, low]
            .iter()
            .fold(0, |size, byte| (size << 8) | usize::from(*byte))
            >> 5;
        let start = HEADER_BYTES + if flags & 1 == 0 { CRC_BYTES } else { 0 };
        if size < start || at + size > file.len() {
            return Err(invalid("a frame is cut off"));
        }
        units.push(file.slice(at + start..at + size));
        at += size;
    }
    let config = config.ok_or_else(|| invalid("the file is empty"))?;
    Ok(Stream { config, units })
}

/// Writes a file.
///
/// # Errors
/// [`Error::Media`] when a unit is too long for a frame, or the configuration cannot be said in a header.
pub fn write(stream: &Stream) -> Result<Vec<u8>, Error> {
    // Always the plain form: what the sync extension says has no place here.
    let config = Config::lc(stream.config.sample_rate_hz, stream.config.channels)?;
    let [first, second, ..] = *config.asc.as_ref() else {
        return Err(invalid("no configuration"));
    };
    let rate_index = ((first & 7) << 1) | (second >> 7);
    let channels = (second >> 3) & 15;
    let mut out = Vec::new();
    for unit in &stream.units {
        let size = u16::try_from(unit.len() + HEADER_BYTES)
            .ok()
            .filter(|size| *size < 1 << 13)
            .ok_or_else(|| invalid("a unit does not fit into a frame"))?;
        let [middle, low] = (size << 5).to_be_bytes();
        let top = u8::try_from(size >> 11).unwrap_or_default();
        out.extend([
            0xff,
            0xf1,
            (1 << 6) | (rate_index << 2) | (channels >> 2),
            ((channels & 3) << 6) | top,
            middle,
            low | 0x1f,
            0xfc,
        ]);
        out.extend_from_slice(unit);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            rate in prop_oneof![Just(44_100u32), Just(48_000)],
            channels in 1u8..=2,
            lengths in proptest::collection::vec(0usize..8_000, 1..20),
        ) {
            let config = Config::lc(rate, channels).unwrap();
            let units = lengths.iter().map(|length| vec![length.to_le_bytes()[0]; *length].into()).collect();
            let stream = Stream { config, units };
            let file = Bytes::from(write(&stream).unwrap());
            prop_assert_eq!(read(&file).unwrap(), stream);
        }

        #[test]
        fn reading_is_total(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), good in any::<bool>()) {
            if good {
                bytes.splice(0..0, [0xff, 0xf1, 0x4c, 0x80, 0x01, 0x3f, 0xfc, 0x21, 0x10]);
            }
            let _ = read(&bytes.into());
        }
    }
}
