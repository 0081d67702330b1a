//! Who sends what through a relay. The headers of SRTP are in the clear, its payloads are not: streams are told apart by what
//! headers say.

use std::collections::{BTreeMap, HashSet};

/// One stream in one direction, since counting began. Sequence numbers must not wrap twice meanwhile.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// Datagrams that were sent into the relay.
    pub packets: u64,
    /// Their size.
    pub bytes: u64,
    /// Those that the relay lost.
    pub lost: u64,
    /// Those whose number had been sent before.
    pub repeated: u64,
    payload_type: u8,
    numbers: HashSet<u16>,
    times: HashSet<u32>,
}

impl Stream {
    /// How many different times its packets have: pictures, if it is one of pictures.
    #[must_use]
    pub fn pictures(&self) -> usize {
        self.times.len()
    }

    /// Whether most of its times are those of another stream. Not all: what it repeats may have been sent before counting
    /// began.
    fn repeats(&self, other: &Self) -> bool {
        let common = self.times.intersection(&other.times).count();
        self.payload_type != other.payload_type && 2 * common > self.times.len()
    }
}

/// All streams of one direction.
#[derive(Clone, Debug, Default)]
pub struct Census {
    streams: BTreeMap<u32, Stream>,
    /// Datagrams that are not RTP: STUN, DTLS, RTCP.
    pub others: u64,
}

/// The header of RTP (RFC 3550 §5.1): payload type, sequence number, timestamp, SSRC. `None` for RTCP (RFC 5761 §4)
/// and for everything else.
fn header(datagram: &[u8]) -> Option<(u8, u16, u32, u32)> {
    let (&[first, second, rest @ ..], _) = datagram.split_first_chunk::<12>()?;
    let is_rtp = first >> 6 == 2 && !(192..=223).contains(&second);
    let [a, b, t0, t1, t2, t3, s0, s1, s2, s3] = rest;
    is_rtp.then(|| {
        (
            second & 0x7f,
            u16::from_be_bytes([a, b]),
            u32::from_be_bytes([t0, t1, t2, t3]),
            u32::from_be_bytes([s0, s1, s2, s3]),
        )
    })
}

impl Census {
    pub(super) fn count(&mut self, datagram: &[u8], lost: bool) {
        let Some((payload_type, number, time, ssrc)) = header(datagram) else {
            self.others += 1;
            return;
        };
        let stream = self.streams.entry(ssrc).or_default();
        stream.payload_type = payload_type;
        stream.packets += 1;
        stream.bytes += u64::try_from(datagram.len()).unwrap_or(0);
        stream.lost += u64::from(lost);
        stream.repeated += u64::from(!stream.numbers.insert(number));
        stream.times.insert(time);
    }

    /// The stream with the most bytes: the pictures of a single publisher or viewer.
    #[must_use]
    pub fn video(&self) -> Option<&Stream> {
        self.streams.values().max_by_key(|stream| stream.bytes)
    }

    /// Packets of the pictures that were sent again, and how many were lost of all, the repeated ones included. Repeated
    /// are those with a number a second time, and those of a stream that has no times of its own (RFC 4588 §4).
    #[must_use]
    pub fn repairs(&self) -> (u64, u64) {
        let Some(video) = self.video() else {
            return (0, 0);
        };
        let (mut repeated, mut lost) = (video.repeated, video.lost);
        for stream in self.streams.values() {
            if stream.repeats(video) {
                repeated += stream.packets;
                lost += stream.lost;
            }
        }
        (repeated, lost)
    }

    /// Bytes of all streams.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.streams.values().map(|stream| stream.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtp(payload_type: u8, number: u16, time: u32, ssrc: u32, size: usize) -> Vec<u8> {
        let mut out = vec![0x80, payload_type];
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&time.to_be_bytes());
        out.extend_from_slice(&ssrc.to_be_bytes());
        out.resize(12 + size, 0);
        out
    }

    #[test]
    fn repairs_are_told_from_media() {
        let mut census = Census::default();
        census.count(&rtp(96, 1, 100, 1, 900), false);
        census.count(&rtp(96, 2, 200, 1, 900), true);
        census.count(&rtp(97, 77, 200, 2, 900), true);
        census.count(&rtp(97, 78, 200, 2, 900), false);
        census.count(&rtp(96, 2, 200, 1, 900), false);
        census.count(&rtp(111, 5, 960, 3, 80), true);
        census.count(&[0x80, 200, 0, 1, 0, 0, 0, 1], false);
        assert_eq!(census.repairs(), (3, 2));
        assert_eq!(census.others, 1);
        assert_eq!(census.video().expect("pictures").packets, 3);
    }
}
