//! The checked offer in the engine's own terms.

use std::fmt::Write;

use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind,
};
use rtc::shared::error::Error;

use crate::sfu::ingress_clock::Media;
use crate::sfu::sdp::{Codec, Credentials, Offer, Taken};

/// Exactly the codecs and extensions that were taken up, under the client's numbers.
pub(super) fn media_engine(offer: &Offer) -> Result<MediaEngine, Error> {
    let mut engine = MediaEngine::default();
    for taken in offer.sections.iter().filter_map(|s| s.taken.as_ref()) {
        let kind = kind(taken.media);
        for codec in &taken.codecs {
            engine.register_codec(parameters(taken.media, codec), kind)?;
        }
        for (_, extension) in &taken.extensions {
            let uri = extension.uri().to_owned();
            engine.register_header_extension(
                RTCRtpHeaderExtensionCapability { uri },
                kind,
                None,
            )?;
        }
    }
    Ok(engine)
}

fn kind(media: Media) -> RtpCodecKind {
    match media {
        Media::Video => RtpCodecKind::Video,
        Media::Audio => RtpCodecKind::Audio,
    }
}

pub(super) fn mime(media: Media) -> (&'static str, u32, u16) {
    match media {
        Media::Video => ("video/H264", 90_000, 0),
        Media::Audio => ("audio/opus", 48_000, 2),
    }
}

fn parameters(media: Media, codec: &Codec) -> RTCRtpCodecParameters {
    let (mime, clock_rate, channels) = mime(media);
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: mime.to_owned(),
            clock_rate,
            channels,
            sdp_fmtp_line: codec.parameters.clone(),
            rtcp_feedback: codec
                .feedback
                .iter()
                .map(|feedback| {
                    let (kind, parameter) = feedback.split_once(' ').unwrap_or((feedback, ""));
                    RTCPFeedback {
                        typ: kind.to_owned(),
                        parameter: parameter.to_owned(),
                    }
                })
                .collect(),
        },
        payload_type: codec.payload_type,
    }
}

/// An offer with the meaning of the client's, as short as the engine accepts. The engine is told that the client sends
/// even when it receives: what we send enters behind the engine's tracks (`outlet`), so it needs none.
pub(super) fn render(offer: &Offer) -> String {
    let remote = &offer.credentials;
    let setup = match offer.setup.answer() {
        "passive" => "active",
        _ => "passive",
    };
    let taken: Vec<&Taken> = offer
        .sections
        .iter()
        .filter_map(|section| section.taken.as_ref())
        .collect();
    let mids: Vec<String> = (0..taken.len()).map(|mid| mid.to_string()).collect();
    let mut out = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n",
        mids.join(" ")
    );
    for (mid, taken) in taken.into_iter().enumerate() {
        section(&mut out, mid, taken);
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 {}\r\na=setup:{setup}\r\n",
            remote.ufrag, remote.pwd, offer.fingerprint
        );
    }
    out
}

fn section(out: &mut String, mid: usize, taken: &Taken) {
    let (mime, clock_rate, channels) = mime(taken.media);
    let (name, codec_name) = mime.split_once('/').unwrap_or((mime, mime));
    let numbers: Vec<String> = taken
        .codecs
        .iter()
        .map(|codec| codec.payload_type.to_string())
        .collect();
    let _ = write!(
        out,
        "m={name} 9 UDP/TLS/RTP/SAVPF {}\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\na=sendonly\r\na=rtcp-mux\r\n",
        numbers.join(" ")
    );
    for codec in &taken.codecs {
        let number = codec.payload_type;
        let _ = write!(out, "a=rtpmap:{number} {codec_name}/{clock_rate}");
        if channels > 0 {
            let _ = write!(out, "/{channels}");
        }
        out.push_str("\r\n");
        if !codec.parameters.is_empty() {
            let _ = write!(out, "a=fmtp:{number} {}\r\n", codec.parameters);
        }
        for feedback in &codec.feedback {
            let _ = write!(out, "a=rtcp-fb:{number} {feedback}\r\n");
        }
    }
    for (id, extension) in &taken.extensions {
        let _ = write!(out, "a=extmap:{id} {}\r\n", extension.uri());
    }
}

/// Our credentials, out of the engine's answer.
pub(super) fn credentials(answer: &str) -> Option<Credentials> {
    let find = |name: &str| {
        answer
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|value| value.trim().to_owned())
    };
    Some(Credentials {
        ufrag: find("a=ice-ufrag:")?,
        pwd: find("a=ice-pwd:")?,
    })
}
