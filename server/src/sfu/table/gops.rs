//! What each source has sent since its last keyframe, for subscribers who come in between: they see the present picture at
//! once, and the source is not asked for a keyframe by everyone who comes.
//!
//! Pictures that are over are decoded and not watched: they get RTP times close to each other before the newest one, so that
//! a player passes through them as fast as it can and is not behind afterwards.
//!
//! Kept is the picture of a single layer, of sources that feed somebody. Bound: [`MAX_PACKETS`] and [`MAX_BYTES`] per source; of what
//! needs more, or misses a packet, nothing is kept up to the next keyframe.

use std::time::{Duration, Instant};

use crate::sfu::egress::may_begin_keyframe;
use crate::sfu::ingress_clock::Media;
use crate::sfu::packet::Relayed;

/// Most packets, and bytes, of one source: what a pacer without an estimate lets go within 0.2 s.
const MAX_PACKETS: usize = 320;
const MAX_BYTES: usize = 300_000;
/// What is older is not the present picture.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Between two pictures that are only decoded: a millisecond.
const STEP: u32 = 90;

/// The pictures of one source.
#[derive(Debug, Default)]
pub(super) struct Gop {
    packets: Vec<Relayed>,
    bytes: usize,
    /// It comes in several layers.
    is_layered: bool,
}

impl Gop {
    /// Notes a packet of the source.
    pub(super) fn add(&mut self, relayed: &Relayed) {
        if relayed.media != Media::Video {
            return;
        }
        self.is_layered = relayed.layers > 1;
        let packet = &relayed.packet;
        let is_of_first = self
            .packets
            .first()
            .is_some_and(|first| first.packet.timestamp == packet.timestamp);
        let begins = !self.is_layered && !is_of_first && may_begin_keyframe(&packet.payload);
        let follows = self.packets.last().is_some_and(|last| {
            let next = last.packet.sequence.wrapping_add(1);
            last.ssrc == relayed.ssrc && next == packet.sequence
        });
        let bytes = self.bytes + packet.payload.len();
        if begins || !follows || self.packets.len() >= MAX_PACKETS || bytes > MAX_BYTES {
            self.packets.clear();
            self.bytes = 0;
        }
        if begins || !self.packets.is_empty() {
            self.bytes += packet.payload.len();
            self.packets.push(relayed.clone());
        }
    }

    /// A keyframe has to be waited for, and would be kept.
    pub(super) fn lacks_keyframe(&self) -> bool {
        self.packets.is_empty() && !self.is_layered
    }

    /// Everything from the keyframe on, as if it had come now.
    pub(super) fn replay(&self, now: Instant) -> Vec<Relayed> {
        let Some(newest) = self.packets.last() else {
            return Vec::new();
        };
        let age = now.saturating_duration_since(newest.packet.arrived);
        if age > MAX_AGE {
            return Vec::new();
        }
        let mut replayed = self.packets.clone();
        let mut shown = newest.packet.timestamp;
        let mut timestamp = shown;
        for relayed in replayed.iter_mut().rev() {
            let packet = &mut relayed.packet;
            packet.arrived = now;
            if packet.timestamp != shown {
                shown = packet.timestamp;
                timestamp = timestamp.wrapping_sub(STEP);
            }
            packet.timestamp = timestamp;
        }
        replayed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sfu::packet::RtpPacket;
    use bytes::Bytes;

    const IDR: &[u8] = &[0x65, 0x88, 1];
    const OTHER: &[u8] = &[0x41, 0x9a];

    fn packet(now: Instant, sequence: u16, payload: &[u8]) -> Relayed {
        Relayed {
            media: Media::Video,
            ssrc: 7,
            layer: 0,
            layers: 1,
            packet: RtpPacket {
                sequence,
                timestamp: u32::from(sequence) * 3_000,
                marker: true,
                payload: Bytes::copy_from_slice(payload),
                arrived: now,
                repaired: false,
            },
            captured: None,
            config: None,
        }
    }

    fn replayed(gop: &Gop, now: Instant) -> Vec<(u16, u32)> {
        let packets = gop.replay(now).into_iter();
        packets
            .map(|relayed| (relayed.packet.sequence, relayed.packet.timestamp))
            .collect()
    }

    #[test]
    fn who_comes_in_between_gets_what_came_since_the_keyframe() {
        #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
        let now = Instant::now();
        let mut gop = Gop::default();
        gop.add(&packet(now, 1, OTHER));
        assert!(gop.lacks_keyframe());
        for (sequence, payload) in [(2, IDR), (3, OTHER), (4, OTHER)] {
            gop.add(&packet(now, sequence, payload));
        }
        let expected = [(2, 12_000 - 180), (3, 12_000 - 90), (4, 12_000)];
        assert_eq!(replayed(&gop, now), expected);
        assert_eq!(replayed(&gop, now + 2 * MAX_AGE), [], "that is over");
        gop.add(&packet(now, 5, IDR));
        assert_eq!(replayed(&gop, now), [(5, 15_000)]);
        gop.add(&packet(now, 7, OTHER));
        assert!(gop.lacks_keyframe(), "one is missing");
    }

    #[test]
    fn it_is_bounded() {
        #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
        let now = Instant::now();
        let mut gop = Gop::default();
        gop.add(&packet(now, 0, IDR));
        for sequence in 1..2_000 {
            gop.add(&packet(now, sequence, &[0x41; 1_000]));
            assert!(gop.packets.len() <= MAX_PACKETS && gop.bytes <= MAX_BYTES);
        }
        assert!(gop.lacks_keyframe());
        let mut layered = packet(now, 3_000, IDR);
        layered.layers = 3;
        gop.add(&layered);
        assert!(!gop.lacks_keyframe() && replayed(&gop, now).is_empty());
    }
}
