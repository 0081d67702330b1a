//! A simulator of delivery: the machines of production on virtual time, over a network as the papers describe it.
//!
//! [`trial`] plays one [`Arm`] with one seed: an origin behind a dedicated node under load, relays with uplinks, lives,
//! outages, congestion and loss, a scheduler that knows them by their heartbeats, and viewers. All of [`crate::relay`],
//! [`crate::player`] with its chain, recovery and fallback, and [`crate::scheduler`] is what runs in production. Only the
//! shells are replaced. [`model`] has every number that is assumed; [`gates`] says whether the network behaves as the paper
//! says its network does.
//!
//! Invariants: the same seed gives the same figures, bit by bit; arms of one seed meet the same network.

mod arm;
mod cdn;
mod dice;
mod figures;
pub mod gates;
pub mod model;
mod path;
mod stream;
mod viewer;
mod world;

pub use arm::Arm;
pub use figures::Figures;
pub use model::Model;

/// Relays that players ask the scheduler for, for each substream.
const MAX_COUNT: usize = 3;

/// How large a trial is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Viewers of the stream.
    pub viewers: usize,
    /// Relays.
    pub relays: usize,
    /// How long viewers stay, in seconds: [`Model::watched_s`] where figures are to mean something.
    pub seconds: f64,
}

/// Plays one arm with one seed.
#[must_use]
pub fn trial(model: &Model, arm: Arm, scale: Scale, seed: u64) -> Figures {
    world::World::new(model, arm, scale, seed).run()
}

#[cfg(test)]
mod tests;
