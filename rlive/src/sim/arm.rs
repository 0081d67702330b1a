//! What is compared: ways to deliver the same stream over the same network.

use std::time::Duration;

use media::substream::{HashVersion, Split};

use super::model::Model;
use crate::player;

/// Relays are asked for after this: viewers of the simulator do not stay for long.
const RELAY_AFTER: Duration = Duration::from_secs(3);

/// A way to deliver a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arm {
    /// Everything from the dedicated node.
    Cdn,
    /// Everything from one relay, the best of a hundred by uplink, as if it were a dedicated node: the paper's first
    /// approach (§2.2).
    Single,
    /// Four substreams from any relays; lost packets are recovered, but there is no fallback before the picture stands.
    Multi,
    /// As ours, but the order comes from one place: packets bring no chains, and players ask for headers.
    Central,
    /// As ours with the paper's hash, nobody to ask for headers, and its policy: what is late is asked for at once, and with a
    /// low buffer everything comes from the dedicated node while relays go on.
    Paper,
    /// What is in production.
    Ours,
}

impl Arm {
    /// All, in the order of the table.
    pub const ALL: [Self; 6] = [
        Self::Cdn,
        Self::Single,
        Self::Multi,
        Self::Central,
        Self::Paper,
        Self::Ours,
    ];

    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cdn => "CDN only",
            Self::Single => "single source",
            Self::Multi => "multi source",
            Self::Central => "central order",
            Self::Paper => "paper's form",
            Self::Ours => "ours",
        }
    }

    /// How the stream is split.
    pub(super) fn split(self) -> Split {
        let (hash, substreams) = match self {
            Self::Single => (HashVersion::Mixed, 1),
            Self::Paper => (HashVersion::Paper, 4),
            Self::Cdn | Self::Multi | Self::Central | Self::Ours => (HashVersion::Mixed, 4),
        };
        Split::new(hash, substreams).unwrap_or_default()
    }

    /// How players behave.
    pub(super) fn config(self, model: &Model) -> player::Config {
        let ours = player::Config {
            relay_after: RELAY_AFTER,
            catch_up: player::CatchUp {
                fastest: model.fastest.max(1.0),
                per_stall: Duration::from_secs_f64(model.stall_adds_ms / 1_000.0),
            },
            ..player::Config::default()
        };
        match self {
            Self::Cdn | Self::Single => player::Config {
                relay_after: Duration::from_secs(1 << 20),
                ..ours
            },
            Self::Multi => player::Config {
                fallback: Duration::ZERO,
                ..ours
            },
            Self::Paper => player::Config {
                literal: true,
                ..ours
            },
            Self::Central | Self::Ours => ours,
        }
    }

    /// Of how many drawn relays the best is taken.
    pub(super) fn top(self) -> u32 {
        match self {
            Self::Single => 100,
            Self::Cdn | Self::Multi | Self::Central | Self::Paper | Self::Ours => 1,
        }
    }

    pub(super) fn uses_relays(self) -> bool {
        self != Self::Cdn
    }
}
