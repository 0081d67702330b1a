//! Which stream a publisher's packet belongs to.
//!
//! By payload type it is picture or sound, and media or retransmission. Layers of a picture are told apart by the names
//! that their packets carry (RFC 8852), which senders may leave out once they believe that the SSRC is known; so the SSRC of
//! a named packet is remembered.
//!
//! A kind, or a layer, has one stream at a time: another SSRC takes over only when the first has been silent for
//! [`TAKEOVER`], so that a stray cannot interleave with it.

use std::time::{Duration, Instant};

use rtc::rtp::Header;

use crate::sfu::ingress_clock::{Media, Which};
use crate::sfu::sdp::{Extension, Offer};

/// Silence after which a stream may be replaced by one with another SSRC.
const TAKEOVER: Duration = Duration::from_millis(500);
/// Most SSRCs whose layer is remembered; the oldest is forgotten first.
const MAX_BOUND: usize = 16;

/// The stream that a kind or layer has now.
#[derive(Clone, Copy, Debug)]
struct Current {
    which: Which,
    ssrc: u32,
    heard: Instant,
}

/// All streams of one publisher.
#[derive(Debug)]
pub(super) struct Streams {
    /// Names of the layers; empty when there is one stream.
    layers: Vec<String>,
    /// Ids of the extensions for the layer of media and of retransmissions.
    rid: Option<u8>,
    repaired_rid: Option<u8>,
    bound: Vec<(u32, usize)>,
    current: Vec<Current>,
}

impl Streams {
    pub(super) fn new(offer: &Offer) -> Self {
        let taken = offer.taken(Media::Video);
        let id = |wanted: Extension| {
            let mut extensions = taken.iter().flat_map(|taken| &taken.extensions);
            extensions
                .find(|(_, held)| *held == wanted)
                .map(|(id, _)| *id)
        };
        Self {
            layers: taken.map(|taken| taken.layers.clone()).unwrap_or_default(),
            rid: id(Extension::Rid),
            repaired_rid: id(Extension::RepairedRid),
            bound: Vec::new(),
            current: Vec::new(),
        }
    }

    /// The stream of a packet, and that stream's SSRC; none when it is nobody's.
    pub(super) fn place(
        &mut self,
        now: Instant,
        media: Media,
        is_rtx: bool,
        header: &Header,
    ) -> Option<(Which, u32)> {
        let layer = match media {
            Media::Video if !self.layers.is_empty() => self.layer(is_rtx, header)?,
            Media::Video | Media::Audio => 0,
        };
        let which = Which { media, layer };
        if is_rtx {
            let current = self.current.iter().find(|held| held.which == which)?;
            return Some((which, current.ssrc));
        }
        self.is_current(now, which, header.ssrc)
            .then_some((which, header.ssrc))
    }

    fn layer(&mut self, is_rtx: bool, header: &Header) -> Option<usize> {
        let id = if is_rtx { self.repaired_rid } else { self.rid };
        let name = id.and_then(|id| header.get_extension(id));
        let named = name.and_then(|name| {
            let mut layers = self.layers.iter();
            layers.position(|held| held.as_bytes() == name.as_ref())
        });
        let bound = self.bound.iter().position(|(ssrc, _)| *ssrc == header.ssrc);
        match (named, bound.and_then(|at| self.bound.get_mut(at))) {
            (Some(layer), Some(held)) => held.1 = layer,
            (Some(layer), None) => {
                if self.bound.len() >= MAX_BOUND {
                    self.bound.remove(0);
                }
                self.bound.push((header.ssrc, layer));
            }
            (None, Some(held)) => return Some(held.1),
            (None, None) => {}
        }
        named
    }

    /// Whether `ssrc` is (now) the stream.
    fn is_current(&mut self, now: Instant, which: Which, ssrc: u32) -> bool {
        let Some(held) = self.current.iter_mut().find(|held| held.which == which) else {
            self.current.push(Current {
                which,
                ssrc,
                heard: now,
            });
            return true;
        };
        if held.ssrc == ssrc {
            held.heard = now;
        } else if now.saturating_duration_since(held.heard) < TAKEOVER {
            return false;
        } else {
            *held = Current {
                which,
                ssrc,
                heard: now,
            };
        }
        true
    }

    /// The streams that have this SSRC.
    pub(super) fn of(&self, ssrc: u32) -> impl Iterator<Item = Which> + '_ {
        let current = self.current.iter();
        current
            .filter(move |held| held.ssrc == ssrc)
            .map(|held| held.which)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sfu::sdp::Direction;
    use bytes::Bytes;

    const RID: u8 = 10;
    const REPAIRED: u8 = 11;

    #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn header(ssrc: u32, name: Option<(u8, &'static str)>) -> Header {
        let mut header = Header {
            version: 2,
            ssrc,
            ..Header::default()
        };
        if let Some((id, name)) = name {
            let name = Bytes::from_static(name.as_bytes());
            header.set_extension(id, name).expect("short");
        }
        header
    }

    #[test]
    fn layers_are_told_by_name_and_then_by_ssrc() {
        let offer = crate::sfu::ingest::layer_tests::offer();
        let offer = Offer::parse(&offer, Direction::Publish).expect("accepted");
        let mut streams = Streams::new(&offer);
        let t = origin();
        let mut place = |now: Duration, is_rtx, header: &Header| {
            let place = streams.place(t + now, Media::Video, is_rtx, header);
            place.map(|(which, ssrc)| (which.layer, ssrc))
        };
        let ms = Duration::from_millis;
        assert_eq!(place(ms(0), false, &header(5, None)), None, "nobody's");
        assert_eq!(place(ms(0), true, &header(15, Some((REPAIRED, "h")))), None);
        assert_eq!(
            place(ms(0), false, &header(5, Some((RID, "h")))),
            Some((2, 5))
        );
        assert_eq!(
            place(ms(0), false, &header(3, Some((RID, "l")))),
            Some((0, 3))
        );
        assert_eq!(place(ms(0), false, &header(9, Some((RID, "x")))), None);
        assert_eq!(place(ms(1), false, &header(5, None)), Some((2, 5)));
        // The layer's SSRC, whatever that of the retransmission.
        assert_eq!(
            place(ms(1), true, &header(15, Some((REPAIRED, "h")))),
            Some((2, 5))
        );
        assert_eq!(place(ms(1), true, &header(15, None)), Some((2, 5)));
        // Another takes a layer over only when it has been silent.
        assert_eq!(place(ms(2), false, &header(6, Some((RID, "h")))), None);
        assert_eq!(
            place(ms(900), false, &header(6, Some((RID, "h")))),
            Some((2, 6))
        );
        for ssrc in 100..400 {
            place(ms(900), false, &header(ssrc, Some((RID, "m"))));
        }
        assert!(streams.bound.len() <= MAX_BOUND);
    }
}
