//! One publisher's part in a channel: the shell between its connection, the channel and those who watch it.

use std::time::Instant;

use ::media::Clock;
use ::media::flv::Tag;
use origin::rtmp::{Publication, Refusal, code};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::intake::Intake;
use super::meter::Meter;
use super::relay::Relay;
use crate::sfu::{CloseReason, Delivery, Policer, SessionStats};

/// A publisher who is in.
pub(super) struct Session {
    pub(super) clock: Clock,
    pub(super) intake: Intake,
    pub(super) policer: Policer,
    pub(super) meter: Meter,
    pub(super) stats: watch::Sender<Option<SessionStats>>,
    /// The channel's word.
    pub(super) end: CancellationToken,
    /// Both are taken when it is over.
    pub(super) delivery: Option<Delivery>,
    pub(super) relay: Option<Relay>,
    /// Why it is over, if not because the connection is.
    pub(super) reason: Option<CloseReason>,
}

impl Publication for Session {
    fn push(&mut self, now: Instant, tag: Tag) -> Result<(), Refusal> {
        let at = self.clock.timestamp(now).as_nanos();
        if let Err(error) = self.intake.handle(at, &tag) {
            self.reason = Some(CloseReason::Failed);
            return Err(Refusal::new(code::REJECTED, error.to_string()));
        }
        while let Some(unit) = self.intake.poll_output() {
            let drops = self.delivery.as_ref().map_or(0, Delivery::drops);
            if let Some(stats) = self.meter.count(now, &unit, drops) {
                self.stats.send_replace(Some(stats));
            }
            if let Some(relay) = &mut self.relay {
                relay.handle(now, &unit);
            }
            if let Some(delivery) = &mut self.delivery {
                // RTMP has no way to ask for a keyframe: what was dropped is made up for by the next.
                let _ = delivery.unit(unit);
            }
        }
        if self.delivery.as_ref().is_some_and(Delivery::is_gone) {
            self.reason = Some(CloseReason::SinkGone);
            return Err(Refusal::new(code::ENDED, "the channel has ended"));
        }
        Ok(())
    }

    fn received(&mut self, now: Instant, bytes: usize) -> Result<(), Refusal> {
        if self.policer.allows(now, bytes) {
            return Ok(());
        }
        self.reason = Some(CloseReason::OverBitrate);
        let why = "the bit rate is far above webrtc.max_bitrate_kbps, the limit of this server";
        Err(Refusal::new(code::REJECTED, why))
    }

    async fn ended(&mut self) -> Refusal {
        self.end.cancelled().await;
        self.reason = Some(CloseReason::Requested);
        let why = "the channel has ended this session: removed, replaced by another, or over";
        Refusal::new(code::ENDED, why)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let reason = self.reason.unwrap_or(CloseReason::PeerClosed);
        if let Some(relay) = self.relay.take() {
            // Who vanishes may come back; who is sent away is not waited for.
            relay.end(reason == CloseReason::PeerClosed);
        }
        if let Some(delivery) = self.delivery.take() {
            delivery.close(reason);
        }
    }
}
