//! A publisher for tests, made of the same engine: sans-IO, so that whole sessions run on virtual time.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

use bytes::Bytes;
use rtc::interceptor::Registry;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::interceptor_registry::configure_nack;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtp_transceiver::RTCRtpSenderId;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpRtxParameters,
    RtpCodecKind,
};

use super::client::Client;
use crate::sfu::ingress_clock::Media;

/// SSRCs of the test publisher.
pub(crate) const VIDEO_SSRC: u32 = 0x1111;
pub(crate) const AUDIO_SSRC: u32 = 0x2222;

/// A WHIP client.
pub(crate) struct Peer {
    client: Client,
    video: RTCRtpSenderId,
    audio: RTCRtpSenderId,
    sequences: [u16; 2],
}

impl Deref for Peer {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Peer {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Peer {
    /// A publisher of H.264 and Opus at `local`, and its offer.
    pub(crate) fn offer(now: Instant, local: SocketAddr) -> (Self, String) {
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().expect("codecs");
        // No sender reports of the engine's: it dates them by the wall clock, which virtual time runs away from.
        let registry = configure_nack(Registry::new(), &mut engine);
        let (client, [video, audio], offer) =
            Client::offer(now, local, (engine, registry), |connection| {
                [Media::Video, Media::Audio]
                    .map(|media| connection.add_track(track(media)).expect("track"))
            });
        let peer = Self {
            client,
            video,
            audio,
            sequences: [65_500, 1_000],
        };
        (peer, offer)
    }

    /// Sends a packet with this RTP time.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        media: Media,
        timestamp: u32,
        marker: bool,
        payload: Bytes,
    ) {
        let (id, ssrc, mime) = match media {
            Media::Video => (self.video, VIDEO_SSRC, "video/H264"),
            Media::Audio => (self.audio, AUDIO_SSRC, "audio/opus"),
        };
        let [video, audio] = &mut self.sequences;
        let sequence = match media {
            Media::Video => video,
            Media::Audio => audio,
        };
        *sequence = sequence.wrapping_add(1);
        let sequence_number = *sequence;
        let mut sender = self.client.connection.rtp_sender(id).expect("sender");
        let payload_type = sender
            .get_parameters()
            .rtp_parameters
            .codecs
            .iter()
            .find(|codec| codec.rtp_codec.mime_type.eq_ignore_ascii_case(mime))
            .map(|codec| codec.payload_type)
            .expect("negotiated");
        let packet = rtc::rtp::Packet {
            header: rtc::rtp::Header {
                version: 2,
                marker,
                payload_type,
                sequence_number,
                timestamp,
                ssrc,
                ..rtc::rtp::Header::default()
            },
            payload,
        };
        sender.write_rtp(now, packet).expect("sent");
    }

    /// Says that NTP time `ntp` and RTP time `rtp` are the same moment.
    pub(crate) fn report(&mut self, now: Instant, media: Media, ntp: u64, rtp: u32) {
        let (id, ssrc) = match media {
            Media::Video => (self.video, VIDEO_SSRC),
            Media::Audio => (self.audio, AUDIO_SSRC),
        };
        let report = SenderReport {
            ssrc,
            ntp_time: ntp,
            rtp_time: rtp,
            ..SenderReport::default()
        };
        let mut sender = self.client.connection.rtp_sender(id).expect("sender");
        sender
            .write_rtcp(now, vec![Box::new(report)])
            .expect("reported");
    }
}

fn track(media: Media) -> MediaStreamTrack {
    let (kind, ssrc, rtx) = match media {
        Media::Video => (RtpCodecKind::Video, VIDEO_SSRC, Some(0x3333)),
        Media::Audio => (RtpCodecKind::Audio, AUDIO_SSRC, None),
    };
    let (mime, clock_rate, channels) = super::offer::mime(media);
    let parameters = match media {
        Media::Video => "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        Media::Audio => "minptime=10;useinbandfec=1",
    };
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            ssrc: Some(ssrc),
            rtx: rtx.map(|ssrc| RTCRtpRtxParameters { ssrc }),
            ..RTCRtpCodingParameters::default()
        },
        codec: RTCRtpCodec {
            mime_type: mime.to_owned(),
            clock_rate,
            channels,
            sdp_fmtp_line: parameters.to_owned(),
            rtcp_feedback: vec![],
        },
        ..RTCRtpEncodingParameters::default()
    };
    MediaStreamTrack::new("s".into(), mime.into(), "l".into(), kind, vec![encoding])
}
