//! WHIP and WHEP offers: read, checked and reduced to what is needed (RFC 8866, RFC 9429, RFC 9725 §4.2).
//!
//! The engine never sees what a client sent: it gets an offer of our own making with the same meaning (`engine`), and
//! the client gets an answer of our own making (`answer`). So hostile SDP meets this parser only, which is total.
//!
//! Taken are the first video section with H.264 and the first audio section with Opus that go the right way; every
//! other section (data channels, second cameras) is answered as rejected. Simulcast is taken up where the layers are told
//! apart by header extension (RFC 8853, RFC 8852); FEC is not. A publisher must send a picture; without an audio section the programme has silence.
//! A subscriber may leave out either, but what is asked for must be possible. Header extensions are the publisher's:
//! forwarded packets have none but a number of ours, where the subscriber reports on it.

pub(crate) mod answer;
pub(crate) mod candidate;
pub(crate) mod fragment;
mod section;

pub(crate) use self::section::{MAX_LAYERS, parameter};

use bytes::Bytes;

use self::section::Lines;
use super::ingress_clock::Media;
use super::types::OfferError;

/// Most lines that are read.
const MAX_LINES: usize = 4_096;
/// Most media sections.
const MAX_SECTIONS: usize = 64;

/// Which way media goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The client sends: WHIP.
    Publish,
    /// The client receives: WHEP.
    Play,
}

/// ICE credentials (RFC 8839 §5.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// User fragment.
    pub(crate) ufrag: String,
    /// Password.
    pub(crate) pwd: String,
}

/// Which side begins the DTLS handshake, as the offer has it (RFC 5763 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    /// The offerer leaves it to us.
    ActPass,
    /// The offerer begins.
    Active,
    /// We begin.
    Passive,
}

impl Setup {
    /// The value that answers it: we begin wherever we may, which saves half a round trip.
    pub(crate) fn answer(self) -> &'static str {
        match self {
            Self::ActPass | Self::Passive => "active",
            Self::Active => "passive",
        }
    }
}

/// RTP header extensions that are taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extension {
    /// Transport-wide sequence numbers, for the sender's bandwidth estimate.
    TransportSequence,
    /// The section that a packet belongs to.
    Mid,
    /// The layer that a packet belongs to (RFC 8852 §3.1).
    Rid,
    /// The layer that a retransmission belongs to (RFC 8852 §3.2).
    RepairedRid,
}

impl Extension {
    /// Its URI in `a=extmap`.
    pub(crate) fn uri(self) -> &'static str {
        match self {
            Self::TransportSequence => {
                "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
            }
            Self::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Self::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Self::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
        }
    }
}

/// Feedback that is taken up, by its spelling in `a=rtcp-fb`.
pub(crate) const FEEDBACK: [&str; 4] = ["nack", "nack pli", "ccm fir", "transport-cc"];

/// One payload type that is taken up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Codec {
    /// Its number on the wire.
    pub(crate) payload_type: u8,
    /// The payload type of its retransmissions (RFC 4588).
    pub(crate) rtx: Option<u8>,
    /// Format parameters of the offer, already checked; empty when it has none.
    pub(crate) parameters: String,
    /// Which of [`FEEDBACK`] the offer has for it.
    pub(crate) feedback: Vec<&'static str>,
    /// The sender understands Chromium's `x-google` parameters.
    pub(crate) is_google: bool,
}

impl Codec {
    /// The sender repairs on negative acknowledgement.
    pub(crate) fn has_nack(&self) -> bool {
        self.feedback.contains(&"nack")
    }
}

/// A section that is taken up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Picture or sound.
    pub(crate) media: Media,
    /// The payload types, best first; not empty.
    pub(crate) codecs: Vec<Codec>,
    /// Header extensions with their ids.
    pub(crate) extensions: Vec<(u8, Extension)>,
    /// Names of the layers in which the sender codes the picture, two at least; empty when there is one stream.
    pub(crate) layers: Vec<String>,
    /// H.264 parameter sets that the offer carries, NAL units.
    pub(crate) parameter_sets: Vec<Bytes>,
    /// The sender can send reduced-size RTCP.
    pub(crate) reduced_size: bool,
}

/// One `m=` section of the offer, in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    /// `audio`, `video`, `application`, ….
    pub(crate) name: String,
    /// Transport, such as `UDP/TLS/RTP/SAVPF`.
    pub(crate) protocol: String,
    /// The first format, which a rejecting answer repeats.
    pub(crate) first_format: String,
    /// Its identification tag.
    pub(crate) mid: Option<String>,
    /// What is taken up; none when it is rejected.
    pub(crate) taken: Option<Taken>,
}

/// An offer that can be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Which way media goes.
    pub(crate) direction: Direction,
    /// Of the sender.
    pub(crate) credentials: Credentials,
    /// SHA-256 fingerprint of the sender's certificate, in upper case.
    pub(crate) fingerprint: String,
    /// Who begins the handshake.
    pub(crate) setup: Setup,
    /// All sections in order.
    pub(crate) sections: Vec<Section>,
    /// `a=extmap-allow-mixed` was offered.
    pub(crate) allow_mixed: bool,
}

impl Offer {
    /// Reads and checks an offer.
    ///
    /// # Errors
    /// [`OfferError`] saying what is wrong, or missing from it.
    pub(crate) fn parse(sdp: &str, direction: Direction) -> Result<Self, OfferError> {
        let (session, blocks) = split(sdp)?;
        let mut sections = Vec::new();
        let mut video = Offered::default();
        let mut audio = Offered::default();
        for block in &blocks {
            let mut section = section::parse(&session, block, direction)?;
            match section.name.as_str() {
                "video" => video.note(block, &mut section),
                "audio" => audio.note(block, &mut section),
                _ => {}
            }
            sections.push(section);
        }
        let needs_video = direction == Direction::Publish || video.sections > 0;
        if needs_video && !video.taken {
            return Err(OfferError::NoH264 {
                offered: video.names(),
            });
        }
        if audio.sections > 0 && !audio.taken {
            return Err(OfferError::NoOpus {
                offered: audio.names(),
            });
        }
        if !video.taken && !audio.taken {
            let why = "it asks for neither audio nor video".to_owned();
            return Err(OfferError::Unsupported(why));
        }
        check_bundle(&session, &sections)?;
        section::transport(&session, &blocks, sections, direction)
    }

    /// The section taken up for `media`.
    pub(crate) fn taken(&self, media: Media) -> Option<&Taken> {
        self.sections
            .iter()
            .filter_map(|section| section.taken.as_ref())
            .find(|taken| taken.media == media)
    }
}

/// What an offer has of one kind.
#[derive(Default)]
struct Offered {
    sections: usize,
    taken: bool,
    codecs: Vec<String>,
}

impl Offered {
    /// Only the first usable section of a kind is taken up.
    fn note(&mut self, block: &Lines<'_>, section: &mut Section) {
        self.sections += 1;
        self.codecs.append(&mut block.codec_names());
        if self.taken {
            section.taken = None;
        }
        self.taken |= section.taken.is_some();
    }

    /// The codecs by name, without helpers, for an error message.
    fn names(self) -> String {
        const HELPERS: [&str; 6] = [
            "rtx",
            "red",
            "ulpfec",
            "flexfec-03",
            "cn",
            "telephone-event",
        ];
        let mut names: Vec<String> = Vec::new();
        for name in self.codecs {
            let helper = HELPERS.contains(&name.to_ascii_lowercase().as_str());
            if !helper && !names.contains(&name) && names.len() < 16 {
                names.push(name);
            }
        }
        if names.is_empty() {
            return "nothing".to_owned();
        }
        names.join(", ")
    }
}

/// Session-level lines, then one block per section.
fn split(sdp: &str) -> Result<(Lines<'_>, Vec<Lines<'_>>), OfferError> {
    let bad = |why: &str| OfferError::BadSdp(why.to_owned());
    let mut session = Lines::default();
    let mut blocks: Vec<Lines<'_>> = Vec::new();
    for (index, line) in sdp.lines().enumerate() {
        let line = line.trim_end_matches(['\r', ' ']);
        if index >= MAX_LINES {
            return Err(bad("too many lines"));
        }
        if line.is_empty() {
            continue;
        }
        let Some((kind, value)) = line.split_once('=').filter(|(kind, _)| kind.len() == 1) else {
            let number = index + 1;
            return Err(bad(&format!("line {number} is not of the form x=value")));
        };
        if session.is_empty() && (kind, value) != ("v", "0") {
            return Err(bad("it does not begin with v=0"));
        }
        if kind == "m" {
            if blocks.len() >= MAX_SECTIONS {
                return Err(bad("too many media sections"));
            }
            blocks.push(Lines::default());
        }
        blocks.last_mut().unwrap_or(&mut session).push(kind, value);
    }
    if blocks.is_empty() {
        return Err(bad("it has no media section"));
    }
    Ok((session, blocks))
}

/// One transport serves all sections, so they must be bundled (RFC 9143, RFC 9725 §4.4.2).
fn check_bundle(session: &Lines<'_>, sections: &[Section]) -> Result<(), OfferError> {
    let taken: Vec<&Section> = sections.iter().filter(|s| s.taken.is_some()).collect();
    if taken.len() < 2 {
        return Ok(());
    }
    let group = session
        .attributes("group")
        .find_map(|value| value.strip_prefix("BUNDLE"));
    let bundled = group.is_some_and(|mids| {
        taken.iter().all(|section| {
            let mid = section.mid.as_deref();
            mids.split_ascii_whitespace().any(|held| Some(held) == mid)
        })
    });
    if bundled {
        return Ok(());
    }
    Err(OfferError::Unsupported(
        "audio and video must be in one BUNDLE group".to_owned(),
    ))
}

#[cfg(test)]
mod tests;
