//! The SDP answer (RFC 9429 §5.3.1), written from the offer and the transport.

use std::fmt::Write;

use super::candidate::Candidate;
use super::section::parameter;
use super::{Codec, Credentials, Direction, Offer, Section, Taken};
use crate::sfu::egress::Seed;
use crate::sfu::ingress_clock::Media;

/// Canonical name of our streams: one participant per connection, so any name will do.
pub(crate) const CNAME: &str = "anchornet";

/// What the answering side brings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local<'a> {
    /// Ours.
    pub(crate) credentials: &'a Credentials,
    /// SHA-256 of our certificate, colon-separated.
    pub(crate) fingerprint: &'a str,
    /// Where the client may send to.
    pub(crate) candidates: &'a [Candidate],
    /// Session number for the `o=` line.
    pub(crate) session: u64,
    /// Where Chromium's bandwidth estimate starts.
    pub(crate) start_bitrate_kbps: u32,
    /// The most that is asked for.
    pub(crate) max_bitrate_kbps: u32,
    /// What we send, when we send.
    pub(crate) streams: Option<Streams>,
}

/// The streams that a subscriber gets (RFC 5576).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streams {
    /// The picture's.
    pub(crate) video: Seed,
    /// The sound's.
    pub(crate) audio: Seed,
}

/// Writes the answer.
pub(crate) fn render(offer: &Offer, local: &Local<'_>) -> String {
    let mut out = Text(String::with_capacity(2_048));
    let mids: Vec<&str> = offer
        .sections
        .iter()
        .filter(|section| section.taken.is_some())
        .filter_map(|section| section.mid.as_deref())
        .collect();
    out.line(format_args!("v=0"));
    out.line(format_args!("o=- {} 2 IN IP4 127.0.0.1", local.session));
    out.line(format_args!("s=-"));
    out.line(format_args!("t=0 0"));
    if !mids.is_empty() {
        out.line(format_args!("a=group:BUNDLE {}", mids.join(" ")));
    }
    out.line(format_args!("a=ice-lite"));
    if offer.allow_mixed {
        out.line(format_args!("a=extmap-allow-mixed"));
    }
    for section in &offer.sections {
        match &section.taken {
            Some(taken) => accept(&mut out, offer, section, taken, local),
            None => reject(&mut out, section),
        }
    }
    out.0
}

struct Text(String);

impl Text {
    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{text}\r\n");
    }
}

fn reject(out: &mut Text, section: &Section) {
    let Section {
        name,
        protocol,
        first_format,
        ..
    } = section;
    out.line(format_args!("m={name} 0 {protocol} {first_format}"));
    out.line(format_args!("c=IN IP4 0.0.0.0"));
    if let Some(mid) = &section.mid {
        out.line(format_args!("a=mid:{mid}"));
    }
    out.line(format_args!("a=inactive"));
}

fn accept(out: &mut Text, offer: &Offer, section: &Section, taken: &Taken, local: &Local<'_>) {
    let formats: Vec<String> = taken
        .codecs
        .iter()
        .flat_map(|codec| std::iter::once(codec.payload_type).chain(codec.rtx))
        .map(|number| number.to_string())
        .collect();
    let (name, protocol) = (&section.name, &section.protocol);
    out.line(format_args!("m={name} 9 {protocol} {}", formats.join(" ")));
    out.line(format_args!("c=IN IP4 0.0.0.0"));
    if taken.media == Media::Video && offer.direction == Direction::Publish {
        let kilobits = local.max_bitrate_kbps;
        out.line(format_args!("b=AS:{kilobits}"));
        out.line(format_args!("b=TIAS:{}", u64::from(kilobits) * 1_000));
    }
    out.line(format_args!("a=rtcp:9 IN IP4 0.0.0.0"));
    out.line(format_args!("a=ice-ufrag:{}", local.credentials.ufrag));
    out.line(format_args!("a=ice-pwd:{}", local.credentials.pwd));
    out.line(format_args!("a=fingerprint:sha-256 {}", local.fingerprint));
    out.line(format_args!("a=setup:{}", offer.setup.answer()));
    if let Some(mid) = &section.mid {
        out.line(format_args!("a=mid:{mid}"));
    }
    for (id, extension) in &taken.extensions {
        out.line(format_args!("a=extmap:{id} {}", extension.uri()));
    }
    let direction = match offer.direction {
        Direction::Publish => "recvonly",
        Direction::Play => "sendonly",
    };
    out.line(format_args!("a={direction}"));
    out.line(format_args!("a=rtcp-mux"));
    if taken.reduced_size {
        out.line(format_args!("a=rtcp-rsize"));
    }
    for codec in &taken.codecs {
        describe(out, taken.media, codec, local);
    }
    for rid in &taken.layers {
        out.line(format_args!("a=rid:{rid} recv"));
    }
    if !taken.layers.is_empty() {
        let layers = taken.layers.join(";");
        out.line(format_args!("a=simulcast:recv {layers}"));
    }
    if let Some(streams) = &local.streams {
        announce(out, taken, streams, local.session);
    }
    for candidate in local.candidates {
        out.line(format_args!("{candidate}"));
    }
    out.line(format_args!("a=end-of-candidates"));
}

/// Our SSRCs, so that clients can tell streams apart without header extensions. Both have one CNAME, which is what makes
/// them one source to keep in step (RFC 3550 §6.5.1).
fn announce(out: &mut Text, taken: &Taken, streams: &Streams, session: u64) {
    let (name, seed) = match taken.media {
        Media::Video => ("video", streams.video),
        Media::Audio => ("audio", streams.audio),
    };
    let has_rtx = taken.codecs.iter().any(|codec| codec.rtx.is_some());
    let Seed { ssrc, rtx_ssrc, .. } = seed;
    out.line(format_args!("a=msid:{CNAME} {name}-{session:x}"));
    if has_rtx {
        out.line(format_args!("a=ssrc-group:FID {ssrc} {rtx_ssrc}"));
    }
    for ssrc in std::iter::once(ssrc).chain(has_rtx.then_some(rtx_ssrc)) {
        out.line(format_args!("a=ssrc:{ssrc} cname:{CNAME}"));
    }
}

fn describe(out: &mut Text, media: Media, codec: &Codec, local: &Local<'_>) {
    let number = codec.payload_type;
    let (map, parameters) = match media {
        Media::Video => ("H264/90000", h264_parameters(codec, local)),
        // Stereo, with in-band error correction for what is lost (RFC 7587 §7).
        Media::Audio => (
            "opus/48000/2",
            "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1".to_owned(),
        ),
    };
    out.line(format_args!("a=rtpmap:{number} {map}"));
    out.line(format_args!("a=fmtp:{number} {parameters}"));
    for feedback in &codec.feedback {
        out.line(format_args!("a=rtcp-fb:{number} {feedback}"));
    }
    if let Some(rtx) = codec.rtx {
        out.line(format_args!("a=rtpmap:{rtx} rtx/90000"));
        out.line(format_args!("a=fmtp:{rtx} apt={number}"));
    }
}

/// The offer's profile, level and mode, which an answer must repeat (RFC 6184 §8.2.2). Chromium is also told where to
/// start, instead of ramping up from a thumbnail for some 16 s.
fn h264_parameters(codec: &Codec, local: &Local<'_>) -> String {
    let of = |name| parameter(&codec.parameters, name);
    let mode = of("packetization-mode").unwrap_or("0");
    let profile = of("profile-level-id").unwrap_or("420010");
    let mut out =
        format!("level-asymmetry-allowed=1;packetization-mode={mode};profile-level-id={profile}");
    if codec.is_google {
        let (start, max) = (local.start_bitrate_kbps, local.max_bitrate_kbps);
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            ";x-google-start-bitrate={start};x-google-max-bitrate={max}"
        );
    }
    out
}
