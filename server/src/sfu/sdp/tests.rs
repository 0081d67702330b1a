//! Offers of real clients, refusals, and mutation.

use proptest::prelude::*;

use super::answer::{Local, Streams, render};
use super::fragment::Fragment;
use super::{Credentials, Direction, Offer, Setup, candidate};
use crate::sfu::egress::Seed;
use crate::sfu::ingress_clock::Media;
use crate::sfu::types::OfferError;

const FFMPEG: &str = include_str!("offers/ffmpeg.sdp");
const CHROMIUM: &str = include_str!("offers/chromium.sdp");

fn parse(offer: &str) -> Result<Offer, OfferError> {
    Offer::parse(offer, Direction::Publish)
}

fn answer(offer: &str) -> String {
    render_answer(&parse(offer).expect("accepted"), None)
}

fn render_answer(offer: &Offer, streams: Option<Streams>) -> String {
    let credentials = Credentials {
        ufrag: "abcd".to_owned(),
        pwd: "0123456789012345678901".to_owned(),
    };
    render(
        offer,
        &Local {
            credentials: &credentials,
            fingerprint: "00:11",
            candidates: &candidate::all(&["127.0.0.1:8189".parse().expect("address")], false),
            session: 1,
            start_bitrate_kbps: 2_500,
            max_bitrate_kbps: 8_000,
            streams,
        },
    )
}

#[test]
fn ffmpeg_waits_for_our_handshake() {
    let offer = parse(FFMPEG).expect("accepted");
    assert_eq!(offer.setup, Setup::Passive);
    assert!(offer.taken(Media::Video).is_some() && offer.taken(Media::Audio).is_some());
    insta::assert_snapshot!(answer(FFMPEG).replace("\r\n", "\n"));
}

#[test]
fn chromium_gets_all_its_h264_and_nothing_else() {
    insta::assert_snapshot!(answer(CHROMIUM).replace("\r\n", "\n"));
}

#[test]
fn a_subscriber_gets_streams_of_ours_and_no_extensions() {
    let offer = CHROMIUM.replace("a=sendonly", "a=recvonly");
    assert!(parse(&offer).is_err(), "there is nothing to publish");
    let offer = Offer::parse(&offer, Direction::Play).expect("accepted");
    let seed = |ssrc| Seed {
        ssrc,
        rtx_ssrc: ssrc + 1,
        sequence: 0,
        timestamp: 0,
    };
    let streams = Streams {
        video: seed(100),
        audio: seed(102),
    };
    insta::assert_snapshot!(render_answer(&offer, Some(streams)).replace("\r\n", "\n"));
}

#[test]
fn a_subscriber_may_want_less_but_not_what_there_is_not() {
    let play = |sdp: &str| Offer::parse(sdp, Direction::Play);
    assert!(play(FFMPEG).is_err(), "it only sends");
    let both = FFMPEG.replace("sendonly", "recvonly");
    let video = both.find("m=video").expect("has video");
    let sound = play(&both[..video]).expect("sound alone");
    assert!(sound.taken(Media::Video).is_none());
    let vp8 = both.replace("H264/90000", "VP8/90000");
    assert!(matches!(play(&vp8), Err(OfferError::NoH264 { .. })));
    let whole = both.replace("packetization-mode=1", "packetization-mode=0");
    assert!(parse(&FFMPEG.replace("packetization-mode=1", "packetization-mode=0")).is_ok());
    let refused = play(&whole).expect_err("it cannot take fragments");
    assert_eq!(refused.status(), 422);
    assert!(refused.to_string().contains("packetization-mode=1"));
    let pcmu = both.replace("opus/48000/2", "PCMU/8000");
    assert!(matches!(play(&pcmu), Err(OfferError::NoOpus { .. })));
}

#[test]
fn vp8_only_is_refused_by_name() {
    let offer = CHROMIUM.replace("H264/90000", "VP8/90000");
    let Err(OfferError::NoH264 { offered }) = parse(&offer) else {
        panic!("must be refused")
    };
    assert!(
        offered.contains("VP8") && !offered.contains("rtx"),
        "{offered}"
    );
    assert_eq!(OfferError::NoH264 { offered }.status(), 422);
}

#[test]
fn audio_without_opus_is_refused_and_no_audio_is_silence() {
    let offer = FFMPEG.replace("opus/48000/2", "PCMU/8000");
    assert!(matches!(parse(&offer), Err(OfferError::NoOpus { offered }) if offered == "PCMU"));
    let at = FFMPEG.find("m=audio").expect("has audio");
    let video = FFMPEG.find("m=video").expect("has video");
    let offer = format!("{}{}", &FFMPEG[..at], &FFMPEG[video..]);
    let offer = parse(&offer).expect("video alone is accepted");
    assert!(offer.taken(Media::Audio).is_none());
    let audio_only = parse(&FFMPEG[..video]);
    assert!(matches!(audio_only, Err(OfferError::NoH264 { offered }) if offered == "nothing"));
}

#[test]
fn what_is_missing_is_named() {
    for (from, to, expected) in [
        ("v=0", "v=1", "v=0"),
        ("a=ice-pwd:", "a=ice-nope:", "ice-pwd"),
        ("a=fingerprint:", "a=nope:", "fingerprint"),
        ("sha-256", "sha-1", "sha-256"),
        ("a=rtcp-mux", "a=nope", "rtcp-mux"),
        ("a=group:BUNDLE", "a=group:LS", "BUNDLE"),
        ("a=setup:passive", "a=setup:aggressive", "setup"),
        ("m=video 9", "m=video nine", "port"),
        ("t=0 0", "hello", "x=value"),
    ] {
        let error = parse(&FFMPEG.replace(from, to)).expect_err(to).to_string();
        assert!(error.contains(expected), "{to}: {error}");
    }
    assert!(parse("").is_err());
    assert!(parse("v=0\r\n").is_err());
}

#[test]
fn unused_sections_are_rejected_in_their_place() {
    let offer =
        format!("{CHROMIUM}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:9\r\n");
    let answer = answer(&offer);
    assert!(answer.contains("m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n"));
    assert!(answer.contains("a=group:BUNDLE 0 1\r\n"));
}

#[test]
fn fragments() {
    let trickle = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\n\
        a=mid:0\r\na=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\n\
        a=end-of-candidates\r\n";
    let fragment = Fragment::parse(trickle).expect("valid");
    assert_eq!(fragment.candidates, 1);
    assert_eq!(fragment.credentials.expect("has them").ufrag, "EsAw");
    assert!(Fragment::parse("").is_err());
    assert!(Fragment::parse("garbage").is_err());
    assert!(Fragment::parse("a=candidate:1\r\n").is_err());
}

proptest! {
    /// Mutated offers: no panic, and what is accepted can be answered line by line.
    #[test]
    fn mutation_is_survived(
        chromium in any::<bool>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<char>(), 0_u8..4), 1..24),
    ) {
        let mut text: Vec<char> = if chromium { CHROMIUM } else { FFMPEG }.chars().collect();
        for (at, value, how) in edits {
            if text.is_empty() {
                break;
            }
            let at = at.index(text.len());
            match how {
                0 => text[at] = value,
                1 => text.insert(at, value),
                2 => {
                    text.remove(at);
                }
                _ => text.truncate(text.len() - at / 20),
            }
        }
        let text: String = text.into_iter().collect();
        if parse(&text).is_ok() {
            let answer = answer(&text);
            for line in answer.split("\r\n").filter(|line| !line.is_empty()) {
                let well_formed = line.split_once('=').is_some_and(|(kind, _)| kind.len() == 1);
                prop_assert!(well_formed, "{:?}", line);
                prop_assert!(!line.contains(['\r', '\n']));
            }
        }
    }

    /// Lines dropped, doubled and shuffled.
    #[test]
    fn rearranged_lines_are_survived(order in proptest::collection::vec(0_usize..200, 0..250)) {
        let lines: Vec<&str> = CHROMIUM.lines().collect();
        let text: String = std::iter::once("v=0")
            .chain(order.iter().filter_map(|at| lines.get(*at).copied()))
            .map(|line| format!("{line}\r\n"))
            .collect();
        let _ = parse(&text);
    }

    /// Any text at all.
    #[test]
    fn noise_is_survived(text in "\\PC{0,400}", lines in proptest::collection::vec("[a-z]=[ -~]{0,60}", 0..40)) {
        let _ = parse(&text);
        let _ = Fragment::parse(&text);
        let text = format!("v=0\r\n{}", lines.join("\r\n"));
        let _ = parse(&text);
        let _ = Fragment::parse(&text);
    }
}

#[test]
fn layers_are_taken_up_where_packets_can_be_told_apart() {
    let whole = crate::sfu::ingest::layer_tests::offer();
    let offer = parse(&whole).expect("accepted");
    let taken = offer.taken(Media::Video).expect("video");
    assert_eq!(taken.layers, ["l", "m", "h"]);
    let answer = render_answer(&offer, None);
    for line in [
        "a=rid:l recv",
        "a=rid:h recv",
        "a=simulcast:recv l;m;h",
        "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        "a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
    ] {
        assert!(answer.contains(line), "{line} is not in {answer}");
    }
    let layers = |from: &str, to: &str| {
        let offer = parse(&whole.replace(from, to)).expect("accepted");
        offer.taken(Media::Video).expect("video").layers.clone()
    };
    assert_eq!(layers("send l;m;h", "send l,x;~m;l"), ["l", "m"]);
    assert_eq!(layers("send l;m;h", "recv q send h;m"), ["h", "m"]);
    let none: [&str; 0] = [];
    assert_eq!(layers("send l;m;h", "send h"), none);
    assert_eq!(layers("send l;m;h", "send"), none);
    assert_eq!(layers("a=rid:", "a=old:"), none);
    assert_eq!(layers("sdes:rtp-stream-id", "sdes:other"), none);
}
