//! A channel's program on its way to those who watch it by WebRTC.
//!
//! The program is one more stream that subscribers hold on to: what is published is cut into packets here, once, and goes through
//! the same egress as a participant's. Numbers go on for the life of the channel, whatever source is shown, so a switch is a
//! keyframe with other parameter sets and nothing else. RTP times are program time.
//!
//! The channel learns by [`Demand`] whether anybody watches; while nobody does, nothing is made.
//!
//! Invariant: a busy media thread never makes the channel wait. When its queue is full, pictures are dropped up to the
//! next keyframe, which is asked for, and sound packet by packet.

use std::sync::Arc;
use std::time::Instant;

use media::{AccessUnit, Config, Rate, Timestamp, h264};
use tokio::sync::{mpsc, watch};

use super::ingress_clock::Media;
use super::metrics;
use super::packet::{Relayed, RtpPacket};
use super::packetize::h264_payloads;
use super::socket::Command;
use super::types::{SessionId, StreamKey};

/// Names of the two streams inside; subscribers get others.
const VIDEO_SSRC: u32 = 1;
const AUDIO_SSRC: u32 = 2;

/// What those who watch the program need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// How many there are, half-open sessions included.
    pub viewers: usize,
    /// How often a keyframe has been wished for.
    pub keyframes: u64,
}

/// Leads viewers to a program. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct ProgramLink {
    /// The program among the publishers.
    pub(super) id: SessionId,
    pub(super) key: StreamKey,
    pub(super) demand: Arc<watch::Sender<Demand>>,
}

/// The channel's end: takes what is published. Made by [`super::Sfu::program`].
#[derive(Debug)]
pub struct ProgramFeed {
    link: ProgramLink,
    commands: mpsc::Sender<Command>,
    packetizer: Packetizer,
    /// Pictures are dropped up to the next keyframe.
    is_skipping: bool,
}

impl ProgramFeed {
    pub(super) fn new(link: ProgramLink, commands: mpsc::Sender<Command>) -> Self {
        Self {
            link,
            commands,
            packetizer: Packetizer::default(),
            is_skipping: false,
        }
    }

    /// What viewers are let in by.
    #[must_use]
    pub fn link(&self) -> &ProgramLink {
        &self.link
    }

    /// Takes an H.264 or Opus unit in program time, whose zero is `epoch` on the anchor's clock, when it is due. Never
    /// blocks. Units of other codecs are ignored, and all are while nobody watches.
    pub fn send(&mut self, now: Instant, unit: &AccessUnit, epoch: Timestamp) {
        if self.link.demand.borrow().viewers == 0 {
            return;
        }
        let is_video = matches!(unit.track.config, Config::H264(_));
        if is_video && self.is_skipping && !unit.keyframe {
            metrics::program_drop();
            return;
        }
        let Ok(room) = self.commands.try_reserve() else {
            metrics::program_drop();
            if is_video {
                self.is_skipping = true;
                self.link.demand.send_modify(|demand| demand.keyframes += 1);
            } else {
                self.packetizer.audio.take();
            }
            return;
        };
        self.is_skipping &= !is_video;
        let packets = self.packetizer.packets(now, unit, epoch);
        room.send(Command::Program {
            id: self.link.id,
            packets,
        });
    }
}

/// Numbers of one stream.
#[derive(Debug, Default)]
struct Line {
    sequence: u16,
}

impl Line {
    fn take(&mut self) -> u16 {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        sequence
    }
}

/// Makes packets of units. Sans-IO.
#[derive(Debug, Default)]
struct Packetizer {
    video: Line,
    audio: Line,
    /// The parameter sets in force.
    config: Option<Arc<h264::Config>>,
}

impl Packetizer {
    fn packets(&mut self, now: Instant, unit: &AccessUnit, epoch: Timestamp) -> Vec<Relayed> {
        let (media, ssrc, rate, payloads) = match &unit.track.config {
            Config::H264(config) => {
                if self.config.as_deref() != Some(config) {
                    self.config = Some(Arc::new(config.clone()));
                }
                let payloads = match h264_payloads(&unit.data, config) {
                    Ok(payloads) => payloads,
                    Err(error) => {
                        tracing::error!(%error, "a picture of the program is not AVCC");
                        Vec::new()
                    }
                };
                (Media::Video, VIDEO_SSRC, Rate::VIDEO, payloads)
            }
            Config::Opus(_) => (
                Media::Audio,
                AUDIO_SSRC,
                Rate::AUDIO,
                vec![unit.data.clone()],
            ),
            Config::Aac(_) => return Vec::new(),
        };
        let (line, config) = match media {
            Media::Video => (&mut self.video, self.config.clone()),
            Media::Audio => (&mut self.audio, None),
        };
        // Modulo 2^32, as RTP times are.
        let ticks = unit.pts.rescale(rate).ticks().rem_euclid(1 << 32);
        let timestamp = u32::try_from(ticks).unwrap_or(0);
        let captured = epoch.as_nanos().saturating_add(unit.pts.as_nanos());
        let count = payloads.len();
        let packet = |(at, payload): (usize, _)| Relayed {
            media,
            ssrc,
            layer: 0,
            layers: 1,
            packet: RtpPacket {
                sequence: line.take(),
                timestamp,
                marker: media == Media::Video && at + 1 == count,
                payload,
                arrived: now,
                repaired: false,
            },
            captured: Some((timestamp, captured)),
            config: config.clone(),
        };
        payloads.into_iter().enumerate().map(packet).collect()
    }
}
