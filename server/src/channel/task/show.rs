//! Two channels in one show: the host of one is a guest of the other, and one mix feeds both programs.
//!
//! The *owner* of a show mixes. A *member* is a channel whose host is a guest there: it hands its host's units to the
//! owner, gets the owner's voices and the coded mix back, and keeps a program and a publisher of its own. Units carry capture
//! times on the anchor's clock, which the channels share, so nothing is translated and lips stay in sync.
//!
//! Invariants:
//! - A channel owns a show or is a member of one, never both: there are no circles.
//! - Sessions keep their ids across a link, so a keyframe is asked for where the pictures come from. A channel never
//!   ends a session that it has from a link.
//! - No channel waits for another: everything between them goes into bounded queues. Units that do not fit are lost (pictures
//!   up to a keyframe); a message that does not fit ends the link.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use media::{AccessUnit, Kind};
use signaling::types::{ChannelId, ParticipantId};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{Command, Controls, Handle, Reply, Task};
use crate::channel::state::{Input, Role};
use crate::channel::switch::{self, Mode};
use crate::clock;
use crate::mixer::process::{Event, Run};
use crate::mixer::supervisor;
use crate::sfu::{Ingress, SessionId, Sink, StreamKey};

/// Most members of a show: with the owner's host they fill a mix.
const MAX_MEMBERS: usize = 15;

/// Why two channels were not linked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// They are already.
    #[error("{0} is in this show already")]
    Linked(ChannelId),
    /// A channel is in one show only.
    #[error("{channel} is in the show of {owner} already; end that link first")]
    Member {
        /// The channel.
        channel: ChannelId,
        /// In whose show it is.
        owner: ChannelId,
    },
    /// The other channel has members of its own.
    #[error(
        "{0} owns a show with other channels; end its links first, or link the other way round"
    )]
    Owner(ChannelId),
    /// The name of the guest is taken.
    #[error("a participant of this channel is called {0}, as its host would be called here")]
    NameTaken(ChannelId),
    /// No room.
    #[error("a show has at most {MAX_MEMBERS} members")]
    Full,
    /// The channel has ended meanwhile.
    #[error("the channel has ended")]
    Ended,
}

/// What channels say to each other. `of` is the channel that says it.
pub(super) enum Message {
    /// The owner asks a channel in.
    Enter(Owner, Reply<Result<Ports, LinkError>>),
    /// The answer, on its way back to the owner.
    Entered {
        member: ChannelId,
        handle: Handle,
        answer: Result<Ports, LinkError>,
        reply: Reply<Result<(), LinkError>>,
    },
    /// The owner has let the member in: tell about the host.
    Begin,
    /// Somebody of the other channel is here from now on.
    Joined {
        of: ChannelId,
        session: SessionId,
        id: ParticipantId,
        key: StreamKey,
    },
    /// Somebody of the other channel is not here any more.
    Left(SessionId),
    /// What the owner's producer has set for somebody.
    Controls(ParticipantId, Controls),
    /// The owner is in this mode now.
    Mode(Mode),
    /// A member shows the mix from now on, or not any more.
    Mix(ChannelId, Option<Run>),
    /// A member needs a keyframe of the mix.
    Keyframe,
    /// The link is over.
    Over(ChannelId),
}

/// Where a channel takes what it gets by a link.
pub(super) struct Ports {
    sink: Sink,
    mix: mpsc::Sender<(Run, Event)>,
}

/// The show in which this channel's host is a guest.
pub(super) struct Owner {
    id: ChannelId,
    handle: Handle,
    sink: Sink,
    /// Pictures pass; else a keyframe is waited for.
    open: bool,
}

/// A channel whose host is a guest here.
struct Member {
    handle: Handle,
    ports: Ports,
    /// The session of its host.
    guest: Option<SessionId>,
    /// The mix that it gets, and whether a keyframe has opened it.
    lent: Option<(Run, bool)>,
}

/// The links of a channel.
#[derive(Default)]
pub(super) struct Show {
    owner: Option<Owner>,
    members: BTreeMap<ChannelId, Member>,
    /// Sessions of this channel that the others know, and as whom here.
    told: HashMap<SessionId, String>,
    /// Sessions that come by a link, and where their pictures can be subscribed to.
    borrowed: HashMap<SessionId, StreamKey>,
}

impl Show {
    /// The show in which the channel is a guest.
    pub(super) fn owner(&self) -> Option<&ChannelId> {
        self.owner.as_ref().map(|owner| &owner.id)
    }

    /// Whose hosts are guests here.
    pub(super) fn members(&self) -> impl Iterator<Item = &ChannelId> {
        self.members.keys()
    }

    /// Where a session comes from, when it comes by a link.
    pub(super) fn stream(&self, session: SessionId) -> Option<&StreamKey> {
        self.borrowed.get(&session)
    }

    /// A member shows the mix, or may soon.
    fn lends(&self) -> bool {
        self.members.values().any(|member| member.lent.is_some())
    }

    fn is_linked(&self) -> bool {
        self.owner.is_some() || !self.members.is_empty()
    }

    /// The member whose host has this session.
    fn guest(&self, session: SessionId) -> Option<&ChannelId> {
        let mut members = self.members.iter();
        members
            .find(|(_, member)| member.guest == Some(session))
            .map(|(id, _)| id)
    }
}

impl Handle {
    /// Lets the host of another channel be a guest of this one, and both show one mix.
    ///
    /// # Errors
    /// [`LinkError`]; nothing has changed then.
    pub async fn link(&self, member: ChannelId, handle: Self) -> Result<(), LinkError> {
        self.ask(|reply| Command::Link(member, handle, reply))
            .await
            .unwrap_or(Err(LinkError::Ended))
    }

    /// Ends a link. `Some(false)` when there is none.
    pub async fn unlink(&self, member: ChannelId) -> Option<bool> {
        self.ask(|reply| Command::Unlink(member, reply)).await
    }

    fn tell(&self, message: Message) -> bool {
        self.commands.try_send(Command::Show(message)).is_ok()
    }

    /// For what must arrive; it may come later than what is said after it.
    fn tell_surely(&self, message: Message) {
        let commands = self.commands.clone();
        tokio::spawn(async move { commands.send(Command::Show(message)).await });
    }
}

impl Task {
    fn handle_of_this(&self) -> Handle {
        Handle {
            commands: self.commands.clone(),
        }
    }

    pub(super) fn link(
        &mut self,
        member: ChannelId,
        handle: Handle,
        reply: Reply<Result<(), LinkError>>,
    ) {
        if let Err(why) = self.may_link(&member) {
            return drop(reply.send(Err(why)));
        }
        let owner = Owner {
            id: self.setup.id.clone(),
            handle: self.handle_of_this(),
            sink: self.sink.clone(),
            open: false,
        };
        let commands = self.commands.clone();
        tokio::spawn(async move {
            let asked = handle.ask(|reply| Command::Show(Message::Enter(owner, reply)));
            let answer = asked.await.unwrap_or(Err(LinkError::Ended));
            let entered = Message::Entered {
                member,
                handle,
                answer,
                reply,
            };
            let _ = commands.send(Command::Show(entered)).await;
        });
    }

    fn may_link(&self, member: &ChannelId) -> Result<(), LinkError> {
        if let Some(owner) = self.show.owner() {
            let (channel, owner) = (self.setup.id.clone(), owner.clone());
            return Err(LinkError::Member { channel, owner });
        }
        if self.show.members.contains_key(member) {
            return Err(LinkError::Linked(member.clone()));
        }
        if self.show.members.len() >= MAX_MEMBERS {
            return Err(LinkError::Full);
        }
        let mut participants = self.state.participants().iter();
        if participants.any(|p| p.id == member.as_str()) {
            return Err(LinkError::NameTaken(member.clone()));
        }
        Ok(())
    }

    /// The other channel says something.
    pub(super) fn show_message(&mut self, message: Message) {
        let now = clock::now();
        match message {
            Message::Enter(owner, reply) => {
                let _ = reply.send(self.enter(now, owner));
            }
            Message::Entered {
                member,
                handle,
                answer,
                reply,
            } => {
                let answer = answer.and_then(|ports| self.entered(&member, handle, ports));
                let _ = reply.send(answer);
            }
            Message::Begin => self.introduce_everybody(),
            Message::Joined {
                of,
                session,
                id,
                key,
            } => self.joined(now, &of, session, id, key),
            Message::Left(session) => self.left(now, session),
            Message::Controls(id, controls) => self.borrowed_controls(now, &id, controls),
            Message::Mode(mode) => self.follow_mode(now, mode),
            Message::Mix(member, run) => self.lend_to(now, &member, run),
            Message::Keyframe => self.stage.keyframe(),
            Message::Over(of) => self.over(now, &of),
        }
    }

    /// This channel becomes a member.
    fn enter(&mut self, now: Instant, owner: Owner) -> Result<Ports, LinkError> {
        let id = self.setup.id.clone();
        if let Some(owner) = self.show.owner() {
            let owner = owner.clone();
            return Err(LinkError::Member { channel: id, owner });
        }
        if !self.show.members.is_empty() {
            return Err(LinkError::Owner(id));
        }
        info!(owner = %owner.id, "in the show of another channel");
        self.show.owner = Some(owner);
        self.stage.borrow(Some(HashSet::new()));
        self.stage_moves(now, "the channel has joined a show");
        Ok(Ports {
            sink: self.sink.clone(),
            mix: self.stage.events(),
        })
    }

    /// A channel has become a member.
    fn entered(&mut self, id: &ChannelId, handle: Handle, ports: Ports) -> Result<(), LinkError> {
        // Somebody may have been faster.
        if let Err(why) = self.may_link(id) {
            handle.tell_surely(Message::Over(self.setup.id.clone()));
            return Err(why);
        }
        info!(member = %id, "another channel is in the show");
        let mode = self.stage.mode();
        let greeted = handle.tell(Message::Begin) && handle.tell(Message::Mode(mode));
        let member = Member {
            handle,
            ports,
            guest: None,
            lent: None,
        };
        self.show.members.insert(id.clone(), member);
        if !greeted {
            self.end_link(clock::now(), id);
            return Err(LinkError::Ended);
        }
        self.introduce_everybody();
        self.announce();
        Ok(())
    }

    /// Tells the other channels about everybody they do not know yet.
    fn introduce_everybody(&mut self) {
        let live: Vec<SessionId> = self
            .state
            .participants()
            .iter()
            .filter_map(|p| p.live.map(SessionId))
            .collect();
        self.show.told.clear();
        for session in live {
            self.show_attached(session);
        }
    }

    /// What somebody of this channel is called in the others: a member's host by the channel's name, the owner's people by theirs,
    /// behind the owner's.
    fn name_elsewhere(&self, id: &str) -> Option<ParticipantId> {
        let own = &self.setup.id;
        let name = match self.show.owner {
            Some(_) => own.to_string(),
            None => format!("{own}-{id}").chars().take(64).collect(),
        };
        ParticipantId::new(name).ok()
    }

    /// A session of this channel has media from now on.
    pub(super) fn show_attached(&mut self, session: SessionId) {
        if !self.show.is_linked() {
            return;
        }
        let mut participants = self.state.participants().iter();
        let Some(person) = participants.find(|p| p.live == Some(session.0)) else {
            return;
        };
        let (id, role) = (person.id.clone(), person.role);
        if self.show.owner.is_some() && role != Role::Host {
            return;
        }
        self.show.told.insert(session, id.clone());
        let own = self.setup.id.clone();
        let key = self.show.stream(session).cloned().unwrap_or(StreamKey {
            channel: own.to_string(),
            participant: Some(id.clone()),
        });
        let Some(name) = self.name_elsewhere(&id) else {
            return;
        };
        self.tell_others(Some(session), || Message::Joined {
            of: own.clone(),
            session,
            id: name.clone(),
            key: key.clone(),
        });
    }

    /// A session of this channel has no media any more.
    pub(super) fn show_detached(&mut self, session: SessionId) {
        let Some(id) = self.show.told.remove(&session) else {
            return;
        };
        // A newer session of the same participant is introduced next, and replaces this one.
        let mut participants = self.state.participants().iter();
        if !participants.any(|p| p.id == id && p.live.is_some()) {
            self.tell_others(Some(session), || Message::Left(session));
        }
    }

    /// Says something to everybody but the member that `about` comes from.
    fn tell_others(&mut self, about: Option<SessionId>, message: impl Fn() -> Message) {
        let mut deaf = Vec::new();
        if let Some(owner) = &self.show.owner
            && !owner.handle.tell(message())
        {
            deaf.push(owner.id.clone());
        }
        for (id, member) in &self.show.members {
            if (about.is_none() || member.guest != about) && !member.handle.tell(message()) {
                deaf.push(id.clone());
            }
        }
        for id in deaf {
            warn!(channel = %id, "does not take what it is told: the link ends");
            self.end_link(clock::now(), &id);
        }
    }

    /// Somebody comes by a link.
    fn joined(
        &mut self,
        now: Instant,
        of: &ChannelId,
        session: SessionId,
        id: ParticipantId,
        key: StreamKey,
    ) {
        let is_member = self.show.members.contains_key(of);
        if !is_member && self.show.owner() != Some(of) {
            return;
        }
        let mut people = self.state.participants().iter();
        let known = people.find(|p| p.id == id.as_str()).and_then(|p| p.live);
        let ours = known.is_some_and(|live| !self.show.borrowed.contains_key(&SessionId(live)));
        let join = Input::Join {
            session: session.0,
            participant: id.as_str().to_owned(),
            role: Some(Role::Guest),
        };
        if ours || self.state.handle(now, join).is_err() {
            return warn!(participant = %id, channel = %of, "there is no room for a guest by a link");
        }
        self.joined_at
            .entry(id.as_str().to_owned())
            .or_insert_with(clock::wall_ms);
        self.show.borrowed.insert(session, key);
        match self.show.members.get_mut(of) {
            Some(member) => {
                if let Some(before) = member.guest.replace(session) {
                    self.show.borrowed.remove(&before);
                }
            }
            None => self.stage.let_in(id.as_str()),
        }
        self.decide(now, Input::Connected(session.0));
    }

    /// Somebody who came by a link is gone.
    fn left(&mut self, now: Instant, session: SessionId) {
        if self.show.borrowed.remove(&session).is_none() {
            return;
        }
        for member in self.show.members.values_mut() {
            member.guest.take_if(|guest| *guest == session);
        }
        self.decide(now, Input::Left(session.0));
        self.formats.remove(&session);
    }

    /// Takes care of a session that the channel has done with: true when it is another channel's, which goes on.
    pub(super) fn gives_back(&mut self, session: SessionId) -> bool {
        if !self.show.borrowed.contains_key(&session) {
            return false;
        }
        self.show.borrowed.remove(&session);
        if let Some(member) = self.show.guest(session).cloned() {
            info!(%member, "removed: the link ends");
            self.end_link(clock::now(), &member);
        }
        true
    }

    /// Hands a unit of this channel to the others.
    pub(super) fn share(&mut self, session: SessionId, unit: &AccessUnit) {
        if !self.show.is_linked() {
            return;
        }
        let item = || (session, Ingress::Unit(unit.clone()));
        if let Some(owner) = &mut self.show.owner {
            let is_host = self.state.on_air() == Some(session.0);
            if !is_host || (unit.kind() == Kind::Video && !owner.open && !unit.keyframe) {
                return;
            }
            let sent = owner.sink.try_send(item()).is_ok();
            if unit.kind() == Kind::Video {
                owner.open = sent;
            }
            return;
        }
        if unit.kind() == Kind::Audio {
            for member in self.show.members.values() {
                if member.guest != Some(session) {
                    // A lost packet is concealed.
                    let _ = member.ports.sink.try_send(item());
                }
            }
        }
    }

    /// Shows this channel's mix to the members that want it.
    pub(super) fn lend_mix(&mut self, unit: &AccessUnit) {
        // A slate is of this channel only.
        let shared = self.stage.shows_people();
        for member in self.show.members.values_mut() {
            let Some((run, open)) = &mut member.lent else {
                continue;
            };
            *open &= shared;
            if shared && (*open || unit.keyframe) {
                let event = (*run, Event::Lent(unit.clone()));
                *open = member.ports.mix.try_send(event).is_ok();
            }
        }
    }

    fn lend_to(&mut self, now: Instant, id: &ChannelId, run: Option<Run>) {
        if let Some(member) = self.show.members.get_mut(id) {
            member.lent = run.map(|run| (run, false));
            let lent = self.show.lends();
            self.stage.handle(now, switch::Input::Lent(lent));
            self.stage.keyframe();
        }
    }

    /// Asks the owner for its mix, or gives it back. False when this channel mixes for itself.
    pub(super) fn borrow_mix(&self, run: Option<Run>) -> bool {
        let Some(owner) = &self.show.owner else {
            return false;
        };
        // When it does not get there, no picture comes, and it is asked for again.
        let _ = owner.handle.tell(Message::Mix(self.setup.id.clone(), run));
        true
    }

    pub(super) fn ask_for_lent_keyframe(&self) {
        if let Some(owner) = &self.show.owner {
            owner.handle.tell(Message::Keyframe);
        }
    }

    /// The members follow the owner.
    pub(super) fn lead_members(&mut self, mode: Mode) {
        if !self.show.members.is_empty() {
            self.tell_others(None, || Message::Mode(mode));
        }
    }

    fn follow_mode(&mut self, now: Instant, mode: Mode) {
        // As if somebody asked; nobody waits for the answer.
        let request = self.stage.unasked(mode);
        self.stage.handle(now, request);
    }

    /// The members hear somebody as the owner's producer wants it.
    pub(super) fn tell_controls(&mut self, id: &ParticipantId) {
        let mut told = self.show.told.iter();
        let Some(session) = told
            .find(|(_, known)| *known == id.as_str())
            .map(|(s, _)| *s)
        else {
            return;
        };
        if self.show.owner.is_some() {
            return;
        }
        let Some(name) = self.name_elsewhere(id.as_str()) else {
            return;
        };
        let controls = self.stage.controls(id.as_str());
        self.tell_others(Some(session), || Message::Controls(name.clone(), controls));
    }

    fn borrowed_controls(&mut self, now: Instant, id: &ParticipantId, controls: Controls) {
        if self.show.owner.is_some() {
            self.stage.set_controls_of(id.as_str(), controls);
            self.people_changed(now);
            self.set_gains(now);
            self.announce();
        }
    }

    /// Ends a link from the owner's side; `false` when there is none.
    pub(super) fn unlink(&mut self, now: Instant, member: &ChannelId) -> bool {
        let linked = self.show.members.contains_key(member);
        self.end_link(now, member);
        linked
    }

    /// Ends a link and tells the other side.
    fn end_link(&mut self, now: Instant, id: &ChannelId) {
        let handle = match self.show.members.get(id) {
            Some(member) => Some(&member.handle),
            None => self
                .show
                .owner
                .as_ref()
                .filter(|owner| owner.id == *id)
                .map(|owner| &owner.handle),
        };
        if let Some(handle) = handle {
            handle.tell_surely(Message::Over(self.setup.id.clone()));
            self.over(now, id);
        }
    }

    /// Forgets a link and everybody who came by it.
    fn over(&mut self, now: Instant, id: &ChannelId) {
        let mut gone: Vec<SessionId> = Vec::new();
        if let Some(member) = self.show.members.remove(id) {
            gone.extend(member.guest);
            let lent = self.show.lends();
            self.stage.handle(now, switch::Input::Lent(lent));
        } else if self.show.owner() == Some(id) {
            self.show.owner = None;
            gone.extend(self.show.borrowed.keys());
            self.stage.borrow(None);
            self.stage_moves(now, "the show is over");
        } else {
            return;
        }
        info!(channel = %id, "the link is over");
        for session in gone {
            self.show.borrowed.remove(&session);
            self.decide(now, Input::Left(session.0));
            self.formats.remove(&session);
        }
        if !self.show.is_linked() {
            self.show.told.clear();
        }
        self.announce();
    }

    /// A mixer of the old kind makes room for one of the new kind.
    fn stage_moves(&mut self, now: Instant, why: &str) {
        let ended = supervisor::Input::Ended(why.to_owned());
        self.stage.supervise(now, ended);
        self.people_changed(now);
    }

    /// Ends all links: the channel ends.
    pub(super) fn end_links(&mut self, now: Instant) {
        let members = self.show.members.keys().cloned();
        let linked: Vec<ChannelId> = members.chain(self.show.owner().cloned()).collect();
        for id in linked {
            self.end_link(now, &id);
        }
    }
}
