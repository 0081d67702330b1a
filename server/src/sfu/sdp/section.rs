//! One media section of an offer, and the transport that all sections share.

use bytes::Bytes;

use super::{Codec, Credentials, Direction, Extension, FEEDBACK, Offer, Section, Setup, Taken};
use crate::sfu::ingress_clock::Media;
use crate::sfu::types::OfferError;

/// Most payload types that are taken up in one section.
const MAX_CODECS: usize = 16;
/// Most layers of one picture that are taken up.
pub(crate) const MAX_LAYERS: usize = 4;
/// Longest name of a layer: what a one-byte header extension can carry (RFC 8285 §4.2).
const MAX_RID: usize = 16;
/// Longest format parameters that are read.
const MAX_PARAMETERS: usize = 4_096;
/// Longest tag, fragment or password that is repeated.
const MAX_TOKEN: usize = 256;

/// The lines of the session or of a section.
#[derive(Debug, Default)]
pub(super) struct Lines<'a> {
    lines: Vec<(&'a str, &'a str)>,
}

impl<'a> Lines<'a> {
    pub(super) fn push(&mut self, kind: &'a str, value: &'a str) {
        self.lines.push((kind, value));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Values of all `a=name:value` lines (empty for a bare `a=name`).
    pub(super) fn attributes<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'a str> + 'b {
        self.lines.iter().filter_map(move |(kind, value)| {
            let rest = value.strip_prefix(name).filter(|_| *kind == "a")?;
            if rest.is_empty() {
                return Some(rest);
            }
            rest.strip_prefix(':').map(str::trim)
        })
    }

    fn attribute(&self, name: &str) -> Option<&'a str> {
        self.attributes(name).next()
    }

    /// `a=name:<payload type> value` for one payload type.
    fn of_payload<'b>(
        &'b self,
        name: &'b str,
        payload_type: u8,
    ) -> impl Iterator<Item = &'a str> + 'b {
        self.attributes(name).filter_map(move |value| {
            let (number, rest) = value.split_once(' ')?;
            let all = number == "*" && name == "rtcp-fb";
            (all || number.parse() == Ok(payload_type)).then(|| rest.trim())
        })
    }

    /// Encoding names of the section, in order.
    pub(super) fn codec_names(&self) -> Vec<String> {
        self.attributes("rtpmap")
            .filter_map(|value| value.split_once(' '))
            .filter_map(|(_, map)| map.split('/').next())
            .filter(|name| is_token(name))
            .map(str::to_owned)
            .collect()
    }
}

/// Reads a section; `taken` is set when it can be taken up.
pub(super) fn parse(
    session: &Lines<'_>,
    block: &Lines<'_>,
    direction: Direction,
) -> Result<Section, OfferError> {
    let bad = |why: &str| OfferError::BadSdp(format!("in an m= line: {why}"));
    let line = block.lines.first().map_or("", |(_, value)| *value);
    let mut fields = line.split_ascii_whitespace();
    let (Some(name), Some(port), Some(protocol), Some(first_format)) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(bad("it needs media, port, protocol and formats"));
    };
    let tokens = [name, protocol, first_format];
    if !tokens.iter().all(|token| is_token(token)) {
        return Err(bad("a field has characters that it must not have"));
    }
    let number = port.split('/').next().unwrap_or_default();
    let Ok(port) = number.parse::<u16>() else {
        return Err(bad("the port is not a number"));
    };
    let mid = block.attribute("mid");
    if mid.is_some_and(|mid| !is_token(mid)) {
        return Err(OfferError::BadSdp("a mid is not a token".to_owned()));
    }
    let live = port != 0 || block.attribute("bundle-only").is_some();
    let secure = protocol.contains("TLS/RTP/SAVP");
    let media = match name {
        "video" => Some(Media::Video),
        "audio" => Some(Media::Audio),
        _ => None,
    };
    let formats: Vec<u8> = std::iter::once(first_format)
        .chain(fields)
        .filter_map(|format| format.parse().ok())
        .collect();
    let taken = match media.filter(|_| live && secure && goes(direction, session, block)) {
        Some(media) => take(media, block, &formats, direction)?,
        None => None,
    };
    Ok(Section {
        name: name.to_owned(),
        protocol: protocol.to_owned(),
        first_format: first_format.to_owned(),
        mid: mid.map(str::to_owned),
        taken,
    })
}

/// Whether the client sends, or receives, in this section; `sendrecv` is the default (RFC 8866 §6.7).
fn goes(direction: Direction, session: &Lines<'_>, block: &Lines<'_>) -> bool {
    /// Name, sends, receives.
    const DIRECTIONS: [(&str, bool, bool); 4] = [
        ("sendonly", true, false),
        ("sendrecv", true, true),
        ("recvonly", false, true),
        ("inactive", false, false),
    ];
    let of = |lines: &Lines<'_>| {
        DIRECTIONS
            .iter()
            .find(|(name, ..)| lines.attribute(name).is_some())
            .map(|(_, sends, receives)| match direction {
                Direction::Publish => *sends,
                Direction::Play => *receives,
            })
    };
    of(block).or_else(|| of(session)).unwrap_or(true)
}

fn take(
    media: Media,
    block: &Lines<'_>,
    formats: &[u8],
    direction: Direction,
) -> Result<Option<Taken>, OfferError> {
    let mut codecs: Vec<Codec> = formats
        .iter()
        .filter_map(|payload_type| codec(media, block, *payload_type))
        .take(MAX_CODECS)
        .collect();
    // Fragmentation makes pictures independent of the path's packet size: prefer it, else keep the client's order.
    codecs.sort_by_key(|codec| media == Media::Video && packetization_mode(&codec.parameters) != 1);
    if direction == Direction::Play {
        // Fragments are forwarded as they come; who takes single NAL units only could show nothing (RFC 6184 §6.2).
        if media == Media::Video && !codecs.is_empty() {
            codecs.retain(|codec| packetization_mode(&codec.parameters) == 1);
            if codecs.is_empty() {
                let why =
                    "H.264 is sent in fragments, but none is offered with packetization-mode=1";
                return Err(OfferError::Unsupported(why.to_owned()));
            }
        }
        for codec in &mut codecs {
            codec.is_google = false;
        }
    }
    let parameter_sets = codecs
        .iter()
        .filter_map(|codec| parameter(&codec.parameters, "sprop-parameter-sets"))
        .flat_map(|sets| sets.split(',').take(8))
        .filter_map(base64)
        .map(Bytes::from)
        .collect();
    let mut extensions = extensions(block);
    if direction == Direction::Play {
        // Numbers are sent to those who report on them, and nothing else.
        let reports = |codec: &Codec| codec.feedback.contains(&"transport-cc");
        let is_used =
            |extension| extension == Extension::TransportSequence && codecs.iter().any(reports);
        extensions.retain(|(_, extension)| is_used(*extension));
    }
    let layers = match (media, direction) {
        (Media::Video, Direction::Publish) => layers(block, &extensions),
        _ => Vec::new(),
    };
    if layers.is_empty() {
        extensions.retain(|(_, held)| !matches!(held, Extension::Rid | Extension::RepairedRid));
    }
    Ok((!codecs.is_empty()).then(|| Taken {
        media,
        codecs,
        extensions,
        layers,
        parameter_sets,
        reduced_size: block.attribute("rtcp-rsize").is_some(),
    }))
}

fn codec(media: Media, block: &Lines<'_>, payload_type: u8) -> Option<Codec> {
    // Numbers whose marker bit would make them look like RTCP are unusable (RFC 5761 §4).
    if payload_type > 127 || (64..=95).contains(&payload_type) {
        return None;
    }
    let map = block.of_payload("rtpmap", payload_type).next()?;
    let expected = match media {
        Media::Video => "h264/90000",
        Media::Audio => "opus/48000/2",
    };
    let parameters = block.of_payload("fmtp", payload_type).next().unwrap_or("");
    let sane = parameters.len() <= MAX_PARAMETERS
        && parameters.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if !map.eq_ignore_ascii_case(expected)
        || !sane
        || media == Media::Video && !is_usable_h264(parameters)
    {
        return None;
    }
    let offered: Vec<&str> = block.of_payload("rtcp-fb", payload_type).collect();
    Some(Codec {
        payload_type,
        rtx: retransmission(block, payload_type),
        parameters: parameters.to_owned(),
        feedback: FEEDBACK
            .into_iter()
            .filter(|feedback| offered.contains(feedback))
            .collect(),
        is_google: offered.contains(&"goog-remb"),
    })
}

/// The layers that the client would send, `a=simulcast:send 1;2,3;~4` (RFC 8853 §5.1): of alternatives the first, also
/// those that are paused. None unless there are two that packets can be told apart by.
fn layers(block: &Lines<'_>, extensions: &[(u8, Extension)]) -> Vec<String> {
    let has_rid = extensions.iter().any(|(_, held)| *held == Extension::Rid);
    let is_declared = |rid: &str| {
        let mut declared = block.attributes("rid");
        declared.any(|value| {
            let mut fields = value.split_ascii_whitespace();
            fields.next() == Some(rid) && fields.next() == Some("send")
        })
    };
    let is_usable = |rid: &str| {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (1..=MAX_RID).contains(&rid.len()) && rid.bytes().all(is_name) && is_declared(rid)
    };
    let value = block.attribute("simulcast").filter(|_| has_rid);
    let mut fields = value.unwrap_or_default().split_ascii_whitespace();
    let list = fields.find(|field| *field == "send").and(fields.next());
    let mut layers: Vec<String> = Vec::new();
    for alternatives in list.unwrap_or_default().split(';') {
        let mut names = alternatives
            .split(',')
            .map(|rid| rid.trim_start_matches('~'));
        if let Some(rid) = names.find(|rid| is_usable(rid))
            && layers.iter().all(|held| held != rid)
            && layers.len() < MAX_LAYERS
        {
            layers.push(rid.to_owned());
        }
    }
    if layers.len() < 2 {
        layers.clear();
    }
    layers
}

/// The payload type that retransmits `payload_type` (RFC 4588 §8.6).
fn retransmission(block: &Lines<'_>, payload_type: u8) -> Option<u8> {
    block.attributes("fmtp").find_map(|value| {
        let (number, rest) = value.split_once(' ')?;
        let associated: u8 = parameter(rest, "apt")?.parse().ok()?;
        let number: u8 = number.parse().ok()?;
        let is_rtx = block
            .of_payload("rtpmap", number)
            .any(|map| map.eq_ignore_ascii_case("rtx/90000"));
        let usable = number <= 127 && !(64..=95).contains(&number) && number != payload_type;
        (associated == payload_type && is_rtx && usable).then_some(number)
    })
}

/// Baseline, main, extended and high: what 8-bit 4:2:0 decoders of browsers have.
fn is_usable_h264(parameters: &str) -> bool {
    let profile = match parameter(parameters, "profile-level-id") {
        Some(id) => id
            .get(..2)
            .filter(|_| id.len() == 6 && id.bytes().all(|byte| byte.is_ascii_hexdigit())),
        None => Some("42"), // RFC 6184 §8.1
    };
    let profile = profile.and_then(|hex| u8::from_str_radix(hex, 16).ok());
    matches!(profile, Some(66 | 77 | 88 | 100)) && packetization_mode(parameters) <= 1
}

fn packetization_mode(parameters: &str) -> u8 {
    parameter(parameters, "packetization-mode").map_or(0, |mode| mode.parse().unwrap_or(u8::MAX))
}

/// One of `name=value;…`.
pub(crate) fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(';').find_map(|parameter| {
        let (key, value) = parameter.trim().split_once('=')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

fn extensions(block: &Lines<'_>) -> Vec<(u8, Extension)> {
    let mut taken: Vec<(u8, Extension)> = Vec::new();
    for value in block.attributes("extmap") {
        if let Some((id, extension)) = extension(value)
            && !taken
                .iter()
                .any(|(held, known)| *held == id || *known == extension)
        {
            taken.push((id, extension));
        }
    }
    taken
}

fn extension(value: &str) -> Option<(u8, Extension)> {
    let (id, uri) = value.split_once(' ')?;
    let id: u8 = id.split('/').next()?.parse().ok()?;
    let uri = uri.split_ascii_whitespace().next()?;
    let all = [
        Extension::TransportSequence,
        Extension::Mid,
        Extension::Rid,
        Extension::RepairedRid,
    ];
    let known = all.into_iter().find(|extension| extension.uri() == uri)?;
    (1..=14).contains(&id).then_some((id, known))
}

/// Credentials, certificate and role: of the first section taken up, else of the session.
pub(super) fn transport(
    session: &Lines<'_>,
    blocks: &[Lines<'_>],
    sections: Vec<Section>,
    direction: Direction,
) -> Result<Offer, OfferError> {
    let missing = |what: &str| OfferError::BadSdp(format!("it has no {what}"));
    let block = sections
        .iter()
        .position(|section| section.taken.is_some())
        .and_then(|index| blocks.get(index))
        .unwrap_or(session);
    // With BUNDLE only the first section of the group needs to carry them (RFC 9143 §7.1.3).
    let find = |name: &'static str| {
        block
            .attribute(name)
            .or_else(|| session.attribute(name))
            .or_else(|| blocks.iter().find_map(|block| block.attribute(name)))
    };
    let credentials = Credentials {
        ufrag: find("ice-ufrag").unwrap_or_default().to_owned(),
        pwd: find("ice-pwd").unwrap_or_default().to_owned(),
    };
    check_credentials(&credentials).map_err(missing)?;
    if find("rtcp-mux").is_none() {
        return Err(OfferError::Unsupported("rtcp-mux is required".to_owned()));
    }
    let fingerprints = || {
        [block, session]
            .into_iter()
            .chain(blocks)
            .flat_map(|lines| lines.attributes("fingerprint"))
    };
    let Some(fingerprint) = fingerprints().find_map(sha256_fingerprint) else {
        return Err(if fingerprints().next().is_some() {
            OfferError::Unsupported("the fingerprint must be a well-formed sha-256".to_owned())
        } else {
            missing("fingerprint")
        });
    };
    let setup = match find("setup") {
        Some("active") => Setup::Active,
        Some("passive") => Setup::Passive,
        Some("actpass") | None => Setup::ActPass,
        Some(_) => return Err(OfferError::BadSdp("its setup is unknown".to_owned())),
    };
    Ok(Offer {
        direction,
        credentials,
        fingerprint,
        setup,
        sections,
        allow_mixed: session.attribute("extmap-allow-mixed").is_some(),
    })
}

/// Lengths of RFC 8839 §5.4, and no character that would end the field or the STUN user name (some senders use
/// characters beyond ice-char). The error names what is wrong.
pub(super) fn check_credentials(credentials: &Credentials) -> Result<(), &'static str> {
    let usable = |text: &str, least: usize| {
        (least..=MAX_TOKEN).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b':')
    };
    if !usable(&credentials.ufrag, 4) {
        return Err("usable ice-ufrag");
    }
    if !usable(&credentials.pwd, 22) {
        return Err("usable ice-pwd");
    }
    Ok(())
}

/// `sha-256 AA:BB:…` as the colon-separated part.
fn sha256_fingerprint(value: &str) -> Option<String> {
    let (algorithm, hex) = value.split_once(' ')?;
    let hex = hex.trim();
    let well_formed = hex.len() == 32 * 3 - 1
        && hex
            .split(':')
            .all(|byte| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit()));
    (algorithm.eq_ignore_ascii_case("sha-256") && well_formed).then(|| hex.to_ascii_uppercase())
}

/// Printable, without separators: a token of RFC 8866 §9, or the slashes of a protocol.
fn is_token(text: &str) -> bool {
    (1..=MAX_TOKEN).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"\"(),:;<=>@".contains(&byte))
}

/// Base64 with or without padding (RFC 4648 §4).
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim().trim_end_matches('=');
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from(bits >> held & 0xff).unwrap_or(0));
        }
    }
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_rfc_4648() {
        assert_eq!(base64("Zm9vYg==").as_deref(), Some(&b"foob"[..]));
        assert_eq!(base64("Zm9vYmFy").as_deref(), Some(&b"foobar"[..]));
        assert_eq!(base64("Zm9v!"), None);
    }
}
