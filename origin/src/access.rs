//! Who may publish to and view the origin's streams. The composition root decides; the origin only asks.

/// Why a publisher or viewer is turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No token was given and one is needed: HTTP 401.
    #[error("a token is needed")]
    Unauthorized,
    /// The token does not allow this: HTTP 403.
    #[error("{0}")]
    Forbidden(String),
}

/// The questions the origin asks. Answers must be quick: they are given on the connection's task.
pub trait Access: Send + Sync + 'static {
    /// May the bearer of `key` (`?token=` or `?key=` of the RTMP stream name) publish `stream`?
    ///
    /// # Errors
    /// [`Denied`] with the reason that the peer is told.
    fn may_publish(&self, stream: &str, key: Option<&str>) -> Result<(), Denied>;

    /// May the bearer of `token` (`?token=` or `Authorization: Bearer`) view `stream`?
    ///
    /// # Errors
    /// [`Denied`] with the reason that the peer is told.
    fn may_view(&self, stream: &str, token: Option<&str>) -> Result<(), Denied>;

    /// The secret that the keys of relays are derived from; `None` when relays cannot be let in. Without access control it
    /// is empty: who reaches the ports may relay.
    fn relay_secret(&self) -> Option<Vec<u8>> {
        Some(Vec::new())
    }

    /// Is a publisher of `stream` on its way? Then a viewer who comes first waits instead of getting 404.
    fn expects(&self, stream: &str) -> bool {
        let _ = stream;
        false
    }
}

/// Everybody may do everything: for loopback and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Open;

impl Access for Open {
    fn may_publish(&self, _: &str, _: Option<&str>) -> Result<(), Denied> {
        Ok(())
    }

    fn may_view(&self, _: &str, _: Option<&str>) -> Result<(), Denied> {
        Ok(())
    }
}
