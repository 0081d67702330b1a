//! The anchor point of a live channel, and the command line around it.
//!
//! [`run`] composes a node out of its parts; [`channel`] holds what happens in a show; [`sfu`] takes broadcasters in.
//! See ARCHITECTURE.md for the map.

pub mod backend;
pub mod channel;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod events;
pub mod http;
pub mod logs;
pub mod mixer;
pub mod registry;
pub mod rlive;
pub mod rtmp;
pub mod run;
pub mod selftest;
pub mod sfu;
pub mod splice_lab;
pub mod track_metrics;
pub mod turn;
