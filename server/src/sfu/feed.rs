//! A participant who publishes by another way than WebRTC, for those who watch by WebRTC: units in, packets out to the same
//! subscribers as those of any participant. They hold on to the participant, so it may come back by either way.
//!
//! As with a program, nothing is made while nobody watches, and a busy media thread never makes the publisher wait.

use std::sync::Arc;
use std::time::Instant;

use media::{AccessUnit, Timestamp};
use tokio::sync::{mpsc, watch};

use super::program::{Demand, ProgramFeed, ProgramLink};
use super::socket::Command;
use super::types::{SessionId, StreamKey};
use super::{Sfu, send};

/// The publisher's end. Made by [`Sfu::feed`].
#[derive(Debug)]
pub struct Feed {
    inner: ProgramFeed,
    commands: mpsc::Sender<Command>,
}

impl Feed {
    /// Somebody watches, or is about to.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.inner.link().demand.borrow().viewers > 0
    }

    /// Takes an H.264 or Opus unit whose times count from `epoch` on the anchor's clock. Pictures must come in the order
    /// in which they are shown. Never blocks. Everything is ignored while nobody watches.
    pub fn send(&mut self, now: Instant, unit: &AccessUnit, epoch: Timestamp) {
        self.inner.send(now, unit, epoch);
    }

    /// This publisher cannot be watched: who does is sent away, and who comes is told why. Never blocks.
    pub fn refuse(&self, why: &'static str) {
        let id = self.inner.link().id;
        let _ = self.commands.try_send(Command::RefuseFeed { id, why });
    }
}

impl Sfu {
    /// A way for the participant `key` to its subscribers, as session `id`; `None` when the media thread has ended.
    pub async fn feed(&self, id: SessionId, key: StreamKey) -> Option<Feed> {
        let (demand, _) = watch::channel(Demand::default());
        let commands = self.commands_of(&key.channel).clone();
        let link = ProgramLink {
            id,
            key,
            demand: Arc::new(demand),
        };
        send(&commands, Command::OpenFeed { link: link.clone() }).await?;
        Some(Feed {
            inner: ProgramFeed::new(link, commands.clone()),
            commands,
        })
    }

    /// The publisher has gone. Subscribers wait for it to come back when its connection only broke.
    pub async fn end_feed(&self, feed: Feed, returns: bool) {
        let id = feed.inner.link().id;
        let _ = send(&feed.commands, Command::EndFeed { id, returns }).await;
    }
}
