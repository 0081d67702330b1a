//! A live stream in substreams: relays that each carry some, and players that put them together again.
//!
//! A [`scheduler`] knows relays by their heartbeats and recommends some to each player.
//!
//! The origin splits a stream's frames into substreams ([`media::substream`]). A [`relay`] asks the origin for those that
//! its players want and pushes their packets by UDP. A [`player`] takes each substream from another relay, orders the
//! frames by their [`chain`], has lost packets sent again from wherever it pays ([`recovery`]), and falls back to the
//! origin before the picture stops. docs/rlive.md has the wire format, the state machines and where every number is from.
//!
//! Invariants: decisions are sans-IO machines, so that they run the same in production and on virtual time; what leaves
//! the player is the origin's stream, tag by tag in its order, whatever relays do or fail to do.

pub mod chain;
pub mod nat;
pub mod player;
pub mod recovery;
pub mod relay;
pub mod scheduler;
pub mod sim;
pub mod wire;

mod assembly;
mod clock;
mod http;
