//! Broadcasters who do not come by WebRTC: their connection is somebody else's, which feeds the channel's sink and is told
//! here when it is over.

use signaling::types::ParticipantId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::handle::{PublishError, Reply};
use super::{Input, Role, Task};
use crate::clock;
use crate::sfu::{SessionId, SessionStats, Sink};

/// What the channel knows of such a session.
#[derive(Clone, Debug)]
pub struct Direct {
    /// Cancelled when the channel ends the session.
    pub end: CancellationToken,
    /// How well it arrives.
    pub stats: watch::Receiver<Option<SessionStats>>,
}

/// Who wants to come in.
pub(super) struct Entrant {
    pub(super) id: ParticipantId,
    pub(super) role: Option<Role>,
    pub(super) session: SessionId,
    pub(super) direct: Direct,
}

impl Task {
    pub(super) fn take_direct(
        &mut self,
        entrant: Entrant,
        reply: Reply<Result<Sink, PublishError>>,
    ) {
        let Entrant {
            id,
            role,
            session,
            direct,
        } = entrant;
        let now = clock::now();
        let join = Input::Join {
            session: session.0,
            participant: id.as_str().to_owned(),
            role,
        };
        if let Err(refused) = self.state.handle(now, join) {
            return drop(reply.send(Err(refused.into())));
        }
        info!(participant = %id, %session, "RTMP session accepted");
        self.joined_at
            .entry(id.as_str().to_owned())
            .or_insert_with(clock::wall_ms);
        self.direct.insert(session, direct);
        if reply.send(Ok(self.sink.clone())).is_err() {
            // It is gone already: nobody will ever connect.
            self.decide(now, Input::Left(session.0));
            self.direct.remove(&session);
        }
    }

    /// Ends such a session; false when it is none.
    pub(super) fn end_direct(&mut self, session: SessionId) -> bool {
        let direct = self.direct.get(&session);
        direct.inspect(|direct| direct.end.cancel()).is_some()
    }
}
