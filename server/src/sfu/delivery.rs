//! The way out of the media thread: a bounded queue that never blocks it.
//!
//! When the sink is full, video is dropped up to the next keyframe and audio packet by packet; the next unit of the track
//! says so (`discontinuity`). [`Ingress::Connected`] goes first and [`Ingress::Closed`] last, whatever happens between.

use media::{AccessUnit, Kind};
use tokio::sync::mpsc::error::TrySendError;

use super::Sink;
use super::types::{CloseReason, Ingress, SessionId};

/// The sink of one session.
#[derive(Debug)]
pub(crate) struct Delivery {
    session: SessionId,
    sink: Sink,
    /// `Connected` has not been taken yet.
    connecting: bool,
    dropped_video: bool,
    dropped_audio: bool,
    drops: u64,
    gone: bool,
}

impl Delivery {
    pub(crate) fn new(session: SessionId, sink: Sink) -> Self {
        Self {
            session,
            sink,
            connecting: false,
            dropped_video: false,
            dropped_audio: false,
            drops: 0,
            gone: false,
        }
    }

    /// The session is connected.
    pub(crate) fn connected(&mut self) {
        self.connecting = true;
        self.announce();
    }

    /// Delivers a unit or drops it; true when a keyframe is needed because video was dropped.
    pub(crate) fn unit(&mut self, mut unit: AccessUnit) -> bool {
        self.announce();
        let (dropped, is_video) = match unit.kind() {
            Kind::Video => (&mut self.dropped_video, true),
            Kind::Audio => (&mut self.dropped_audio, false),
        };
        let undecodable = is_video && *dropped && !unit.keyframe;
        if undecodable || self.connecting {
            *dropped = true;
            self.drops += 1;
            return is_video;
        }
        unit.discontinuity |= *dropped;
        match self.sink.try_send((self.session, Ingress::Unit(unit))) {
            Ok(()) => {
                *dropped = false;
                false
            }
            Err(error) => {
                self.gone |= matches!(error, TrySendError::Closed(_));
                *dropped = true;
                self.drops += 1;
                is_video
            }
        }
    }

    /// The session is over. Waits for room in a task of its own, so nothing is lost.
    pub(crate) fn close(self, reason: CloseReason) {
        let message = (self.session, Ingress::Closed(reason));
        if let Err(TrySendError::Full(message)) = self.sink.try_send(message) {
            let sink = self.sink;
            tokio::spawn(async move { sink.send(message).await });
        }
    }

    /// The receiving end is gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone || self.sink.is_closed()
    }

    /// Units dropped.
    pub(crate) fn drops(&self) -> u64 {
        self.drops
    }

    fn announce(&mut self) {
        if self.connecting {
            let sent = self.sink.try_send((self.session, Ingress::Connected));
            self.connecting = matches!(sent, Err(TrySendError::Full(_)));
        }
    }
}
