//! One stream to a subscriber: its numbers, its history and its sender reports.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use media::Clock;

use super::history::{History, Sent};
use super::rewrite::Rewrite;
use crate::sfu::ingress_clock::Media;
use crate::sfu::packet::{Outgoing, Relayed, Report, RtpPacket};
use crate::sfu::sdp::{Codec, Extension, Taken, parameter};
use crate::sfu::types::SessionId;

/// A sender report goes out this often.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// A source that has been silent for so long has no present that could be reported.
const MAX_SILENCE: Duration = Duration::from_secs(5);

/// Numbers that a stream begins with; random, so that streams cannot be mistaken for each other (RFC 3550 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed {
    /// Our stream.
    pub(crate) ssrc: u32,
    /// Its retransmissions.
    pub(crate) rtx_ssrc: u32,
    /// Its first sequence number.
    pub(crate) sequence: u16,
    /// Its first timestamp.
    pub(crate) timestamp: u32,
}

/// Where a stream's packets come from: a session and its stream.
type Source = (SessionId, u32);

/// One stream.
#[derive(Debug)]
pub(super) struct Line {
    media: Media,
    hz: i64,
    seed: Seed,
    codecs: Vec<Codec>,
    /// Index of the codec in use.
    codec: usize,
    rewrite: Rewrite,
    source: Option<Source>,
    /// Marker of the newest packet of the source that was sent.
    last_ended: Option<bool>,
    last_timestamp: u32,
    history: History,
    next_rtx: u16,
    captured: Option<(u32, i64)>,
    heard: Option<Instant>,
    next_report: Option<Instant>,
    packets: u32,
    octets: u32,
    /// Id of the header extension for numbers of the whole session, where the subscriber wants them.
    transport_id: Option<u8>,
}

impl Line {
    pub(super) fn new(taken: &Taken, hz: u32, seed: Seed) -> Self {
        Self {
            media: taken.media,
            hz: i64::from(hz),
            seed,
            codecs: taken.codecs.clone(),
            codec: 0,
            rewrite: Rewrite::new(hz, seed.sequence, seed.timestamp),
            source: None,
            last_ended: None,
            last_timestamp: 0,
            history: History::default(),
            next_rtx: seed.sequence,
            captured: None,
            heard: None,
            next_report: None,
            packets: 0,
            octets: 0,
            transport_id: taken
                .extensions
                .iter()
                .find(|(_, extension)| *extension == Extension::TransportSequence)
                .map(|(id, _)| *id),
        }
    }

    /// Id of the header extension for numbers of the whole session.
    pub(super) fn transport_id(&self) -> Option<u8> {
        self.transport_id
    }

    pub(super) fn ssrc(&self) -> u32 {
        self.seed.ssrc
    }

    /// It is fed by this session.
    pub(super) fn is_of(&self, from: SessionId) -> bool {
        self.source.is_some_and(|(held, _)| held == from)
    }

    /// Notes what a packet says about its source; true when it is another one than before.
    pub(super) fn enter(&mut self, from: SessionId, relayed: &Relayed) -> bool {
        let source = (from, relayed.ssrc);
        let is_other = self.source != Some(source);
        if is_other {
            self.source = Some(source);
            self.interrupt();
            self.rewrite.change_source();
            self.captured = None;
            self.next_report = None;
        }
        self.captured = relayed.captured.or(self.captured);
        self.heard = Some(relayed.packet.arrived);
        is_other
    }

    /// A picture has begun and not ended.
    fn is_within(&self) -> bool {
        self.media == Media::Video && self.last_ended == Some(false)
    }

    /// The timestamp of the source's picture that has begun and not ended.
    pub(super) fn sending(&self) -> Option<u32> {
        self.is_within().then_some(self.last_timestamp)
    }

    /// Packets are left out from here on. A picture that is broken off shows as a gap of one, so that nobody takes
    /// it for complete.
    pub(super) fn interrupt(&mut self) {
        self.rewrite.skip(u16::from(self.is_within()));
        self.last_ended = None;
    }

    /// The next packet is padding, which is left out.
    pub(super) fn leave_out(&mut self, packet: &RtpPacket) {
        self.rewrite.collapse(packet.sequence);
    }

    /// Chooses the payload type for pictures of this profile: the first that promises the same, else the first that
    /// promises more (constrained baseline plays as baseline and main), else the first.
    pub(super) fn choose(&mut self, profile_level: [u8; 3]) {
        let [profile, constraints, _] = profile_level;
        let constrained = constraints & 0x40 != 0;
        let promised = |codec: &Codec| {
            let id = parameter(&codec.parameters, "profile-level-id").unwrap_or("420010");
            let byte = |at: usize| {
                let hex = id.get(at..at + 2)?;
                u8::from_str_radix(hex, 16).ok()
            };
            Some((byte(0)?, byte(2)? & 0x40 != 0))
        };
        let rank = |codec: &Codec| match promised(codec) {
            Some(same) if same == (profile, constrained) => 0,
            Some((held, false)) if held == profile => 1,
            Some((held, _)) if held > profile && constrained => 2,
            Some(_) | None => 3,
        };
        let ranks = self.codecs.iter().map(rank).enumerate();
        self.codec = ranks.min_by_key(|(_, rank)| *rank).map_or(0, |(at, _)| at);
    }

    /// A packet made here, which goes before `first` of the source: its numbers come before that packet's.
    pub(super) fn prepend(&mut self, payload: Bytes, first: &RtpPacket) -> Outgoing {
        let before = first.sequence.wrapping_sub(1);
        let (sequence, timestamp) = self.rewrite.map(first.arrived, before, first.timestamp);
        self.finish(first.arrived, sequence, timestamp, false, payload)
    }

    /// A packet of the source as ours.
    pub(super) fn forward(&mut self, packet: RtpPacket) -> Outgoing {
        let (sequence, timestamp) =
            self.rewrite
                .map(packet.arrived, packet.sequence, packet.timestamp);
        self.last_ended = Some(packet.marker);
        self.last_timestamp = packet.timestamp;
        let RtpPacket {
            marker,
            payload,
            arrived,
            ..
        } = packet;
        self.finish(arrived, sequence, timestamp, marker, payload)
    }

    fn finish(
        &mut self,
        now: Instant,
        sequence: u16,
        timestamp: u32,
        marker: bool,
        payload: Bytes,
    ) -> Outgoing {
        let octets = u32::try_from(payload.len()).unwrap_or(0);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(octets);
        let codec = self.codecs.get(self.codec);
        let packet = Outgoing {
            ssrc: self.seed.ssrc,
            payload_type: codec.map_or(0, |codec| codec.payload_type),
            sequence,
            timestamp,
            marker,
            payload,
            transport: None,
        };
        if self.media == Media::Video && codec.is_some_and(Codec::has_nack) {
            self.history.add(now, &packet);
        }
        packet
    }

    /// One of the newest packets once more, to see what the path carries; none without retransmissions of their own, which
    /// receivers take for what they are.
    pub(super) fn pad(&mut self) -> Option<Outgoing> {
        let sent = self.history.newest()?;
        let packet = self.retransmission(&sent)?;
        Some(packet)
    }

    fn retransmission(&mut self, sent: &Sent) -> Option<Outgoing> {
        let of = |codec: &&Codec| codec.payload_type == sent.payload_type;
        let payload_type = self.codecs.iter().find(of).and_then(|codec| codec.rtx)?;
        let mut payload = BytesMut::with_capacity(2 + sent.payload.len());
        payload.put_u16(sent.sequence);
        payload.put_slice(&sent.payload);
        let sequence = self.next_rtx;
        self.next_rtx = sequence.wrapping_add(1);
        Some(Outgoing {
            ssrc: self.seed.rtx_ssrc,
            payload_type,
            sequence,
            timestamp: sent.timestamp,
            marker: sent.marker,
            payload: payload.freeze(),
            transport: None,
        })
    }

    /// The packet that answers a negative acknowledgement: by RFC 4588 when that was offered, else as it was.
    pub(super) fn repeat(
        &mut self,
        now: Instant,
        sequence: u16,
        rtt: Option<Duration>,
    ) -> Option<Outgoing> {
        let sent = self.history.repeat(now, sequence, rtt)?;
        let plain = Outgoing {
            ssrc: self.seed.ssrc,
            payload_type: sent.payload_type,
            sequence: sent.sequence,
            timestamp: sent.timestamp,
            marker: sent.marker,
            payload: sent.payload.clone(),
            transport: None,
        };
        Some(self.retransmission(&sent).unwrap_or(plain))
    }

    /// The report that is due: what time it is in our stream, by the capture clock that picture and sound share.
    pub(super) fn poll_report(&mut self, now: Instant, clock: Clock) -> Option<Report> {
        self.poll_timeout().filter(|due| *due <= now)?;
        self.next_report = Some(now + REPORT_INTERVAL);
        let silent = now.saturating_duration_since(self.heard?);
        let (timestamp, captured) = self.captured.filter(|_| silent < MAX_SILENCE)?;
        let present = clock.timestamp(now).as_nanos();
        let since = i128::from(present.saturating_sub(captured)) * i128::from(self.hz);
        // Modulo 2^32, as timestamps are.
        let ticks = (since / 1_000_000_000).rem_euclid(1 << 32);
        let ticks = u32::try_from(ticks).unwrap_or(0);
        Some(Report {
            ssrc: self.seed.ssrc,
            ntp: fixed_point(present),
            rtp: self.rewrite.timestamp(timestamp)?.wrapping_add(ticks),
            packets: self.packets,
            octets: self.octets,
        })
    }

    /// When [`Self::poll_report`] wants to be called: at once when a source's clock becomes known, then regularly.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.captured?;
        self.rewrite.timestamp(0)?;
        self.next_report.or(self.heard)
    }
}

/// Nanoseconds as 32.32 fixed point seconds. The anchor's clock counts from its start, which RFC 3550 §6.4.1 allows.
pub(super) fn fixed_point(nanos: i64) -> u64 {
    let scaled = (i128::from(nanos) << 32) / 1_000_000_000;
    u64::try_from(scaled.rem_euclid(1 << 64)).unwrap_or(0)
}
