//! All channels of this node: finding, creating and ending them.
//!
//! A channel exists here only while this node owns it in the registry; for a channel of another node callers learn
//! that node's URL.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cdn_publisher::Destination;
use media::Clock;
use origin::Origin;
use signaling::types::{ChannelCreate, ChannelId, EventBody, ParticipantId};
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::warn;

use super::state::Role;
use super::task::{self, Handle, PublishError, Setup, Snapshot};
use super::view;
use crate::clock;
use crate::config::Config;
use crate::events::EventHub;
use crate::registry::{Claim, Registry};
use crate::sfu::{Answer, Sfu};

/// How long somebody who publishes to a channel that is just ending waits for its end: longer than destinations get to take
/// what is queued.
const ENDING: Duration = Duration::from_secs(3);

/// How long the registry has to take a channel back; leases end by themselves.
const RELEASE: Duration = Duration::from_secs(1);

/// The name of the destination that is the embedded origin.
pub const EMBEDDED_ORIGIN: &str = "origin";

/// The destinations that a channel has without being told.
pub type StandardDestinations = Arc<dyn Fn(&ChannelId) -> Vec<Destination> + Send + Sync>;

/// What every channel needs. Cloning is cheap.
#[derive(Clone)]
pub struct Deps {
    /// The settings.
    pub config: Arc<Config>,
    /// Where broadcasters come in.
    pub sfu: Sfu,
    /// The anchor's clock.
    pub clock: Clock,
    /// Where events go.
    pub events: EventHub,
    /// The origin in this process, if there is one.
    pub origin: Option<Origin>,
    /// This node's name.
    pub node_id: String,
    /// What precedes `/live/…` in playback URLs; empty: this server.
    pub playback_base: String,
    /// Destinations that every channel has, with `{channel}` in their URLs, already with tokens.
    pub standard_destinations: StandardDestinations,
    /// Who owns which channel.
    pub registry: Arc<dyn Registry>,
}

/// Why there is no channel to work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nobody has it.
    #[error("no such channel")]
    Unknown,
    /// It exists already.
    #[error("a channel with this id exists already")]
    Exists,
    /// Another node has it.
    #[error("the channel is owned by {0}")]
    Elsewhere(String),
    /// The node holds as many as it may.
    #[error("all {0} channels of this node are taken")]
    Full(usize),
    /// The node is stopping.
    #[error("this node is shutting down")]
    Stopping,
}

/// The channels of this node. Cloning is cheap.
#[derive(Clone)]
pub struct Manager {
    deps: Deps,
    channels: Arc<Mutex<Channels>>,
    /// A channel has ended.
    ended: Arc<Notify>,
}

#[derive(Default)]
struct Channels {
    open: HashMap<ChannelId, Handle>,
    stopping: bool,
}

impl Manager {
    /// No channels yet.
    #[must_use]
    pub fn new(deps: Deps) -> Self {
        Self {
            deps,
            channels: Arc::default(),
            ended: Arc::default(),
        }
    }

    /// What the channels share.
    #[must_use]
    pub fn deps(&self) -> &Deps {
        &self.deps
    }

    fn channels(&self) -> std::sync::MutexGuard<'_, Channels> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A channel of this node.
    #[must_use]
    pub fn local(&self, id: &ChannelId) -> Option<Handle> {
        self.channels().open.get(id).cloned()
    }

    /// How many channels this node has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.channels().open.len()
    }

    /// This node has no channels.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An existing channel.
    ///
    /// # Errors
    /// [`Error::Unknown`] or [`Error::Elsewhere`].
    pub async fn find(&self, id: &ChannelId) -> Result<Handle, Error> {
        if let Some(handle) = self.local(id) {
            return Ok(handle);
        }
        match self.deps.registry.owner(id.as_str()).await {
            Some(owner) if owner.id != self.deps.node_id => Err(Error::Elsewhere(owner.url)),
            _ => Err(Error::Unknown),
        }
    }

    /// The channel that somebody publishes to; created when that is allowed.
    ///
    /// # Errors
    /// Whatever finding and creating say.
    pub async fn find_or_create(&self, id: &ChannelId) -> Result<Handle, Error> {
        match self.find(id).await {
            Err(Error::Unknown) if self.deps.config.auto_create() => {
                match self.open(id, "", true, Vec::new()).await {
                    // Somebody else was faster.
                    Err(Error::Exists) => self.find(id).await,
                    opened => opened,
                }
            }
            found => found,
        }
    }

    /// Lets a broadcaster in. One who meets the end of the channel's last show gets the next one.
    ///
    /// # Errors
    /// Whatever finding and creating say, or what the channel answers.
    pub async fn publish(
        &self,
        channel: &ChannelId,
        id: ParticipantId,
        role: Option<Role>,
        offer: String,
    ) -> Result<Result<Answer, PublishError>, Error> {
        let deadline = clock::now() + ENDING;
        loop {
            // From before the channel is found, so that its end cannot be missed; others' ends wake it too.
            let ended = self.ended.notified();
            let found = self.find_or_create(channel).await?;
            let answer = found.publish(id.clone(), role, offer.clone()).await;
            let left = deadline.saturating_duration_since(clock::now());
            if !matches!(answer, Err(PublishError::Ended)) || left.is_zero() {
                return Ok(answer);
            }
            let _ = timeout(left, ended).await;
        }
    }

    /// A channel that stays until it is deleted.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Elsewhere`], [`Error::Full`], [`Error::Stopping`].
    pub async fn create(&self, create: ChannelCreate) -> Result<Handle, Error> {
        let destinations = create.destinations.into_iter().map(|spec| Destination {
            name: spec.name,
            url: spec.url.as_str().to_owned(),
        });
        self.open(&create.id, &create.title, false, destinations.collect())
            .await
    }

    async fn open(
        &self,
        id: &ChannelId,
        title: &str,
        temporary: bool,
        own: Vec<Destination>,
    ) -> Result<Handle, Error> {
        {
            let channels = self.channels();
            let limit = self.deps.config.channels.max_channels;
            if channels.stopping {
                return Err(Error::Stopping);
            }
            if channels.open.contains_key(id) {
                return Err(Error::Exists);
            }
            if channels.open.len() >= limit {
                return Err(Error::Full(limit));
            }
        }
        let epoch_ms = match self
            .deps
            .registry
            .claim(id.as_str(), clock::wall_ms())
            .await
        {
            Claim::Owned { epoch_ms } => epoch_ms,
            Claim::OwnedBy(node) => return Err(Error::Elsewhere(node.url)),
        };
        let mut destinations = (self.deps.standard_destinations)(id);
        destinations.extend(own);
        let setup = Setup {
            id: id.clone(),
            title: title.to_owned(),
            epoch_ms,
            temporary,
            destinations,
        };
        let handle = self.start(setup)?;
        if let Some(snapshot) = handle.snapshot().await {
            let created = EventBody::ChannelCreated(view::channel(&snapshot, &self.deps));
            self.deps.events.send(Some(id), created);
        }
        Ok(handle)
    }

    fn start(&self, setup: Setup) -> Result<Handle, Error> {
        let mut channels = self.channels();
        if channels.stopping {
            return Err(Error::Stopping);
        }
        // While the claim was under way, somebody else may have been faster.
        if channels.open.contains_key(&setup.id) {
            return Err(Error::Exists);
        }
        let (manager, id) = (self.clone(), setup.id.clone());
        let gone = id.clone();
        let handle = task::spawn(self.deps.clone(), setup, move || manager.forget(&gone));
        channels.open.insert(id, handle.clone());
        Ok(handle)
    }

    fn forget(&self, id: &ChannelId) {
        let (manager, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            // Who opens it anew claims it anew; what is released after that would be theirs.
            let release = manager.deps.registry.release(id.as_str());
            if timeout(RELEASE, release).await.is_err() {
                warn!(channel = %id, "the registry does not take the channel back");
            }
            manager.channels().open.remove(&id);
            manager.ended.notify_waiters();
        });
    }

    /// Every channel of this node, by id.
    pub async fn snapshots(&self) -> Vec<Snapshot> {
        let mut handles: Vec<(ChannelId, Handle)> = self
            .channels()
            .open
            .iter()
            .map(|(id, handle)| (id.clone(), handle.clone()))
            .collect();
        handles.sort_by(|a, b| a.0.cmp(&b.0));
        let snapshots = handles.iter().map(|(_, handle)| handle.snapshot());
        futures_util::future::join_all(snapshots)
            .await
            .into_iter()
            .flatten()
            .collect()
    }

    /// Ends every channel and takes no new ones: sessions are told, destinations flushed.
    pub async fn shutdown(&self) {
        let handles: Vec<Handle> = {
            let mut channels = self.channels();
            channels.stopping = true;
            channels.open.values().cloned().collect()
        };
        if !handles.is_empty() {
            warn!(channels = handles.len(), "ending all channels");
        }
        futures_util::future::join_all(handles.iter().map(Handle::close)).await;
    }
}
