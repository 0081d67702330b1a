//! A channel: one live show, from its first host to its end.
//!
//! [`state`] decides (sans-IO); [`task`] owns the program, the publisher and the timers of one channel and carries
//! the decisions out; [`manager`] knows all channels of this node; [`view`] translates for the API.

pub mod manager;
pub mod state;
pub mod task;
pub mod view;
