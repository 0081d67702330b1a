//! A channel: one live show, from its first host to its end.
//!
//! [`state`] decides who is in and [`switch`] what the program shows (both sans-IO); [`task`] owns the program, the
//! publisher and the timers of one channel and carries the decisions out; [`manager`] knows all channels of this node;
//! [`view`] translates for the API; `tile` says how large a guest is shown.

pub mod gop;
pub mod manager;
pub mod state;
pub mod switch;
pub mod task;
mod tile;
pub mod view;
