//! Who is in a channel, who is on air, and when the channel ends: one sans-IO machine per channel.
//!
//! Invariants:
//! - At most one participant is the host. A second one is refused while the first is live.
//! - A session of a participant who is already in replaces the older session only once it is connected, so a
//!   failed reconnect takes nothing away and a vanished host comes back without waiting for a timeout.
//! - The program starts with the first connected host and ends only when the host was away for `away_timeout`, or
//!   when the channel is closed. In between, sources come and go and the publisher does not notice.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Identifies a WHIP session within the node.
pub type SessionKey = uuid::Uuid;

/// The part a participant plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Owns the show: on air in solo mode.
    Host,
    /// Invited by the host.
    Guest,
}

/// What happens to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A broadcaster asks to come in; refused by an error.
    Join {
        /// The new session.
        session: SessionKey,
        /// Who it is.
        participant: String,
        /// The role asked for; by default the first to publish is the host.
        role: Option<Role>,
    },
    /// Media can flow on a session.
    Connected(SessionKey),
    /// A session ended, by either side.
    Left(SessionKey),
    /// The operator removes a participant.
    Kick(String),
}

/// What the shell has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Start program and publisher.
    StartProgram,
    /// This session feeds the program from now on.
    Attach(SessionKey),
    /// This session does not feed the program any more.
    Detach(SessionKey),
    /// End this session: it was replaced or kicked.
    End(SessionKey),
    /// Flush and stop program and publisher: the host stayed away.
    EndProgram,
    /// Tell the world.
    Event(Event),
}

/// What the world is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A participant is connected.
    Joined(String, Role),
    /// A participant's connection is gone.
    Left(String, Role),
    /// The host is away; the channel is kept for a while.
    HostAway,
    /// The host is back, or here for the first time.
    HostLive,
}

/// Why a participant cannot come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another participant is host and live.
    #[error(
        "another participant is the live host of this channel; join with role=guest or end that session first"
    )]
    HostIsLive,
    /// The participant is in with the other role.
    #[error("this participant is already in the channel with another role")]
    RoleTaken,
    /// The channel holds as many participants as it may.
    #[error("the channel is full")]
    Full,
    /// No such participant.
    #[error("there is no such participant in the channel")]
    Unknown,
}

/// Bounds and patience of a channel.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a channel waits for its host to come back.
    pub away_timeout: Duration,
    /// Participants at once, the host included.
    pub max_participants: usize,
}

/// A participant and their sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// Their id, unique in the channel.
    pub id: String,
    /// Their part.
    pub role: Role,
    /// The connected session that counts.
    pub live: Option<SessionKey>,
    /// The newest session that is not connected yet.
    pub pending: Option<SessionKey>,
}

/// The channel's decisions.
#[derive(Debug)]
pub struct State {
    limits: Limits,
    participants: Vec<Participant>,
    program_running: bool,
    away_deadline: Option<Instant>,
    outputs: VecDeque<Output>,
}

impl State {
    /// An empty channel.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            participants: Vec::new(),
            program_running: false,
            away_deadline: None,
            outputs: VecDeque::new(),
        }
    }

    /// Takes an input.
    ///
    /// # Errors
    /// Joins and kicks can be refused; nothing changes then.
    pub fn handle(&mut self, now: Instant, input: Input) -> Result<(), Error> {
        match input {
            Input::Join {
                session,
                participant,
                role,
            } => self.join(session, participant, role),
            Input::Connected(session) => {
                self.connected(session);
                Ok(())
            }
            Input::Left(session) => {
                self.left(now, session);
                Ok(())
            }
            Input::Kick(participant) => self.kick(now, &participant),
        }
    }

    /// Ends the program when the host stayed away for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.away_deadline.is_some_and(|deadline| now >= deadline) {
            self.away_deadline = None;
            self.program_running = false;
            self.outputs.push_back(Output::EndProgram);
        }
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`State::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.away_deadline
    }

    /// Everyone who is in, in order of arrival.
    #[must_use]
    pub fn participants(&self) -> &[Participant] {
        &self.participants
    }

    /// The host's session.
    #[must_use]
    pub fn on_air(&self) -> Option<SessionKey> {
        self.participants
            .iter()
            .find(|p| p.role == Role::Host)
            .and_then(|host| host.live)
    }

    /// The program runs: between the first host and the end of their absence.
    #[must_use]
    pub fn program_running(&self) -> bool {
        self.program_running
    }

    /// The role that a participant would get.
    ///
    /// # Errors
    /// Why they would be refused.
    pub fn admit(&self, id: &str, role: Option<Role>) -> Result<Role, Error> {
        let host = self.participants.iter().find(|p| p.role == Role::Host);
        let known = self.participants.iter().find(|p| p.id == id);
        let role = role.or(known.map(|p| p.role)).unwrap_or(if host.is_none() {
            Role::Host
        } else {
            Role::Guest
        });
        if role == Role::Host && host.is_some_and(|host| host.id != id && host.live.is_some()) {
            return Err(Error::HostIsLive);
        }
        if known.is_some_and(|p| p.role != role && p.live.is_some()) {
            return Err(Error::RoleTaken);
        }
        if known.is_none() && self.participants.len() >= self.limits.max_participants {
            return Err(Error::Full);
        }
        Ok(role)
    }

    fn join(&mut self, session: SessionKey, id: String, role: Option<Role>) -> Result<(), Error> {
        let role = self.admit(&id, role)?;
        if role == Role::Host {
            // A host who is not live any more makes room for the new one.
            self.retire(|p| p.role == Role::Host && p.id != id);
        }
        if let Some(known) = self.participants.iter_mut().find(|p| p.id == id) {
            known.role = role;
            if let Some(superseded) = known.pending.replace(session) {
                self.outputs.push_back(Output::End(superseded));
            }
        } else {
            self.participants.push(Participant {
                id,
                role,
                live: None,
                pending: Some(session),
            });
        }
        Ok(())
    }

    fn connected(&mut self, session: SessionKey) {
        let Some(participant) = self
            .participants
            .iter_mut()
            .find(|p| p.pending == Some(session))
        else {
            return;
        };
        participant.pending = None;
        let replaced = participant.live.replace(session);
        let (id, role) = (participant.id.clone(), participant.role);
        if role == Role::Host {
            self.away_deadline = None;
            if !self.program_running {
                self.program_running = true;
                self.outputs.push_back(Output::StartProgram);
            }
        }
        self.outputs.extend(replaced.map(Output::Detach));
        self.outputs.push_back(Output::Attach(session));
        match replaced {
            Some(old) => self.outputs.push_back(Output::End(old)),
            None => {
                self.outputs
                    .push_back(Output::Event(Event::Joined(id, role)));
                if role == Role::Host {
                    self.outputs.push_back(Output::Event(Event::HostLive));
                }
            }
        }
    }

    fn left(&mut self, now: Instant, session: SessionKey) {
        let Some(at) = self
            .participants
            .iter()
            .position(|p| p.live == Some(session) || p.pending == Some(session))
        else {
            return;
        };
        let Some(participant) = self.participants.get_mut(at) else {
            return;
        };
        if participant.pending == Some(session) {
            participant.pending = None;
        } else {
            participant.live = None;
            let (id, role) = (participant.id.clone(), participant.role);
            self.outputs.push_back(Output::Event(Event::Left(id, role)));
            self.outputs.push_back(Output::Detach(session));
            if role == Role::Host {
                self.outputs.push_back(Output::Event(Event::HostAway));
                self.away_deadline = now.checked_add(self.limits.away_timeout);
            }
        }
        self.retire(|p| p.live.is_none() && p.pending.is_none());
    }

    fn kick(&mut self, now: Instant, id: &str) -> Result<(), Error> {
        let participant = self
            .participants
            .iter()
            .find(|p| p.id == id)
            .ok_or(Error::Unknown)?;
        let (live, pending) = (participant.live, participant.pending);
        for session in pending.into_iter().chain(live) {
            self.outputs.push_back(Output::End(session));
            self.left(now, session);
        }
        Ok(())
    }

    /// Drops participants; whatever they still had pending is ended.
    fn retire(&mut self, gone: impl Fn(&Participant) -> bool) {
        for participant in self.participants.extract_if(.., |p| gone(p)) {
            self.outputs.extend(participant.pending.map(Output::End));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        away_timeout: Duration::from_secs(60),
        max_participants: 3,
    };

    struct Room {
        state: State,
        now: Instant,
    }

    impl Room {
        #[expect(
            clippy::disallowed_methods,
            reason = "any start will do for virtual time"
        )]
        fn new() -> Self {
            Self {
                state: State::new(LIMITS),
                now: Instant::now(),
            }
        }
        fn join(&mut self, session: u128, id: &str, role: Option<Role>) -> Result<(), Error> {
            let session = SessionKey::from_u128(session);
            self.state.handle(
                self.now,
                Input::Join {
                    session,
                    participant: id.into(),
                    role,
                },
            )
        }
        fn connect(&mut self, session: u128) -> Vec<Output> {
            self.state
                .handle(self.now, Input::Connected(key(session)))
                .expect("never refused");
            self.outputs()
        }
        fn leave(&mut self, session: u128) -> Vec<Output> {
            self.state
                .handle(self.now, Input::Left(key(session)))
                .expect("never refused");
            self.outputs()
        }
        fn pass(&mut self, seconds: u64) -> Vec<Output> {
            self.now += Duration::from_secs(seconds);
            self.state.handle_timeout(self.now);
            self.outputs()
        }
        fn outputs(&mut self) -> Vec<Output> {
            std::iter::from_fn(|| self.state.poll_output()).collect()
        }
    }

    fn key(n: u128) -> SessionKey {
        SessionKey::from_u128(n)
    }

    #[test]
    fn first_is_host_second_is_guest_and_a_second_host_is_refused() {
        let mut room = Room::new();
        assert_eq!(room.join(1, "ann", None), Ok(()));
        assert_eq!(
            room.connect(1),
            [
                Output::StartProgram,
                Output::Attach(key(1)),
                Output::Event(Event::Joined("ann".into(), Role::Host)),
                Output::Event(Event::HostLive)
            ]
        );
        assert_eq!(
            room.join(2, "bob", Some(Role::Host)),
            Err(Error::HostIsLive)
        );
        assert_eq!(room.join(3, "bob", None), Ok(()));
        assert_eq!(
            room.connect(3),
            [
                Output::Attach(key(3)),
                Output::Event(Event::Joined("bob".into(), Role::Guest))
            ]
        );
    }

    #[test]
    fn a_returning_host_replaces_the_old_session_only_when_connected() {
        let mut room = Room::new();
        room.join(1, "ann", None).expect("free");
        room.connect(1);
        room.join(2, "ann", None).expect("same participant");
        assert_eq!(room.outputs(), []);
        assert_eq!(room.state.on_air(), Some(key(1)));
        assert_eq!(
            room.connect(2),
            [
                Output::Detach(key(1)),
                Output::Attach(key(2)),
                Output::End(key(1))
            ]
        );
        assert_eq!(
            room.leave(1),
            [],
            "the replaced session is nobody's any more"
        );
        assert_eq!(room.state.on_air(), Some(key(2)));
    }

    #[test]
    fn an_absent_host_ends_the_program_after_the_timeout_only() {
        let mut room = Room::new();
        room.join(1, "ann", None).expect("free");
        room.connect(1);
        room.leave(1);
        assert_eq!(room.pass(59), []);
        assert!(room.state.program_running());
        room.join(2, "ann", None).expect("back");
        assert_eq!(
            room.connect(2).first(),
            Some(&Output::Attach(key(2))),
            "no second StartProgram"
        );
        room.leave(2);
        assert_eq!(room.pass(60), [Output::EndProgram]);
        assert!(!room.state.program_running());
        assert_eq!(room.state.poll_timeout(), None);
    }

    #[test]
    fn another_host_may_take_over_an_abandoned_channel() {
        let mut room = Room::new();
        room.join(1, "ann", None).expect("free");
        room.connect(1);
        room.leave(1);
        assert_eq!(room.join(2, "bob", Some(Role::Host)), Ok(()));
        assert_eq!(room.connect(2).first(), Some(&Output::Attach(key(2))));
    }

    #[test]
    fn a_full_channel_refuses() {
        let mut room = Room::new();
        for (session, id) in [(1, "a"), (2, "b"), (3, "c")] {
            room.join(session, id, None).expect("room");
        }
        assert_eq!(room.join(4, "d", None), Err(Error::Full));
        assert_eq!(
            room.join(5, "a", None),
            Ok(()),
            "a participant may reconnect"
        );
    }

    #[test]
    fn kick_ends_every_session() {
        let mut room = Room::new();
        room.join(1, "ann", None).expect("free");
        room.connect(1);
        room.join(2, "ann", None).expect("reconnect");
        let (now, kick) = (room.now, Input::Kick("ann".into()));
        assert_eq!(room.state.handle(now, kick.clone()), Ok(()));
        let ends: Vec<Output> = room
            .outputs()
            .into_iter()
            .filter(|o| matches!(o, Output::End(_)))
            .collect();
        assert_eq!(ends, [Output::End(key(2)), Output::End(key(1))]);
        assert_eq!(room.state.handle(now, kick), Err(Error::Unknown));
    }

    proptest! {
        /// Whatever happens, attached is who is live, and there is at most one host.
        #[test]
        fn attached_is_who_is_live(steps in proptest::collection::vec((0u8..4, 1u128..12, 0usize..4, 0u8..3), 0..120)) {
            let mut room = Room::new();
            let mut attached = std::collections::HashSet::new();
            for (step, session, who, role) in steps {
                let id = ["ann", "bob", "cid", "dan"][who];
                let role = [None, Some(Role::Host), Some(Role::Guest)][usize::from(role)];
                // Sessions are never shared by participants.
                let session = session * 4 + who as u128;
                match step {
                    0 => drop(room.join(session, id, role)),
                    1 => drop(room.state.handle(room.now, Input::Connected(key(session)))),
                    2 => drop(room.state.handle(room.now, Input::Left(key(session)))),
                    _ => drop(room.state.handle(room.now, Input::Kick(id.into()))),
                }
                for output in room.outputs() {
                    match output {
                        Output::Attach(s) => prop_assert!(attached.insert(s)),
                        Output::Detach(s) => prop_assert!(attached.remove(&s)),
                        Output::StartProgram | Output::EndProgram | Output::End(_) | Output::Event(_) => {}
                    }
                }
                let live = room.state.participants().iter().filter_map(|p| p.live);
                prop_assert_eq!(&attached, &live.collect::<std::collections::HashSet<_>>());
                prop_assert!(room.state.participants().len() <= LIMITS.max_participants);
                prop_assert!(room.state.participants().iter().filter(|p| p.role == Role::Host).count() <= 1);
            }
        }
    }
}
