//! Those who watch the program by WebRTC: they are let in here, and the program makes what they need while they are there.

use std::time::{Duration, Instant};

use cdn_publisher::program::Input as ProgramInput;
use media::AccessUnit;
use tokio::sync::watch;

use super::{Reply, Task};
use crate::sfu::{Answer, Demand, OfferError, ProgramFeed, Sfu};

/// Shortest time between two keyframes for viewers: whoever comes meanwhile gets the same one, or the next.
const KEYFRAME_SPACING: Duration = Duration::from_secs(1);

/// See the module documentation.
pub(super) struct Viewers {
    feed: ProgramFeed,
    demand: Demand,
    /// One of them can show nothing before the next keyframe.
    wants_keyframe: bool,
    asked: Option<Instant>,
}

impl Viewers {
    pub(super) fn new(sfu: &Sfu, channel: String) -> (Self, watch::Receiver<Demand>) {
        let (feed, demand) = sfu.program(channel);
        let viewers = Self {
            feed,
            demand: Demand::default(),
            wants_keyframe: false,
            asked: None,
        };
        (viewers, demand)
    }

    pub(super) fn count(&self) -> usize {
        self.demand.viewers
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = self.asked.map(|asked| asked + KEYFRAME_SPACING)?;
        self.wants_keyframe.then_some(due)
    }

    pub(super) fn into_feed(self) -> ProgramFeed {
        self.feed
    }
}

impl Task {
    /// Lets a viewer in. The SFU answers in its own time; the channel goes on meanwhile.
    pub(super) fn watch(&self, offer: String, reply: Reply<Result<Answer, OfferError>>) {
        let (sfu, link) = (self.deps.sfu.clone(), self.viewers.feed.link().clone());
        tokio::spawn(async move {
            if let Err(Ok(unheard)) = reply.send(sfu.watch(offer, link).await) {
                sfu.close(unheard.session).await;
            }
        });
    }

    /// Viewers came, went or lost the picture.
    pub(super) fn viewers_need(&mut self, now: Instant, demand: Demand) {
        let before = std::mem::replace(&mut self.viewers.demand, demand);
        if (before.viewers == 0) != (demand.viewers == 0) {
            self.feed(now, ProgramInput::LiveSound(demand.viewers > 0));
        }
        self.viewers.wants_keyframe |= before.keyframes != demand.keyframes;
        self.viewers_timeout(now);
    }

    pub(super) fn viewers_timeout(&mut self, now: Instant) {
        let is_early = self.viewers.poll_timeout().is_some_and(|due| now < due);
        if self.viewers.wants_keyframe && !is_early {
            self.viewers.wants_keyframe = false;
            self.viewers.asked = Some(now);
            self.feed(now, ProgramInput::WantKeyframe);
        }
    }

    /// What is published goes to viewers too.
    pub(super) fn show_viewers(&mut self, now: Instant, unit: &AccessUnit) {
        if let Some(running) = &self.running {
            self.viewers.feed.send(now, unit, running.epoch);
        }
    }
}
