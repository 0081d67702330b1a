//! Nodes of the cluster, and the health of this one.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::WallTime;

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeRole {
    /// Takes broadcasters and owns channels.
    Anchor,
    /// Serves viewers.
    Origin,
}

/// One process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Its identifier, unique in the cluster.
    #[schema(example = "anchor-1")]
    pub id: String,
    /// Where its API is reached; channels it owns are redirected to.
    #[schema(example = "http://10.0.0.1:8080")]
    pub url: String,
    /// What it does.
    pub roles: Vec<NodeRole>,
    /// Version of the software.
    pub version: String,
    /// When it started.
    pub started_at: WallTime,
    /// When it was last heard of.
    pub seen_at: WallTime,
    /// Channels that it owns.
    pub channels: u32,
    /// WHIP and WHEP sessions at it.
    pub sessions: u32,
}

/// The outcome of one readiness check.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// Something is lost that the node can do without for now.
    Degraded,
    /// The node cannot serve.
    Failed,
}

/// One thing that readiness depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// What was looked at, for example `registry`, `udp`, `origin`.
    #[schema(example = "registry")]
    pub name: String,
    /// How it is.
    pub status: CheckStatus,
    /// In words; empty when there is nothing to say.
    pub detail: String,
}

/// The sum of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadyStatus {
    /// Everything is as it should be.
    Ready,
    /// Serves, but something is lost (for example Redis): still ready.
    Degraded,
    /// Does not serve: starting, stopping or broken. The only one that is answered `503`.
    NotReady,
}

/// `GET /readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// True for `ready` and for `degraded`.
    pub ready: bool,
    /// The sum of the checks.
    pub status: ReadyStatus,
    /// One by one.
    pub checks: Vec<Check>,
}

impl Readiness {
    /// Sums up: the worst check decides.
    pub fn of(checks: Vec<Check>) -> Self {
        let worst = checks.iter().map(|check| check.status).max();
        let status = match worst.unwrap_or(CheckStatus::Ok) {
            CheckStatus::Ok => ReadyStatus::Ready,
            CheckStatus::Degraded => ReadyStatus::Degraded,
            CheckStatus::Failed => ReadyStatus::NotReady,
        };
        Self {
            ready: status != ReadyStatus::NotReady,
            status,
            checks,
        }
    }
}

/// `GET /healthz`: the process answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    #[schema(example = "ok")]
    pub status: String,
    /// Version of the software.
    pub version: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_check_decides() {
        let check = |status| Check {
            name: "x".into(),
            status,
            detail: String::new(),
        };
        let status = |all: &[CheckStatus]| {
            let sum = Readiness::of(all.iter().copied().map(check).collect());
            (sum.status, sum.ready)
        };
        assert_eq!(status(&[]), (ReadyStatus::Ready, true));
        assert_eq!(
            status(&[CheckStatus::Degraded, CheckStatus::Ok]),
            (ReadyStatus::Degraded, true)
        );
        assert_eq!(
            status(&[CheckStatus::Degraded, CheckStatus::Failed]),
            (ReadyStatus::NotReady, false)
        );
    }
}
