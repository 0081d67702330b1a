//! Opus packets as far as a server must look into them: how long they last (RFC 6716 §3.1).

use crate::Error;

/// What an Opus decoder needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// Channels to decode to: 1 or 2.
    pub channels: u8,
}

/// Longest packet that the format allows, in samples at 48 kHz (120 ms).
pub const MAX_SAMPLES: u32 = 5_760;

/// Samples per channel at 48 kHz of `packet`.
///
/// # Errors
/// [`Error::Truncated`] when empty or without its frame count, [`Error::Invalid`] over 120 ms.
pub fn duration_samples(packet: &[u8]) -> Result<u32, Error> {
    const WHAT: &str = "Opus packet";
    let toc = *packet
        .first()
        .ok_or(Error::Truncated { what: WHAT, at: 0 })?;
    let frame = match toc >> 3 {
        silk @ 0..=11 => [480, 960, 1_920, 2_880][usize::from(silk & 3)],
        hybrid @ 12..=15 => [480, 960][usize::from(hybrid & 1)],
        celt => [120, 240, 480, 960][usize::from(celt & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(
            packet
                .get(1)
                .ok_or(Error::Truncated { what: WHAT, at: 1 })?
                & 0x3f,
        ),
    };
    let samples = frame * frames;
    if samples == 0 || samples > MAX_SAMPLES {
        return Err(Error::Invalid {
            what: WHAT,
            why: "its frames must last more than 0 and at most 120 ms",
        });
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_packets() {
        assert_eq!(duration_samples(&[0xfc]), Ok(960)); // CELT full band 20 ms, as browsers send
        assert_eq!(duration_samples(&[0x78]), Ok(960)); // hybrid 20 ms
        assert_eq!(duration_samples(&[0xfb, 0x03]), Ok(2_880)); // three frames of 20 ms
    }

    #[test]
    fn bad_packets_are_errors() {
        assert!(duration_samples(&[]).is_err());
        assert!(duration_samples(&[0xfb]).is_err());
        assert!(duration_samples(&[0xfb, 0x00]).is_err());
        assert!(duration_samples(&[0x1b, 0x3f]).is_err()); // 63 × 60 ms
    }
}
