//! What others see of a channel and how they talk to its task: requests in, answers and snapshots out.

use cdn_publisher::ProgramStats;
use cdn_publisher::program::Levels;
use cdn_publisher::publisher::{Destination, DestinationStatus};
use media::{Config as CodecConfig, Timestamp};
use signaling::types::{
    ChannelId, Invalid, Layout, LayoutName, Participant, ParticipantId, ParticipantPatch,
    PicturePlace, Slate, SwitchReport, Upload,
};
use tokio::sync::{mpsc, oneshot};

use super::direct::{Direct, Entrant};
use super::show::{LinkError, Message};
use super::stage::{Controls, StageView, SwitchError};
use crate::channel::state::{self, Role};
use crate::channel::switch::Mode;
use crate::sfu::{Answer, OfferError, SessionId, SessionStats, Sink, StreamKey};

/// Why nobody was let in.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The channel refuses.
    #[error(transparent)]
    Refused(#[from] state::Error),
    /// The SFU refuses.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// The channel ended meanwhile.
    #[error("the channel has ended")]
    Ended,
}

/// A participant as seen from outside.
#[derive(Clone, Debug)]
pub struct ParticipantView {
    /// Their id.
    pub id: ParticipantId,
    /// Their part.
    pub role: Role,
    /// The session that counts, connected or not.
    pub session: Option<SessionId>,
    /// Media can flow.
    pub connected: bool,
    /// They are seen or heard in the program.
    pub on_air: bool,
    /// What the producer set.
    pub controls: Controls,
    /// How loud they are before their volume; once they have sound.
    pub level: Option<Levels>,
    /// When they came, wall clock in ms.
    pub joined_at_ms: u64,
    /// What their pictures look like.
    pub video: Option<CodecConfig>,
    /// What their sound looks like.
    pub audio: Option<CodecConfig>,
    /// They publish by RTMP.
    pub is_rtmp: bool,
    /// How well that arrives, once something has.
    pub measured: Option<SessionStats>,
    /// Where they can be subscribed to, when they come by a link.
    pub stream: Option<StreamKey>,
}

/// A channel as seen from outside, at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its id.
    pub id: ChannelId,
    /// Its title.
    pub title: String,
    /// When it was created, wall clock in ms.
    pub created_at_ms: u64,
    /// Since when the program runs, wall clock in ms.
    pub live_since_ms: Option<u64>,
    /// A host is connected.
    pub host_live: bool,
    /// The channels whose hosts are guests here.
    pub links: Vec<ChannelId>,
    /// The channel in whose show the host is a guest.
    pub show: Option<ChannelId>,
    /// Everybody who is in.
    pub participants: Vec<ParticipantView>,
    /// Where it is to be pushed, with secrets: never shown.
    pub targets: Vec<Destination>,
    /// How every destination is doing, with redacted URLs.
    pub destinations: Vec<DestinationStatus>,
    /// The program, while it runs.
    pub program: Option<ProgramView>,
    /// Mode, layout and mixer.
    pub stage: StageView,
    /// Those who watch the program by WHEP.
    pub viewers: usize,
}

/// The program as seen from outside.
#[derive(Clone, Debug)]
pub struct ProgramView {
    /// Its own statistics.
    pub stats: ProgramStats,
    /// Keyframes published.
    pub keyframes: u64,
    /// DTS of the newest picture.
    pub video_dts: Option<Timestamp>,
    /// DTS of the newest sound.
    pub audio_dts: Option<Timestamp>,
}

/// What others ask of a channel.
pub(super) enum Command {
    Publish {
        id: ParticipantId,
        role: Option<Role>,
        offer: String,
        reply: Reply<Result<Answer, PublishError>>,
    },
    Answered(Answered),
    Enter(Entrant, Reply<Result<Sink, PublishError>>),
    Watch {
        offer: String,
        reply: Reply<Result<Answer, OfferError>>,
    },
    Snapshot(Reply<Snapshot>),
    Kick {
        id: String,
        reply: Reply<Result<(), state::Error>>,
    },
    SetMode {
        mode: Mode,
        layout: Option<LayoutName>,
        participants: Option<Vec<ParticipantId>>,
        reply: Reply<Result<SwitchReport, SwitchError>>,
    },
    SetLayout(Layout, Reply<Result<Layout, Invalid>>),
    SetSlate(Option<String>, Reply<Slate>),
    SetPicture(PicturePlace, Option<Upload>, Reply<()>),
    Picture(PicturePlace, Reply<Option<Upload>>),
    SetControls(ParticipantId, ParticipantPatch, Reply<Option<Participant>>),
    SetTitle(String),
    SetDestinations(Vec<Destination>),
    Link(ChannelId, Handle, Reply<Result<(), LinkError>>),
    Unlink(ChannelId, Reply<bool>),
    /// Another channel says something.
    Show(Message),
    Close(Reply<()>),
}

pub(super) type Reply<T> = oneshot::Sender<T>;

/// The SFU's word on an offer, on its way back to the channel.
pub(super) struct Answered {
    pub(super) id: ParticipantId,
    pub(super) role: Role,
    pub(super) result: Result<Answer, OfferError>,
    pub(super) reply: Reply<Result<Answer, PublishError>>,
}

/// Talks to the task of a channel. Cloning is cheap. Methods answer `None` when the channel has ended.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
}

impl Handle {
    pub(super) async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Lets a broadcaster in.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish(
        &self,
        id: ParticipantId,
        role: Option<Role>,
        offer: String,
    ) -> Result<Answer, PublishError> {
        self.ask(|reply| Command::Publish {
            id,
            role,
            offer,
            reply,
        })
        .await
        .unwrap_or(Err(PublishError::Ended))
    }

    /// Lets a broadcaster in who comes by another way than WebRTC: their units go to the sink, as session `session`.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn enter(
        &self,
        id: ParticipantId,
        role: Option<Role>,
        session: SessionId,
        direct: Direct,
    ) -> Result<Sink, PublishError> {
        let entrant = Entrant {
            id,
            role,
            session,
            direct,
        };
        self.ask(|reply| Command::Enter(entrant, reply))
            .await
            .unwrap_or(Err(PublishError::Ended))
    }

    /// Lets a viewer of the program in; it is shown from its next keyframe on, as soon as there is a program.
    ///
    /// # Errors
    /// [`OfferError`].
    pub async fn watch(&self, offer: String) -> Option<Result<Answer, OfferError>> {
        self.ask(|reply| Command::Watch { offer, reply }).await
    }

    /// The channel at this moment.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        self.ask(Command::Snapshot).await
    }

    /// Removes a participant.
    pub async fn kick(&self, id: String) -> Option<Result<(), state::Error>> {
        self.ask(|reply| Command::Kick { id, reply }).await
    }

    /// Switches the mode; answers when the first access unit of the new mode is published.
    ///
    /// # Errors
    /// [`SwitchError`]; the program is as before then.
    pub async fn set_mode(
        &self,
        mode: Mode,
        layout: Option<LayoutName>,
        participants: Option<Vec<ParticipantId>>,
    ) -> Option<Result<SwitchReport, SwitchError>> {
        self.ask(|reply| Command::SetMode {
            mode,
            layout,
            participants,
            reply,
        })
        .await
    }

    /// Changes the layout of the mix.
    ///
    /// # Errors
    /// When it names who is not there.
    pub async fn set_layout(&self, layout: Layout) -> Option<Result<Layout, Invalid>> {
        self.ask(|reply| Command::SetLayout(layout, reply)).await
    }

    /// Changes what the slate says; `None`: what the configuration says.
    pub async fn set_slate(&self, text: Option<String>) -> Option<Slate> {
        self.ask(|reply| Command::SetSlate(text, reply)).await
    }

    /// Takes a picture, or takes it away.
    pub async fn set_picture(&self, place: PicturePlace, upload: Option<Upload>) -> Option<()> {
        self.ask(|reply| Command::SetPicture(place, upload, reply))
            .await
    }

    /// The picture that was uploaded.
    pub async fn picture(&self, place: PicturePlace) -> Option<Option<Upload>> {
        self.ask(|reply| Command::Picture(place, reply)).await
    }

    /// Mutes, changes the volume, takes on or off the program; `Some(None)` when there is no such participant.
    pub async fn set_controls(
        &self,
        id: ParticipantId,
        patch: ParticipantPatch,
    ) -> Option<Option<Participant>> {
        self.ask(|reply| Command::SetControls(id, patch, reply))
            .await
    }

    /// Renames the channel.
    pub async fn set_title(&self, title: String) -> Option<()> {
        self.commands.send(Command::SetTitle(title)).await.ok()
    }

    /// Makes the destinations exactly these.
    pub async fn set_destinations(&self, destinations: Vec<Destination>) -> Option<()> {
        self.commands
            .send(Command::SetDestinations(destinations))
            .await
            .ok()
    }

    /// Ends the channel: sessions are told, destinations flushed. Returns when that is done.
    pub async fn close(&self) {
        self.ask(Command::Close).await;
    }
}
