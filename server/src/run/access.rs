//! Who may publish to and watch the embedded origin's streams.

use std::sync::{Arc, OnceLock};

use origin::{Access, Denied};
use signaling::auth::{Scope, Verifier};
use signaling::types::ChannelId;

use crate::channel::manager::Manager;
use crate::clock;
use crate::config::Config;
use crate::rlive;

/// Tokens of the API also guard streams; our own publisher has a key that never leaves the process.
pub(super) struct StreamAccess {
    verifier: Option<Arc<Verifier>>,
    internal_key: String,
    protect_playback: bool,
    relay_secret: Option<Vec<u8>>,
    manager: Arc<OnceLock<Manager>>,
}

impl StreamAccess {
    pub(super) fn new(
        config: &Config,
        verifier: Option<Arc<Verifier>>,
        internal_key: String,
        manager: Arc<OnceLock<Manager>>,
    ) -> Self {
        Self {
            verifier,
            internal_key,
            protect_playback: config.auth.protect_playback,
            relay_secret: rlive::relay_secret(config),
            manager,
        }
    }

    fn check(
        &self,
        verifier: &Verifier,
        scope: Scope,
        stream: &str,
        token: Option<&str>,
    ) -> Result<(), Denied> {
        let token = token
            .filter(|token| !token.is_empty())
            .ok_or(Denied::Unauthorized)?;
        let claims = verifier
            .verify(token, clock::wall_ms() / 1_000)
            .map_err(|error| Denied::Forbidden(error.to_string()))?;
        let channel =
            ChannelId::new(stream).map_err(|error| Denied::Forbidden(error.to_string()))?;
        claims
            .may(&[scope], Some(&channel))
            .map_err(Denied::Forbidden)
    }
}

impl Access for StreamAccess {
    fn may_publish(&self, stream: &str, key: Option<&str>) -> Result<(), Denied> {
        match &self.verifier {
            None => Ok(()),
            Some(_) if key == Some(self.internal_key.as_str()) => Ok(()),
            Some(verifier) => self.check(verifier, Scope::Publish, stream, key),
        }
    }

    fn may_view(&self, stream: &str, token: Option<&str>) -> Result<(), Denied> {
        match &self.verifier {
            Some(verifier) if self.protect_playback => {
                self.check(verifier, Scope::View, stream, token)
            }
            _ => Ok(()),
        }
    }

    fn relay_secret(&self) -> Option<Vec<u8>> {
        self.relay_secret.clone()
    }

    fn expects(&self, stream: &str) -> bool {
        let Ok(channel) = ChannelId::new(stream) else {
            return false;
        };
        self.manager
            .get()
            .is_some_and(|manager| manager.local(&channel).is_some())
    }
}
